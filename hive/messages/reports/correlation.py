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
class CorrelationReport:
    """Correlation of the book's symbols: shrunk, exponentially weighted, and whether it has changed."""

    symbols: tuple[str, ...]
    shrunk: np.ndarray
    """Ledoit-Wolf correlation, shape (n_symbols, n_symbols)."""
    ewma: np.ndarray
    """Exponentially weighted correlation, shape (n_symbols, n_symbols)."""
    shrinkage: float
    estimates: tuple[Estimate, ...]
    pairs: tuple[CorrelatedPair, ...]
    regime: RegimeChange | None
    """None where the sample is shorter than the two windows, or the book holds one symbol."""

    def all_estimates(self) -> tuple[Estimate, ...]:
        """Every estimate of the report."""
        return self.estimates + ((self.regime.change,) if self.regime else ())
