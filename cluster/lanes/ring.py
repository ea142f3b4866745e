# mypy: disable-error-code="call-overload, untyped-decorator"
"""One ring between one writer and one reader, compiled: reserve, publish, look, release.

``words`` is the shared memory as int64, ``numbers`` the same bytes as float64. A ring is named by three places in it:
where its tail lies (written by the writer alone), where its head lies (by the reader alone) and where its slots begin.
Either side keeps in memory of its own how far it has come and how far it last saw the other, ``own[SEEN]``, and looks
again only when that is not enough: in a steady stream the other's line is fetched once a lap, not once a message
(Thompson et al., Disruptor). The slots are written before the tail is released and read after it is acquired; a slot is
written again only after the head that frees it is acquired. That is all the order there is, and all that is needed.

Nothing here believes the shared memory: indices out of range answer ``BAD``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cluster.lanes.atomics import load_acquire, store_release

PLACE, SEEN = 0, 1  # of a side's own memory, int64 (2,)
NONE, BAD = -1, -2


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def reserve(words: np.ndarray, head_at: int, base: int, slots: int, size: int, own: np.ndarray) -> int:
    """First word of the slot to write next; ``NONE`` where the ring is full."""
    tail = own[PLACE]
    if tail - own[SEEN] >= slots:
        head = load_acquire(words, head_at)
        if head < own[SEEN] or head > tail:  # no difference of untrusted words: it may wrap
            return BAD
        own[SEEN] = head
        if tail - head >= slots:
            return NONE
    return int(base + (tail & (slots - 1)) * size)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def publish(words: np.ndarray, tail_at: int, own: np.ndarray) -> None:
    """Show the reserved slot to the reader."""
    own[PLACE] += 1
    store_release(words, tail_at, own[PLACE])


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def look(words: np.ndarray, tail_at: int, base: int, slots: int, size: int, own: np.ndarray) -> int:
    """First word of the slot to read next; ``NONE`` where the ring is empty."""
    head = own[PLACE]
    if own[SEEN] == head:
        tail = load_acquire(words, tail_at)
        if tail < head or tail - head > slots:
            return BAD
        own[SEEN] = tail
        if tail == head:
            return NONE
    return int(base + (head & (slots - 1)) * size)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def release(words: np.ndarray, head_at: int, own: np.ndarray) -> None:
    """Give the slot that was read back to the writer."""
    own[PLACE] += 1
    store_release(words, head_at, own[PLACE])
