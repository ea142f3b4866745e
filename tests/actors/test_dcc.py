"""Dynamic correlation against an independent implementation, simulated truth, and what every fit must be."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.correlation import dcc, dcc_kernels
from actors.risk.covariance import correlation_of
from actors.risk.garch import fit_garch
from cluster.errors import InvalidMarketData

LIKELIHOODS = ("full", "all_pairs", "contiguous_pairs")


def simulate(rng, days, target, a, b):
    """Standardised shocks of a DCC(1,1), written as its definition."""
    q, shocks = target.copy(), []
    for _ in range(days):
        shocks.append(np.linalg.cholesky(correlation_of(q)) @ rng.normal(size=len(target)))
        q = (1 - a - b) * target + a * np.outer(shocks[-1], shocks[-1]) + b * q
    return np.array(shocks)


def equal_correlation(n, rho):
    return np.full((n, n), rho) + (1 - rho) * np.eye(n)


def reference_log_likelihood(shocks, a, b):
    """Another road: scipy's multivariate normal densities less those of independent shocks."""
    target = shocks.T @ shocks / len(shocks)
    q, total = target, 0.0
    for z in shocks:
        joint = scipy.stats.multivariate_normal(np.zeros(len(z)), correlation_of(q)).logpdf(z)
        total += joint - scipy.stats.norm.logpdf(z).sum()
        q = (1 - a - b) * target + a * np.outer(z, z) + b * q
    return total


@pytest.fixture(scope="module")
def four():
    """1000 days of four symbols with known a = 0.05, b = 0.90."""
    shocks = simulate(np.random.default_rng(0), 1000, equal_correlation(4, 0.4), 0.05, 0.9)
    shocks.setflags(write=False)
    return shocks


@pytest.fixture(scope="module")
def real(snapshot):
    """Residuals of the bundled 20 stocks, and the margins that made them."""
    margins = [fit_garch(column.copy()) for column in snapshot.returns.T]
    return np.column_stack([margin.residuals for margin in margins]), margins


@pytest.fixture(scope="module")
def real_fit(real):
    return dcc.fit_dcc(*real)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(2, 20),
    a=st.floats(0, 0.3),
    kept=st.floats(0, 0.999),
    data=st.data(),
)
def test_kernels_equal_their_plain_twins(seed, n, a, kept, data):
    rng = np.random.default_rng(seed)
    days, b = int(rng.integers(n + 2, 60)), kept * (1 - a)
    reach = data.draw(st.integers(1, n - 1))
    shocks, driver = rng.standard_t(5, (2, days, n)) + rng.normal(size=(2, days, 1))
    target = correlation_of(np.cov(rng.normal(size=(3 * n, n)).T))
    buffers = np.empty((n, n)), np.empty((n, n + 1)), np.empty(days)
    found = dcc_kernels.full_log_likelihood(shocks, driver, target, a, b, *buffers)
    assert found == pytest.approx(
        dcc_kernels.full_log_likelihood_plain(shocks, driver, target, a, b), rel=1e-8, abs=1e-8
    )
    assert buffers[2].sum() == pytest.approx(found, rel=1e-12, abs=1e-12)
    found = dcc_kernels.pair_log_likelihood(shocks, driver, target, a, b, reach, buffers[0], buffers[1][0], buffers[2])
    assert found == pytest.approx(
        dcc_kernels.pair_log_likelihood_plain(shocks, driver, target, a, b, reach), rel=1e-8, abs=1e-8
    )
    dcc_kernels.corrected_driver(shocks, a, b, driver)
    np.testing.assert_allclose(driver, dcc_kernels.corrected_driver_plain(shocks, a, b), rtol=1e-10, atol=1e-12)


def test_kernel_says_nan_where_a_matrix_is_not_positive_definite():
    shocks = np.ones((5, 2))
    impossible = np.array([[1.0, 1.5], [1.5, 1.0]])
    buffers = np.empty((2, 2)), np.empty((2, 3)), np.empty(5)
    assert np.isnan(dcc_kernels.full_log_likelihood(shocks, shocks, impossible, 0.0, 0.5, *buffers))
    assert np.isnan(
        dcc_kernels.pair_log_likelihood(shocks, shocks, impossible, 0.0, 0.5, 1, buffers[0], np.empty(2), buffers[2])
    )


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_sensitivities_equal_finite_differences(four, reach):
    shocks = four[:80].copy()
    target = shocks.T @ shocks / len(shocks)
    to_shocks, to_target = np.empty_like(shocks), np.empty((4, 4))
    dcc_kernels.sensitivity(
        shocks, target, 0.06, 0.9, reach, np.empty((4, 4)), np.empty((4, 4)), np.empty((80, 4, 4)), to_shocks, to_target
    )

    def value(z, s):
        if reach:
            return dcc_kernels.pair_log_likelihood_plain(z, z, s, 0.06, 0.9, reach)
        return dcc_kernels.full_log_likelihood_plain(z, z, s, 0.06, 0.9)

    rng, step = np.random.default_rng(1), 1e-5
    direction = rng.normal(size=shocks.shape)
    slope = (value(shocks + step * direction, target) - value(shocks - step * direction, target)) / (2 * step)
    assert (to_shocks * direction).sum() == pytest.approx(slope, rel=1e-6)
    bent = rng.normal(size=(4, 4))
    bent += bent.T
    slope = (value(shocks, target + step * bent) - value(shocks, target - step * bent)) / (2 * step)
    assert (to_target * bent).sum() == pytest.approx(slope, rel=1e-6)


