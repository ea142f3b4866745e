"""Conditional stress against the partitioned normal and against waiting for the condition to happen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from actors.risk.stress.conditional import Copula, conditional_scores, gaussian_copula, given, student_copula
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.messages.calculation import Shock

CORRELATION = np.array([[1.0, 0.7, 0.2], [0.7, 1.0, 0.4], [0.2, 0.4, 1.0]])


def test_gaussian_scores_are_the_partitioned_normal():
    levels = conditional_scores(
        Copula(CORRELATION, np.inf), np.array([0]), np.array([0.01]), 200_000, np.random.default_rng(0)
    )
    scores = stats.norm.ppf(levels)
    z = stats.norm.ppf(0.01)
    assert scores.mean(axis=0) == pytest.approx([0.7 * z, 0.2 * z], abs=0.01)
    known = CORRELATION[1:, 1:] - np.outer([0.7, 0.2], [0.7, 0.2])
    assert np.cov(scores.T) == pytest.approx(known, abs=0.01)


def test_student_scores_are_those_of_draws_in_which_the_condition_happened():
    rng = np.random.default_rng(1)
    v, at = 4.0, stats.t.ppf(0.03, 4)
    z = rng.multivariate_normal(np.zeros(3), CORRELATION, 3_000_000)
    x = z / np.sqrt(rng.chisquare(v, len(z)) / v)[:, None]
    happened = x[np.abs(x[:, 0] - at) < 0.02][:, 1:]
    levels = conditional_scores(Copula(CORRELATION, v), np.array([0]), np.array([0.03]), 200_000, rng)
    ours = stats.t.ppf(levels, v)
    assert len(happened) > 3000
    for column in range(2):
        probabilities = [0.05, 0.25, 0.5, 0.75, 0.95]
        assert np.quantile(ours[:, column], probabilities) == pytest.approx(
            np.quantile(happened[:, column], probabilities), abs=0.15
        )


@pytest.mark.parametrize("degrees", [4, 8])
def test_degrees_of_a_student_copula_are_recovered_and_its_margins_do_not_matter(degrees):
    rng = np.random.default_rng(2)
    z = rng.multivariate_normal(np.zeros(3), CORRELATION, 6000)
    x = np.exp(z / np.sqrt(rng.chisquare(degrees, 6000) / degrees)[:, None] * 0.01)
    ranks = (x.argsort(axis=0).argsort(axis=0) + 0.5) / len(x)
    assert student_copula(ranks).degrees == pytest.approx(degrees, abs=2)


def test_normal_draws_have_a_gaussian_copula_of_their_correlation():
    x = np.random.default_rng(3).multivariate_normal(np.zeros(3), CORRELATION, 20_000)
    ranks = (x.argsort(axis=0).argsort(axis=0) + 0.5) / len(x)
    assert gaussian_copula(ranks).correlation == pytest.approx(CORRELATION, abs=0.02)
    assert student_copula(ranks).degrees >= 25


def test_condition_moves_its_symbols_exactly_and_the_others_along(snapshot, book):
    held = book({"A": 0.5, "B": 0.3, "C": 0.2})
    shock = Shock("fall", {"A": -0.05})
    gaussian, student = given(held, held.symbols, snapshot.returns[-1260:, :3], shock, samples=5000, seed=1)
    for scenario in (gaussian, student):
        assert scenario.moves["A"] == pytest.approx(-0.05)
        assert scenario.moves["B"] < 0
        assert sum(scenario.contributions.values()) == pytest.approx(scenario.loss.value)
        assert scenario.contributions["A"] == pytest.approx(0.025)
        assert scenario.loss.lower < scenario.loss.value < scenario.loss.upper


def test_a_condition_on_everything_leaves_nothing_to_chance(snapshot, book):
    held = book({"A": 0.5, "B": 0.5})
    moves = snapshot.returns[-500:, :2]
    for scenario in given(held, ("A", "B"), moves, Shock("both", {"A": -0.1, "B": 0.02}), samples=100, seed=0):
        assert scenario.loss.value == pytest.approx(0.04)


def test_a_move_beyond_the_sample_is_flagged(snapshot, book):
    scenario, _ = given(
        book({"A": 1.0}), ("A",), snapshot.returns[-500:, :1], Shock("crash", {"A": -0.9}), samples=10, seed=0
    )
    assert "beyond the sample" in scenario.note


def test_what_the_book_does_not_hold_and_what_does_not_move_is_refused(snapshot, book):
    moves = snapshot.returns[-500:, :2]
    with pytest.raises(InvalidRequest, match="ZZZ"):
        given(book({"A": 1.0}), ("A",), moves[:, :1], Shock("x", {"ZZZ": -0.1}), samples=10, seed=0)
    still = np.column_stack([moves[:, 0], np.zeros(500)])
    with pytest.raises(InvalidMarketData):
        given(book({"A": 0.5, "B": 0.5}), ("A", "B"), still, Shock("x", {"A": -0.1}), samples=10, seed=0)
