"""A backtest of value-at-risk methods, for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from hive.messages.reports import BacktestResult
from swarm.report.terminal.form import percent, table

REJECTED = 0.05  # p-value below which a forecast is called into question
ZONE_STYLE = {"green": "green", "yellow": "yellow", "red": "red"}


def render(result: BacktestResult) -> RenderableType:
    """The whole backtest, ready to print."""
    days = len(result.dates)
    title = (
        f"{result.portfolio}: one-day VaR at {result.confidence:.3g}, {days} days {result.dates[0]} to "
        f"{result.dates[-1]}, window {result.window_days}"
    )
    parts: list[RenderableType] = [_models(result, title), Text()]
    if result.comparisons:
        parts += [_comparisons(result), Text()]
    notes = list(result.warnings)
    for model in result.models:
        if model.fallbacks:
            notes.append(f"{model.method_label}: {len(model.fallbacks)} refits failed, the first {model.fallbacks[0]}")
    if notes:
        parts.append(Text("\n".join(notes), style="yellow"))
    return Group(*parts)


def _models(result: BacktestResult, title: str) -> RenderableType:
    shown = table(title)
    shown.add_column("method")
    for column in ("exceptions", "expected", "Kupiec p", "independence p", "coverage p", "Z1 p", "Z2 p"):
        shown.add_column(column, justify="right")
    shown.add_column("zone")
    for column in ("quantile loss", "FZ loss"):
        shown.add_column(column, justify="right")
    for model in result.models:
        light = model.traffic_light
        shown.add_row(
            model.method_label,
            f"{int(model.exceptions.sum())} ({percent(float(model.exceptions.mean()))})",
            f"{model.expected:.1f}",
            *(_coloured(test.p_value) for test in model.tests),
            Text(f"{light.zone}, {light.exceptions} in {light.days}", style=ZONE_STYLE[light.zone]),
            f"{model.pinball * 1e4:.3f} bp",
            "" if model.fissler_ziegel is None else f"{model.fissler_ziegel:.4f}",
        )
    return shown


def _comparisons(result: BacktestResult) -> RenderableType:
    shown = table("Which forecasts better (Diebold-Mariano): the first where the difference is negative")
    for column in ("first", "second", "loss"):
        shown.add_column(column)
    for column in ("difference", "statistic", "p"):
        shown.add_column(column, justify="right")
    joint = {(found.first, found.second) for found in result.comparisons if found.loss == "fissler_ziegel"}
    for found in result.comparisons:
        if found.loss != "fissler_ziegel" and (found.first, found.second) in joint:
            continue  # the joint loss says more; the page has both
        known = found.statistic is not None and found.p_value is not None
        shown.add_row(
            found.first,
            found.second,
            found.loss.replace("_", "-"),
            f"{found.difference:+.3g}",
            f"{found.statistic:+.2f}" if known else "",
            _coloured(found.p_value),
        )
    return shown


def _coloured(p_value: float | None) -> Text:
    if p_value is None:
        return Text("-", style="dim")
    return Text("<0.001" if p_value < 0.001 else f"{p_value:.3f}", style="red" if p_value < REJECTED else "")
