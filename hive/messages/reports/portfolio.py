"""What the portfolio agent reports."""

from __future__ import annotations

import numpy as np

from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class ConstraintUse:
    """One constraint of the mandate, measured on the weights proposed."""

    name: str
    value: float
    lower: float | None
    upper: float | None
    met: bool
    binding: bool


@message
class WholeLots:
    """An allocation in whole lots, as near to it as its mandate allows; positions without a lot stay as they are."""

    method_label: str
    units: dict[str, float]
    """To hold, signed, by symbol that has a lot."""
    weights: np.ndarray
    cash: float
    """Money left over against the allocation."""
    distance: float
    """Half the sum of absolute differences of weight from the allocation."""
    proved: bool
    """Whether no other whole lots are nearer."""
    constraints: tuple[ConstraintUse, ...] = ()
    """Every constraint of the mandate but the sum of weights, part of which is cash now; all are met."""


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
    cost: float | None = None
    """Modelled cost of trading there, a fraction of value; None where no trade is proposed."""
    constraints: tuple[ConstraintUse, ...] = ()
    """Every constraint of the mandate; all are met in a proposal."""
    annual: tuple[float, float] | None = None
    """(Mean return, volatility) a year over the covariance window: where it stands by the front."""
    lots: WholeLots | None = None
    """None where no position states a lot, or where there are no whole lots within the mandate."""

    def estimate(self, measure: str, confidence: float | None = None) -> Estimate:
        """The allocation's estimate of ``measure``; KeyError where it has none."""
        for found in self.estimates:
            if found.measure == measure and confidence in (None, found.confidence):
                return found
        raise KeyError(measure)


@message
class ParetoPoint:
    """One efficient portfolio: no other within the mandate has less volatility at its return or more."""

    weights: np.ndarray
    annual_return: Estimate
    annual_volatility: Estimate


@message
class RebalanceAdvice:
    """Whether trading towards an allocation is worth its cost."""

    towards: str
    trade: bool
    share: float
    """Share of the way proposed, 0 to 1: partial where the last steps cost more than they bring."""
    weights: np.ndarray
    gain: float
    """Expected utility gained a year, as an annual return, before costs."""
    cost: float
    """Modelled cost of the trade, spread over the holding period, as an annual return."""
    hurdle: float
    """Gain beyond cost that is asked for before anything is traded."""
    note: str


@message
class SizingAdvice:
    """How large the book as a whole should be by one rule; 1 leaves it as it is."""

    rule: str
    multiple: float
    """Of the present exposure."""
    lower: float
    upper: float
    note: str


@message
class DiscreteChoice:
    """A choice of whole positions by one method, against the exact answer where it is known."""

    method_label: str
    symbols: tuple[str, ...]
    objective: float
    exact: float | None
    gap: float | None
    """Objective over the exact one less 1; 0 is the optimum."""
    success: float | None
    """Share of runs that found the optimum."""
    runs: int
    evaluations: int
    """Energies, or circuit executions, computed in all."""
    note: str = ""


@message
class PortfolioReport:
    """The book as it is and the allocations proposed for the same symbols."""

    symbols: tuple[str, ...]
    current: Allocation
    proposals: tuple[Allocation, ...]
    front: tuple[ParetoPoint, ...] = ()
    rebalance: RebalanceAdvice | None = None
    sizing: tuple[SizingAdvice, ...] = ()
    discrete: tuple[DiscreteChoice, ...] = ()

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return (
            *(e for allocation in (self.current, *self.proposals) for e in allocation.estimates),
            *(e for point in self.front for e in (point.annual_return, point.annual_volatility)),
        )
