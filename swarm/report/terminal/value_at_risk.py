"""Tail risk, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hive.messages.alert import Priority
from hive.messages.calculation import CalculationResult
from hive.messages.estimate import Estimate
from hive.messages.reports import Decomposition, ValueAtRiskReport
from swarm.report.terminal.form import bar, interval, loss, percent, plain_number, table

SHOWN = 10  # positions listed by name
PRIORITY_STYLE = {
    Priority.CRITICAL: "bold red",
    Priority.HIGH: "red",
    Priority.MEDIUM: "yellow",
    Priority.LOW: "yellow",
}


def section(report: ValueAtRiskReport, result: CalculationResult) -> list[RenderableType]:
    """The section of this room."""
    parts: list[RenderableType] = [_tails(report, result)]
    worst = ", ".join(f"{day.date} {percent(-day.loss, sign=True)}" for day in report.worst_days)
    parts.append(Text(f"Worst days of {report.estimates[0].samples} observations: {worst}", style="dim"))
    if report.limits:
        parts.append(_limits(report))
    if report.decompositions and len(report.symbols) > 1:
        parts += _contributions(report.symbols, report.decompositions[0], result)
    return parts


def _tails(report: ValueAtRiskReport, result: CalculationResult) -> Table:
    days = result.parameters.horizon_days
    shown = table(f"Tail risk over {days} trading day{'s' * (days > 1)}: loss not exceeded, and mean loss beyond it")
    for column in ("method", "confidence"):
        shown.add_column(column)
    for measure in ("VaR", "CVaR", "EVaR"):
        shown.add_column(measure, justify="right")
        shown.add_column("95 % interval", justify="right")
    for var in (e for e in report.estimates if e.measure == "var"):
        others = (_beside(report, var, measure) for measure in ("cvar", "evar"))
        cells = [cell for found in (var, *others) for cell in _cells(found, result)]
        shown.add_row(var.method_label, f"{var.confidence:.3g}", *cells)
    return shown


def _beside(report: ValueAtRiskReport, var: Estimate, measure: str) -> Estimate | None:
    sought = (measure, var.confidence, var.method_label)
    return next((e for e in report.estimates if (e.measure, e.confidence, e.method_label) == sought), None)


def _cells(estimate: Estimate | None, result: CalculationResult) -> Iterator[str]:
    yield "" if estimate is None else loss(estimate.value, result)
    yield "" if estimate is None else interval(estimate)


def _limits(report: ValueAtRiskReport) -> Table:
    urgency = {breach.limit_name: breach.priority for breach in report.breaches}
    shown = table("Limits")
    shown.add_column("limit")
    for column in ("value", "allowed", "left"):
        shown.add_column(column, justify="right")
    shown.add_column("")
    shown.add_column("", style="dim")
    for use in report.limits:
        form = plain_number if use.limit_name == "leverage" else percent
        state = Text("ok", style="green")
        if use.limit_name in urgency:
            urgent = urgency[use.limit_name]
            state = Text(f"breach, {urgent}", style=PRIORITY_STYLE.get(urgent, "yellow"))
        elif use.value is None:
            state = Text("not watched", style="dim")
        shown.add_row(
            use.limit_name,
            "" if use.value is None else form(use.value),
            form(use.limit),
            "" if use.headroom is None else form(use.headroom),
            state,
            use.note,
        )
    return shown


def _contributions(
    symbols: tuple[str, ...], found: Decomposition, result: CalculationResult
) -> Iterator[RenderableType]:
    shown = table(f"Who carries it: one day, {found.method_label}, {found.confidence:.3g}")
    shown.add_column("symbol")
    for column in ("of VaR", "of CVaR", "± (95 %)", "share", "CVaR without it"):
        shown.add_column(column, justify="right")
    shown.add_column("")
    order = np.argsort(-found.component_cvar)
    for place in order[:SHOWN].tolist():
        share = found.component_cvar[place] / found.cvar if found.cvar > 0 else None
        shown.add_row(
            symbols[place],
            loss(float(found.component_var[place]), result),
            loss(float(found.component_cvar[place]), result),
            percent(1.96 * float(found.component_cvar_error[place])),
            "" if share is None else percent(share),
            percent(found.cvar - float(found.incremental_cvar[place])),
            "" if share is None or not found.largest_share else bar(share / found.largest_share),
        )
    yield shown
    rest = order[SHOWN:]
    notes = [found.convention]
    if len(rest) and found.cvar > 0:
        notes.insert(0, f"{len(rest)} more carry {percent(float(found.component_cvar[rest].sum()) / found.cvar)}")
    if found.herfindahl is not None and found.largest_share is not None:
        notes.insert(0, f"HHI {found.herfindahl:.3f}, largest {found.largest} {percent(found.largest_share)}")
    yield Text("; ".join(notes), style="dim")
