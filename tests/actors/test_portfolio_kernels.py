"""Compiled allocations: plain twins, optimality conditions, warm starts, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.covariance import ledoit_wolf
from actors.risk.portfolio import kernels
from actors.risk.portfolio.constraints import Constraints
from actors.risk.portfolio.discrete import best_support


@st.composite
def covariances(draw, largest=15):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, largest))
    factors = rng.normal(size=(n, n + 2)) * rng.uniform(0.2, 3, (n, 1))
    return factors @ factors.T / n, rng


@settings(max_examples=80, deadline=None)
@given(covariances())
def test_risk_budgets_are_met_as_by_newton(case):
    covariance, rng = case
    n = len(covariance)
    budgets = rng.dirichlet(np.full(n, 2.0)) * 0.9 + 0.1 / n
    weights = np.ones(n)
    assert kernels.risk_budgets(covariance, budgets, weights, 1e-9, 2000) > 0
    shares = weights * (covariance @ weights)
    assert shares / shares.sum() == pytest.approx(budgets, abs=1e-9)
    assert weights.sum() == pytest.approx(1)
    assert weights == pytest.approx(kernels.risk_budgets_plain(covariance, budgets, 1e-12, 500), abs=1e-7)


def test_yesterdays_answer_saves_sweeps(snapshot):
    today, yesterday = (ledoit_wolf(snapshot.returns[-1260 - k : len(snapshot.returns) - k])[0] for k in (0, 1))
    budgets, cold = np.full(20, 0.05), 1 / np.sqrt(np.diag(today))
    first = kernels.risk_budgets(yesterday, budgets, cold, 1e-8, 500)
    again = kernels.risk_budgets(today, budgets, cold, 1e-8, 500)
    assert 0 < again < first


@settings(max_examples=150, deadline=None)
@given(covariances())
def test_box_minimum_variance_meets_the_optimality_conditions(case):
    covariance, rng = case
    n = len(covariance)
    lower = rng.uniform(-0.5, 0.1, n)
    upper = lower + rng.uniform(0, 0.8, n)
    total = lower.sum() + rng.random() * (upper - lower).sum()
    solver = kernels.BoxMinimumVariance(lower, upper, total)
    for matrix in (covariance, covariance + 0.1 * np.diag(rng.random(n))):  # the second starts from the first's answer
        weights = solver.solve(np.ascontiguousarray(matrix))
        assert weights.sum() == pytest.approx(total, abs=1e-9)
        assert (weights >= lower - 1e-12).all()
        assert (weights <= upper + 1e-12).all()
        slope, scale = matrix @ weights, np.trace(matrix)
        may_fall, may_rise = weights > lower + 1e-9, weights < upper - 1e-9
        if may_fall.any() and may_rise.any():  # no pair of weights can trade and lower the variance
            assert slope[may_fall].max() - slope[may_rise].min() < 1e-8 * scale


def test_box_minimum_variance_is_that_of_a_general_solver(snapshot):
    covariance = ledoit_wolf(snapshot.returns[-1260:])[0]
    lower, upper = np.full(20, -0.02), np.full(20, 0.12)
    weights = kernels.BoxMinimumVariance(lower, upper).solve(covariance)
    plain = kernels.minimum_variance_plain(covariance, lower, upper, 1.0)
    assert weights == pytest.approx(plain, abs=1e-5)
    assert weights @ covariance @ weights <= plain @ covariance @ plain * (1 + 1e-12)


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        kernels.BoxMinimumVariance(np.zeros(3), np.full(3, 0.2))
    for bad in (np.zeros((2, 2)), np.array([[1.0, np.nan], [np.nan, 1.0]]), np.array([[1.0, 2.0], [2.0, 1.0]])):
        with pytest.raises(ValueError, match="positive definite"):
            kernels.BoxMinimumVariance(np.zeros(2), np.ones(2)).solve(bad)
    assert kernels.risk_budgets(np.full((2, 2), np.nan), np.full(2, 0.5), np.ones(2), 1e-8, 50) == -1


@settings(max_examples=25, deadline=None)
@given(covariances(largest=9), st.integers(1, 5))
def test_branch_and_bound_finds_the_best_of_all_supports(case, count):
    covariance, _ = case
    n = len(covariance)
    count = min(count, n)
    constraints = Constraints(
        symbols=tuple(map(str, range(n))),
        signs=np.ones(n),
        current=np.full(n, 1 / n),
        lower=np.zeros(n),
        upper=np.ones(n),
        total=1.0,
        max_positions=count,
    )
    found = best_support(covariance, constraints)
    assert (np.abs(found) > 1e-9).sum() <= count
    least = np.inf
    for code in range(1, 2**n):
        chosen = np.array([(code >> i) & 1 for i in range(n)], float)
        if chosen.sum() == count:
            weights = kernels.BoxMinimumVariance(np.zeros(n), chosen).solve(covariance)
            least = min(least, weights @ covariance @ weights)
    assert found @ covariance @ found == pytest.approx(least, rel=1e-9)
