"""What the stress agent reports."""

from __future__ import annotations

from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class Scenario:
    """One stress scenario. ``loss`` is None where the snapshot does not cover it, and ``note`` says so."""

    name: str
    kind: str
    """``historical``, ``hypothetical`` or ``factor``."""
    loss: Estimate | None
    contributions: dict[str, float]
    """Loss by symbol, a fraction of value; they sum to the loss."""
    note: str = ""
    benchmark_loss: float | None = None
    """Loss of the market index in a historical window."""
    mean_correlation: float | None = None
    """Mean pair correlation of the book's symbols inside a historical window."""


@message
class StressReport:
    """Every scenario that was run or could not be run."""

    scenarios: tuple[Scenario, ...]

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return tuple(scenario.loss for scenario in self.scenarios if scenario.loss is not None)

    @property
    def worst(self) -> Scenario | None:
        """The scenario with the largest loss."""
        known = [scenario for scenario in self.scenarios if scenario.loss is not None]
        return max(known, key=lambda scenario: scenario.loss.value if scenario.loss else 0.0, default=None)
