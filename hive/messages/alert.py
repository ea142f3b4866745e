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
    AGENT_FAILURE = "agent_failure"
    BYZANTINE_FAULT = "byzantine_fault"
    VOTER_QUARANTINED = "voter_quarantined"
    QUORUM_LOST = "quorum_lost"


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
    """Role of the agent that found it; its name where the swarm itself is concerned."""
    subject: str
    """Portfolio, or agent, it is about."""
    message: str
    dedup_key: str
    ts_ns: int
    """UTC, nanoseconds."""
    value: float | None = None
    limit: float | None = None
    proof: str = ""
    """SHA-256 of what proves it, where something does."""


@message
class SwarmAlerts:
    """What must be known of the swarm itself."""

    open: tuple[Alert, ...]
    """Whose cause is there now, the most urgent first."""
    raised: tuple[Alert, ...]
    """Those of late, open or not, newest last."""
    withheld: int
    """Said again within a minute of the same."""
    forgotten: int
    """Raised once, and no more among those of late."""
    critical_forgotten: int
    """Of these, the critical ones."""
