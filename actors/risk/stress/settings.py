"""Settings of stress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval


@dataclass(frozen=True)
class StressSettings:
    """The scenario library beside what a request adds."""

    methods: tuple[str, ...] = ("historical_window", "hypothetical", "factor")
    """Methods applied where a calculation names none; conditions and a target loss bring theirs along."""
    market_moves: tuple[Annotated[float, Ge(-1)], ...] = (-0.10, -0.20, -0.40)
    """Moves of every position at once, as fractions."""
    index_moves: tuple[Annotated[float, Ge(-1)], ...] = (-0.10, -0.20)
    """Moves of the market index, carried to the book by its beta."""
    factor_move: Annotated[float, Interval(ge=-1, le=1)] = -0.10
    """Move of each factor in turn, carried to the book by its beta."""
    min_regression_days: Annotated[int, Ge(10)] = 60
    """Common days of book and factor below which no beta is estimated."""
    window_days: Annotated[int, Ge(60)] = 1260
    """Newest days that simulated, conditional and reverse stress and sensitivities rest on (five years)."""
    simulated_scenarios: Annotated[int, Interval(ge=1000, le=1_000_000)] = 10_000
    """Scenarios of a simulated stress, and draws of a conditional one."""
    target_loss: Annotated[float, Interval(gt=0, lt=1)] = 0.20
    """Loss that the reverse stress test looks for where a calculation names none, a fraction of value."""
    reverse_starts: Annotated[int, Interval(ge=1, le=1000)] = 12
    """Starting points of the reverse stress test of a book that is not linear."""
    bump: Annotated[float, Interval(gt=0, le=0.5)] = 0.01
    """Move up and down by which deltas and gammas are measured."""
    orders: Annotated[int, Interval(ge=10, le=100_000)] = 1000
    """Random orders of the positions that Shapley shares are averaged over."""
    resamples: Annotated[int, Interval(ge=100, le=10_000)] = 400
    """Resamples of a bootstrap."""
    block_days: Annotated[int, Ge(1)] = 10
    """Length of the blocks of days that a bootstrap draws."""
