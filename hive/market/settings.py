"""Settings of market data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class MarketSettings:
    """How prices are judged and kept."""

    min_observations: Annotated[int, Ge(2)] = 30
    """Returns a snapshot needs at least (requirements risk 5.5: at least 30 prices)."""
    spike_return: Annotated[float, Gt(0)] = 0.5
    """One-day move, as a fraction, that is looked at: reverted the next day it is quarantined, else it is flagged."""
    max_bad_share: Annotated[float, Interval(ge=0, le=1)] = 0.05
    """Share of bad cells above which a symbol is quarantined whole, instead of the days of its bad cells."""
    calendar_gap_days: Annotated[int, Ge(1)] = 7
    """Calendar days between two observations above which a gap is flagged."""
    volume_days: Annotated[int, Ge(1)] = 20
    """Days averaged for daily volume (requirements risk 5.6)."""
    shared_snapshots: Annotated[int, Ge(1)] = 8
    """Snapshots kept in the object store; older ones are read from disk again when asked for."""
    max_symbols: Annotated[int, Ge(1)] = 5000
    """Symbols a snapshot may hold."""
    tick_slots: Literal[1024, 4096, 16384, 65536, 262144] = 65536
    """Ticks that the ring keeps: an agent that falls further behind misses some."""
