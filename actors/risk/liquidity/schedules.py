"""Schedules to sell a position: evenly, along a volume profile, or along Almgren and Chriss's optimal trajectory.

Almgren & Chriss (2000) in discrete time: N trades at intervals tau, permanent impact gamma per unit, temporary impact
epsilon + eta x rate, arithmetic price moves of deviation sigma per unit and square root of time. Costs are positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cluster.errors import InvalidRequest


@dataclass(frozen=True)
class Market:
    """Impact of one market; time in days, quantity in units, money in any currency."""

    deviation: float
    """Of the price over a day, money per unit (not a fraction)."""
    spread_cost: float
    """epsilon: fixed cost of selling one unit, such as half the spread."""
    permanent: float
    """gamma: fall of the price per unit sold."""
    temporary: float
    """eta: concession per unit and unit a day."""

    def __post_init__(self) -> None:
        for name in ("deviation", "spread_cost", "permanent", "temporary"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidRequest(f"market {name} is {value!r}", "Give a finite number from 0")


@dataclass(frozen=True)
class Outcome:
    """What a schedule costs, money: expected, and its variance."""

    expected: float
    variance: float

    def utility(self, aversion: float) -> float:
        """expected + aversion x variance."""
        return self.expected + aversion * self.variance


def twap(quantity: float, steps: int) -> np.ndarray:
    """Units held after 0, 1, ... ``steps`` equal trades, shape (steps + 1,)."""
    return vwap(quantity, np.ones(_steps(steps)))


def vwap(quantity: float, profile: np.ndarray) -> np.ndarray:
    """Units held when trades follow a volume profile, shape (len(profile) + 1,).

    Raises
    ------
    InvalidRequest
        A profile that is not positive somewhere, negative anywhere, or not finite.
    """
    profile = np.asarray(profile, dtype=float)
    if profile.ndim != 1 or not np.isfinite(profile).all() or (profile < 0).any() or not profile.sum() > 0:
        raise InvalidRequest("the volume profile is no share of a day's volume", "Give numbers from 0, one above it")
    return quantity * np.concatenate([[1.0], 1.0 - np.cumsum(profile) / profile.sum()])


def almgren_chriss(quantity: float, market: Market, days: float, steps: int, aversion: float) -> np.ndarray:
    """Units held along the trajectory of least expected cost + aversion x variance, shape (steps + 1,).

    x_k = X sinh(kappa (T - t_k)) / sinh(kappa T), where kappa solves
    2 (cosh(kappa tau) - 1) = tau^2 lambda sigma^2 / (eta - gamma tau / 2).

    Raises
    ------
    InvalidRequest
        The temporary impact is too small beside the permanent one for the problem to be convex.
    """
    tau = days / _steps(steps)
    eta = market.temporary - market.permanent * tau / 2
    if not eta > 0:
        raise InvalidRequest(
            f"temporary impact {market.temporary:g} is not above gamma tau / 2 = {market.permanent * tau / 2:g}",
            "Trade in smaller steps, or fit the two anew",
        )
    urgency = aversion * market.deviation**2 / eta
    kappa = math.acosh(1.0 + tau**2 * urgency / 2.0) / tau
    if kappa * days < 1e-8:
        return twap(quantity, steps)
    left = kappa * (days - tau * np.arange(steps + 1))
    # sinh(a) / sinh(b) without overflow: exp(a - b) (1 - exp(-2a)) / (1 - exp(-2b))
    return np.asarray(quantity * np.exp(left - left[0]) * np.expm1(-2 * left) / math.expm1(-2 * left[0]))


def outcome(holdings: np.ndarray, market: Market, days: float) -> Outcome:
    """Expected cost and variance of selling along ``holdings``, shape (steps + 1,), evenly in time over ``days``."""
    tau = days / (len(holdings) - 1)
    sold = -np.diff(holdings)
    quantity = float(holdings[0])
    eta = market.temporary - market.permanent * tau / 2
    expected = 0.5 * market.permanent * quantity**2 + market.spread_cost * float(np.abs(sold).sum())
    expected += eta / tau * float(sold @ sold)
    return Outcome(expected, market.deviation**2 * tau * float(holdings[1:] @ holdings[1:]))


def _steps(steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InvalidRequest(f"{steps!r} trades make no schedule", "Give a whole number from 1")
    return steps
