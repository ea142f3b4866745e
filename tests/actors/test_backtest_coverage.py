"""Tests and scores of forecasts: published examples, other libraries, and how often a right model is rejected."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS

from actors.risk.value_at_risk import coverage

# Numbers of exceptions that Kupiec's test accepts at 95 % (Kupiec 1995, table 5): tail, days, fewer than, more than.
ACCEPTED = [
    (0.01, 255, 0, 7),
    (0.01, 510, 1, 11),
    (0.01, 1000, 4, 17),
    (0.025, 255, 2, 12),
    (0.025, 510, 6, 21),
    (0.025, 1000, 15, 36),
    (0.05, 255, 6, 21),
    (0.05, 510, 16, 36),
    (0.05, 1000, 37, 65),
    (0.075, 1000, 59, 92),
    (0.1, 255, 16, 36),
    (0.1, 1000, 81, 120),
]


def _days(n, count):
    exceptions = np.zeros(n, dtype=bool)
    exceptions[np.linspace(0, n - 1, count).astype(int)] = True
    return exceptions


def test_kupiec_of_twenty_exceptions_in_a_year_is_that_of_jorion():
    """Jorion, Value at Risk, chapter 6: 20 exceptions in 252 days at 95 % give LR = 3.91."""
    found = coverage.kupiec(_days(252, 20), 0.95)
    assert found.statistic == pytest.approx(3.91, abs=5e-3)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 1))
    assert found.p_value < 0.05


@pytest.mark.parametrize(("tail", "days", "low", "high"), ACCEPTED)
def test_kupiec_accepts_what_his_table_accepts(tail, days, low, high):
    accepted = [count for count in range(1, days // 2) if coverage.kupiec(_days(days, count), 1 - tail).p_value > 0.05]
    assert accepted[0] == low + 1
    assert accepted[-1] == high - 1


def test_kupiec_without_exceptions_is_the_likelihood_of_none():
    assert coverage.kupiec(np.zeros(250, bool), 0.99).statistic == pytest.approx(-2 * 250 * math.log(0.99))
    assert coverage.kupiec(np.ones(5, bool), 0.99).statistic == pytest.approx(-2 * 5 * math.log(0.01))


def test_christoffersen_of_an_example_by_hand():
    exceptions = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)
    pairs = list(itertools.pairwise(exceptions))
    n00, n01, n10, n11 = (pairs.count((a, b)) for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)))
    assert (n00, n01, n10, n11) == (6, 3, 3, 2)
    apart = 6 * math.log(6 / 9) + 3 * math.log(3 / 9) + 3 * math.log(3 / 5) + 2 * math.log(2 / 5)
    together = 9 * math.log(9 / 14) + 5 * math.log(5 / 14)
    found = coverage.christoffersen(exceptions)
    assert found.statistic == pytest.approx(2 * (apart - together), rel=1e-12)
    both = coverage.conditional_coverage(exceptions, 0.8)
    assert both.statistic == pytest.approx(found.statistic + coverage.kupiec(exceptions, 0.8).statistic)
    assert both.p_value == pytest.approx(stats.chi2.sf(both.statistic, 2))


def test_clustered_exceptions_are_found_dependent_and_spread_ones_are_not():
    clustered, spread = np.zeros(1000, bool), np.zeros(1000, bool)
    clustered[500:520], spread[::50] = True, True
    assert coverage.christoffersen(clustered).p_value < 1e-6
    assert coverage.christoffersen(spread).p_value > 0.2
    assert coverage.kupiec(clustered, 0.98).statistic == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("exceptions", [np.zeros(100, bool), np.eye(1, 100, 99, dtype=bool)[0]])
def test_independence_without_an_exception_to_follow_is_not_judged(exceptions):
    for found in (coverage.christoffersen(exceptions), coverage.conditional_coverage(exceptions, 0.99)):
        assert (found.statistic, found.p_value) == (None, None)
        assert found.note


@pytest.mark.parametrize(
    ("count", "percent", "zone"),
    [
        *((0, 8.11, "green"), (1, 28.58, "green"), (2, 54.32, "green"), (3, 75.81, "green"), (4, 89.22, "green")),
        *((5, 95.88, "yellow"), (6, 98.63, "yellow"), (7, 99.60, "yellow"), (8, 99.89, "yellow"), (9, 99.97, "yellow")),
        (10, 99.99, "red"),
    ],
)
def test_traffic_light_is_the_table_of_basel(count, percent, zone):
    """Basel Committee 1996, Supervisory framework for backtesting, table 2: 250 days at 99 %."""
    found = coverage.traffic_light(np.concatenate([np.ones(40, bool), _days(250, count)]), 0.99)
    assert (found.days, found.exceptions, found.zone) == (250, count, zone)
    assert 100 * found.cumulative_probability == pytest.approx(percent, abs=0.005)


def test_acerbi_szekely_statistics_are_their_definitions():
    rng = np.random.default_rng(0)
    losses, var, cvar = rng.standard_t(4, 400), np.full(400, 2.0), np.full(400, 3.0)
    first, second = coverage.acerbi_szekely(losses, var, cvar, 0.95, seed=1)
    beyond = losses > var
    assert first.statistic == pytest.approx(1 - (losses[beyond] / cvar[beyond]).mean())
    assert second.statistic == pytest.approx(1 - (losses * beyond / cvar).sum() / (400 * 0.05))
    assert coverage.acerbi_szekely(losses, var, cvar, 0.95, seed=1)[1] == second


def test_acerbi_szekely_rejects_a_cvar_that_is_too_small_and_no_right_one():
    losses = np.random.default_rng(1).normal(size=2000)
    z = stats.norm.ppf(0.975)
    right = stats.norm.pdf(z) / 0.025
    ones = np.ones(2000)
    assert all(t.p_value > 0.05 for t in coverage.acerbi_szekely(losses, z * ones, right * ones, 0.975, 0))
    assert all(t.p_value < 0.01 for t in coverage.acerbi_szekely(losses, z * ones, 0.85 * right * ones, 0.975, 0))


def test_acerbi_szekely_without_exceptions_or_with_gains_is_not_judged():
    quiet = coverage.acerbi_szekely(np.zeros(100), np.ones(100), np.ones(100), 0.99, 0)
    assert (quiet[0].statistic, quiet[1].statistic) == (None, 1.0)
    assert quiet[1].p_value > 0.5
    gains = coverage.acerbi_szekely(np.zeros(100), -np.ones(100), -np.ones(100), 0.99, 0)
    assert all(found.p_value is None and "not positive" in found.note for found in gains)


def test_right_model_is_rejected_about_as_often_as_the_level_says():
    rng, rejected, days = np.random.default_rng(2), np.zeros(5), 500
    z = stats.norm.ppf(0.95)
    var, cvar = np.full(days, z), np.full(days, stats.norm.pdf(z) / 0.05)
    runs = 200
    for losses in rng.normal(size=(runs, days)):
        exceptions = losses > var
        tests = (
            coverage.kupiec(exceptions, 0.95),
            coverage.christoffersen(exceptions),
            coverage.conditional_coverage(exceptions, 0.95),
            *coverage.acerbi_szekely(losses, var, cvar, 0.95, 0),
        )
        rejected += [test.p_value is not None and test.p_value < 0.05 for test in tests]
    assert (rejected / runs < 0.11).all()
    assert rejected[0] / runs > 0.01


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), confidence=st.sampled_from([0.9, 0.95, 0.99]))
def test_quantile_loss_is_least_at_the_quantile(seed, confidence):
    losses = np.random.default_rng(seed).normal(size=2000)
    best = np.quantile(losses, confidence, method="inverted_cdf")
    scores = [
        coverage.pinball(losses, np.full(2000, value), confidence).mean() for value in (best, best - 0.3, best + 0.3)
    ]
    assert min(scores) == scores[0]
    excess = losses - best
    expected = np.maximum(confidence * excess, (confidence - 1) * excess)
    np.testing.assert_allclose(coverage.pinball(losses, np.full(2000, best), confidence), expected)


def test_joint_loss_is_that_of_patton_ziegel_and_chen_and_least_at_the_truth():
    rng, alpha = np.random.default_rng(3), 0.05
    losses = rng.normal(size=200_000)
    var = stats.norm.ppf(1 - alpha)
    cvar = stats.norm.pdf(var) / alpha

    def score(v, e):
        return coverage.fissler_ziegel(losses, np.full(len(losses), v), np.full(len(losses), e), 1 - alpha).mean()

    returns, v, e = -losses, -var, -cvar  # their sign: returns, and VaR and ES below zero
    theirs = -np.where(returns <= v, v - returns, 0.0) / (alpha * e) + v / e + np.log(-e) - 1
    assert score(var, cvar) == pytest.approx(theirs.mean(), rel=1e-9)
    for other in ((var + 0.1, cvar), (var - 0.1, cvar), (var, cvar + 0.15), (var, cvar - 0.15)):
        assert score(*other) > score(var, cvar)


def test_joint_loss_of_gains_is_not_defined():
    assert coverage.fissler_ziegel(np.zeros(3), np.zeros(3), np.array([1.0, 0.0, 1.0]), 0.95) is None


def test_diebold_mariano_is_the_robust_t_of_a_mean():
    rng = np.random.default_rng(4)
    noise = rng.normal(size=801)
    first, second = 0.05 + noise[1:] + 0.6 * noise[:-1], rng.normal(0, 0.1, 800)
    mean, statistic, p_value, lags = coverage.diebold_mariano(first, second)
    difference = first - second
    robust = OLS(difference, np.ones(800)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    assert lags == int(4 * 8 ** (2 / 9))
    assert mean == pytest.approx(difference.mean())
    assert statistic == pytest.approx(robust.tvalues[0], rel=1e-9)
    assert p_value == pytest.approx(robust.pvalues[0], rel=1e-9)


def test_equal_losses_are_not_compared():
    assert coverage.diebold_mariano(np.ones(50), np.ones(50))[:3] == (0.0, None, None)
