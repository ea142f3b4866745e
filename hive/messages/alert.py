"""Alerts: something a person or an officer must look at (requirements B11)."""

from __future__ import annotations

from enum import StrEnum

from hive.messages.codec import message


class Priority(StrEnum):
    """How urgent an alert is."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class AlertKind(StrEnum):
    """What an alert is about."""

    LIMIT_BREACH = "limit_breach"
    LIQUIDITY_STRESS = "liquidity_stress"
    CORRELATION_REGIME_CHANGE = "correlation_regime_change"
    STALE_DATA = "stale_data"


@message
class Breach:
    """A measured figure beyond its limit."""

    limit_name: str
    """``var``, ``cvar``, ``drawdown``, ``leverage`` or ``concentration``."""
    value: float
    limit: float
    priority: Priority
    message: str


@message
class Alert:
    """One alert. Two alerts of one ``dedup_key`` say the same thing."""

    kind: AlertKind
    priority: Priority
    source: str
    """Role of the agent that found it."""
    subject: str
    """Portfolio it is about."""
    message: str
    dedup_key: str
    ts_ns: int
    """UTC, nanoseconds."""
    value: float | None = None
    limit: float | None = None
