"""A watched book for a reader at a terminal: figures at the last tick, how the agents keep up, and alerts."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive.figures import LiveFigures
from hive.messages.alert import Alert
from swarm.report.alerts import line, moment

FORMS = {
    "value": "{:,.0f}",
    "profit": "{:+,.0f}",
    "var": "{:.2%} of value, one day, 95 %",
    "drawdown": "{:.2%}",
    "leverage": "{:.2f}",
    "concentration": "{:.2%}",
    "volatility": "{:.2%} a day",
    "mean_correlation": "{:.2f}",
    "days_to_liquidate": "{:.1f}",
    "liquidity_cost": "{:,.0f}",
    "stress_index": "{:.2f}",
}


def live(figures: LiveFigures, alerts: Collection[Alert], *, missed: int, withheld: int) -> RenderableType:
    """Everything that is known of the book now, the newest alert last."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for name, form in FORMS.items():
        number = getattr(figures, name)
        table.add_row(name.replace("_", " "), Text("not known", style="dim") if number is None else form.format(number))
    agents = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("agent", "ticks", "missed", "refused", "alerts", "last tick", ""):
        agents.add_column(column)
    for role, counts in figures.counts.items():
        agents.add_row(
            role,
            f"{counts.ticks:,}",
            f"{counts.missed:,}",
            f"{counts.refused:,}",
            f"{counts.alerts:,}",
            moment(counts.last_ns),
            Text("being made anew after missed ticks", style="yellow") if counts.incomplete else "",
        )
    for role, reason in figures.missing.items():
        agents.add_row(role, "", "", "", "", "", Text(reason, style="red"))
    notes = []
    if missed:
        notes.append(Text(f"{missed} alerts came faster than they were read, and are lost", style="red"))
    if withheld:
        notes.append(Text(f"{withheld} alerts said again within a minute what had been said", style="dim"))
    return Group(Text(figures.portfolio, style="bold"), table, agents, *map(line, alerts), *notes)