def test_fit_equals_an_independent_maximisation(four):
    """Loops, scipy's densities and a search that knows no derivative, from another start."""
    shocks = four[:200]
    found = scipy.optimize.minimize(
        lambda p: -reference_log_likelihood(shocks, *p) if p.min() >= 0 and p.sum() < 1 else np.inf,
        [0.1, 0.7],
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-5, "maxfev": 70},
    )
    fit = dcc.fit_dcc(shocks)
    assert fit.log_likelihood >= -found.fun - 1e-6
    assert fit.log_likelihood == pytest.approx(reference_log_likelihood(shocks, fit.a, fit.b), rel=1e-9)
    assert (fit.a, fit.b) == pytest.approx(tuple(found.x), abs=2e-3)


def test_twenty_stocks_have_the_published_parameters(real_fit):
    """Own vectorised stage two on 20 GARCH residual series, 1990 to 2022: a = .004074, b = .993654."""
    assert real_fit.a == pytest.approx(0.004074, abs=3e-6)
    assert real_fit.b == pytest.approx(0.993654, abs=5e-6)
    assert real_fit.a_bounds[0] < real_fit.a < real_fit.a_bounds[1]
    assert real_fit.b_bounds[0] < real_fit.b < real_fit.b_bounds[1]
    assert real_fit.interval_method.startswith("two-stage sandwich")


def test_composite_likelihoods_of_real_stocks_agree_and_see_more_movement(real, real_fit):
    """The full likelihood of many symbols leans to a = 0 (Pakel, Shephard, Sheppard & Engle 2021); pairs do not."""
    every = dcc.fit_dcc(real[0], likelihood="all_pairs")
    contiguous = dcc.fit_dcc(real[0], likelihood="contiguous_pairs")
    assert every.a == pytest.approx(contiguous.a, rel=0.15)
    assert every.a > 2 * real_fit.a


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("corrected", [False, True])
def test_fit_is_a_stationary_model_with_correlations(four, likelihood, corrected):
    fit = dcc.fit_dcc(four, likelihood=likelihood, corrected=corrected)
    assert fit.a >= 0 and fit.b >= 0 and fit.a + fit.b < 1
    assert fit.log_likelihood >= fit.constant_log_likelihood
    r = fit.correlation
    np.testing.assert_array_equal(np.diag(r), np.ones(4))
    np.testing.assert_array_equal(r, r.T)
    assert np.linalg.eigvalsh(r)[0] > 0
    for days in (1, 5, 250):
        ahead = dcc.forecast(fit, days)
        assert np.linalg.eigvalsh(ahead)[0] > 0
    np.testing.assert_allclose(dcc.forecast(fit, 1), r, atol=1e-15)
    np.testing.assert_allclose(dcc.forecast(fit, 100_000), correlation_of(fit.target), atol=1e-9)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_truth_is_recovered_from_a_long_simulation(likelihood):
    shocks = simulate(np.random.default_rng(5), 6000, equal_correlation(5, 0.4), 0.04, 0.93)
    fit = dcc.fit_dcc(shocks, likelihood=likelihood)
    assert fit.a == pytest.approx(0.04, abs=0.01)
    assert fit.b == pytest.approx(0.93, abs=0.02)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """With GARCH margins that are estimated too; 200 runs of both likelihoods had 93 to 95 % coverage."""
    inside, widths, found = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        z = simulate(rng, 1200, equal_correlation(2, 0.5), 0.05, 0.9)
        h, returns = np.full(2, 1e-4), []
        for shock in z:
            returns.append(np.sqrt(h) * shock)
            h = 2e-6 + 0.08 * returns[-1] ** 2 + 0.9 * h
        margins = [fit_garch(np.array(returns)[:, i].copy()) for i in (0, 1)]
        fit = dcc.fit_dcc(np.column_stack([m.residuals for m in margins]), margins)
        if fit.a_bounds is not None:
            inside.append(fit.a_bounds[0] <= 0.05 <= fit.a_bounds[1])
            widths.append(fit.a_bounds[1] - fit.a_bounds[0])
            found.append(fit.a)
    assert len(inside) >= 18
    assert np.mean(inside) >= 0.85
    assert np.median(widths) == pytest.approx(2 * 1.96 * np.std(found), rel=0.5)


