"""By which rule the committee decides: what ballots carry or defeat, what numbers agree on, who is quarantined.

=========  =========================================================
direction  carried by
=========  =========================================================
reduce     one approval: whoever tightens needs nobody's leave
neutral    f+1 approvals, one of which is honest
increase   2f+1 approvals
=========  =========================================================

f+1 rejections defeat what one approval does not carry: 2f+1 can no longer approve. A request that is neither carried
nor defeated is not valid, nor is a change of members that is defeated: what a request changes must show in it alone.
A motion is decided once, whatever ballots are gathered for it later. One member, one ballot; weights play no part.

Everything here is a pure function of bytes and committees. Deadlines are for electors and clients, who have clocks: a
decision that is shown after its motion's deadline loosens nothing, whatever its certificate says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from consensus.ballots import Body, Choice, Estimated, Moved, Quarantine, decode, estimated, genuine, identity
from consensus.errors import BadBallot, BadEvidence, NotCarried, Refused, StaleEpoch
from consensus.motions import MEMBERSHIP, NUMBER, Direction, Motion, membership_of, question_of
from consensus.simplex import crypto, proofs
from consensus.simplex.crypto import Checker
from consensus.simplex.types import Change, Committee, Malformed, request_id

MOST_JUDGED: Final = 8192
"""Requests whose judgement is remembered."""
MOST_READ: Final = 1024
"""Requests that are remembered themselves."""
MOST_VERIFIED: Final = 4096
"""Signatures that are remembered as genuine, or not: one may stand on many ballots."""
QUARANTINE_MARK: Final = b"\x94\x03"
"""First bytes of a request for quarantine: four fields, the first of which is 3."""


class Outcome(StrEnum):
    """What was decided."""

    APPROVED = "approved"
    REJECTED = "rejected"
    AGREED = "agreed"
    """On a number."""
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Agreed:
    """A number that holds although f of its estimates may be anything."""

    median: float
    """Lies between two honest estimates."""
    trimmed_mean: float
    """Mean without the f smallest and the f largest, which lie between honest ones where they are not honest."""
    outliers: tuple[int, ...]
    """Voters whose estimate is further from the median than the question tolerates; they have signed it."""


class Rules:
    """The rules as replicas apply them: an application of :class:`consensus.simplex.core.Core`.

    Parameters
    ----------
    committees : callable
        The chain's committees, the present epoch's last. They follow from the chain alone, so all who are in an epoch
        judge alike.
    """

    def __init__(self, committees: Callable[[], Sequence[Committee]], check: crypto.Verify = crypto.verify) -> None:
        self._committees, self._check = committees, lru_cache(MOST_VERIFIED)(check)
        self._judged: dict[tuple[int, bytes], Refused | Malformed | None] = {}
        self._read: dict[bytes, tuple[Body, bytes]] = {}

    def valid(self, body: bytes) -> bool:
        """Whether a request may be decided in the present epoch."""
        return self.fault(body) is None

    def change(self, body: bytes) -> Change | None:
        """The change of the committee that a request asks for, if it does."""
        if MEMBERSHIP.encode() not in body and not body.startswith(QUARANTINE_MARK):
            return None  # nearly all are neither, and this is asked often
        try:
            asked, _ = self.read(body)
        except (Malformed, Refused):
            return None
        if isinstance(asked, Quarantine):
            return Change(asked.keys, asked.quarantined)
        if isinstance(asked, Moved) and asked.motion.kind == MEMBERSHIP:
            return membership_of(asked.motion.payload)
        return None

    def subject(self, body: bytes) -> bytes:
        """The motion's id, or the quarantine's: ballots may be gathered twice, and it is decided once."""
        try:
            return self.read(body)[1]
        except (Malformed, Refused):
            return request_id(body)

    def read(self, body: bytes) -> tuple[Body, bytes]:
        """A request and its :func:`identity`, remembered for as long as it is likely to be under way.

        Raises
        ------
        Malformed, Refused
            It is none.
        """
        if type(body) is not bytes:
            raise Malformed(f"a request that is {type(body).__name__}", "Send bytes")
        known_as = request_id(body)
        found = self._read.get(known_as)
        if found is None:
            asked = decode(body)
            if len(self._read) >= MOST_READ:
                self._read.clear()
            found = self._read[known_as] = asked, identity(asked)
        return found

    def fault(self, body: bytes) -> Refused | Malformed | None:
        """Why a request may not be decided, or None. Its signatures are verified once an epoch."""
        committees = self._committees()
        known_as = committees[-1].epoch, request_id(body)
        if known_as not in self._judged:
            if len(self._judged) >= MOST_JUDGED:
                self._judged.clear()
            self._judged[known_as] = self._judge(body, committees)
        return self._judged[known_as]

    def _judge(self, body: bytes, committees: Sequence[Committee]) -> Refused | Malformed | None:
        try:
            asked, _ = self.read(body)
            if isinstance(asked, Quarantine):
                _check_quarantine(asked, committees, self._check)
                return None
            if asked.epoch != committees[-1].epoch:
                raise StaleEpoch(
                    f"ballots of epoch {asked.epoch}, and it is epoch {committees[-1].epoch}", "Ask for new ones"
                )
            outcome(asked, committees[-1], self._check)
        except (Refused, Malformed) as error:
            error.__traceback__ = error.__cause__ = error.__context__ = None  # they would keep the request
            return error
        return None


def needed(direction: Direction, committee: Committee) -> int:
    """Approvals that carry a motion."""
    approvals = {
        Direction.REDUCE: 1,
        Direction.NEUTRAL: committee.faults + 1,
        Direction.INCREASE: committee.quorum,
    }
    return approvals[direction]


def judge(motion: Motion, now_utc_ns: int) -> tuple[Choice, str]:
    """How an elector that knows nothing but the motion votes."""
    if motion.expires_utc_ns <= now_utc_ns:
        return Choice.REJECT, "its deadline has passed"
    if motion.kind == NUMBER:
        return Choice.ABSTAIN, "numbers are agreed on by estimates"
    return Choice.APPROVE, "known kind, in time"


def no_estimate(question: str, until_utc_ns: int) -> float:
    """What a voter says that has no numbers of its own.

    Raises
    ------
    BadBallot
        Always.
    """
    raise BadBallot("this voter has no numbers of its own", "Ask a committee whose voters have")


def unfit(motion: Motion, committee: Committee) -> str:
    """Why a member should not approve a change of the members, whoever asks for it; empty where nothing is known."""
    if motion.kind != MEMBERSHIP:
        return ""
    change = membership_of(motion.payload)
    present, coming = set(committee.keys), set(change.keys)
    silenced = {committee.keys[voter] for voter in committee.quarantined}
    if not silenced & coming <= {change.keys[voter] for voter in change.quarantined}:
        return "it would let a voter that was proved faulty vote again"
    if present == coming:
        return "it would change nobody"
    if coming - present and len(present - coming) > committee.faults:
        return f"it would replace more than {committee.faults} at a time"
    return ""


def outcome(asked: Moved | Estimated, committee: Committee, check: crypto.Verify = crypto.verify) -> Outcome:
    """What a request of this epoch decides.

    Raises
    ------
    Refused
        It decides nothing: a ballot is none, or there are too few.
    """
    if isinstance(asked, Estimated):
        _check_estimates(asked, committee, check)
        return Outcome.AGREED
    _in_order([given.voter for given in asked.ballots])
    motion_id = asked.motion.id
    for given in asked.ballots:
        if not committee.counts(given.voter):
            raise BadBallot(f"a ballot by {given.voter}, who is no member in this epoch", "Leave it out")
        if not genuine(given, committee, motion_id, check):
            raise BadBallot(f"the ballot of {given.voter} is not signed by it for this motion", "Leave it out")
    approvals = sum(given.choice is Choice.APPROVE for given in asked.ballots)
    rejections = sum(given.choice is Choice.REJECT for given in asked.ballots)
    wanted = needed(asked.motion.direction, committee)
    defeated = asked.motion.direction is not Direction.REDUCE and rejections > committee.faults
    if defeated and asked.motion.kind != MEMBERSHIP:
        return Outcome.REJECTED
    if approvals >= wanted:
        return Outcome.APPROVED
    raise NotCarried(
        f"{approvals} members approve and {rejections} reject; {wanted} must approve a {asked.motion.kind}",
        "See the reasons on the ballots",
    )


def agreed(asked: Estimated, committee: Committee) -> Agreed:
    """The number that estimates agree on; :func:`outcome` says whether they may."""
    values = sorted(given.value for given in asked.estimates)
    median = statistics.median(values)
    kept = values[committee.faults : len(values) - committee.faults]
    _, tolerance = question_of(asked.motion.payload)
    outliers = tuple(given.voter for given in asked.estimates if not abs(given.value - median) <= tolerance)
    return Agreed(median, math.fsum(kept) / len(kept), outliers)


def quarantine(proof: proofs.Proof, committees: Sequence[Committee]) -> Quarantine:
    """The request that a proof of misconduct supports in the present epoch.

    Raises
    ------
    BadEvidence
        It proves nothing, or the culprit is no member or quarantined already.
    """
    present = committees[-1]
    culprit = culprit_key(proof, committees)
    if culprit not in present.keys:
        raise BadEvidence("the culprit is no member any more", "Nothing is left to be done")
    asked = Quarantine(proof, present.keys, present.quarantined | {present.keys.index(culprit)})
    _check_quarantine(asked, committees, crypto.verify)
    return asked


def culprit_key(proof: proofs.Proof, committees: Sequence[Committee]) -> bytes:
    """Public key of whom a proof is against.

    Raises
    ------
    BadEvidence
        Its epoch is unknown, or had no such voter.
    """
    known = {committee.epoch: committee for committee in committees}.get(proof.epoch)
    if known is None or not 0 <= proof.culprit < len(known.keys):
        raise BadEvidence(f"the proof is of epoch {proof.epoch}, voter {proof.culprit}", "Give one of this committee")
    return known.keys[proof.culprit]


def _check_quarantine(asked: Quarantine, committees: Sequence[Committee], check: crypto.Verify) -> None:
    present = committees[-1]
    culprit = culprit_key(asked.proof, committees)
    if asked.keys != present.keys or culprit not in present.keys:
        raise BadEvidence("the proof goes with another committee", "Make the request anew")
    number = present.keys.index(culprit)
    if number in present.quarantined or asked.quarantined != present.quarantined | {number}:
        raise BadEvidence(f"voter {number} is quarantined already, or somebody else would be", "Nothing is to be done")
    known = next(committee for committee in committees if committee.epoch == asked.proof.epoch)
    if not asked.proof.holds(Checker(known, check)):
        raise BadEvidence("the proof proves nothing", "Give one that `swarm consensus log --evidence` printed")


def _check_estimates(asked: Estimated, committee: Committee, check: crypto.Verify) -> None:
    _in_order([given.voter for given in asked.estimates])
    motion_id = asked.motion.id
    for given in asked.estimates:
        if not estimated(given, committee, motion_id, check):
            raise BadBallot(f"the estimate of {given.voter} is no member's, or not signed by it", "Leave it out")
    if len(asked.estimates) < committee.quorum:
        raise NotCarried(
            f"{len(asked.estimates)} estimates; with {committee.quorum} the median lies between honest ones",
            "Ask more members",
        )


def _in_order(voters: list[int]) -> None:
    if voters != sorted(set(voters)):
        raise BadBallot("a member is there twice, or they are not in order", "Give each member's once, by number")
