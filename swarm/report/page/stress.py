"""Stress, for a page."""

from __future__ import annotations

import plotly.graph_objects as go

from hive.messages.reports import StressReport
from swarm.report.page.form import Part, laid_out, text

SCENARIO_COLOURS = {"historical": "#b4463c", "hypothetical": "#c98b2b", "factor": "#4a6fa5"}


def section(report: StressReport) -> list[Part]:
    """The section of this room."""
    return ["<h2>Stress</h2>", _stress(report), *_not_run(report)]


def _stress(report: StressReport) -> go.Figure:
    known = sorted((s for s in report.scenarios if s.loss is not None), key=lambda s: s.loss.value if s.loss else 0.0)
    losses = [s.loss for s in known if s.loss is not None]
    reach = [(loss.upper - loss.value) if loss.upper is not None else 0.0 for loss in losses]
    bars = go.Bar(
        x=[loss.value for loss in losses],
        y=[s.name for s in known],
        orientation="h",
        error_x={"type": "data", "array": reach},
        marker_color=[SCENARIO_COLOURS[s.kind] for s in known],
        hovertext=[f"{s.kind}. {s.note}" for s in known],
    )
    return laid_out(bars, rows=len(known), title="Loss by scenario", x_format=".0%")


def _not_run(report: StressReport) -> list[str]:
    return [f"<p class=warn>Not run: {text(s.name)}, {text(s.note)}</p>" for s in report.scenarios if s.loss is None]
