"""Liquidity, for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from hive.messages.calculation import CalculationResult
from hive.messages.reports import (
    LiquidityReport,
)
from swarm.report.terminal.form import interval, percent, table


def section(report: LiquidityReport, result: CalculationResult) -> list[RenderableType]:
    """The section of this room."""
    shown = table("Liquidity: days to sell, and what selling costs")
    shown.add_column("position")
    for column in ("exposure", "days", "cost"):
        shown.add_column(column, justify="right")
    shown.add_column("", style="yellow")
    for p in sorted(report.positions, key=lambda p: -(p.participation_days or 0.0)):
        shown.add_row(
            p.symbol,
            "" if p.exposure is None else f"{p.exposure:,.0f}",
            "?" if p.participation_days is None else f"{p.participation_days:.2f}",
            "?" if p.cost is None else f"{p.cost:,.0f}",
            p.note,
        )
    parts: list[RenderableType] = [shown]
    lines = []
    for estimate in report.estimates:
        if estimate.unit == "days":
            lines.append(f"Days to liquidate: {estimate.value:.2f} ({estimate.convention})")
        elif estimate.unit == "money" and estimate.measure == "liquidity_cost":
            low, high = estimate.lower or 0.0, estimate.upper or 0.0
            lines.append(
                f"Cost: {estimate.value:,.0f} {result.currency}, {low:,.0f} to {high:,.0f} "
                f"({estimate.interval_method}; {estimate.convention})"
            )
    if report.profile:
        sold = ", ".join(f"{share:.0%} after {days} d" for days, share in report.profile)
        lines.append(f"Sold, of the {report.covered:.0%} of exposure whose volume is known: {sold}")
    for schedule in report.schedules:
        lines.append(
            f"Selling {schedule.name}: cost {percent(schedule.cost.value)} ({interval(schedule.cost)}), deviation "
            f"{percent(schedule.deviation.value)}, {len(schedule.remaining) - 1} days"
        )
    for tail in (e for e in report.estimates if e.measure == "liquidation_var"):
        lines.append(f"VaR {tail.confidence:.3g} with the sale: {percent(tail.value)} ({interval(tail)})")
    for found in report.conditions:
        lines.append(
            f"{found.symbol}: {found.advice}, score {found.score:.2f}; {'; '.join(found.factors) or 'as usual'}"
        )
    for gap in report.funding:
        lines.append(
            f"Funding to {gap.tenor_days} days: flows {gap.net_flow:+,.0f}, sales {gap.proceeds:,.0f}, gap "
            f"{gap.gap.value:,.0f} {result.currency}"
        )
    if report.stress is not None:
        made = ", ".join(f"{name} {value:.2f}" for name, value in report.stress.components.items())
        lines.append(f"Liquidity stress: {report.stress.state}, index {report.stress.value:.2f} ({made})")
    if lines:
        parts.append(Text("\n".join(lines)))
    return parts
