"""Settings of portfolio optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class PortfolioSettings:
    """What allocations are computed on and how exactly."""

    methods: tuple[str, ...] = ("risk_parity", "minimum_variance")
    """Methods applied where a calculation names none."""
    covariance_days: Annotated[int, Ge(30)] = 1260
    """Newest days the shrunk covariance rests on (five years)."""
    contribution_tolerance: Annotated[float, Gt(0)] = 1e-8
    """Largest deviation of a risk contribution from its target, a share of variance (requirements E5: below 1e-6)."""
    max_sweeps: Annotated[int, Ge(1)] = 500
    """Sweeps over the symbols before risk parity gives up."""
    risk_aversion: Annotated[float, Gt(0)] = 5.0
    """Aversion a of the annual utility return - a / 2 x variance."""
    front_points: Annotated[int, Interval(ge=3, le=200)] = 15
    """Portfolios on the efficient front."""
    default_half_spread: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0005
    """Half spread taken where a position states none."""
    impact_coefficient: Annotated[float, Ge(0)] = 1.0
    """Y of the square-root impact Y s sqrt(Q / V), where volumes are known."""
    holding_days: Annotated[float, Gt(0)] = 63.0
    """Trading days that new weights are expected to be held: the cost of a trade is spread over them."""
    no_trade_band: Annotated[float, Ge(0)] = 0.002
    """Annual return by which a rebalance must gain more than it costs before it is advised."""
    target_volatility: Annotated[float, Gt(0)] = 0.15
    """Annual volatility of the volatility-target rule."""
    kelly_fraction: Annotated[float, Interval(gt=0, le=1)] = 0.25
    """Share of Kelly's size that is advised."""
    runs: Annotated[int, Interval(ge=1, le=100_000)] = 50
    """Independent runs of an annealer."""
    sweeps: Annotated[int, Interval(ge=1, le=1_000_000)] = 100
    """Sweeps of an annealing run."""
    slices: Annotated[int, Interval(ge=2, le=256)] = 8
    """Trotter slices of simulated quantum annealing."""
    layers: Annotated[int, Interval(ge=1, le=20)] = 2
    """Layers of the variational circuit."""
    circuit_positions: Annotated[int, Interval(ge=2, le=14)] = 8
    """Positions, the largest of the book, that the simulated circuit chooses among."""
