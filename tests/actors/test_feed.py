"""The market's feed without Ray: one source at a time, stopped at once, last prices that fit their ring."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

from actors.market.market_data.feed import MOST_PUSHED, TickFeed
from actors.market.market_data.ticks import AT_NS, SYMBOL, TickWriter, prices_of, ticks_of
from cluster.errors import InvalidInput, InvalidRequest, LaneLost
from cluster.lanes.broadcast import Listener
from hive.messages.ticks import SourceKind, TickRequest
from tests.actors.conftest import make_market

SYMBOLS = ("A", "B", "C")


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(3)
    prices = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (101, 3)), axis=0))
    returns = prices[1:] / prices[:-1] - 1
    return make_market(returns, symbols=SYMBOLS, prices=prices, last_prices=prices[-1].copy())


@pytest.fixture
def feed(market):
    made = TickFeed(market, 4096)
    yield made
    made.close()


def ended(feed):
    give_up = time.monotonic() + 20.0
    while feed.status().running and time.monotonic() < give_up:
        time.sleep(0.005)
    assert not feed.status().running
    return feed.status()


def test_a_replay_tells_the_closes_of_its_days_and_keeps_the_last(feed, market):
    with Listener(feed.stream().address) as listener:
        feed.start(TickRequest(SourceKind.REPLAY, first="2020-02-01", last="2020-02-10"), market)
        status = ended(feed)
        heard = listener.poll().messages
    assert (status.source, status.written, status.ended) == (SourceKind.REPLAY, 30, "")
    assert prices_of(heard).reshape(10, 3).tolist() == market.prices[31:41].tolist()
    stream = feed.stream()
    assert stream.prices.tolist() == market.prices[40].tolist()
    assert (stream.number, stream.symbols) == (30, SYMBOLS)
    assert status.last_ns == int(heard[-1, AT_NS])


def test_a_slow_source_stops_at_once_and_its_ring_goes_on(feed, market):
    feed.start(TickRequest(SourceKind.BURST, rate=0.01, count=10, speed=1.0), market)
    with pytest.raises(InvalidRequest, match="running"):
        feed.start(TickRequest(SourceKind.REPLAY), market)
    with pytest.raises(InvalidRequest, match="running"):
        feed.push(["A"], [1.0], None)
    begun = time.monotonic()
    assert feed.stop().ended == "stopped"
    assert time.monotonic() - begun < 2.0
    assert feed.push(["A", "C", "A"], [1.0, 3.0, 2.0], 7).written == feed.stream().number
    assert np.array_equal(feed.stream().prices, [2.0, math.nan, 3.0], equal_nan=True)
    feed.stop(forget=True)
    assert np.isnan(feed.stream().prices).all()


def test_a_burst_moves_from_the_last_prices(feed, market):
    feed.push(["A"], [1e6], None)
    feed.start(TickRequest(SourceKind.BURST, rate=1e5, count=300, seed=1), market)
    ended(feed)
    prices = feed.stream().prices
    assert prices[0] == pytest.approx(1e6, rel=0.01)
    assert prices[1:] == pytest.approx(market.last_prices[1:], rel=0.01)


@pytest.mark.parametrize(
    "request_",
    [
        TickRequest(SourceKind.PUSH),
        TickRequest(SourceKind.REPLAY, speed=0.0),
        TickRequest(SourceKind.REPLAY, first="2020"),
        TickRequest(SourceKind.REPLAY, last="1999-01-01"),
        TickRequest(SourceKind.BURST, rate=math.nan),
        TickRequest(SourceKind.BURST, count=-1),
    ],
)
def test_a_source_that_cannot_be_is_refused_before_it_starts(feed, market, request_):
    with pytest.raises(InvalidInput):
        feed.start(request_, market)
    assert feed.status().source is None and not feed.status().running


@pytest.mark.parametrize(
    ("symbols", "prices", "at_ns"),
    [
        (["D"], [1.0], None),
        (["A"], [0.0], None),
        (["A"], [math.inf], None),
        (["A"], ["much"], None),
        (["A"], [1.0, 2.0], None),
        ([], [], None),
        (["A"] * (MOST_PUSHED + 1), [1.0] * (MOST_PUSHED + 1), None),
        (["A"], [1.0], -1),
    ],
)
def test_prices_that_cannot_be_are_not_told(feed, symbols, prices, at_ns):
    with pytest.raises(InvalidInput):
        feed.push(symbols, prices, at_ns)
    assert feed.status().written == 0


def test_a_feed_of_returns_has_no_source(market):
    bare = make_market(market.returns, symbols=SYMBOLS)
    feed = TickFeed(bare, 1024)
    for kind in (SourceKind.REPLAY, SourceKind.BURST):
        with pytest.raises(InvalidInput):
            feed.start(TickRequest(kind), bare)
    with Listener(feed.stream().address) as listener:
        feed.close()
        with pytest.raises(LaneLost):
            listener.poll()


def test_last_prices_and_the_number_they_hold_to_fit_while_ticks_are_written():
    writer, n = TickWriter(slots=1 << 16, symbols=4), 4
    with Listener(writer.address) as listener:
        rng = np.random.default_rng(0)
        chunks = [ticks_of(rng.integers(n, size=50), rng.uniform(1, 2, 50), np.arange(50)) for _ in range(400)]
        thread = threading.Thread(target=lambda: writer.write(chunks))
        thread.start()
        seen = [writer.standing() for _ in range(200)]
        thread.join()
        seen.append(writer.standing())
        whole = []
        while sum(map(len, whole)) < 20_000:
            whole.append(listener.poll().messages)
    told = np.concatenate(whole)
    for prices, number in seen:
        expected = np.full(n, math.nan)
        for place in range(n):
            mine = told[:number][told[:number, SYMBOL] == place]
            if len(mine):
                expected[place] = prices_of(mine)[-1]
        assert np.array_equal(prices, expected, equal_nan=True)
    writer.close()
