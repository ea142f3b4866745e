"""The resident state of the portfolio agent's fast answers."""

from __future__ import annotations

import numpy as np

from actors.fast import FastService
from actors.risk.covariance import ledoit_wolf
from actors.risk.portfolio import fast_kernels
from actors.risk.portfolio.allocation import Window


def service(state: Window) -> FastService:
    """Shrunk daily covariance of all symbols, and weights to start from."""
    covariance = np.array(ledoit_wolf(state.recent)[0], order="C")
    n = len(covariance)
    kept = np.zeros((5, n))
    kept[0] = 1.0
    kept[1] = 1.0 / n
    kept[3] = np.nan
    arrays = (covariance, kept, np.zeros((2, n), np.int64), np.empty((n + 4, n)))
    return FastService(fast_kernels.answer, fast_kernels.serve, arrays, {}, largest=n)
