"""Convexity and exchange rates against the product they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.exposures import moved_columns, position_returns
from cluster.errors import InvalidMarketData


def test_a_linear_book_earns_what_its_symbols_move(book):
    moves = np.array([[0.1, -0.2]])
    assert position_returns(book({"A": 0.5, "B": 0.5}), moves) is moves


def test_convexity_and_exchange_rate_compound(book):
    mixed = book({"A": 0.5, "B": 0.5}, gammas=[3.0, 0.0], exchange=("", "EURUSD"), exchange_powers=np.array([0.0, 1.0]))
    assert moved_columns(mixed, {"A": 4, "B": 2, "EURUSD": 7}).tolist() == [4, 2, 7]
    earned = position_returns(mixed, np.array([[-0.2, 0.1, 0.05]]))
    assert earned == pytest.approx(np.array([[-0.2 + 1.5 * 0.04, 1.1 * 1.05 - 1]]))


def test_a_rate_quoted_the_other_way_round_earns_its_inverse(book):
    foreign = book({"A": 1.0}, exchange=("USDJPY",), exchange_powers=np.array([-1.0]))
    assert position_returns(foreign, np.array([[0.0, 0.25]])) == pytest.approx(np.array([[-0.2]]))


def test_a_move_that_is_not_finite_is_refused(book):
    with pytest.raises(InvalidMarketData):
        position_returns(book({"A": 1.0}), np.array([[np.nan]]))
