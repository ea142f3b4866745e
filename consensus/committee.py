"""The committee as its clients see it: propose, vote, finalize, read the log. Works in any process that joined Ray.

Nothing a replica says is believed: a decision is verified here against the first committee's public keys, so one honest
answer is enough, and a lie is only a delay. What cannot prove itself, such as a refusal, counts when f+1 replicas say
the same. The committee changes while it works: who votes now is proved by the ends of the epochs before, and voters are
found by their names.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from cluster import runtime
from cluster.errors import InvalidInput, Overloaded, SwarmError, SwarmUnavailable
from consensus import ballots, decisions
from consensus.ballots import Ballot, Estimate, Estimated, Motion, Moved
from consensus.decisions import Decision
from consensus.errors import BadCertificate, NoQuorum, Refused, StaleEpoch, Undecided
from consensus.seats import replica_name, seat_of
from consensus.simplex import proofs
from consensus.simplex.proofs import Proof
from consensus.simplex.types import Committee, Malformed, packed

CALL_S = 5.0
RETRY_S = 0.05
LOG_PAGE = 256
MOST_CERTIFIED = 64


class CommitteeClient:
    """A committee.

    Parameters
    ----------
    first : Committee
        Its first epoch, from a source that is trusted: the file that founding it wrote.
    deadline_s : float
        How long a motion may take where nothing else is said.
    """

    def __init__(self, first: Committee, namespace: str, *, deadline_s: float = 5.0, proposer: str = "") -> None:
        self.first, self.namespace, self._deadline_s, self._proposer = first, namespace, deadline_s, proposer
        self._handles: dict[int, Any] = {}
        self._epochs = [first]
        self._certified: dict[bytes, decisions.Certified] = {}

    @property
    def present(self) -> Committee:
        """Of the last epoch that was proved to this client."""
        return self._epochs[-1]

    def refresh(self) -> Committee:
        """The committee of the last epoch that any replica can prove; its voters are looked for anew."""
        self._handles = {}
        known = self._epochs
        for ends in self._all("ends", self.present.epoch, count=self.present.quorum).values():
            with contextlib.suppress(BadCertificate, TypeError):  # a replica that lies; others do not
                self._advance(decisions.following(known, ends))
        return self.present

    def propose(
        self, kind: str, payload: bytes = b"", *, evidence: Sequence[str] = (), deadline_s: float | None = None
    ) -> Decision:
        """Move something and have it decided, once.

        Returns
        -------
        Decision
            Approved or rejected, with its certificate.

        Raises
        ------
        Refused
            It cannot be decided, and why.
        Undecided
            No decision by the deadline; one may still come, and loosens nothing then.
        NoQuorum
            Too few replicas answer.
        """
        return self.propose_all([(kind, payload)], evidence=evidence, deadline_s=deadline_s)[0]

    def propose_all(
        self, moved: Sequence[tuple[str, bytes]], *, evidence: Sequence[str] = (), deadline_s: float | None = None
    ) -> list[Decision]:
        """As :meth:`propose`, for many (kind, payload) at once: they share calls, signatures of slots and syncs."""
        motions = [self.motion(kind, payload, evidence=evidence, deadline_s=deadline_s) for kind, payload in moved]
        return self._carried(motions)

    def motion(
        self, kind: str, payload: bytes = b"", *, evidence: Sequence[str] = (), deadline_s: float | None = None
    ) -> Motion:
        """A motion that nobody has voted on.

        Raises
        ------
        Refused
            Its kind is unknown, it is too large, or its deadline has passed.
        """
        patience_s = self._deadline_s if deadline_s is None else deadline_s
        now_ns = time.time_ns()
        motion = ballots.new_motion(
            kind,
            payload,
            expires_utc_ns=now_ns + int(patience_s * 1e9),
            evidence=evidence,
            proposer=self._proposer,
        )
        ballots.in_time(motion, now_ns)
        return motion

    def vote(self, motion: Motion) -> tuple[int, tuple[Ballot, ...]]:
        """The epoch, and the electors' ballots on a motion: as many as may decide it, as quickly as they come.

        Raises
        ------
        NoQuorum
            Too few answer.
        """
        epoch, given = self._votes([motion])
        return epoch, given[0]

    def finalize(self, motion: Motion, epoch: int, given: Sequence[Ballot]) -> Decision:
        """Have a motion decided by these ballots; raises as :meth:`propose`."""
        body = ballots.encode(Moved(epoch, motion, tuple(given)))
        return self._finalised([body], [motion.id], motion.expires_utc_ns)[0]

    def agree(self, motion: Motion, epoch: int, estimates: Sequence[Estimate]) -> Decision:
        """Have the median and trimmed mean of signed, independent estimates agreed on; raises as :meth:`propose`."""
        body = ballots.encode(Estimated(epoch, motion, tuple(estimates)))
        return self._finalised([body], [motion.id], motion.expires_utc_ns)[0]

    def decision(self, identity: bytes) -> Decision | None:
        """The decision about a motion, where any replica can prove one."""
        for answers in self._all("decided", [identity]).values():
            for answer in answers:
                if answer.evidence:
                    try:
                        return self._proved(answer.evidence, identity)
                    except BadCertificate:
                        continue
        return None

    def log(self, above: int = 0, most: int = LOG_PAGE) -> list[Decision]:
        """Decisions above a height, lowest first, each verified; from the replica that can prove most."""
        best: list[Decision] = []
        for entries in self._all("log", above, most).values():
            try:
                found = [self._proved(evidence, identity) for identity, _, evidence in entries]
            except BadCertificate:
                continue  # a replica that lies; there are others
            best = max(best, found, key=len)
        return best

    def evidence(self) -> list[Proof]:
        """Proofs of misconduct that replicas hold, each once, as they say."""
        found = {data for held in self._all("evidence").values() for data in held}
        return [proofs.decode(data) for data in sorted(found)]

    def status(self) -> list[dict[str, Any]]:
        """What each seat says of itself, with its voter's number in the present epoch, or None for one that observes.

        Those that do not answer say nothing but their name, where it is known.
        """
        voters = {key.hex(): voter for voter, key in enumerate(self.refresh().keys)}
        publics = {seat: key.hex() for seat, key in enumerate(self.first.keys)}
        said = {seat: one for seat, one in self._all("status").items() if isinstance(one, dict)}
        publics = {seat: str(one.get("public", "")) for seat, one in said.items()} | publics
        founding = {seat for seat in range(len(self.first.keys)) if publics[seat] in voters}
        return [
            said.get(seat, {}) | {"name": replica_name(seat), "voter": voters.get(publics.get(seat, ""))}
            for seat in sorted(founding | set(self._handles))
        ]

    def _carried(self, motions: list[Motion]) -> list[Decision]:
        expires_ns = min(motion.expires_utc_ns for motion in motions)
        while True:
            epoch, given = self._votes(motions)
            bodies = [ballots.encode(Moved(epoch, motion, own)) for motion, own in zip(motions, given, strict=True)]
            try:
                return self._finalised(bodies, [motion.id for motion in motions], expires_ns)
            except StaleEpoch:  # the committee changed in between; the same motions, with its new members' ballots
                if time.time_ns() >= expires_ns:
                    raise
                self.refresh()

    def _votes(self, motions: list[Motion]) -> tuple[int, list[tuple[Ballot, ...]]]:
        """The epoch, and ballots of as many as the motions need; of more, while those that came decide nothing."""
        give_up_ns = min(motion.expires_utc_ns for motion in motions)
        while True:
            try:
                found = self._polled(motions, give_up_ns)
            except NoQuorum:
                self._handles = {}  # they may live, and live elsewhere, when they are asked again
                raise
            if found is not None:
                return found
            time.sleep(RETRY_S)

    def _polled(self, motions: list[Motion], give_up_ns: int) -> tuple[int, list[tuple[Ballot, ...]]] | None:
        """Ballots of one round; None where the committee changes, and the next round will know more."""
        pending = self._asked("ballots", [packed(ballots.motion_fields(motion)) for motion in motions])
        by_epoch: dict[int, list[list[Ballot | SwarmError]]] = {}
        total, answered = len(pending), 0
        columns: list[list[Ballot | SwarmError]] = []
        epoch, least = self.present.epoch, self.present.quorum
        while pending:
            done, _ = runtime.first_of(list(pending), 1, (give_up_ns - time.time_ns()) / 1e9)
            if not done:
                break
            for call in done:
                pending.pop(call)
                match _value(call):
                    case (int() as theirs, list() as said) if theirs >= 0:
                        answered += 1
                        if len(said) == len(motions) and theirs >= self.present.epoch:  # who is no voter gives none
                            by_epoch.setdefault(theirs, []).append(said)
            epoch, columns = max(by_epoch.items(), key=lambda item: len(item[1]), default=(epoch, []))
            if epoch > self.present.epoch:
                if len(columns) > self.present.faults and self.refresh().epoch >= epoch:
                    return None  # there are others to be asked
                continue
            committee = self._epochs[epoch]
            least = max(ballots.needed(motion.direction, committee) for motion in motions)
            if len(columns) >= least:
                given = [_ballots_of(column) for column in zip(*columns, strict=True)]
                settled = all(_settled(motion, own, committee) for motion, own in zip(motions, given, strict=True))
                if settled or len(columns) == total:
                    return epoch, given
        if len(columns) >= least and epoch <= self.present.epoch:
            return epoch, [_ballots_of(column) for column in zip(*columns, strict=True)]
        if answered >= least and time.time_ns() < give_up_ns:
            self.refresh()
            return None  # they live, and are not all in the same epoch yet
        raise NoQuorum(
            f"{len(columns)} of {total} replicas gave a ballot, and {least} are needed", "Run `swarm health`"
        )

    def _finalised(self, bodies: list[bytes], identities: list[bytes], expires_utc_ns: int) -> list[Decision]:
        found: dict[int, Decision] = {}
        refusals: dict[tuple[int, str], list[SwarmError]] = {}
        answered = 0
        again = False
        while (left_s := (expires_utc_ns - time.time_ns()) / 1e9) > 0:
            open_ = [place for place in range(len(bodies)) if place not in found]
            pending = self._asked("decide", [bodies[place] for place in open_], left_s, again)
            refusals.clear()
            again = True
            while pending and len(found) < len(bodies):
                done, _ = runtime.first_of(list(pending), 1, (expires_utc_ns - time.time_ns()) / 1e9)
                if not done:
                    break
                for call in done:
                    pending.pop(call)
                    answers = _value(call) or []
                    answered += bool(answers)
                    for place, answer in zip(open_, answers, strict=False):
                        self._take(answer, place, identities[place], found, refusals)
                for same in refusals.values():
                    if len(same) > self.present.faults:
                        raise same[0]
            if len(found) == len(bodies):
                return [found[place] for place in range(len(bodies))]
            time.sleep(RETRY_S)
        if not answered:
            raise NoQuorum("no replica answered in time", "Run `swarm consensus status`")
        raise Undecided(
            f"{len(bodies) - len(found)} of {len(bodies)} motions were not decided by the deadline",
            "Look for them with `swarm consensus log`; what loosens is void now",
        )

    def _take(
        self,
        answer: Any,
        place: int,
        identity: bytes,
        found: dict[int, Decision],
        refusals: dict[tuple[int, str], list[SwarmError]],
    ) -> None:
        if answer.evidence and place not in found:
            try:
                found[place] = self._proved(answer.evidence, identity)
            except BadCertificate:
                return  # a replica that lies; others will not
        elif isinstance(answer.refusal, (InvalidInput, Overloaded)):
            refusals.setdefault((place, type(answer.refusal).__name__), []).append(answer.refusal)

    def _proved(self, evidence: bytes, identity: bytes) -> Decision:
        """What evidence proves of a motion; the certificate of a block with many motions is verified once."""
        known = self._certified.get(evidence)
        if known is None:
            known = decisions.certified(self.first, evidence)
            self._advance(known.known)
            if len(self._certified) >= MOST_CERTIFIED:
                self._certified.clear()
            self._certified[evidence] = known
        return known.about(identity)

    def _all(self, method: str, *arguments: Any, count: int | None = None) -> dict[int, Any]:
        """Answers of all replicas that give one in time, or of the first ``count``, by number."""
        pending = self._asked(method, *arguments)
        numbers = dict(pending)
        if pending:
            runtime.first_of(list(pending), len(pending) if count is None else count, CALL_S)
        answers = {number: _value(call) for call, number in numbers.items()}
        return {number: answer for number, answer in answers.items() if answer is not None}

    def _asked(self, method: str, *arguments: Any) -> dict[Any, int]:
        if len(self._handles) < len(self.present.keys):
            self._find()
        calls: dict[Any, int] = {}
        for number, handle in list(self._handles.items()):
            try:
                calls[getattr(handle, method).remote(*arguments)] = number
            except (runtime.QueueFull, runtime.ActorUnreachable):
                continue
        if not calls:
            raise NoQuorum("no replica of the committee can be reached", "Run `swarm up` with consensus.voters set")
        return calls

    def _find(self) -> None:
        """Find who lives and is not known yet."""
        for name in runtime.named_actors(self.namespace):
            seat = seat_of(name)
            if seat is not None and seat not in self._handles:
                with contextlib.suppress(SwarmUnavailable):
                    self._handles[seat] = runtime.find_actor(name, self.namespace)

    def _advance(self, known: Sequence[Committee]) -> None:
        if len(known) > len(self._epochs):
            self._epochs, self._handles = list(known), {}


def _ballots_of(column: Sequence[Ballot | SwarmError]) -> tuple[Ballot, ...]:
    """Ballots of one motion in order; where replicas refuse to vote, their reason."""
    given = {one.voter: one for one in column if isinstance(one, Ballot)}
    refusals = [one for one in column if isinstance(one, (Refused, Malformed))]
    if not given and refusals:
        raise refusals[0]
    return tuple(given[voter] for voter in sorted(given))


def _settled(motion: Motion, given: Sequence[Ballot], committee: Committee) -> bool:
    approvals = sum(one.choice is ballots.Choice.APPROVE for one in given)
    rejections = sum(one.choice is ballots.Choice.REJECT for one in given)
    return approvals >= ballots.needed(motion.direction, committee) or rejections > committee.faults


def _value(call: Any) -> Any:
    """What a call brought; None where the replica died, refused as a whole or did not answer."""
    try:
        return runtime.wait_for(call, 0.0)
    except Exception:  # a faulty replica may raise anything; the others' answers count
        return None
