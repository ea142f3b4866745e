"""Compiled kernels of value at risk."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH, counted_tail, select_largest, tail_of_kept


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def bootstrap_tails(
    losses: np.ndarray,
    starts: np.ndarray,
    length: int,
    confidence: float,
    kept: np.ndarray,
    before: np.ndarray,
    scratch: np.ndarray,
    found: np.ndarray,
) -> None:
    """(VaR, CVaR) of circular block resamples of ``losses``, shape (n,), finite; to ``found``, shape (resamples, 2).

    ``starts``, shape (resamples, blocks), holds first days of blocks of ``length``; the last of a resample is cut to n
    days. Only losses that can reach a tail are ever copied: they are gathered once, and a block is the run of them
    between two of its days. A resample whose tail does not fill is laid out whole. ``kept`` and ``scratch`` hold n +
    length floats, ``before`` n + length + 1 integers.
    """
    n = losses.size
    size, whole = counted_tail(n, confidence)
    rank = min(n - 1, 2 * whole + 4 * int(np.sqrt(whole * length)) + 40)
    scratch[:n] = losses
    threshold = select_largest(scratch, n, rank)
    m = 0
    for i in range(n + length):
        x = losses[i % n]
        before[i] = m
        kept[m] = x
        m += x >= threshold
    before[n + length] = m
    for r in range(starts.shape[0]):
        filled = 0
        left = n
        for j in range(starts.shape[1]):
            start = starts[r, j]
            stop = start + min(length, left)
            for i in range(before[start], before[stop]):
                scratch[filled] = kept[i]
                filled += 1
            left -= stop - start
        if filled <= whole:
            filled = 0
            left = n
            for j in range(starts.shape[1]):
                start = starts[r, j]
                stop = start + min(length, left)
                for i in range(start, stop):
                    scratch[filled] = losses[i % n]
                    filled += 1
                left -= stop - start
        var, cvar = tail_of_kept(scratch, filled, size, whole)
        found[r, 0] = var
        found[r, 1] = cvar


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    losses = np.linspace(-1.0, 1.0, 50)
    starts = np.zeros((2, 5), np.int64)
    bootstrap_tails(losses, starts, 10, 0.95, np.empty(60), np.empty(61, np.int64), np.empty(60), np.empty((2, 2)))
