"""Alerts for a reader at a terminal."""

from __future__ import annotations

import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive.messages.alert import Alert, Priority, SwarmAlerts

STYLE = {Priority.CRITICAL: "bold red", Priority.HIGH: "red", Priority.MEDIUM: "yellow", Priority.LOW: ""}
SHORT_ID = 12


def line(alert: Alert) -> Text:
    """When, how urgent, and what."""
    proof = f" (proof {alert.proof[:SHORT_ID]})" if alert.proof else ""
    return Text(f"{moment(alert.ts_ns)}  {alert.priority.upper()}  {alert.message}{proof}", style=STYLE[alert.priority])


def alerts(found: SwarmAlerts) -> RenderableType:
    """Alerts about the swarm itself: those of late and those that are open."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("raised", "priority", "kind", "about", "by", "", "proof"):
        table.add_column(column, overflow="fold")
    open_ = {alert.dedup_key for alert in found.open}
    of_late = {alert.dedup_key for alert in found.raised}
    for alert in (*(alert for alert in found.open if alert.dedup_key not in of_late), *found.raised):
        table.add_row(
            moment(alert.ts_ns),
            Text(alert.priority.upper(), style=STYLE[alert.priority]),
            alert.kind,
            alert.subject,
            alert.source,
            Text(alert.message) if alert.dedup_key in open_ else Text(f"{alert.message} (over)", style="dim"),
            alert.proof[:SHORT_ID],
        )
    notes = []
    if found.withheld:
        notes.append(Text(f"{found.withheld} said again within a minute what had been said", style="dim"))
    if found.forgotten:
        style = "red" if found.critical_forgotten else "dim"
        notes.append(
            Text(f"{found.forgotten} older ones are forgotten, {found.critical_forgotten} critical", style=style)
        )
    none = [] if found.open or found.raised else [Text("The swarm has raised no alert.")]
    return Group(*none, *([] if none else [table]), *notes)


def moment(at_ns: int) -> str:
    """A time as UTC to the millisecond; empty for none."""
    if at_ns <= 0:
        return ""
    return f"{datetime.datetime.fromtimestamp(at_ns / 1e9, datetime.UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
