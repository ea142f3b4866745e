"""Whether trading towards an aim pays: modelled cost against the utility gained, and how far to go.

Utility is annual return - aversion / 2 x annual variance. Cost is paid once and spread over the holding period. A move
of a share of the way gains like 2s - s^2 of the whole (utility is a parabola there) and costs more than in proportion
under square-root impact, so the last steps are the first that do not pay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

TRADING_DAYS = 252
STEPS = 20  # shares of the way that are tried


@dataclass(frozen=True)
class Costs:
    """What trading costs; arrays have shape (n_positions,)."""

    half_spreads: np.ndarray
    """Fractions of the amount traded."""
    impact: np.ndarray
    """Cost of trading weight w is impact x |w|^1.5, fractions of value; 0 where volumes are unknown."""

    def of(self, trades: np.ndarray) -> float:
        """Cost of trades, signed changes of weight, a fraction of value."""
        size = np.abs(trades)
        return float(self.half_spreads @ size + self.impact @ size**1.5)


@dataclass(frozen=True)
class Plan:
    """A share of the way and what it brings; figures are annual returns."""

    share: float
    gain: float
    cost: float
    trade: bool


def costs_of(
    spreads: np.ndarray,
    volumes: np.ndarray,
    unit_exposures: np.ndarray,
    volatilities: np.ndarray,
    value: float | None,
    *,
    default_half_spread: float,
    coefficient: float,
) -> Costs:
    """Half spreads and square-root impact where they are stated, ``default_half_spread`` where no spread is.

    Parameters
    ----------
    spreads, volumes, unit_exposures : ndarray of shape (n_positions,)
        As in :class:`hive.messages.portfolio.Book`; NaN where unknown.
    volatilities : ndarray of shape (n_positions,)
        Daily.
    """
    half = np.where(np.isfinite(spreads), spreads / 2, default_half_spread)
    daily = volumes * unit_exposures
    known = np.isfinite(daily) & (daily > 0) & (value is not None)
    share = np.where(known, (value or 0.0) / np.where(known, daily, 1.0), 0.0)
    return Costs(half, coefficient * volatilities * np.sqrt(share))


def plan(
    current: np.ndarray,
    aim: np.ndarray,
    means: np.ndarray,
    covariance: np.ndarray,
    costs: Costs,
    *,
    aversion: float,
    holding_days: float,
    band: float,
    obeys: Callable[[np.ndarray], bool] | None = None,
) -> Plan:
    """The share of the way with the largest utility net of cost, and whether it clears the band.

    Where the weights at that share may not be held, the plan is the whole way: always where the current ones may not
    be held either, else if the whole way clears the band.

    Parameters
    ----------
    current, aim : ndarray of shape (n,)
        Weights.
    means, covariance : ndarray of shape (n,), (n, n)
        Of annual returns.
    holding_days : float
        Trading days that the new weights are expected to be held: the cost is spread over them.
    band : float
        Annual return by which the gain must exceed the cost before anything is traded (no-trade band).
    obeys : callable, optional
        Whether weights may be held; the aim may.
    """

    def utility(weights: np.ndarray) -> float:
        return float(means @ weights - aversion / 2 * weights @ covariance @ weights)

    way, now = aim - current, utility(current)

    def at(share: float) -> Plan:
        gain = utility(current + share * way) - now
        cost = costs.of(share * way) * TRADING_DAYS / holding_days
        return Plan(share, gain, cost, trade=gain - cost > band)

    best = Plan(0.0, 0.0, 0.0, trade=False)
    for share in np.linspace(1 / STEPS, 1.0, STEPS):
        tried = at(float(share))
        if tried.gain - tried.cost > best.gain - best.cost:
            best = tried
    best = best if best.trade else replace(best, share=0.0)
    if obeys is None or best.share == 1.0 or obeys(current + best.share * way):
        return best
    whole = at(1.0)
    if not obeys(current):
        return replace(whole, trade=True)
    return whole if whole.trade else replace(whole, share=0.0)
