"""Covariances against scikit-learn, pandas and plain recursions, and what a correlation matrix must be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.covariance
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.covariance import (
    correlation_of,
    denoised,
    ewma,
    ledoit_wolf,
    long_run_covariance,
    marchenko_pastur_median,
    mean_pair,
    nearest_correlation,
)
from cluster.errors import InvalidMarketData


@st.composite
def panels(draw, min_symbols=1):
    """Returns of 2 to 300 days with a common factor, symbols on scales up to a hundredfold apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    days, symbols = draw(st.integers(2, 300)), draw(st.integers(min_symbols, 12))
    common = rng.normal(size=(days, 1)) * draw(st.floats(0, 3))
    returns = (common + rng.standard_t(4, (days, symbols))) * rng.uniform(1e-4, 1e-2, symbols)
    returns.setflags(write=False)
    return returns


@settings(max_examples=100)
@given(returns=panels())
def test_ledoit_wolf_equals_scikit_learn(returns):
    covariance, shrinkage = ledoit_wolf(returns)
    expected, weight = sklearn.covariance.ledoit_wolf(returns)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-12 * scale)
    assert shrinkage == pytest.approx(weight, abs=1e-12)


def test_ledoit_wolf_of_real_returns_equals_scikit_learn(snapshot):
    covariance, shrinkage = ledoit_wolf(snapshot.returns)
    expected, weight = sklearn.covariance.ledoit_wolf(snapshot.returns)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-15)
    assert shrinkage == pytest.approx(weight, rel=1e-10)


@settings(max_examples=100)
@given(returns=panels(min_symbols=2))
def test_ledoit_wolf_keeps_the_total_variance_and_is_symmetric_and_positive(returns):
    covariance, shrinkage = ledoit_wolf(returns)
    assert np.trace(covariance) == pytest.approx(returns.var(axis=0).sum(), rel=1e-12)
    np.testing.assert_array_equal(covariance, covariance.T)
    eigenvalues = np.linalg.eigvalsh(covariance)
    floor = shrinkage * returns.var(axis=0).mean()  # what the target alone puts under every eigenvalue
    assert eigenvalues[0] >= floor - 1e-12 * eigenvalues[-1]


