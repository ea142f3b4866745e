"""What the liquidity agent keeps of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Volatilities:
    """Resident state: the newest returns, and daily volatility by symbol."""

    daily: dict[str, float]
    observations: int
    columns: dict[str, int]
    recent: np.ndarray
    """Shape (volatility_days, n_symbols); a view of the snapshot."""
    weekdays: np.ndarray | None
    """Mean volume of all symbols from Monday to Friday, shape (5,); None where the snapshot has no volumes."""
    as_of: np.datetime64
