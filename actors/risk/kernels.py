"""Compiled loops shared by the rooms: losses of a book, and their VaR, CVaR and tail rows, exact, without a sort.

A threshold a little below the quantile comes from a strided sample, or from the caller's last quantile. One pass keeps
the losses from it on, without a branch; a quickselect finds the quantile among those few. Where too few were kept, the
whole sample is selected from: not a bit of the answer depends on the guess. The convention is that of
:func:`actors.risk.measures.tail`, the plain twin of :func:`tail_of`; losses are positive numbers.

Kernels answer NaN for a sample that is empty or holds a value that is not finite; :func:`tail` raises.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from actors.risk.measures import RANK_TOLERANCE, tail_size
from actors.risk.registers import LANES, WIDE, compress
from cluster.errors import InvalidMarketData

FASTMATH = {"reassoc", "contract", "nsz", "arcp"}  # NaN and infinity stay what they are: they must be refused
NO_GUESS = float("nan")
SAMPLED_FROM = 192  # losses from which a sampled threshold pays
SAMPLED = 1.5  # losses sampled, times n^(2/3)
SPREAD = 2.5  # standard errors by which the sampled threshold is put below the quantile
BLOCK = 1024  # columns worked on at a time: their sums stay in the first cache
FEW = 12  # losses that an insertion sort orders
LCG = np.uint64(6364136223846793005)  # Knuth's multiplier: pivots that no pattern of the data can foresee


def tail(losses: np.ndarray, confidence: float, scratch: np.ndarray | None = None) -> tuple[float, float]:
    """(VaR, CVaR) of losses of shape (n,), as :func:`actors.risk.measures.tail`, compiled.

    ``scratch`` holds at least n floats, and is overwritten.

    Raises
    ------
    InvalidMarketData
        The sample is empty or holds a value that is not finite.
    """
    # A write-protected array is another type to the compiler: copied, so that each kernel is compiled once.
    sample = np.require(losses, np.float64, ["C_CONTIGUOUS", "WRITEABLE"])
    buffer = np.empty(len(sample)) if scratch is None else scratch
    if len(buffer) < len(sample):
        raise InvalidMarketData("the scratch buffer is shorter than the sample", "Give one of at least its length")
    var, cvar = tail_of(sample, buffer, confidence, NO_GUESS)
    if math.isnan(var):
        raise InvalidMarketData("the sample is empty or holds a value that is not finite", "Correct the market data")
    return var, cvar


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def weighted_rows(matrix: np.ndarray, weights: np.ndarray, scale: float, total: np.ndarray) -> None:
    """``scale * weights @ matrix`` to ``total``; matrix of shape (n_rows, n_columns), a block of columns at a time.

    Rows are cut out before the inner loop: the compiler then knows that no index is negative, and uses whole registers.
    """
    rows, columns = matrix.shape
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        block = total[start:stop]
        block[:] = 0.0
        i = 0
        while i + 4 <= rows:
            r0, r1 = matrix[i, start:stop], matrix[i + 1, start:stop]
            r2, r3 = matrix[i + 2, start:stop], matrix[i + 3, start:stop]
            w0, w1 = scale * weights[i], scale * weights[i + 1]
            w2, w3 = scale * weights[i + 2], scale * weights[i + 3]
            for t in range(block.size):
                block[t] += w0 * r0[t] + w1 * r1[t] + w2 * r2[t] + w3 * r3[t]
            i += 4
        while i < rows:
            row, weight = matrix[i, start:stop], scale * weights[i]
            for t in range(block.size):
                block[t] += weight * row[t]
            i += 1


def weighted_rows_plain(matrix: np.ndarray, weights: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Plain twin of :func:`weighted_rows`."""
    return np.asarray(scale * (weights @ matrix))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def tail_of(losses: np.ndarray, scratch: np.ndarray, confidence: float, guess: float) -> tuple[float, float]:
    """(VaR, CVaR) of ``losses``, shape (n,), or NaN twice.

    ``scratch``, shape (at least n,), is overwritten. ``guess`` is a loss a little below VaR, such as the last one times
    0.98, or NaN where none is known; it changes the time taken, never the answer.
    """
    n = losses.size
    if n == 0:
        return np.nan, np.nan
    size, whole = counted_tail(n, confidence)
    threshold = guess
    if np.isnan(threshold):
        threshold = _sampled_threshold(losses, scratch, size) if n >= SAMPLED_FROM else -np.inf
    kept, finite = _keep(losses, scratch, threshold)
    if finite < n:
        return np.nan, np.nan
    if kept <= whole:
        scratch[:n] = losses
        kept = n
    var = select_largest(scratch, kept, whole)
    return var, _mean_beyond(losses, var, size)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def tail_inside(losses: np.ndarray, confidence: float) -> tuple[float, float]:
    """(VaR, CVaR) as :func:`tail_of`, reordering ``losses`` itself: for a buffer that nobody needs any more."""
    n = losses.size
    finite = 0
    for i in range(n):
        finite += abs(losses[i]) < np.inf
    if n == 0 or finite < n:
        return np.nan, np.nan
    size, whole = counted_tail(n, confidence)
    return tail_of_kept(losses, n, size, whole)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def tail_rows(losses: np.ndarray, var: float, confidence: float, rows: np.ndarray, shares: np.ndarray) -> int:
    """Number of losses in the tail; their indices and their weights go to ``rows`` (int64) and ``shares`` (float64).

    Losses beyond ``var`` weigh 1 / k each, k = (1 - confidence) n; those equal to it share the rest. Weights sum to 1
    and the weighted losses to CVaR, so any column averaged by them is its part of CVaR. Both buffers hold n values.
    """
    n = losses.size
    size, _ = counted_tail(n, confidence)
    found = 0
    beyond = 0
    for i in range(n):
        x = losses[i]
        rows[found] = i
        found += x >= var
        beyond += x > var
    each = 1.0 / size
    rest = (1.0 - beyond * each) / max(1, found - beyond)
    for j in range(found):
        shares[j] = each if losses[rows[j]] > var else rest
    return found


