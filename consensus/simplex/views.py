"""What a replica has seen of one view: votes, counted when a quorum is there and only then verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.simplex.crypto import Checker
from consensus.simplex.proofs import FORBIDDEN, ConflictingVotes, conflict
from consensus.simplex.types import Certificate, Kind, Proposal, Vote


@dataclass(slots=True)
class View:
    """One view. It holds at most one vote of a voter and kind, so nobody can fill it."""

    number: int
    proposal: Proposal | None = None
    """The first genuine one of its leader."""
    own: dict[Kind, Vote] = field(default_factory=dict)
    """Votes of this replica, all of them in its log."""
    certificates: dict[Kind, Certificate] = field(default_factory=dict)
    begun: int | None = None
    """When there was work in it first."""
    leader_deadline: int | None = None
    """When a proposal is overdue; None before there is work."""
    deadline: int | None = None
    """When the view is given up."""
    late: bool = False
    """Whether it was given up here for want of time."""
    hint: int | None = None
    """When its leader is told of what it may not know: a request, or how views before ended."""
    fill: int | None = None
    """When its leader proposes an empty block, having nothing else."""
    retry: int | None = None
    """When this replica says again what it said."""
    repeats: int = 0
    asked: bool = False
    """Whether what its proposal rests on, or would rest on, was asked for."""
    _votes: dict[tuple[Kind, int], Vote] = field(default_factory=dict)
    _genuine: set[tuple[Kind, int]] = field(default_factory=set)
    _accused: set[int] = field(default_factory=set)

    def add(self, vote: Vote, checker: Checker, accuse: Callable[[ConflictingVotes], None], *, known: bool) -> bool:
        """Take a vote; whether it is new. ``known`` says that its signature has been verified.

        A signature is verified when a quorum needs it, and before that only where two votes of a voter contradict each
        other: a forged vote must not keep the genuine one out.
        """
        place = vote.kind, vote.voter
        held = self._votes.get(place)
        if held is not None and held == vote:
            if known:
                self._genuine.add(place)
            return False
        if held is not None:
            if not (known or checker.vote(vote)):
                return False
            if self.genuine(held, checker):
                self._accuse(held, vote, accuse)
                return False  # the first of a voter stays: which one counts does not matter, both are his
            known = True
        self._votes[place] = vote
        if known:
            self._genuine.add(place)
        self._look_for_contradiction(vote, checker, accuse)
        return True

    def take(self, certificate: Certificate, checker: Checker, accuse: Callable[[ConflictingVotes], None]) -> None:
        """Keep a verified certificate, and its votes: who voted otherwise to this replica is found out here."""
        c = self.certificates[certificate.kind] = certificate
        for voter, signature in c.signatures:
            held = self._votes.get((c.kind, voter))
            if held is not None and (held.digest, held.signature) == (c.digest, signature):
                self._genuine.add((c.kind, voter))
            else:
                self.add(Vote(*c.subject, voter, signature), checker, accuse, known=True)

    def certificate(self, kind: Kind, checker: Checker) -> Certificate | None:
        """The certificate that the votes of a kind make, once there is a quorum of genuine ones for the same."""
        quorum = checker.committee.quorum
        if sum(of is kind for of, _ in self._votes) < quorum:
            return None
        by_digest: dict[bytes, list[Vote]] = {}
        for (of, voter), vote in self._votes.items():
            if of is kind and checker.committee.counts(voter):
                by_digest.setdefault(vote.digest, []).append(vote)
        for digest, votes in by_digest.items():
            if len(votes) < quorum:
                continue
            genuine = sorted((v for v in votes if self.genuine(v, checker)), key=lambda v: v.voter)
            if len(genuine) >= quorum:
                signatures = tuple((vote.voter, vote.signature) for vote in genuine[:quorum])
                return Certificate(kind, checker.committee.epoch, self.number, digest, signatures)
        return None

    def notarised(self) -> bytes | None:
        """Digest of the block that is notarised here, if one is."""
        known = self.certificates.get(Kind.NOTARIZE) or self.certificates.get(Kind.FINALIZE)
        return None if known is None else known.digest

    @property
    def nullified(self) -> bool:
        """Whether there is proof that nothing was finalised here."""
        return Kind.NULLIFY in self.certificates

    @property
    def finalised(self) -> bool:
        """Whether there is proof that a block is final."""
        return Kind.FINALIZE in self.certificates

    def given_up_by(self, voter: int, checker: Checker) -> bool:
        """Whether a voter has given it up, as its signature shows."""
        vote = self._votes.get((Kind.NULLIFY, voter))
        return vote is not None and self.genuine(vote, checker)

    def attended(self, checker: Checker) -> bool:
        """Whether more voters than may be faulty are at work here; what is signed by nobody is forgotten."""
        votes, most = list(self._votes.values()), checker.committee.faults
        if len({vote.voter for vote in votes}) <= most:
            return False
        return len({vote.voter for vote in votes if self.genuine(vote, checker)}) > most

    def genuine(self, vote: Vote, checker: Checker) -> bool:
        """Whether a vote that is kept here is signed by its voter; it is forgotten if not."""
        place = vote.kind, vote.voter
        if place in self._genuine:
            return True
        if checker.vote(vote):
            self._genuine.add(place)
            return True
        self._votes.pop(place, None)
        return False

    def _look_for_contradiction(self, vote: Vote, checker: Checker, accuse: Callable[[ConflictingVotes], None]) -> None:
        if vote.kind not in FORBIDDEN:
            return
        (other,) = FORBIDDEN - {vote.kind}
        held = self._votes.get((other, vote.voter))
        if held is not None and self.genuine(held, checker) and self.genuine(vote, checker):
            self._accuse(held, vote, accuse)

    def _accuse(self, first: Vote, second: Vote, accuse: Callable[[ConflictingVotes], None]) -> None:
        if first.voter not in self._accused and conflict(first, second):
            self._accused.add(first.voter)
            accuse(ConflictingVotes(first, second))
