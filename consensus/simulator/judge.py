"""The judge: what must hold of every honest replica at every moment, whatever the others do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from consensus.simplex.core import Core, Turn
from consensus.simplex.crypto import Checker, Verify
from consensus.simplex.proofs import FORBIDDEN, conflict
from consensus.simplex.types import Block, Certificate, Committee, Finality, Kind, Proposal, Vote


class Foul(AssertionError):
    """An invariant of agreement is broken."""


class Judge:
    """Watches honest nodes.

    * Agreement: no two honest replicas decide different blocks at a height, in this life or another.
    * What a replica has told to be final has no gap and never shrinks, over all its lives with one disk.
    * No two certificates contradict each other, wherever they are seen.
    * An honest voter never signs two things that contradict each other.
    * Every decision has a proof that an outsider can check with the keys of its epoch; a subject is decided once.
    * A proof of misconduct holds, and names a liar.

    Parameters
    ----------
    subject : callable
        What a request is about.
    liars : frozenset of int
        Nodes that may be accused.
    nodes : mapping
        Whose key is whose.
    """

    def __init__(
        self,
        committee: Committee,
        check: Verify,
        subject: Callable[[bytes], bytes],
        liars: frozenset[int],
        nodes: Mapping[bytes, int],
    ) -> None:
        self._check, self._subject, self._liars, self._nodes = check, subject, liars, nodes
        self.checkers: dict[int, Checker] = {0: Checker(committee, check)}
        self.decided: dict[int, Block] = {}
        """By height."""
        self.requests: dict[bytes, tuple[int, bytes]] = {}
        """Height at which each subject was decided, and the request about it that was."""
        self._heights: dict[int, int] = {}
        self._votes: dict[tuple[bytes, int, int], list[Vote]] = {}
        self._certificates: dict[tuple[int, int], dict[Kind, Certificate]] = {}
        self.accused: dict[int, int] = {}
        """Proofs against each node."""
        self.strict = True
        """False where more than f lie: agreement is then not promised, and only evidence is judged."""

    def turn(self, node: int, core: Core, turn: Turn) -> None:
        """Judge what an honest node did."""
        self.learn(core)
        for record in turn.records:
            if isinstance(record, Certificate):
                self._judge_certificate(record)
        for _, message in turn.messages:
            if isinstance(message, Vote):
                self._judge_vote(message)
            if isinstance(message, Proposal):
                self._judge_vote(message.vote)
        for decision in turn.decisions:
            self._judge_decision(node, decision.block, decision.finality)
        for proof in turn.proofs:
            checker = self.checkers[proof.epoch]
            if not proof.holds(checker):
                raise Foul(f"node {node} accuses without proof: {proof}")
            key = checker.committee.keys[proof.culprit]
            culprit = self._nodes[key]
            if culprit not in self._liars:
                raise Foul(f"node {node} proves that honest node {culprit} lied: {proof}")
            self.accused[culprit] = self.accused.get(culprit, 0) + 1

    def restarted(self, node: int, height: int, *, kept_its_disk: bool) -> None:
        """A node began a new life: what it has told must still be there, unless its disk is lost."""
        if kept_its_disk and height < self._heights.get(node, 0):
            raise Foul(f"node {node} forgot decisions: it told of {self._heights[node]}, and knows {height}")
        self._heights[node] = height

    def _judge_vote(self, vote: Vote) -> None:
        key = self.checkers[vote.epoch].committee.keys[vote.voter]
        cast = self._votes.setdefault((key, vote.epoch, vote.view), [])
        for other in cast:
            if conflict(vote, other):
                raise Foul(f"an honest voter signed {other} and {vote}")
        if vote not in cast:
            cast.append(vote)

    def _judge_certificate(self, certificate: Certificate) -> None:
        held = self._certificates.setdefault((certificate.epoch, certificate.view), {})
        for other in held.values():
            same_kind = other.kind is certificate.kind and other.digest != certificate.digest
            if self.strict and (same_kind or {other.kind, certificate.kind} == FORBIDDEN):
                raise Foul(f"two certificates contradict each other: {other} and {certificate}")
        held[certificate.kind] = certificate

    def _judge_decision(self, node: int, block: Block, finality: Finality) -> None:
        height = block.height
        if height != self._heights.get(node, 0) + 1:
            raise Foul(f"node {node} decided height {height} after {self._heights.get(node, 0)}")
        self._heights[node] = height
        known = self.decided.setdefault(height, block)
        if known.digest != block.digest and self.strict:
            raise Foul(f"height {height} is {known} for one, and {block} for node {node}")
        for body in block.requests:
            known_as = self._subject(body)
            if self.requests.setdefault(known_as, (height, body)) != (height, body):
                raise Foul(f"{body!r} at height {height} is about what was decided before: {self.requests[known_as]}")
        checker = self.checkers[block.epoch]
        quorum = 2 * ((len(checker.committee.keys) - 1) // 3) + 1  # the judge's own arithmetic
        if len(finality.certificate.signatures) < quorum:
            raise Foul(f"node {node} decided height {height} with {len(finality.certificate.signatures)} votes")
        if block not in finality.blocks or not finality.holds_together or not checker.certificate(finality.certificate):
            raise Foul(f"node {node} decided height {height} without proof")

    def learn(self, core: Core) -> None:
        """Take up the committees of later epochs."""
        for committee in core.chain.committees:
            held = self.checkers.get(committee.epoch)
            if held is not None and held.committee != committee and self.strict:
                raise Foul(f"epoch {committee.epoch} has two committees")
            if held is None:
                self.checkers[committee.epoch] = Checker(committee, self._check)
