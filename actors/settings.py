"""Settings that every agent's shell reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True)
class ShellSettings:
    """How an agent lives, whatever it is for."""

    instances: Annotated[int, Ge(1)] = 1
    """Instances of each risk agent; the hub and whoever asks in numbers balance between them."""
    max_pending_calls: Annotated[int, Ge(1)] = 256
    """Calls one caller may have waiting at an agent before it is refused."""
    restart_pause_s: Annotated[float, Gt(0)] = 5.0
    """Pause before an agent that could not initialise for a reason of its own tries again, seconds."""
    resident_snapshots: Annotated[int, Ge(1)] = 4
    """Snapshots an agent keeps its resident state for."""
    pin: Literal["auto", "off"] = "auto"
    """Whether an agent that serves lanes takes a core for itself where the machine has one to spare."""
    reserved_cores: Annotated[int, Ge(1)] = 1
    """Physical cores of every NUMA node that no agent takes for itself."""
    timings_kept: Annotated[int, Ge(1)] = 1000
    """Answers whose time is remembered for percentiles."""
