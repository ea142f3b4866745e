"""Settings of correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval


@dataclass(frozen=True)
class CorrelationSettings:
    """Windows and thresholds (requirements risk 5.5 and 10.2)."""

    methods: tuple[str, ...] = ("ledoit_wolf", "ewma", "window_change")
    """Methods applied unasked; the Ledoit-Wolf picture is part of every report."""
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
    spectral_replications: Annotated[int, Ge(50)] = 200
    """Bootstrap replications of the intervals of eigenvalues."""
    cluster_correlation: Annotated[float, Interval(gt=-1, lt=1)] = 0.5
    """Correlation above which, on average, symbols are one cluster."""
    false_alarm_days: Annotated[int, Interval(ge=250, le=2000)] = 1000
    """Mean days between false alarms of the change detectors, where correlation does not change."""
    dcc_days: Annotated[int, Ge(250)] = 10_000
    """Newest days that dynamic correlation rests on."""
    dcc_full_symbols: Annotated[int, Ge(2)] = 30
    """Symbols up to which dynamic correlation uses the full likelihood; pairs beyond."""
    copula_days: Annotated[int, Ge(250)] = 2520
    """Newest days that copulas rest on."""
    copula_pairs: Annotated[int, Ge(1)] = 6
    """Pairs of strongest correlation that get copulas of their own."""
    tick_period_s: Annotated[int, Ge(1)] = 86_400
    """Seconds of the ticks' time that one observation of the market data spans, a day: the change statistic, which is
    calibrated on those, takes one step at the end of each."""
