"""Correlation, for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.estimate import Estimate
from hive.messages.reports import (
    BookDependence,
    ChangeWatch,
    CorrelationReport,
    DynamicCorrelation,
)
from swarm.report.terminal.form import interval, plain_number, table

HEAT_SYMBOLS = 24  # symbols that a correlation picture has room for
SHOWN_CALLS = 2  # newest changes of each detector
RAMP = "▁▂▃▄▅▆▇█"
RAMP_CELLS = 42  # weeks or so of a path


def section(report: CorrelationReport, result: CalculationResult) -> list[RenderableType]:
    """The section of this room."""
    parts: list[RenderableType] = [_picture(report)]
    if report.pairs:
        pairs = ", ".join(f"{p.first}-{p.second} {p.correlation:.2f} ({p.severity})" for p in report.pairs)
        parts.append(Text(f"Closely correlated pairs: {pairs}"))
    if report.clusters:
        parts.append(Text("Move together: " + "; ".join(" ".join(group) for group in report.clusters)))
    if report.watches:
        parts.append(_watches(report.watches))
    if report.dynamic is not None:
        parts += _dynamic(report.dynamic)
    if report.dependence is not None:
        parts += _dependence(report.dependence)
    if 1 < len(report.symbols) <= HEAT_SYMBOLS:
        parts.append(_heat_map(report))
    return parts


def _picture(report: CorrelationReport) -> RenderableType:
    shown = table(f"Correlation, Ledoit-Wolf (shrinkage {report.shrinkage:.3f})")
    shown.add_column("measure")
    shown.add_column("value", justify="right")
    shown.add_column("95 % interval", justify="right")
    shown.add_column("", style="dim")
    own = [estimate for estimate in report.estimates if estimate.method_label == "ledoit_wolf"]
    for estimate in own:
        _row(shown, estimate, estimate.convention)
    notes = {matrix.method: matrix.note for matrix in report.matrices}
    for estimate in report.estimates:
        label = estimate.method_label
        if label != "ledoit_wolf":
            first = estimate.measure == "mean_correlation" and notes.get(label)
            _row(shown, estimate, f"by {label}" + (f", {notes[label]}" if first else ""))
    if report.regime is not None:
        regime = report.regime
        verdict = Text("changed", style="bold yellow") if regime.changed else Text("no change called", style="green")
        shown.add_row(
            "change of mean correlation",
            f"{regime.change.value:+.2f}",
            interval(regime.change, plain_number),
            Text.assemble(verdict, f": {regime.previous:.2f} to {regime.recent:.2f}, {regime.change.convention}"),
        )
    return shown


def _row(shown: object, estimate: Estimate, note: str) -> None:
    measure = estimate.measure.replace("_", " ")
    shown.add_row(measure, f"{estimate.value:.2f}", interval(estimate, plain_number), note)  # type: ignore[attr-defined]


def _watches(watches: tuple[ChangeWatch, ...]) -> RenderableType:
    first = watches[0]
    shown = table(f"Changes called day by day (one false alarm in {first.false_alarm_days} quiet days)")
    for column in ("watched", "by", "newest changes, delay in days", "in all"):
        shown.add_column(column, justify="right" if column == "in all" else "left")
    shown.add_column("usual delay", justify="right", style="dim")
    for watch in watches:
        calls = Text(
            ", ".join(f"{c.direction} {c.change_date} (+{c.delay_days})" for c in watch.calls[-SHOWN_CALLS:]) or "none",
            style="bold yellow" if watch.recent else "",
        )
        shown.add_row(
            watch.statistic.replace("_", " "),
            watch.method.replace("_", " "),
            calls,
            f"{len(watch.calls)} in {watch.days}",
            f"{watch.usual_delay_days:.0f}",
        )
    return shown


def _dynamic(dynamic: DynamicCorrelation) -> list[RenderableType]:
    shown = table(f"Dynamic correlation, DCC(1,1) by {dynamic.likelihood.replace('_', ' ')} likelihood")
    shown.add_column("measure")
    shown.add_column("value", justify="right")
    shown.add_column("95 % interval", justify="right")
    shown.add_column("", style="dim")
    for name, estimate in (("a", dynamic.a), ("b", dynamic.b)):
        shown.add_row(name, f"{estimate.value:.4f}", interval(estimate, _fine), estimate.convention)
    half_life = (
        "" if dynamic.half_life_days is None else f", half of a shock forgotten in {dynamic.half_life_days:.0f} days"
    )
    ahead = f"{dynamic.forecast[-1]:.2f} in {len(dynamic.forecast)} days{half_life}"
    shown.add_row("mean correlation", f"{dynamic.mean_correlation.value:.2f}", "", f"tomorrow; {ahead}")
    gain = dynamic.log_likelihood - dynamic.constant_log_likelihood
    shown.add_row("log likelihood", f"{gain:+.1f}", "", dynamic.boundary or "over correlation that does not move")
    low, high = float(dynamic.path.min()), float(dynamic.path.max())
    every = max(1, len(dynamic.path) // RAMP_CELLS)
    cells = "".join(
        RAMP[min(len(RAMP) - 1, int((value - low) / max(high - low, 1e-12) * len(RAMP)))]
        for value in dynamic.path[::-every][::-1]
    )
    return [shown, Text(f"Mean correlation since {dynamic.path_dates[0]}: {cells} {low:.2f} .. {high:.2f}")]


def _dependence(dependence: BookDependence) -> list[RenderableType]:
    best = dependence.fits[0]
    shown = table(f"Copulas, book by {best.family.replace('_', ' ')}")
    shown.add_column("pair")
    shown.add_column("Kendall's tau", justify="right")
    shown.add_column("best by AIC")
    shown.add_column("fall together", justify="right")
    shown.add_column("95 % interval", justify="right")
    shown.add_column("rise together", justify="right")
    shown.add_column("95 % interval", justify="right")
    for pair in dependence.pairs:
        shown.add_row(
            f"{pair.first}-{pair.second}",
            f"{pair.kendall_tau:.2f}",
            pair.fits[0].family.replace("_", " "),
            f"{pair.lower_tail.value:.2f}",
            interval(pair.lower_tail, plain_number),
            f"{pair.upper_tail.value:.2f}",
            interval(pair.upper_tail, plain_number),
        )
    tail = dependence.mean_tail
    said = f"Tail dependence of a pair of the book, in the mean: {tail.value:.2f}"
    if tail.lower is not None:
        said += f" ({interval(tail, plain_number)})"
    if dependence.degrees is not None:
        said += f"; t copula of {dependence.degrees.value:.1f} degrees ({interval(dependence.degrees, _tenths)})"
    return [shown, Text(said)]


def _fine(value: float) -> str:
    return f"{value:.4f}"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


def _heat_map(report: CorrelationReport) -> RenderableType:
    """The correlation matrix, alike symbols beside each other."""
    order = report.order or tuple(range(len(report.symbols)))
    lines = Text("Correlation picture (x 100)\n", style="dim")
    lines.append(" " * 6 + "".join(f"{report.symbols[j][:4]:>5}" for j in order) + "\n", style="dim")
    for i in order:
        lines.append(f"{report.symbols[i][:5]:<6}", style="dim")
        for j in order:
            value = float(report.shrunk[i, j])
            lines.append(f"{'' if i == j else f'{value * 100:.0f}':>5}", style=_heat(value))
        lines.append("\n")
    return lines


def _heat(value: float) -> Style:
    strength = int(min(1.0, abs(value)) * 200)
    background = f"rgb({40 + strength},40,50)" if value >= 0 else f"rgb(40,50,{40 + strength})"
    return Style(color="white", bgcolor=background)
