"""What positions earn when their symbols move: convexity and exchange rates, in one place.

A symbol's move r earns r + gamma r^2 / 2 on the exposure; a position in a foreign currency also earns the move f of
its exchange rate, compounded: (1 + r + gamma r^2 / 2) (1 + f) - 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from actors.risk.measures import book_returns
from cluster.errors import InvalidMarketData
from hive.messages.portfolio import Book


def moved_columns(book: Book, columns: Mapping[str, int]) -> np.ndarray:
    """Columns of everything that moves the book: its symbols, then its exchange rates, each once.

    Returns
    -------
    ndarray of int, shape (n_positions + n_rates,)
    """
    rates = dict.fromkeys(rate for rate in book.exchange if rate)
    return np.array([columns[symbol] for symbol in (*book.symbols, *rates)])


def daily_returns(book: Book, columns: Mapping[str, int], returns: np.ndarray) -> np.ndarray:
    """Daily returns of any book at constant weights, rebalanced every day; shape (n_observations,).

    Parameters
    ----------
    columns : mapping of str to int
        Column of each symbol the market knows.
    returns : ndarray of shape (n_observations, n_symbols)
        Simple returns of those symbols.

    Raises
    ------
    InvalidMarketData
        A return that moves the book is not finite.
    """
    if book.linear:
        return book_returns(returns, np.array([columns[symbol] for symbol in book.symbols]), book.weights)
    return np.asarray(position_returns(book, returns[:, moved_columns(book, columns)]) @ book.weights)


def position_returns(book: Book, moves: np.ndarray) -> np.ndarray:
    """Returns of the positions in the book's currency.

    Parameters
    ----------
    moves : ndarray of shape (n_observations, n_positions + n_rates)
        Simple returns in the order of :func:`moved_columns`.

    Returns
    -------
    ndarray of shape (n_observations, n_positions)
        ``moves`` itself where the book is linear.

    Raises
    ------
    InvalidMarketData
        A move is not finite.
    """
    if not np.isfinite(moves).all():
        raise InvalidMarketData("a move of the book's symbols is not finite", "Validate the market data")
    if book.linear:
        return moves
    n = len(book.symbols)
    earned = moves[:, :n] + book.gammas * moves[:, :n] ** 2 / 2
    rates = list(dict.fromkeys(rate for rate in book.exchange if rate))
    for position, rate in enumerate(book.exchange):
        if rate:
            exchanged = (1.0 + moves[:, n + rates.index(rate)]) ** book.exchange_powers[position]
            earned[:, position] = (1.0 + earned[:, position]) * exchanged - 1.0
    return np.asarray(earned)
