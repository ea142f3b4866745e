"""Compiled loops of change detection, each beside its plain twin; what they mean is said in :mod:`.changes`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def standardised(returns, decay, variances, out):  # type: ignore[no-untyped-def]
    """Returns over the exponentially weighted deviation known the evening before; 0 where that is 0.

    Parameters
    ----------
    returns, out : ndarray of shape (n_days, n)
    decay : float
    variances : ndarray of shape (n,)
        Of the first day; afterwards, of the day after the last.
    """
    days, n = returns.shape
    for t in range(days):
        for i in range(n):
            move = returns[t, i]
            out[t, i] = move / math.sqrt(variances[i]) if variances[i] > 0.0 else 0.0
            variances[i] = decay * variances[i] + (1.0 - decay) * move * move


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def sequential_ranks(values, ordered, ranks):  # type: ignore[no-untyped-def]
    """Rank of every value among those up to it, as (rank - 1/2) / count, ties shared.

    Parameters
    ----------
    values, ranks : ndarray of shape (n,)
    ordered : ndarray of shape (n,)
        Overwritten with the sorted values.
    """
    for t in range(len(values)):
        below = np.searchsorted(ordered[:t], values[t], side="left")
        upto = np.searchsorted(ordered[:t], values[t], side="right")
        ranks[t] = (0.5 * (below + upto) + 0.5) / (t + 1)
        for place in range(t, upto, -1):
            ordered[place] = ordered[place - 1]
        ordered[upto] = values[t]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def cusum(scores, allowance, threshold, start, peaks):  # type: ignore[no-untyped-def]
    """Two one-sided cumulative sums from ``start`` on (Page 1954); they stop at the first alarm.

    Parameters
    ----------
    scores : ndarray of shape (n,)
    allowance : float
        What a score must exceed to count.
    threshold : float
    start : int
    peaks : ndarray of shape (n,)
        Receives the larger of the two sums.

    Returns
    -------
    alarm : int
        Day of the alarm, -1 without one.
    change : int
        First day of the climb that raised it.
    direction : int
        1 for a rise, -1 for a fall, 0 without an alarm.
    """
    up, down, up_since, down_since = 0.0, 0.0, start, start
    for t in range(start, len(scores)):
        up += scores[t] - allowance
        down -= scores[t] + allowance
        if not up > 0.0:
            up, up_since = 0.0, t + 1
        if not down > 0.0:
            down, down_since = 0.0, t + 1
        peaks[t] = max(up, down)
        if peaks[t] > threshold:
            return (t, up_since, 1) if up >= down else (t, down_since, -1)
    return -1, -1, 0


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def run_lengths(scores, hazard, precision, recent, start, threshold, weights, sums, recents):  # type: ignore[no-untyped-def]
    """Bayesian on-line change points of normal scores with unit variance (Adams & MacKay 2007).

    A run's mean is normal about 0 with ``precision``; ``weights[r]`` is the probability that the current run holds r
    scores. Runs longer than the buffer share its last place, whose sum is their average.

    Parameters
    ----------
    scores, recents : ndarray of shape (n,)
        ``recents`` receives the probability that the run began within the last ``recent`` days.
    hazard : float
        Probability that a run ends on a day.
    precision : float
        Of the prior of a run's mean, against 1 for a score.
    recent, start : int
        No alarm before day ``start``.
    threshold : float
    weights, sums : ndarray of shape (n_runs + 1,)
        Overwritten.

    Returns
    -------
    alarm : int
        First day from ``start`` on at which ``recents`` passes the threshold, -1 without one.
    change : int
        First day of the likeliest run that began within the last ``recent`` days.
    direction : int
        Sign of that run's mean against the mean of everything before it, 0 without an alarm.
    """
    longest = len(weights) - 1
    weights[:] = 0.0
    sums[:] = 0.0
    weights[0] = 1.0
    whole = 0.0
    for t in range(len(scores)):
        top = min(t, longest)
        total = 0.0
        for run in range(top + 1):
            held = precision + run
            spread = 1.0 + 1.0 / held
            off = scores[t] - sums[run] / held
            weights[run] *= math.exp(-0.5 * off * off / spread) / math.sqrt(spread)
            total += weights[run]
        kept = (1.0 - hazard) / total
        if top == longest:  # the last place takes in the run that grows into it
            full, grown = weights[longest], weights[longest - 1]
            long_sum = (sums[longest] + scores[t]) * longest / (longest + 1.0)
            if full + grown > 0.0:
                sums[longest] = (full * long_sum + grown * (sums[longest - 1] + scores[t])) / (full + grown)
            weights[longest] = (full + grown) * kept
            top -= 2
        for run in range(top, -1, -1):
            weights[run + 1] = weights[run] * kept
            sums[run + 1] = sums[run] + scores[t]
        weights[0] = hazard
        sums[0] = 0.0
        whole += scores[t]
        within, likeliest = 0.0, 1
        for run in range(min(recent, t + 1, longest) + 1):
            within += weights[run]
            if 0 < run < recent and weights[run] > weights[likeliest]:
                likeliest = run
        recents[t] = within
        if t >= start and within > threshold:
            newer = sums[likeliest] / likeliest
            older = (whole - sums[likeliest]) / max(1, t + 1 - likeliest)
            return t, t + 1 - likeliest, 1 if newer > older else -1
    return -1, -1, 0


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def first_passages(scores, offset, allowance, thresholds, passages):  # type: ignore[no-untyped-def]
    """Days until two-sided sums of independent scores first pass each of the rising ``thresholds``.

    Parameters
    ----------
    scores : ndarray of shape (n_days,)
        Scores of one run.
    offset : float
        Added to every score: the size of a change that is there from the start.
    thresholds, passages : ndarray of shape (n_thresholds,)
        A threshold that is not passed keeps its place in ``passages``.
    """
    up, down, level = 0.0, 0.0, 0
    for t in range(len(scores)):
        up = max(0.0, up + scores[t] + offset - allowance)
        down = max(0.0, down - scores[t] - offset - allowance)
        while level < len(thresholds) and max(up, down) > thresholds[level]:
            passages[level] = t + 1.0
            level += 1


def standardised_plain(returns: np.ndarray, decay: float, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Standardised returns, variances of the day after)."""
    out = np.zeros_like(returns)
    for t, day in enumerate(returns):
        moving = variances > 0
        out[t, moving] = day[moving] / np.sqrt(variances[moving])
        variances = decay * variances + (1 - decay) * day**2
    return out, variances