def test_shrinkage_of_two_observations_stays_within_zero_and_one():
    """Two observations fit every moment exactly: the optimal shrinkage is zero, and rounding may not push it below."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        _, shrinkage = ledoit_wolf(rng.normal(0, 0.01, (2, rng.integers(2, 6))))
        assert 0.0 <= shrinkage <= 1.0, seed


@pytest.mark.parametrize("estimator", [ledoit_wolf, lambda returns: ewma(returns, 0.94)], ids=["ledoit_wolf", "ewma"])
@pytest.mark.parametrize("returns", [np.zeros((0, 3)), np.full((1, 3), 0.01)], ids=["empty", "one day"])
def test_fewer_than_two_observations_are_refused(estimator, returns):
    with pytest.raises(InvalidMarketData):
        estimator(returns)


@pytest.mark.parametrize("estimator", [ledoit_wolf, lambda returns: ewma(returns, 0.94)], ids=["ledoit_wolf", "ewma"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused(estimator, bad):
    returns = np.random.default_rng(0).normal(size=(20, 3))
    returns[7, 1] = bad
    with pytest.raises(InvalidMarketData):
        estimator(returns)


@settings(max_examples=60)
@given(returns=panels(), decay=st.floats(0.5, 0.999))
def test_ewma_equals_the_recursion_from_day_to_day(returns, decay):
    total, weight = np.zeros((returns.shape[1],) * 2), 0.0
    for day in returns:
        total = decay * total + np.outer(day, day)
        weight = decay * weight + 1.0
    expected = total / weight
    np.testing.assert_allclose(ewma(returns, decay), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@settings(max_examples=30)
@given(returns=panels(), decay=st.floats(0.5, 0.999))
def test_ewma_equals_pandas_about_zero(returns, decay):
    days, symbols = returns.shape
    products = pd.DataFrame((returns[:, :, None] * returns[:, None, :]).reshape(days, -1))
    expected = products.ewm(alpha=1 - decay, adjust=True).mean().iloc[-1].to_numpy().reshape(symbols, symbols)
    np.testing.assert_allclose(ewma(returns, decay), expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_ewma_weighs_the_newest_day_most():
    returns = np.array([[0.0], [0.0], [1.0]])
    assert ewma(returns, 0.5)[0, 0] == pytest.approx(4 / 7)
    assert ewma(returns[::-1], 0.5)[0, 0] == pytest.approx(1 / 7)


@settings(max_examples=60)
@given(returns=panels(min_symbols=2))
def test_correlation_is_bounded_symmetric_positive_with_unit_diagonal_and_free_of_scale(returns):
    covariance, _ = ledoit_wolf(returns)
    correlation = correlation_of(covariance)
    assert (np.diag(correlation) == 1.0).all()
    assert (np.abs(correlation) <= 1.0).all()
    np.testing.assert_array_equal(correlation, correlation.T)
    assert np.linalg.eigvalsh(correlation)[0] >= -1e-10
    scale = np.geomspace(1e-3, 1e3, len(covariance))
    np.testing.assert_allclose(correlation_of(covariance * np.outer(scale, scale)), correlation, rtol=0, atol=1e-12)


def test_correlation_of_a_sample_covariance_equals_numpy(snapshot):
    returns = snapshot.returns[-500:]
    np.testing.assert_allclose(correlation_of(np.cov(returns.T)), np.corrcoef(returns.T), rtol=0, atol=1e-14)


def test_series_that_does_not_move_has_no_correlation():
    with pytest.raises(InvalidMarketData):
        correlation_of(np.diag([1.0, 0.0, 2.0]))


def test_mean_pair_is_the_mean_over_pairs():
    correlation = np.array([[1.0, 0.2, -0.4], [0.2, 1.0, 0.8], [-0.4, 0.8, 1.0]])
    assert mean_pair(correlation) == pytest.approx((0.2 - 0.4 + 0.8) / 3)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 30), days=st.integers(5, 400))
def test_denoised_is_a_positive_definite_correlation_that_keeps_the_factors(seed, n, days):
    """Also where symbols outnumber days, and the sample is singular."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(days, 1)) * rng.uniform(0, 1.5) + rng.normal(size=(days, n))
    sample = np.corrcoef(returns.T)
    found = denoised(sample, days)
    assert (np.diag(found.correlation) == 1.0).all()
    np.testing.assert_allclose(found.correlation, found.correlation.T, rtol=0, atol=1e-14)
    assert np.linalg.eigvalsh(found.correlation)[0] > 0
    assert found.factors == 0 or np.linalg.eigvalsh(sample)[n - found.factors] > found.edge * (1 - 1e-9)


def test_denoised_noise_is_nearly_the_identity_and_one_factor_is_found():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(500, 100))
    found = denoised(np.corrcoef(noise.T), 500)
    assert found.factors <= 1  # the largest eigenvalue of noise passes the edge in one sample of six
    assert np.linalg.norm(found.correlation - np.eye(100)) < 0.3 * np.linalg.norm(np.corrcoef(noise.T) - np.eye(100))
    found = denoised(np.corrcoef((noise + rng.normal(size=(500, 1))).T), 500)
    assert found.factors == 1
    truth = np.full((100, 100), 0.5) + 0.5 * np.eye(100)
    sample = np.corrcoef((noise + rng.normal(size=(500, 1))).T)
    assert np.linalg.norm(found.correlation - truth) < np.linalg.norm(sample - truth)


def test_edge_of_one_factor_is_that_of_the_noise_it_leaves():
    """Noise of variance 1 - rho has its edge at (1 - rho) (1 + sqrt(n / T))^2 (Marchenko & Pastur 1967)."""
    rng = np.random.default_rng(2)
    returns = np.sqrt(0.4) * rng.normal(size=(2000, 1)) + np.sqrt(0.6) * rng.normal(size=(2000, 200))
    found = denoised(np.corrcoef(returns.T), 2000)
    assert found.edge == pytest.approx(0.6 * (1 + np.sqrt(0.1)) ** 2, rel=0.02)


