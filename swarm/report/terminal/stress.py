"""Stress, for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.reports import ReverseStress, Scenario, StressReport
from swarm.report.terminal.form import bar, interval, loss, percent, plain_number, table

SHOWN_MOVES = 8


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
    parts: list[RenderableType] = [shown]
    if report.reverse is not None:
        parts.append(_reverse(report.reverse))
    if report.sensitivities:
        parts.append(_sensitivities(report))
    return parts


def _hardest(scenario: Scenario) -> str:
    ranked = sorted(scenario.contributions.items(), key=lambda item: -item[1])
    return ", ".join(f"{symbol} {percent(loss)}" for symbol, loss in ranked[:2] if loss > 0)


def _reverse(found: ReverseStress) -> RenderableType:
    moves = sorted(found.moves.items(), key=lambda item: -abs(item[1]))[:SHOWN_MOVES]
    law = f"Student-t, {found.degrees:.1f} degrees" if found.degrees is not None else "no heavier tail found"
    lines = [
        f"Likeliest way to lose {percent(found.target)}: {found.distance:.1f} standard deviations of the market away; "
        f"chance on a day {found.normal_probability:.1e} (normal), {found.student_probability:.1e} ({law})",
        "Moves: " + ", ".join(f"{symbol} {percent(move, sign=True)}" for symbol, move in moves),
        f"Closest day seen: {found.closest_day}, which would have lost {percent(found.closest_day_loss)}",
    ]
    if found.others:
        lines.append(f"Not the only way: {len(found.others)} other local answers from {found.starts} starting points")
    return Text("\n".join(lines))


def _sensitivities(report: StressReport) -> RenderableType:
    shown = table("Who drives the daily loss")
    for column in ("symbol", "delta", "gamma", "share of variance", "95 % interval"):
        shown.add_column(column, justify="left" if column == "symbol" else "right")
    for one in sorted(report.sensitivities, key=lambda one: -one.share.value):
        shown.add_row(one.symbol, f"{one.delta:.3f}", f"{one.gamma:.3f}", percent(one.share.value), interval(one.share))
    for factor in report.factor_sensitivities:
        beta = factor.beta
        shown.add_row(f"factor {factor.factor}", f"{beta.value:.3f}", "", "", interval(beta, plain_number))
    return shown
