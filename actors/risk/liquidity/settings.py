"""Settings of liquidity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class LiquiditySettings:
    """How selling is modelled. Nothing here is fitted: fit the coefficient to your own fills where you have them."""

    methods: tuple[str, ...] = ("impact", "schedule", "conditions", "funding")
    """Methods applied where a calculation names none; all of them are cheap."""
    participation: Annotated[float, Interval(gt=0, le=1)] = 0.10
    """Largest share of a day's volume that is sold."""
    impact_coefficient: Annotated[float, Gt(0)] = 1.0
    """Y in cost = Y s sqrt(Q/V); of order one across markets (Toth et al. 2011)."""
    impact_coefficient_low: Annotated[float, Gt(0)] = 0.5
    """Lower end of the range of Y that the interval spans."""
    impact_coefficient_high: Annotated[float, Gt(0)] = 1.5
    """Upper end of the range of Y that the interval spans."""
    volatility_days: Annotated[int, Ge(2)] = 63
    """Days the daily volatility s is estimated on."""
    profile_days: tuple[Annotated[int, Ge(1)], ...] = (1, 2, 5, 10, 20)
    """Days after which the share sold is reported."""
    permanent_coefficient: Annotated[float, Ge(0)] = 0.314
    """Permanent impact of selling Q of V: this times s Q / V (Almgren, Thum, Hauptmann & Li 2005)."""
    schedule_days: Annotated[int, Interval(ge=1, le=250)] = 10
    """Trading days over which a schedule sells, at least those that the slowest position takes."""
    schedule_risk_aversion: Annotated[float, Ge(0)] = 1e-6
    """Aversion lambda of Almgren and Chriss's cost + lambda x variance, per unit of money."""
    full_depth: Annotated[float, Gt(0)] = 100_000.0
    """Money at the touch from which depth is no matter (requirements risk 5.6)."""
    haircut: Annotated[float, Interval(ge=0, lt=1)] = 0.05
    """Part of the proceeds of a sale that funding does not count on."""
    stressed_days: Annotated[float, Gt(0)] = 10.0
    """Days to liquidate that make its component of the stress index 1."""
    stressed_cost: Annotated[float, Gt(0)] = 0.05
    """Cost of selling the book, a fraction of value, that makes its component 1."""
    elevated_index: Annotated[float, Interval(gt=0, lt=1)] = 0.35
    """Stress index from which the state is ELEVATED."""
    stressed_index: Annotated[float, Interval(gt=0, le=1)] = 0.65
    """Stress index from which the state is STRESSED and an alert is raised."""
