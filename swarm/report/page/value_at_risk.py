"""Tail risk, for a page."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from hive.messages.reports import Decomposition, ValueAtRiskReport
from swarm.report.page.form import Part, estimates_table, laid_out, table, text

SHOWN = 25  # positions with a bar of their own
CVAR_COLOUR, VAR_COLOUR = "#b4436c", "#4f7cac"


def section(report: ValueAtRiskReport) -> list[Part]:
    """The section of this room."""
    days = ", ".join(f"{text(day.date)} ({-day.loss:+.2%})" for day in report.worst_days)
    parts: list[Part] = ["<h2>Tail risk</h2>"]
    parts += [f"<p class=warn>{text(breach.message)} ({breach.priority}).</p>" for breach in report.breaches]
    if report.loss_edges is not None and report.loss_counts is not None:
        parts.append(_losses(report, report.loss_edges, report.loss_counts))
    parts += [estimates_table(report.estimates), f"<p class=quiet>Worst days: {days}</p>"]
    if report.limits:
        parts += ["<h3>Limits</h3>", _limits(report)]
    if report.decompositions and len(report.symbols) > 1:
        found = report.decompositions[0]
        parts += [_bars(report.symbols, found), f"<p class=quiet>{_concentration(found)}</p>"]
    return parts


def _losses(report: ValueAtRiskReport, edges: np.ndarray, counts: np.ndarray) -> go.Figure:
    """Daily losses of the sample, and where the first method's one-day VaR and CVaR lie, with their intervals."""
    figure = go.Figure(
        go.Bar(
            x=(edges[1:] + edges[:-1]) / 2,
            y=counts,
            width=np.diff(edges),
            marker_color="#b8c4d0",
            hovertemplate="loss %{x:.2%}: %{y} days<extra></extra>",
        )
    )
    label = report.estimates[0].method_label
    for place, one in enumerate(
        e for e in report.estimates if e.method_label == label and e.measure in ("var", "cvar")
    ):
        colour = VAR_COLOUR if one.measure == "var" else CVAR_COLOUR
        if one.lower is not None and one.upper is not None:
            figure.add_vrect(x0=one.lower, x1=one.upper, fillcolor=colour, opacity=0.2, line_width=0)
        figure.add_vline(
            x=one.value,
            line={"color": colour, "width": 2},
            annotation={
                "text": f"{'VaR' if one.measure == 'var' else 'CVaR'} {one.confidence:.3g}",
                "yshift": -16 * place,
                "font": {"color": colour},
            },
        )
    figure.update_layout(
        template="plotly_white",
        title=f"Losses of the sample, days on a logarithmic scale; lines and bands by the {label} method",
        xaxis_tickformat=".0%",
        yaxis_type="log",
        height=400,
        margin={"l": 10, "r": 10, "t": 50, "b": 30},
        showlegend=False,
    )
    return figure


def _limits(report: ValueAtRiskReport) -> str:
    def form(name: str, value: float | None) -> str:
        return "" if value is None else f"{value:.2f}" if name == "leverage" else f"{value:.2%}"

    rows = [
        (
            use.limit_name,
            *(form(use.limit_name, value) for value in (use.value, use.limit, use.headroom)),
            use.note,
        )
        for use in report.limits
    ]
    return table(("limit", "value", "allowed", "left", ""), rows, numeric=(1, 2, 3))


def _bars(symbols: tuple[str, ...], found: Decomposition) -> go.Figure:
    order = np.argsort(-found.component_cvar)[:SHOWN][::-1]
    names = [symbols[place] for place in order]
    figure = laid_out(
        go.Bar(
            x=found.component_cvar[order],
            y=names,
            orientation="h",
            name="CVaR",
            marker_color=CVAR_COLOUR,
            error_x={"array": 1.96 * found.component_cvar_error[order], "thickness": 1},
        ),
        rows=2 * len(order),
        title=f"Who carries the risk: one day, {found.method_label}, {found.confidence:.3g}",
        x_format=".2%",
    )
    figure.add_bar(x=found.component_var[order], y=names, orientation="h", name="VaR", marker_color=VAR_COLOUR)
    figure.update_layout(barmode="group", legend={"orientation": "h", "y": -0.08})
    return figure


def _concentration(found: Decomposition) -> str:
    known = ""
    if found.herfindahl is not None and found.largest_share is not None:
        known = f"HHI {found.herfindahl:.3f}, largest {text(found.largest)} with {found.largest_share:.1%}. "
    return f"{known}Components sum to the whole. {text(found.convention)}. Whiskers: 95 % of CVaR's components."
