"""Motions: something of a known kind that is to be decided, and which way it moves risk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from consensus.errors import DeadlinePast, TooLarge, UnknownKind
from consensus.simplex.types import KEY_BYTES, SIZES, Change, Malformed, is_bytes, is_whole, packed, unpacked

MOST_PAYLOAD_BYTES: Final = 48 * 1024
MOST_EVIDENCE: Final = 32
"""References of one motion."""
MOST_TEXT_BYTES: Final = 128
NONCE_BYTES: Final = 16


class Direction(StrEnum):
    """What a motion does to risk."""

    REDUCE = "reduce"
    NEUTRAL = "neutral"
    INCREASE = "increase"


MEMBERSHIP: Final = "membership"
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
        if not is_whole(self.expires_utc_ns) or not is_bytes(self.nonce, NONCE_BYTES):
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


def new_motion(
    kind: str, payload: bytes, *, expires_utc_ns: int, evidence: Sequence[str] = (), proposer: str = ""
) -> Motion:
    """A motion that no other is equal to."""
    return Motion(kind, payload, expires_utc_ns, tuple(evidence), proposer, os.urandom(NONCE_BYTES))


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


def membership(keys: Sequence[bytes], quarantined: Sequence[int] = ()) -> bytes:
    """Payload of a motion that changes the committee."""
    return packed([list(keys), sorted(quarantined)])


def membership_of(payload: bytes) -> Change:
    """The change that such a payload asks for; :class:`Malformed` where it asks for none."""
    fields = unpacked(payload)
    if not isinstance(fields, list) or len(fields) != 2 or not all(isinstance(part, list) for part in fields):
        raise Malformed("a change of the committee without keys", "Give what `membership` makes")
    keys, quarantined = fields
    return change_of(keys, quarantined)


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


def change_of(keys: list[Any], quarantined: list[Any]) -> Change:
    """The change to these members; :class:`Malformed` where no committee can be so."""
    sound = len(keys) in SIZES and all(is_bytes(key, KEY_BYTES) for key in keys) and len(set(keys)) == len(keys)
    silenced = all(is_whole(voter) and voter < len(keys) for voter in quarantined)
    if not sound or not silenced or len(quarantined) > (len(keys) - 1) // 3:
        raise Malformed(
            "a change of the committee names none that can be",
            "Give 4, 7 or 10 different keys, and at most a third of them quarantined",
        )
    return Change(tuple(keys), frozenset(quarantined))
