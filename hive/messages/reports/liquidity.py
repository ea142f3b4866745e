"""What the liquidity agent reports."""

from __future__ import annotations

import numpy as np

from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class PositionLiquidity:
    """One position against the market's volume; None where no volume or price is known."""

    symbol: str
    exposure: float | None
    """Signed money."""
    participation_days: float | None
    """Days to sell at the allowed share of daily volume."""
    cost: float | None
    """Half spread and impact, money."""
    note: str = ""


@message
class Conditions:
    """How liquid the market of one position is now, against its usual state."""

    symbol: str
    score: float
    """0 (usual) to 1 (worst)."""
    advice: str
    """``NORMAL_TRADING``, ``REDUCE_SIZE``, ``LIMIT_ORDERS_ONLY`` or ``AVOID_TRADING``."""
    volume_ratio: float | None
    spread_ratio: float | None
    depth: float | None
    """Money at the touch."""
    factors: tuple[str, ...]
    """What makes the score, in words; what is not stated counts as worst."""


@message
class Schedule:
    """Selling the covered part of the book day by day, one way."""

    name: str
    method_label: str
    remaining: np.ndarray
    """Share of the covered gross exposure still held at the end of each day, from day 0, shape (n_days + 1,)."""
    cost: Estimate
    """Expected cost, a fraction of value."""
    deviation: Estimate
    """Standard deviation of what the sale brings, a fraction of value."""


@message
class FundingGap:
    """Cash up to one tenor, money in the book's currency."""

    tenor_days: int
    net_flow: float
    """Stated inflows less outflows up to the tenor."""
    proceeds: float
    """What selling the covered part of the book brings by then, after cost and haircut."""
    gap: Estimate
    """Cash missing after the proceeds, positive; 0 where there is enough."""


@message
class StressIndex:
    """Liquidity stress of the book, 0 to 1, and what it is made of."""

    value: float
    state: str
    """``NORMAL``, ``ELEVATED`` or ``STRESSED``."""
    components: dict[str, float]
    """Each 0 to 1; those that nothing is known of are left out."""


@message
class LiquidityReport:
    """How long the book takes to sell and what that costs, over the positions whose volume is known."""

    positions: tuple[PositionLiquidity, ...]
    covered: float
    """Share of gross exposure whose volume and price are known."""
    estimates: tuple[Estimate, ...]
    profile: tuple[tuple[int, float], ...]
    """Share of the covered gross exposure sold after so many days."""
    schedules: tuple[Schedule, ...] = ()
    conditions: tuple[Conditions, ...] = ()
    """Of the positions of which at least one of volume, spread and depth is stated."""
    funding: tuple[FundingGap, ...] = ()
    survival_days: int | None = None
    """Tenor before the first gap; None where there is none, or no flows are stated."""
    stress: StressIndex | None = None

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return (
            *self.estimates,
            *(e for schedule in self.schedules for e in (schedule.cost, schedule.deviation)),
            *(found.gap for found in self.funding),
        )
