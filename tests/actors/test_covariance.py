"""Covariances against scikit-learn, pandas and plain recursions, and what a correlation matrix must be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.covariance
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.covariance import correlation_of, ewma, ledoit_wolf, mean_pair
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


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=60, deadline=None)
@given(returns=panels(), decay=st.floats(0.5, 0.999))
def test_ewma_equals_the_recursion_from_day_to_day(returns, decay):
    total, weight = np.zeros((returns.shape[1],) * 2), 0.0
    for day in returns:
        total = decay * total + np.outer(day, day)
        weight = decay * weight + 1.0
    expected = total / weight
    np.testing.assert_allclose(ewma(returns, decay), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=60, deadline=None)
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
