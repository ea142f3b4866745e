"""Ticks and who follows them: sources, and every follower against a plain recomputation tick by tick."""

from __future__ import annotations

import dataclasses
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fast import FastService
from actors.lanes import LaneHost
from actors.market.market_data import ticks as stream
from actors.market.market_data.ticks import CHUNK_TICKS, TickWriter, burst, crossings_plain, prices_of, replay, ticks_of
from actors.risk.correlation.kernels import DOWN, UP, ewma_monitor
from actors.risk.correlation.tick_kernels import BEGUN, STEPS, CorrelationFollower, moves_plain
from actors.risk.liquidity import kernels as liquidity
from actors.risk.liquidity.tick_kernels import LiquidityFollower
from actors.risk.value_at_risk import fast_kernels, tick_kernels
from actors.risk.value_at_risk.limits import WATCHED_POSITIONS, check_limits
from actors.risk.value_at_risk.resident import Monitor
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from actors.risk.value_at_risk.tick_kernels import LimitFollower, figure, figures_plain
from cluster.errors import InvalidMarketData, InvalidRequest
from cluster.lanes import atomics
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import BAD, NONE, WANTED
from cluster.lanes.lane import Lane
from cluster.lanes.layout import PAGE
from cluster.lanes.settings import LaneSettings
from hive import alerts
from hive.figures import shown
from hive.messages.calculation import Role
from hive.messages.fast import Caller, FastFacts
from tests.actors.conftest import make_book

RELEASE = 0.95
SEEDS = st.integers(0, 2**32)
EXAMPLES = settings(max_examples=40, derandomize=True)


