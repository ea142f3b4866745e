"""Proposed allocations, for a page."""

from __future__ import annotations

import plotly.graph_objects as go

from hive.messages.reports import PortfolioReport
from swarm.report.page.form import Part, estimates_table, table, text


def section(report: PortfolioReport) -> list[Part]:
    """The section of this room."""
    allocations = (report.current, *report.proposals)
    tables = [f"<h3>{text(a.name)}</h3>{estimates_table(a.estimates)}" for a in allocations]
    parts: list[Part] = ["<h2>Proposed allocations</h2>"]
    if report.front:
        parts.append(_front(report))
    parts += [_weights(report), *_lots(report), *_advice(report), *tables]
    return parts


def _weights(report: PortfolioReport) -> go.Figure:
    bars = [
        go.Bar(name=allocation.name, x=list(report.symbols), y=allocation.weights)
        for allocation in (report.current, *report.proposals)
    ]
    figure = go.Figure(bars)
    figure.update_layout(template="plotly_white", title="Weights", yaxis_tickformat=".0%", barmode="group")
    return figure


def _lots(report: PortfolioReport) -> list[Part]:
    """Units to hold in whole lots, a line a proposal."""
    rows = [
        (
            allocation.name,
            ", ".join(f"{symbol} {units:,.12g}" for symbol, units in lots.units.items()),
            f"{lots.cash:,.0f}",
            f"{lots.distance:.2%}",
            f"{lots.method_label}, {'nearest' if lots.proved else 'not proved nearest'}",
        )
        for allocation in report.proposals
        if (lots := allocation.lots) is not None
    ]
    header = ("in whole lots", "units to hold", "left over in cash", "away from the proposal", "method")
    return [table(header, rows, numeric=(2, 3))] if rows else []


def _front(report: PortfolioReport) -> go.Figure:
    """The efficient front with its intervals, and where the book and the proposals stand."""
    returns = [point.annual_return for point in report.front]
    risks = [point.annual_volatility.value for point in report.front]
    band = [*(e.upper or e.value for e in returns), *reversed([e.lower or e.value for e in returns])]
    figure = go.Figure(
        [
            go.Scatter(
                x=[*risks, *reversed(risks)],
                y=band,
                fill="toself",
                line={"width": 0},
                fillcolor="rgba(74,111,165,0.15)",
                name="95 % interval of the return",
                hoverinfo="skip",
            ),
            go.Scatter(x=risks, y=[e.value for e in returns], mode="lines", name="efficient front"),
        ]
    )
    for allocation in (report.current, *report.proposals):
        spot = allocation.annual
        if spot is not None:
            figure.add_scatter(x=[spot[1]], y=[spot[0]], mode="markers", name=allocation.name, marker={"size": 10})
    figure.update_layout(
        template="plotly_white",
        title="Return and volatility a year, over the covariance window",
        xaxis_tickformat=".0%",
        yaxis_tickformat=".0%",
        height=460,
        margin={"l": 10, "r": 10, "t": 50, "b": 30},
        legend={"orientation": "h", "y": -0.15},
    )
    return figure


def _advice(report: PortfolioReport) -> list[Part]:
    parts: list[Part] = []
    if report.rebalance is not None:
        advice = report.rebalance
        verdict = f"go {advice.share:.0%} of the way" if advice.trade else "do not trade"
        parts.append(
            f"<p>Rebalancing towards {text(advice.towards)}: <b>{verdict}</b>. It would gain {advice.gain:.2%} a year "
            f"in utility and cost {advice.cost:.2%}; {advice.hurdle:.2%} beyond the cost is asked for. "
            f"{text(advice.note)}.</p>"
        )
    if report.sizing:
        rows = [
            (
                one.rule,
                f"{one.multiple:.2f}",
                "" if one.lower is None else f"{one.lower:.2f} .. {one.upper:.2f}",
                one.note,
            )
            for one in report.sizing
        ]
        parts.append(table(("size of the whole book by", "multiple", "95 % interval", ""), rows, numeric=(1, 2)))
    if report.discrete:
        choices = [
            (
                one.method_label,
                ", ".join(one.symbols),
                "" if one.gap is None else f"{one.gap:.2%}",
                "" if one.success is None else f"{one.success:.0%} of {one.runs} runs",
                f"{one.evaluations:,}",
            )
            for one in report.discrete
        ]
        header = ("equal positions by", "held", "gap to the exact optimum", "optimum found in", "evaluations")
        parts.append(table(header, choices, numeric=(2, 3, 4)))
    return parts
