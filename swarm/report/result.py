"""A calculation's result for a reader at a terminal: one section an agent, every number with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from hive.market.snapshot import SHORT_ID
from hive.messages.calculation import AgentAnswer, AnswerStatus, CalculationResult
from hive.messages.estimate import Estimate
from hive.messages.reports import (
    Allocation,
    CorrelationReport,
    LiquidityReport,
    PortfolioReport,
    Report,
    Scenario,
    StressReport,
    ValueAtRiskReport,
)

TRADING_DAYS = 252  # days in a year, to annualise volatility for display
HEAT_SYMBOLS = 24  # symbols that a correlation picture has room for
BAR_CELLS = 16
STATUS_STYLE = {AnswerStatus.OK: "green", AnswerStatus.LATE: "yellow", AnswerStatus.FAILED: "red"}


def render(result: CalculationResult) -> RenderableType:
    """The whole result, ready to print."""
    sections: list[RenderableType] = [_header(result)]
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
            return _tail_risk(report, result)
        case StressReport():
            return [_stress(report, result)]
        case CorrelationReport():
            return _correlation(report)
        case LiquidityReport():
            return _liquidity(report, result)
        case PortfolioReport():
            return _portfolio(report)


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


def _tail_risk(report: ValueAtRiskReport, result: CalculationResult) -> list[RenderableType]:
    days = result.parameters.horizon_days
    table = _table(f"Tail risk over {days} trading day{'s' * (days > 1)}: loss not exceeded, and mean loss beyond it")
    for column in ("method", "confidence"):
        table.add_column(column)
    for column in ("VaR", "95 % interval", "CVaR", "95 % interval"):
        table.add_column(column, justify="right")
    for var in (e for e in report.estimates if e.measure == "var"):
        cvar = next(
            e
            for e in report.estimates
            if (e.measure, e.confidence, e.method_label) == ("cvar", var.confidence, var.method_label)
        )
        table.add_row(
            *(var.method_label, f"{var.confidence:.3g}"),
            *(_loss(var.value, result), _interval(var), _loss(cvar.value, result), _interval(cvar)),
        )
    worst = ", ".join(f"{day.date} {_percent(-day.loss, sign=True)}" for day in report.worst_days)
    return [table, Text(f"Worst days of {report.estimates[0].samples} observations: {worst}", style="dim")]


def _stress(report: StressReport, result: CalculationResult) -> RenderableType:
    table = _table("Stress: what it would cost")
    table.add_column("scenario")
    table.add_column("loss", justify="right")
    table.add_column("")
    table.add_column("95 % interval", justify="right")
    table.add_column("index", justify="right")
    table.add_column("mean corr.", justify="right")
    table.add_column("hit hardest", overflow="fold")
    table.add_column("", style="dim")
    worst = report.worst.loss.value if report.worst is not None and report.worst.loss is not None else 0.0
    for scenario in report.scenarios:
        if scenario.loss is None:
            table.add_row(scenario.name, Text("not run", style="yellow"), "", "", "", "", "", scenario.note)
            continue
        table.add_row(
            scenario.name,
            _loss(scenario.loss.value, result),
            _bar(scenario.loss.value / worst if worst > 0 else 0.0),
            _interval(scenario.loss),
            "" if scenario.benchmark_loss is None else _percent(scenario.benchmark_loss),
            "" if scenario.mean_correlation is None else f"{scenario.mean_correlation:.2f}",
            _hardest(scenario),
            scenario.note,
        )
    return table


def _hardest(scenario: Scenario) -> str:
    ranked = sorted(scenario.contributions.items(), key=lambda item: -item[1])
    return ", ".join(f"{symbol} {_percent(loss)}" for symbol, loss in ranked[:2] if loss > 0)


def _correlation(report: CorrelationReport) -> list[RenderableType]:
    table = _table(f"Correlation, Ledoit-Wolf (shrinkage {report.shrinkage:.3f})")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("", style="dim")
    for estimate in report.estimates:
        table.add_row(
            estimate.measure.replace("_", " "),
            f"{estimate.value:.2f}",
            _interval(estimate, _plain),
            estimate.convention,
        )
    if report.regime is not None:
        regime = report.regime
        verdict = Text("changed", style="bold yellow") if regime.changed else Text("no change called", style="green")
        table.add_row(
            "change of mean correlation",
            f"{regime.change.value:+.2f}",
            _interval(regime.change, _plain),
            Text.assemble(verdict, f": {regime.previous:.2f} to {regime.recent:.2f}, {regime.change.convention}"),
        )
    parts: list[RenderableType] = [table]
    if report.pairs:
        pairs = ", ".join(f"{p.first}-{p.second} {p.correlation:.2f} ({p.severity})" for p in report.pairs)
        parts.append(Text(f"Closely correlated pairs: {pairs}"))
    if 1 < len(report.symbols) <= HEAT_SYMBOLS:
        parts.append(_heat_map(report))
    return parts


def _heat_map(report: CorrelationReport) -> RenderableType:
    """The correlation matrix, symbols ordered so that alike ones stand together (by the two leading eigenvectors)."""
    _, vectors = np.linalg.eigh(report.shrunk)
    order = np.argsort(np.arctan2(vectors[:, -2], vectors[:, -1])) if len(vectors) > 1 else np.array([0])
    lines = Text("Correlation picture (x 100)\n", style="dim")
    lines.append(" " * 6 + "".join(f"{report.symbols[j][:4]:>5}" for j in order) + "\n", style="dim")
    for i in order:
        lines.append(f"{report.symbols[i][:5]:<6}", style="dim")
        for j in order:
            value = float(report.shrunk[i, j])
            lines.append(f"{'' if i == j else f'{value * 100:.0f}':>5}", style=_heat(value))
        lines.append("\n")
    return lines


def _heat(value: float) -> Style:
    strength = int(min(1.0, abs(value)) * 200)
    background = f"rgb({40 + strength},40,50)" if value >= 0 else f"rgb(40,50,{40 + strength})"
    return Style(color="white", bgcolor=background)


def _liquidity(report: LiquidityReport, result: CalculationResult) -> list[RenderableType]:
    table = _table("Liquidity: days to sell, and what selling costs")
    table.add_column("position")
    for column in ("exposure", "days", "cost"):
        table.add_column(column, justify="right")
    table.add_column("", style="yellow")
    for p in sorted(report.positions, key=lambda p: -(p.participation_days or 0.0)):
        table.add_row(
            p.symbol,
            "" if p.exposure is None else f"{p.exposure:,.0f}",
            "?" if p.participation_days is None else f"{p.participation_days:.2f}",
            "?" if p.cost is None else f"{p.cost:,.0f}",
            p.note,
        )
    parts: list[RenderableType] = [table]
    lines = []
    for estimate in report.estimates:
        if estimate.unit == "days":
            lines.append(f"Days to liquidate: {estimate.value:.2f} ({estimate.convention})")
        elif estimate.unit == "money":
            low, high = estimate.lower or 0.0, estimate.upper or 0.0
            lines.append(
                f"Cost: {estimate.value:,.0f} {result.currency}, {low:,.0f} to {high:,.0f} "
                f"({estimate.interval_method}; {estimate.convention})"
            )
    if report.profile:
        sold = ", ".join(f"{share:.0%} after {days} d" for days, share in report.profile)
        lines.append(f"Sold, of the {report.covered:.0%} of exposure whose volume is known: {sold}")
    if lines:
        parts.append(Text("\n".join(lines)))
    return parts


def _portfolio(report: PortfolioReport) -> list[RenderableType]:
    allocations = (report.current, *report.proposals)
    effect = _table("Proposed allocations and their effect")
    effect.add_column("")
    for allocation in allocations:
        effect.add_column(allocation.name, justify="right")
    effect.add_row("volatility, a year", *(_percent(_year(a)) for a in allocations))
    for tail in (e for e in report.current.estimates if e.measure in ("var", "cvar")):
        name = f"{ {'var': 'VaR', 'cvar': 'CVaR'}[tail.measure] } {tail.confidence:.3g}"
        effect.add_row(name, *(_against(a, report.current, tail) for a in allocations))
    effect.add_row("largest risk contribution", *(_largest(a, report.symbols) for a in allocations))
    effect.add_row("net exposure", *(_percent(float(a.weights.sum())) for a in allocations))
    effect.add_row("turnover", *(_percent(a.turnover) for a in allocations))
    effect.add_row("method", *(a.method_label for a in allocations), style="dim")

    weights = _table("Weights, and share of risk")
    weights.add_column("")
    for allocation in allocations:
        weights.add_column(allocation.name, justify="right")
        weights.add_column("risk", justify="right", style="dim")
    for row, symbol in enumerate(report.symbols):
        cells = [text for a in allocations for text in (_percent(a.weights[row]), _percent(a.risk_contributions[row]))]
        weights.add_row(symbol, *cells)
    return [effect, weights]


def _year(allocation: Allocation) -> float:
    return allocation.estimate("volatility").value * float(np.sqrt(TRADING_DAYS))


def _against(allocation: Allocation, current: Allocation, tail: Estimate) -> Text:
    value = allocation.estimate(tail.measure, tail.confidence).value
    if allocation is current:
        return Text(_percent(value))
    change = value / tail.value - 1 if tail.value > 0 else 0.0
    return Text.assemble(_percent(value), (f" ({change:+.0%})", "green" if change < 0 else "red"))


def _largest(allocation: Allocation, symbols: tuple[str, ...]) -> str:
    place = int(np.argmax(allocation.risk_contributions))
    return f"{symbols[place]} {_percent(float(allocation.risk_contributions[place]))}"


def _merged(result: CalculationResult) -> RenderableType:
    table = _table("Across agents")
    table.add_column("measure")
    table.add_column("confidence")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("", style="dim")
    for e in result.merged:
        fraction = e.unit == "fraction"
        table.add_row(
            e.measure.replace("_", " "),
            f"{e.confidence:.3g}" if e.confidence is not None else "",
            _loss(e.value, result) if fraction else f"{e.value:.1f} x",
            _interval(e),
            e.convention,
        )
    return table


def _agents(result: CalculationResult) -> RenderableType:
    table = _table("Who answered")
    for column in ("agent", "status"):
        table.add_column(column)
    table.add_column("elapsed ms", justify="right")
    table.add_column("method")
    table.add_column("input hash", style="dim")
    for answer in result.answers.values():
        status = Text(answer.status, style=STATUS_STYLE[answer.status])
        if answer.attempts > 1:
            status.append(f" after {answer.attempts} attempts")
        table.add_row(
            answer.agent_id,
            status,
            f"{answer.elapsed_ns / 1e6:.2f}" if answer.report is not None else "",
            ", ".join(answer.method_labels) or answer.reason,
            answer.input_hash[:SHORT_ID],
        )
    return table


def _warnings(result: CalculationResult) -> Iterator[RenderableType]:
    lines = [line for answer in result.answers.values() for line in _notes(answer)]
    if lines:
        yield Text("\n".join(lines), style="yellow")


def _notes(answer: AgentAnswer) -> Iterator[str]:
    for warning in answer.warnings:
        yield f"{answer.agent_id}: {warning}"
    for fallback in answer.fallbacks:
        yield f"{answer.agent_id}: fell back, {fallback}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _spaced(parts: list[RenderableType]) -> Iterator[RenderableType]:
    for part in parts:
        yield part
        yield Text()


def _loss(fraction: float, result: CalculationResult) -> str:
    if result.value is None:
        return _percent(fraction)
    return f"{_percent(fraction)}  {fraction * result.value:,.0f}"


def _interval(estimate: Estimate, form: Callable[[float], str] | None = None) -> str:
    shown = form or _percent
    if estimate.lower is None and estimate.upper is None:
        return ""
    low = shown(estimate.lower) if estimate.lower is not None else "?"
    high = shown(estimate.upper) if estimate.upper is not None else "?"
    return f"{low} .. {high}"


def _plain(value: float) -> str:
    return f"{value:.2f}"


def _percent(fraction: float, *, sign: bool = False) -> str:
    return f"{fraction:+.2%}" if sign else f"{fraction:.2%}"


def _bar(share: float) -> Text:
    cells = max(0, round(share * BAR_CELLS))
    return Text("█" * cells, style="red")