class Floor:
    """A tick ring, an ear on it for a follower, and an ear on its alerts."""

    def __init__(self, slots=1 << 12, wait="park"):
        self.writer = TickWriter(slots=slots)
        self.ticks, self.board = Listener(self.writer.address, wait), alerts.board()
        self.ear = Listener(self.board.address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for end in (self.ear, self.board, self.ticks, self.writer):
            end.close()

    def tell(self, follower, ticks):
        """Publish ticks and have them all followed."""
        self.writer.broadcast.publish(ticks)
        drain(follower)

    def heard(self):
        """(time of the tick, limit) of every alert that came since this was asked last."""
        messages = self.ear.poll().messages
        return [(int(record[alerts.TICK_NS]), int(record[alerts.LIMIT])) for record in messages]


def drain(follower):
    while int(follower.ticks.hand[0]) < int(follower.ticks.words[16]):
        assert follower.follow() == NONE


def one(place, price, at_ns):
    return ticks_of(np.array([place]), np.array([price]), np.array([at_ns]))


def random_walk(rng, prices, count, scale=0.02):
    """(place, price) of ticks: the price of a symbol drawn evenly moves by about ``scale``."""
    last, found = prices.copy(), []
    for _ in range(count):
        place = int(rng.integers(len(last)))
        last[place] *= math.exp(scale * rng.normal())
        found.append((place, float(last[place])))
    return found


def spread_limits(rng, figures):
    """A limit within the range of every figure, now and then none."""
    figures = np.where(np.isfinite(figures), figures, 100.0)  # of a book that is worth nothing any more
    lows, highs = figures.min(axis=0), figures.max(axis=0)
    limits = lows + rng.uniform(0.2, 0.9, len(lows)) * (highs - lows) + 1e-9
    return np.where(rng.random(len(lows)) < 0.15, np.inf, limits)


@EXAMPLES
@given(seed=SEEDS, n=st.integers(1, 8), count=st.integers(1, 150))
def test_limits_follow_as_recomputed_tick_by_tick(seed, n, count):
    rng = np.random.default_rng(seed)
    units, prices = rng.normal(size=n) + 0.3, rng.uniform(10, 200, n)
    cash = float(np.abs(units) @ prices * rng.uniform(0.2, 1.5)) + max(0.0, float(-units @ prices))
    loadings = rng.normal(size=(n, n)) * 0.01
    covariance, walk = loadings @ loadings.T, random_walk(rng, prices, count)
    held, peak, expected = prices.copy(), units @ prices + cash, []
    squared = Monitor(covariance, units, prices, cash=cash, limits={}).limits[0]
    for place, price in walk:
        held[place] = price
        peak = max(peak, units @ held + cash)
        expected.append(figures_plain(units, held, cash, peak, covariance, squared))
    limits = spread_limits(rng, np.array(expected))
    if n < WATCHED_POSITIONS:
        limits[3] = np.inf
    with Floor() as floor:
        named = dict(zip(Monitor.NAMES, limits.tolist(), strict=True))
        monitor = Monitor(covariance, units, prices, cash=cash, limits=named)
        follower = LimitFollower(monitor, floor.ticks, floor.board, release=RELEASE)
        for number, (place, price) in enumerate(walk):
            floor.tell(follower, one(place, price, number))
            found = [figure(limit, monitor.book, monitor.limits) for limit in range(4)]
            assert found == pytest.approx(expected[number], rel=1e-8, abs=1e-12)
        assert monitor.positions[1].tolist() == held.tolist()
        assert monitor.book[7] == pytest.approx(units @ (held - prices), rel=1e-9, abs=1e-9)
        assert floor.heard() == crossings_plain(np.array(expected), limits, RELEASE)
        assert follower.counts == {"ticks": count, "missed": 0, "refused": 0, "alerts": follower.counts["alerts"]}


@EXAMPLES
@given(seed=SEEDS, n=st.integers(2, 6), count=st.integers(1, 150), period=st.integers(1, 40))
def test_correlation_follows_as_recomputed_period_by_period(seed, n, count, period):
    rng = np.random.default_rng(seed)
    history, prices = 0.01 * rng.normal(size=(150, n)), rng.uniform(10, 200, n)
    at_ns = 1000 + np.cumsum(rng.integers(0, 12, count))
    walk = [(place, price, int(ns)) for (place, price), ns in zip(random_walk(rng, prices, count), at_ns, strict=True)]
    ends = [
        ns for ns, before in zip(at_ns[1:].tolist(), at_ns.tolist(), strict=False) if ns // period > before // period
    ]
    twin = ewma_monitor(history, 0.9)
    sums = []
    for moves in moves_plain(prices, walk, period):
        twin.step(moves)
        sums.append(twin.state[[UP, DOWN]].copy())
    assert len(sums) == len(ends)
    threshold = float(np.quantile(np.array(sums), 0.7)) + 1e-6 if sums else 1.0
    with Floor() as floor:
        monitor = dataclasses.replace(ewma_monitor(history, 0.9), threshold=threshold)
        follower = CorrelationFollower(monitor, prices, floor.ticks, floor.board, period_ns=period, release=RELEASE)
        floor.tell(follower, ticks_of(*(np.array(part) for part in zip(*walk, strict=True))))
        assert follower.clock[STEPS] == len(sums)
        np.testing.assert_allclose(monitor.matrix, twin.matrix, rtol=1e-12)
        np.testing.assert_allclose(monitor.state, twin.state, rtol=1e-9, atol=1e-12)
        expected = crossings_plain(np.array(sums).reshape(-1, 2), np.full(2, threshold), RELEASE)
        assert floor.heard() == [(ends[step], limit) for step, limit in expected]


def liquidity_state(rng, n):
    """(table, limits, units, multipliers, prices) of a book whose sale takes days."""
    units, multipliers, prices = rng.normal(size=n) * 1e4, rng.choice([1.0, 10.0], n), rng.uniform(10, 200, n)
    table = np.full((8, n), np.nan)
    table[liquidity.VOLUME], table[liquidity.VOLATILITY] = rng.uniform(1e3, 1e5, n), rng.uniform(0.005, 0.04, n)
    table[liquidity.SPREAD], table[liquidity.DEPTH] = rng.uniform(0, 0.01, n), rng.uniform(0, 2e5, n)
    table[liquidity.VOLUME_RATIO], table[liquidity.SPREAD_RATIO] = rng.uniform(0, 1, n), rng.uniform(1, 5, n)
    table[liquidity.VOLUME : liquidity.DEPTH + 1][rng.random((6, n)) < 0.1] = np.nan
    table[liquidity.VOLATILITY] = np.nan_to_num(table[liquidity.VOLATILITY], nan=0.01)
    return table, np.array([0.1, 1.0, 1e5, 10.0, 0.05, 1.0]), units, multipliers, prices


@EXAMPLES
@given(seed=SEEDS, n=st.integers(1, 6), count=st.integers(1, 120))
def test_liquidity_follows_as_recomputed_tick_by_tick(seed, n, count):
    rng = np.random.default_rng(seed)
    table, limits, units, multipliers, prices = liquidity_state(rng, n)
    value = float(np.abs(units) @ prices)
    walk, held, expected = random_walk(rng, prices, count, scale=0.1), prices.copy(), []
    for place, price in walk:
        held[place] = price
        now, then = table.copy(), limits.copy()
        now[liquidity.EXPOSURE], now[liquidity.UNIT] = units * held, multipliers * held
        then[5] = value + units @ (held - prices)
        expected.append(liquidity.assess_book_plain(now, then) if then[5] > 0 else np.full(4, np.nan))
    answers = np.array(expected)
    if np.isnan(answers).any():
        return
    bounds = spread_limits(rng, answers[:, [liquidity.INDEX, liquidity.DAYS]])
    with Floor() as floor:
        follower = LiquidityFollower(
            table,
            limits,
            units=units,
            multipliers=multipliers,
            prices=prices,
            value=value,
            ticks=floor.ticks,
            board=floor.board,
            stressed_index=bounds[0],
            slowest_days=bounds[1],
            release=RELEASE,
        )
        begun = follower.answer[[liquidity.INDEX, liquidity.DAYS]] > bounds
        for number, (place, price) in enumerate(walk):
            floor.tell(follower, one(place, price, number))
            np.testing.assert_allclose(follower.answer, answers[number], rtol=1e-9, atol=1e-12)
        if not begun.any():
            judged = answers[:, [liquidity.INDEX, liquidity.DAYS]]
            assert floor.heard() == crossings_plain(judged, bounds, RELEASE)


def lonely(floor, *, price=100.0, **limits):
    monitor = Monitor(np.array([[1e-4]]), np.array([1.0]), np.array([price]), limits=limits)
    return LimitFollower(monitor, floor.ticks, floor.board)


def test_an_alert_comes_at_the_crossing_and_again_only_after_it_was_below():
    with Floor() as floor:
        follower = lonely(floor, drawdown=0.10)
        path = [100.0, 95.0, 89.9, 89.0, 90.1, 89.8, 91.0, 89.0, 85.0, 101.0, 92.0, 90.8]
        for number, price in enumerate(path):
            floor.tell(follower, one(0, price, number))
        drawdown = 1
        # 90.1 is below the limit, but not by its fiftieth part; 91.0 is.
        assert floor.heard() == [(2, drawdown), (7, drawdown), (11, drawdown)]
        assert follower.counts["alerts"] == 3


def test_an_alert_says_what_was_crossed_by_whom_and_when():
    with Floor() as floor:
        follower, before = lonely(floor, drawdown=0.10), time.monotonic_ns()
        floor.tell(follower, one(0, 80.0, 12345))
        (record,) = floor.ear.poll().messages
        found = alerts.raised(record, subject="desk", symbols=("AAPL",))
        assert (found.alert.value, found.alert.limit) == (pytest.approx(0.2), 0.1)
        assert (found.alert.ts_ns, found.symbol, found.incomplete) == (12345, "AAPL", False)
        assert before <= found.raised_ns <= time.monotonic_ns()


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf])
def test_ticks_that_cannot_be_change_nothing_and_are_counted(price):
    rng = np.random.default_rng(0)
    with Floor() as floor:
        follower = lonely(floor, drawdown=0.1)
        before = follower.monitor.book.copy()
        floor.tell(follower, np.concatenate([one(0, price, 1), one(-1, 1.0, 2), one(1, 1.0, 3)]))
        assert follower.counts == {"ticks": 0, "missed": 0, "refused": 3, "alerts": 0}
        assert follower.monitor.book.tolist() == before.tolist()
    with Floor() as floor:
        prices = np.array([1.0, 2.0])
        follower = CorrelationFollower(
            ewma_monitor(rng.normal(size=(150, 2)), 0.9), prices, floor.ticks, floor.board, period_ns=10
        )
        wrong = [one(0, price, 1), one(2, 1.0, 2), one(0, 0.0, 3), one(0, 1.0, -1), one(0, 1.0, 2**62 + 1)]
        floor.tell(follower, np.concatenate(wrong))
        assert follower.counts["refused"] == 5
        assert follower.clock[BEGUN] == 0
    with Floor() as floor:
        table, limits, units, multipliers, prices = liquidity_state(rng, 2)
        rest = {"units": units, "multipliers": multipliers, "prices": prices, "value": 1e7}
        follower = LiquidityFollower(table, limits, **rest, ticks=floor.ticks, board=floor.board)
        before = follower.answer.copy()
        floor.tell(follower, np.concatenate([one(0, price, 1), one(2, 1.0, 2), one(0, -1.0, 3)]))
        assert follower.counts["refused"] == 3
        assert follower.answer.tolist() == before.tolist()


