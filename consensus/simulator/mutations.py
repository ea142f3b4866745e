"""Mutations: what a liar says, of which one field is changed a little, signed anew by its own key (as ByzzFuzz does).

A mutant is well formed, so that it goes as far as the rules of the protocol let it, and differs from what it was made
of. A liar has the certificates at hand that it spoke of, and their votes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from consensus.simplex.types import (
    MOST_REQUESTS,
    NOTHING,
    Ask,
    Block,
    Certificate,
    Finality,
    Kind,
    Message,
    Notice,
    Proposal,
    Request,
    Standing,
    Supply,
    Vote,
    notice_bytes,
    standing_bytes,
    vote_bytes,
)
from consensus.simulator.world import REWORDED, Node

MOST_SEEN = 32
"""Certificates that are at hand."""

Subject = tuple[Kind, int, int, bytes]
T = TypeVar("T")


def strange_digest(chance: random.Random) -> bytes:
    """Digest of nothing that anybody knows."""
    return bytes([1]) + chance.randbytes(31)


class Mutations:
    """Of what one liar says, by a chance of its own."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._seen: deque[Certificate] = deque(maxlen=MOST_SEEN)

    def of(self, node: Node, message: Message) -> Message:
        """Another message instead of this one, of the same type."""
        self._seen.extend(_certificates(message))
        while (mutant := self._changed(node, message)) == message:
            pass
        return mutant

    def _changed(self, node: Node, message: Message) -> Message:
        match message:
            case Vote():
                return self._vote(node, message)
            case Proposal():
                return self._proposal(node, message)
            case Notice():
                return self._notice(node, message)
            case Standing():
                return self._standing(node, message)
            case Ask():
                return self._ask(message)
            case Supply():
                return self._supply(node, message)
            case Request():
                return self._request(message)

    # By type.

    def _vote(self, node: Node, vote: Vote) -> Vote:
        subject = self._subject(node, vote.subject)
        signature = node.seal.sign(vote_bytes(node.core.committee.chain, *subject))
        return Vote(*subject, self._name(node, vote.voter), signature)

    def _proposal(self, node: Node, proposal: Proposal) -> Proposal:
        block, vote = proposal.block, proposal.vote
        if self._chance.random() < 0.1:
            return replace(proposal, vote=self._vote(node, vote))
        mutant = self._block(node, block)
        subject = vote.kind, mutant.epoch, mutant.view, mutant.digest
        signature = node.seal.sign(vote_bytes(node.core.committee.chain, *subject))
        return Proposal(mutant, Vote(*subject, self._name(node, vote.voter), signature))

    def _notice(self, node: Node, notice: Notice) -> Notice:
        mutant = self._certificate(node, notice.certificate)
        signature = node.seal.sign(notice_bytes(node.core.committee.chain, mutant))
        return Notice(mutant, self._name(node, notice.voter), signature)

    def _standing(self, node: Node, standing: Standing) -> Standing:
        s, known = standing, standing.certificate
        mutants: list[Callable[[], Standing]] = [
            lambda: replace(s, epoch=self._near(s.epoch)),
            lambda: replace(s, view=self._near(s.view)),
            lambda: replace(s, height=self._near(s.height)),
            lambda: replace(s, nonce=self._near(s.nonce)),
            lambda: replace(s, tip=self._digest(node)),
            lambda: replace(s, certificate=None if known is None else self._certificate(node, known)),
            lambda: replace(s, certificate=self._chance.choice([None, *self._seen])),
        ]
        m = self._chance.choice(mutants)()
        message = standing_bytes(node.core.committee.chain, m.epoch, m.view, m.height, m.tip, m.nonce)
        return replace(m, voter=self._name(node, m.voter), signature=node.seal.sign(message))

    def _ask(self, ask: Ask) -> Ask:
        mutants: list[Callable[[], Ask]] = [
            lambda: replace(ask, height=self._near(ask.height)),
            lambda: replace(ask, height=0),
            lambda: replace(ask, nonce=self._near(ask.nonce)),
            lambda: replace(ask, view=self._near(ask.view)),
            lambda: replace(ask, digests=self._some(ask.digests)),
            lambda: replace(ask, digests=(*ask.digests, strange_digest(self._chance))),
        ]
        return self._chance.choice(mutants)()

    def _supply(self, node: Node, supply: Supply) -> Supply:
        final, blocks, certificates = supply.final, supply.blocks, supply.certificates
        mutants: list[Callable[[], Supply]] = [
            lambda: replace(supply, final=self._some(final)),
            lambda: replace(supply, final=self._with_one(final, lambda one: self._finality(node, one))),
            lambda: replace(supply, blocks=self._some(blocks)),
            lambda: replace(supply, blocks=self._with_one(blocks, lambda one: self._block(node, one))),
            lambda: replace(supply, certificates=self._some(certificates)),
            lambda: replace(
                supply, certificates=self._with_one(certificates, lambda one: self._certificate(node, one))
            ),
        ]
        return self._chance.choice(mutants)()

    def _request(self, request: Request) -> Request:
        body = request.body
        others = [b"invalid", body[:-1] or body, body.removesuffix(REWORDED) + REWORDED, b"smuggled " + body[:20]]
        return Request(self._chance.choice(others))

    # What messages are made of.

    def _subject(self, node: Node, subject: Subject) -> Subject:
        """What a vote or a certificate is about, with one part changed, or two where they must fit."""
        kind, epoch, view, digest = subject
        match self._chance.choice(["kind", "epoch", "view", "digest"]):
            case "kind":
                kind = self._chance.choice(list(Kind))
            case "epoch":
                epoch = self._near(epoch)
            case "view":
                view = self._near(view, least=1)
            case _:
                digest = self._digest(node)
        if kind is Kind.NULLIFY:
            digest = NOTHING
        elif digest == NOTHING:
            digest = self._digest(node)
        return kind, epoch, view, digest

    def _block(self, node: Node, block: Block) -> Block:
        chance, requests = self._chance, block.requests
        mutants: list[Callable[[], Block]] = [
            lambda: replace(block, epoch=self._near(block.epoch)),
            lambda: replace(block, view=self._near(block.view, least=block.parent_view + 1)),
            lambda: replace(block, height=self._near(block.height, least=1)),
            lambda: replace(block, parent=self._digest(node)),
            lambda: replace(block, parent_view=chance.randrange(block.view)),
            lambda: replace(block, requests=(*requests, b"smuggled %d" % block.view)[:MOST_REQUESTS]),
            lambda: replace(block, requests=(b"invalid",)),
            lambda: replace(block, requests=(requests * 2)[:MOST_REQUESTS]),
            lambda: replace(block, requests=(*requests, *(body + REWORDED for body in requests))[:MOST_REQUESTS]),
            lambda: replace(block, requests=self._some(requests)),
            lambda: replace(block, requests=()),
        ]
        return chance.choice(mutants)()

    def _finality(self, node: Node, finality: Finality) -> Finality:
        blocks, certificate = finality.blocks, finality.certificate
        mutants: list[Callable[[], Finality]] = [
            lambda: replace(finality, blocks=self._some(blocks) or blocks[-1:]),
            lambda: replace(finality, blocks=self._with_one(blocks, lambda one: self._block(node, one))),
            lambda: replace(finality, certificate=self._certificate(node, certificate)),
        ]
        return self._chance.choice(mutants)()

    def _certificate(self, node: Node, certificate: Certificate) -> Certificate:
        """A vote left out, votes under each other's names, votes for something else, or another certificate."""
        chance, pairs = self._chance, certificate.signatures
        other = chance.choice(self._seen)
        left_out, (first, second) = chance.randrange(len(pairs)), chance.sample(range(len(pairs)), 2)
        exchanged = dict(pairs) | {pairs[first][0]: pairs[second][1], pairs[second][0]: pairs[first][1]}
        mutants = [
            replace(certificate, signatures=pairs[:left_out] + pairs[left_out + 1 :]),
            replace(certificate, signatures=tuple(exchanged.items())),
            replace(certificate, signatures=other.signatures),
            Certificate(*self._subject(node, certificate.subject), pairs),
            other,
        ]
        return chance.choice(mutants)

    def _digest(self, node: Node) -> bytes:
        """Of a block that was certified or became final lately, or of none."""
        chain = node.core.chain
        final = [block.digest for proof in chain.proofs_above(max(0, chain.height - 3)) for block in proof.blocks]
        certified = [certificate.digest for certificate in self._seen if certificate.kind is not Kind.NULLIFY]
        return self._chance.choice([strange_digest(self._chance), *final, *certified])

    def _near(self, number: int, *, least: int = 0) -> int:
        return self._chance.choice([near for near in (number - 1, number + 1, number + 5) if near >= least])

    def _name(self, node: Node, voter: int) -> int:
        """Seldom another voter's: the signature then proves nothing."""
        return self._chance.randrange(len(node.core.committee.keys)) if self._chance.random() < 0.05 else voter

    def _some(self, parts: tuple[T, ...]) -> tuple[T, ...]:
        """Parts left out, and the rest in any order."""
        return tuple(self._chance.sample(parts, self._chance.randint(0, len(parts))))

    def _with_one(self, parts: tuple[T, ...], change: Callable[[T], T]) -> tuple[T, ...]:
        """The same parts, one of them changed, if there are any."""
        if not parts:
            return parts
        place = self._chance.randrange(len(parts))
        return (*parts[:place], change(parts[place]), *parts[place + 1 :])


def _certificates(message: Message) -> list[Certificate]:
    """That a message speaks of."""
    match message:
        case Notice(certificate) | Standing(certificate=Certificate() as certificate):
            return [certificate]
        case Supply(final, _, certificates):
            return [*(one.certificate for one in final), *certificates]
    return []
