"""Who votes changes while the committee works: a voter is replaced, or they become more or fewer, by its own decision.

Fresh seats, each with a key that was made in it, observe until they know what is decided. Then the committee decides on
its members, with the quorum that it has. Then whoever is no member any more is ended.

``seats.json`` is written ahead of every step and names all who may be needed after it: a swarm that comes up after a
crash starts too many, who observe, and never too few. The next change ends them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from actors.consensus.agent import Terms
from cluster import head, runtime, session
from cluster.errors import BootFailed, InvalidRequest, SwarmError, SwarmUnavailable
from consensus import seats
from consensus.committee import CommitteeClient
from consensus.decisions import Decision
from consensus.errors import NoQuorum, Refused, StaleEpoch, Undecided
from consensus.motions import MEMBERSHIP, Motion, membership
from consensus.seats import Seats, replica_name, seat_of
from consensus.simplex.types import SIZES, Committee
from hive.messages.calculation import Role
from swarm import boot

JOINING_S: Final = 60.0  # for a fresh seat to live, and to learn what was decided before it came
TAKING_PART_S: Final = 10.0  # for it to vote once it may; who leaves is kept until then
CALL_S: Final = 10.0

Chosen = tuple[list[bytes], int]
"""Keys of those who leave, and how many come."""


def replace(
    committee: CommitteeClient, home: Path, name: str, *, deadline_s: float | None = None
) -> tuple[Decision, Seats]:
    """Put a fresh seat in the place of a voter, alive or not.

    Returns
    -------
    tuple of Decision and Seats
        What the committee decided, and the seats it has now.

    Raises
    ------
    InvalidRequest
        No voter of the present epoch has this name; nothing was started.
    BootFailed, NoQuorum, Refused
        The fresh seat did not come up, too few answer, or the committee does not want it: it is gone again.
    Undecided
        No decision was seen by the deadline. One may still come, so the fresh seat stands by.
    """

    def chosen(known: Seats, present: Committee, said: Mapping[int, Any]) -> Chosen:
        key = known.keys.get(_number(name))
        if key not in present.keys:
            raise InvalidRequest(f"{name} is no voter", "See `swarm consensus status`")
        return [key], 1

    return _change(committee, home, chosen, deadline_s)


def resize(
    committee: CommitteeClient, home: Path, size: int, *, deadline_s: float | None = None
) -> tuple[Decision, Seats]:
    """Have 4, 7 or 10 voters; raises as :func:`replace`.

    Those who leave are the quarantined first, then those who do not answer, then the newest.
    """

    def chosen(known: Seats, present: Committee, said: Mapping[int, Any]) -> Chosen:
        more = size - len(present.keys)
        if size not in SIZES or not more:
            raise InvalidRequest(f"from {len(present.keys)} voters to {size}", "Give another one of 4, 7 and 10")
        numbers = {key: number for number, key in known.keys.items()}

        def dispensable(key: bytes) -> tuple[bool, bool, int]:
            number = numbers.get(key, known.fresh)
            return present.keys.index(key) in present.quarantined, number not in said, number

        return sorted(present.keys, key=dispensable, reverse=True)[: max(0, -more)], max(0, more)

    return _change(committee, home, chosen, deadline_s)


def _change(
    committee: CommitteeClient,
    home: Path,
    chosen: Callable[[Seats, Committee, Mapping[int, Any]], Chosen],
    deadline_s: float | None,
) -> tuple[Decision, Seats]:
    with session.exclusive(home):
        said = _said(committee)
        present = committee.present
        before = _known(committee, home, said)
        leaving, joining = chosen(before, present, said)
        numbers = range(before.fresh, before.fresh + joining)
        _keep(committee, home, before := before.reserved(joining))
        stay = {number: one for number, one in said.items() if before.keys.get(number) not in leaving}
        try:
            keys, addresses = _seated(committee, home, numbers, stay)
            _keep(committee, home, during := before.taken(keys, addresses))
            _caught_up(committee, numbers, stay, present.faults)
            motion = _motion(committee, present, leaving, list(keys.values()), stay, deadline_s)
            epoch, given = committee.vote(motion)
            if epoch != present.epoch:
                raise StaleEpoch("the committee has changed meanwhile", "Look at it, and try again")
        except BaseException:
            _end(committee, numbers)
            _keep(committee, home, before)
            raise
        try:
            decision = committee.finalize(motion, epoch, given)
        except Refused:  # f+1 say so: it will not be decided
            _end(committee, numbers)
            _keep(committee, home, before)
            raise
        except SwarmError as error:
            names = ", ".join(map(replica_name, numbers)) or "those who would leave"
            raise Undecided(
                f"the change may still be decided ({error.problem}); {names} stand by",
                "See `swarm consensus status`; the next change ends whoever is no voter",
            ) from error
        _taking_part(committee, numbers, decision.epoch + 1)
        after = during.left(committee.present)
        observing = {number for number, one in _said(committee).items() if one["voter"] is None}
        _end(committee, sorted((observing | set(during.keys)) - set(after.keys)))
        _keep(committee, home, after)
        return decision, after


def _number(name: str) -> int:
    number = seat_of(name)
    if number is None:
        raise InvalidRequest(f"{name} is no seat's name", "Give one such as consensus-2")
    return number


def _said(committee: CommitteeClient) -> dict[int, dict[str, Any]]:
    """What every replica that takes part says of itself, by its seat; who does not say that soundly is left out."""

    def sound(one: Mapping[str, Any]) -> bool:
        numbers = all(type(one.get(name)) is int for name in ("height", "epoch"))
        return numbers and isinstance(one.get("node"), str)

    return {_number(one["name"]): one for one in committee.status() if sound(one)}


def _known(committee: CommitteeClient, home: Path, said: Mapping[int, Any]) -> Seats:
    """The seats on file, and voters who live and are missing there."""
    found = seats.read(boot.committee_path(home).parent, committee.first)
    claimed = {seat: committee.present.keys[one["voter"]] for seat, one in said.items() if one["voter"] is not None}
    known = set(found.keys.values())  # a key has one seat, whoever else says that it is his
    return found.taken({seat: key for seat, key in claimed.items() if seat not in found.keys and key not in known}, {})


def _seated(
    committee: CommitteeClient, home: Path, numbers: Sequence[int], said: Mapping[int, Any]
) -> tuple[dict[int, bytes], dict[int, str]]:
    """Start fresh seats on the nodes with fewest voters; their public keys, and the addresses of their machines."""
    if not numbers:
        return {}, {}
    terms, text = _terms(committee, said), boot.committee_path(home).read_text()
    alive = runtime.nodes()
    voters = Counter(dict.fromkeys(alive, 0))
    voters.update(one["node"] for one in said.values() if one["node"] in alive)
    fresh = []
    for number in numbers:
        name = replica_name(number)
        node = min(alive, key=voters.__getitem__)
        voters[node] += 1
        own = dataclasses.replace(
            terms,
            identity=dataclasses.replace(terms.identity, agent_id=name),
            folder=str(boot.committee_path(home).parent / name),
        )
        place = runtime.place_on(node) if len(alive) > 1 else None
        fresh.append(boot.create_voter(own, place, founded=False))
    try:
        answers = runtime.wait_for([seat.founding.remote() for seat in fresh], JOINING_S)
        runtime.wait_for([seat.found.remote(text, True) for seat in fresh], CALL_S)
    except (SwarmError, runtime.ActorUnreachable) as error:
        raise BootFailed(f"a fresh seat did not come up: {error}", "Mend that, and try again") from error
    found = dict(zip(numbers, answers, strict=True))
    return {number: key for number, (key, _, _) in found.items()}, {number: at for number, (_, at, _) in found.items()}


def _terms(committee: CommitteeClient, said: Mapping[int, Any]) -> Terms:
    """What the voters were made with, as more of them say than may be faulty."""
    told: list[Terms] = []
    for number in said:
        with contextlib.suppress(Exception):  # of a faulty voter anything may come
            voter = runtime.find_actor(replica_name(number), committee.namespace)
            terms: Terms = runtime.wait_for(voter.terms.remote(), CALL_S)
            told.append(
                dataclasses.replace(terms, identity=dataclasses.replace(terms.identity, agent_id=""), folder="")
            )
    agreed = [terms for terms in told if told.count(terms) > committee.present.faults]
    if not agreed:
        raise NoQuorum("too few voters say alike what they were made with", "Run `swarm health`")
    return agreed[0]


def _caught_up(committee: CommitteeClient, numbers: Sequence[int], said: Mapping[int, Any], faults: int) -> None:
    """Wait until fresh seats know what was decided when they were started."""
    heights = sorted((one["height"] for one in said.values()), reverse=True)
    wanted = heights[faults] if len(heights) > faults else 0  # some honest replica is as far

    def there() -> bool:
        now = _said(committee)
        return all(number in now and now[number]["height"] >= wanted for number in numbers)

    if numbers and not head.until(there, JOINING_S):
        raise BootFailed(f"a fresh seat did not learn what was decided within {JOINING_S:g} s", "Run `swarm health`")


def _motion(
    committee: CommitteeClient,
    present: Committee,
    leaving: Sequence[bytes],
    coming: Sequence[bytes],
    said: Mapping[int, Any],
    deadline_s: float | None,
) -> Motion:
    """The motion that puts those who come into the places of those who leave."""
    instead = dict(zip(leaving, coming, strict=False))
    kept = [instead.get(key, key) for key in present.keys if key in instead or key not in leaving]
    keys = [*kept, *coming[len(instead) :]]
    quarantined = [keys.index(present.keys[voter]) for voter in present.quarantined if present.keys[voter] in keys]
    votes = len(coming) + sum(present.counts(-1 if one["voter"] is None else one["voter"]) for one in said.values())
    quorum = 2 * ((len(keys) - 1) // 3) + 1
    if votes < quorum:
        raise NoQuorum(f"of the {len(keys)} voters {votes} would vote, and {quorum} are needed", "Run `swarm health`")
    return committee.motion(MEMBERSHIP, membership(keys, quarantined), deadline_s=deadline_s)


def _taking_part(committee: CommitteeClient, numbers: Sequence[int], epoch: int) -> None:
    """Wait until the new epoch is proved and fresh seats are in it; not for ever, since it is decided anyway."""

    def there() -> bool:
        now = _said(committee)
        return all(number in now and now[number]["epoch"] >= epoch for number in numbers)

    head.until(lambda: committee.refresh().epoch >= epoch and there(), TAKING_PART_S)


def _end(committee: CommitteeClient, numbers: Sequence[int]) -> None:
    """End seats for good, and let those who stay and the hub forget them."""
    names = [replica_name(number) for number in numbers]
    boot.take_down(tuple(names), committee.namespace)
    for name in runtime.named_actors(committee.namespace):
        if seat_of(name) is not None:
            with contextlib.suppress(SwarmUnavailable):
                part = runtime.teller(runtime.find_actor(name, committee.namespace).part)
                for number in numbers:
                    part(number)
    with contextlib.suppress(SwarmError, runtime.ActorUnreachable):
        hub = runtime.find_actor(Role.HUB.value, committee.namespace)
        runtime.wait_for([hub.deregister.remote(name) for name in names], CALL_S)


def _keep(committee: CommitteeClient, home: Path, known: Seats) -> None:
    """Have `swarm up` start the voters of these seats, and `swarm down` end them."""
    seats.write(boot.committee_path(home).parent, committee.first, known)
    record = session.read(home)
    if record is not None:
        others = tuple(name for name in record.actors if seat_of(name) is None)
        session.write(home, dataclasses.replace(record, actors=(*others, *known.names)))
