"""The resident state of the liquidity agent's fast answers."""

from __future__ import annotations

import numpy as np

from actors.fast import FastService
from actors.risk.liquidity import fast_kernels, kernels
from actors.risk.liquidity.settings import LiquiditySettings
from actors.risk.liquidity.state import Volatilities


def service(state: Volatilities, settings: LiquiditySettings) -> FastService:
    """A table of all symbols whose exposures, volumes, spreads and depths every question brings along."""
    n = len(state.columns)
    table = np.full((8, n), np.nan)
    table[kernels.UNIT] = 1.0  # volumes of a question are money
    for symbol, column in state.columns.items():
        table[kernels.VOLATILITY, column] = state.daily[symbol]
    limits = np.array(
        [
            *(settings.participation, settings.impact_coefficient, settings.full_depth),
            *(settings.stressed_days, settings.stressed_cost, 1.0),
        ]
    )
    return FastService(fast_kernels.answer, fast_kernels.serve, (table, limits), {}, largest=1 + 4 * n)
