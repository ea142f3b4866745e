"""Tail risk, for a page."""

from __future__ import annotations

from hive.messages.reports import ValueAtRiskReport
from swarm.report.page.form import Part, estimates_table, text


def section(report: ValueAtRiskReport) -> list[Part]:
    """The section of this room."""
    days = ", ".join(f"{text(day.date)} ({-day.loss:+.2%})" for day in report.worst_days)
    return ["<h2>Tail risk</h2>", estimates_table(report.estimates), f"<p class=quiet>Worst days: {days}</p>"]
