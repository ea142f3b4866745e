"""Components, marginals and increments of VaR and CVaR add up, and are the slopes and differences they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio import Portfolio, RiskMeasure

from actors.risk.exposures import daily_returns, moved_columns, position_returns
from actors.risk.measures import gaussian, historical, tail
from actors.risk.value_at_risk import contributions, estimators
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData
from hive.messages.calculation import Parameters

SETTINGS = ValueAtRiskSettings()
KERNEL = ValueAtRiskSettings(var_components="kernel")


def _held(book, rng, n, days=400):
    weights = rng.normal(0.2, 0.5, n)
    return book({f"S{place}": weight for place, weight in enumerate(weights)}), 0.01 * rng.standard_t(4, (days, n))


@pytest.fixture(scope="module")
def real(snapshot, book):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(len(snapshot.symbols))) * np.sign(rng.normal(0.6, 1, len(snapshot.symbols)))
    return book(dict(zip(snapshot.symbols, weights, strict=True))), np.asfortranarray(snapshot.returns)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 30), confidence=st.sampled_from([0.9, 0.95, 0.99]))
def test_components_sum_to_the_measures(book, seed, n, confidence):
    held, positions = _held(book, np.random.default_rng(seed), n)
    for found in (
        contributions.historical_decomposition(held, positions, confidence, SETTINGS),
        contributions.historical_decomposition(held, positions, confidence, KERNEL),
        contributions.gaussian_decomposition(held, positions, confidence),
    ):
        scale = np.abs(found.component_cvar).sum()
        assert found.component_var.sum() == pytest.approx(found.var, rel=1e-12, abs=1e-12 * scale)
        assert found.component_cvar.sum() == pytest.approx(found.cvar, rel=1e-12, abs=1e-12 * scale)
        np.testing.assert_allclose(held.weights * found.marginal_cvar, found.component_cvar, rtol=1e-12)


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_totals_are_the_measures_of_the_book(real, confidence):
    held, positions = real
    daily = positions @ held.weights
    ours = contributions.historical_decomposition(held, positions, confidence, SETTINGS)
    assert [ours.var, ours.cvar] == pytest.approx([e.value for e in historical(daily, confidence)], rel=1e-12)
    normal = contributions.gaussian_decomposition(held, positions, confidence)
    assert [normal.var, normal.cvar] == pytest.approx([e.value for e in gaussian(daily, confidence)], rel=1e-9)


def test_cvar_components_are_those_of_skfolio(real):
    held, positions = real
    found = contributions.historical_decomposition(held, positions, 0.95, SETTINGS)
    expected = Portfolio(np.ascontiguousarray(positions), held.weights).contribution(measure=RiskMeasure.CVAR)
    np.testing.assert_allclose(found.component_cvar, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_marginals_are_the_slopes_of_the_measures(real, confidence):
    held, positions = real
    step = 1e-7

    def measured(weights, method):
        return np.array([e.value for e in method(positions @ weights, confidence)])

    for method, found in (
        (historical, contributions.historical_decomposition(held, positions, confidence, SETTINGS)),
        (gaussian, contributions.gaussian_decomposition(held, positions, confidence)),
    ):
        for place in (0, 7, 19):
            nudge = np.eye(len(held.weights))[place] * step
            slope = (measured(held.weights + nudge, method) - measured(held.weights - nudge, method)) / (2 * step)
            expected = found.marginal_var[place], found.marginal_cvar[place]
            assert tuple(slope) == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_increment_is_the_measure_less_that_of_the_book_without_the_position(real, confidence):
    held, positions = real
    ours = contributions.historical_decomposition(held, positions, confidence, SETTINGS)
    normal = contributions.gaussian_decomposition(held, positions, confidence)
    for place in range(len(held.weights)):
        without = np.where(np.arange(len(held.weights)) == place, 0.0, held.weights)
        var, cvar = tail(-(positions @ without), confidence)
        assert ours.incremental_var[place] == pytest.approx(ours.var - var, abs=1e-15)
        assert ours.incremental_cvar[place] == pytest.approx(ours.cvar - cvar, abs=1e-14)
        apart = [e.value for e in gaussian(positions @ without, confidence)]
        assert normal.incremental_var[place] == pytest.approx(normal.var - apart[0], abs=1e-12)
        assert normal.incremental_cvar[place] == pytest.approx(normal.cvar - apart[1], abs=1e-12)


def test_tied_days_share_the_component_of_var(book):
    positions = np.array([[-0.02, 0.0], [0.0, -0.02], [0.01, 0.01], [0.0, 0.0]] * 5)
    found = contributions.historical_decomposition(book({"A": 1.0, "B": 1.0}), positions, 0.9, SETTINGS)
    np.testing.assert_allclose(found.component_var, [0.01, 0.01])
    np.testing.assert_allclose(found.component_cvar, [0.01, 0.01])


def test_kernel_components_average_the_days_about_var_and_say_how_many(real):
    held, positions = real
    found = contributions.historical_decomposition(held, positions, 0.95, KERNEL)
    losses = -(positions @ held.weights)
    near = np.maximum(0, 1 - np.abs(losses - found.var) / (KERNEL.bandwidth * losses.std()))
    direction = -(near @ positions) * held.weights
    np.testing.assert_allclose(found.component_var / found.var, direction / direction.sum(), rtol=1e-9)
    assert f"{int((near > 0).sum())} days" in found.convention


def test_concentration_is_that_of_the_shares_of_cvar(book):
    positions = np.random.default_rng(1).normal(0, [0.01, 0.02], (2000, 2))
    found = contributions.historical_decomposition(book({"A": 0.5, "B": 0.5}), positions, 0.95, SETTINGS)
    shares = found.component_cvar / found.cvar
    assert found.herfindahl == pytest.approx((shares**2).sum())
    assert (found.largest, found.largest_share) == ("B", pytest.approx(shares[1]))
    alone = contributions.gaussian_decomposition(book({"A": 1.0}), positions[:, :1], 0.95)
    assert (alone.herfindahl, alone.largest_share) == pytest.approx((1.0, 1.0))
    assert alone.largest == "A"


@pytest.mark.parametrize("weights", [{"A": 0.0, "B": 0.0}, {"A": 1.0, "B": -1.0}])
def test_book_that_does_not_move_has_no_shares(book, weights):
    positions = np.repeat(np.random.default_rng(2).normal(0, 0.01, (100, 1)), 2, axis=1)
    held = book(weights)
    for found in (
        contributions.historical_decomposition(held, positions, 0.95, SETTINGS),
        contributions.historical_decomposition(held, positions, 0.95, KERNEL),
        contributions.gaussian_decomposition(held, positions, 0.95),
    ):
        assert (found.herfindahl, found.largest_share, found.largest) == (None, None, "")
        assert found.var == pytest.approx(0, abs=1e-17)
        assert np.isfinite(found.component_var).all()


def test_errors_of_components_are_their_spread_over_samples(book):
    rng, held = np.random.default_rng(3), book({"A": 0.7, "B": 0.3})
    drawn = [rng.normal(0, 0.01, (500, 2)) for _ in range(300)]
    for decompose in (
        contributions.gaussian_decomposition,
        lambda *given: contributions.historical_decomposition(*given, SETTINGS),
    ):
        found = [decompose(held, positions, 0.95) for positions in drawn]
        spread = np.std([f.component_cvar for f in found], axis=0)
        told = np.mean([f.component_cvar_error for f in found], axis=0)
        np.testing.assert_allclose(told, spread, rtol=0.35)


def test_returns_that_are_not_finite_are_refused(book):
    positions = np.zeros((50, 1))
    positions[3] = np.nan
    with pytest.raises(InvalidMarketData):
        contributions.historical_decomposition(book({"A": 1.0}), positions, 0.95, SETTINGS)


def test_convex_and_foreign_book_is_measured_on_what_its_positions_earn(market, book):
    rng = np.random.default_rng(4)
    snapshot = market(rng.normal(0, 0.02, (600, 3)), symbols=("OPT", "SAP", "EURUSD"))
    held = book(
        {"OPT": 0.3, "SAP": 0.7},
        gammas=[20.0, 0.0],
        exchange=("", "EURUSD"),
        exchange_powers=np.array([0.0, 1.0]),
    )
    state = estimators.rebuild(snapshot, SETTINGS)
    report, *_ = estimators.estimate(state, held, Parameters(confidences=(0.95,)), SETTINGS)
    option, share, euro = snapshot.returns.T
    earned = np.column_stack([option + 10 * option**2, (1 + share) * (1 + euro) - 1])
    daily = earned @ [0.3, 0.7]
    np.testing.assert_allclose(daily_returns(held, state.columns, state.returns), daily, rtol=1e-12)
    np.testing.assert_allclose(position_returns(held, state.returns[:, moved_columns(held, state.columns)]), earned)
    assert report.estimates[0].value == pytest.approx(historical(daily, 0.95)[0].value, rel=1e-12)
    assert report.decompositions[0].component_cvar.sum() == pytest.approx(historical(daily, 0.95)[1].value, rel=1e-12)
    assert report.limits[0].value == pytest.approx(report.estimates[0].value, rel=1e-12)
