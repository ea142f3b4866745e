"""The panel: laws of moves, books, sizes and methods, fixed before anything was measured.

Moves are those of one day; losses are positive. Symbols have daily volatilities from 1 % to 2.5 % and correlate at 0.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH
from actors.risk.sampling import Factor, Gaussian, JumpDiffusion, Model, StudentT

DIMENSIONS = (1, 5, 20, 100)
LAWS = ("gaussian", "student_t", "jump_diffusion")
BOOKS = ("linear", "delta_gamma", "options")
CONFIDENCES = (0.95, 0.99, 0.999)
MEASURES = ("var", "cvar")
SIZES = (2**8, 2**10, 2**12, 2**14, 2**16)
METHODS = (
    *("plain", "antithetic", "control_variate", "stratified", "sobol_cholesky", "sobol_pca", "sobol_directed"),
    "importance",
)
REPLICATIONS = {2**8: 1000, 2**10: 1000, 2**12: 1000, 2**14: 300, 2**16: 100}
"""Independent randomisations by size; the largest sizes are where errors are small, not where they are in doubt."""
IMPORTANCE_SHARE = {2**14: 3, 2**16: 3}
"""Importance sampling draws anew for every book and confidence: at these sizes it has a third of the replications."""

CORRELATION = 0.3
DEGREES = 4.0
JUMPS_A_DAY = 0.05
JUMP_MEAN, JUMP_DEVIATION = -0.03, 0.04
VOLATILITY = 0.30  # a year, of every option
DAY = 1.0 / 252.0
TABLE = np.linspace(-0.995, 3.0, 2**14)  # moves at which options are priced exactly; between them by cubics


@dataclass(frozen=True)
class Option:
    """One kind of option on a symbol whose price is 1."""

    quantity: float
    call: bool
    strike: float
    years: float


OPTIONS = (
    Option(-1.0, call=False, strike=1.00, years=0.25),
    Option(+1.0, call=True, strike=1.00, years=0.25),
    Option(-1.0, call=False, strike=0.95, years=1 / 12),
    Option(-0.5, call=True, strike=1.05, years=1 / 12),
)
"""Symbol i carries option i mod 4."""


def volatilities(dimension: int) -> np.ndarray:
    """Daily standard deviations, shape (dimension,)."""
    return np.linspace(0.010, 0.025, dimension) if dimension > 1 else np.array([0.015])


def covariance(dimension: int) -> np.ndarray:
    """Daily covariance, shape (dimension, dimension)."""
    deviations = volatilities(dimension)
    correlation = np.full((dimension, dimension), CORRELATION)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation * np.outer(deviations, deviations))


def law(name: str, dimension: int, factor: Factor = "pca", direction: np.ndarray | None = None) -> Model:
    """The joint law of the moves of one day."""
    mean, spread = np.zeros(dimension), covariance(dimension)
    if name == "gaussian":
        return Gaussian(mean, spread, factor=factor, direction=direction)
    if name == "student_t":
        return StudentT(mean, spread, DEGREES, factor=factor, direction=direction)
    jump = np.ones(dimension)
    return JumpDiffusion(
        mean, spread, JUMPS_A_DAY, JUMP_MEAN * jump, JUMP_DEVIATION * jump, factor=factor, direction=direction
    )


def weights(dimension: int) -> np.ndarray:
    """Equal weights, summing to 1."""
    return np.full(dimension, 1.0 / dimension)


@dataclass(frozen=True)
class Sensitivities:
    """Gain for a move of 1, and what that gains for one, by symbol; shapes (dimension,)."""

    delta: np.ndarray
    gamma: np.ndarray


def sensitivities(book: str, dimension: int) -> Sensitivities:
    """Delta and gamma of a book at today's prices."""
    share = weights(dimension)
    if book == "linear":
        return Sensitivities(share, np.zeros(dimension))
    if book == "delta_gamma":
        return Sensitivities(share, share * np.where(np.arange(dimension) % 2 == 0, -40.0, 15.0))
    kinds = [OPTIONS[i % len(OPTIONS)] for i in range(dimension)]
    step = 1e-4
    prices = np.array([[_price(kind, 1.0 + move, DAY) for move in (-step, 0.0, step)] for kind in kinds])
    delta = (prices[:, 2] - prices[:, 0]) / (2 * step)
    gamma = (prices[:, 2] - 2 * prices[:, 1] + prices[:, 0]) / step**2
    return Sensitivities(share * delta, share * gamma)


def loss_of(book: str, dimension: int) -> Callable[[np.ndarray], np.ndarray]:
    """The book's loss, shape (n,), as a function of moves of shape (n, dimension): the thing to be evaluated."""
    if book == "options":
        tables = np.array([[_gain(kind, move) for move in TABLE] for kind in OPTIONS])
        return lambda moves: _option_losses(np.ascontiguousarray(moves), tables)
    greeks = sensitivities(book, dimension)
    if book == "linear":
        return lambda moves: -(moves @ greeks.delta)
    return lambda moves: -(moves @ greeks.delta + 0.5 * (moves**2 @ greeks.gamma))


def exact_option_losses(moves: np.ndarray) -> np.ndarray:
    """The options' loss by Black and Scholes without a table, shape (n,)."""
    gains = [[_gain(OPTIONS[i % len(OPTIONS)], move) for i, move in enumerate(row)] for row in moves]
    return np.asarray(-np.mean(gains, axis=1))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _option_losses(moves: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Cubic (Catmull-Rom) interpolation in the tables; a move beyond them is valued at their end."""
    n, d = moves.shape
    nodes = tables.shape[1]
    first, step = -0.995, 3.995 / (nodes - 1)
    losses = np.empty(n)
    for row in range(n):
        gain = 0.0
        for i in range(d):
            place = min(max((moves[row, i] - first) / step, 1.0), nodes - 2.001)
            at = int(place)
            u = place - at
            kind = i % 4
            a, b, c, e = tables[kind, at - 1], tables[kind, at], tables[kind, at + 1], tables[kind, at + 2]
            gain += b + 0.5 * u * (c - a + u * (2.0 * a - 5.0 * b + 4.0 * c - e + u * (3.0 * (b - c) + e - a)))
        losses[row] = -gain / d
    return losses


def _gain(kind: Option, move: float) -> float:
    return kind.quantity * (_value(kind, 1.0 + move, kind.years - DAY) - _value(kind, 1.0, kind.years))


def _price(kind: Option, price: float, passed: float) -> float:
    return kind.quantity * _value(kind, price, kind.years - passed)


def _value(kind: Option, price: float, years: float) -> float:
    """Black and Scholes (1973) at a rate of zero."""
    spread = VOLATILITY * math.sqrt(years)
    up = (math.log(price / kind.strike) + 0.5 * spread**2) / spread
    call = price * _normal(up) - kind.strike * _normal(up - spread)
    return call if kind.call else call - price + kind.strike


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
