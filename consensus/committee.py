"""The committee as its clients see it: propose, vote, finalize, read the log. Works in any process that joined Ray.

Nothing a replica says is believed: a decision is verified here against the first committee's public keys, so one honest
answer is enough, and a lie is only a delay. What cannot prove itself, such as a refusal, counts when f+1 replicas say
the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from cluster import runtime
from cluster.errors import InvalidInput, Overloaded, SwarmError, SwarmUnavailable
from consensus import ballots, decisions
from consensus.ballots import Ballot, Direction, Estimate, Estimated, Motion, Moved
from consensus.decisions import Decision
from consensus.errors import BadBallot, BadCertificate, NoQuorum, Refused, StaleEpoch, Undecided
from consensus.simplex import proofs
from consensus.simplex.crypto import Checker
from consensus.simplex.proofs import Proof
from consensus.simplex.types import Committee, Malformed, packed

CALL_S = 5.0
HEDGE_S = 0.02  # how long fewer replicas may take than there are before the others are asked too
RETRY_S = 0.05
LOG_PAGE = 256
MOST_CERTIFIED = 64
RECENT = 8  # blocks looked into for the committees of all epochs


def replica_name(number: int) -> str:
    """Name in Ray of a voter, by its number in the first committee."""
    return f"consensus-{number + 1}"


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
        self.first, self._namespace, self._deadline_s, self._proposer = first, namespace, deadline_s, proposer
        self._handles: dict[int, Any] = {}
        self._certified: dict[bytes, decisions.Certified] = {}
        self._quick = list(range(len(first.keys)))
        """Replicas, those that answered last first."""
        self._leader = 0
        """Who led when ballots were given: the first to be asked for a decision."""
        self._known: Sequence[Committee] = (first,)
        """Of every epoch that was proved to this client, by epoch."""
        self._wary = False
        """Whether somebody's ballot was none: from then on each is verified here before it is shown."""

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
        """Proofs of misconduct that replicas hold, each once, and checked: what proves nothing is left out."""
        checkers = {committee.epoch: Checker(committee) for committee in self._committees()}
        found: list[Proof] = []
        held = [data for said in self._all("evidence").values() if isinstance(said, list) for data in said]
        for data in sorted({data for data in held if isinstance(data, bytes)}):
            try:
                proof = proofs.decode(data)
            except Malformed:
                continue
            if proof.epoch in checkers and proof.holds(checkers[proof.epoch]):
                found.append(proof)
        return found

    def status(self) -> list[dict[str, Any]]:
        """What each replica says of itself; those that do not answer say nothing but their name."""
        said = self._all("status")
        return [said.get(number, {"name": replica_name(number)}) for number in range(len(self.first.keys))]

    def _committees(self) -> Sequence[Committee]:
        """Of every epoch until now, as replicas can prove: what proves a decision proves the epochs before it."""
        claimed = [said.get("height", 0) for said in self.status()]
        heights = sorted((height for height in claimed if isinstance(height, int)), reverse=True)
        honest = max([0, *heights[self.first.faults : self.first.faults + 1]])  # at least one that is honest is so high
        known: Sequence[Committee] = self._known
        for entries in self._all("log", max(0, honest - RECENT), LOG_PAGE).values():
            for evidence in {evidence for _, _, evidence in entries}:
                with suppress(BadCertificate):
                    known = max(known, decisions.certified(self.first, evidence).known, key=len)
        self._known = known
        return known

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
            except BadBallot:  # one that lies must not keep the others from being heard
                if self._wary or time.time_ns() >= expires_ns:
                    raise
                self._wary = True

    def _votes(self, motions: list[Motion]) -> tuple[int, list[tuple[Ballot, ...]]]:
        """Ballots of as many as the motions need; of more, while those that came decide nothing."""
        faults = self.first.faults
        least = max(ballots.needed(motion.direction, self.first) for motion in motions)
        packed_motions = [packed(ballots.motion_fields(motion)) for motion in motions]
        give_up_ns = min(motion.expires_utc_ns for motion in motions)
        by_epoch: dict[int, list[list[Ballot | SwarmError]]] = {}
        answered = 0
        for number, (epoch, leader, said) in self._hedged("ballots", packed_motions, asking=least, until_ns=give_up_ns):
            answered += 1
            self._quick.remove(number)
            self._quick.insert(0, number)
            self._leader = leader
            columns = by_epoch.setdefault(epoch, [])
            columns.append(said)
            if len(columns) >= least:
                given = self._given(motions, epoch, columns)
                if all(_settled(motion, own, faults) for motion, own in zip(motions, given, strict=True)):
                    return epoch, given
        epoch, columns = max(by_epoch.items(), key=lambda item: len(item[1]), default=(0, []))
        if len(columns) < least:
            raise NoQuorum(
                f"{answered} of {len(self.first.keys)} replicas gave a ballot, and {least} are needed",
                "Run `swarm health`",
            )
        return epoch, self._given(motions, epoch, columns)

    def _given(
        self, motions: list[Motion], epoch: int, columns: Sequence[list[Ballot | SwarmError]]
    ) -> list[tuple[Ballot, ...]]:
        """Each motion's ballots, of replicas that gave one."""
        said: list[Sequence[Ballot | SwarmError]] = list(zip(*columns, strict=True))
        known = self._known if not self._wary or epoch < len(self._known) else self._committees()
        if self._wary and epoch < len(known):
            said = [_genuine(motion, own, known[epoch]) for motion, own in zip(motions, said, strict=True)]
        return [_ballots_of(own) for own in said]

    def _finalised(self, bodies: list[bytes], identities: list[bytes], expires_utc_ns: int) -> list[Decision]:
        found: dict[int, Decision] = {}
        answered = 0
        while (left_s := (expires_utc_ns - time.time_ns()) / 1e9) > 0:
            open_ = [place for place in range(len(bodies)) if place not in found]
            asked = [bodies[place] for place in open_]
            refusals: dict[tuple[int, str], list[SwarmError]] = {}
            for _, answers in self._hedged(
                "decide", asked, left_s, asking=1, first=self._leader, until_ns=expires_utc_ns
            ):
                answered += bool(answers)
                for place, answer in zip(open_, answers, strict=False):
                    self._take(answer, place, identities[place], found, refusals)
                for same in refusals.values():
                    if len(same) > self.first.faults:
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

    def _hedged(
        self, method: str, *arguments: Any, asking: int, until_ns: int, first: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """(number, answer) of replicas as they come, until a moment of UTC.

        ``asking`` of them are asked at first, ``first`` and those that were quickest; the others too as soon as one
        fails, what came did not suffice, or some time has passed.
        """
        order = sorted(self._quick, key=lambda number: number != first)
        pending = self._asked(method, *arguments, numbers=order[:asking])
        rest = order[asking:]
        hedge_ns = time.time_ns() + int(HEDGE_S * 1e9)
        while pending or rest:
            if rest and (time.time_ns() >= hedge_ns or len(pending) == 0):
                pending |= self._asked(method, *arguments, numbers=rest)
                rest = []
            until = min(until_ns, hedge_ns) if rest else until_ns
            done, _ = runtime.first_of(list(pending), 1, (until - time.time_ns()) / 1e9)
            if not done and time.time_ns() >= until_ns:
                return
            for call in done:
                number = pending.pop(call)
                answer = _value(call)
                if answer is None:
                    hedge_ns = 0
                else:
                    yield number, answer

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
            if len(self._certified) >= MOST_CERTIFIED:
                self._certified.clear()
            self._certified[evidence] = known
        return known.about(identity)

    def _all(self, method: str, *arguments: Any) -> dict[int, Any]:
        """Answers of all replicas that give one in time, by number."""
        pending = self._asked(method, *arguments)
        numbers = dict(pending)
        if pending:
            runtime.first_of(list(pending), len(pending), CALL_S)
        answers = {number: _value(call) for call, number in numbers.items()}
        return {number: answer for number, answer in answers.items() if answer is not None}

    def _asked(self, method: str, *arguments: Any, numbers: Iterable[int] | None = None) -> dict[Any, int]:
        calls: dict[Any, int] = {}
        for number in range(len(self.first.keys)) if numbers is None else numbers:
            try:
                if number not in self._handles:
                    self._handles[number] = runtime.find_actor(replica_name(number), self._namespace)
                calls[getattr(self._handles[number], method).remote(*arguments)] = number
            except (SwarmUnavailable, runtime.QueueFull, runtime.ActorUnreachable):
                continue
        if not calls and numbers is None:
            raise NoQuorum("no replica of the committee can be reached", "Run `swarm up` with consensus.voters set")
        return calls


def _ballots_of(column: Sequence[Ballot | SwarmError]) -> tuple[Ballot, ...]:
    """Ballots of one motion in order; where replicas refuse to vote, their reason."""
    given = {one.voter: one for one in column if isinstance(one, Ballot)}
    refusals = [one for one in column if isinstance(one, (Refused, Malformed))]
    if not given and refusals:
        raise refusals[0]
    return tuple(given[voter] for voter in sorted(given))


def _genuine(motion: Motion, said: Sequence[Ballot | SwarmError], committee: Committee) -> list[Ballot | SwarmError]:
    """Without ballots that their voters have not signed for this motion."""
    return [one for one in said if not isinstance(one, Ballot) or ballots.genuine(one, committee, motion.id)]


def _settled(motion: Motion, given: Sequence[Ballot], faults: int) -> bool:
    approvals = sum(one.choice is ballots.Choice.APPROVE for one in given)
    rejections = sum(one.choice is ballots.Choice.REJECT for one in given)
    wanted = {Direction.REDUCE: 1, Direction.NEUTRAL: faults + 1, Direction.INCREASE: 2 * faults + 1}
    return approvals >= wanted[motion.direction] or rejections > faults


def _value(call: Any) -> Any:
    """What a call brought; None where the replica died, refused as a whole or did not answer."""
    try:
        return runtime.wait_for(call, 0.0)
    except Exception:  # a faulty replica may raise anything; the others' answers count
        return None
