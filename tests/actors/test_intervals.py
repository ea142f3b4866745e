"""Intervals of the tail measures: their ranks, their labels, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actors.risk.measures import binomial_ranks, gaussian, historical, historical_entropic, tail, volatility
from actors.risk.value_at_risk import blocks, empirical
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.messages.calculation import Parameters

LEVEL = 0.95


def _true_tail(distribution, confidence):
    quantile = distribution.ppf(confidence)
    return quantile, distribution.expect(lambda x: x, lb=quantile) / (1 - confidence)


def _coverage(estimates, truth):
    """Share of the replications whose interval holds ``truth``."""
    return np.mean([found.lower <= truth <= found.upper for found in estimates])


@settings(max_examples=100)
@given(n=st.integers(1, 10_000), confidence=st.floats(0.51, 0.9995))
def test_ranks_are_the_binomial_quantiles(n, confidence):
    lower, upper = binomial_ranks(n, confidence)
    quantiles = stats.binom.ppf([0.025, 0.975], n, confidence)
    assert (lower, upper - 1) == tuple(quantiles.astype(int))


@settings(max_examples=100)
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


def _clustered(rng, n):
    """Returns whose volatility comes in clusters: a log-normal one with an autocorrelation of 0.97."""
    state = rng.normal()
    shocks, scale = rng.normal(size=n), np.sqrt(1 - 0.97**2)
    levels = np.empty(n)
    for day, shock in enumerate(shocks.tolist()):
        state = 0.97 * state + scale * shock
        levels[day] = state
    return 0.01 * np.exp(0.7 * levels) * rng.normal(size=n)


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9, 0.98])
def test_block_length_is_that_of_arch(persistence):
    from arch.bootstrap import optimal_block_length
    from scipy.signal import lfilter

    series = lfilter([1], [1, -persistence], np.random.default_rng(0).normal(size=3000))
    expected = optimal_block_length(series)["circular"].iloc[0]
    assert blocks.block_length(series) == pytest.approx(expected, abs=1.0, rel=0.05)


def test_block_length_of_a_constant_or_tiny_series_is_one():
    assert blocks.block_length(np.ones(500)) == 1
    assert blocks.block_length(np.arange(5.0)) == 1


def test_error_of_a_mean_in_blocks_is_that_of_its_resamples():
    series = _clustered(np.random.default_rng(1), 700) ** 2
    starts = blocks.block_starts(700, 35, 4000, seed=2)
    means = series[(starts[:, :, None] + np.arange(35)).reshape(4000, -1) % 700].mean(axis=1)
    assert blocks.mean_error(series, 35) == pytest.approx(means.std(), rel=0.05)
    assert blocks.mean_error(series, 1) == pytest.approx(series.std() / np.sqrt(700))


def test_blocks_keep_the_dependence_that_independent_days_forget():
    """Coverage of CVaR under clustered volatility: blocks hold the truth more often than independence does."""
    rng, parameters = np.random.default_rng(21), Parameters(confidences=(0.95,))
    truth = tail(-_clustered(rng, 400_000), 0.95)[1]
    held = {"independent": 0, "block_bootstrap": 0}
    runs = 80
    for _ in range(runs):
        sample = _clustered(rng, 2500)
        for interval in held:
            settings = ValueAtRiskSettings(interval=interval, resamples=300)
            found = next(e for e in empirical.plain(sample, parameters, settings).estimates if e.measure == "cvar")
            held[interval] += found.lower <= truth <= found.upper
            assert ("blocks" in found.interval_method) == (interval == "block_bootstrap")
    assert held["block_bootstrap"] / runs > 0.65
    assert held["block_bootstrap"] > held["independent"] + 0.1 * runs


def test_block_intervals_move_no_value_and_follow_the_seed(equal_returns):
    plain = empirical.plain(equal_returns, Parameters(), ValueAtRiskSettings()).estimates
    settings = ValueAtRiskSettings(interval="block_bootstrap", resamples=200, block_days=25)
    one, same, other = (empirical.plain(equal_returns, Parameters(seed=s), settings).estimates for s in (1, 1, 2))
    assert [(e.measure, e.confidence, e.value) for e in one] == [(e.measure, e.confidence, e.value) for e in plain]
    assert one == same
    assert one[0].lower != other[0].lower
    assert all("blocks of 25 days" in e.interval_method for e in one)


def test_evar_interval_covers_the_truth_of_a_normal_market():
    rng, truth = np.random.default_rng(15), 0.01 * np.sqrt(-2 * np.log(0.1))
    found = [historical_entropic(sample, 0.9) for sample in rng.normal(0, 0.01, (400, 1000))]
    assert 0.78 <= _coverage(found, truth) <= 0.95  # a few losses carry the figure: less than nominal