def test_missed_ticks_leave_the_state_incomplete_until_a_refresh():
    with Floor(slots=8) as floor:
        follower = lonely(floor, drawdown=0.10)
        for price in np.linspace(100.0, 82.0, 20):
            floor.writer.broadcast.publish(one(0, price, 0))
        drain(follower)
        assert follower.incomplete
        assert follower.counts == {"ticks": 8, "missed": 12, "refused": 0, "alerts": 1}
        (record,) = floor.ear.poll().messages
        assert alerts.raised(record, subject="desk", symbols=("A",)).incomplete
        with pytest.raises(InvalidMarketData):
            follower.refresh(np.array([math.nan]))
        assert follower.incomplete
        follower.refresh(np.array([95.0]))
        assert not follower.incomplete
        assert follower.monitor.book[[0, 2, 7]].tolist() == [95.0, 95.0, -5.0]
        floor.tell(follower, one(0, 94.0, 1))
        assert not follower.incomplete


def test_a_ring_that_cannot_be_believed_is_followed_no_more():
    with Floor(slots=8) as floor:
        follower = lonely(floor, drawdown=0.10)
        floor.writer.broadcast.publish(one(0, 90.0, 0))
        floor.ticks.words[PAGE + 3] += 1
        assert follower.follow() == BAD
        assert follower.counts["ticks"] == 0


