"""Correlation, for a terminal."""

from __future__ import annotations

import numpy as np
from rich.console import RenderableType
from rich.style import Style
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.reports import (
    CorrelationReport,
)
from swarm.report.terminal.form import interval, plain_number, table

HEAT_SYMBOLS = 24  # symbols that a correlation picture has room for


def section(report: CorrelationReport, result: CalculationResult) -> list[RenderableType]:
    """The section of this room."""
    shown = table(f"Correlation, Ledoit-Wolf (shrinkage {report.shrinkage:.3f})")
    shown.add_column("measure")
    shown.add_column("value", justify="right")
    shown.add_column("95 % interval", justify="right")
    shown.add_column("", style="dim")
    for estimate in report.estimates:
        shown.add_row(
            estimate.measure.replace("_", " "),
            f"{estimate.value:.2f}",
            interval(estimate, plain_number),
            estimate.convention,
        )
    if report.regime is not None:
        regime = report.regime
        verdict = Text("changed", style="bold yellow") if regime.changed else Text("no change called", style="green")
        shown.add_row(
            "change of mean correlation",
            f"{regime.change.value:+.2f}",
            interval(regime.change, plain_number),
            Text.assemble(verdict, f": {regime.previous:.2f} to {regime.recent:.2f}, {regime.change.convention}"),
        )
    parts: list[RenderableType] = [shown]
    if report.pairs:
        pairs = ", ".join(f"{p.first}-{p.second} {p.correlation:.2f} ({p.severity})" for p in report.pairs)
        parts.append(Text(f"Closely correlated pairs: {pairs}"))
    if 1 < len(report.symbols) <= HEAT_SYMBOLS:
        parts.append(_heat_map(report))
    return parts


def _heat_map(report: CorrelationReport) -> RenderableType:
    """The correlation matrix, symbols ordered so that alike ones stand together (by the two leading eigenvectors)."""
    _, vectors = np.linalg.eigh(report.shrunk)
    order = np.argsort(np.arctan2(vectors[:, -2], vectors[:, -1])) if len(vectors) > 1 else np.array([0])
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
