"""Settings of the committee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from consensus.simplex.core import Timing

MS = 1_000_000


@dataclass(frozen=True)
class ConsensusSettings:
    """The replicas that decide, and how long they wait for each other."""

    voters: Literal[0, 4, 7, 10] = 0
    """Replicas: 4 tolerate one faulty, 7 two, 10 three; 0 starts none."""
    deadline_s: Annotated[float, Gt(0)] = 5.0
    """How long a motion may take where its mover says nothing, seconds."""
    proposal_ms: Annotated[float, Gt(0)] = 30.0
    """How long a leader may take to propose, at first: twice the longest usual delay of a message. Timers double while
    more views fail than faulty leaders explain."""
    view_ms: Annotated[float, Gt(0)] = 80.0
    """How long a view may take: at least three times that delay, and more than ``proposal_ms``."""
    repeat_ms: Annotated[float, Gt(0)] = 100.0
    """Before a replica says again what it said, and before it passes on a certificate that others should have."""
    transport: Literal["lanes", "ray"] = "lanes"
    """How replicas of one machine talk: through shared memory, or as those of different machines always do."""
    inbox: Annotated[int, Ge(16)] = 4096
    """Messages and questions that may wait at a replica; what comes beyond is dropped, counted and said again."""


def timing_of(settings: ConsensusSettings) -> Timing:
    """How long a replica waits, as its core takes it."""
    return Timing(
        proposal_ns=int(settings.proposal_ms * MS),
        view_ns=int(settings.view_ms * MS),
        notice_ns=int(settings.repeat_ms * MS),
        repeat_ns=int(settings.repeat_ms * MS),
        supply_ns=int(settings.proposal_ms * MS / 2),
    )
