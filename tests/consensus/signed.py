"""Keys, and what they sign: decisions as replicas would certify them, without replicas; no tests here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from consensus import ballots, decisions
from consensus.ballots import Choice, Moved
from consensus.decisions import Decision
from consensus.epochs import Known
from consensus.motions import MEMBERSHIP, Motion, membership, membership_of, new_motion
from consensus.simplex.crypto import Signer
from consensus.simplex.types import (
    Block,
    Certificate,
    Committee,
    Finality,
    Kind,
    finality_fields,
    packed,
    vote_bytes,
)

SALT = bytes(16)
SOON_NS = 60 * 10**9


class Voters:
    """Keys of an epoch, four where nothing is said, or a quorum of them that somebody has got hold of."""

    def __init__(self, seed: int = 0, size: int = 4) -> None:
        self.signers: Mapping[int, Signer] = {
            number: Signer(bytes([seed, number, *bytes(30)])) for number in range(size)
        }
        self.first = self.committee = Committee.founded(tuple(one.public for one in self.signers.values()), SALT)
        self.ends: Sequence[Finality] = ()
        """Of the epochs before theirs."""

    @classmethod
    def stolen(cls, committee: Committee, signers: Mapping[int, Signer]) -> Voters:
        """These keys of a first committee, by voter."""
        found = cls()
        found.first, found.committee, found.signers = committee, committee, signers
        return found

    @property
    def text(self) -> str:
        return decisions.committee_text(self.first, SALT)

    @property
    def known(self) -> Known:
        """What a client knows that was shown all ends."""
        return Known((self.first,)).followed([packed(finality_fields(end)) for end in self.ends])

    def final(self, *requests: bytes, height: int | None = None, parent: bytes | None = None) -> tuple[Block, Finality]:
        """A block of these requests, the first of its epoch where nothing is said, and what makes it final."""
        c = self.committee
        height = c.height + 1 if height is None else height
        block = Block(c.epoch, 1, height, 0, c.anchor if parent is None else parent, requests)
        message = vote_bytes(c.chain, Kind.FINALIZE, c.epoch, 1, block.digest)
        signatures = tuple((voter, self.signers[voter].sign(message)) for voter in sorted(self.signers)[: c.quorum])
        return block, Finality((block,), Certificate(Kind.FINALIZE, c.epoch, 1, block.digest, signatures))

    def moved(self, motion: Motion, choice: Choice = Choice.APPROVE) -> bytes:
        """A motion with ballots of a quorum."""
        quorum = [self.signers[voter] for voter in sorted(self.signers)[: self.committee.quorum]]
        given = [ballots.ballot(signer, self.committee, motion, choice, "no") for signer in quorum]
        return ballots.encode(Moved(self.committee.epoch, motion, tuple(given)))

    def evidence(self, final: Finality) -> bytes:
        return packed([[finality_fields(end) for end in self.ends], finality_fields(final)])

    def decided(
        self, motion: Motion, choice: Choice = Choice.APPROVE, height: int | None = None, parent: bytes | None = None
    ) -> Decision:
        """A decision about a motion, and what proves it."""
        _, final = self.final(self.moved(motion, choice), height=height, parent=parent)
        return decisions.proved(self.first, self.evidence(final), motion.id)

    def decide(self, kind: str, payload: bytes, *, choice: Choice = Choice.APPROVE, in_ns: int = SOON_NS) -> Decision:
        """A decision about a new motion."""
        return self.decided(new_motion(kind, payload, expires_utc_ns=time.time_ns() + in_ns), choice)

    def renewed(self, seed: int, height: int | None = None) -> Voters:
        """The same chain an epoch later, with other keys; the last block of theirs has this height."""
        after = Voters(seed)
        keys = after.committee.keys
        motion = new_motion(MEMBERSHIP, membership(keys), expires_utc_ns=2**62)
        parent = None if height is None else bytes([seed] * 32)
        block, final = self.final(self.moved(motion), height=height, parent=parent)
        after.first = self.first
        after.committee = self.committee.after(block, membership_of(motion.payload))
        after.ends = (*self.ends, final)
        return after
