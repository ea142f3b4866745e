"""The resident state of the liquidity agent's fast answers, and of the book that it watches over ticks."""

from __future__ import annotations

import numpy as np

from actors.fast import FastService
from actors.risk.liquidity import fast_kernels, kernels
from actors.risk.liquidity.settings import LiquiditySettings
from actors.risk.liquidity.state import Volatilities
from actors.risk.liquidity.tick_kernels import LiquidityFollower
from cluster.lanes.broadcast import Broadcaster, Listener
from hive.messages.ticks import PlacedBook


def service(state: Volatilities, settings: LiquiditySettings) -> FastService:
    """A table of all symbols whose exposures, volumes, spreads and depths every question brings along."""
    table = np.full((8, len(state.columns)), np.nan)
    table[kernels.UNIT] = 1.0  # volumes of a question are money
    table[kernels.VOLATILITY] = _volatilities(state)
    return FastService(
        fast_kernels.answer, fast_kernels.serve, (table, _limits(settings)), {}, largest=1 + 4 * len(state.columns)
    )


def follower(
    state: Volatilities, placed: PlacedBook, settings: LiquiditySettings, ticks: Listener, board: Broadcaster
) -> LiquidityFollower:
    """A book whose days, cost and stress index move with its prices; volumes, spreads and depths are as it states."""
    table = np.full((8, len(state.columns)), np.nan)
    table[kernels.VOLUME], table[kernels.SPREAD] = placed.volumes, placed.spreads
    table[kernels.VOLUME_RATIO], table[kernels.SPREAD_RATIO] = placed.volume_ratios, placed.spread_ratios
    table[kernels.DEPTH], table[kernels.VOLATILITY] = placed.depths, _volatilities(state)
    return LiquidityFollower(
        table,
        _limits(settings),
        units=placed.units,
        multipliers=placed.multipliers,
        prices=placed.prices,
        value=placed.book.value,
        ticks=ticks,
        board=board,
        stressed_index=settings.stressed_index,
    )


def _volatilities(state: Volatilities) -> np.ndarray:
    found = np.empty(len(state.columns))
    for symbol, column in state.columns.items():
        found[column] = state.daily[symbol]
    return found


def _limits(settings: LiquiditySettings) -> np.ndarray:
    """What :func:`.kernels.assess_book` is given beside its table, for a book that is worth 1."""
    return np.array(
        [
            *(settings.participation, settings.impact_coefficient, settings.full_depth),
            *(settings.stressed_days, settings.stressed_cost, 1.0),
        ]
    )
