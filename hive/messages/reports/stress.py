"""What the stress agent reports."""

from __future__ import annotations

from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class Scenario:
    """One stress scenario. ``loss`` is None where it could not be run, and ``note`` says why."""

    name: str
    kind: str
    """``historical``, ``hypothetical``, ``factor``, ``monte_carlo``, ``conditional``, ``reverse`` or ``tail``."""
    loss: Estimate | None
    contributions: dict[str, float]
    """Loss by symbol, a fraction of value; they sum to the loss. Empty where it has no parts."""
    note: str = ""
    benchmark_loss: float | None = None
    """Loss of the market index in a historical window."""
    mean_correlation: float | None = None
    """Mean pair correlation of the book's symbols inside a historical window."""
    moves: dict[str, float] | None = None
    """Moves of what drives the book, where the scenario found them."""


@message
class ReverseStress:
    """The most probable one-day move that loses the target."""

    target: float
    distance: float
    """Mahalanobis norm of the move: standard deviations of the market away."""
    normal_probability: float
    """Chance of such a loss on one day were moves normal and the book linear there."""
    student_probability: float
    """The same with Student-t moves of the fitted degrees."""
    degrees: float | None
    """Fitted degrees of freedom; None where normal moves are likelier."""
    moves: dict[str, float]
    contributions: dict[str, float]
    """Loss by position; they sum to the loss reached."""
    closest_day: str
    """Day of the sample whose moves came closest, by the same norm."""
    closest_day_loss: float
    others: tuple[dict[str, float], ...]
    """Other moves, locally as probable as any near them, that lose the target too."""
    starts: int
    """Starting points of the search."""


@message
class Sensitivity:
    """How one position reacts, and its share of the variance of the book's daily loss."""

    symbol: str
    delta: float
    """Change of the book's value, a fraction, for a move of the symbol by +100 %, at the present prices."""
    gamma: float
    """Change of that for a further +100 %."""
    share: Estimate
    """Shapley share of variance; over the positions they sum to 1."""


@message
class FactorSensitivity:
    """Change of the book's value for a move of one factor by +100 %, the other factors held."""

    factor: str
    beta: Estimate


@message
class StressReport:
    """Every scenario that was run or could not be run."""

    scenarios: tuple[Scenario, ...]
    simulated: tuple[Estimate, ...] = ()
    """VaR and CVaR over the simulated scenarios."""
    reverse: ReverseStress | None = None
    sensitivities: tuple[Sensitivity, ...] = ()
    factor_sensitivities: tuple[FactorSensitivity, ...] = ()

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return (
            *(scenario.loss for scenario in self.scenarios if scenario.loss is not None),
            *self.simulated,
            *(found.share for found in self.sensitivities),
            *(found.beta for found in self.factor_sensitivities),
        )

    @property
    def worst(self) -> Scenario | None:
        """The scenario with the largest loss; bounds and targets are no scenarios that happen."""
        known = [s for s in self.scenarios if s.loss is not None and s.kind not in ("tail", "reverse")]
        return max(known, key=lambda scenario: scenario.loss.value if scenario.loss else 0.0, default=None)
