# mypy: disable-error-code="call-overload, untyped-decorator"
"""A book's liquidity at every tick: exposures follow the prices; volumes, spreads and depths stay as they are."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from actors.market.market_data.ticks import AT_NS, INBOX, PRICE, RELEASE, SYMBOL, Follower
from actors.risk.kernels import FASTMATH
from actors.risk.liquidity.fast_kernels import answer as fast_answer
from actors.risk.liquidity.kernels import COST, DAYS, EXPOSURE, INDEX, UNIT, assess_book
from cluster.errors import InvalidMarketData
from cluster.lanes import broadcast_kernels as ring
from cluster.lanes.atomics import bells_at, load_acquire, now_ns
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import SCRATCH, TAKEN, announce, hear
from cluster.lanes.layout import PORT_BELL, PORT_CONTROL, SLOT_CODE, SLOT_HEADER
from cluster.lanes.page import write
from cluster.lanes.ring import BAD, NONE
from cluster.lanes.serving import ASTRAY, COUNT, LOOKS, REPLY, SIZE, finish, idle, look_around, rest
from hive.alerts import BOUND, FLAGS, KIND, LIMIT, LIQUIDITY_STRESS, PLACE, RAISED_NS, TICK_NS, VALUE
from hive.figures import ALERTS, CROSSED, INCOMPLETE, LAST_NS, MARKS, MISSED, REFUSED, SHEET_WORDS, TICKS

UNITS, MULTIPLIER, HELD = range(3)
"""Rows of the holdings: units with multiplier, multiplier, last price."""
BOOK_VALUE = 5  # place of the book's value among the limits of ``assess_book``
LEAST_VALUE = 1e-300  # a book of no value or less finds any cost too much


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def follow(
    words: np.ndarray,
    hand: np.ndarray,
    inbox: np.ndarray,
    numbers: np.ndarray,
    control: np.ndarray,
    table: np.ndarray,
    limits: np.ndarray,
    answer: np.ndarray,
    holdings: np.ndarray,
    value: np.ndarray,
    bounds: np.ndarray,
    release: float,
    marks: np.ndarray,
    board: np.ndarray,
    desk: np.ndarray,
    outbox: np.ndarray,
    figures: np.ndarray,
    until_ns: int,
) -> int:
    """Assess a book at every tick; why it came back (:meth:`actors.market.market_data.ticks.Follower.follow`).

    ``table``, ``limits`` and ``answer`` are those of :func:`.kernels.assess_book`, ``holdings`` has shape (3, n),
    ``value`` (1,), and ``bounds`` (2,) holds the stress index and the slowest days from which it alerts. ``words`` and
    ``hand`` are the reader's end of the tick ring, ``board`` and ``desk`` the writer's of the alerts; ``numbers`` and
    ``figures`` are ``inbox``, int64 (4,), and ``outbox``, int64 (8,), as float64.
    """
    n = holdings.shape[1]
    while True:
        reason = hear(words, hand, inbox, control, until_ns)
        if reason != TAKEN:
            return int(reason)
        if hand[ring.MISSED] != marks[MISSED]:
            marks[MISSED] = hand[ring.MISSED]
            marks[INCOMPLETE] = 1
        place, price = inbox[SYMBOL], numbers[PRICE]
        if place < 0 or place >= n or not (0.0 < price < np.inf):
            marks[REFUSED] += 1
            continue
        value[0] += holdings[UNITS, place] * (price - holdings[HELD, place])
        holdings[HELD, place] = price
        table[EXPOSURE, place] = holdings[UNITS, place] * price
        table[UNIT, place] = holdings[MULTIPLIER, place] * price
        limits[BOOK_VALUE] = max(value[0], LEAST_VALUE)
        assess_book(table, limits, answer)
        marks[TICKS] += 1
        marks[LAST_NS] = inbox[AT_NS]
        crossed = marks[CROSSED]
        for limit in range(2):
            bit = 1 << limit
            measured = answer[INDEX] if limit == 0 else answer[DAYS]
            if measured > bounds[limit]:
                if crossed & bit == 0:
                    crossed |= bit
                    outbox[KIND], outbox[LIMIT], outbox[PLACE] = LIQUIDITY_STRESS, limit, place
                    figures[VALUE], figures[BOUND] = measured, bounds[limit]
                    outbox[TICK_NS], outbox[FLAGS] = inbox[AT_NS], marks[INCOMPLETE]
                    outbox[RAISED_NS] = now_ns(hand[SCRATCH : SCRATCH + 2])
                    announce(board, desk, outbox)
                    marks[ALERTS] += 1
            elif crossed & bit != 0 and measured <= release * bounds[limit]:
                crossed ^= bit
        marks[CROSSED] = crossed


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def show(answer: np.ndarray, shown: np.ndarray) -> None:
    """Figures in the order of :data:`hive.figures.SHOWN`."""
    shown[MARKS], shown[MARKS + 1], shown[MARKS + 2] = answer[DAYS], answer[COST], answer[INDEX]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def serve(
    words: np.ndarray,
    numbers: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    market: np.ndarray,
    usual: np.ndarray,
    stream: np.ndarray,
    reader: np.ndarray,
    inbox: np.ndarray,
    ticks: np.ndarray,
    table: np.ndarray,
    limits: np.ndarray,
    answer: np.ndarray,
    holdings: np.ndarray,
    value: np.ndarray,
    bounds: np.ndarray,
    release: float,
    marks: np.ndarray,
    board: np.ndarray,
    desk: np.ndarray,
    outbox: np.ndarray,
    figures: np.ndarray,
    page: np.ndarray,
    sheet: np.ndarray,
    shown: np.ndarray,
    bells: np.ndarray,
) -> int:
    """Answer lanes and take ticks in turn, neither waiting for the other, until the thread is wanted.

    Arguments are those of :func:`.fast_kernels.serve`, then those of :func:`follow`, then a page for the figures with
    its body, and the bells to sleep at.
    """
    control = words[PORT_CONTROL : PORT_CONTROL + 1]
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
            code, count = fast_answer(words[slot + SLOT_CODE], question, reply, market, usual)
            finish(words, own, hand, code, count)
        begun = reader[ring.CURSOR]
        reason = follow(
            stream,
            reader,
            inbox,
            ticks,
            control,
            table,
            limits,
            answer,
            holdings,
            value,
            bounds,
            release,
            marks,
            board,
            desk,
            outbox,
            figures,
            0,
        )
        if reason == BAD:
            return ASTRAY
        if reader[ring.CURSOR] != begun:
            hand[LOOKS] = 0
            show(answer, shown)
            for i in range(MARKS):
                sheet[i] = marks[i]
            write(page, 0, sheet)
        elif slot == NONE:
            rest(words, active, own, hand, stream, reader, bells)


class LiquidityFollower(Follower):
    """A book's stress index and slowest days, followed tick by tick.

    Parameters
    ----------
    table : ndarray of shape (8, n)
        As of :func:`.kernels.assess_book`, volumes in units; copied. Exposures and money per unit are made here.
    limits : ndarray of shape (6,)
        As there; the book's value is replaced by ``value``.
    units, multipliers, prices : ndarray of shape (n,)
        Units with multiplier, the multipliers, and the prices they start from.
    value : float
        Of the book at these prices, cash included.
    stressed_index, slowest_days : float
        From which it alerts; infinite where not watched.

    Raises
    ------
    InvalidMarketData
        Arrays do not fit, or a unit, multiplier, price, volatility or the value cannot be.
    """

    kind = LIQUIDITY_STRESS

    def __init__(
        self,
        table: np.ndarray,
        limits: np.ndarray,
        *,
        units: np.ndarray,
        multipliers: np.ndarray,
        prices: np.ndarray,
        value: float,
        ticks: Listener,
        board: Broadcaster,
        stressed_index: float = 0.65,
        slowest_days: float = math.inf,
        release: float = RELEASE,
    ) -> None:
        self.table, self.limits, self.answer = np.array(table, float), np.array(limits, float), np.zeros(4)
        n = len(units)
        if self.table.shape != (8, n) or not len(multipliers) == len(prices) == n or self.limits.shape != (6,):
            raise InvalidMarketData("table, limits, units, multipliers and prices do not fit", "Give one each")
        self.holdings = np.array([units, multipliers, prices], float)
        sound = np.isfinite(self.holdings).all() and (self.holdings[HELD] > 0).all() and math.isfinite(value)
        if not sound or not np.isfinite(self.table[3]).all():
            raise InvalidMarketData("a unit, multiplier, price, volatility or the value cannot be", "Correct them")
        self.value = np.array([float(value)])
        self._cash = float(value - self.holdings[UNITS] @ self.holdings[HELD])
        self._bounds = np.array([stressed_index, slowest_days])
        state = (self.table, self.limits, self.answer, self.holdings, self.value, self._bounds, release)
        super().__init__(follow, serve, state, (), ticks, board, release)
        self.refresh()

    @property
    def held(self) -> np.ndarray:
        """Prices that the state stands at, shape (n,)."""
        held: np.ndarray = self.holdings[HELD]
        return held

    def refresh(self, prices: np.ndarray | None = None) -> None:
        """Make the state anew from prices of shape (n,), or from those it has; it is whole then.

        Raises
        ------
        InvalidMarketData
            A price is not positive and finite, or there are too few or too many; nothing has changed.
        """
        if prices is not None:
            if prices.shape != self.holdings[HELD].shape or not ((prices > 0) & (prices < np.inf)).all():
                raise InvalidMarketData("prices do not fit, or cannot be", "Give a positive one for every position")
            self.holdings[HELD] = prices
        units, multipliers, held = self.holdings
        self.table[EXPOSURE], self.table[UNIT] = units * held, multipliers * held
        self.value[0] = float(units @ held) + self._cash
        self.limits[BOOK_VALUE] = max(self.value[0], LEAST_VALUE)
        assess_book(self.table, self.limits, self.answer)
        self.complete()

    def _measured(self) -> list[tuple[float, float]]:
        return list(zip(self.answer[[INDEX, DAYS]].tolist(), self._bounds.tolist(), strict=True))

    def _figure(self, shown: np.ndarray) -> None:
        show(self.answer, shown)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    words, reader, writer = ring.silent()
    inbox, outbox = np.zeros(INBOX, np.int64), np.zeros(8, np.int64)
    stream = words, reader, inbox, inbox.view(np.float64)
    state = np.ones((8, 2)), np.ones(6), np.ones(4), np.ones((3, 2)), np.ones(1), np.ones(2), RELEASE
    rest_of_it = (*state, np.zeros(MARKS, np.int64), words, writer, outbox, outbox.view(np.float64))
    follow(*stream, np.zeros(1, np.int64), *rest_of_it, 0)
    show(np.ones(4), np.zeros(SHEET_WORDS))
    lanes = idle()
    sheet = np.zeros(SHEET_WORDS, np.int64)
    bells = bells_at((lanes[0], PORT_BELL), (words, ring.RING_BELL))
    serve(*lanes, np.ones((8, 2)), np.ones(6), *stream, *rest_of_it, words, sheet, sheet.view(np.float64), bells)
