"""Requests that wait to be decided: who brings many keeps what others bring waiting no longer than one more would.

Each voter that hands requests on has a share of the room, and none of it is in the way of what own clients ask for.
Sources take turns, own clients first; who brings large requests waits some turns for each, since one voter's key is
enough to carry as many as it likes. What changes the committee has room of its own and comes before all else: whoever
fills the room of own clients must not keep a liar in office.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from consensus.simplex.types import MOST_BLOCK_BYTES, MOST_REQUEST_BYTES, MOST_REQUESTS

OWN: Final = -1
"""Source of what own clients ask for."""
CHANGES: Final = -2
"""Source of what changes the committee, whoever brings it."""
TURN_BYTES: Final = MOST_BLOCK_BYTES // MOST_REQUESTS
"""That a source may bring in a turn; a larger request waits for as many turns as it needs."""


class Pool:
    """The first request about each subject that waits, by who brought it.

    Parameters
    ----------
    most : int
        Requests of own clients that may wait; of all other sources together as many.
    sources : int
        Numbers of sources beside own clients.
    """

    def __init__(self, most: int, sources: int) -> None:
        self.most, self._sources = most, sources
        self._waiting: dict[int, dict[bytes, bytes]] = {}
        self._source: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._source)

    def room(self, source: int) -> int:
        """How many more a source may bring."""
        share = self.most if source == OWN else max(1, self.most // max(1, self._sources))
        return share - len(self._waiting.get(source, ()))

    def waits(self, subject: bytes, source: int) -> bool:
        """Whether a request about this waits, and would wait no less if this source brought it."""
        held = self._source.get(subject)
        return held is not None and (held <= OWN or source != OWN)

    def add(self, subject: bytes, body: bytes, source: int) -> bool:
        """Let a request wait; what own clients ask for too goes into their turn. Whether one about this waits now."""
        if self.waits(subject, source):
            return True
        if self.room(source) <= 0:
            return False
        self.drop(subject)
        self._waiting.setdefault(source, {})[subject] = body
        self._source[subject] = source
        return True

    def drop(self, subject: bytes) -> None:
        """Let it wait no more, if it does."""
        source = self._source.pop(subject, None)
        if source is not None:
            del self._waiting[source][subject]

    def in_turn(self) -> Iterator[tuple[bytes, bytes]]:
        """(subject, request), of each source one, then of each another; of a source the oldest first.

        A large one waits until its source has had turns enough for it, the first of an own client for none.
        """
        queues = {source: deque(self._waiting[source].items()) for source in sorted(self._waiting)}
        left = {source: MOST_REQUEST_BYTES if source <= OWN else 0 for source in queues}
        while queues := {source: queue for source, queue in queues.items() if queue}:
            for source, queue in queues.items():
                left[source] += TURN_BYTES
                if len(queue[0][1]) <= left[source]:
                    left[source] -= len(queue[0][1])
                    yield queue.popleft()

    def kept(self, wanted: Callable[[bytes], bool], sources: int) -> Pool:
        """A pool of those that are wanted, for another number of sources; what found no room is left out."""
        later = Pool(self.most, sources)
        for source, waiting in self._waiting.items():
            for subject, body in waiting.items():
                if wanted(body):
                    later.add(subject, body, source if source < sources else OWN if source == OWN else sources - 1)
        return later
