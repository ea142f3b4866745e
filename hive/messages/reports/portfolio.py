"""What the portfolio agent reports."""

from __future__ import annotations

import numpy as np

from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class Allocation:
    """A set of weights with its risk."""

    name: str
    method_label: str
    weights: np.ndarray
    risk_contributions: np.ndarray
    """Share of variance by symbol; they sum to 1."""
    turnover: float
    """Half the sum of absolute weight changes against the book."""
    estimates: tuple[Estimate, ...]

    def estimate(self, measure: str, confidence: float | None = None) -> Estimate:
        """The allocation's estimate of ``measure``; KeyError where it has none."""
        for found in self.estimates:
            if found.measure == measure and confidence in (None, found.confidence):
                return found
        raise KeyError(measure)


@message
class PortfolioReport:
    """The book as it is and the allocations proposed for the same symbols and gross exposure."""

    symbols: tuple[str, ...]
    current: Allocation
    proposals: tuple[Allocation, ...]

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return tuple(e for allocation in (self.current, *self.proposals) for e in allocation.estimates)
