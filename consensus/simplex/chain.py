"""The blocks that a replica knows: the final ones in a row, and a tree of later ones that may become final."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from consensus.simplex.types import (
    MOST_BLOCKS,
    Block,
    Certificate,
    Change,
    Committee,
    Finality,
)

RUNWAY: Final = 16
"""Blocks that may wait to become final before leaders propose empty ones only."""
SUPPLY_BYTES: Final = 2**19
"""Of one supply, unless a single proof of finality is larger."""


class Application(Protocol):
    """What is decided about. All is pure: every honest replica must come to the same."""

    def valid(self, body: bytes) -> bool:
        """Whether a request may be decided at all."""
        ...

    def change(self, body: bytes) -> Change | None:
        """The change of the committee that a request asks for, if it does."""
        ...

    def subject(self, body: bytes) -> bytes:
        """What a request is about, whatever the bytes: of all that are about the same, one is decided, once."""
        ...


class Chain:
    """Final blocks, each with the proof that it is, and the blocks above them.

    Parameters
    ----------
    application : Application
        Says which requests are about the same, and which change the committee: a block with one ends its epoch.
    """

    def __init__(self, committee: Committee, application: Application) -> None:
        self.committee = committee
        self.committees = [committee]
        """Of every epoch until now."""
        self._application = application
        self._first = committee
        self._final: list[Block] = []
        self._proofs: list[Finality] = []
        """In order of height; each covers the blocks from the end of the one before."""
        self._tree: dict[bytes, Block] = {}
        self._done: dict[bytes, int] = {}

    @property
    def height(self) -> int:
        """Of the last final block; 0 before there is one."""
        return len(self._final)

    @property
    def tip(self) -> bytes:
        """Digest of the last final block."""
        return self._final[-1].digest if self._final else self._first.anchor

    @property
    def view(self) -> int:
        """View of the last final block within the present epoch; 0 where the epoch has none yet."""
        return self.last_view if self._final and self._final[-1].epoch == self.committee.epoch else 0

    @property
    def last_view(self) -> int:
        """View of the last final block in its own epoch; 0 before there is one."""
        return self._final[-1].view if self._final else 0

    def block(self, height: int) -> Block:
        """The final block of a height, which must be there."""
        return self._final[height - 1]

    def proof(self, height: int) -> Finality:
        """Proof that the block of a height is final, beginning with it or with blocks before it."""
        return self._proofs[self._place(height)]

    def proofs_above(self, height: int) -> Sequence[Finality]:
        """Proofs of all final blocks above a height, oldest first."""
        return self._proofs[self._place(height + 1) :] if height < self.height else ()

    def decided(self, subject: bytes) -> int | None:
        """Height at which the request about something was decided, if one was."""
        return self._done.get(subject)

    def find(self, digest: bytes) -> Block | None:
        """A block above the final ones."""
        return self._tree.get(digest)

    def add(self, block: Block) -> None:
        """Keep a block of the present epoch that may become final."""
        if block.epoch == self.committee.epoch and block.height > self.height:
            self._tree[block.digest] = block

    def path(self, digest: bytes) -> list[Block] | None:
        """Blocks above the final ones up to this one, lowest first; None while one of them is not known.

        An empty list is the last final block itself.
        """
        path: list[Block] = []
        while digest != self.tip:
            block = self._tree.get(digest)
            if block is None:
                return None
            path.append(block)
            digest = block.parent
        return path[::-1]

    def missing(self, digest: bytes) -> bytes | None:
        """First block on the way down from ``digest`` to the final ones that is not known."""
        while digest != self.tip:
            block = self._tree.get(digest)
            if block is None:
                return digest
            digest = block.parent
        return None

    def fork(self, finality: Finality) -> Finality | None:
        """Proof of what was decided here instead of one of these blocks."""
        for block in finality.blocks:
            if block.height <= self.height and self.block(block.height) != block:
                return self.proof(block.height)
        return None

    def supply(self, height: int, digests: Iterable[bytes]) -> tuple[tuple[Finality, ...], tuple[Block, ...]]:
        """Proofs of what is final above a height, and those of these blocks that are not final, as far as one goes."""
        final: list[Finality] = []
        room = SUPPLY_BYTES
        for finality in self.proofs_above(height):
            signed = len(finality.certificate.signatures)
            room -= sum(len(body) + 128 for block in finality.blocks for body in (*block.requests, b"")) + 72 * signed
            if final and (room < 0 or len(final) == MOST_BLOCKS):
                break
            final.append(finality)
        blocks: list[Block] = []
        for block in filter(None, map(self.find, digests)):
            room -= sum(map(len, block.requests)) + 128
            if room < 0 and (final or blocks):
                break
            blocks.append(block)
        return tuple(final), tuple(blocks)

    def _place(self, height: int) -> int:
        return bisect_right(self._proofs, height, key=lambda proof: proof.blocks[0].height) - 1

    def ends_epoch(self, block: Block) -> Change | None:
        """The change of the committee in a block, if it holds one."""
        return next((found for found in map(self._application.change, block.requests) if found is not None), None)

    def full(self, path: Sequence[Block]) -> bool:
        """Whether no block with requests may stand behind these ancestors: too many wait, or one ends the epoch."""
        return len(path) >= RUNWAY or any(self.ends_epoch(ancestor) for ancestor in path)

    def subjects(self, path: Sequence[Block]) -> set[bytes]:
        """What the requests of these blocks are about."""
        return {self._application.subject(body) for block in path for body in block.requests}

    def valid(self, body: bytes) -> bool:
        """Whether a request may be decided; a change of the committee must give one."""
        if not self._application.valid(body):
            return False
        change = self._application.change(body)
        return change is None or self.committee.may_become(change)

    def acceptable(self, block: Block, path: Sequence[Block]) -> bool:
        """Whether a block's requests may stand behind these ancestors."""
        if not block.requests:
            return bool(path)  # it can only help a block before it
        if self.full(path):
            return False
        subjects = [self._application.subject(body) for body in block.requests]
        if len(set(subjects)) < len(subjects) or not self.subjects(path).isdisjoint(subjects):
            return False
        if any(self.decided(subject) is not None for subject in subjects):
            return False
        if len(block.requests) > 1 and self.ends_epoch(block) is not None:
            return False
        return all(self.valid(body) for body in block.requests)

    def finalise(self, path: list[Block], certificate: Certificate) -> list[Block]:
        """Make the blocks of a :meth:`path` final; those that are. An end of the epoch leaves out what lies behind it.

        ``self.committee`` is then the next epoch's.
        """
        made: list[Block] = []
        change: Change | None = None
        for block in path:
            made.append(block)
            change = self.ends_epoch(block)
            if change is not None:
                break
        self._final += made
        self._proofs.append(Finality(tuple(path), certificate))
        for block in made:
            for body in block.requests:
                self._done.setdefault(self._application.subject(body), block.height)
        if change is not None:
            self.committee = self.committee.after(made[-1], change)
            self.committees.append(self.committee)
            self._tree.clear()
        else:
            floor = made[-1].height
            self._tree = {digest: block for digest, block in self._tree.items() if block.height > floor}
        return made
