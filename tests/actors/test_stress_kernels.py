"""Compiled stress against its plain twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.stress.kernels import ScenarioSet, run_scenarios_plain, simulated_tail_plain
from cluster.errors import InvalidMarketData


@st.composite
def questions(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scenarios, symbols = draw(st.integers(1, 600)), draw(st.integers(1, 11))
    moves = rng.standard_t(3, (scenarios, symbols)) * 0.02
    if draw(st.booleans()):
        moves = np.round(moves, 2)  # ties
    return moves, rng.normal(0, 0.5, symbols), draw(st.sampled_from([0.75, 0.95, 0.99, 0.999]))


@settings(max_examples=120)
@given(questions())
def test_kernels_are_their_plain_twins(question):
    moves, weights, confidence = question
    resident = ScenarioSet(moves)
    loss, worst = resident.run(weights)
    plain_loss, _, losses, _ = run_scenarios_plain(weights, moves.T)
    assert loss == pytest.approx(plain_loss, abs=1e-12)
    assert resident.losses == pytest.approx(losses, abs=1e-12)
    assert resident.contributions == pytest.approx(-weights * moves[worst], abs=1e-15)
    var, cvar = resident.tail(weights, confidence)
    plain_var, plain_cvar, _ = simulated_tail_plain(weights, moves.T, confidence)
    assert (var, cvar) == pytest.approx((plain_var, plain_cvar), abs=1e-12)
    assert resident.contributions.sum() == pytest.approx(cvar, abs=1e-12)


def test_contributions_of_the_tail_are_those_of_the_plain_twin():
    moves = np.random.default_rng(4).normal(0, 0.01, (5000, 7))
    weights = np.linspace(-0.2, 0.5, 7)
    resident = ScenarioSet(moves)
    resident.tail(weights, 0.99)
    assert resident.contributions == pytest.approx(simulated_tail_plain(weights, moves.T, 0.99)[2], abs=1e-14)


def test_what_is_not_finite_is_refused():
    with pytest.raises(InvalidMarketData):
        ScenarioSet(np.array([[0.1, np.nan]]))
    with pytest.raises(InvalidMarketData):
        ScenarioSet(np.empty((0, 3)))
    resident = ScenarioSet(np.ones((300, 2)))
    for ask in (resident.run, lambda weights: resident.tail(weights, 0.95)):
        with pytest.raises(InvalidMarketData):
            ask(np.array([0.5, np.nan]))
