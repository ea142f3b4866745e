"""Markets and books for the tests of the risk rooms: the bundled real one, and small ones made to measure."""

from __future__ import annotations

import numpy as np
import pytest

from hive.market.settings import MarketSettings
from hive.market.snapshot import MarketSnapshot
from hive.market.sources import bundled
from hive.messages.portfolio import Book


def make_market(returns, *, base_date="2020-01-01", symbols=None, **fields):
    """A snapshot of ``returns``, shape (n_observations, n_symbols), one observation per calendar day."""
    returns = np.array(returns, dtype=float)
    dates = np.datetime64(base_date, "D") + np.arange(1, len(returns) + 1)
    names = symbols or tuple(f"S{number}" for number in range(returns.shape[1]))
    fields = {"dates": dates, "source": "made to measure", "currency": "USD", **fields}
    return MarketSnapshot(symbols=tuple(names), base_date=base_date, returns=returns, **fields)


def make_book(weights, *, value=None, prices=None, volumes=None, spreads=None, gammas=None, **fields):
    """A book from weights by symbol; prices, volumes and spreads are by position, unknown where left out."""
    unknown = np.full(len(weights), np.nan)
    return Book(
        name="book",
        currency="USD",
        value=value,
        symbols=tuple(weights),
        weights=np.array(list(weights.values()), dtype=float),
        unit_exposures=unknown if prices is None else np.array(prices, dtype=float),
        volumes=unknown if volumes is None else np.array(volumes, dtype=float),
        spreads=unknown if spreads is None else np.array(spreads, dtype=float),
        gammas=np.zeros(len(weights)) if gammas is None else np.array(gammas, dtype=float),
        **{
            "exchange": ("",) * len(weights),
            "exchange_powers": np.zeros(len(weights)),
            "groups": ("",) * len(weights),
            "lots": unknown,
            "recent_volumes": unknown,
            "usual_spreads": unknown,
            "depths": unknown,
            **fields,
        },
    )


@pytest.fixture(scope="session")
def snapshot():
    """The bundled S&P 20: real prices, 8312 returns."""
    return bundled(MarketSettings())


@pytest.fixture(scope="session")
def equal_book(snapshot):
    return make_book(dict.fromkeys(snapshot.symbols, 1 / len(snapshot.symbols)))


@pytest.fixture(scope="session")
def equal_returns(snapshot):
    """Daily returns of the equal-weight book, read-only."""
    returns = snapshot.returns.mean(axis=1)
    returns.setflags(write=False)
    return returns


@pytest.fixture(scope="session")
def market():
    return make_market


@pytest.fixture(scope="session")
def book():
    return make_book
