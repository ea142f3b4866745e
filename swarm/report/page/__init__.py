"""A calculation's result as one HTML page that needs nothing beside it: figures where people would rather look."""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go

from hive.market.snapshot import SHORT_ID
from hive.messages.calculation import CalculationResult
from hive.messages.reports import (
    CorrelationReport,
    LiquidityReport,
    PortfolioReport,
    Report,
    StressReport,
    ValueAtRiskReport,
)
from swarm.report.page import correlation, liquidity, portfolio, stress, value_at_risk
from swarm.report.page.form import Part, estimates_table, table, text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733 }
table { border-collapse: collapse; margin: 0.5rem 0 } td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left }
th { border-bottom: 1px solid #b8c4d0; font-weight: 600 } td.n, th.n { text-align: right }
h2 { margin-top: 2.2rem } .quiet { color: #64748b } .warn { color: #9a5b00 }
"""


def page(result: CalculationResult) -> str:
    """The whole page. Text that came from outside is escaped."""
    value = f"{result.value:,.0f} {result.currency}" if result.value is not None else "no value stated"
    parts: list[Part] = [
        f"<h1>{text(result.portfolio)}</h1>",
        f"<p>{value}. {result.calculation.name}, {result.completeness:.0%} complete, "
        f"{result.elapsed_ns / 1e6:.1f} ms in the hub.</p>",
        f"<p class=quiet>Market to {text(result.as_of)}, snapshot {result.snapshot_id[:SHORT_ID]}, "
        f"request {text(result.request_id)}. Losses are positive, fractions of value.</p>",
    ]
    for answer in result.answers.values():
        if answer.report is not None:
            parts += _section(answer.report)
    if result.merged:
        parts += ["<h2>Across agents</h2>", estimates_table(result.merged)]
    parts += ["<h2>Who answered</h2>", _agents(result)]
    warnings = [f"{a.agent_id}: {note}" for a in result.answers.values() for note in (*a.warnings, *a.fallbacks)]
    parts += [f"<p class=warn>{text(warning)}</p>" for warning in warnings]
    return document(f"{result.portfolio}: risk", parts)


def document(title: str, parts: list[Part]) -> str:
    """One self-contained document; the plotting script is in it once, where there is a figure."""
    body = "\n".join(_rendered(parts))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(title)}</title>"
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )


def _rendered(parts: list[Part]) -> Iterator[str]:
    scripted = False
    for part in parts:
        if isinstance(part, go.Figure):
            yield part.to_html(full_html=False, include_plotlyjs=not scripted)
            scripted = True
        else:
            yield part


def _section(report: Report) -> list[Part]:
    match report:
        case ValueAtRiskReport():
            return value_at_risk.section(report)
        case StressReport():
            return stress.section(report)
        case CorrelationReport():
            return correlation.section(report)
        case LiquidityReport():
            return liquidity.section(report)
        case PortfolioReport():
            return portfolio.section(report)


def _agents(result: CalculationResult) -> str:
    rows = [
        (a.agent_id, a.status.value, f"{a.elapsed_ns / 1e6:.2f}", ", ".join(a.method_labels) or a.reason)
        for a in result.answers.values()
    ]
    return table(("agent", "status", "elapsed ms", "method"), rows, numeric=(2,))
