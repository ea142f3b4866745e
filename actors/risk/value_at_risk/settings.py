"""Settings of value at risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class ValueAtRiskSettings:
    """What the value-at-risk agent estimates on, by which methods, and the limits it watches."""

    methods: tuple[str, ...] = ("historical", "gaussian")
    """Methods applied where a calculation names none."""
    window_days: Annotated[int, Ge(0)] = 0
    """Newest days of the snapshot used; 0 uses them all."""
    worst_days: Annotated[int, Ge(0)] = 5
    """Worst days of the sample that a report lists."""
    interval: Literal["independent", "block_bootstrap"] = "block_bootstrap"
    """Intervals of the historical method: days resampled in blocks that keep their dependence, or taken as independent,
    which is quicker and, where volatility clusters, too narrow. Over more than one day windows overlap, and one in
    a horizon of them counts as independent either way."""
    resamples: Annotated[int, Interval(ge=100, le=100_000)] = 1000
    """Resamples of a bootstrap."""
    block_days: Annotated[int, Ge(0)] = 0
    """Days of a bootstrap's block; 0 chooses them by Politis and White from the tail of the sample."""
    decay: Annotated[float, Interval(gt=0.9, le=1)] = 0.99
    """Weight of a day over that of the next in the age-weighted method."""
    paths: Annotated[int, Interval(ge=1000, le=10_000_000)] = 20_000
    """Paths of filtered historical simulation over more than one day."""
    tail_share: Annotated[float, Interval(gt=0, le=0.5)] = 0.1
    """Share of the losses that the generalised Pareto distribution is fitted to."""
    var_components: Literal["scenario", "kernel"] = "scenario"
    """Components of historical VaR: losses of the one day that is VaR, or a kernel average of the days around it."""
    bandwidth: Annotated[float, Gt(0)] = 0.1
    """Half width of that kernel, in standard deviations of the book's loss."""
    mc_samples: Annotated[int, Interval(ge=256, le=2**24)] = 16_384
    """Samples of a simulation, over all its replications."""
    mc_replications: Annotated[int, Interval(ge=2, le=1000)] = 8
    """Independent randomisations of a simulation whose interval comes by replication."""
    mc_model: Literal["student_t", "gaussian"] = "student_t"
    """Law of the simulated moves."""
    qubits: Annotated[int, Interval(ge=2, le=16)] = 8
    """Qubits of the simulated amplitude estimation: its losses lie on 2^qubits points."""
    var_limit: Annotated[float, Gt(0)] = 0.02
    """Limit of one-day 95 % VaR of a book that states none, a fraction of value."""
    cvar_limit: Annotated[float, Gt(0)] = 0.03
    """Limit of one-day 95 % CVaR of a book that states none, a fraction of value."""
    drawdown_limit: Annotated[float, Gt(0)] = 0.20
    """Limit of the fall from its peak value of a book that states none, a fraction."""
    leverage_limit: Annotated[float, Gt(0)] = 2.0
    """Limit of gross exposure over value of a book that states none."""
    concentration_limit: Annotated[float, Gt(0)] = 0.3
    """Limit of the largest position over gross exposure, from four positions on, of a book that states none."""
