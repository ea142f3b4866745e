"""The blocks that a replica knows: the final ones in a row, and a tree of later ones that may become final."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from consensus.simplex.types import (
    Block,
    Certificate,
    Change,
    Committee,
    Finality,
)


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
        last = self._final[-1] if self._final else None
        return last.view if last is not None and last.epoch == self.committee.epoch else 0

    def block(self, height: int) -> Block:
        """The final block of a height, which must be there."""
        return self._final[height - 1]

    def proof(self, height: int) -> Finality:
        """Proof that the block of a height is final, beginning with it or with blocks before it."""
        return self._proofs[self._place(height)]

    def proofs_above(self, height: int) -> Sequence[Finality]:
        """Proofs of all final blocks above a height, oldest first; the last one where there are none above."""
        return self._proofs[self._place(height + 1) :]

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

    def _place(self, height: int) -> int:
        return bisect_right(self._proofs, height, key=lambda proof: proof.blocks[0].height) - 1

    def ends_epoch(self, block: Block) -> Change | None:
        """The change of the committee in a block, if it holds one."""
        return next((found for found in map(self._application.change, block.requests) if found is not None), None)

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
