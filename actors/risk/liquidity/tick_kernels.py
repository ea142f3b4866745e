# mypy: disable-error-code="call-overload, untyped-decorator"
"""A book's liquidity at every tick: exposures follow the prices; volumes, spreads and depths stay as they are."""

from __future__ import annotations

import math
from typing import Any

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
from actors.risk.tick_kernels import judge, note_missed, post
from cluster.errors import InvalidMarketData
from cluster.lanes import broadcast_kernels as ring
from cluster.lanes.atomics import bells_at, load_acquire
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import TAKEN, hear
from cluster.lanes.layout import PORT_BELL, PORT_CONTROL, SLOT_CODE, SLOT_HEADER
from cluster.lanes.ring import BAD, NONE
from cluster.lanes.serving import ASTRAY, COUNT, LOOKS, REPLY, SIZE, finish, idle, look_around, rest
from hive.alerts import ALERT_WORDS, LIQUIDITY_STRESS
from hive.figures import LAST_NS, MARKS, REFUSED, SHEET_WORDS, TICKS

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
    stream: tuple[np.ndarray, ...],
    control: np.ndarray,
    state: tuple[Any, ...],
    told: tuple[np.ndarray, ...],
    until_ns: int,
) -> int:
    """Assess a book at every tick; why it came back (:meth:`actors.market.market_data.ticks.Follower.follow`).

    ``stream`` and ``told`` are those of :mod:`actors.risk.tick_kernels`. The assessment of
    :func:`.kernels.assess_book` moves with prices in four sums alone, each linear in every price: of the ``state``,
    ``slopes`` holds their changes for a change of price of 1, shape (4, n), ``sums`` themselves, (4,), and ``scales``,
    (4,), what does not move. ``answer`` is that of ``assess_book``, and ``bounds`` (2,) holds the stress index and the
    slowest days from which it alerts.
    """
    words, hand, inbox, numbers = stream
    slopes, prices, sums, scales, answer, bounds, release = state
    n, marks = prices.size, told[0]
    while True:
        reason = hear(words, hand, inbox, control, until_ns)
        if reason != TAKEN:
            return int(reason)
        note_missed(hand, marks)
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
        for limit in range(2):
            measured = answer[INDEX] if limit == 0 else answer[DAYS]
            bound, at_ns = bounds[limit], inbox[AT_NS]
            judge(LIQUIDITY_STRESS, limit, place, measured > bound, measured, bound, release, at_ns, hand, told)


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
            code, count = fast_answer(words[slot + SLOT_CODE], question, reply, *fast)
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
        super().__init__(follow, serve, show, state, (self.answer,), ticks, board, release)
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
    inbox, outbox = np.zeros(INBOX, np.int64), np.zeros(ALERT_WORDS, np.int64)
    stream = words, reader, inbox, inbox.view(np.float64)
    state = np.ones((4, 2)), np.ones(2), np.ones(4), np.ones(4), np.ones(4), np.ones(2), RELEASE
    told = np.zeros(MARKS, np.int64), words, writer, outbox, outbox.view(np.float64)
    assess(np.ones(4), np.ones(4), np.ones(4))
    follow(stream, np.zeros(1, np.int64), state, told, 0)
    show(np.ones(4), np.zeros(SHEET_WORDS))
    lanes = idle()
    sheet = np.zeros(SHEET_WORDS, np.int64)
    bells = bells_at((lanes[0], PORT_BELL), (words, ring.RING_BELL))
    fast, shown = (np.ones((8, 2)), np.ones(6)), (np.ones(4),)
    serve(*lanes, fast, stream, state, told, shown, words, sheet, sheet.view(np.float64), bells)
