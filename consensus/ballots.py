"""What the committee decides about, and by which rule: motions with signed ballots, numbers, members, misconduct.

A *motion* asks for something of a kind; every kind has a direction. Members sign *ballots* over (chain, epoch, motion):
approve, reject or abstain, with a reason. A motion and its ballots make a request, which the replicas order:

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
Ballots that a member gives at a time it signs together: one signature over the root of their :mod:`.hashtree`, in which
each has a place. So a batch costs as many signatures as one motion, to make and to verify.

Everything here is a pure function of bytes and committees. Deadlines are for electors and clients, who have clocks: a
decision that is shown after its motion's deadline loosens nothing, whatever its certificate says.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any, Final

from consensus import hashtree
from consensus.errors import (
    BadBallot,
    BadEvidence,
    DeadlinePast,
    NotCarried,
    Refused,
    StaleEpoch,
    TooLarge,
    UnknownKind,
)
from consensus.hashtree import HASH_BYTES
from consensus.simplex import crypto, proofs
from consensus.simplex.crypto import Checker, Signs
from consensus.simplex.types import (
    KEY_BYTES,
    LARGEST,
    MOST_REQUEST_BYTES,
    SIGNATURE_BYTES,
    SIZES,
    Change,
    Committee,
    Malformed,
    packed,
    request_id,
    unpacked,
)

MOST_PAYLOAD_BYTES: Final = 48 * 1024
MOST_REASON_BYTES: Final = 256
MOST_EVIDENCE: Final = 32
"""References of one motion."""
MOST_TEXT_BYTES: Final = 128
NONCE_BYTES: Final = 16
MOST_JUDGED: Final = 8192
"""Requests whose judgement is remembered."""
MOST_READ: Final = 1024
"""Requests that are remembered themselves."""
MOST_VERIFIED: Final = 4096
"""Signatures that are remembered as genuine, or not: one may stand on many ballots."""
MOST_TOGETHER: Final = 64
"""Ballots under one signature."""


class Direction(StrEnum):
    """What a motion does to risk."""

    REDUCE = "reduce"
    NEUTRAL = "neutral"
    INCREASE = "increase"


MEMBERSHIP: Final = "membership"
QUARANTINE_MARK: Final = b"\x94\x03"
"""First bytes of a request for quarantine: four fields, the first of which is 3."""
NUMBER: Final = "number"
KINDS: Final[dict[str, Direction]] = {
    "tighten_mode": Direction.REDUCE,
    "lower_limit": Direction.REDUCE,
    "veto": Direction.REDUCE,
    "kill": Direction.REDUCE,
    "disable_strategy": Direction.REDUCE,
    "note": Direction.NEUTRAL,
    "loosen_mode": Direction.INCREASE,
    "raise_limit": Direction.INCREASE,
    "enable_strategy": Direction.INCREASE,
    "promote_model": Direction.INCREASE,
    "release_kill": Direction.INCREASE,
    "permit_trading": Direction.INCREASE,
    "reconcile_gate": Direction.INCREASE,
    MEMBERSHIP: Direction.INCREASE,
    NUMBER: Direction.NEUTRAL,
}
"""Kinds of motions. ``number`` is agreed on by estimates instead of ballots, ``membership`` changes the committee."""


class Choice(IntEnum):
    """What a ballot says."""

    APPROVE = 1
    REJECT = 2
    ABSTAIN = 3


_CHOICES: Final = {int(choice): choice for choice in Choice}


class Outcome(StrEnum):
    """What was decided."""

    APPROVED = "approved"
    REJECTED = "rejected"
    AGREED = "agreed"
    """On a number."""
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Motion:
    """Something to be decided.

    Raises
    ------
    Refused
        Its kind is unknown, or it is too large.
    """

    kind: str
    payload: bytes
    expires_utc_ns: int
    evidence: tuple[str, ...] = ()
    """References to what it rests on, such as ids of calculations or alerts."""
    proposer: str = ""
    nonce: bytes = bytes(NONCE_BYTES)
    """Tells two motions of the same content apart."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownKind(f"the kind {self.kind!r} is unknown", f"Known are: {', '.join(KINDS)}")
        if not isinstance(self.payload, bytes) or len(self.payload) > MOST_PAYLOAD_BYTES:
            raise TooLarge(
                f"a payload of {len(self.payload)} bytes", f"Give at most {MOST_PAYLOAD_BYTES}, or a reference"
            )
        texts = (self.proposer, *self.evidence)
        sound = all(isinstance(text, str) and len(text.encode()) <= MOST_TEXT_BYTES for text in texts)
        if len(self.evidence) > MOST_EVIDENCE or not sound:
            raise TooLarge(
                f"{len(self.evidence)} references, or one of more than {MOST_TEXT_BYTES} bytes",
                f"Give at most {MOST_EVIDENCE} short ones",
            )
        if not _count(self.expires_utc_ns) or not _bytes(self.nonce, NONCE_BYTES):
            raise Malformed("a motion's deadline or nonce is none", "Give what `Motion` describes")
        if self.kind == MEMBERSHIP:
            membership_of(self.payload)
        if self.kind == NUMBER:
            question_of(self.payload)

    @property
    def direction(self) -> Direction:
        """What it does to risk."""
        return KINDS[self.kind]

    @property
    def id(self) -> bytes:
        """What it is known by, 32 bytes."""
        return hashlib.sha256(b"riskswarm/motion/1\x00" + packed(motion_fields(self))).digest()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ballot stands among those that were signed together."""

    index: int
    size: int
    """How many there are, two or more."""
    path: bytes
    """As :func:`.hashtree.root` takes it."""

    def __post_init__(self) -> None:
        sound = _count(self.size) and _count(self.index) and self.index < self.size and 1 < self.size <= MOST_TOGETHER
        if not sound or type(self.path) is not bytes or len(self.path) > MOST_TOGETHER.bit_length() * HASH_BYTES:
            raise Malformed("a ballot's place among others is none", "Give what `Place` describes")


@dataclass(frozen=True, slots=True)
class Ballot:
    """One member's signed word on a motion."""

    voter: int
    choice: Choice
    reason: str
    signature: bytes
    place: Place | None = None
    """None where nothing else was signed with it."""

    def __post_init__(self) -> None:
        sound = _voter(self.voter) and isinstance(self.reason, str) and _bytes(self.signature, SIGNATURE_BYTES)
        if not sound or not (self.place is None or type(self.place) is Place):
            raise Malformed("a ballot names no voter, or its signature is none", "Give what `Ballot` describes")
        if len(self.reason.encode()) > MOST_REASON_BYTES:
            raise TooLarge("a ballot's reason is too long", f"Give at most {MOST_REASON_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One member's signed estimate of a number that it has calculated by itself."""

    voter: int
    value: float
    signature: bytes

    def __post_init__(self) -> None:
        sound = _voter(self.voter) and _bytes(self.signature, SIGNATURE_BYTES)
        if not sound or type(self.value) is not float or not math.isfinite(self.value):
            raise Malformed("an estimate's voter, value or signature is none", "Give what `Estimate` describes")


@dataclass(frozen=True, slots=True)
class Agreed:
    """A number that holds although f of its estimates may be anything."""

    median: float
    """Lies between two honest estimates."""
    trimmed_mean: float
    """Mean without the f smallest and the f largest, which lie between honest ones where they are not honest."""
    outliers: tuple[int, ...]
    """Voters whose estimate is further from the median than the question tolerates; they have signed it."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A request to decide a motion by its ballots."""

    epoch: int
    motion: Motion
    ballots: tuple[Ballot, ...]


@dataclass(frozen=True, slots=True)
class Estimated:
    """A request to agree on a number by its estimates."""

    epoch: int
    motion: Motion
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A request to take no notice of a voter any more, with the proof of its misconduct."""

    proof: proofs.Proof
    keys: tuple[bytes, ...]
    quarantined: frozenset[int]

    @property
    def id(self) -> bytes:
        """What it is known by."""
        return hashlib.sha256(b"riskswarm/quarantine/1\x00" + encode(self)).digest()


Body = Moved | Estimated | Quarantine


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
            return error
        return None


def new_motion(
    kind: str, payload: bytes, *, expires_utc_ns: int, evidence: Sequence[str] = (), proposer: str = ""
) -> Motion:
    """A motion that no other is equal to."""
    return Motion(kind, payload, expires_utc_ns, tuple(evidence), proposer, os.urandom(NONCE_BYTES))


def ballot(signer: Signs, committee: Committee, motion: Motion, choice: Choice, reason: str = "") -> Ballot:
    """A member's ballot; raises as :func:`ballots_on`."""
    return ballots_on([(motion, choice, reason)], signer, committee)[0]


def ballots_on(said: Sequence[tuple[Motion, Choice, str]], signer: Signs, committee: Committee) -> list[Ballot]:
    """A member's ballots on some motions, each with its choice and reason; signed together, up to 64 at a time.

    Raises
    ------
    BadBallot
        The key is no member's.
    """
    voter = _member(signer, committee)
    given: list[Ballot] = []
    for first in range(0, len(said), MOST_TOGETHER):
        together = said[first : first + MOST_TOGETHER]
        words = [_ballot_bytes(committee, motion.id, choice, reason) for motion, choice, reason in together]
        top, paths = hashtree.tree(words)
        signature = signer.sign(words[0] if len(words) == 1 else _together_bytes(committee, top))
        for index, (_, choice, reason) in enumerate(together):
            place = Place(index, len(words), paths[index]) if len(words) > 1 else None
            given.append(Ballot(voter, choice, reason, signature, place))
    return given


def estimate(signer: Signs, committee: Committee, motion: Motion, value: float) -> Estimate:
    """A member's estimate.

    Raises
    ------
    BadBallot
        The key is no member's.
    """
    voter = _member(signer, committee)
    return Estimate(voter, value, signer.sign(_estimate_bytes(committee, motion.id, value)))


def genuine(given: Ballot, committee: Committee, motion_id: bytes, check: crypto.Verify = crypto.verify) -> bool:
    """Whether a member of this epoch has signed a ballot for this motion."""
    if not committee.counts(given.voter):
        return False
    message, place = _ballot_bytes(committee, motion_id, given.choice, given.reason), given.place
    if place is not None:
        top = _root(message, place.index, place.size, place.path)
        if top is None:
            return False
        message = _together_bytes(committee, top)
    return check(committee.keys[given.voter], message, given.signature)


def estimated(given: Estimate, committee: Committee, motion_id: bytes, check: crypto.Verify = crypto.verify) -> bool:
    """Whether a member of this epoch has signed an estimate for this motion."""
    message = _estimate_bytes(committee, motion_id, given.value)
    return committee.counts(given.voter) and check(committee.keys[given.voter], message, given.signature)


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


def in_time(motion: Motion, now_utc_ns: int) -> None:
    """Refuse a motion whose deadline has passed.

    Raises
    ------
    DeadlinePast
        It has.
    """
    if motion.expires_utc_ns <= now_utc_ns:
        late_s = (now_utc_ns - motion.expires_utc_ns) / 1e9
        raise DeadlinePast(f"the motion's deadline passed {late_s:.3f} s ago", "Move it again")


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


def membership(keys: Sequence[bytes], quarantined: Sequence[int] = ()) -> bytes:
    """Payload of a motion that changes the committee."""
    return packed([list(keys), sorted(quarantined)])


def membership_of(payload: bytes) -> Change:
    """The change that such a payload asks for; :class:`Malformed` where it asks for none."""
    fields = unpacked(payload)
    if not isinstance(fields, list) or len(fields) != 2 or not all(isinstance(part, list) for part in fields):
        raise Malformed("a change of the committee without keys", "Give what `membership` makes")
    keys, quarantined = fields
    return _change(keys, quarantined)


def question(text: str, tolerance: float) -> bytes:
    """Payload of a motion that asks for a number; estimates further than ``tolerance`` from the median are outliers."""
    return packed([text, float(tolerance)])


def question_of(payload: bytes) -> tuple[str, float]:
    """Text and tolerance of such a payload; :class:`Malformed` where it has none."""
    fields = unpacked(payload)
    if not isinstance(fields, list) or [type(part) for part in fields] != [str, float] or not fields[1] >= 0:
        raise Malformed("a question for a number without text or tolerance", "Give what `question` makes")
    text, tolerance = fields
    return text, tolerance


def encode(asked: Body) -> bytes:
    """A request as bytes: the same request has one encoding.

    Raises
    ------
    TooLarge
        It is more than a request may be.
    """
    match asked:
        case Moved():
            data = packed([1, asked.epoch, motion_fields(asked.motion), _ballots_fields(asked.ballots)])
        case Estimated():
            given: list[Any] = [[e.voter, e.value, e.signature] for e in asked.estimates]
            data = packed([2, asked.epoch, motion_fields(asked.motion), given])
        case Quarantine():
            data = packed([3, proofs.encode(asked.proof), list(asked.keys), sorted(asked.quarantined)])
    if len(data) > MOST_REQUEST_BYTES:
        raise TooLarge(f"a request of {len(data)} bytes", f"Give at most {MOST_REQUEST_BYTES}")
    return data


def decode(data: bytes) -> Body:
    """The request that bytes are.

    Raises
    ------
    Malformed, Refused
        They are none.
    """
    fields = unpacked(data)
    if not isinstance(fields, list) or len(fields) != 4:
        raise Malformed("bytes that are no request", "Use the same version of Riskswarm on both sides")
    tag, *rest = fields
    asked: Body
    if tag in (1, 2) and _count(rest[0]) and isinstance(rest[2], list) and len(rest[2]) <= max(SIZES):
        motion = motion_of(rest[1])
        if (tag == 2) is not (motion.kind == NUMBER):
            raise Malformed("a number takes estimates, all else ballots", "Send what `ballots` describes")
        asked = (
            Moved(rest[0], motion, _ballots_of(rest[2]))
            if tag == 1
            else Estimated(rest[0], motion, tuple(map(_estimate_of, rest[2])))
        )
    elif tag == 3 and isinstance(rest[0], bytes) and isinstance(rest[1], list) and isinstance(rest[2], list):
        change = _change(rest[1], rest[2])
        asked = Quarantine(proofs.decode(rest[0]), change.keys, change.quarantined)
    else:
        raise Malformed("bytes that are no request", "Use the same version of Riskswarm on both sides")
    if type(data) is not bytes or encode(asked) != data:
        raise Malformed("a request that is not written as requests are", "Send what `encode` makes")
    return asked


def identity(asked: Body) -> bytes:
    """What a request is looked for by: its motion's id, or its own."""
    return asked.id if isinstance(asked, Quarantine) else asked.motion.id


def motion_fields(motion: Motion) -> list[Any]:
    """A motion's fields for the wire."""
    m = motion
    return [m.kind, m.payload, m.expires_utc_ns, list(m.evidence), m.proposer, m.nonce]


def motion_of(fields: Any) -> Motion:
    """The motion of these fields.

    Raises
    ------
    Malformed, Refused
        They are none.
    """
    if not isinstance(fields, list) or len(fields) != 6 or not isinstance(fields[3], list):
        raise Malformed("fields that are no motion", "Send what `Motion` describes")
    kind, payload, expires, evidence, proposer, nonce = fields
    if not isinstance(kind, str) or not isinstance(payload, bytes):
        raise Malformed("a motion's kind or payload is none", "Send what `Motion` describes")
    return Motion(kind, payload, expires, tuple(evidence), proposer, nonce)


def _ballots_fields(given: Sequence[Ballot]) -> list[list[Any]]:
    """Members who were asked the same and say the same have the same tree: a place is written where it changes."""
    fields: list[list[Any]] = []
    before: Place | None = None
    for b in given:
        place = [] if b.place is None else [None] if b.place == before else [b.place.index, b.place.size, b.place.path]
        fields.append([b.voter, int(b.choice), b.reason, b.signature, *place])
        before = b.place
    return fields


def _ballots_of(fields: list[Any]) -> tuple[Ballot, ...]:
    given: list[Ballot] = []
    before: Place | None = None
    for one in fields:
        if not isinstance(one, list) or len(one) not in (4, 5, 7):
            raise Malformed("fields that are no ballot", "Send what `Ballot` describes")
        voter, choice, reason, signature, *place = one
        if type(choice) is not int or choice not in _CHOICES:
            raise Malformed("a ballot that makes no choice", "Send what `Ballot` describes")
        if len(place) != 1:
            before = Place(*place) if place else None
        given.append(Ballot(voter, _CHOICES[choice], reason, signature, before))
    return tuple(given)


def _estimate_of(fields: Any) -> Estimate:
    if not isinstance(fields, list) or len(fields) != 3:
        raise Malformed("fields that are no estimate", "Send what `Estimate` describes")
    return Estimate(*fields)


def _change(keys: list[Any], quarantined: list[Any]) -> Change:
    sound = len(keys) in SIZES and all(_bytes(key, KEY_BYTES) for key in keys) and len(set(keys)) == len(keys)
    silenced = all(_voter(voter) and voter < len(keys) for voter in quarantined)
    if not sound or not silenced or len(quarantined) > (len(keys) - 1) // 3:
        raise Malformed(
            "a change of the committee names none that can be",
            "Give 4, 7 or 10 different keys, and at most a third of them quarantined",
        )
    return Change(tuple(keys), frozenset(quarantined))


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


def _member(signer: Signs, committee: Committee) -> int:
    if signer.public not in committee.keys:
        raise BadBallot("this key is no member's in this epoch", "Ask a member")
    return committee.keys.index(signer.public)


_root = lru_cache(MOST_TOGETHER)(hashtree.root)  # members who say the same have the same tree


def _ballot_bytes(committee: Committee, motion_id: bytes, choice: Choice, reason: str) -> bytes:
    words = hashlib.sha256(reason.encode()).digest()
    body = struct.pack(">32sQ32sB32s", committee.chain, committee.epoch, motion_id, choice, words)
    return b"riskswarm/ballot/1\x00" + body


def _together_bytes(committee: Committee, top: bytes) -> bytes:
    return b"riskswarm/ballots/1\x00" + struct.pack(">32sQ32s", committee.chain, committee.epoch, top)


def _estimate_bytes(committee: Committee, motion_id: bytes, value: float) -> bytes:
    body = struct.pack(">32sQ32sd", committee.chain, committee.epoch, motion_id, value)
    return b"riskswarm/estimate/1\x00" + body


def _voter(value: Any) -> bool:
    return type(value) is int and 0 <= value < max(SIZES)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _bytes(value: Any, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length
