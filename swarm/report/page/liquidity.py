"""Liquidity, for a page."""

from __future__ import annotations

import plotly.graph_objects as go

from hive.messages.reports import LiquidityReport
from swarm.report.page.form import Part, estimates_table, laid_out


def section(report: LiquidityReport) -> list[Part]:
    """The section of this room."""
    known = [p for p in report.positions if p.participation_days is not None]
    figures: list[Part] = [_days(report)] if known else []
    return ["<h2>Liquidity</h2>", estimates_table(report.estimates), *figures]


def _days(report: LiquidityReport) -> go.Figure:
    known = sorted(
        (p for p in report.positions if p.participation_days is not None), key=lambda p: p.participation_days or 0.0
    )
    bars = go.Bar(
        x=[p.participation_days for p in known],
        y=[p.symbol for p in known],
        orientation="h",
        hovertext=[f"cost {p.cost:,.0f}" for p in known],
        marker_color="#4a6fa5",
    )
    return laid_out(bars, rows=len(known), title="Days to sell", x_format=None)
