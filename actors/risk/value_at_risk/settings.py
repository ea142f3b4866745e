"""Settings of value at risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge


@dataclass(frozen=True)
class ValueAtRiskSettings:
    """What the value-at-risk agent estimates on."""

    window_days: Annotated[int, Ge(0)] = 0
    """Newest days of the snapshot used; 0 uses them all."""
    worst_days: Annotated[int, Ge(0)] = 5
    """Worst days of the sample that a report lists."""
