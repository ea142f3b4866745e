"""A calculation's result for a reader at a terminal: one section an agent, every number with its interval."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from hive.market.snapshot import SHORT_ID
from hive.messages.calculation import AgentAnswer, AnswerStatus, CalculationResult
from hive.messages.reports import (
    CorrelationReport,
    LiquidityReport,
    PortfolioReport,
    Report,
    StressReport,
    ValueAtRiskReport,
)
from swarm.report.terminal import correlation, liquidity, portfolio, stress, value_at_risk
from swarm.report.terminal.form import interval, loss, table

STATUS_STYLE = {AnswerStatus.OK: "green", AnswerStatus.LATE: "yellow", AnswerStatus.FAILED: "red"}


def render(result: CalculationResult) -> RenderableType:
    """The whole result, ready to print."""
    sections: list[RenderableType] = [_header(result)]
    if result.alerts:
        lines = [f"{alert.priority.upper()} {alert.kind.replace('_', ' ')}: {alert.message}" for alert in result.alerts]
        sections.append(Text("\n".join(lines), style="bold red"))
    for answer in result.answers.values():
        if answer.report is not None:
            sections += _section(answer.report, result)
    if result.merged:
        sections.append(_merged(result))
    sections.append(_agents(result))
    sections += _warnings(result)
    return Group(*_spaced(sections))


def _section(report: Report, result: CalculationResult) -> list[RenderableType]:
    match report:
        case ValueAtRiskReport():
            return value_at_risk.section(report, result)
        case StressReport():
            return stress.section(report, result)
        case CorrelationReport():
            return correlation.section(report, result)
        case LiquidityReport():
            return liquidity.section(report, result)
        case PortfolioReport():
            return portfolio.section(report, result)


def _header(result: CalculationResult) -> RenderableType:
    value = f"{result.value:,.0f} {result.currency}" if result.value is not None else "no value stated"
    completeness = "complete" if result.complete else f"{result.completeness:.0%} complete"
    text = Text.assemble(
        (result.portfolio, "bold"),
        f"   {value}\n",
        (f"{result.calculation.name}, {completeness}", "green" if result.complete else "yellow"),
        f", {result.elapsed_ns / 1e6:.1f} ms in the hub\n",
        (f"market to {result.as_of}, snapshot {result.snapshot_id[:SHORT_ID]}, request {result.request_id}", "dim"),
    )
    return Panel(text, expand=False)


def _merged(result: CalculationResult) -> RenderableType:
    shown = table("Across agents")
    shown.add_column("measure")
    shown.add_column("confidence")
    shown.add_column("value", justify="right")
    shown.add_column("95 % interval", justify="right")
    shown.add_column("", style="dim")
    for e in result.merged:
        fraction = e.unit == "fraction"
        shown.add_row(
            e.measure.replace("_", " "),
            f"{e.confidence:.3g}" if e.confidence is not None else "",
            loss(e.value, result) if fraction else f"{e.value:.1f} x",
            interval(e),
            e.convention,
        )
    return shown


def _agents(result: CalculationResult) -> RenderableType:
    shown = table("Who answered")
    for column in ("agent", "status"):
        shown.add_column(column)
    shown.add_column("elapsed ms", justify="right")
    shown.add_column("method")
    shown.add_column("input hash", style="dim")
    for answer in result.answers.values():
        status = Text(answer.status, style=STATUS_STYLE[answer.status])
        if answer.attempts > 1:
            status.append(f" after {answer.attempts} attempts")
        shown.add_row(
            answer.agent_id,
            status,
            f"{answer.elapsed_ns / 1e6:.2f}" if answer.report is not None else "",
            ", ".join(answer.method_labels) or answer.reason,
            answer.input_hash[:SHORT_ID],
        )
    return shown


def _warnings(result: CalculationResult) -> Iterator[RenderableType]:
    lines = [line for answer in result.answers.values() for line in _notes(answer)]
    if lines:
        yield Text("\n".join(lines), style="yellow")


def _notes(answer: AgentAnswer) -> Iterator[str]:
    for warning in answer.warnings:
        yield f"{answer.agent_id}: {warning}"
    for fallback in answer.fallbacks:
        yield f"{answer.agent_id}: fell back, {fallback}"


def _spaced(parts: list[RenderableType]) -> Iterator[RenderableType]:
    for part in parts:
        yield part
        yield Text()
