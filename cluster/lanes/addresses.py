"""Where lanes, broadcasts and pages lie: what processes tell each other, without the compiled loops that go there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PortAddress:
    """Where a port is: whoever holds this, on the same machine and of the same user, can map it."""

    pid: int
    started: int
    """Start time of the process, clock ticks since boot."""
    descriptor: int
    generation: int
    """Random; another one means that the port there is not the one that was meant."""


@dataclass(frozen=True)
class LaneAddress:
    """One lane of a port, opened for one caller."""

    port: PortAddress
    lane: int
    generation: int


@dataclass(frozen=True)
class BroadcastAddress:
    """Where a broadcast is: whoever holds this, on the same machine and of the same user, can listen."""

    pid: int
    started: int
    """Start time of the process, clock ticks since boot."""
    descriptor: int
    generation: int
    """Random; another one means that the memory there is not the one that was meant."""


@dataclass(frozen=True)
class PageAddress:
    """Where a page is, for processes of the same user and machine."""

    pid: int
    descriptor: int
    at: int
    """First word: that of the version."""
    count: int
    """Words of the body."""
