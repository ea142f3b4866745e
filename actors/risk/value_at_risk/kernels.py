"""Compiled kernels of value at risk."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH, NO_GUESS, counted_tail, select_largest, tail_of, tail_of_kept


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


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def rolling_tails(
    losses: np.ndarray, window: int, confidence: float, ordered: np.ndarray, days: np.ndarray, found: np.ndarray
) -> None:
    """(VaR, CVaR) of the ``window`` losses before each day from day ``window`` on, to ``found``, (n - window, 2).

    The window stays in order: each day one loss leaves and one enters. ``ordered`` and ``days`` (int64) hold
    ``window`` values.
    """
    size, whole = counted_tail(window, confidence)
    _fill_window(losses, window, ordered, days)
    for day in range(window, losses.size):
        beyond = 0.0
        for i in range(window - whole, window):
            beyond += ordered[i]
        var = ordered[window - 1 - whole]
        found[day - window, 0] = var
        found[day - window, 1] = (beyond + (size - whole) * var) / size
        _slide(ordered, days, losses, day, window)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def rolling_weighted_tails(
    losses: np.ndarray,
    window: int,
    confidence: float,
    weights: np.ndarray,
    ordered: np.ndarray,
    days: np.ndarray,
    found: np.ndarray,
) -> None:
    """As :func:`rolling_tails` with ``weights`` by place in the window, oldest first, shape (window,), sum 1."""
    share = 1 - confidence
    _fill_window(losses, window, ordered, days)
    for day in range(window, losses.size):
        mass = 0.0
        beyond = 0.0
        place = window - 1
        while place > 0:
            weight = weights[days[place] - (day - window)]
            if mass + weight > share + 1e-12:
                break
            mass += weight
            beyond += weight * ordered[place]
            place -= 1
        var = ordered[place]
        found[day - window, 0] = var
        found[day - window, 1] = (beyond + (share - mass) * var) / share
        _slide(ordered, days, losses, day, window)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def filtered_tail(
    daily: np.ndarray, filter_of: np.ndarray, confidence: float, losses: np.ndarray, scratch: np.ndarray
) -> tuple[float, float]:
    """(VaR, CVaR) for the day after ``daily``, shape (n,): its residuals under a held GARCH at the variance to come.

    ``filter_of`` holds mu, omega, alpha, beta and the variance of the first day. ``losses`` and ``scratch`` hold n
    values.
    """
    mu, omega, alpha, beta, variance = filter_of[0], filter_of[1], filter_of[2], filter_of[3], filter_of[4]
    for i in range(daily.size):
        shock = daily[i] - mu
        losses[i] = shock / np.sqrt(variance)
        variance = omega + alpha * shock * shock + beta * variance
    deviation = np.sqrt(variance)
    for i in range(daily.size):
        losses[i] = -(mu + deviation * losses[i])
    return tail_of(losses, scratch, confidence, NO_GUESS)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _fill_window(losses: np.ndarray, window: int, ordered: np.ndarray, days: np.ndarray) -> None:
    """The first ``window`` losses in rising order, with their days."""
    order = np.argsort(losses[:window])
    for i in range(window):
        days[i] = order[i]
        ordered[i] = losses[order[i]]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _slide(ordered: np.ndarray, days: np.ndarray, losses: np.ndarray, day: int, window: int) -> None:
    """Replace the oldest loss of an ordered window by that of ``day``; those between the two move by one place."""
    entering = losses[day]
    oldest = day - window
    place = np.searchsorted(ordered, losses[oldest])
    while days[place] != oldest:  # ties
        place += 1
    while place + 1 < window and ordered[place + 1] < entering:
        ordered[place] = ordered[place + 1]
        days[place] = days[place + 1]
        place += 1
    while place > 0 and ordered[place - 1] > entering:
        ordered[place] = ordered[place - 1]
        days[place] = days[place - 1]
        place -= 1
    ordered[place] = entering
    days[place] = day


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    losses = np.linspace(-1.0, 1.0, 50)
    starts = np.zeros((2, 5), np.int64)
    bootstrap_tails(losses, starts, 10, 0.95, np.empty(60), np.empty(61, np.int64), np.empty(60), np.empty((2, 2)))
    ordered, days, found = np.empty(10), np.empty(10, np.int64), np.empty((40, 2))
    rolling_tails(losses, 10, 0.9, ordered, days, found)
    rolling_weighted_tails(losses, 10, 0.9, np.full(10, 0.1), ordered, days, found)
    _fill_window(losses, 10, ordered, days)
    _slide(ordered, days, losses, 10, 10)
    filtered_tail(losses, np.array([0.0, 0.1, 0.1, 0.8, 1.0]), 0.95, np.empty(50), np.empty(50))
