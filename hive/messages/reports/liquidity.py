"""What the liquidity agent reports."""

from __future__ import annotations

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
class LiquidityReport:
    """How long the book takes to sell and what that costs, over the positions whose volume is known."""

    positions: tuple[PositionLiquidity, ...]
    covered: float
    """Share of gross exposure whose volume and price are known."""
    estimates: tuple[Estimate, ...]
    profile: tuple[tuple[int, float], ...]
    """Share of the covered gross exposure sold after so many days."""

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return self.estimates
