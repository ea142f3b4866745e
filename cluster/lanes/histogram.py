# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, call-overload, untyped-decorator"
"""Histograms of durations inside shared words: eight buckets an octave, so a percentile is right within an eighth."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from cluster.lanes.layout import BUCKETS, SUB_BITS

SUB = 1 << SUB_BITS


@intrinsic
def _leading_zeros(typing, value):
    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


leading_zeros: Any = _leading_zeros


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def bucket_of(duration: int) -> int:
    """Bucket of a duration in nanoseconds; negative ones, which a clock that was set may make, fall into the first."""
    if duration < SUB:
        return max(0, duration)
    octave = 63 - leading_zeros(duration)
    return int(
        min(BUCKETS - 1, ((octave - SUB_BITS + 1) << SUB_BITS) + ((duration >> (octave - SUB_BITS)) & (SUB - 1)))
    )


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def count_in(words: np.ndarray, at: int, duration: int) -> None:
    """Add one duration to the histogram at ``words[at]``; one writer only."""
    words[at + bucket_of(duration)] += 1


def edges() -> np.ndarray:
    """Smallest duration of every bucket and the end of the last, ns, shape (BUCKETS + 1,)."""
    places = np.arange(BUCKETS + 1)
    octave, step = places >> SUB_BITS, places & (SUB - 1)
    return np.where(places < SUB, places, (SUB + step) << np.maximum(octave - 1, 0))


def percentiles(counts: np.ndarray, shares: tuple[float, ...]) -> tuple[float | None, ...]:
    """Durations, ns, below which these shares of the counted lie; the middle of the bucket, None without a count."""
    counts = np.clip(counts, 0, 2**53 // BUCKETS)  # a copy, and nothing that others wrote there can break the sums
    total = int(counts.sum())
    if total == 0:
        return (None,) * len(shares)
    known, reached = edges(), np.cumsum(counts)
    found = [int(np.searchsorted(reached, max(1, share * total))) for share in shares]
    return tuple(float(known[place] + known[place + 1] - 1) / 2 for place in found)
