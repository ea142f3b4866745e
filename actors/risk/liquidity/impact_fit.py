"""Impact fitted to a desk's own fills: I = alpha s (Q / V)^beta g(tau), g(tau) = (tau0 / tau)(1 - exp(-tau / tau0)).

g falls from 1 with the duration of the trade: the slower, the cheaper (requirements execution 5.2, corrected).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.risk.measures import Z_INTERVAL
from cluster.errors import InvalidMarketData

BPS = 1e4
FEWEST_FILLS = 30


@dataclass(frozen=True)
class Fills:
    """Trades of one instrument or of alike ones; arrays of shape (n_fills,)."""

    quantities: np.ndarray
    """Units, of either sign."""
    volumes: np.ndarray
    """Units the market trades on a day."""
    volatilities: np.ndarray
    """Daily, fractions."""
    durations: np.ndarray
    """Seconds."""
    costs: np.ndarray
    """Shortfall against arrival, basis points, positive for a cost."""


@dataclass(frozen=True)
class ImpactFit:
    """Estimates with their 95 % intervals (lower, upper), by White's standard errors."""

    alpha: float
    beta: float
    tau0: float
    """Seconds."""
    alpha_interval: tuple[float, float]
    beta_interval: tuple[float, float]
    tau0_interval: tuple[float, float]
    residual_bps: float
    """Standard deviation of the costs that the law leaves unexplained."""
    fills: int


def impact_bps(
    quantity: float, volume: float, volatility: float, duration: float, *, alpha: float, beta: float, tau0: float
) -> float:
    """Impact in basis points; 0 for no quantity.

    Raises
    ------
    InvalidMarketData
        The volume is not positive: that is missing data, not a free trade.
    """
    if not volume > 0:
        raise InvalidMarketData(f"a daily volume of {volume!r} has no impact law", "Give the volume of an average day")
    if quantity == 0:
        return 0.0
    return float(alpha * volatility * (abs(quantity) / volume) ** beta * decay(np.array([duration]), tau0)[0] * BPS)


def decay(durations: np.ndarray, tau0: float) -> np.ndarray:
    """g of durations in seconds, shape (n,): 1 at 0, falling like tau0 / tau."""
    x = np.maximum(durations, 0.0) / tau0
    return np.asarray(np.where(x > 1e-6, -np.expm1(-x) / np.where(x > 1e-6, x, 1.0), 1.0 - x / 2))


def fit_impact(fills: Fills) -> ImpactFit:
    """Nonlinear least squares in the logarithms of alpha, beta and tau0, with sandwich errors.

    Raises
    ------
    InvalidMarketData
        Fewer than ``FEWEST_FILLS``, values out of range, or costs that determine no law.
    """
    from scipy.optimize import least_squares

    n = len(fills.costs)
    if n < FEWEST_FILLS:
        raise InvalidMarketData(f"{n} fills fit no impact law", f"Give at least {FEWEST_FILLS}")
    arrays = (fills.quantities, fills.volumes, fills.volatilities, fills.durations, fills.costs)
    if not all(len(a) == n and np.isfinite(a).all() for a in arrays):
        raise InvalidMarketData("a fill holds a value that is not finite, or a column is short", "Correct the fills")
    if not ((fills.volumes > 0).all() and (fills.volatilities > 0).all() and (fills.durations > 0).all()):
        raise InvalidMarketData("a fill has a volume, volatility or duration that is not positive", "Correct the fills")
    size = np.abs(fills.quantities) / fills.volumes
    traded = size > 0
    size, volatility = size[traded], fills.volatilities[traded]
    durations, costs = fills.durations[traded], fills.costs[traded]

    def misses(theta: np.ndarray) -> np.ndarray:
        alpha, beta, tau0 = np.exp(theta)
        return np.asarray(alpha * volatility * size**beta * decay(durations, tau0) * BPS - costs)

    start = np.log([0.5, 0.5, float(np.median(durations))])
    found = least_squares(misses, start, x_scale="jac", max_nfev=500)
    jacobian, residuals = found.jac, found.fun
    normal = jacobian.T @ jacobian
    if not found.success or np.linalg.cond(normal) > 1e12:
        raise InvalidMarketData("the fills do not determine the impact law", "Give fills of more sizes and durations")
    bread = np.linalg.inv(normal)
    errors = np.sqrt(np.diag(bread @ ((jacobian * residuals[:, None] ** 2).T @ jacobian) @ bread))
    low, high = np.exp(found.x - Z_INTERVAL * errors), np.exp(found.x + Z_INTERVAL * errors)
    alpha, beta, tau0 = np.exp(found.x).tolist()
    spans = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return ImpactFit(
        alpha=alpha,
        beta=beta,
        tau0=tau0,
        alpha_interval=spans[0],
        beta_interval=spans[1],
        tau0_interval=spans[2],
        residual_bps=float(residuals.std(ddof=3)),
        fills=int(traded.sum()),
    )