@pytest.mark.parametrize(("n", "days"), [(300, 1200), (300, 600), (600, 300)])
def test_median_of_noise_is_that_of_the_law(n, days):
    values = np.linalg.eigvalsh(np.cov(np.random.default_rng(3).normal(size=(days, n)).T, bias=True))
    assert marchenko_pastur_median(n / days) == pytest.approx(np.median(values[values > 1e-9]), rel=0.03)


def _broken(rng, n):
    """Symmetric, unit diagonal, seldom positive semidefinite."""
    matrix = np.triu(rng.uniform(-1, 1, (n, n)), 1)
    return matrix + matrix.T + np.eye(n)


def test_nearest_correlation_of_highams_example():
    """Higham (2002), section 1: 0.7607 and 0.1573 at a distance of 0.5278."""
    found = nearest_correlation(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]))
    expected = [[1, 0.7607, 0.1573], [0.7607, 1, 0.7607], [0.1573, 0.7607, 1]]
    np.testing.assert_allclose(found.correlation, expected, atol=5e-5)
    assert found.distance == pytest.approx(0.5278, abs=5e-5)
    assert "eigenvalue" in found.reason


@pytest.mark.parametrize("seed", range(4))
def test_nearest_correlation_equals_the_semidefinite_programme(seed):
    cvxpy = pytest.importorskip("cvxpy")
    matrix = _broken(np.random.default_rng(seed), 6)
    x = cvxpy.Variable((6, 6), PSD=True)
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - matrix)), [cvxpy.diag(x) == 1]).solve(solver="CLARABEL")
    found = nearest_correlation(matrix)
    np.testing.assert_allclose(found.correlation, x.value, atol=2e-5)
    assert found.distance <= np.linalg.norm(x.value - matrix) + 1e-6


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 15), lame=st.booleans())
def test_nearest_correlation_is_one_and_repairing_it_again_changes_nothing(seed, n, lame):
    rng = np.random.default_rng(seed)
    matrix = _broken(rng, n) + (rng.normal(0, 0.1, (n, n)) if lame else 0.0)
    found = nearest_correlation(matrix)
    assert (np.diag(found.correlation) == 1.0).all() or found.reason == ""
    np.testing.assert_allclose(found.correlation, found.correlation.T, rtol=0, atol=1e-10)
    assert np.linalg.eigvalsh(found.correlation)[0] > -1e-9
    again = nearest_correlation(found.correlation)
    assert (again.distance, again.reason) == (0.0, "")
    np.testing.assert_array_equal(again.correlation, found.correlation)


def test_correlation_matrix_is_left_alone_and_what_is_none_is_refused():
    good = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert nearest_correlation(good).correlation is good
    for bad in (np.full((2, 2), np.nan), np.ones((2, 3)), np.ones(4)):
        with pytest.raises(InvalidMarketData):
            nearest_correlation(bad)
    with pytest.raises(InvalidMarketData):
        denoised(np.full((2, 2), np.nan), 100)


def test_long_run_covariance_of_independent_days_is_their_covariance_and_sees_dependence():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20_000, 2))
    np.testing.assert_allclose(long_run_covariance(noise), np.eye(2), atol=0.15)
    moving = noise[1:] + noise[:-1]  # its mean varies as 4 / n, not as its variance of 2
    np.testing.assert_allclose(np.diag(long_run_covariance(moving)), 4.0, rtol=0.15)
    hac = pytest.importorskip("statsmodels.stats.sandwich_covariance")
    series = moving - moving.mean(axis=0)
    lags = int(np.ceil(len(series) ** (1 / 3)))
    np.testing.assert_allclose(
        long_run_covariance(moving), hac.S_hac_simple(series, nlags=lags) / len(series), rtol=1e-10
    )
