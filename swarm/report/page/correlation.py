"""Correlation, for a page."""

from __future__ import annotations

import plotly.graph_objects as go

from hive.messages.reports import CorrelationReport
from swarm.report.page.form import Part, estimates_table, laid_out


def section(report: CorrelationReport) -> list[Part]:
    """The section of this room."""
    figures: list[Part] = [_heat_map(report)] if len(report.symbols) > 1 else []
    return ["<h2>Correlation</h2>", estimates_table(report.all_estimates()), *figures]


def _heat_map(report: CorrelationReport) -> go.Figure:
    names = list(report.symbols)
    heat = go.Heatmap(z=report.shrunk, x=names, y=names, zmin=-1, zmax=1, colorscale="RdBu", reversescale=True)
    figure = laid_out(heat, rows=max(10, len(names)), title="Ledoit-Wolf correlation", x_format=None)
    figure.update_yaxes(autorange="reversed")
    return figure
