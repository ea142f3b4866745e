"""Liquidity, for a page."""

from __future__ import annotations

import plotly.graph_objects as go

from hive.messages.reports import LiquidityReport
from swarm.report.page.form import Part, estimates_table, laid_out, table


def section(report: LiquidityReport) -> list[Part]:
    """The section of this room."""
    known = [p for p in report.positions if p.participation_days is not None]
    figures: list[Part] = [_days(report)] if known else []
    if report.schedules:
        figures.append(_schedules(report))
    words: list[Part] = []
    if report.stress is not None:
        made = ", ".join(f"{name} {value:.2f}" for name, value in report.stress.components.items())
        words.append(
            f"<p>Liquidity stress: <b>{report.stress.state}</b>, index {report.stress.value:.2f} ({made}).</p>"
        )
    if report.conditions:
        rows = [(c.symbol, c.advice, f"{c.score:.2f}", "; ".join(c.factors)) for c in report.conditions]
        words.append(table(("position", "advice", "score", ""), rows, numeric=(2,)))
    if report.funding:
        rows = [
            (f"{g.tenor_days} days", f"{g.net_flow:+,.0f}", f"{g.proceeds:,.0f}", f"{g.gap.value:,.0f}")
            for g in report.funding
        ]
        words.append(table(("cash to", "stated flows", "from sales", "gap"), rows, numeric=(1, 2, 3)))
    return ["<h2>Liquidity</h2>", *words, estimates_table(report.estimates), *figures]


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


def _schedules(report: LiquidityReport) -> go.Figure:
    lines = [
        go.Scatter(
            x=list(range(len(schedule.remaining))),
            y=schedule.remaining,
            mode="lines+markers",
            name=f"{schedule.name}: cost {schedule.cost.value:.2%}, deviation {schedule.deviation.value:.2%}",
        )
        for schedule in report.schedules
    ]
    figure = go.Figure(lines)
    figure.update_layout(
        template="plotly_white",
        title="Liquidation: share of the covered exposure still held, by trading day",
        yaxis_tickformat=".0%",
        height=420,
        margin={"l": 10, "r": 10, "t": 50, "b": 30},
        legend={"orientation": "h", "y": -0.15},
    )
    return figure
