"""Settings of stress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval


@dataclass(frozen=True)
class StressSettings:
    """The scenario library beside what a request adds."""

    market_moves: tuple[Annotated[float, Ge(-1)], ...] = (-0.10, -0.20, -0.40)
    """Moves of every position at once, as fractions."""
    index_moves: tuple[Annotated[float, Ge(-1)], ...] = (-0.10, -0.20)
    """Moves of the market index, carried to the book by its beta."""
    factor_move: Annotated[float, Interval(ge=-1, le=1)] = -0.10
    """Move of each factor in turn, carried to the book by its beta."""
    min_regression_days: Annotated[int, Ge(10)] = 60
    """Common days of book and factor below which no beta is estimated."""
