"""Settings of lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Interval


@dataclass(frozen=True)
class LaneSettings:
    """Shared memory between agents and those who ask them on the same machine."""

    per_agent: Annotated[int, Interval(ge=1, le=16384)] = 64
    """Callers that may have a lane to one agent at a time."""
    slots: Literal[2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] = 64
    """Questions that may wait in one lane."""
    slot_words: Annotated[int, Interval(ge=64, le=65536)] = 256
    """Least size of a slot in words of eight bytes; a snapshot of many symbols takes more."""
    wait: Literal["auto", "spin", "yield", "park"] = "auto"
    """How an agent waits for questions: burning its core, giving way, or asleep on a futex. `auto` spins where the
    machine has a core for it alone, and parks elsewhere."""
    patience_s: Annotated[float, Gt(0)] = 1.0
    """How long a caller waits for a fast answer, seconds."""
