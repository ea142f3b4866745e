"""What the value-at-risk agent reports, and what a backtest of its methods finds."""

from __future__ import annotations

import numpy as np

from hive.messages.alert import Breach
from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class DayLoss:
    """A day of the sample and what the book would have lost on it, a fraction of value."""

    date: str
    loss: float


@message
class Decomposition:
    """What each position adds to VaR and CVaR over one day. Arrays have shape (n_positions,), fractions of value.

    Components sum to their total. A marginal figure is the change of the measure for a position larger by one value of
    the book, paid from cash; an incremental one is the measure less that of the book without the position, its
    proceeds held in cash.
    """

    method_label: str
    confidence: float
    convention: str
    """How the components of VaR and of CVaR are defined."""
    var: float
    cvar: float
    component_var: np.ndarray
    component_cvar: np.ndarray
    component_cvar_error: np.ndarray
    """Standard errors of the components of CVaR, days taken as independent."""
    marginal_var: np.ndarray
    marginal_cvar: np.ndarray
    incremental_var: np.ndarray
    incremental_cvar: np.ndarray
    herfindahl: float | None = None
    """Sum of squared shares of CVaR: 1 where one position carries it, 1/n where n share it evenly; beyond 1 where
    hedges do. None where CVaR is not positive."""
    largest_share: float | None = None
    """Largest share of CVaR."""
    largest: str = ""
    """Symbol with that share."""


@message
class LimitUse:
    """One limit and what is left of it; a breach has less than nothing left."""

    limit_name: str
    """``var``, ``cvar``, ``drawdown``, ``leverage`` or ``concentration``."""
    limit: float
    value: float | None = None
    """None where the limit is not watched; ``note`` says why."""
    headroom: float | None = None
    """Limit less value."""
    note: str = ""


@message
class ValueAtRiskReport:
    """VaR, CVaR and EVaR per method and confidence, who carries them, the limits, and the sample's worst days."""

    estimates: tuple[Estimate, ...]
    worst_days: tuple[DayLoss, ...]
    symbols: tuple[str, ...] = ()
    """Positions, in the order of the arrays of ``decompositions``."""
    decompositions: tuple[Decomposition, ...] = ()
    limits: tuple[LimitUse, ...] = ()
    breaches: tuple[Breach, ...] = ()
    loss_edges: np.ndarray | None = None
    """Edges of the bins of the sample's daily losses, shape (n_bins + 1,)."""
    loss_counts: np.ndarray | None = None
    """Days in each bin, shape (n_bins,)."""

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return self.estimates


@message
class BacktestTest:
    """One statistical test of one model's forecasts."""

    name: str
    """``kupiec``, ``christoffersen_independence``, ``conditional_coverage``, ``acerbi_szekely_z1`` or ``_z2``."""
    statistic: float | None
    p_value: float | None
    """Small where the model's forecasts are unlikely to be right; None where the test has nothing to stand on."""
    distribution: str
    """What the p-value rests on: a chi-squared law or a simulation."""
    note: str = ""


@message
class TrafficLight:
    """Basel zones: how likely a right model is to have at most as many exceptions as were counted."""

    days: int
    """Newest days counted; Basel counts 250."""
    exceptions: int
    cumulative_probability: float
    zone: str
    """``green`` below 95 %, ``yellow`` below 99.99 %, else ``red``."""


@message
class ModelBacktest:
    """One method's forecasts for every tested day, and how they did. Arrays have shape (n_tested,)."""

    method_label: str
    var: np.ndarray
    """Forecast made at the close of the day before, a fraction of value."""
    cvar: np.ndarray
    exceptions: np.ndarray
    """Whether the day's loss went beyond VaR."""
    expected: float
    """Exceptions of a right model."""
    tests: tuple[BacktestTest, ...]
    traffic_light: TrafficLight
    pinball: float
    """Mean quantile loss, a fraction of value; the smaller the better."""
    fissler_ziegel: float | None
    """Mean joint loss of VaR and CVaR (FZ0); None where a CVaR forecast is not positive, for which it is undefined."""
    fallbacks: tuple[str, ...] = ()
    """Refits that failed, whose day kept the last good fit."""


@message
class ModelComparison:
    """Diebold-Mariano test of equal predictive ability of two models on one loss."""

    first: str
    second: str
    loss: str
    """``fissler_ziegel`` or ``pinball``."""
    difference: float
    """Mean loss of the first less that of the second: negative where the first is better."""
    statistic: float | None
    p_value: float | None
    """Two-sided; None where the losses do not differ."""
    lags: int
    """Autocovariances in the long-run variance (Newey-West)."""


@message
class BacktestResult:
    """Rolling one-day-ahead backtest of value-at-risk methods on one book."""

    portfolio: str
    snapshot_id: str
    confidence: float
    window_days: int
    """Days each forecast was made from."""
    refit_days: int
    """Days between fits of the methods that are fitted."""
    seed: int
    dates: tuple[str, ...]
    """Days tested, shape (n_tested,)."""
    returns: np.ndarray
    models: tuple[ModelBacktest, ...]
    comparisons: tuple[ModelComparison, ...]
    warnings: tuple[str, ...] = ()

    def model(self, method_label: str) -> ModelBacktest:
        """The backtest of one method; KeyError where it was not tested."""
        for found in self.models:
            if found.method_label == method_label:
                return found
        raise KeyError(method_label)