def test_rings_of_other_messages_are_refused():
    with Floor() as floor, Broadcaster(slots=8, payload_words=5) as other:
        monitor = Monitor(np.eye(1), np.ones(1), np.ones(1), limits={})
        with pytest.raises(InvalidRequest):
            LimitFollower(monitor, floor.ticks, other)
        with Listener(other.address) as listener, pytest.raises(InvalidRequest):
            LimitFollower(monitor, listener, floor.board)


@pytest.mark.parametrize("wait", ["spin", "yield", "park"])
def test_a_following_thread_keeps_up_and_comes_when_called(wait):
    prices = np.array([100.0, 50.0, 20.0])
    with Floor(slots=1 << 14, wait=wait) as floor:
        monitor = Monitor(np.eye(3) * 1e-4, np.array([1.0, 2.0, -3.0]), prices, cash=100.0, limits={"drawdown": 0.01})
        follower, control, reasons = LimitFollower(monitor, floor.ticks, floor.board), np.zeros(1, np.int64), []
        until = time.monotonic_ns() + 60 * 10**9
        thread = threading.Thread(target=lambda: reasons.append(follower.follow(until, control)))
        thread.start()
        source = list(burst(prices, np.full(3, 2.0), rate=2e5, count=8000, seed=3))
        assert floor.writer.write(source, speed=1.0) == 8000
        give_up = time.monotonic() + 30.0
        while follower.counts["ticks"] < 8000 and time.monotonic() < give_up:
            time.sleep(0.001)
        control[0] = 1
        thread.join(10.0)
        assert reasons == [WANTED]
        assert follower.counts["ticks"] == 8000
        whole = np.concatenate(source)
        last = [prices_of(whole[whole[:, stream.SYMBOL] == place])[-1] for place in range(3)]
        assert monitor.positions[1].tolist() == last
        assert follower.follow(time.monotonic_ns() + 10**6) == NONE