def tail_rows_plain(losses: np.ndarray, var: float, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Plain twin of :func:`tail_rows`: (indices, weights)."""
    size, _ = tail_size(len(losses), confidence)
    rows = np.flatnonzero(losses >= var)
    beyond = losses[rows] > var
    rest = (1 - beyond.sum() / size) / max(1, (~beyond).sum())
    return rows, np.where(beyond, 1 / size, rest)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def counted_tail(n, confidence):  # type: ignore[no-untyped-def]
    """(k, floor of k) for the worst k of n losses: :func:`actors.risk.measures.tail_size`, compiled."""
    size = (1 - confidence) * n
    nearest = np.floor(size + 0.5)
    if abs(size - nearest) < RANK_TOLERANCE * max(1, n):
        size = nearest
    if size < 1:
        return 1.0, 0
    return size, min(int(size), n - 1)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _keep(losses: np.ndarray, kept: np.ndarray, threshold: float) -> tuple[int, int]:
    """(losses from ``threshold`` on, copied to ``kept``; finite losses). No branch: both outcomes cost the same."""
    m = 0
    finite = 0
    i = 0
    if WIDE:
        while i + LANES <= losses.size:
            chosen, sound = compress(losses, i, kept, m, threshold)
            m += chosen
            finite += sound
            i += LANES
    while i < losses.size:
        x = losses[i]
        kept[m] = x
        m += x >= threshold
        finite += abs(x) < np.inf
        i += 1
    return m, finite


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _sampled_threshold(losses: np.ndarray, scratch: np.ndarray, size: float) -> float:
    """A loss that is expected to lie ``SPREAD`` standard errors below the quantile; -inf where no sample tells."""
    n = losses.size
    sampled = int(SAMPLED * n ** (2.0 / 3.0))
    stride = n // sampled
    first = stride // 2
    taken = (n - first + stride - 1) // stride
    for j in range(taken):
        scratch[j] = losses[first + j * stride]
    share = size / n
    rank = int(taken * share + SPREAD * np.sqrt(taken * share * (1 - share)) + 1)
    if rank >= taken:
        return -np.inf
    return float(select_largest(scratch, taken, rank))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def tail_of_kept(kept: np.ndarray, count: int, size: float, whole: int) -> tuple[float, float]:
    """(VaR, CVaR) from the largest losses of a sample, in any order; ``kept`` is reordered."""
    var = select_largest(kept, count, whole)
    beyond = 0.0
    for i in range(whole):
        beyond += kept[i]
    return var, (beyond + (size - whole) * var) / size


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _mean_beyond(losses: np.ndarray, var: float, size: float) -> float:
    """CVaR for a known VaR. Summed in the sample's own order: the order of a selection depends on the guess."""
    beyond = 0.0
    count = 0
    for i in range(losses.size):
        x = losses[i]
        beyond += x if x > var else 0.0
        count += x > var
    return (beyond + (size - count) * var) / size


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def select_largest(a: np.ndarray, count: int, k: int) -> float:
    """The (k + 1)-th largest of a[:count], which is put at place k with the k larger ones before it.

    Lomuto's partition without a branch: larger than the pivot first; where the place lies behind those, the pivot's
    ties are gathered too, so that a sample of equal values ends in one round.
    """
    low, high = 0, count
    state = np.uint64(count)
    while high - low > FEW:
        pivot = _pivot(a, low, high, state)
        state = state * LCG + np.uint64(1)
        m = low
        for i in range(low, high):
            x = a[i]
            a[i] = a[m]
            a[m] = x
            m += x > pivot
        if k < m:
            high = m
            continue
        ties = m
        for i in range(m, high):
            x = a[i]
            a[i] = a[ties]
            a[ties] = x
            ties += x >= pivot
        if ties == m:  # a NaN is no loss of any rank, and would be tried for ever
            return np.nan
        if k < ties:
            return float(pivot)
        low = ties
    for i in range(low + 1, high):
        x = a[i]
        j = i - 1
        while j >= low and a[j] < x:
            a[j + 1] = a[j]
            j -= 1
        a[j + 1] = x
    return float(a[k])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _pivot(a, low, high, state):  # type: ignore[no-untyped-def]
    """Median of three values at places that ``state`` chooses."""
    span = np.uint64(high - low)
    x = a[low + np.int64((state >> np.uint64(8)) % span)]
    y = a[low + np.int64((state >> np.uint64(24)) % span)]
    z = a[low + np.int64((state >> np.uint64(40)) % span)]
    return max(min(x, y), min(max(x, y), z))


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    losses = np.linspace(-1.0, 1.0, 2 * SAMPLED_FROM)
    scratch = np.empty_like(losses)
    var, _ = tail_of(losses, scratch, 0.95, NO_GUESS)
    tail_rows(losses, var, 0.95, np.empty(losses.size, np.int64), scratch)
    tail_inside(losses, 0.95)
    # Kernels that others call: loaded from the cache, a caller no longer names them.
    _keep(losses, scratch, 0.0)
    _sampled_threshold(losses, scratch, 20.0)
    _mean_beyond(losses, var, 20.0)
    tail_of_kept(scratch, losses.size, 20.0, 20)
    select_largest(scratch, losses.size, 20)
    weighted_rows(losses.reshape(2, -1).copy(), np.ones(2), -1.0, scratch[:SAMPLED_FROM].copy())
