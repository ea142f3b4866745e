# mypy: disable-error-code="call-overload, untyped-decorator"
"""The smallest service on a lane: it gives back what it gets. Benchmarks and tests of lanes ask it."""

from __future__ import annotations

import numpy as np
from numba import njit

from cluster.lanes.layout import OK, SLOT_HEADER
from cluster.lanes.serving import COUNT, REPLY, finish, next_request


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def echo(words: np.ndarray, numbers: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray) -> int:
    """Serve until the thread is wanted."""
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return int(slot)
        reply = hand[REPLY]
        for i in range(hand[COUNT]):
            numbers[reply + SLOT_HEADER + i] = numbers[slot + SLOT_HEADER + i]
        finish(words, own, hand, OK, hand[COUNT])
