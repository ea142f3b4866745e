"""What a portfolio may hold and what it may risk: hard constraints of its optimisation, and limits that are watched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cluster.errors import InvalidPortfolio
from hive.messages.codec import message


@message
class Limits:
    """Limits of one portfolio; those left None are as the settings say.

    Raises
    ------
    InvalidPortfolio
        A limit is not a positive number.
    """

    var: float | None = None
    """One-day 95 % VaR, a fraction of value."""
    cvar: float | None = None
    """One-day 95 % CVaR, a fraction of value."""
    drawdown: float | None = None
    """Fall of value from its peak, a fraction."""
    leverage: float | None = None
    """Gross exposure over value."""
    concentration: float | None = None
    """Largest position over gross exposure, watched from four positions on."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not _positive(value):
                raise InvalidPortfolio(
                    f"limit {field.name} is {value!r}", "Give a positive number, a fraction of value"
                )


@message
class View:
    """An opinion on returns for Black-Litterman: the weighted sum of returns is expected to be ``annual_return``."""

    weights: dict[str, float]
    """By symbol: {"AAPL": 1} for an absolute view, {"AAPL": 1, "JPM": -1} for a relative one."""
    annual_return: float
    """Simple excess return a year, a fraction."""
    confidence: float = 0.5
    """0 (ignored) to 1 (certain), exclusive."""

    def __post_init__(self) -> None:
        if not self.weights or not all(_number(w) for w in self.weights.values()) or not any(self.weights.values()):
            raise InvalidPortfolio(f"a view has the weights {self.weights!r}", 'Give some such as {"AAPL": 1}')
        if not _number(self.annual_return) or not -1 < self.annual_return < 10:
            raise InvalidPortfolio(f"a view expects {self.annual_return!r} a year", "Give a fraction, 0.05 for 5 %")
        if not _number(self.confidence) or not 0 < self.confidence < 1:
            raise InvalidPortfolio(f"a view has the confidence {self.confidence!r}", "Give a number between 0 and 1")


@message
class Mandate:
    """What proposals must obey; every constraint is hard. Weights are signed fractions of value.

    Raises
    ------
    InvalidPortfolio
        A bound is no number, a lower bound lies above its upper one, or a count is not positive.
    """

    min_weight: float | None = None
    """Smallest weight of a position; without one, a position keeps its sign unless its own bounds say otherwise."""
    max_weight: float | None = None
    """Largest weight of a position."""
    bounds: dict[str, tuple[float, float]] | None = None
    """(smallest, largest) weight by symbol, before the two above; other symbols keep their sign. A symbol that the book
    does not hold yet is a position of weight 0."""
    groups: dict[str, tuple[float, float]] | None = None
    """(smallest, largest) net weight by group; a position names its own group."""
    forbidden: tuple[str, ...] = ()
    """Symbols that proposals must not hold (compliance)."""
    max_turnover: float | None = None
    """Largest half sum of absolute weight changes."""
    max_positions: int | None = None
    """Largest number of positions held (cardinality)."""
    max_gross: float | None = None
    """Largest gross exposure, a multiple of value."""
    target_return: float | None = None
    """Smallest expected return a year, a fraction."""
    risk_budgets: dict[str, float] | None = None
    """Share of risk by symbol, of every position, summing to 1; equal shares without it."""
    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "forbidden", tuple(self.forbidden))
        object.__setattr__(self, "views", tuple(self.views))
        for name in ("min_weight", "max_weight", "target_return"):
            value = getattr(self, name)
            if value is not None and not _number(value):
                raise InvalidPortfolio(f"mandate {name} is {value!r}", "Give a finite number")
        if self.min_weight is not None and self.max_weight is not None and self.min_weight > self.max_weight:
            raise InvalidPortfolio("the mandate's min_weight lies above its max_weight", "Exchange the two")
        for name in ("bounds", "groups"):
            pairs: Mapping[str, Any] | None = getattr(self, name)
            if pairs is not None:
                object.__setattr__(self, name, {key: _range(f"{name} of {key}", pair) for key, pair in pairs.items()})
        for name in ("max_turnover", "max_gross"):
            value = getattr(self, name)
            if value is not None and not _positive(value):
                raise InvalidPortfolio(f"mandate {name} is {value!r}", "Give a positive number")
        count = self.max_positions
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise InvalidPortfolio(f"mandate max_positions is {count!r}", "Give a whole number from 1")
        if self.risk_budgets is not None:
            if not all(_positive(share) for share in self.risk_budgets.values()):
                raise InvalidPortfolio("a risk budget is not positive", "Give every symbol a positive share of risk")
            if abs(math.fsum(self.risk_budgets.values()) - 1) > 1e-6:
                raise InvalidPortfolio("the risk budgets do not sum to 1", "Give shares of the whole risk")


@message
class FundingFlow:
    """Cash that is due within a tenor, money in the portfolio's currency."""

    tenor_days: int
    """Calendar days until the end of the bucket."""
    inflow: float = 0.0
    outflow: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.tenor_days, bool) or not isinstance(self.tenor_days, int) or self.tenor_days < 0:
            raise InvalidPortfolio(f"a funding tenor is {self.tenor_days!r}", "Give whole days from 0")
        for name in ("inflow", "outflow"):
            value = getattr(self, name)
            if not _number(value) or value < 0:
                raise InvalidPortfolio(
                    f"funding {name} is {value!r}", "Give an amount from 0; direction is in the name"
                )


def _range(what: str, pair: Any) -> tuple[float, float]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(_number(x) for x in pair) or pair[0] > pair[1]:
        raise InvalidPortfolio(f"{what} is {pair!r}", "Give the smallest and the largest weight, such as [0, 0.1]")
    return float(pair[0]), float(pair[1])


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: object) -> bool:
    return _number(value) and value > 0  # type: ignore[operator]
