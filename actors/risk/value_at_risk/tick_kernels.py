# mypy: disable-error-code="call-overload, untyped-decorator"
"""A book's limits at every tick: the tick ring drained, the resident state brought up to date, crossings told."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from actors.market.market_data.ticks import AT_NS, INBOX, PRICE, RELEASE, SYMBOL, Follower
from actors.risk.kernels import FASTMATH
from actors.risk.tick_kernels import judge, note_missed, post
from actors.risk.value_at_risk.fast_kernels import answer
from actors.risk.value_at_risk.kernels import watch
from actors.risk.value_at_risk.resident import Monitor
from cluster.errors import InvalidMarketData
from cluster.lanes import broadcast_kernels as ring
from cluster.lanes.atomics import bells_at, load_acquire
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import TAKEN, hear
from cluster.lanes.layout import PORT_BELL, PORT_CONTROL, SLOT_CODE, SLOT_HEADER
from cluster.lanes.ring import BAD, NONE
from cluster.lanes.serving import ASTRAY, COUNT, LOOKS, REPLY, SIZE, finish, idle, look_around, rest
from hive.alerts import ALERT_WORDS, LIMIT_BREACH
from hive.figures import CROSSED, LAST_NS, MARKS, REFUSED, SHEET_WORDS, TICKS

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
    stream: tuple[np.ndarray, ...],
    control: np.ndarray,
    state: tuple[Any, ...],
    told: tuple[np.ndarray, ...],
    until_ns: int,
) -> int:
    """Bring a book to every tick there is; why it came back (:meth:`actors.market.market_data.ticks.Follower.follow`).

    ``stream`` and ``told`` are those of :mod:`actors.risk.tick_kernels`. ``state`` begins with the covariance,
    positions, book and limits of :func:`.kernels.watch`.
    """
    words, hand, inbox, numbers = stream
    covariance, positions, book, limits, release = state
    which, price, answer = inbox[SYMBOL : SYMBOL + 1], numbers[PRICE : PRICE + 1], inbox[FOUND : FOUND + 1]
    n, marks = positions.shape[1], told[0]
    while True:
        reason = hear(words, hand, inbox, control, until_ns)
        if reason != TAKEN:
            return int(reason)
        note_missed(hand, marks)
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
            if (found ^ crossed) & (1 << limit) != 0:
                measured, bound, at_ns = figure(limit, book, limits), limits[1 + limit], inbox[AT_NS]
                beyond = found & (1 << limit) != 0
                judge(LIMIT_BREACH, limit, inbox[SYMBOL], beyond, measured, bound, release, at_ns, hand, told)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def show(book: np.ndarray, limits: np.ndarray, shown: np.ndarray) -> None:
    """Figures in the order of :data:`hive.figures.SHOWN`."""
    shown[MARKS], shown[MARKS + 1] = book[0], book[7]
    for limit in range(4):
        shown[MARKS + 2 + limit] = figure(limit, book, limits)
    shown[MARKS + 6], shown[MARKS + 7] = book[2], book[1]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def serve(
    words: np.ndarray,
    numbers: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    fast: tuple[np.ndarray, ...],
    stream: tuple[np.ndarray, ...],
    state: tuple[Any, ...],
    told: tuple[np.ndarray, ...],
    shown: tuple[np.ndarray, ...],
    page: np.ndarray,
    sheet: np.ndarray,
    figures: np.ndarray,
    bells: np.ndarray,
) -> int:
    """Answer lanes and take ticks in turn, neither waiting for the other, until the thread is wanted.

    The first five are the lanes', as in :func:`.fast_kernels.serve`, and ``fast`` is what it answers them from.
    ``shown`` is what :func:`show` is given before ``figures``, the body, as float64, of the ``page``; ``sheet`` is the
    same as int64. The loop sleeps at the ``bells``.
    """
    control = words[PORT_CONTROL : PORT_CONTROL + 1]
    reader, marks = stream[1], told[0]
    hand[LOOKS] = 0
    while True:
        if load_acquire(words, PORT_CONTROL) != 0:
            return NONE
        slot = look_around(words, active, own, hand)
        if slot == BAD:
            return BAD
        if slot != NONE:
            question = numbers[slot + SLOT_HEADER : slot + SLOT_HEADER + hand[COUNT]]
            reply = numbers[hand[REPLY] + SLOT_HEADER : hand[REPLY] + hand[SIZE]]
            code, count = answer(words[slot + SLOT_CODE], question, reply, *fast)
            finish(words, own, hand, code, count)
        begun = reader[ring.CURSOR]
        if follow(stream, control, state, told, 0) == BAD:
            return ASTRAY
        if reader[ring.CURSOR] != begun:
            hand[LOOKS] = 0
            show(*shown, figures)
            post(marks, page, sheet)
        elif slot == NONE:
            rest(words, active, own, hand, stream[0], reader, bells)


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

    kind = LIMIT_BREACH

    def __init__(self, monitor: Monitor, ticks: Listener, board: Broadcaster, *, release: float = RELEASE) -> None:
        self.monitor = monitor
        units, prices = monitor.positions[0], monitor.positions[1]
        self._cash = float(monitor.book[0] - units @ prices)
        self._begun = float(monitor.book[0] - monitor.book[7])
        state = (monitor.covariance, monitor.positions, monitor.book, monitor.limits, release)
        shown = monitor.book, monitor.limits
        super().__init__(follow, serve, show, state, shown, ticks, board, release)

    @property
    def held(self) -> np.ndarray:
        """Prices that the state stands at, shape (n,)."""
        held: np.ndarray = self.monitor.positions[1]
        return held

    @property
    def peak_value(self) -> float:
        """Highest value so far."""
        return float(self.monitor.book[1])

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

    def _measured(self) -> list[tuple[float, float]]:
        book, limits = self.monitor.book, self.monitor.limits
        return [(figure(limit, book, limits), float(limits[1 + limit])) for limit in range(4)]


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    words, reader, writer = ring.silent()
    inbox, outbox = np.zeros(INBOX, np.int64), np.zeros(ALERT_WORDS, np.int64)
    stream = words, reader, inbox, inbox.view(np.float64)
    state = np.eye(2), np.ones((4, 2)), np.ones(8), np.ones(5), RELEASE
    told = np.zeros(MARKS, np.int64), words, writer, outbox, outbox.view(np.float64)
    follow(stream, np.zeros(1, np.int64), state, told, 0)
    figure(VAR, np.ones(8), np.ones(5))
    show(np.ones(8), np.ones(5), np.zeros(SHEET_WORDS))
    lanes = idle()
    fast = np.zeros((3, 2)), np.zeros((2, 40)), np.ones((1, 4)), np.empty((2, 40)), np.empty(40, np.int64)
    sheet = np.zeros(SHEET_WORDS, np.int64)
    bells = bells_at((lanes[0], PORT_BELL), (words, ring.RING_BELL))
    shown = np.ones(8), np.ones(5)
    serve(*lanes, fast, stream, state, told, shown, words, sheet, sheet.view(np.float64), bells)
