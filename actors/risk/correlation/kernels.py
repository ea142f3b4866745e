"""A day in microseconds: correlation carried forward by EWMA or DCC, its mean, and the sums that watch it for a change.

Each monitor owns one block of memory; a step changes it in place and allocates nothing. The change statistic is that of
:mod:`.changes`, its rank taken among a reference of past days that stays as it is until the monitor is built anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from actors.risk.correlation.changes import ALLOWANCE, WATCHED_DAYS, scores_of_ranks, shares, standardise, threshold_for
from actors.risk.correlation.dcc import Dcc
from actors.risk.covariance import correlation_of, ewma, mean_pair
from actors.risk.garch import Garch
from cluster.errors import InvalidMarketData

FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

# Places in ``state``, beside the matrix and the reference
UP, DOWN, SHARE, MEAN = 0, 1, 2, 3  # the two sums, the day's share of common movement, the mean pair correlation
# 4, 5: the decay, or a and b; 6: the allowance of the sums
STATES = 7

EWMA_ROWS = 2  # scales 1 / deviation, shocks
DCC_ROWS = 7  # after the target: mu, omega, alpha, beta, variance, shocks, scales


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def ewma_step(moves, matrix, rows, reference, state):  # type: ignore[no-untyped-def]
    """Carry an exponentially weighted covariance one day on, and judge the day.

    Parameters
    ----------
    moves : ndarray of shape (n,)
        The day's returns; where one is not finite nothing is changed and the answer is NaN.
    matrix : ndarray of shape (n, n)
        Covariance, in the upper triangle.
    rows : ndarray of shape (2, n)
        Overwritten with scales and shocks.
    reference : ndarray of shape (2, m + 1)
        Past shares in rising order with infinity behind them, and the normal score of a share in each of the m + 1
        gaps.
    state : ndarray of shape (7,)

    Returns
    -------
    float
        Mean pair correlation after the day.
    """
    n = len(moves)
    total = 0.0
    for i in range(n):
        total += moves[i]
    if not math.isfinite(total):
        return math.nan
    decay = state[4]
    fresh = 1.0 - decay
    for i in range(n):
        rows[1, i] = moves[i] / math.sqrt(matrix[i, i]) if matrix[i, i] > 0.0 else 0.0
        variance = decay * matrix[i, i] + fresh * moves[i] * moves[i]
        rows[0, i] = 1.0 / math.sqrt(variance) if variance > 0.0 else 0.0
    _judge(rows[1], reference, state, n)
    common = 0.0
    for i in range(n):
        pull = fresh * moves[i]
        row = 0.0
        matrix[i, i] = decay * matrix[i, i] + pull * moves[i]
        for j in range(i + 1, n):
            matrix[i, j] = decay * matrix[i, j] + pull * moves[j]
        for j in range(i + 1, n):  # apart from the writing above, so that both loops run in vector registers
            row += matrix[i, j] * rows[0, j]
        common += row * rows[0, i]
    state[MEAN] = 2.0 * common / (n * (n - 1.0))
    return state[MEAN]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def dcc_step(moves, matrix, rows, reference, state):  # type: ignore[no-untyped-def]
    """Carry GARCH variances and q of a DCC(1,1) one day on, and judge the day.

    Parameters
    ----------
    moves : ndarray of shape (n,)
        The day's returns; where one is not finite nothing is changed and the answer is NaN.
    matrix : ndarray of shape (n, n)
        q of this day, in the upper triangle; of the next day afterwards.
    rows : ndarray of shape (n + 7, n)
        The target; then mu, omega, alpha, beta and this day's variance of every symbol (the next day's afterwards),
        and room for shocks and scales.
    reference, state
        As in :func:`ewma_step`; ``state`` holds a and b.

    Returns
    -------
    float
        Mean pair correlation forecast for the next day.
    """
    n = len(moves)
    total = 0.0
    for i in range(n):
        total += moves[i]
    if not math.isfinite(total):
        return math.nan
    a, b = state[4], state[5]
    constant = 1.0 - a - b
    for i in range(n):
        shock = moves[i] - rows[n, i]
        rows[n + 5, i] = shock / math.sqrt(rows[n + 4, i])
        rows[n + 4, i] = rows[n + 1, i] + rows[n + 2, i] * shock * shock + rows[n + 3, i] * rows[n + 4, i]
        moved = constant * rows[i, i] + a * rows[n + 5, i] * rows[n + 5, i] + b * matrix[i, i]
        rows[n + 6, i] = 1.0 / math.sqrt(moved)
    _judge(rows[n + 5], reference, state, n)
    common = 0.0
    for i in range(n):
        pull = a * rows[n + 5, i]
        row = 0.0
        matrix[i, i] = constant * rows[i, i] + pull * rows[n + 5, i] + b * matrix[i, i]
        for j in range(i + 1, n):
            matrix[i, j] = constant * rows[i, j] + pull * rows[n + 5, j] + b * matrix[i, j]
        for j in range(i + 1, n):  # apart from the writing above, so that both loops run in vector registers
            row += matrix[i, j] * rows[n + 6, j]
        common += row * rows[n + 6, i]
    state[MEAN] = 2.0 * common / (n * (n - 1.0))
    return state[MEAN]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _judge(shocks, reference, state, n):  # type: ignore[no-untyped-def]
    """Share of common movement of a day's shocks, its score among the reference, and the two sums; still days count
    for nothing."""
    alike, squares = 0.0, 0.0
    for i in range(n):
        alike += shocks[i]
        squares += shocks[i] * shocks[i]
    if squares > 0.0:
        share = alike * alike / (n * squares)
        low, high = 0, reference.shape[1] - 1
        while low < high:
            middle = (low + high) // 2
            if reference[0, middle] < share:
                low = middle + 1
            else:
                high = middle
        state[UP] = max(0.0, state[UP] + reference[1, low] - state[6])
        state[DOWN] = max(0.0, state[DOWN] - reference[1, low] - state[6])
        state[SHARE] = share


@dataclass(frozen=True)
class Monitor:
    """Correlation as it stands, on memory of its own; ``step`` is what a day costs."""

    kernel: Callable[..., float]
    matrix: np.ndarray
    rows: np.ndarray
    reference: np.ndarray
    state: np.ndarray
    threshold: float

    def step(self, moves: np.ndarray) -> float:
        """Mean pair correlation after a day's returns, shape (n,).

        Raises
        ------
        InvalidMarketData
            A return is not finite; nothing has changed.
        """
        mean = self.kernel(moves, self.matrix, self.rows, self.reference, self.state)
        if math.isnan(mean):
            raise InvalidMarketData("a return of the day is not finite", "Correct it and give the day again")
        return mean

    @property
    def alarm(self) -> int:
        """1 or -1 once correlation is called risen or fallen, else 0."""
        if max(self.state[UP], self.state[DOWN]) <= self.threshold:
            return 0
        return 1 if self.state[UP] >= self.state[DOWN] else -1

    @property
    def correlation(self) -> np.ndarray:
        """The matrix as it stands, shape (n, n)."""
        upper = np.triu(self.matrix)
        return correlation_of(upper + np.triu(upper, 1).T)


def ewma_monitor(returns: np.ndarray, decay: float, false_alarm_days: int = 1000) -> Monitor:
    """A monitor that stands at the end of ``returns``, shape (n_days, n), all of which are its reference.

    Raises
    ------
    InvalidMarketData
        Fewer than two symbols or ``WATCHED_DAYS`` days, a value that is not finite, or a symbol that does not move.
    """
    reference, matrix = _reference(returns), ewma(returns, decay)
    state = np.array([0.0, 0.0, 0.0, mean_pair(correlation_of(matrix)), decay, 0.0, ALLOWANCE])
    rows = np.zeros((EWMA_ROWS, len(matrix)))
    return Monitor(ewma_step, matrix, rows, reference, state, threshold_for("cusum", false_alarm_days))


def dcc_monitor(returns: np.ndarray, fit: Dcc, margins: Sequence[Garch], false_alarm_days: int = 1000) -> Monitor:
    """A monitor that stands at the end of ``returns``, which ``fit`` and ``margins`` were fitted to.

    Raises
    ------
    InvalidMarketData
        As :func:`ewma_monitor`; or the fit is a corrected one, whose driver this step does not make.
    """
    if fit.corrected:
        raise InvalidMarketData("a corrected DCC has no monitor", "Fit the plain one")
    n = returns.shape[1]
    rows = np.zeros((n + DCC_ROWS, n))
    rows[:n] = fit.target
    for row, name in enumerate(("mu", "omega", "alpha", "beta", "next_variance")):
        rows[n + row] = [getattr(margin, name) for margin in margins]
    state = np.array([0.0, 0.0, 0.0, mean_pair(fit.correlation), fit.a, fit.b, ALLOWANCE])
    threshold = threshold_for("cusum", false_alarm_days)
    return Monitor(dcc_step, np.array(fit.q, order="C"), rows, _reference(returns), state, threshold)


def ewma_step_plain(moves: np.ndarray, covariance: np.ndarray, decay: float) -> tuple[np.ndarray, float, float]:
    """(Covariance after the day, mean pair correlation, the day's share of common movement) by their definitions."""
    shocks = moves / np.sqrt(np.diag(covariance))
    following = decay * covariance + (1 - decay) * np.outer(moves, moves)
    r, n = correlation_of(following), len(moves)
    return following, float((r.sum() - n) / (n * (n - 1))), float(shocks.sum() ** 2 / (n * (shocks @ shocks)))


def dcc_step_plain(
    moves: np.ndarray, q: np.ndarray, variances: np.ndarray, margins: Sequence[Garch], fit: Dcc
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """(q and variances of the next day, its mean pair correlation, the day's share) by their definitions."""
    e = moves - np.array([margin.mu for margin in margins])
    z = e / np.sqrt(variances)
    ahead = np.array([m.omega + m.alpha * x**2 + m.beta * h for m, x, h in zip(margins, e, variances, strict=True)])
    following = (1 - fit.a - fit.b) * fit.target + fit.a * np.outer(z, z) + fit.b * q
    r, n = correlation_of(following), len(moves)
    return following, ahead, float((r.sum() - n) / (n * (n - 1))), float(z.sum() ** 2 / (n * (z @ z)))


def _reference(returns: np.ndarray) -> np.ndarray:
    """Shares of the days of ``returns`` in rising order, and the score of each gap between them."""
    shocks, _ = standardise(returns)
    past = np.sort(shares(shocks[WATCHED_DAYS // 2 :], "mean_correlation"))
    gaps = np.arange(len(past) + 1)
    return np.vstack([np.append(past, np.inf), scores_of_ranks((gaps + 0.5) / (len(past) + 1))])


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    reference = np.array([[0.2, 0.6, np.inf], [-1.0, 0.0, 1.0]])
    moves = np.array([0.01, 0.02])
    for kernel, rows in ((ewma_step, EWMA_ROWS), (dcc_step, 2 + DCC_ROWS)):
        kernel(moves, np.ones((2, 2)), np.ones((rows, 2)), reference, np.ones(STATES))
