"""How figures are written at a terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.estimate import Estimate

TRADING_DAYS = 252  # days in a year, to annualise volatility for display
BAR_CELLS = 16


def table(title: str) -> Table:
    """A table without lines, under a bold title."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def loss(fraction: float, result: CalculationResult) -> str:
    """A loss as a share of value, and as money where a value is stated."""
    if result.value is None:
        return percent(fraction)
    return f"{percent(fraction)}  {fraction * result.value:,.0f}"


def interval(estimate: Estimate, form: Callable[[float], str] | None = None) -> str:
    """The bounds of an interval, ``?`` where one is unknown; empty where both are."""
    shown = form or percent
    if estimate.lower is None and estimate.upper is None:
        return ""
    low = shown(estimate.lower) if estimate.lower is not None else "?"
    high = shown(estimate.upper) if estimate.upper is not None else "?"
    return f"{low} .. {high}"


def plain_number(value: float) -> str:
    """A number with two decimals."""
    return f"{value:.2f}"


def percent(fraction: float, *, sign: bool = False) -> str:
    """A fraction as per cent."""
    return f"{fraction:+.2%}" if sign else f"{fraction:.2%}"


def bar(share: float) -> Text:
    """A red bar, full at 1."""
    cells = max(0, round(share * BAR_CELLS))
    return Text("█" * cells, style="red")
