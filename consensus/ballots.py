"""Ballots: what members sign about motions and numbers, and the requests that motions and ballots make.

Members sign over (chain, epoch, motion): approve, reject or abstain, with a reason. Ballots that a member gives at a
time it signs together: one signature over the root of their :mod:`.hashtree`, in which each has a place. So a batch
costs as many signatures as one motion, to make and to verify. A motion and its ballots make a request, which the
replicas order; what it decides, :mod:`consensus.rules` says.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from consensus import hashtree
from consensus.errors import BadBallot, TooLarge
from consensus.hashtree import HASH_BYTES
from consensus.motions import NUMBER, Motion, change_of, motion_fields, motion_of
from consensus.simplex import crypto, proofs
from consensus.simplex.crypto import Signs
from consensus.simplex.types import (
    MOST_REQUEST_BYTES,
    SIGNATURE_BYTES,
    SIZES,
    Committee,
    Malformed,
    is_bytes,
    is_whole,
    packed,
    unpacked,
)

MOST_REASON_BYTES: Final = 256
MOST_TOGETHER: Final = 64
"""Ballots under one signature."""


class Choice(IntEnum):
    """What a ballot says."""

    APPROVE = 1
    REJECT = 2
    ABSTAIN = 3


_CHOICES: Final = {int(choice): choice for choice in Choice}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ballot stands among those that were signed together."""

    index: int
    size: int
    """How many there are, two or more."""
    path: bytes
    """As :func:`.hashtree.root` takes it."""

    def __post_init__(self) -> None:
        sound = is_whole(self.size) and 1 < self.size <= MOST_TOGETHER
        sound = sound and is_whole(self.index) and self.index < self.size
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
        sound = _voter(self.voter) and type(self.reason) is str and is_bytes(self.signature, SIGNATURE_BYTES)
        if not sound or not (self.place is None or type(self.place) is Place):
            raise Malformed("a ballot names no voter, or its signature is none", "Give what `Ballot` describes")
        check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Estimate:
    """One member's signed estimate of a number that it has calculated by itself."""

    voter: int
    value: float
    signature: bytes

    def __post_init__(self) -> None:
        sound = _voter(self.voter) and is_bytes(self.signature, SIGNATURE_BYTES)
        if not sound or type(self.value) is not float or not math.isfinite(self.value):
            raise Malformed("an estimate's voter, value or signature is none", "Give what `Estimate` describes")


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


def check_reason(reason: str) -> None:
    """Refuse a reason that a ballot has no room for.

    Raises
    ------
    TooLarge
        It is too long.
    """
    if len(reason.encode()) > MOST_REASON_BYTES:
        raise TooLarge("a ballot's reason is too long", f"Give at most {MOST_REASON_BYTES} bytes")


def ballot(signer: Signs, committee: Committee, motion: Motion, choice: Choice, reason: str = "") -> Ballot:
    """A member's ballot; raises as :func:`ballots_on`."""
    return ballots_on([(motion, choice, reason)], signer, committee)[0]


def ballots_on(said: Sequence[tuple[Motion, Choice, str]], signer: Signs, committee: Committee) -> list[Ballot]:
    """A member's ballots on some motions, each with its choice and reason; signed together, up to 64 at a time.

    Raises
    ------
    BadBallot
        The key is no member's.
    TooLarge
        A reason is too long; none is signed.
    """
    voter = _member(signer, committee)
    given: list[Ballot] = []
    for first in range(0, len(said), MOST_TOGETHER):
        together = said[first : first + MOST_TOGETHER]
        words = [_ballot_bytes(committee, motion.id, choice, reason) for motion, choice, reason in together]
        top, paths = hashtree.tree(words)
        signature = signer.sign(words[0] if len(words) == 1 else _together_bytes(committee, len(words), top))
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
        message = _together_bytes(committee, place.size, top)
    return check(committee.keys[given.voter], message, given.signature)


def estimated(given: Estimate, committee: Committee, motion_id: bytes, check: crypto.Verify = crypto.verify) -> bool:
    """Whether a member of this epoch has signed an estimate for this motion."""
    message = _estimate_bytes(committee, motion_id, given.value)
    return committee.counts(given.voter) and check(committee.keys[given.voter], message, given.signature)


def encode(asked: Body) -> bytes:
    """A request as bytes: the same request has one encoding (0.0 and -0.0 are two numbers, each signed as it is).

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
    if tag in (1, 2) and is_whole(rest[0]) and isinstance(rest[2], list) and len(rest[2]) <= max(SIZES):
        motion = motion_of(rest[1])
        if (tag == 2) is not (motion.kind == NUMBER):
            raise Malformed("a number takes estimates, all else ballots", "Send what `ballots` describes")
        asked = (
            Moved(rest[0], motion, _ballots_of(rest[2]))
            if tag == 1
            else Estimated(rest[0], motion, tuple(map(_estimate_of, rest[2])))
        )
    elif tag == 3 and isinstance(rest[0], bytes) and isinstance(rest[1], list) and isinstance(rest[2], list):
        change = change_of(rest[1], rest[2])
        asked = Quarantine(proofs.decode(rest[0]), change.keys, change.quarantined)
    else:
        raise Malformed("bytes that are no request", "Use the same version of Riskswarm on both sides")
    if type(data) is not bytes or encode(asked) != data:
        raise Malformed("a request that is not written as requests are", "Send what `encode` makes")
    return asked


def identity(asked: Body) -> bytes:
    """What a request is looked for by: its motion's id, or its own."""
    return asked.id if isinstance(asked, Quarantine) else asked.motion.id


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


def _member(signer: Signs, committee: Committee) -> int:
    if signer.public not in committee.keys:
        raise BadBallot("this key is no member's in this epoch", "Ask a member")
    return committee.keys.index(signer.public)


_root = lru_cache(MOST_TOGETHER)(hashtree.root)  # members who say the same have the same tree


def _ballot_bytes(committee: Committee, motion_id: bytes, choice: Choice, reason: str) -> bytes:
    words = hashlib.sha256(reason.encode()).digest()
    body = struct.pack(">32sQ32sB32s", committee.chain, committee.epoch, motion_id, choice, words)
    return b"riskswarm/ballot/1\x00" + body


def _together_bytes(committee: Committee, size: int, top: bytes) -> bytes:
    # The size is said too: another one would lead from some leaves to the same root.
    return b"riskswarm/ballots/1\x00" + struct.pack(">32sQB32s", committee.chain, committee.epoch, size, top)


def _estimate_bytes(committee: Committee, motion_id: bytes, value: float) -> bytes:
    body = struct.pack(">32sQ32sd", committee.chain, committee.epoch, motion_id, value)
    return b"riskswarm/estimate/1\x00" + body


def _voter(value: Any) -> bool:
    return type(value) is int and 0 <= value < max(SIZES)
