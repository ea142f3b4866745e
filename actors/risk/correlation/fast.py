"""The resident state of the correlation agent's fast answers, and of its watch over ticks."""

from __future__ import annotations

import numpy as np

from actors.fast import FastService
from actors.risk.correlation import fast_kernels
from actors.risk.correlation.estimators import Windows
from actors.risk.correlation.kernels import STATES, ewma_monitor
from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.correlation.tick_kernels import CorrelationFollower
from actors.risk.covariance import correlation_of, mean_pair
from cluster.errors import InvalidMarketData
from cluster.lanes.broadcast import Broadcaster, Listener
from hive.messages.ticks import PlacedBook

MEAN_PLACE = 3


def service(state: Windows, settings: CorrelationSettings) -> FastService:
    """The exponentially weighted covariance of all symbols, and its change statistic where enough days are known."""
    n = state.window.shape[1]
    try:
        monitor = ewma_monitor(state.weighed, settings.ewma_decay)
        matrix, numbers, threshold = monitor.matrix, monitor.state, monitor.threshold
    except InvalidMarketData:
        matrix, numbers, threshold = np.array(state.exponential, order="C"), np.zeros(STATES), float("nan")
        numbers[MEAN_PLACE] = mean_pair(correlation_of(matrix)) if n > 1 else float("nan")
    facts = {"threshold": threshold, "decay": settings.ewma_decay}
    return FastService(fast_kernels.answer, fast_kernels.serve, (matrix, numbers), facts, largest=max(n, 5))


def follower(
    state: Windows, placed: PlacedBook, settings: CorrelationSettings, ticks: Listener, board: Broadcaster
) -> CorrelationFollower:
    """All symbols, watched for a change of their correlation, and the book's volatility under it.

    Raises
    ------
    InvalidMarketData
        There are fewer than two symbols, too few days to watch, or a symbol that does not move.
    """
    return CorrelationFollower(
        ewma_monitor(state.weighed, settings.ewma_decay, settings.false_alarm_days),
        placed.prices,
        ticks,
        board,
        period_ns=settings.tick_period_s * 10**9,
        units=placed.units,
        cash=placed.cash,
    )