def test_no_movement_is_constant_correlation(four):
    target = four.T @ four / len(four)
    r = correlation_of(target)
    expected = sum(
        scipy.stats.multivariate_normal(np.zeros(4), r).logpdf(four) - scipy.stats.norm.logpdf(four).sum(axis=1)
    )
    fit = dcc.fit_dcc(four)
    assert fit.constant_log_likelihood == pytest.approx(expected, rel=1e-10)


def test_constant_correlation_ends_at_the_bound_or_near_it_and_says_so():
    labels = set()
    for seed in range(12):
        shocks = np.random.default_rng(seed).normal(size=(400, 3)) @ np.linalg.cholesky(equal_correlation(3, 0.5)).T
        fit = dcc.fit_dcc(shocks)
        assert fit.a < 0.06
        labels.add(fit.boundary)
        if fit.boundary:
            assert fit.a_bounds is None
            assert fit.interval_method == f"none: {fit.boundary}"
    assert any(label.startswith("a = 0") for label in labels)


def test_correlation_that_never_returns_stays_below_one():
    """A correlation that wanders as a random walk drives a + b to its bound, which is no failure."""
    rng = np.random.default_rng(3)
    rho = np.tanh(np.cumsum(rng.normal(0, 0.03, 3000)))
    z = rng.normal(size=(3000, 2))
    z[:, 1] = rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]
    fit = dcc.fit_dcc(z)
    assert 0.97 < fit.a + fit.b < 1
    assert np.isfinite(fit.log_likelihood)
    assert np.linalg.eigvalsh(fit.correlation)[0] > 0


@pytest.mark.parametrize("likelihood", ["full", "all_pairs"])
def test_order_of_the_symbols_does_not_matter(four, likelihood):
    order = [2, 0, 3, 1]
    fit, shuffled = dcc.fit_dcc(four, likelihood=likelihood), dcc.fit_dcc(four[:, order], likelihood=likelihood)
    assert shuffled.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-9)
    assert (shuffled.a, shuffled.b) == pytest.approx((fit.a, fit.b), abs=2e-5)
    np.testing.assert_allclose(shuffled.correlation, fit.correlation[np.ix_(order, order)], atol=1e-4)


@pytest.mark.parametrize("corrected", [False, True])
def test_day_by_day_arrives_where_the_whole_sample_does(four, corrected):
    whole = dcc.fit_dcc(four, corrected=corrected)
    driver = dcc_kernels.corrected_driver_plain(four, whole.a, whole.b) if corrected else four
    started = dcc.replace(whole, q=whole.target)
    for shocks in four:
        started = dcc.updated(started, shocks)
    np.testing.assert_allclose(started.q, whole.q, rtol=1e-9)
    correlations = dcc_kernels.correlations_plain(driver, whole.target, whole.a, whole.b)
    expected = [(r.sum() - 4) / 12 for r in correlations]
    np.testing.assert_allclose(dcc.mean_correlations(whole, four), expected, rtol=1e-10)


def test_two_symbols_fit_alike_by_both_likelihoods(four):
    full, pair = dcc.fit_dcc(four[:, :2]), dcc.fit_dcc(four[:, :2], likelihood="all_pairs")
    assert pair.log_likelihood == pytest.approx(full.log_likelihood, rel=1e-9)
    assert (pair.a, pair.b) == pytest.approx((full.a, full.b), abs=1e-4)


@pytest.mark.parametrize(
    "residuals",
    [
        np.random.default_rng(0).normal(size=(500, 1)),
        np.random.default_rng(0).normal(size=(99, 3)),
        np.column_stack([np.random.default_rng(0).normal(size=500), np.zeros(500)]),
        np.where(np.arange(1000).reshape(500, 2) == 7, np.nan, np.random.default_rng(0).normal(size=(500, 2))),
        np.random.default_rng(0).normal(size=(150, 1)) @ np.ones((1, 3)),
        np.random.default_rng(0).normal(size=(120, 130)),
    ],
    ids=["one symbol", "short", "still", "nan", "copies", "more symbols than days"],
)
def test_what_has_no_moving_correlation_is_refused(residuals):
    with pytest.raises(InvalidMarketData):
        dcc.fit_dcc(residuals)


def test_pairs_answer_where_symbols_outnumber_days():
    common = np.random.default_rng(2).normal(size=(150, 1))
    residuals = 0.6 * common + 0.8 * np.random.default_rng(3).normal(size=(150, 160))
    fit = dcc.fit_dcc(residuals, likelihood="all_pairs")
    assert np.isfinite(fit.log_likelihood)
    with pytest.raises(InvalidMarketData):
        dcc.updated(fit, np.full(160, np.nan))
