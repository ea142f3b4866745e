"""Settings of portfolio optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt


@dataclass(frozen=True)
class PortfolioSettings:
    """What allocations are computed on and how exactly."""

    covariance_days: Annotated[int, Ge(30)] = 1260
    """Newest days the shrunk covariance rests on (five years)."""
    contribution_tolerance: Annotated[float, Gt(0)] = 1e-8
    """Largest deviation of a risk contribution from its target, a share of variance (requirements E5: below 1e-6)."""
    max_sweeps: Annotated[int, Ge(1)] = 500
    """Sweeps over the symbols before risk parity gives up."""
