"""Settings of correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval


@dataclass(frozen=True)
class CorrelationSettings:
    """Windows and thresholds (requirements risk 5.5 and 10.2)."""

    window_days: Annotated[int, Ge(30)] = 252
    """Days the shrunk correlation rests on."""
    ewma_decay: Annotated[float, Interval(gt=0, lt=1)] = 0.94
    """Weight kept from one day to the next (RiskMetrics daily)."""
    pair_medium: Annotated[float, Interval(gt=0, lt=1)] = 0.8
    """Absolute correlation of a pair above which it is reported."""
    pair_high: Annotated[float, Interval(gt=0, lt=1)] = 0.9
    """Absolute correlation of a pair above which it is reported as HIGH."""
    recent_days: Annotated[int, Ge(20)] = 63
    """Days of the recent window in the regime comparison."""
    previous_days: Annotated[int, Ge(20)] = 252
    """Days of the window before it."""
    regime_change: Annotated[float, Interval(gt=0, lt=2)] = 0.1
    """Change of mean pair correlation below which no regime change is called, however sure it is."""
    replications: Annotated[int, Ge(100)] = 500
    """Bootstrap replications of an interval."""
    block_days: Annotated[int, Ge(1)] = 10
    """Length of the blocks of days that the bootstrap draws, to keep their serial dependence."""
