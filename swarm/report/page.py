"""A calculation's result as one HTML page that needs nothing beside it: figures where people would rather look."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from hive.market.snapshot import SHORT_ID
from hive.messages.calculation import CalculationResult
from hive.messages.estimate import Estimate
from hive.messages.reports import (
    CorrelationReport,
    LiquidityReport,
    PortfolioReport,
    Report,
    StressReport,
    ValueAtRiskReport,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733 }
table { border-collapse: collapse; margin: 0.5rem 0 } td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left }
th { border-bottom: 1px solid #b8c4d0; font-weight: 600 } td.n, th.n { text-align: right }
h2 { margin-top: 2.2rem } .quiet { color: #64748b } .warn { color: #9a5b00 }
"""
SCENARIO_COLOURS = {"historical": "#b4463c", "hypothetical": "#c98b2b", "factor": "#4a6fa5"}
ROW_PX = 26  # height of one bar


def page(result: CalculationResult) -> str:
    """The whole page. Text that came from outside is escaped."""
    value = f"{result.value:,.0f} {result.currency}" if result.value is not None else "no value stated"
    parts = [
        f"<h1>{_text(result.portfolio)}</h1>",
        f"<p>{value}. {result.calculation.name}, {result.completeness:.0%} complete, "
        f"{result.elapsed_ns / 1e6:.1f} ms in the hub.</p>",
        f"<p class=quiet>Market to {_text(result.as_of)}, snapshot {result.snapshot_id[:SHORT_ID]}, "
        f"request {_text(result.request_id)}. Losses are positive, fractions of value.</p>",
    ]
    with_figures = False
    for answer in result.answers.values():
        if answer.report is not None:
            parts += _section(answer.report, include_script=not with_figures)
            with_figures = with_figures or not isinstance(answer.report, ValueAtRiskReport)
    if result.merged:
        parts += ["<h2>Across agents</h2>", _estimates(result.merged)]
    parts += ["<h2>Who answered</h2>", _agents(result)]
    warnings = [f"{a.agent_id}: {note}" for a in result.answers.values() for note in (*a.warnings, *a.fallbacks)]
    parts += [f"<p class=warn>{_text(warning)}</p>" for warning in warnings]
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(result.portfolio)}: risk</title>"
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )


def _section(report: Report, *, include_script: bool) -> list[str]:
    match report:
        case ValueAtRiskReport():
            days = ", ".join(f"{_text(day.date)} ({-day.loss:+.2%})" for day in report.worst_days)
            return ["<h2>Tail risk</h2>", _estimates(report.estimates), f"<p class=quiet>Worst days: {days}</p>"]
        case StressReport():
            return ["<h2>Stress</h2>", _figure(_stress(report), include_script), *_not_run(report)]
        case CorrelationReport():
            figures = [_figure(_heat_map(report), include_script)] if len(report.symbols) > 1 else []
            return ["<h2>Correlation</h2>", _estimates(report.all_estimates()), *figures]
        case LiquidityReport():
            known = [p for p in report.positions if p.participation_days is not None]
            figures = [_figure(_days(report), include_script)] if known else []
            return ["<h2>Liquidity</h2>", _estimates(report.estimates), *figures]
        case PortfolioReport():
            allocations = (report.current, *report.proposals)
            tables = [f"<h3>{_text(a.name)}</h3>{_estimates(a.estimates)}" for a in allocations]
            return ["<h2>Proposed allocations</h2>", _figure(_weights(report), include_script), *tables]


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
    return _laid_out(bars, rows=len(known), title="Loss by scenario", x_format=".0%")


def _not_run(report: StressReport) -> list[str]:
    return [f"<p class=warn>Not run: {_text(s.name)}, {_text(s.note)}</p>" for s in report.scenarios if s.loss is None]


def _heat_map(report: CorrelationReport) -> go.Figure:
    names = list(report.symbols)
    heat = go.Heatmap(z=report.shrunk, x=names, y=names, zmin=-1, zmax=1, colorscale="RdBu", reversescale=True)
    figure = _laid_out(heat, rows=max(10, len(names)), title="Ledoit-Wolf correlation", x_format=None)
    figure.update_yaxes(autorange="reversed")
    return figure


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
    return _laid_out(bars, rows=len(known), title="Days to sell", x_format=None)


def _weights(report: PortfolioReport) -> go.Figure:
    bars = [
        go.Bar(name=allocation.name, x=list(report.symbols), y=allocation.weights)
        for allocation in (report.current, *report.proposals)
    ]
    figure = go.Figure(bars)
    figure.update_layout(template="plotly_white", title="Weights", yaxis_tickformat=".0%", barmode="group")
    return figure


def _laid_out(trace: go.Bar | go.Heatmap, *, rows: int, title: str, x_format: str | None) -> go.Figure:
    figure = go.Figure(trace)
    figure.update_layout(
        template="plotly_white",
        title=title,
        height=rows * ROW_PX + 140,
        margin={"l": 10, "r": 10, "t": 50, "b": 30},
        xaxis_tickformat=x_format,
        yaxis_automargin=True,
    )
    return figure


def _figure(figure: go.Figure, include_script: bool) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=include_script))


def _estimates(estimates: Iterable[Estimate]) -> str:
    rows = [
        (
            e.measure.replace("_", " "),
            "" if e.confidence is None else f"{e.confidence:.3g}",
            _number(e.value, e.unit),
            "" if e.lower is None or e.upper is None else f"{_number(e.lower, e.unit)} .. {_number(e.upper, e.unit)}",
            e.method_label,
            e.interval_method,
        )
        for e in estimates
    ]
    return _table(("measure", "confidence", "value", "95 % interval", "method", "interval by"), rows, numeric=(2, 3))


def _agents(result: CalculationResult) -> str:
    rows = [
        (a.agent_id, a.status.value, f"{a.elapsed_ns / 1e6:.2f}", ", ".join(a.method_labels) or a.reason)
        for a in result.answers.values()
    ]
    return _table(("agent", "status", "elapsed ms", "method"), rows, numeric=(2,))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        marks = ["" if place not in numeric else " class=n" for place in range(len(cells))]
        return "".join(f"<{tag}{mark}>{_text(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(header, 'th')}</tr>{body}</table>"


def _number(value: float, unit: str) -> str:
    if unit == "fraction":
        return f"{value:.2%}"
    return f"{value:,.0f}" if unit == "money" else f"{value:.2f}"


def _text(text: str) -> str:
    return html.escape(text)
