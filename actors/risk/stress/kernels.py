"""Compiled stress: many scenarios of one book on resident moves, each beside its plain twin.

Moves lie symbol by symbol, shape (n_symbols, n_scenarios), so that the innermost loop runs over scenarios.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH, NO_GUESS, tail_of, tail_rows, weighted_rows
from actors.risk.measures import tail
from cluster.errors import InvalidMarketData

SCANNED = 128  # losses counted without a branch, before one of them is looked for


class ScenarioSet:
    """Resident scenarios of one universe, and the buffers to run books on them.

    Parameters
    ----------
    moves : ndarray of shape (n_scenarios, n_symbols)
        What every position earns in every scenario, fractions.

    Raises
    ------
    InvalidMarketData
        A move is not finite, or there is no scenario.
    """

    def __init__(self, moves: np.ndarray) -> None:
        if moves.ndim != 2 or moves.size == 0 or not np.isfinite(moves).all():
            raise InvalidMarketData("the scenarios are empty or hold a move that is not finite", "Correct them")
        self.moves = np.array(moves.T, order="C")
        count = moves.shape[0]
        self.losses, self._scratch = np.empty(count), np.empty(count)
        self._rows, self.contributions = np.empty(count, np.int64), np.empty(moves.shape[1])

    def run(self, weights: np.ndarray) -> tuple[float, int]:
        """(largest loss, its scenario) for weights of shape (n_symbols,); ``contributions`` holds its parts."""
        loss, worst = run_scenarios(weights, self.moves, self.losses, self.contributions)
        if worst < 0:
            raise InvalidMarketData("a weight is not finite", "Correct the book")
        return loss, worst

    def tail(self, weights: np.ndarray, confidence: float) -> tuple[float, float]:
        """(VaR, CVaR) over the scenarios; ``contributions`` holds the parts of CVaR."""
        var, cvar = simulated_tail(
            weights, self.moves, confidence, self.losses, self._scratch, self._rows, self.contributions
        )
        if np.isnan(var):
            raise InvalidMarketData("a weight is not finite", "Correct the book")
        return var, cvar


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def run_scenarios(
    weights: np.ndarray, moves: np.ndarray, losses: np.ndarray, contributions: np.ndarray
) -> tuple[float, int]:
    """(largest loss, its place); losses of all go to ``losses``, those by symbol of the worst to ``contributions``.

    The place is -1 where a loss is not finite.
    """
    weighted_rows(moves, weights, -1.0, losses)
    worst, largest = 0, -np.inf
    for start in range(0, losses.size, SCANNED):
        block = losses[start : start + SCANNED]
        above = 0
        finite = 0
        for s in range(block.size):
            above += block[s] > largest
            finite += abs(block[s]) < np.inf
        if finite < block.size:
            return np.nan, -1
        if above:
            for s in range(block.size):
                if block[s] > largest:
                    largest, worst = block[s], start + s
    for i in range(weights.size):
        contributions[i] = -weights[i] * moves[i, worst]
    return largest, worst


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def simulated_tail(
    weights: np.ndarray,
    moves: np.ndarray,
    confidence: float,
    losses: np.ndarray,
    scratch: np.ndarray,
    rows: np.ndarray,
    contributions: np.ndarray,
) -> tuple[float, float]:
    """(VaR, CVaR) over the scenarios, NaN twice where a loss is not finite; ``contributions`` sum to CVaR."""
    weighted_rows(moves, weights, -1.0, losses)
    var, cvar = tail_of(losses, scratch, confidence, NO_GUESS)
    if np.isnan(var):
        return var, cvar
    found = tail_rows(losses, var, confidence, rows, scratch)
    for i in range(weights.size):
        part = 0.0
        for j in range(found):
            part += scratch[j] * moves[i, rows[j]]
        contributions[i] = -weights[i] * part
    return var, cvar


def run_scenarios_plain(weights: np.ndarray, moves: np.ndarray) -> tuple[float, int, np.ndarray, np.ndarray]:
    """Plain twin of :func:`run_scenarios`: (largest loss, its place, losses, contributions)."""
    losses = -(weights @ moves)
    worst = int(np.argmax(losses))
    return float(losses[worst]), worst, losses, -weights * moves[:, worst]


def simulated_tail_plain(weights: np.ndarray, moves: np.ndarray, confidence: float) -> tuple[float, float, np.ndarray]:
    """Plain twin of :func:`simulated_tail`: (VaR, CVaR, contributions)."""
    from actors.risk.kernels import tail_rows_plain

    losses = -(weights @ moves)
    var, cvar = tail(losses, confidence)
    rows, shares = tail_rows_plain(losses, var, confidence)
    return var, cvar, -weights * (moves[:, rows] @ shares)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    scenarios = ScenarioSet(np.random.default_rng(0).normal(0, 0.01, (400, 5)))
    weights = np.full(5, 0.2)
    scenarios.run(weights)
    scenarios.tail(weights, 0.95)
