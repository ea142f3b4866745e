# mypy: disable-error-code="call-overload, untyped-decorator"
"""Correlation from ticks: the last price of every symbol, and at the end of each period one step of the monitor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from actors.market.market_data.ticks import AT_NS, INBOX, PRICE, RELEASE, SYMBOL, Follower
from actors.risk.correlation.fast_kernels import answer
from actors.risk.correlation.kernels import DOWN, EWMA_ROWS, FASTMATH, MEAN, STATES, UP, Monitor, ewma_step
from actors.risk.tick_kernels import judge, note_missed, post
from cluster.errors import InvalidMarketData, InvalidRequest
from cluster.lanes import broadcast_kernels as ring
from cluster.lanes.atomics import bells_at, load_acquire
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import TAKEN, hear
from cluster.lanes.layout import PORT_BELL, PORT_CONTROL, SLOT_CODE, SLOT_HEADER
from cluster.lanes.ring import BAD, NONE
from cluster.lanes.serving import ASTRAY, COUNT, LOOKS, REPLY, SIZE, finish, idle, look_around, rest
from hive.alerts import ALERT_WORDS, CORRELATION_CHANGE, NOWHERE
from hive.figures import LAST_NS, MARKS, REFUSED, SHEET_WORDS, TICKS

LAST, BASE, MOVES = range(3)
"""Rows of the prices: the last of every symbol, those at the end of the last period, and the moves between them."""
PERIOD_NS, END_NS, BEGUN, STEPS = range(4)
"""Places of the clock: length of a period, end of this one, whether a tick came yet, steps made."""
LATEST_NS = 2**62


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def follow(
    stream: tuple[np.ndarray, ...],
    control: np.ndarray,
    state: tuple[Any, ...],
    told: tuple[np.ndarray, ...],
    until_ns: int,
) -> int:
    """Collect ticks, and judge every period; why it came back
    (:meth:`actors.market.market_data.ticks.Follower.follow`).

    ``stream`` and ``told`` are those of :mod:`actors.risk.tick_kernels`. ``state`` begins with what
    :func:`.kernels.ewma_step` is given after the moves; then come the prices, shape (3, n), and the clock, int64 (4,).
    Periods are whole multiples of their length since 1970. The first tick of a later period ends the one before;
    periods without a tick make no step.
    """
    words, hand, inbox, numbers = stream
    matrix, rows, reference, measures, prices, clock, threshold, release = state
    n, marks = prices.shape[1], told[0]
    while True:
        reason = hear(words, hand, inbox, control, until_ns)
        if reason != TAKEN:
            return int(reason)
        note_missed(hand, marks)
        place, price, at_ns = inbox[SYMBOL], numbers[PRICE], inbox[AT_NS]
        if place < 0 or place >= n or not (0.0 < price < np.inf) or at_ns < 0 or at_ns > LATEST_NS:
            marks[REFUSED] += 1
            continue
        marks[TICKS] += 1
        marks[LAST_NS] = at_ns
        if at_ns >= clock[END_NS] or clock[BEGUN] == 0:
            clock[END_NS] = at_ns - at_ns % clock[PERIOD_NS] + clock[PERIOD_NS]
            if clock[BEGUN] != 0:
                for i in range(n):
                    prices[MOVES, i] = prices[LAST, i] / prices[BASE, i] - 1.0
                    prices[BASE, i] = prices[LAST, i]
                ewma_step(prices[MOVES], matrix, rows, reference, measures)
                clock[STEPS] += 1
                for limit in range(2):
                    measured = measures[UP] if limit == 0 else measures[DOWN]
                    beyond = measured > threshold
                    judge(CORRELATION_CHANGE, limit, NOWHERE, beyond, measured, threshold, release, at_ns, hand, told)
            clock[BEGUN] = 1
        prices[LAST, place] = price


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def show(matrix: np.ndarray, state: np.ndarray, prices: np.ndarray, holdings: np.ndarray, shown: np.ndarray) -> None:
    """Figures in the order of :data:`hive.figures.SHOWN`; ``holdings`` are units of every symbol, then cash."""
    n = prices.shape[1]
    variance, value = 0.0, holdings[n]
    for i in range(n):
        exposure = holdings[i] * prices[LAST, i]
        if exposure == 0.0:
            continue
        value += exposure
        row = 0.0
        for j in range(i + 1, n):
            row += matrix[i, j] * holdings[j] * prices[LAST, j]
        variance += exposure * (matrix[i, i] * exposure + 2.0 * row)
    shown[MARKS] = np.sqrt(max(0.0, variance)) / value if value > 0.0 else np.inf
    shown[MARKS + 1], shown[MARKS + 2], shown[MARKS + 3] = state[MEAN], state[UP], state[DOWN]


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


def moves_plain(prices: np.ndarray, ticks: list[tuple[int, float, int]], period_ns: int) -> list[np.ndarray]:
    """Moves of every period that has ended, each of shape (n,), from ticks of (place, price, ns) in their order."""
    last, base, end_ns, found = prices.copy(), prices.copy(), None, []
    for place, price, at_ns in ticks:
        if end_ns is None or at_ns >= end_ns:
            if end_ns is not None:
                found.append(last / base - 1)
                base = last.copy()
            end_ns = (at_ns // period_ns + 1) * period_ns
        last[place] = price
    return found


class CorrelationFollower(Follower):
    """A :class:`.kernels.Monitor` by EWMA that steps once a period of the ticks' time.

    Parameters
    ----------
    monitor : Monitor
        Of :func:`.kernels.ewma_monitor`, its reference and decay of periods of the same length. It belongs to the
        follower from now on.
    prices : ndarray of shape (n,)
        Of every symbol where the monitor stands.
    period_ns : int
        Length of a period.
    units : ndarray of shape (n,), optional
        Of every symbol, with multiplier: the book whose volatility is shown.
    cash : float
        Money beside them.

    Raises
    ------
    InvalidMarketData
        A price is not positive and finite, or there are too few or too many.
    InvalidRequest
        The monitor is not by EWMA, or the period is not from 1 ns to 2**60 ns.
    """

    kind = CORRELATION_CHANGE

    def __init__(
        self,
        monitor: Monitor,
        prices: np.ndarray,
        ticks: Listener,
        board: Broadcaster,
        *,
        period_ns: int,
        units: np.ndarray | None = None,
        cash: float = 0.0,
        release: float = RELEASE,
    ) -> None:
        if monitor.kernel is not ewma_step or not 0 < period_ns <= 2**60:
            raise InvalidRequest(f"no EWMA monitor, or a period of {period_ns} ns", "Give one of `ewma_monitor`")
        self.monitor = monitor
        self.prices, self.clock = np.ones((3, len(monitor.matrix))), np.array([period_ns, 0, 0, 0])
        state: tuple[Any, ...] = (monitor.matrix, monitor.rows, monitor.reference, monitor.state)
        holdings = np.append(np.zeros(len(prices)) if units is None else units, cash)
        state = (*state, self.prices, self.clock, monitor.threshold, release)
        shown = monitor.matrix, monitor.state, self.prices, holdings
        super().__init__(follow, serve, show, state, shown, ticks, board, release)
        self.prices[:2] = self._believed(prices)

    @property
    def held(self) -> np.ndarray:
        """Prices that the state stands at, shape (n,)."""
        held: np.ndarray = self.prices[LAST]
        return held

    def refresh(self, prices: np.ndarray) -> None:
        """Take these last prices, shape (n,), for those of this period; the state is whole then.

        Raises
        ------
        InvalidMarketData
            A price is not positive and finite, or there are too few or too many; nothing has changed.
        """
        self.prices[LAST] = self._believed(prices)
        self.complete()

    def _believed(self, prices: np.ndarray) -> np.ndarray:
        if prices.shape != self.prices[LAST].shape or not ((prices > 0) & (prices < np.inf)).all():
            raise InvalidMarketData("prices do not fit, or cannot be", "Give a positive one for every symbol")
        return prices

    def _measured(self) -> list[tuple[float, float]]:
        return [(float(self.monitor.state[place]), self.monitor.threshold) for place in (UP, DOWN)]


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    words, reader, writer = ring.silent()
    inbox, outbox = np.zeros(INBOX, np.int64), np.zeros(ALERT_WORDS, np.int64)
    stream = words, reader, inbox, inbox.view(np.float64)
    reference = np.array([[0.2, 0.6, np.inf], [-1.0, 0.0, 1.0]])
    matrix, rows, prices = np.ones((2, 2)), np.ones((EWMA_ROWS, 2)), np.ones((3, 2))
    state = matrix, rows, reference, np.ones(STATES), prices, np.ones(4, np.int64), 1.0, RELEASE
    told = np.zeros(MARKS, np.int64), words, writer, outbox, outbox.view(np.float64)
    follow(stream, np.zeros(1, np.int64), state, told, 0)
    lanes = idle()
    sheet = np.zeros(SHEET_WORDS, np.int64)
    bells = bells_at((lanes[0], PORT_BELL), (words, ring.RING_BELL))
    page = words, sheet, sheet.view(np.float64)
    show(np.eye(2), np.zeros(STATES), np.ones((3, 2)), np.zeros(3), np.zeros(SHEET_WORDS))
    fast, shown = (np.eye(2), np.zeros(STATES)), (state[0], state[3], state[4], np.zeros(3))
    serve(*lanes, fast, stream, state, told, shown, *page, bells)
