"""Proposed allocations, for a page."""

from __future__ import annotations

import plotly.graph_objects as go

from hive.messages.reports import PortfolioReport
from swarm.report.page.form import Part, estimates_table, text


def section(report: PortfolioReport) -> list[Part]:
    """The section of this room."""
    allocations = (report.current, *report.proposals)
    tables = [f"<h3>{text(a.name)}</h3>{estimates_table(a.estimates)}" for a in allocations]
    return ["<h2>Proposed allocations</h2>", _weights(report), *tables]


def _weights(report: PortfolioReport) -> go.Figure:
    bars = [
        go.Bar(name=allocation.name, x=list(report.symbols), y=allocation.weights)
        for allocation in (report.current, *report.proposals)
    ]
    figure = go.Figure(bars)
    figure.update_layout(template="plotly_white", title="Weights", yaxis_tickformat=".0%", barmode="group")
    return figure
