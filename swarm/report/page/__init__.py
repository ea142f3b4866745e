"""A calculation's result as one HTML page that needs nothing beside it: figures where people would rather look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from hive.messages.calculation import CalculationResult, Role
from hive.messages.estimate import Estimate
from hive.messages.reports import (
    CorrelationReport,
    LiquidityReport,
    PortfolioReport,
    Report,
    StressReport,
    ValueAtRiskReport,
)
from swarm.report.page import correlation, liquidity, portfolio, stress, value_at_risk
from swarm.report.page.form import Part, estimates_table, number, table, text

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733 }
h1 { line-height: 1.2 } h4 { margin: 1.4rem 0 0 }
h2 { margin-top: 2.4rem; border-top: 1px solid #dfe5ec; padding-top: 1.2rem }
nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; margin: 1rem 0 } nav a { color: #2b5c94 }
.box { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; margin: 0.5rem 0; font-variant-numeric: tabular-nums }
td, th { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; vertical-align: top }
th { border-bottom: 1px solid #b8c4d0; font-weight: 600 } td.n, th.n { text-align: right; white-space: nowrap }
.quiet { color: #56636f } .warn { color: #8a4b00 } .alert { color: #8f1d14; font-weight: 600 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.8rem; margin: 1rem 0 }
.cards div { border: 1px solid #dfe5ec; border-radius: 0.5rem; padding: 0.6rem 0.8rem }
.cards b { display: block; font-size: 1.35rem } .plotly-graph-div { width: 100% !important; break-inside: avoid }
@media (max-width: 40rem) {
  body { font-size: 14px; margin: 1rem auto } td, th { padding-right: 0.6rem; white-space: nowrap }
}
@media print {
  body { max-width: none; margin: 0; color: #000 } nav, .modebar { display: none !important }
  tr, .cards, .cards div { break-inside: avoid } h2, h3 { break-after: avoid } .box { overflow: visible }
}
"""
TITLES = {
    "value_at_risk": "Tail risk",
    "stress": "Stress",
    "correlation": "Correlation",
    "liquidity": "Liquidity",
    "portfolio": "Allocations",
}


def page(result: CalculationResult, extra: Sequence[Part] = ()) -> str:
    """The whole page; ``extra`` comes after tail risk, such as a backtest. Text from outside is escaped."""
    value = f"{result.value:,.0f} {result.currency}" if result.value is not None else "no value stated"
    answered = [role for role, answer in result.answers.items() if answer.report is not None]
    links = "".join(f"<a href='#{role}'>{TITLES[role]}</a>" for role in answered)
    parts: list[Part] = [
        f"<h1>{text(result.portfolio)}</h1>",
        f"<p>{value}. {result.calculation.name}, {result.completeness:.0%} complete, "
        f"{result.elapsed_ns / 1e6:.1f} ms in the hub. Market to {text(result.as_of)}. "
        "Losses are positive, fractions of value; brackets are 95 % intervals.</p>",
        *(f"<p class=alert>{text(alert.priority.upper())}: {text(alert.message)}</p>" for alert in result.alerts),
        _summary(result),
        f"<nav>{links}<a href='#provenance'>Provenance</a></nav>" if len(answered) > 1 else "",
    ]
    for role, answer in result.answers.items():
        if answer.report is None:
            continue
        parts += [f"<a id='{role}'></a>", *_section(answer.report)]
        if role == Role.VALUE_AT_RISK and extra:
            parts += ["<h3>Were the forecasts right?</h3>", *extra]
    if result.merged:
        parts += ["<h2>Across agents</h2>", estimates_table(result.merged)]
    parts += ["<h2 id=provenance>Who answered</h2>", _agents(result)]
    warnings = [f"{a.agent_id}: {note}" for a in result.answers.values() for note in (*a.warnings, *a.fallbacks)]
    parts += [f"<p class=warn>{text(warning)}</p>" for warning in warnings]
    seeds = ", ".join(sorted({str(answer.seed) for answer in result.answers.values()}))
    parts.append(
        f"<p class=quiet>Snapshot {result.snapshot_id}, request {text(result.request_id)}, seed {seeds}. The same "
        "portfolio, parameters and seed on this snapshot give the same numbers.</p>"
    )
    return document(f"{result.portfolio}: risk", parts)


def _summary(result: CalculationResult) -> str:
    """The few numbers that a reader wants first."""
    cards = []
    for role, estimate in result.estimates():
        if role == Role.VALUE_AT_RISK and estimate.measure in ("var", "cvar") and estimate.method_label == "historical":
            name = "VaR" if estimate.measure == "var" else "CVaR"
            cards.append((f"{name} {estimate.confidence:.3g}, historical", estimate))
    stress_answer = result.answers.get(Role.STRESS)
    if stress_answer is not None and isinstance(stress_answer.report, StressReport) and stress_answer.report.worst:
        worst = stress_answer.report.worst
        if worst.loss is not None:
            cards.append((f"worst stress: {worst.name}", worst.loss))
    for role, estimate in result.estimates():
        if role == Role.LIQUIDITY and estimate.unit == "days":
            cards.append(("days to liquidate", estimate))
        if role == Role.CORRELATION and estimate.measure == "mean_correlation":
            cards.append(("mean pair correlation", estimate))
            break
    shown = "".join(
        f"<div><span class=quiet>{text(name)}</span><b>{number(e.value, e.unit)}</b>"
        + (f"<span class=quiet>{number(e.lower, e.unit)} .. {number(e.upper, e.unit)}</span>" if bounded(e) else "")
        + "</div>"
        for name, e in cards
    )
    return f"<div class=cards>{shown}</div>" if shown else ""


def bounded(estimate: Estimate) -> bool:
    """Whether an estimate has both bounds."""
    return estimate.lower is not None and estimate.upper is not None


def document(title: str, parts: list[Part]) -> str:
    """One self-contained document; the plotting script is in it once, where there is a figure."""
    body = "\n".join(_rendered(parts))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width, initial-scale=1'><title>{text(title)}</title>"
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )


def _rendered(parts: list[Part]) -> Iterator[str]:
    scripted = False
    for part in parts:
        if isinstance(part, go.Figure):
            if part.layout.title.text:  # a title that wraps, which one inside the figure does not
                yield f"<h4>{text(part.layout.title.text)}</h4>"
                part.update_layout(title=None, margin={"t": 20})
            yield part.to_html(full_html=False, include_plotlyjs=not scripted, config={"responsive": True})
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
