"""Settings of liquidity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class LiquiditySettings:
    """How selling is modelled. Nothing here is fitted: fit the coefficient to your own fills where you have them."""

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
