# mypy: disable-error-code="call-overload, untyped-decorator"
"""A book's liquidity at every tick: exposures follow the prices; volumes, spreads and depths stay as they are."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from actors.market.market_data.ticks import AT_NS, INBOX, PRICE, RELEASE, SYMBOL, Follower
from actors.risk.kernels import FASTMATH
from actors.risk.liquidity.conditions import score_of
from actors.risk.liquidity.fast_kernels import answer as fast_answer
from actors.risk.liquidity.kernels import (
    COST,
    COST_WEIGHT,
    DAYS,
    DAYS_WEIGHT,
    DEPTH,
    INDEX,
    SCORE,
    SCORE_WEIGHT,
    SPREAD,
    VOLATILITY,
    VOLUME,
    VOLUME_RATIO,
)
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

WORTH, COSTS, SCORED, RATED = range(4)
"""The sums: value of the book, cost of selling it, exposure times score, and exposure that has a score."""
STRESSED_COST, DAYS_PART, COST_SHARE, SCORE_SHARE = range(4)
"""The scales: cost over value that is full stress, the days' part of the index, and the shares of the others in it."""
LEAST_VALUE = 1e-300  # a book of no value or less finds any cost too much


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def assess(sums: np.ndarray, scales: np.ndarray, answer: np.ndarray) -> None:
    """Cost, score and stress index from the sums; the slowest days in ``answer`` do not depend on prices."""
    score = sums[SCORED] / sums[RATED] if sums[RATED] > 0.0 else 0.0
    dear = min(1.0, sums[COSTS] / (max(sums[WORTH], LEAST_VALUE) * scales[STRESSED_COST]))
    answer[COST], answer[SCORE] = sums[COSTS], score
    answer[INDEX] = scales[DAYS_PART] + scales[COST_SHARE] * dear + scales[SCORE_SHARE] * score


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def follow(
    words: np.ndarray,
    hand: np.ndarray,
    inbox: np.ndarray,
    numbers: np.ndarray,
    control: np.ndarray,
    slopes: np.ndarray,
    prices: np.ndarray,
    sums: np.ndarray,
    scales: np.ndarray,
    answer: np.ndarray,
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

    The assessment of :func:`.kernels.assess_book` moves with prices in four sums alone, each linear in every price:
    ``slopes`` holds their changes for a change of price of 1, shape (4, n), ``sums`` themselves, (4,), and ``scales``,
    (4,), what does not move. ``answer`` is that of ``assess_book``, and ``bounds`` (2,) holds the stress index and the
    slowest days from which it alerts. ``words`` and ``hand`` are the reader's end of the tick ring, ``board`` and
    ``desk`` the writer's of the alerts; ``numbers`` and ``figures`` are ``inbox``, int64 (4,), and ``outbox``, int64
    (8,), as float64.
    """
    n = prices.size
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
        move = price - prices[place]
        prices[place] = price
        for i in range(4):
            sums[i] += slopes[i, place] * move
        assess(sums, scales, answer)
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
    slopes: np.ndarray,
    prices: np.ndarray,
    sums: np.ndarray,
    scales: np.ndarray,
    answer: np.ndarray,
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
            slopes,
            prices,
            sums,
            scales,
            answer,
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
        As of :func:`.kernels.assess_book`, volumes in units. Exposures and money per unit are made here.
    limits : ndarray of shape (6,)
        As there, but for the book's value, which is ``value``.
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
        n = len(units)
        if table.shape != (8, n) or not len(multipliers) == len(prices) == n or limits.shape != (6,):
            raise InvalidMarketData("table, limits, units, multipliers and prices do not fit", "Give one each")
        sound = all(np.isfinite(part).all() for part in (units, multipliers, prices, table[VOLATILITY]))
        if not sound or not (prices > 0).all() or not math.isfinite(value):
            raise InvalidMarketData("a unit, multiplier, price, volatility or the value cannot be", "Correct them")
        self.answer = np.zeros(4)
        self._prices = np.array(prices, float)
        self._slopes, self._scales, self.answer[DAYS] = _linear(table, limits, units, multipliers)
        self._cash = float(value - units @ prices)
        self._sums = np.zeros(4)
        self._bounds = np.array([stressed_index, slowest_days])
        state = (self._slopes, self._prices, self._sums, self._scales, self.answer, self._bounds, release)
        super().__init__(follow, serve, state, (), ticks, board, release)
        self.refresh()

    @property
    def held(self) -> np.ndarray:
        """Prices that the state stands at, shape (n,)."""
        return self._prices

    def refresh(self, prices: np.ndarray | None = None) -> None:
        """Make the state anew from prices of shape (n,), or from those it has; it is whole then.

        Raises
        ------
        InvalidMarketData
            A price is not positive and finite, or there are too few or too many; nothing has changed.
        """
        if prices is not None:
            if prices.shape != self._prices.shape or not ((prices > 0) & (prices < np.inf)).all():
                raise InvalidMarketData("prices do not fit, or cannot be", "Give a positive one for every position")
            self._prices[:] = prices
        self._sums[:] = self._slopes @ self._prices
        self._sums[WORTH] += self._cash
        assess(self._sums, self._scales, self.answer)
        self.complete()

    def _measured(self) -> list[tuple[float, float]]:
        return list(zip(self.answer[[INDEX, DAYS]].tolist(), self._bounds.tolist(), strict=True))

    def _figure(self, shown: np.ndarray) -> None:
        show(self.answer, shown)


def _linear(
    table: np.ndarray, limits: np.ndarray, units: np.ndarray, multipliers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """(Slopes, scales, slowest days): a position is the same share of its market's volume at every price."""
    participation, coefficient, full_depth, stressed_days, stressed_cost, _ = limits
    held, traded = np.abs(units), np.nan_to_num(multipliers * table[VOLUME])
    known = (held > 0) & (traded > 0)
    share = np.where(known, held / np.where(known, traded, 1.0), 0.0)
    half = np.maximum(np.nan_to_num(table[SPREAD]) / 2, 0.0)
    conditions = table[VOLUME_RATIO : DEPTH + 1]
    stated = ~np.isnan(conditions).all(axis=0)
    scores = [
        score_of(float(volume), float(spread), float(depth), full_depth) if told else 0.0
        for (volume, spread, depth), told in zip(conditions.T, stated, strict=True)
    ]
    slopes = np.empty((4, len(units)))
    slopes[WORTH], slopes[RATED] = units, np.where(stated, held, 0.0)
    slopes[COSTS] = np.where(known, held * (half + coefficient * table[VOLATILITY] * np.sqrt(share)), 0.0)
    slopes[SCORED] = held * scores
    days = float(share.max(initial=0.0) / participation)
    timed, rated = bool(known.any()), bool(slopes[RATED].any())
    weights = (DAYS_WEIGHT * timed, COST_WEIGHT * timed, SCORE_WEIGHT * rated)
    whole = sum(weights) or 1.0
    scales = np.array([stressed_cost, weights[0] * min(1.0, days / stressed_days), weights[1], weights[2]])
    scales[DAYS_PART:] /= whole
    return slopes, scales, days


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    words, reader, writer = ring.silent()
    inbox, outbox = np.zeros(INBOX, np.int64), np.zeros(8, np.int64)
    stream = words, reader, inbox, inbox.view(np.float64)
    state = np.ones((4, 2)), np.ones(2), np.ones(4), np.ones(4), np.ones(4), np.ones(2), RELEASE
    rest_of_it = (*state, np.zeros(MARKS, np.int64), words, writer, outbox, outbox.view(np.float64))
    assess(np.ones(4), np.ones(4), np.ones(4))
    follow(*stream, np.zeros(1, np.int64), *rest_of_it, 0)
    show(np.ones(4), np.zeros(SHEET_WORDS))
    lanes = idle()
    sheet = np.zeros(SHEET_WORDS, np.int64)
    bells = bells_at((lanes[0], PORT_BELL), (words, ring.RING_BELL))
    serve(*lanes, np.ones((8, 2)), np.ones(6), *stream, *rest_of_it, words, sheet, sheet.view(np.float64), bells)
