"""Tail risk, for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.reports import (
    ValueAtRiskReport,
)
from swarm.report.terminal.form import interval, loss, percent, table


def section(report: ValueAtRiskReport, result: CalculationResult) -> list[RenderableType]:
    """The section of this room."""
    days = result.parameters.horizon_days
    shown = table(f"Tail risk over {days} trading day{'s' * (days > 1)}: loss not exceeded, and mean loss beyond it")
    for column in ("method", "confidence"):
        shown.add_column(column)
    for column in ("VaR", "95 % interval", "CVaR", "95 % interval"):
        shown.add_column(column, justify="right")
    for var in (e for e in report.estimates if e.measure == "var"):
        cvar = next(
            e
            for e in report.estimates
            if (e.measure, e.confidence, e.method_label) == ("cvar", var.confidence, var.method_label)
        )
        shown.add_row(
            *(var.method_label, f"{var.confidence:.3g}"),
            *(loss(var.value, result), interval(var), loss(cvar.value, result), interval(cvar)),
        )
    worst = ", ".join(f"{day.date} {percent(-day.loss, sign=True)}" for day in report.worst_days)
    return [shown, Text(f"Worst days of {report.estimates[0].samples} observations: {worst}", style="dim")]
