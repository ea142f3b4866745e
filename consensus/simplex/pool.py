"""Requests that wait to be decided: who brings many keeps what others bring waiting no longer than one more would.

Each voter that hands requests on has a share of the room, and none of it is in the way of what own clients ask for.
Sources take turns, own clients first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

OWN = -1
"""Source of what own clients ask for."""


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
        return held is not None and (held == OWN or source != OWN)

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
        """(subject, request), of each source one, then of each another; of a source the oldest first."""
        queues = [iter(list(self._waiting[source].items())) for source in sorted(self._waiting)]
        while queues:
            left = []
            for queue in queues:
                pair = next(queue, None)
                if pair is not None:
                    yield pair
                    left.append(queue)
            queues = left

    def kept(self, wanted: Callable[[bytes], bool], sources: int) -> Pool:
        """A pool of those that are wanted, for another number of sources; what found no room is left out."""
        later = Pool(self.most, sources)
        for source, waiting in self._waiting.items():
            for subject, body in waiting.items():
                if wanted(body):
                    later.add(subject, body, source if source < sources else OWN if source == OWN else sources - 1)
        return later
