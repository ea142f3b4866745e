"""What the gate knows by name, put into the compiled book and read back: holdings, the market, limits.

Everything here runs before the book is served, on the serving thread, or after its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate.book import Account, Instrument
from actors.trading.gate.history import History, Reservation
from actors.trading.gate.numbers import numbers_of
from actors.trading.gate.settings import GateSettings
from cluster.errors import InvalidMarketData, InvalidSettings
from hive.messages.gate import GateFacts
from hive.messages.orders import Mode


@dataclass(frozen=True)
class Market:
    """What a snapshot says.

    Raises
    ------
    InvalidMarketData
        The covariance is none.
    """

    symbols: tuple[str, ...]
    covariance: np.ndarray
    """Of daily returns, shape (n_symbols, n_symbols)."""
    prices: Mapping[str, float]
    """Last ones, by symbol."""

    def __post_init__(self) -> None:
        _require_covariance(self.covariance, len(self.symbols))


def restore(book: kernels.Book, facts: GateFacts, found: History, market: Market) -> None:
    """Put what is known into an empty book whose limits are written.

    Raises
    ------
    InvalidSettings
        There is no room for its open orders.
    InvalidMarketData
        As :func:`value` says.
    """
    accounts, symbols = facts.accounts, facts.symbols
    for place, name in enumerate(accounts):
        book.totals[place, kernels.CASH] = found.cash[name]
        for symbol, units in found.units.get(name, {}).items():
            if units:
                book.units[place, symbols.index(symbol), kernels.HELD] = units
    for sequence, order in found.open.items():
        row = np.array(
            [
                order.client_order_id,
                accounts.index(order.account),
                symbols.index(order.symbol),
                order.side,
                order.allowed,
                order.filled,
                order.reserved,
                sequence,
            ],
            np.float64,
        )
        if not kernels.reopen(row, book):
            raise InvalidSettings(f"{len(found.open)} open orders have no room", "Raise `gate.open_orders`")
    value(book, facts, market)
    kernels.current(book)
    for recent in found.recent:
        if recent.account in accounts and recent.symbol in symbols:
            book.order[:] = numbers_of(facts, recent.order())
            kernels.remember(book.order, recent.ns, book)


def value(book: kernels.Book, facts: GateFacts, market: Market) -> None:
    """Covariance and prices of the market, where no tick has come.

    What is not in it has the variance NaN, so that no order in it passes, and none of an account that holds it;
    what is held and has no price either closes the gate.

    Raises
    ------
    InvalidMarketData
        A price is not positive, or that of no symbol.
    """
    place = {symbol: i for i, symbol in enumerate(facts.symbols)}
    at = np.array([place[symbol] for symbol in market.symbols])
    book.covariance[:] = 0.0
    book.covariance[np.ix_(at, at)] = market.covariance
    for symbol in facts.symbols:
        i = place[symbol]
        if book.ticked[i] == kernels.NEVER:
            price = market.prices.get(symbol, 0.0)
            if not 0 <= price < math.inf or (symbol in market.prices and price == 0):
                raise InvalidMarketData(f"{symbol} has the price {price!r}", "Give positive prices")
            book.prices[i] = price
        if symbol not in market.symbols:
            book.covariance[i, i] = math.nan
        if book.prices[i] == 0.0 and book.units[:, i, : kernels.BUY_CASH].any():
            book.prices[i] = math.nan
    book.deviations[:] = np.sqrt(np.maximum(np.diag(book.covariance), 0.0))
    unknown = set(market.prices) - set(market.symbols)
    if unknown:
        raise InvalidMarketData(f"{sorted(unknown)[0]} has a price and is no symbol", "Give prices of known symbols")


def add(book: kernels.Book, facts: GateFacts, market: Market, body: Mapping[str, Any]) -> None:
    """What a reconciliation found to differ."""
    accounts, symbols = facts.accounts, facts.symbols
    for account, money in body["cash"].items():
        book.totals[accounts.index(account), kernels.CASH] += money
    for account, units in body["units"].items():
        for symbol, change in units.items():
            book.units[accounts.index(account), symbols.index(symbol), kernels.HELD] += change
    for i in np.flatnonzero(np.isnan(book.prices)):
        book.prices[i] = 0.0
    value(book, facts, market)
    kernels.recount(book)


def holdings(book: kernels.Book, facts: GateFacts) -> History:
    """Positions and reservations by name."""
    accounts, symbols = facts.accounts, facts.symbols
    found = History(sequence=int(book.cursor[kernels.SEQUENCE]))
    for place, account in enumerate(accounts):
        found.cash[account] = float(book.totals[place, kernels.CASH])
        held = book.units[place, :, kernels.HELD]
        found.units[account] = {symbols[i]: float(held[i]) for i in np.flatnonzero(held).tolist()}
    for slot in np.flatnonzero(book.open_sequences > 0):
        number, account, symbol, side, allowed, filled, reserved, sequence = book.open_orders[slot].tolist()
        found.open[int(sequence)] = Reservation(
            int(number), accounts[int(account)], symbols[int(symbol)], int(side), allowed, filled, reserved
        )
    return found


def limits_page(
    settings: GateSettings,
    mode: Mode,
    found: History,
    instruments: Sequence[Instrument],
    accounts: Sequence[Account],
) -> np.ndarray:
    """Limits in the kernels' order, shape (:func:`.gate_kernels.limits_size`,)."""
    limits = np.zeros(kernels.limits_size(len(accounts), len(instruments)))
    limits[: kernels.SCALARS] = (
        settings.price_collar,
        settings.max_quantity,
        settings.max_notional,
        settings.duplicate_window_s * 1e9,
        settings.messages_per_s,
        settings.message_burst,
        settings.max_gross,
        settings.max_net,
        settings.max_leverage,
        settings.credit,
        settings.short_margin,
        NormalDist().inv_cdf(settings.confidence),
        settings.max_var_increment,
        settings.max_var,
        settings.stale_after_s * 1e9,
        float(mode),
    )
    by_symbol = [
        (float(i.symbol not in found.restricted), float(i.symbol in found.halted), i.tick, i.lot, i.max_position)
        for i in instruments
    ]
    by_account = [(float(a.name not in found.disabled), a.loan) for a in accounts]
    split = kernels.SCALARS + kernels.BY_SYMBOL * len(by_symbol)
    limits[kernels.SCALARS : split] = np.ravel(by_symbol)
    limits[split:] = np.ravel(by_account)
    return limits


def _require_covariance(covariance: np.ndarray, count: int) -> None:
    matrix = np.asarray(covariance, np.float64)
    sound = matrix.shape == (count, count) and bool(np.isfinite(matrix).all())
    if not sound or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] < -1e-9 * np.trace(matrix):
        raise InvalidMarketData("the covariance is no covariance of the gate's symbols", "Give a finite PSD matrix")
