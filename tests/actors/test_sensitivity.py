"""Bumps, Shapley shares, betas, simulated stress and tail bounds against definitions and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actors.risk.measures import tail
from actors.risk.stress.sensitivity import bumps, joint_regression, sensitivities, shapley_shares
from actors.risk.stress.simulation import Simulations, fit, fitted_jumps, simulated_scenarios
from actors.risk.stress.tail_bounds import FAR, _pareto, tail_bounds
from cluster.errors import InvalidMarketData


@st.composite
def covariances(draw, largest=7):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, largest))
    factors = rng.normal(size=(n, n + 2))
    return factors @ factors.T


def _shapley_by_definition(covariance):
    n = len(covariance)
    along = covariance.sum(axis=1)

    def worth(coalition):
        chosen = list(coalition)
        if not chosen:
            return 0.0
        return along[chosen] @ np.linalg.solve(covariance[np.ix_(chosen, chosen)], along[chosen])

    shares = np.zeros(n)
    for player in range(n):
        others = [other for other in range(n) if other != player]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for coalition in itertools.combinations(others, size):
                shares[player] += weight * (worth((*coalition, player)) - worth(coalition))
    return shares / covariance.sum()


@settings(max_examples=40)
@given(covariances(largest=5))
def test_shapley_shares_are_those_of_the_definition(covariance):
    shares, _, _ = shapley_shares(covariance, 10, 0)
    assert shares == pytest.approx(_shapley_by_definition(covariance), abs=1e-6)


@settings(max_examples=40)
@given(covariances(largest=12), st.integers(0, 100))
def test_shares_sum_to_one_and_are_not_negative(covariance, seed):
    shares, _, _ = shapley_shares(covariance, 100, seed)
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    assert (shares >= 0).all()


def test_equal_parts_share_alike_and_a_part_that_does_not_vary_has_none():
    shares, _, _ = shapley_shares(np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]), 10, 0)
    assert shares == pytest.approx([0.5, 0.5, 0.0], abs=1e-9)


def test_sampled_shares_meet_exact_ones_within_their_errors():
    rng = np.random.default_rng(3)
    loadings = rng.normal(size=(9, 4))
    covariance = loadings @ loadings.T + np.diag(rng.uniform(0.1, 1, 9))
    known = _shapley_by_definition(covariance)
    shares, errors, _ = shapley_shares(covariance, 4000, 1)
    assert (np.abs(shares - known) < 4.5 * errors + 1e-9).all()


def test_bumps_of_a_convex_position_are_its_delta_and_gamma(book):
    delta, gamma = bumps(book({"A": 0.5, "B": -0.2}, gammas=[3.0, 0.0]), 2, 0.01)
    assert delta == pytest.approx([0.5, -0.2])
    assert gamma == pytest.approx([1.5, 0.0], abs=1e-9)


def test_shares_of_a_book_carry_intervals_where_orders_were_drawn(snapshot, equal_book):
    found = sensitivities(equal_book, 20, snapshot.returns[-1260:], bump=0.01, orders=200, seed=0)
    assert math.fsum(one.share.value for one in found) == pytest.approx(1, abs=1e-12)
    assert all(one.share.lower < one.share.value < one.share.upper for one in found)


def test_joint_betas_are_those_of_statsmodels():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(500, 3))
    returns = factors @ [0.5, -1.0, 0.2] + rng.normal(size=500) * (1 + np.abs(factors[:, 0]))
    betas, covariance, explained = joint_regression(factors, returns)
    known = sm.OLS(returns, sm.add_constant(factors)).fit(cov_type="HC0")
    assert betas == pytest.approx(known.params[1:])
    assert np.sqrt(np.diag(covariance)) == pytest.approx(known.bse[1:])
    assert explained == pytest.approx(known.rsquared)
    with pytest.raises(InvalidMarketData, match="told apart"):
        joint_regression(np.column_stack([factors, factors[:, 0]]), returns)


@pytest.mark.parametrize("law", ["mc_gaussian", "mc_student_t", "mc_jump_diffusion"])
def test_simulated_tail_is_that_of_the_scenarios_and_its_parts_sum_to_it(law, snapshot, book):
    columns = np.array([3, 1, 2])
    moves = Simulations(snapshot.returns[-1260:], 4000).moves(law, 5, columns)
    held = book({"A": 0.5, "B": 0.3, "C": -0.2})
    scenarios, estimates = simulated_scenarios(held, law, moves, (0.95, 0.99))
    losses = -(moves @ held.weights)
    assert [e.value for e in estimates] == pytest.approx([*tail(losses, 0.95), *tail(losses, 0.99)])
    assert scenarios[-1].loss.value == pytest.approx(losses.max())
    for scenario in scenarios:
        assert sum(scenario.contributions.values()) == pytest.approx(scenario.loss.value)


def test_scenarios_are_drawn_once_by_law_seed_and_columns(snapshot):
    sets = Simulations(snapshot.returns[-500:], 1000)
    first = sets.moves("mc_gaussian", 1, np.array([0, 1]))
    assert sets.moves("mc_gaussian", 1, np.array([0, 1])) is first
    assert sets.moves("mc_gaussian", 2, np.array([0, 1])) is not first
    again = Simulations(snapshot.returns[-500:], 1000).moves("mc_gaussian", 1, np.array([0, 1]))
    assert np.array_equal(first, again)


def test_jumps_put_into_a_diffusion_are_found():
    rng = np.random.default_rng(6)
    logs = rng.normal(0, 0.01, (4000, 3))
    days = rng.random(4000) < 0.02
    logs[days] += rng.normal(-0.10, 0.02, days.sum())[:, None]
    found = fitted_jumps(np.expm1(logs))
    assert found.intensity == pytest.approx(0.02, rel=0.2)
    assert found.jump_mean == pytest.approx([-0.10] * 3, abs=0.01)
    assert found.covariance == pytest.approx(np.eye(3) * 1e-4, abs=2e-5)
    with pytest.raises(InvalidMarketData, match="jumps"):
        fit("mc_jump_diffusion", rng.uniform(-0.01, 0.01, (500, 3)))


def test_cantelli_bounds_every_quantile_and_a_pareto_tail_meets_its_closed_form():
    losses = stats.t(4).rvs(20_000, random_state=1) * 0.01
    bound, fitted = tail_bounds(losses, resamples=200, block_days=5, seed=0)
    assert bound.loss.value > np.quantile(losses, FAR)
    known = stats.t(4).expect(lambda x: x, lb=stats.t(4).ppf(FAR), conditional=True) * 0.01
    assert fitted.loss.lower < known < fitted.loss.upper


def test_an_exponential_tail_is_a_pareto_tail_of_shape_zero():
    losses = -np.log((np.arange(100_000) + 0.5) / 100_000)
    assert _pareto(losses[None, :])[0] == pytest.approx(-math.log(1 - FAR) + 1, rel=0.01)


def test_tails_too_heavy_to_be_fitted_have_no_upper_bound():
    _, fitted = tail_bounds(stats.pareto(0.9).rvs(4000, random_state=0), resamples=200, block_days=5, seed=0)
    assert fitted.loss.upper is None
    assert "no upper bound" in fitted.loss.interval_method


def test_too_few_losses_for_a_tail_are_refused():
    with pytest.raises(InvalidMarketData):
        tail_bounds(np.linspace(0, 1, 100), resamples=100, block_days=5, seed=0)
    with pytest.raises(InvalidMarketData):
        tail_bounds(np.zeros(1000), resamples=100, block_days=5, seed=0)
