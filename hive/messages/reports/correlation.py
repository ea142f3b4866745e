"""What the correlation agent reports."""

from __future__ import annotations

import numpy as np

from hive.messages.codec import message
from hive.messages.estimate import Estimate


@message
class CorrelatedPair:
    """Two symbols whose correlation passed an alert threshold."""

    first: str
    second: str
    correlation: float
    severity: str
    """``HIGH`` above the upper threshold, else ``MEDIUM``."""


@message
class RegimeChange:
    """Mean pair correlation of the recent window against the window before it."""

    recent: float
    previous: float
    change: Estimate
    recent_days: int
    previous_days: int
    changed: bool
    """The interval of the change excludes zero and its size passes the threshold."""


@message
class CorrelationMatrix:
    """The book's correlation by one more method."""

    method: str
    correlation: np.ndarray
    """Shape (n_symbols, n_symbols)."""
    note: str = ""
    """What must be known to read it: factors kept, a repair and how far it moved the matrix, a singular sample."""


@message
class ChangeCall:
    """One change of correlation that was called."""

    change_date: str
    """ISO date of the first day of the new regime, estimated."""
    alarm_date: str
    """ISO date on which it was called, with what was known by then."""
    delay_days: int
    """Market days from the one to the other."""
    direction: str
    """``rise`` or ``fall``."""


@message
class ChangeWatch:
    """What one detector made of the book's history, day by day."""

    method: str
    """``cusum`` or ``bayesian_change_point``."""
    statistic: str
    """``mean_correlation`` or ``largest_eigenvalue_share``."""
    calls: tuple[ChangeCall, ...]
    """Oldest first."""
    days: int
    """Days watched."""
    false_alarm_days: int
    """Mean days to a false alarm in a market without change, by calibration."""
    usual_delay_days: float
    """Median days to the call of a change by half a standard deviation of the daily statistic, by calibration."""
    recent: bool
    """Whether the last call is younger than the recent window."""

    @property
    def last(self) -> ChangeCall | None:
        """The newest call."""
        return self.calls[-1] if self.calls else None


@message
class DynamicCorrelation:
    """DCC(1,1): how fast the book's correlation moves, and where it stands."""

    a: Estimate
    b: Estimate
    mean_correlation: Estimate
    """Forecast for the next day."""
    half_life_days: float | None
    """Days in which half of a shock is forgotten; None where none moves it, or none is forgotten."""
    correlation: np.ndarray
    """Forecast for the next day, shape (n_symbols, n_symbols)."""
    path: np.ndarray
    """Mean pair correlation of the newest days, each as forecast the evening before, shape (n_days,)."""
    path_dates: np.ndarray
    """datetime64[D], shape (n_days,)."""
    forecast: np.ndarray
    """Mean pair correlation expected 1, 2, ... days ahead."""
    likelihood: str
    """``full``, ``all_pairs`` or ``contiguous_pairs``."""
    log_likelihood: float
    constant_log_likelihood: float
    """Of correlation that does not move."""
    boundary: str
    """Which bound the fit ended at; empty where none."""


@message
class CopulaFit:
    """One copula fitted to two symbols, or to all of the book."""

    family: str
    """``gaussian``, ``student_t``, ``clayton`` or ``gumbel``."""
    parameters: dict[str, float]
    log_likelihood: float
    aic: float
    bic: float


@message
class PairDependence:
    """How two symbols depend on each other, and how they fall and rise together."""

    first: str
    second: str
    kendall_tau: float
    fits: tuple[CopulaFit, ...]
    """The best by AIC first."""
    lower_tail: Estimate
    """Chance that one falls beyond an extreme quantile given that the other does, by the best family."""
    upper_tail: Estimate


@message
class BookDependence:
    """How all symbols of the book depend on each other."""

    fits: tuple[CopulaFit, ...]
    """The better by AIC first; parameters beside the correlations."""
    degrees: Estimate | None
    """Of the t copula: few mean joint extremes; None where the Gaussian one is the better."""
    mean_tail: Estimate
    """Tail dependence of a pair, the mean over pairs."""
    pairs: tuple[PairDependence, ...]
    """The most dependent pairs."""


@message
class CorrelationReport:
    """Correlation of the book's symbols: shrunk, exponentially weighted, its changes, and more on request."""

    symbols: tuple[str, ...]
    shrunk: np.ndarray
    """Ledoit-Wolf correlation, shape (n_symbols, n_symbols)."""
    ewma: np.ndarray
    """Exponentially weighted correlation, shape (n_symbols, n_symbols)."""
    shrinkage: float
    estimates: tuple[Estimate, ...]
    pairs: tuple[CorrelatedPair, ...]
    regime: RegimeChange | None
    """None where not asked for, the sample is shorter than the two windows, or the book holds one symbol."""
    order: tuple[int, ...] = ()
    """Places of the symbols, alike ones beside each other."""
    clusters: tuple[tuple[str, ...], ...] = ()
    """Groups of symbols that move together, in that order."""
    matrices: tuple[CorrelationMatrix, ...] = ()
    watches: tuple[ChangeWatch, ...] = ()
    dynamic: DynamicCorrelation | None = None
    dependence: BookDependence | None = None

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        found = list(self.estimates)
        if self.regime:
            found.append(self.regime.change)
        if self.dynamic:
            found += [self.dynamic.mean_correlation, self.dynamic.a, self.dynamic.b]
        if self.dependence:
            found += [self.dependence.mean_tail, *([self.dependence.degrees] if self.dependence.degrees else [])]
            for pair in self.dependence.pairs:
                found += [pair.lower_tail, pair.upper_tail]
        return tuple(found)
