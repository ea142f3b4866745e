"""How figures are written on a page. Text that came from outside is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from hive.messages.estimate import Estimate

ROW_PX = 26  # height of one bar
Part = go.Figure | str
"""A figure, or a piece of markup whose text is escaped."""


def laid_out(trace: go.Bar | go.Heatmap, *, rows: int, title: str, x_format: str | None) -> go.Figure:
    """A figure as tall as its rows ask for."""
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


def estimates_table(estimates: Iterable[Estimate]) -> str:
    """Estimates as a table, intervals beside values."""
    rows = [
        (
            e.measure.replace("_", " "),
            "" if e.confidence is None else f"{e.confidence:.3g}",
            number(e.value, e.unit),
            "" if e.lower is None or e.upper is None else f"{number(e.lower, e.unit)} .. {number(e.upper, e.unit)}",
            e.method_label,
            e.interval_method,
        )
        for e in estimates
    ]
    return table(("measure", "confidence", "value", "95 % interval", "method", "interval by"), rows, numeric=(2, 3))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int]) -> str:
    """A table; columns in ``numeric`` are set right."""

    def line(cells: Sequence[str], tag: str) -> str:
        marks = ["" if place not in numeric else " class=n" for place in range(len(cells))]
        return "".join(f"<{tag}{mark}>{text(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<div class=box><table><tr>{line(header, 'th')}</tr>{body}</table></div>"


def number(value: float | None, unit: str) -> str:
    """A value in the form of its unit; nothing for none."""
    if value is None:
        return ""
    if unit == "fraction":
        return f"{value:.2%}"
    return f"{value:,.0f}" if unit == "money" else f"{value:.2f}"


def text(text: str) -> str:
    """Escaped text."""
    return html.escape(text)
