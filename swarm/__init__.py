"""Riskswarm: a swarm of Ray actors that answers coordinated risk questions about a portfolio.

The names below are the public ones; everything else may move. ``SwarmClient`` is imported when first used: it brings
Ray along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.errors import (
    BootFailed,
    CalculationIncomplete,
    DeadlineExceeded,
    InvalidInput,
    InvalidMarketData,
    InvalidPortfolio,
    InvalidRequest,
    InvalidSettings,
    Overloaded,
    SessionConflict,
    SwarmError,
    SwarmUnavailable,
    UnknownSnapshot,
)
from hive.messages.alert import Alert, AlertKind, Priority, SwarmAlerts
from hive.messages.calculation import AgentAnswer, AnswerStatus, CalculationResult, CalculationType, Role
from hive.messages.estimate import Estimate
from hive.messages.gate import Warrant
from hive.messages.mandate import Limits
from hive.messages.orders import Decision, Order, Outcome, Reason, Side, Verdict
from hive.messages.portfolio import Portfolio, Position

if TYPE_CHECKING:
    from swarm.client import SwarmClient

__all__ = [
    "AgentAnswer",
    "Alert",
    "AlertKind",
    "AnswerStatus",
    "BootFailed",
    "CalculationIncomplete",
    "CalculationResult",
    "CalculationType",
    "DeadlineExceeded",
    "Decision",
    "Estimate",
    "InvalidInput",
    "InvalidMarketData",
    "InvalidPortfolio",
    "InvalidRequest",
    "InvalidSettings",
    "Limits",
    "Order",
    "Outcome",
    "Overloaded",
    "Portfolio",
    "Position",
    "Priority",
    "Reason",
    "Role",
    "SessionConflict",
    "Side",
    "SwarmAlerts",
    "SwarmClient",
    "SwarmError",
    "SwarmUnavailable",
    "UnknownSnapshot",
    "Verdict",
    "Warrant",
]


def __getattr__(name: str) -> Any:
    if name == "SwarmClient":
        from swarm.client import SwarmClient

        return SwarmClient
    raise AttributeError(f"module 'swarm' has no attribute {name!r}")