def test_replayed_history_ends_where_the_last_prices_say(snapshot):
    n, first, last = len(snapshot.symbols), snapshot.prices[0], snapshot.prices[-1]
    units, covariance = 1e6 / n / first, np.cov(snapshot.returns, rowvar=False)
    with Floor(slots=1 << 12) as floor, Listener(floor.writer.address) as other, alerts.board() as second:
        monitor = Monitor(covariance, units, first, cash=1e5, limits={"drawdown": 0.2, "var": 0.02})
        limits = LimitFollower(monitor, floor.ticks, floor.board)
        watched = ewma_monitor(snapshot.returns[:300], 0.94)
        correlation = CorrelationFollower(watched, first, other, second, period_ns=stream.DAY_NS)
        days = list(replay(snapshot))
        for begin in range(0, len(days), 100):
            floor.writer.write(days[begin : begin + 100])
            drain(limits)
            drain(correlation)
        assert limits.counts["ticks"] == correlation.counts["ticks"] == snapshot.prices.size
        assert limits.counts["missed"] == 0
        fresh = Monitor(covariance, units, last, cash=1e5, limits={}, peak_value=monitor.book[1])
        np.testing.assert_allclose(monitor.book[:6], fresh.book[:6], rtol=1e-8)
        np.testing.assert_allclose(monitor.positions, fresh.positions, rtol=1e-7)
        assert monitor.book[7] == pytest.approx(units @ (last - first), rel=1e-8)
        values = snapshot.prices @ units + 1e5
        assert monitor.book[1] >= values.max()
        twin = ewma_monitor(snapshot.returns[:300], 0.94)
        for moves in np.vstack([np.zeros(n), snapshot.returns[:-1]]):
            twin.step(moves)
        assert correlation.clock[STEPS] == len(snapshot.returns)
        np.testing.assert_allclose(watched.state, twin.state, rtol=1e-6, atol=1e-9)
        refreshed = monitor.book.copy()
        limits.refresh()
        np.testing.assert_allclose(monitor.book, refreshed, rtol=1e-8)


def test_a_day_is_replayed_at_its_close(snapshot):
    first = next(iter(replay(snapshot)))
    assert prices_of(first).tolist() == snapshot.prices[0].tolist()
    moment = np.datetime64(int(first[0, stream.AT_NS]), "ns")
    assert str(moment)[:16] == f"{snapshot.base_date}T21:00"
    with pytest.raises(InvalidMarketData):
        next(replay(dataclasses.replace(snapshot, prices=None)))


def test_a_burst_is_the_same_twice_bit_for_bit():
    asked = {"rate": 1e4, "count": 2 * CHUNK_TICKS + 17, "start_ns": 10**18}
    prices, volatilities = np.array([100.0, 20.0, 3.0]), np.array([0.02, 0.0, 5.0])
    runs = [np.concatenate(list(burst(prices, volatilities, seed=seed, **asked))) for seed in (7, 7, 8)]
    assert runs[0].tobytes() == runs[1].tobytes() != runs[2].tobytes()
    assert len(runs[0]) == asked["count"]
    assert (np.diff(runs[0][:, stream.AT_NS]) >= 0).all()
    assert runs[0][0, stream.AT_NS] >= 10**18
    assert set(prices_of(runs[0][runs[0][:, stream.SYMBOL] == 1]).tolist()) == {20.0}
    assert prices.tolist() == [100.0, 20.0, 3.0]


def test_a_burst_moves_as_much_and_as_often_as_asked():
    count, rate = 60_000, 100.0
    found = np.concatenate(list(burst(np.array([100.0, 10.0]), np.array([0.5, 2.0]), rate=rate, count=count, seed=1)))
    gaps = np.diff(found[:, stream.AT_NS], prepend=0)
    assert gaps.mean() == pytest.approx(1e9 / rate, rel=0.02)
    assert gaps.std() == pytest.approx(1e9 / rate, rel=0.03)
    for place, volatility in enumerate((0.5, 2.0)):
        mine = found[found[:, stream.SYMBOL] == place]
        assert len(mine) == pytest.approx(count / 2, rel=0.03)
        days = np.diff(mine[:, stream.AT_NS]) / stream.DAY_NS
        moves = np.diff(np.log(prices_of(mine)))
        assert np.sqrt(np.mean(moves**2 / np.maximum(days, 1e-15))) == pytest.approx(volatility, rel=0.03)


