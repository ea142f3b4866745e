"""The resident state of the value-at-risk agent's fast answers, and of the book whose limits it watches."""

from __future__ import annotations

import numpy as np

from actors.fast import FastService
from actors.risk.measures import NORMAL
from actors.risk.value_at_risk import fast_kernels
from actors.risk.value_at_risk.estimators import Windows
from actors.risk.value_at_risk.limits import LIMIT_CONFIDENCE, limit_of
from actors.risk.value_at_risk.resident import Monitor
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from actors.risk.value_at_risk.tick_kernels import LimitFollower
from cluster.lanes.broadcast import Broadcaster, Listener
from hive.messages.calculation import DEFAULT_CONFIDENCES
from hive.messages.ticks import PlacedBook


def service(state: Windows) -> FastService:
    """Fast tails of weights over all symbols, at the default confidences, on the window that the agent uses."""
    days, n = state.returns.shape
    moments = np.vstack([np.atleast_2d(np.cov(state.returns, rowvar=False)), state.returns.mean(axis=0)])
    quantiles = np.array([NORMAL.inv_cdf(confidence) for confidence in DEFAULT_CONFIDENCES])
    beyond = np.array([NORMAL.pdf(z) / (1 - c) for z, c in zip(quantiles, DEFAULT_CONFIDENCES, strict=True)])
    levels = np.column_stack([DEFAULT_CONFIDENCES, quantiles, beyond, np.full(len(quantiles), np.nan)])
    arrays = (
        np.ascontiguousarray(moments),
        np.array(state.returns.T, order="C"),
        np.ascontiguousarray(levels),
        np.empty((2, days)),
        np.empty(days, np.int64),
    )
    facts = {"confidences": DEFAULT_CONFIDENCES}
    return FastService(fast_kernels.answer, fast_kernels.serve, arrays, facts, largest=2 + 2 * n)


def follower(
    state: Windows, placed: PlacedBook, settings: ValueAtRiskSettings, ticks: Listener, board: Broadcaster
) -> LimitFollower:
    """A book whose limits are watched at every tick, under the covariance of the agent's window."""
    monitor = Monitor(
        np.atleast_2d(np.cov(state.returns, rowvar=False)),
        placed.units,
        placed.prices,
        cash=placed.cash,
        peak_value=placed.book.peak_value,
        limits={name: limit_of(name, placed.book.limits, settings) for name in Monitor.NAMES},
        confidence=LIMIT_CONFIDENCE,
    )
    return LimitFollower(monitor, ticks, board)
