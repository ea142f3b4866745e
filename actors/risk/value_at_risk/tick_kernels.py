# mypy: disable-error-code="call-overload, untyped-decorator"
"""A book's limits at every tick: the tick ring drained, the resident state brought up to date, crossings told."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.market.market_data.ticks import (
    ALERTS,
    AT_NS,
    CROSSED,
    INBOX,
    INCOMPLETE,
    LAST_NS,
    MARKS,
    MISSED,
    PRICE,
    REFUSED,
    RELEASE,
    SYMBOL,
    TICKS,
    Follower,
)
from actors.risk.kernels import FASTMATH
from actors.risk.value_at_risk.kernels import watch
from actors.risk.value_at_risk.resident import Monitor
from cluster.errors import InvalidMarketData
from cluster.lanes import broadcast_kernels as ring
from cluster.lanes.atomics import now_ns
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import SCRATCH, TAKEN, announce, hear
from hive.alerts import BOUND, FLAGS, KIND, LIMIT, LIMIT_BREACH, PLACE, RAISED_NS, TICK_NS, VALUE

VAR, DRAWDOWN, LEVERAGE, CONCENTRATION = range(4)
FOUND = INBOX - 1  # word of the inbox that holds the answer of ``watch``


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def figure(limit: int, book: np.ndarray, limits: np.ndarray) -> float:
    """What a limit is compared with: VaR and leverage over value, drawdown from the peak, largest share of gross."""
    if limit == VAR:
        return float(np.sqrt(limits[0] * max(book[3], 0.0)) / max(book[0], 0.0))
    if limit == DRAWDOWN:
        return float((book[1] - book[0]) / book[1])
    if limit == LEVERAGE:
        return float(book[2] / max(book[0], 0.0))
    return float(book[4] / book[2])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def follow(
    words: np.ndarray,
    hand: np.ndarray,
    inbox: np.ndarray,
    numbers: np.ndarray,
    control: np.ndarray,
    covariance: np.ndarray,
    positions: np.ndarray,
    book: np.ndarray,
    limits: np.ndarray,
    release: float,
    marks: np.ndarray,
    board: np.ndarray,
    desk: np.ndarray,
    outbox: np.ndarray,
    figures: np.ndarray,
    until_ns: int,
) -> int:
    """Bring a book to every tick there is; why it came back (:meth:`actors.market.market_data.ticks.Follower.follow`).

    ``covariance``, ``positions``, ``book`` and ``limits`` are those of :func:`.kernels.watch`. ``words`` and ``hand``
    are the reader's end of the tick ring, ``board`` and ``desk`` the writer's of the alerts; ``numbers`` and
    ``figures`` are ``inbox``, int64 (4,), and ``outbox``, int64 (8,), as float64.
    """
    which, price, answer = inbox[SYMBOL : SYMBOL + 1], numbers[PRICE : PRICE + 1], inbox[FOUND : FOUND + 1]
    n = positions.shape[1]
    while True:
        reason = hear(words, hand, inbox, control, until_ns)
        if reason != TAKEN:
            return int(reason)
        if hand[ring.MISSED] != marks[MISSED]:
            marks[MISSED] = hand[ring.MISSED]
            marks[INCOMPLETE] = 1
        if inbox[SYMBOL] < 0 or inbox[SYMBOL] >= n:
            marks[REFUSED] += 1
            continue
        watch(covariance, positions, book, limits, which, price, answer)
        found, crossed = inbox[FOUND], marks[CROSSED]
        if found < 0:
            marks[REFUSED] += 1
            continue
        marks[TICKS] += 1
        marks[LAST_NS] = inbox[AT_NS]
        if found == crossed:
            continue
        for limit in range(4):
            bit = 1 << limit
            if found & bit != 0 and crossed & bit == 0:
                crossed |= bit
                outbox[KIND], outbox[LIMIT], outbox[PLACE] = LIMIT_BREACH, limit, inbox[SYMBOL]
                figures[VALUE], figures[BOUND] = figure(limit, book, limits), limits[1 + limit]
                outbox[TICK_NS], outbox[FLAGS] = inbox[AT_NS], marks[INCOMPLETE]
                outbox[RAISED_NS] = now_ns(hand[SCRATCH : SCRATCH + 2])
                announce(board, desk, outbox)
                marks[ALERTS] += 1
            elif found & bit == 0 and crossed & bit != 0 and figure(limit, book, limits) <= release * limits[1 + limit]:
                crossed ^= bit
        marks[CROSSED] = crossed


def figures_plain(
    units: np.ndarray, prices: np.ndarray, cash: float, peak: float, covariance: np.ndarray, squared_quantile: float
) -> np.ndarray:
    """VaR, drawdown, leverage and concentration of a book at these prices by their definitions, shape (4,)."""
    exposures = units * prices
    value, sizes = exposures.sum() + cash, np.abs(exposures)
    equity = max(value, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(squared_quantile * (exposures @ covariance @ exposures))
        fall = (peak - value) / peak
        return np.array([deviation / equity, fall, sizes.sum() / equity, sizes.max() / sizes.sum()])


class LimitFollower(Follower):
    """A :class:`.resident.Monitor` that follows the ticks and tells when a limit is crossed.

    Parameters
    ----------
    monitor : Monitor
        Its positions are in the order of the ticks' symbols. It belongs to the follower from now on.
    release : float
        Share of a limit that its figure must come down to before it can be crossed again.
    """

    def __init__(self, monitor: Monitor, ticks: Listener, board: Broadcaster, *, release: float = RELEASE) -> None:
        self.monitor = monitor
        units, prices = monitor.positions[0], monitor.positions[1]
        self._cash = float(monitor.book[0] - units @ prices)
        self._begun = float(monitor.book[0] - monitor.book[7])
        state = (monitor.covariance, monitor.positions, monitor.book, monitor.limits, release)
        super().__init__(follow, state, ticks, board)

    def refresh(self, prices: np.ndarray | None = None) -> None:
        """Make the state anew from prices of shape (n,), or from those it has; it is whole then.

        Raises
        ------
        InvalidMarketData
            A price is not finite, or there are too few or too many; nothing has changed.
        """
        book, (units, held) = self.monitor.book, self.monitor.positions[:2]
        if prices is not None:
            if prices.shape != held.shape or not np.isfinite(prices).all():
                raise InvalidMarketData("prices do not fit, or are not finite", "Give one for every position")
            held[:] = prices
        book[0] = float(units @ held) + self._cash
        book[1] = max(book[1], book[0])
        book[7] = book[0] - self._begun
        self.monitor.refresh()
        self.complete()


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    words, reader, writer = ring.silent()
    inbox, outbox = np.zeros(INBOX, np.int64), np.zeros(8, np.int64)
    state = np.eye(2), np.ones((4, 2)), np.ones(8), np.ones(5), RELEASE, np.zeros(MARKS, np.int64)
    control = np.zeros(1, np.int64)
    follow(
        words,
        reader,
        inbox,
        inbox.view(np.float64),
        control,
        *state,
        words,
        writer,
        outbox,
        outbox.view(np.float64),
        0,
    )
    figure(VAR, np.ones(8), np.ones(5))