def sequential_ranks_plain(values: np.ndarray) -> np.ndarray:
    """The definition: mid-rank among the values so far, the value itself counted half."""
    return np.array(
        [
            ((values[:t] < values[t]).sum() + (values[:t] <= values[t]).sum() + 1) / (2 * (t + 1))
            for t in range(len(values))
        ]
    )


def cusum_plain(scores: np.ndarray, allowance: float, threshold: float, start: int) -> tuple[int, int, int]:
    """The definition: a sum is its walk less the walk's least value so far."""
    for t in range(start, len(scores)):
        reached, since = {}, {}
        for direction in (1, -1):
            walk = np.concatenate([[0.0], np.cumsum(direction * scores[start : t + 1] - allowance)])
            lowest = len(walk) - 1 - int(np.argmin(walk[::-1]))  # the last of equal lows
            reached[direction], since[direction] = walk[-1] - walk[lowest], start + lowest
        direction = 1 if reached[1] >= reached[-1] else -1
        if reached[direction] > threshold:
            return t, since[direction], direction
    return -1, -1, 0


def run_lengths_plain(scores: np.ndarray, hazard: float, precision: float) -> np.ndarray:
    """Probabilities of the run lengths 0 .. t + 1 after every score, shape (n, n + 1)."""
    n = len(scores)
    weights, found = np.array([1.0]), np.zeros((n, n + 1))
    for t in range(n):
        runs = np.arange(t + 1)
        sums = np.array([scores[t - run : t].sum() for run in runs])
        spread = 1 + 1 / (precision + runs)
        joint = weights * np.exp(-0.5 * (scores[t] - sums / (precision + runs)) ** 2 / spread) / np.sqrt(spread)
        weights = np.concatenate([[hazard * joint.sum()], (1 - hazard) * joint]) / joint.sum()
        found[t, : t + 2] = weights
    return found


def first_passages_plain(scores: np.ndarray, allowance: float, threshold: float) -> int:
    """Scores until an alarm, one threshold at a time; 0 without one."""
    return cusum_plain(scores, allowance, threshold, 0)[0] + 1


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    scores, buffer = np.array([0.1, 2.0, -1.0]), np.zeros(3)
    standardised(np.ones((3, 2)), 0.94, np.ones(2), np.empty((3, 2)))
    sequential_ranks(scores, buffer.copy(), buffer.copy())
    cusum(scores, 0.25, 8.0, 0, buffer)
    run_lengths(scores, 0.001, 1.0, 2, 1, 0.9, np.empty(3), np.empty(3), buffer)
    first_passages(scores, 0.0, 0.25, np.array([1.0, 8.0]), np.zeros(2))
