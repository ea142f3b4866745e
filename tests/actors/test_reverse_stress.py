"""Reverse stress: the closed form of linear books, optimality of what is found elsewhere, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from actors.risk.covariance import ledoit_wolf
from actors.risk.exposures import position_returns
from actors.risk.stress.reverse import most_probable_move
from cluster.errors import InvalidMarketData, InvalidRequest

NAMES = ("A", "B", "C")


@pytest.fixture(scope="module")
def moves(snapshot):
    return snapshot.returns[-1000:, :3]


@pytest.fixture(scope="module")
def dates(snapshot):
    return snapshot.dates[-1000:]


def run(book, moves, dates, target, starts=12, seed=0):
    return most_probable_move(book, book.symbols, moves, dates, target, starts=starts, seed=seed)


def test_linear_book_has_the_closed_form(book, moves, dates):
    held = book({"A": 0.6, "B": -0.3, "C": 0.7})
    covariance, _ = ledoit_wolf(moves)
    variance = held.weights @ covariance @ held.weights
    found = run(held, moves, dates, 0.1)
    known = -covariance @ held.weights * 0.1 / variance
    assert list(found.moves.values()) == pytest.approx(known)
    assert found.distance == pytest.approx(0.1 / math.sqrt(variance))
    assert sum(found.contributions.values()) == pytest.approx(0.1)
    assert found.normal_probability == pytest.approx(stats.norm.sf(found.distance))
    assert found.student_probability > found.normal_probability
    assert found.others == ()


def test_closest_day_is_the_nearest_by_the_same_norm(book, moves, dates):
    held = book({"A": 0.5, "B": 0.3, "C": 0.2})
    found = run(held, moves, dates, 0.05)
    inverse = np.linalg.inv(ledoit_wolf(moves)[0])
    away = moves - moves.mean(axis=0) - np.array(list(found.moves.values()))
    nearest = int(np.argmin(np.einsum("ij,jk,ik->i", away, inverse, away)))
    assert found.closest_day == str(dates[nearest])
    assert found.closest_day_loss == pytest.approx(-moves[nearest] @ held.weights)


def test_a_symmetric_short_straddle_loses_both_ways_and_says_so(book, dates):
    rng = np.random.default_rng(1)
    moves = rng.normal(0, 0.01, (1000, 2))
    straddle = book({"A": 1.0, "B": 0.0}, gammas=[-400.0, 0.0])
    found = run(straddle, moves, dates, 0.3)
    (other,) = found.others
    assert found.moves["A"] * other["A"] < 0
    for answer in (found.moves, other):
        earned = position_returns(straddle, np.array([[answer["A"], answer["B"]]]))[0]
        assert -earned @ straddle.weights == pytest.approx(0.3, rel=1e-4)


def test_no_random_move_of_the_same_norm_loses_more_than_the_answer(book, moves, dates):
    convex = book({"A": 0.5, "B": 0.3, "C": 0.2}, gammas=[-20.0, 5.0, -8.0])
    found = run(convex, moves, dates, 0.15)
    root = np.linalg.cholesky(ledoit_wolf(moves)[0])
    z = np.random.default_rng(2).normal(size=(20_000, 3))
    z *= found.distance / np.linalg.norm(z, axis=1, keepdims=True)
    losses = -(position_returns(convex, z @ root.T) @ convex.weights)
    assert losses.max() <= 0.15 * (1 + 1e-3)


def test_prices_do_not_fall_below_zero(book, dates):
    moves = np.random.default_rng(0).normal(0, [[0.05, 0.001]], (1000, 2))
    found = run(book({"A": 0.3, "B": 0.7}), moves, dates, 0.5)
    assert min(found.moves.values()) >= -1
    assert sum(found.contributions.values()) == pytest.approx(0.5, rel=1e-4)


def test_a_loss_that_cannot_happen_is_refused_with_the_largest_that_can(book, moves, dates):
    with pytest.raises(InvalidRequest, match=r"reached \d+"):
        run(book({"A": 0.5, "B": 0.3, "C": 0.2}), moves, dates, 1.5)


def test_a_book_without_risk_is_refused(book, moves, dates):
    with pytest.raises(InvalidMarketData):
        run(book({"A": 0.0, "B": 0.0, "C": 0.0}), moves, dates, 0.1)
    with pytest.raises(InvalidMarketData):
        run(book({"A": 1.0, "B": 0.0, "C": 0.0}), np.zeros((1000, 3)), dates, 0.1)
