"""What each risk agent reports. Losses are positive, weights and returns are fractions, money is in the book's
currency. Every report lists all its estimates, so tables and checks need not know the agents one by one."""

from __future__ import annotations

import numpy as np

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


@message
class Scenario:
    """One stress scenario. ``loss`` is None where the snapshot does not cover it, and ``note`` says so."""

    name: str
    kind: str
    """``historical``, ``hypothetical`` or ``factor``."""
    loss: Estimate | None
    contributions: dict[str, float]
    """Loss by symbol, a fraction of value; they sum to the loss."""
    note: str = ""
    benchmark_loss: float | None = None
    """Loss of the market index in a historical window."""
    mean_correlation: float | None = None
    """Mean pair correlation of the book's symbols inside a historical window."""


@message
class StressReport:
    """Every scenario that was run or could not be run."""

    scenarios: tuple[Scenario, ...]

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return tuple(scenario.loss for scenario in self.scenarios if scenario.loss is not None)

    @property
    def worst(self) -> Scenario | None:
        """The scenario with the largest loss."""
        known = [scenario for scenario in self.scenarios if scenario.loss is not None]
        return max(known, key=lambda scenario: scenario.loss.value if scenario.loss else 0.0, default=None)


@message
class CorrelatedPair:
    """Two symbols whose correlation passed an alert threshold."""

    first: str
    second: str
    correlation: float
    severity: str
    """``HIGH`` above the upper threshold, else ``MEDIUM``."""


@message
class RegimeChange:
    """Mean pair correlation of the recent window against the window before it."""

    recent: float
    previous: float
    change: Estimate
    recent_days: int
    previous_days: int
    changed: bool
    """The interval of the change excludes zero and its size passes the threshold."""


@message
class CorrelationReport:
    """Correlation of the book's symbols: shrunk, exponentially weighted, and whether it has changed."""

    symbols: tuple[str, ...]
    shrunk: np.ndarray
    """Ledoit-Wolf correlation, shape (n_symbols, n_symbols)."""
    ewma: np.ndarray
    """Exponentially weighted correlation, shape (n_symbols, n_symbols)."""
    shrinkage: float
    estimates: tuple[Estimate, ...]
    pairs: tuple[CorrelatedPair, ...]
    regime: RegimeChange | None
    """None where the sample is shorter than the two windows, or the book holds one symbol."""

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return self.estimates + ((self.regime.change,) if self.regime else ())


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


Report = ValueAtRiskReport | StressReport | CorrelationReport | LiquidityReport | PortfolioReport
