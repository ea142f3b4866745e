"""Figures of a watched book as compiled loops show them on a page, and as people read them.

A page's body is sixteen words of eight bytes: what the loop keeps of the stream, then the room's own numbers as
float64. It is written after every turn at the ticks, whole or not at all.
"""

from __future__ import annotations

from dataclasses import field

import numpy as np

from hive.messages.calculation import Role
from hive.messages.codec import message

# What a compiled follower keeps of the stream, int64 (MARKS,): the first words of the body.
CROSSED = 0  # limits that are beyond and were told, a bit each
INCOMPLETE = 1  # 1 once ticks were missed, until a refresh
TICKS, MISSED, REFUSED, ALERTS, LAST_NS = 2, 3, 4, 5, 6
MARKS = 8
"""Ticks taken, missed, and refused for a symbol or price that cannot be; alerts raised; time of the last tick."""
SHEET_WORDS = 16
SHOWN: dict[Role, tuple[str, ...]] = {
    Role.VALUE_AT_RISK: ("value", "profit", "var", "drawdown", "leverage", "concentration", "gross", "peak_value"),
    Role.CORRELATION: ("volatility", "mean_correlation", "risen", "fallen"),
    Role.LIQUIDITY: ("days_to_liquidate", "liquidity_cost", "stress_index"),
}
"""What each agent shows, in the order of its numbers."""


@message
class TickCounts:
    """How an agent has kept up with the ticks."""

    ticks: int
    missed: int
    refused: int
    """For a symbol or price that cannot be."""
    alerts: int
    last_ns: int
    """Time of the last tick, UTC ns; 0 before the first."""
    incomplete: bool
    """Whether figures may be off because ticks were missed; they are made anew at once."""


@message
class LiveFigures:
    """A watched book at the last tick. Losses are positive; a part that is missing is None, ``missing`` says why."""

    portfolio: str
    value: float | None = None
    profit: float | None = None
    """Money, since the prices at which the book was given."""
    var: float | None = None
    """One-day 95 % Gaussian VaR over value."""
    drawdown: float | None = None
    """Fall from the highest value, a fraction."""
    leverage: float | None = None
    concentration: float | None = None
    """Largest position over gross exposure."""
    gross: float | None = None
    """Gross exposure, money."""
    peak_value: float | None = None
    volatility: float | None = None
    """Daily, exponentially weighted, a fraction of value."""
    mean_correlation: float | None = None
    """Of all pairs of the snapshot, exponentially weighted."""
    risen: float | None = None
    """Change statistic for a rise of correlation; an alert from its threshold on."""
    fallen: float | None = None
    days_to_liquidate: float | None = None
    liquidity_cost: float | None = None
    """Money."""
    stress_index: float | None = None
    counts: dict[Role, TickCounts] = field(default_factory=dict)
    missing: dict[Role, str] = field(default_factory=dict)


def shown(role: Role, body: np.ndarray) -> tuple[dict[str, float], TickCounts]:
    """(Figures by name, counts) of a page's body, int64 of shape (16,)."""
    names = SHOWN[role]
    numbers = body.view(np.float64)[MARKS : MARKS + len(names)]
    counts = TickCounts(
        ticks=int(body[TICKS]),
        missed=int(body[MISSED]),
        refused=int(body[REFUSED]),
        alerts=int(body[ALERTS]),
        last_ns=int(body[LAST_NS]),
        incomplete=bool(body[INCOMPLETE]),
    )
    return dict(zip(names, numbers.tolist(), strict=True)), counts