def test_sources_refuse_what_cannot_be():
    good = {"rate": 1.0, "count": 1, "seed": 0}
    for prices, volatilities in (([], []), ([1.0], [1.0, 1.0]), ([0.0], [1.0]), ([1.0], [-1.0]), ([math.inf], [1.0])):
        with pytest.raises(InvalidMarketData):
            next(burst(np.array(prices), np.array(volatilities), **good))
    for wrong in ({"rate": 0.0}, {"rate": math.nan}, {"count": -1}):
        with pytest.raises(InvalidRequest):
            next(burst(np.ones(1), np.ones(1), **{**good, **wrong}))
    with pytest.raises(InvalidMarketData):
        ticks_of(np.zeros(2), np.zeros(1), np.zeros(2))


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now, self.slept = 0, []

    def read(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.now += math.ceil(seconds * 1e9)


@pytest.mark.parametrize("speed", [0.5, 1.0, 100.0, math.inf])
def test_a_writer_keeps_the_time_of_its_source(speed):
    clock = Clock()
    writer = TickWriter(slots=64, clock_ns=clock.read, sleep=clock.sleep)
    moments, published = np.array([5.0, 5.0, 5.3, 6.0]), []
    whole = ticks_of(np.zeros(4), np.ones(4), (moments * 1e9).astype(np.int64))
    with Listener(writer.address) as listener:
        writer.broadcast.publish = lambda rows, publish=writer.broadcast.publish: (
            published.extend([clock.now / 1e9] * len(rows)),
            publish(rows),
        )
        assert writer.write([whole[:1], whole[:0], whole[1:]], speed=speed) == 4
        assert listener.poll().messages.tolist() == whole.tolist()
    assert published == pytest.approx(((moments - 5.0) / speed).tolist(), abs=1e-8)
    assert max(clock.slept, default=0.0) <= stream.SLICE_S
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidRequest):
            writer.write([], speed=wrong)
    writer.close()


def test_a_state_made_anew_goes_on_with_the_first_tick_that_is_not_in_its_prices():
    with Floor() as floor:
        follower = lonely(floor, drawdown=0.10)
        floor.tell(follower, np.concatenate([one(0, price, 0) for price in (101.0, 102.0, 103.0)]))
        follower.stand_at(np.array([101.0]), 1)  # as somebody saw it before the last two: they are taken again
        drain(follower)
        assert follower.monitor.book[0] == 103.0
        assert follower.counts == {"ticks": 3, "missed": 0, "refused": 0, "alerts": 0}
        floor.writer.broadcast.publish(np.concatenate([one(0, price, 0) for price in (104.0, 105.0, 106.0)]))
        follower.stand_at(np.array([105.0]), 5)  # two that nobody judged one by one are missed
        drain(follower)
        assert follower.monitor.book[0] == 106.0
        assert follower.counts == {"ticks": 4, "missed": 2, "refused": 0, "alerts": 0}
        assert not follower.incomplete
        follower.stand_at(np.array([math.nan]), 6)
        assert follower.monitor.book[0] == 106.0


def test_a_state_made_anew_beyond_a_limit_says_so_once():
    with Floor() as floor:
        follower = lonely(floor, drawdown=0.10)
        for price in (80.0, 81.0, 99.0, 85.0):
            follower.stand_at(np.array([price]), 0)
        assert [limit for _, limit in floor.heard()] == [1, 1]
        floor.tell(follower, one(0, 84.0, 1))
        assert follower.counts["alerts"] == 2


def test_a_book_of_few_positions_is_judged_as_by_a_calculation():
    for n in (1, 2, 3, 4, 5):
        units, prices = np.ones(n), np.full(n, 10.0)
        units[0] = 20.0
        weights = units / units.sum()
        held = make_book({f"S{i}": w for i, w in enumerate(weights)}, value=10.0 * units.sum())
        _, breaches = check_limits(held, np.zeros(50), ValueAtRiskSettings())
        monitor = Monitor(np.zeros((n, n)), units, prices, limits={"concentration": 0.3})
        beyond = monitor.beyond(monitor.tick(0, 10.0))
        assert beyond == tuple(breach.limit_name for breach in breaches)
        assert bool(beyond) == (n >= WATCHED_POSITIONS)


