# mypy: disable-error-code="call-overload, untyped-decorator"
"""Compiled kernels of value at risk, called on resident state (:mod:`actors.risk.value_at_risk.resident`).

Positions lie in rows: a matrix of returns has shape (n_positions, n_days), so that the inner loop runs over days that
lie side by side, four positions at a time, with no sum across a register. Plain twins are in the tests' reach as
``<name>_plain``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import (
    FASTMATH,
    NO_GUESS,
    counted_tail,
    select_largest,
    tail_of,
    tail_of_kept,
    tail_rows,
    tail_rows_plain,
    weighted_rows,
    weighted_rows_plain,
)
from actors.risk.measures import tail


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def parametric_tail(moments: np.ndarray, weights: np.ndarray, z: float, beyond: float, found: np.ndarray) -> float:
    """Gaussian VaR, returned, and to ``found``, shape (2 + 2 n,): VaR, CVaR, components of VaR, components of CVaR.

    ``moments`` has shape (n + 1, n): the covariance, then the means in its last row; a book that does not move has
    components of its mean alone. ``z`` is the normal quantile, ``beyond`` its density over 1 - confidence. Not floored.
    """
    n = weights.size
    with_book = found[2 : 2 + n]
    further, means = found[2 + n : 2 + 2 * n], moments[n]
    weighted_rows(moments[:n], weights, 1.0, with_book)
    variance = 0.0
    mean = 0.0
    for i in range(n):
        variance += weights[i] * with_book[i]
        mean += weights[i] * means[i]
    deviation = np.sqrt(np.maximum(variance, 0.0))  # NaN stays NaN
    scale = 1.0 / deviation if deviation > 0 else 0.0
    for i in range(n):
        slope = with_book[i] * scale
        further[i] = weights[i] * (beyond * slope - means[i])
        with_book[i] = weights[i] * (z * slope - means[i])
    found[0] = z * deviation - mean
    found[1] = beyond * deviation - mean
    return float(found[0])


def parametric_tail_plain(moments: np.ndarray, weights: np.ndarray, z: float, beyond: float) -> np.ndarray:
    """Plain twin of :func:`parametric_tail`."""
    covariance, means = moments[:-1], moments[-1]
    with_book = covariance @ weights
    deviation = np.sqrt(weights @ with_book)
    components = [weights * (factor * with_book / deviation - means) for factor in (z, beyond)]
    return np.concatenate([[part.sum() for part in components], *components])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def historical_tail(
    by_position: np.ndarray, weights: np.ndarray, confidence: float, work: np.ndarray, guess: float
) -> tuple[float, float]:
    """(VaR, CVaR) of constant weights, or NaN twice; ``by_position`` has shape (n_positions, n_days).

    The book's losses stay in ``work[0]``; ``work`` has shape (2, n_days). ``guess`` is a loss a little below VaR, or
    NaN.
    """
    losses = work[0]
    weighted_rows(by_position, weights, -1.0, losses)
    return tail_of(losses, work[1], confidence, guess)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def historical_contributions(
    by_position: np.ndarray,
    weights: np.ndarray,
    confidence: float,
    work: np.ndarray,
    rows: np.ndarray,
    guess: float,
    found: np.ndarray,
) -> float:
    """VaR, returned, and to ``found``, shape (2 + 2 n,): VaR, CVaR, components of VaR, components of CVaR.

    Components of VaR are losses of the days that are VaR, those of CVaR losses averaged over the tail
    (:func:`actors.risk.kernels.tail_rows`); ``rows`` (int64) holds n_days values. NaN where a return is not finite.
    """
    n = weights.size
    var, cvar = historical_tail(by_position, weights, confidence, work, guess)
    found[0] = var
    found[1] = cvar
    if np.isnan(var):
        found[2:] = np.nan
        return var
    losses = work[0]
    count = tail_rows(losses, var, confidence, rows, work[1])
    tail_days, shares = rows[:count], work[1, :count]
    for i in range(n):
        moves = by_position[i]
        beyond = 0.0
        for j in range(count):
            beyond += shares[j] * moves[tail_days[j]]
        found[2 + n + i] = -weights[i] * beyond
        found[2 + i] = 0.0
    at_var = 0
    for j in range(count):
        if losses[tail_days[j]] == var:
            at_var += 1
            for i in range(n):
                found[2 + i] -= weights[i] * by_position[i, tail_days[j]]
    for i in range(n):
        found[2 + i] /= at_var
    return var


def historical_contributions_plain(by_position: np.ndarray, weights: np.ndarray, confidence: float) -> np.ndarray:
    """Plain twin of :func:`historical_contributions`."""
    losses = weighted_rows_plain(by_position, weights, -1.0)
    var, cvar = tail(losses, confidence)
    rows, shares = tail_rows_plain(losses, var, confidence)
    at_var = -weights * by_position[:, losses == var].mean(axis=1)
    return np.concatenate([[var, cvar], at_var, -weights * (by_position[:, rows] @ shares)])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def tails_without_each(
    by_position: np.ndarray,
    weights: np.ndarray,
    confidence: float,
    work: np.ndarray,
    losses: np.ndarray,
    guess: float,
    found: np.ndarray,
) -> None:
    """(VaR, CVaR) of the book without each of its positions, their proceeds held in cash; ``found`` is (n, 2).

    ``work[0]`` holds the losses of the whole book, as :func:`historical_tail` leaves them; ``losses`` n_days values.
    """
    whole = work[0]
    for i in range(weights.size):
        weight, moves = weights[i], by_position[i]
        for t in range(losses.size):
            losses[t] = whole[t] + weight * moves[t]
        found[i, 0], found[i, 1] = tail_of(losses, work[1], confidence, guess)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def watch(
    covariance: np.ndarray,
    positions: np.ndarray,
    book: np.ndarray,
    limits: np.ndarray,
    which: np.ndarray,
    prices: np.ndarray,
    found: np.ndarray,
) -> None:
    """Bring a book to one new price after another; which limits each leaves beyond goes to ``found``, a bit each.

    Bits: 1 VaR, 2 drawdown, 4 leverage, 8 concentration; -1 for a price that is not finite, which changes nothing.
    ``which`` (int64) and ``prices`` say whose price it is. Rows of ``positions``, shape (4, n): units (with
    multiplier), prices, exposures, covariance x exposures. ``book``: value, peak value, gross exposure, variance of a
    day in money squared, largest exposure, its position, profit of the last tick, profit since the start. ``limits``:
    the normal quantile squared, then limits of VaR, drawdown, leverage and concentration, infinite where not watched.
    Comparisons are multiplied out: a tick takes neither root nor division. A value of zero or less is beyond VaR and
    leverage.
    """
    units, held, exposures, shared = positions[0], positions[1], positions[2], positions[3]
    n = units.size
    for i in range(which.size):
        position, price = which[i], prices[i]
        if not abs(price) < np.inf:
            found[i] = -1
            continue
        before = exposures[position]
        profit = units[position] * (price - held[position])
        after = before + profit
        held[position] = price
        exposures[position] = after
        variance = book[3] + profit * (2.0 * shared[position] + profit * covariance[position, position])
        for j in range(n):
            shared[j] += profit * covariance[position, j]
        value = book[0] + profit
        peak = max(book[1], value)
        gross = book[2] + abs(after) - abs(before)
        size = abs(after)
        if size >= book[4]:
            book[4] = size
            book[5] = position
        elif position == int(book[5]):  # the largest has shrunk: another may be larger now
            largest = 0.0
            place = 0
            for j in range(n):
                if abs(exposures[j]) > largest:
                    largest = abs(exposures[j])
                    place = j
            book[4] = largest
            book[5] = place
        book[0] = value
        book[1] = peak
        book[2] = gross
        book[3] = variance
        book[6] = profit
        book[7] += profit
        equity = max(value, 0.0)
        allowed = limits[1] * equity
        found[i] = (
            int(limits[0] * variance > allowed * allowed)
            | int(peak - value > limits[2] * peak) << 1
            | int(gross > limits[3] * equity) << 2
            | int(book[4] > limits[4] * gross) << 3
        )


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
    matrix, weights, work = np.ones((21, 50)), np.full(21, 0.05), np.empty((2, 50))
    rows, components = np.empty(50, np.int64), np.empty(44)
    weighted_rows(matrix, weights, 1.0, work[0])
    parametric_tail(np.ones((22, 21)), weights, 1.6, 2.0, components)
    historical_tail(matrix, weights, 0.95, work, NO_GUESS)
    historical_contributions(matrix, weights, 0.95, work, rows, NO_GUESS, components)
    tails_without_each(matrix, weights, 0.95, work, np.empty(50), NO_GUESS, np.empty((21, 2)))
    covariance, positions, book, limits = np.eye(4), np.ones((4, 4)), np.ones(8), np.ones(5)
    which = np.zeros(3, np.int64)
    watch(covariance, positions, book, limits, which, np.ones(3), which.copy())
