"""Portfolio, for a terminal."""

from __future__ import annotations

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.estimate import Estimate
from hive.messages.reports import (
    Allocation,
    PortfolioReport,
)
from swarm.report.terminal.form import TRADING_DAYS, percent, table


def section(report: PortfolioReport, result: CalculationResult) -> list[RenderableType]:
    """The section of this room."""
    allocations = (report.current, *report.proposals)
    effect = table("Proposed allocations and their effect")
    effect.add_column("")
    for allocation in allocations:
        effect.add_column(allocation.name, justify="right")
    effect.add_row("volatility, a year", *(percent(_year(a)) for a in allocations))
    for tail in (e for e in report.current.estimates if e.measure in ("var", "cvar")):
        name = f"{ {'var': 'VaR', 'cvar': 'CVaR'}[tail.measure] } {tail.confidence:.3g}"
        effect.add_row(name, *(_against(a, report.current, tail) for a in allocations))
    effect.add_row("largest risk contribution", *(_largest(a, report.symbols) for a in allocations))
    effect.add_row("net exposure", *(percent(float(a.weights.sum())) for a in allocations))
    effect.add_row("turnover", *(percent(a.turnover) for a in allocations))
    effect.add_row("cost of trading there", *("" if a.cost is None else percent(a.cost) for a in allocations))
    if any(a.constraints for a in allocations):
        effect.add_row("binding", *(", ".join(u.name for u in a.constraints if u.binding) for a in allocations))
    effect.add_row("method", *(a.method_label for a in allocations), style="dim")

    weights = table("Weights, and share of risk")
    weights.add_column("")
    for allocation in allocations:
        weights.add_column(allocation.name, justify="right")
        weights.add_column("risk", justify="right", style="dim")
    for row, symbol in enumerate(report.symbols):
        cells = [text for a in allocations for text in (percent(a.weights[row]), percent(a.risk_contributions[row]))]
        weights.add_row(symbol, *cells)
    return [effect, weights, *_lots(report), *_advice(report)]


def _lots(report: PortfolioReport) -> list[RenderableType]:
    """Units to hold in whole lots, and what they leave of each proposal."""
    given = [(allocation.name, allocation.lots) for allocation in report.proposals if allocation.lots is not None]
    if not given:
        return []
    shown = table("In whole lots")
    shown.add_column("")
    for name, _ in given:
        shown.add_column(name, justify="right")
    for row, symbol in enumerate(report.symbols):
        if any(symbol in lots.units for _, lots in given):
            cells = (f"{lots.units[symbol]:,.12g}  {percent(float(lots.weights[row]))}" for _, lots in given)
            shown.add_row(f"units of {symbol}", *cells)
    shown.add_row("left over in cash", *(f"{lots.cash:,.0f}" for _, lots in given))
    shown.add_row("away from the proposal", *(percent(lots.distance) for _, lots in given))
    how = (f"{lots.method_label}, {'nearest' if lots.proved else 'not proved nearest'}" for _, lots in given)
    shown.add_row("method", *how, style="dim")
    return [shown]


def _year(allocation: Allocation) -> float:
    return allocation.estimate("volatility").value * float(np.sqrt(TRADING_DAYS))


def _against(allocation: Allocation, current: Allocation, tail: Estimate) -> Text:
    value = allocation.estimate(tail.measure, tail.confidence).value
    if allocation is current:
        return Text(percent(value))
    change = value / tail.value - 1 if tail.value > 0 else 0.0
    return Text.assemble(percent(value), (f" ({change:+.0%})", "green" if change < 0 else "red"))


def _largest(allocation: Allocation, symbols: tuple[str, ...]) -> str:
    place = int(np.argmax(allocation.risk_contributions))
    return f"{symbols[place]} {percent(float(allocation.risk_contributions[place]))}"


def _advice(report: PortfolioReport) -> list[RenderableType]:
    lines = []
    if report.rebalance is not None:
        advice = report.rebalance
        verdict = f"go {advice.share:.0%} of the way" if advice.trade else "do not trade"
        lines.append(
            f"Rebalance towards {advice.towards}: {verdict}; gain {percent(advice.gain)} a year, cost "
            f"{percent(advice.cost)}, asked for beyond it {percent(advice.hurdle)}"
        )
    for size in report.sizing:
        span = f"{size.lower:.2f} .. {size.upper:.2f}"
        lines.append(f"Size by {size.rule}: {size.multiple:.2f} x the present book ({span})")
    for choice in report.discrete:
        found = "" if choice.success is None else f", optimum in {choice.success:.0%} of {choice.runs} runs"
        gap = "" if choice.gap is None else f"gap {choice.gap:.2%}"
        lines.append(f"Equal positions by {choice.method_label}: {', '.join(choice.symbols)}; {gap}{found}")
    if report.front:
        low, high = report.front[0], report.front[-1]
        lines.append(
            f"Efficient front of {len(report.front)}: {percent(low.annual_return.value)} at "
            f"{percent(low.annual_volatility.value)} to {percent(high.annual_return.value)} at "
            f"{percent(high.annual_volatility.value)} a year"
        )
    return [Text("\n".join(lines))] if lines else []
