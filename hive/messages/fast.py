"""Questions in numbers: who asks, what must be known to ask, and the operations that agents answer in microseconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cluster.lanes.peer import started
from hive.messages.calculation import Role
from hive.messages.codec import message

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

OPERATIONS: dict[Role, dict[str, int]] = {
    Role.VALUE_AT_RISK: {"parametric": 1, "historical": 2, "historical_components": 3},
    Role.STRESS: {"scenarios": 1, "simulated": 2},
    Role.CORRELATION: {"book": 1},
    Role.LIQUIDITY: {"book": 1},
    Role.PORTFOLIO: {"risk_budgets": 1, "minimum_variance": 2},
}
"""What each agent answers; numbers that go in and come out are described in its room's ``fast_kernels.py``."""
SERVING_LANES = (*OPERATIONS, Role.GATE)
"""Agents that have lanes; the gate's carry orders: see :mod:`hive.messages.orders`."""


@message
class Caller:
    """A process that wants a lane."""

    pid: int
    started: int
    """Start time in clock ticks since boot."""
    boot_id: str
    """Of the machine's present boot: processes of another machine cannot share memory."""
    wait: str
    """How it waits for answers."""

    @classmethod
    def here(cls, wait: str) -> Caller:
        """This process."""
        return cls(os.getpid(), started(os.getpid()), boot_id(), wait)


@message
class FastFacts:
    """What a caller must know to ask an agent in numbers."""

    snapshot_id: str
    tag: int
    """The snapshot in one word, which questions and answers carry."""
    symbols: tuple[str, ...]
    """Weights come in this order."""
    facts: dict[str, Any]


def boot_id() -> str:
    """Identity of the machine's present boot."""
    return BOOT_ID.read_text().strip()


def tag_of(snapshot_id: str) -> int:
    """A snapshot's id, which is a hash in hexadecimal, as a positive number of 60 bits."""
    return int(snapshot_id[:15], 16)