class Room:
    """Lanes of the value-at-risk room, whose loop follows ticks beside them."""

    def __init__(self, follower, strategy):
        rng = np.random.default_rng(0)
        state = (
            np.vstack([np.eye(2) * 1e-4, np.zeros(2)]),
            np.ascontiguousarray(rng.normal(0, 0.01, (2, 50))),
            np.array([[0.95, 1.6448536269514722, 2.0627128075074257, math.nan]]),
            np.empty((2, 50)),
            np.empty(50, np.int64),
        )
        service = FastService(fast_kernels.answer, fast_kernels.serve, state, {}, largest=6)
        facts = FastFacts("0" * 64, 0, ("A", "B"), {})
        tick_kernels.warm()  # no errand waits while the loop is compiled
        self.host = LaneHost(LaneSettings(wait=strategy), service, facts, own_core=False)
        self.host.follow(follower)
        self.lane = Lane(self.host.open(Caller.here("park")), "park")
        self.port = self.host.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lane.close()
        self.host.close()


def reached(condition, seconds=120.0):
    give_up = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.001)
    return condition()


@pytest.mark.parametrize("bells", [True, False], ids=["both bells", "a kernel that waits at one"])
@pytest.mark.parametrize("strategy", ["spin", "yield", "park"])
def test_one_loop_answers_lanes_and_takes_ticks(monkeypatch, strategy, bells):
    if not bells:
        monkeypatch.setattr(atomics, "_can_wait_at_many", lambda: False)
    question = np.array([0.95, 0.5, 0.5])
    with Floor(slots=1 << 14) as floor:
        follower = lonely(floor, drawdown=0.10)
        with Room(follower, strategy) as room:
            expected = room.lane.ask(1, question, patience_s=60.0).copy()
            assert reached(lambda: strategy != "park" or room.port.status().counters["parked"] > 0)
            floor.writer.publish(one(0, 99.0, 5))
            assert reached(lambda: follower.counts["ticks"] == 1)
            figures, counts = shown(Role.VALUE_AT_RISK, page_of(follower))
            assert (figures["value"], counts.ticks, counts.last_ns) == (99.0, 1, 5)
            source = burst(np.array([99.0]), np.array([1e-9]), rate=1e6, count=6000, seed=0)
            writing = threading.Thread(target=lambda: floor.writer.write(source, speed=1.0))
            writing.start()
            asked = 0
            while writing.is_alive() or asked < 100:
                assert room.lane.ask(1, question, patience_s=10.0).tolist() == expected.tolist()
                asked += 1
            writing.join()
            assert reached(lambda: follower.counts["ticks"] + follower.counts["missed"] == 6001)
            assert reached(lambda: room.port.status().counters["served"] == asked + 1)
            floor.writer.publish(one(0, 50.0, 6))
            assert len(floor.ear.wait(10.0).messages) == 1
            assert room.host.status().ticks == follower.counts
        follower.close()


def test_a_ring_that_cannot_be_believed_leaves_the_lanes_alone():
    with Floor(slots=8) as floor:
        follower = lonely(floor, drawdown=0.10)
        with Room(follower, "park") as room:

            def spoil():
                floor.writer.publish(one(0, 99.0, 0))
                floor.ticks.words[PAGE + 3] += 1

            room.host.do(spoil)
            assert reached(lambda: follower.lost)
            assert len(room.lane.ask(1, np.array([0.95, 0.5, 0.5]), patience_s=30.0)) == 6
            with TickWriter(slots=8).broadcast as other:
                listener = Listener(other.address)
                room.host.do(lambda: follower.change_over(listener))
                other.publish(one(0, 98.0, 0))
                assert reached(lambda: follower.counts["ticks"] == 1)
            assert follower.monitor.book[0] == 98.0
            room.host.leave(follower)
            assert room.host.status().ticks is None
        follower.close()


def page_of(follower):
    return follower.page.read().view(np.int64)
