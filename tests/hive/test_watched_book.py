"""A watched book: its units from a priced book, its places in a snapshot, and its keeping on disk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cluster.errors import InvalidMarketData, InvalidPortfolio
from hive.figures import MARKS, SHEET_WORDS, SHOWN, shown
from hive.market.settings import MarketSettings
from hive.market.store import SnapshotStore
from hive.messages.calculation import Role
from hive.messages.codec import decode, encode
from hive.messages.mandate import Limits
from hive.messages.portfolio import Portfolio, Position, resolve
from hive.messages.ticks import WatchedBook

SYMBOLS = ("A", "B", "C")
PRICES = np.array([10.0, 20.0, 5.0])


def watched(portfolio, *, prices=PRICES, limits=None):
    book = resolve(portfolio, symbols=SYMBOLS, currency="USD", last_prices=prices)
    return WatchedBook.of(book, last_prices=prices, symbols=SYMBOLS, limits=limits, snapshot_id=None)


@pytest.fixture
def book():
    positions = (Position("C", quantity=-100.0, multiplier=2.0), Position("A", quantity=50.0, recent_volume=5.0))
    return Portfolio(positions, name="desk", cash=2000.0, limits=Limits(var=0.01), peak_value=9000.0)


def test_units_are_those_whose_exposure_the_book_states(book):
    found = watched(book)
    assert (found.units * found.prices).tolist() == [-1000.0, 500.0]
    assert (found.value, found.peak_value) == (1500.0, 9000.0)
    assert found.multipliers.tolist() == [2.0, 1.0]
    assert (found.limits.var, watched(book, limits=Limits(var=0.5)).limits.var) == (0.01, 0.5)
    assert decode(encode(found)) == found


def test_the_same_book_is_the_same_watch_whatever_its_peak(book):
    found = watched(book)
    assert watched(replace(book, peak_value=9999.0)).watch_id == found.watch_id
    assert watched(replace(book, cash=5000.0)).watch_id != found.watch_id


def test_a_book_is_placed_over_all_symbols(book):
    last = np.array([11.0, 21.0, 6.0])
    placed = watched(book).placed(SYMBOLS, last)
    assert placed.units.tolist() == [50.0, 0.0, -200.0]
    assert placed.prices.tolist() == [10.0, 21.0, 5.0]
    assert placed.multipliers.tolist() == [1.0, 1.0, 2.0]
    assert placed.cash == 2000.0
    assert np.isnan(placed.volumes).all()


def test_what_ticks_cannot_move_is_refused(book):
    with pytest.raises(InvalidPortfolio, match="linear"):
        watched(Portfolio((Position("A", quantity=1.0, gamma=1.0),)))
    with pytest.raises(InvalidPortfolio, match="value"):
        watched(Portfolio.from_weights({"A": 1.0}))
    with pytest.raises(InvalidMarketData):
        watched(Portfolio((Position("A", quantity=1.0, price=1.0),)), prices=None)
    with pytest.raises(InvalidPortfolio, match="no C any more"):
        watched(book).placed(("A", "B"), PRICES[:2])
    with pytest.raises(InvalidMarketData):
        watched(book).placed(SYMBOLS, None)


def test_the_store_keeps_one_book_until_another_or_none(tmp_path, book):
    store, first = SnapshotStore(tmp_path, MarketSettings()), watched(book)
    assert store.watched() is None
    store.watch(first)
    store.watch(replace(first, peak_value=1e6))
    assert SnapshotStore(tmp_path, MarketSettings()).watched() == replace(first, peak_value=1e6)
    for damaged in (b"", encode(book), b"nonsense"):
        (tmp_path / "watched").write_bytes(damaged)
        with pytest.raises(InvalidMarketData, match="no watched book"):
            store.watched()
    store.watch(None)
    store.watch(None)
    assert store.watched() is None


@pytest.mark.parametrize("role", SHOWN)
def test_a_page_says_what_its_room_shows(role: Role):
    body = np.zeros(SHEET_WORDS, np.int64)
    body[:MARKS] = 1, 1, 10, 11, 12, 13, 14, 0
    body.view(np.float64)[MARKS:] = np.arange(SHEET_WORDS - MARKS)
    figures, counts = shown(role, body)
    assert figures == dict(zip(SHOWN[role], np.arange(8.0).tolist(), strict=False))
    assert (counts.ticks, counts.missed, counts.refused, counts.alerts, counts.last_ns) == (10, 11, 12, 13, 14)
    assert counts.incomplete
