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


@settings(max_examples=80)
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


@settings(max_examples=150)
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


@settings(max_examples=100)
@given(covariances())
def test_rewards_within_boxes_meet_the_optimality_conditions_and_stay_in_the_box(case):
    covariance, rng = case
    n = len(covariance)
    lower = -rng.uniform(0, 0.3, n) * (rng.random(n) < 0.5)
    solver = kernels.BoxMinimumVariance(lower, np.full(n, 0.9 + 1 / n), 1.0)
    for rewards in (np.zeros(n), rng.normal(size=n), rng.normal(size=n) * 30):
        weights = solver.solve(covariance, rewards)
        assert (weights >= lower).all()
        assert weights.sum() == pytest.approx(1, abs=1e-10)
        slope = covariance @ weights - rewards
        may_fall, may_rise = weights > lower + 1e-9, weights < 0.9 + 1 / n - 1e-9
        if may_fall.any() and may_rise.any():
            assert slope[may_fall].max() - slope[may_rise].min() < 1e-8 * (np.trace(covariance) + np.abs(rewards).max())


def test_box_problems_are_those_of_an_interior_point_solver_to_nine_digits(snapshot):
    import cvxpy as cp

    covariance = ledoit_wolf(snapshot.returns[-1260:])[0] * 252
    root, means = np.linalg.cholesky(covariance), snapshot.returns[-1260:].mean(axis=0) * 252
    for rewards in (np.zeros(20), means / 5):
        solved = kernels.BoxMinimumVariance(np.full(20, -0.02), np.full(20, 0.12)).solve(covariance, rewards)
        x = cp.Variable(20)
        goal = cp.Minimize(cp.sum_squares(root.T @ x) / 2 - rewards @ x)
        problem = cp.Problem(goal, [cp.sum(x) == 1, x >= -0.02, x <= 0.12])
        tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-13)
        problem.solve(solver="CLARABEL", **tight)
        assert solved == pytest.approx(x.value, abs=2e-6)  # the interior point stops a little inside the bounds
        ours = solved @ covariance @ solved / 2 - rewards @ solved
        assert ours == pytest.approx(problem.value, abs=1e-9)


def test_minimum_variance_of_five_years_is_the_known_one(snapshot):
    """Annual volatility 0.1693978543 on the last 1260 days, long only, sample covariance (SciPy)."""
    covariance = np.cov(snapshot.returns[-1260:].T)
    weights = kernels.BoxMinimumVariance(np.zeros(20), np.ones(20)).solve(covariance)
    assert np.sqrt(weights @ covariance @ weights * 252) == pytest.approx(0.1693978543, abs=1e-10)


def test_a_million_warm_calls_would_not_drift(snapshot):
    covariance = ledoit_wolf(snapshot.returns[-1260:])[0]
    solver = kernels.BoxMinimumVariance(np.zeros(20), np.full(20, 0.1), 1.0)
    tilts = np.random.default_rng(0).normal(size=(300, 20)) * 1e-4
    for tilt in tilts:
        for _ in range(10):
            weights = solver.solve(covariance, tilt)
    assert abs(weights.sum() - 1) < 1e-14


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (2, 1), (2, 2)])
def test_a_covariance_or_reward_that_is_not_finite_never_comes_out(place):
    covariance = np.diag([1.0, 2.0, 3.0])
    covariance[place] = covariance[place[::-1]] = np.nan
    solver = kernels.BoxMinimumVariance(np.zeros(3), np.full(3, 0.5))
    with pytest.raises(ValueError, match=r"finite|definite"):
        solver.solve(covariance)
    with pytest.raises(ValueError, match=r"finite|definite"):
        solver.solve(np.eye(3), np.array([0.0, np.nan, 0.0]))
    assert solver.solve(np.eye(3)) == pytest.approx(1 / 3)  # a refusal leaves no trace


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        kernels.BoxMinimumVariance(np.zeros(3), np.full(3, 0.2))
    for bad in (np.zeros((2, 2)), np.array([[1.0, np.nan], [np.nan, 1.0]]), np.array([[1.0, 2.0], [2.0, 1.0]])):
        with pytest.raises(ValueError, match="positive definite"):
            kernels.BoxMinimumVariance(np.zeros(2), np.ones(2)).solve(bad)
    assert kernels.risk_budgets(np.full((2, 2), np.nan), np.full(2, 0.5), np.ones(2), 1e-8, 50) == -1


@settings(max_examples=25)
@given(covariances(largest=9), st.integers(1, 5), st.sampled_from([0.0, 0.3, 3.0]))
def test_branch_and_bound_finds_the_best_of_all_supports(case, count, size):
    covariance, rng = case
    rewards = rng.normal(size=len(covariance)) * size
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
    found = best_support(covariance, constraints, rewards)
    assert (np.abs(found) > 1e-9).sum() <= count
    least = np.inf
    for code in range(1, 2**n):
        chosen = np.array([(code >> i) & 1 for i in range(n)], float)
        if chosen.sum() == count:
            weights = kernels.BoxMinimumVariance(np.zeros(n), chosen).solve(covariance, rewards)
            least = min(least, weights @ covariance @ weights / 2 - rewards @ weights)
    assert found @ covariance @ found / 2 - rewards @ found == pytest.approx(least, rel=1e-9, abs=1e-12)
