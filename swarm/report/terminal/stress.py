"""Stress, for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.reports import (
    Scenario,
    StressReport,
)
from swarm.report.terminal.form import bar, interval, loss, percent, table


def section(report: StressReport, result: CalculationResult) -> list[RenderableType]:
    """The section of this room."""
    shown = table("Stress: what it would cost")
    shown.add_column("scenario")
    shown.add_column("loss", justify="right")
    shown.add_column("")
    shown.add_column("95 % interval", justify="right")
    shown.add_column("index", justify="right")
    shown.add_column("mean corr.", justify="right")
    shown.add_column("hit hardest", overflow="fold")
    shown.add_column("", style="dim")
    worst = report.worst.loss.value if report.worst is not None and report.worst.loss is not None else 0.0
    for scenario in report.scenarios:
        if scenario.loss is None:
            shown.add_row(scenario.name, Text("not run", style="yellow"), "", "", "", "", "", scenario.note)
            continue
        shown.add_row(
            scenario.name,
            loss(scenario.loss.value, result),
            bar(scenario.loss.value / worst if worst > 0 else 0.0),
            interval(scenario.loss),
            "" if scenario.benchmark_loss is None else percent(scenario.benchmark_loss),
            "" if scenario.mean_correlation is None else f"{scenario.mean_correlation:.2f}",
            _hardest(scenario),
            scenario.note,
        )
    return [shown]


def _hardest(scenario: Scenario) -> str:
    ranked = sorted(scenario.contributions.items(), key=lambda item: -item[1])
    return ", ".join(f"{symbol} {percent(loss)}" for symbol, loss in ranked[:2] if loss > 0)
