"""Proofs of misconduct: whoever knows the committee can check them, and none can be made against an honest voter.

An honest voter signs one NOTARIZE of a view, never a NULLIFY and a FINALIZE of the same view, and passes on no
certificate that it has not verified. It remembers what it signed, on disk, before anybody sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consensus.simplex.crypto import Checker
from consensus.simplex.types import (
    Kind,
    Malformed,
    Notice,
    Vote,
    notice_fields,
    notice_of,
    packed,
    unpacked,
    vote_fields,
    vote_of,
)

FORBIDDEN = frozenset({Kind.NULLIFY, Kind.FINALIZE})


@dataclass(frozen=True, slots=True)
class ConflictingVotes:
    """Two votes of one voter on one view that no honest voter signs both."""

    first: Vote
    second: Vote

    @property
    def culprit(self) -> int:
        """Whose votes they are."""
        return self.first.voter

    @property
    def epoch(self) -> int:
        """Whose committee can check it."""
        return self.first.epoch

    def holds(self, checker: Checker) -> bool:
        """Whether it proves what it says."""
        return conflict(self.first, self.second) and checker.vote(self.first) and checker.vote(self.second)


@dataclass(frozen=True, slots=True)
class FalseNotice:
    """A certificate that is none, with the signature of the voter that passed it on."""

    notice: Notice

    @property
    def culprit(self) -> int:
        """Who passed it on."""
        return self.notice.voter

    @property
    def epoch(self) -> int:
        """Whose committee can check it."""
        return self.notice.certificate.epoch

    def holds(self, checker: Checker) -> bool:
        """Whether it proves what it says."""
        if self.epoch != checker.committee.epoch or not checker.notice(self.notice):
            return False
        return not checker.certificate(self.notice.certificate)


Proof = ConflictingVotes | FalseNotice


def conflict(first: Vote, second: Vote) -> bool:
    """Whether no honest voter signs both of these."""
    if (first.voter, first.epoch, first.view) != (second.voter, second.epoch, second.view):
        return False
    if {first.kind, second.kind} == FORBIDDEN:
        return True
    return first.kind is second.kind and first.digest != second.digest


def encode(proof: Proof) -> bytes:
    """A proof as bytes, to be passed on and kept."""
    if isinstance(proof, ConflictingVotes):
        return packed([1, vote_fields(proof.first), vote_fields(proof.second)])
    return packed([2, *notice_fields(proof.notice)])


def decode(data: bytes) -> Proof:
    """The proof that bytes are.

    Raises
    ------
    Malformed
        They are none.
    """
    fields: Any = unpacked(data)
    if isinstance(fields, list) and len(fields) == 3 and fields[0] == 1:
        return ConflictingVotes(vote_of(fields[1]), vote_of(fields[2]))
    if isinstance(fields, list) and len(fields) == 4 and fields[0] == 2:
        return FalseNotice(notice_of(fields[1:]))
    raise Malformed("bytes that are no proof", "Give what `swarm consensus log --evidence` printed")
