"""What the value-at-risk agent reports."""

from __future__ import annotations

from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class DayLoss:
    """A day of the sample and what the book would have lost on it, a fraction of value."""

    date: str
    loss: float


@message
class ValueAtRiskReport:
    """VaR and CVaR per confidence and method, and the sample's worst days."""

    estimates: tuple[Estimate, ...]
    worst_days: tuple[DayLoss, ...]

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return self.estimates
