"""How much longer than usual a replica waits: timers that follow the network, and the load, without knowing either.

Leaders take turns, so of n views in a row f may fail for no other reason than that their leaders are faulty. When more
of the last n failed, the timers double: an honest leader had too little time, or a faulty one spoilt its view. They
come down again, by half, when more than f of the last n took less than an eighth of what they had. That many views f
liars cannot slow down: their own are f, and the views behind these, which they can spoil too, are f others of 3f+1.
Coming down with the first success instead would bring the next failure with it, where a network is slow or the machines
of the replicas are busy: every failed view is n² messages more.

A replica whose timers are shorter than the others', since it has just begun, makes every view fail in which it is
needed. It sees that such a view lasted on for long after it was given up here, and takes over what the others waited.
A leader sees the beginning of its view before all others, so that it may be the only one for whom it took too long: one
such view of its own is enough, since it knows that it is not faulty.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

MOST_DOUBLINGS: Final = 6
MOST_PAUSES: Final = 3
"""Doublings of the time before something is said again: whoever is back hears it within a second all the same."""
MOST_AT_ONCE: Final = 4
"""Doublings: a view that lasted through a partition says little of the others' pace."""
SLACK: Final = 8
MOST_PEERS: Final = 64


class Pace:
    """The pace of one replica in one epoch of ``voters``, of which ``faults`` may be faulty."""

    def __init__(self, voters: int, faults: int) -> None:
        self._faults = faults
        self._doublings = 0
        self._last: deque[float] = deque(maxlen=voters)
        """Of views since the last change of pace, at most n: the share they took of their time; infinite if failed."""

    @property
    def factor(self) -> int:
        """By which timers are longer than usual."""
        return 1 << self._doublings

    def pause(self, times: int) -> int:
        """By which what was said so many times in a view waits longer than usual to be said again."""
        return 1 << min(MOST_PAUSES, self._doublings + times)

    def failed(self, share: float = 1.0, *, own: bool = False) -> None:
        """Hear of a view that was given up here for want of time, and lasted so many times the time that it had.

        ``own`` says that this replica led it.
        """
        self._last.append(math.inf)
        if share >= 2.0:
            self._change(min(MOST_AT_ONCE, int(math.log2(share))))
        elif own or self._last.count(math.inf) > self._faults:
            self._change(1)

    def passed(self, share: float) -> None:
        """Hear of a view that took this share of the time that it had."""
        self._last.append(share)
        if sum(SLACK * known <= 1.0 for known in self._last) > self._faults:
            self._change(-1)

    def _change(self, doublings: int) -> None:
        self._doublings = min(MOST_DOUBLINGS, max(0, self._doublings + doublings))
        self._last.clear()


class OnceAWhile:
    """What is done for one peer, or for all, is not done again within so many nanoseconds, whoever asks for it."""

    def __init__(self, pause_ns: int) -> None:
        self._pause_ns = pause_ns
        self._next: dict[int | None, int] = {}

    def due(self, peer: int | None, now_ns: int) -> bool:
        """Whether it may be done now, which is taken to be so."""
        if now_ns < self._next.get(peer, 0):
            return False
        if len(self._next) > MOST_PEERS:
            self._next.clear()
        self._next[peer] = now_ns + self._pause_ns
        return True
