"""Intervals of the tail measures: their ranks, their labels, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actors.risk.measures import binomial_ranks, gaussian, historical, volatility

LEVEL = 0.95


def _true_tail(distribution, confidence):
    quantile = distribution.ppf(confidence)
    return quantile, distribution.expect(lambda x: x, lb=quantile) / (1 - confidence)


def _coverage(estimates, truth):
    """Share of the replications whose interval holds ``truth``."""
    return np.mean([found.lower <= truth <= found.upper for found in estimates])


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 10_000), confidence=st.floats(0.51, 0.9995))
def test_ranks_are_the_binomial_quantiles(n, confidence):
    lower, upper = binomial_ranks(n, confidence)
    quantiles = stats.binom.ppf([0.025, 0.975], n, confidence)
    assert (lower, upper - 1) == tuple(quantiles.astype(int))


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 5000), confidence=st.floats(0.51, 0.9995))
def test_ranks_cover_the_level_and_no_narrower_pair_does(n, confidence):
    lower, upper = binomial_ranks(n, confidence)
    below = stats.binom(n, confidence).cdf
    assert below(upper - 1) - below(lower - 1) >= LEVEL - 1e-12
    assert below(lower) > 0.025 - 1e-12
    assert below(upper - 2) < 0.975 + 1e-12


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_var_interval_of_real_returns_is_its_order_statistics(equal_returns, confidence):
    ordered = np.sort(-equal_returns)
    lower, upper = stats.binom.ppf([0.025, 0.975], len(ordered), confidence).astype(int)
    var, _ = historical(equal_returns, confidence)
    assert (var.lower, var.upper) == (ordered[lower - 1], ordered[upper])


def test_sample_too_small_for_an_upper_bound_has_none_and_says_so():
    returns = np.random.default_rng(0).normal(size=30)
    var, _ = historical(returns, 0.95)
    assert var.upper is None
    assert "no upper bound" in var.interval_method
    assert var.lower == np.sort(-returns)[25]


def test_single_observation_beyond_var_leaves_cvar_without_interval():
    _, cvar = historical(np.random.default_rng(0).normal(size=10), 0.99)
    assert (cvar.lower, cvar.upper) == (None, None)
    assert cvar.interval_method.startswith("none")


def test_overlapping_windows_widen_the_intervals_and_change_the_label(equal_returns):
    days = equal_returns[:2009]
    var, cvar = historical(days, 0.95, 10)
    assert (var.method_label, var.samples, var.horizon_days) == ("historical_overlapping", 2000, 10)
    losses = np.sort(1 - np.lib.stride_tricks.sliding_window_view(1 + days, 10).prod(axis=1))
    lower, upper = stats.binom.ppf([0.025, 0.975], 200, 0.95).astype(int)
    assert var.lower == pytest.approx(losses[10 * lower - 1], rel=1e-12)
    assert var.upper == pytest.approx(losses[10 * (upper + 1) - 1], rel=1e-12)
    beyond = losses[losses >= var.value]
    error = np.sqrt((beyond.var(ddof=1) + 0.95 * (cvar.value - var.value) ** 2) / (200 * 0.05))
    assert cvar.upper - cvar.value == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-9)


@pytest.mark.parametrize(
    ("distribution", "n", "confidence"),
    [(stats.norm(), 150, 0.95), (stats.t(3), 250, 0.95), (stats.t(3), 400, 0.99), (stats.norm(), 60, 0.8)],
    ids=["normal 95", "t3 95", "t3 99", "normal 80"],
)
def test_var_interval_covers_the_true_quantile_at_its_level(distribution, n, confidence):
    rng = np.random.default_rng(11)
    truth = distribution.ppf(confidence)
    samples = -distribution.rvs(size=(2000, n), random_state=rng)
    found = [historical(sample, confidence)[0] for sample in samples]
    held = np.mean([
        (e.lower is None or e.lower <= truth) and (e.upper is None or truth <= e.upper) for e in found
    ])  # fmt: skip
    assert 0.93 <= held <= 0.99


@pytest.mark.parametrize(("distribution", "n"), [(stats.norm(), 1500), (stats.t(6), 3000)], ids=["normal", "t6"])
def test_cvar_interval_covers_the_true_shortfall_near_its_level(distribution, n):
    rng = np.random.default_rng(12)
    _, truth = _true_tail(distribution, 0.95)
    samples = -distribution.rvs(size=(1000, n), random_state=rng)
    assert 0.90 <= _coverage([historical(sample, 0.95)[1] for sample in samples], truth) <= 0.98


@pytest.mark.parametrize("horizon", [1, 10])
def test_gaussian_intervals_cover_the_true_tail_of_a_normal_market(horizon):
    rng = np.random.default_rng(13)
    truth = _true_tail(stats.norm(-0.0005 * horizon, 0.01 * np.sqrt(horizon)), 0.95)
    found = [gaussian(sample, 0.95, horizon) for sample in rng.normal(0.0005, 0.01, (2000, 250))]
    for measure, value in zip(zip(*found, strict=True), truth, strict=True):
        assert 0.93 <= _coverage(measure, value) <= 0.97


def test_volatility_interval_covers_the_true_deviation_of_a_normal_market():
    samples = np.random.default_rng(14).normal(0, 0.01, (2000, 250))
    assert 0.93 <= _coverage([volatility(sample) for sample in samples], 0.01) <= 0.97
