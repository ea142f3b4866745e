"""Each method of value at risk against a closed form, another library, or its own definition by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from actors.risk.garch import Garch
from actors.risk.measures import historical, historical_entropic, tail
from actors.risk.value_at_risk import backtest, empirical, estimators, filtered, parametric, peaks
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData
from hive.messages.calculation import Parameters

SETTINGS = ValueAtRiskSettings()
METHODS = backtest.METHODS


def _values(outcome):
    return {(e.measure, e.confidence): e.value for e in outcome.estimates}


@pytest.fixture(scope="module")
def recent(equal_returns):
    """Four years of the real book: enough for every method, quick to fit."""
    return np.array(equal_returns[-1000:])


@pytest.mark.parametrize("horizon", [1, 10])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_with_ordered_measures_inside_intervals(method, horizon, recent):
    parameters = Parameters(confidences=(0.95, 0.99), horizon_days=horizon, seed=7)
    outcome = estimators.BY_DAYS[method](recent, parameters, SETTINGS)
    values = _values(outcome)
    for confidence in (0.95, 0.99):
        assert 0 < values["var", confidence] <= values["cvar", confidence]
        assert values["cvar", confidence] <= values.get(("evar", confidence), math.inf)
    assert values["var", 0.95] < values["var", 0.99]
    for found in outcome.estimates:
        assert found.method_label.startswith(method)
        assert (found.method_label == method) == (horizon == 1)
        assert (found.confidence, found.horizon_days) in {(0.95, horizon), (0.99, horizon)}
        assert found.samples > 0
        assert found.convention
        assert found.interval_method
        assert found.lower is None or found.lower <= found.value
        assert found.upper is None or found.value <= found.upper
        assert (found.lower, found.upper) != (None, None)


@pytest.mark.parametrize("method", METHODS)
def test_same_input_gives_the_same_bits_and_leaves_it_as_it_was(method, recent):
    protected = recent.copy()
    protected.setflags(write=False)
    parameters = Parameters(horizon_days=5, seed=3)
    first = estimators.BY_DAYS[method](protected, parameters, SETTINGS)
    assert first == estimators.BY_DAYS[method](protected, parameters, SETTINGS)
    np.testing.assert_array_equal(protected, recent)


@pytest.mark.parametrize("method", ["filtered_historical", "cornish_fisher", "student_t", "gpd"])
def test_series_that_does_not_move_is_refused_by_methods_that_fit_a_shape(method):
    with pytest.raises(InvalidMarketData):
        estimators.BY_DAYS[method](np.full(500, 0.001), Parameters(), SETTINGS)


@pytest.mark.parametrize("method", METHODS)
def test_scaled_returns_have_scaled_tails(method, recent):
    parameters = Parameters(confidences=(0.99,))
    plain = _values(estimators.BY_DAYS[method](recent, parameters, SETTINGS))
    scaled = _values(estimators.BY_DAYS[method](3 * recent, parameters, SETTINGS))
    for key, value in plain.items():
        assert scaled[key] == pytest.approx(3 * value, rel=2e-3)


# Age-weighted


def test_age_weighted_without_decay_is_historical(recent):
    outcome = empirical.age_weighted(recent, Parameters(), ValueAtRiskSettings(decay=1.0))
    for confidence in (0.95, 0.99):
        var, cvar = historical(recent, confidence)
        evar = historical_entropic(recent, confidence)
        found = _values(outcome)
        assert found["var", confidence] == var.value
        assert found["cvar", confidence] == pytest.approx(cvar.value, rel=1e-12)
        assert found["evar", confidence] == pytest.approx(evar.value, rel=1e-9)


def test_weighted_tail_of_an_example_by_hand():
    losses = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    weights = np.array([0.05, 0.4, 0.15, 0.2, 0.2])
    # From the worst: 5 (0.05), 4 (0.20), 3 (0.40): losses beyond 3 weigh 0.20, beyond 2 weigh 0.40.
    assert empirical.weighted_tail(losses, weights, 0.75) == pytest.approx(
        (3.0, (5 * 0.05 + 4 * 0.15 + 3 * 0.05) / 0.25)
    )
    assert empirical.weighted_tail(losses, weights, 0.9) == pytest.approx((4.0, (5 * 0.05 + 4 * 0.05) / 0.1))


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 300), confidence=st.floats(0.51, 0.995))
def test_weighted_cvar_is_the_minimum_of_rockafellar_and_uryasev(seed, n, confidence):
    rng = np.random.default_rng(seed)
    losses, weights = np.round(rng.normal(size=n), 1), rng.dirichlet(np.ones(n))
    excess = np.maximum(losses[None, :] - losses[:, None], 0) @ weights
    var, cvar = empirical.weighted_tail(losses, weights, confidence)
    assert cvar == pytest.approx((losses + excess / (1 - confidence)).min(), rel=1e-9, abs=1e-9)
    assert weights[losses > var].sum() <= 1 - confidence + 1e-9


def test_weights_halve_over_the_half_life_and_thin_tails_are_told():
    weights = empirical.age_weights(1000, 0.5 ** (1 / 50))
    assert weights.sum() == pytest.approx(1)
    assert weights[-51] == pytest.approx(weights[-1] / 2)
    outcome = empirical.age_weighted(np.random.default_rng(0).normal(size=500), Parameters(), SETTINGS)
    assert "effective" in outcome.warnings[0]


# Cornish-Fisher


def test_cornish_fisher_of_a_symmetric_mesokurtic_sample_is_normal():
    for confidence in (0.9, 0.95, 0.99):
        var, cvar = parametric.expansion(0.001, 0.02, 0.0, 0.0, confidence, 4)
        law = stats.norm(-0.004, 0.04)
        assert var == pytest.approx(law.ppf(confidence), rel=1e-12)
        beyond = law.expect(lambda x: x, lb=law.ppf(confidence)) / (1 - confidence)
        assert cvar == pytest.approx(beyond, rel=1e-8)


@pytest.mark.parametrize(("skew", "excess"), [(-0.3, 1.0), (0.5, 2.0), (0.0, 4.0), (-0.8, 1.5)])
def test_cornish_fisher_cvar_is_its_quantile_integrated(skew, excess):
    def quantile(level):
        return parametric.expansion(0.0, 1.0, skew, excess, level, 1)[0]

    integral, _ = integrate.quad(quantile, 0.95, 1, limit=200)
    assert parametric.expansion(0.0, 1.0, skew, excess, 0.95, 1)[1] == pytest.approx(integral / 0.05, rel=1e-6)


def test_moments_are_those_of_scipy(recent):
    expected = recent.mean(), recent.std(), stats.skew(recent), stats.kurtosis(recent)
    assert parametric.moments(recent) == pytest.approx(expected, rel=1e-10)


@settings(max_examples=200)
@given(skew=st.floats(-3, 3), excess=st.floats(-2, 12))
def test_domain_is_where_the_expansion_rises_everywhere(skew, excess):
    z = np.concatenate([np.linspace(-60, 60, 200_001), np.geomspace(60, 1e8, 200), -np.geomspace(60, 1e8, 200)])
    slope = 1 + z * skew / 3 + (3 * z**2 - 3) * excess / 24 - (6 * z**2 - 5) * skew**2 / 36
    if abs(slope.min()) > 1e-6 and abs(excess / 8 - skew**2 / 6) > 1e-9:
        assert parametric.in_domain(skew, excess) == (slope.min() > 0)


def test_domain_of_maillard_ends_at_an_excess_kurtosis_of_eight_without_skewness():
    assert parametric.in_domain(0.0, 7.99)
    assert not parametric.in_domain(0.0, 8.01)
    assert not parametric.in_domain(0.0, -0.01)


def test_sample_outside_the_domain_is_flagged_and_one_inside_is_not(equal_returns):
    outside = parametric.cornish_fisher(equal_returns, Parameters(), SETTINGS)
    inside = parametric.cornish_fisher(np.random.default_rng(0).standard_t(12, size=5000), Parameters(), SETTINGS)
    assert any("domain" in warning for warning in outside.warnings)
    assert all("outside its domain" in found.convention for found in outside.estimates)
    assert not any("domain" in warning for warning in inside.warnings)


def test_resampled_moments_are_those_of_the_resamples_laid_out(recent):
    length, resamples = 20, 5
    found = parametric._resampled_moments(recent, length, resamples, seed=1)
    starts = parametric.blocks.block_starts(len(recent), length, resamples, 1)
    for row, first in zip(found, starts, strict=True):
        laid = recent[(first[:, None] + np.arange(length)).ravel() % len(recent)]
        assert row == pytest.approx(parametric.moments(laid), rel=1e-8)


# Student-t


@pytest.mark.parametrize("degrees", [2.5, 4.0, 9.0])
def test_student_t_fit_is_that_of_scipy(degrees):
    sample = 0.0004 + 0.01 * np.random.default_rng(5).standard_t(degrees, 4000)
    fit = parametric.fit_student_t(sample)
    expected = stats.t.fit(sample)
    assert (fit.degrees, fit.location, fit.scale) == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert (
        stats.t.logpdf(sample, fit.degrees, fit.location, fit.scale).sum()
        >= stats.t.logpdf(sample, *expected).sum() - 1e-4
    )


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [1.5, 3.0, 30.0])
def test_student_t_tail_is_its_quantile_and_its_integral_beyond(degrees, confidence):
    law = stats.t(degrees, -0.001, 0.02)
    var, cvar = parametric.t_tail(0.001, 0.02, degrees, confidence, 1)
    quantile = law.ppf(confidence)
    # E[L; L > q] = q P(L > q) + integral of the survival function beyond q.
    integral, _ = integrate.quad(lambda u: law.sf(quantile + u / (1 - u)) / (1 - u) ** 2, 0, 1, limit=500)
    assert var == pytest.approx(quantile, rel=1e-9)
    assert cvar == pytest.approx(quantile + integral / (1 - confidence), rel=1e-5)


def test_student_t_gradient_is_the_slope_of_its_likelihood():
    sample = np.random.default_rng(2).standard_t(4, 300)
    theta = np.array([0.1, -0.2, 1.2])
    numeric = optimize.approx_fprime(theta, lambda x: parametric._t_likelihood(x, sample)[0], 1e-7)
    np.testing.assert_allclose(parametric._t_likelihood(theta, sample)[1], numeric, rtol=1e-4, atol=1e-6)


def test_student_t_interval_covers_the_truth_about_as_often_as_it_says():
    rng, truth, held = np.random.default_rng(3), parametric.t_tail(0.0, 0.01, 4.0, 0.99, 1), [0, 0]
    for sample in 0.01 * rng.standard_t(4, (150, 600)):
        found = parametric.student_t(sample, Parameters(confidences=(0.99,)), SETTINGS).estimates
        for place, estimate in enumerate(found):
            if estimate.lower is None:
                held[place] += 1
            else:
                held[place] += estimate.lower <= truth[place] <= estimate.upper
    assert all(0.88 <= count / 150 <= 0.99 for count in held)


def test_student_t_of_a_normal_sample_gives_no_interval_and_says_why():
    sample = np.tile(stats.norm.ppf((np.arange(500) + 0.5) / 500), 2)
    found = parametric.student_t(sample, Parameters(), SETTINGS).estimates
    assert found[0].lower is None
    assert found[0].interval_method.startswith("none: ")
    assert found[0].value == pytest.approx(stats.norm.ppf(0.95), rel=0.02)


# Peaks over threshold


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2, 0.5])
def test_pareto_fit_is_that_of_scipy(shape):
    peaks_drawn = stats.genpareto.rvs(shape, scale=0.01, size=2000, random_state=1)
    losses = np.concatenate([np.linspace(-0.05, 0, 18_001), peaks_drawn])
    fit = peaks.fit_pareto(losses, 2000 / len(losses))
    expected = stats.genpareto.fit(fit.peaks, floc=0)
    assert fit.shape == pytest.approx(expected[0], abs=2e-3)
    assert fit.scale == pytest.approx(expected[2], rel=3e-3)
    assert fit.log_likelihood == pytest.approx(
        stats.genpareto.logpdf(fit.peaks, fit.shape, 0, fit.scale).sum(), rel=1e-9
    )
    assert fit.log_likelihood >= stats.genpareto.logpdf(fit.peaks, expected[0], 0, expected[2]).sum() - 1e-6


@pytest.mark.parametrize("shape", [-0.2, 1e-12, 0.3])
def test_pareto_tail_is_that_of_the_conditional_distribution(shape):
    fit = peaks.Pareto(0.02, shape, 0.01, 0.0, np.empty(0), 0.1)
    law = stats.genpareto(shape, scale=0.01)
    var, cvar = fit.tail(0.99)
    assert var == pytest.approx(0.02 + law.ppf(0.9), rel=1e-6)
    beyond = law.expect(lambda x: x, lb=law.ppf(0.9)) / 0.1
    assert cvar == pytest.approx(0.02 + beyond, rel=1e-4)


def test_profile_interval_ends_where_the_likelihood_has_fallen_by_chi_squared(recent):
    fit = peaks.fit_pareto(-recent, 0.1)
    lower, upper = peaks.profile_interval(fit, "var", 0.99)
    ratio = 0.01 / fit.share

    def profiled(value):
        def negative(shape):
            stretch = (ratio**-shape - 1) / shape
            return -stats.genpareto.logpdf(fit.peaks, shape, 0, (value - fit.threshold) / stretch).sum()

        return -optimize.minimize_scalar(negative, bounds=(-0.4, 1.5), method="bounded").fun

    for bound in (lower, upper):
        assert 2 * (fit.log_likelihood - profiled(bound)) == pytest.approx(stats.chi2.ppf(0.95, 1), abs=5e-3)


def test_tail_without_a_mean_has_no_cvar_and_a_warning():
    losses = stats.genpareto.rvs(1.4, size=3000, random_state=0)
    outcome = peaks.gpd(-losses / 1e4, Parameters(confidences=(0.99,)), SETTINGS)
    assert [found.measure for found in outcome.estimates] == ["var"]
    assert any("infinite" in warning for warning in outcome.warnings)


def test_confidence_below_the_threshold_has_no_figure_and_a_warning(recent):
    outcome = peaks.gpd(recent, Parameters(confidences=(0.8, 0.99)), SETTINGS)
    assert {found.confidence for found in outcome.estimates} == {0.99}
    assert any("below the threshold" in warning for warning in outcome.warnings)


# Filtered historical simulation


def test_filtered_historical_is_the_tail_of_rescaled_residuals(recent):
    from arch import arch_model

    fit = arch_model(recent * 100, mean="Constant", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off")
    ahead = math.sqrt(fit.forecast(horizon=1).variance.iloc[-1, 0])
    losses = -(fit.params["mu"] + ahead * fit.std_resid) / 100
    found = _values(filtered.filtered_historical(recent, Parameters(), SETTINGS))
    for confidence in (0.95, 0.99):
        expected = tail(np.asarray(losses), confidence)
        assert (found["var", confidence], found["cvar", confidence]) == pytest.approx(expected, rel=1e-3)


def _constant_volatility(residuals):
    return Garch(0.0, 1e-4, 0.0, 0.0, 0.0, residuals, np.full(len(residuals), 1e-4), 1e-4, True, None)


def test_simulated_losses_of_constant_normal_volatility_grow_with_the_root_of_time():
    residuals = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    losses = filtered.simulate(_constant_volatility(residuals), residuals, 4, 200_000, np.random.default_rng(0))
    assert losses.std() == pytest.approx(0.02, rel=0.01)
    assert tail(losses, 0.99)[0] == pytest.approx(0.02 * stats.norm.ppf(0.99), rel=0.03)


def test_simulated_book_loses_everything_at_most():
    residuals = np.array([-200.0, 1.0])
    losses = filtered.simulate(_constant_volatility(residuals), residuals, 3, 1000, np.random.default_rng(0))
    assert losses.max() == 1.0


def test_seed_of_the_simulation_is_that_of_the_calculation(recent):
    one, same, other = (
        _values(filtered.filtered_historical(recent, Parameters(horizon_days=5, seed=seed), SETTINGS))
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one["var", 0.95] != other["var", 0.95]


def test_fit_that_does_not_converge_falls_back_to_ewma_and_says_so(recent, monkeypatch):
    honest = filtered.fit_garch(recent)
    broken = Garch(**{**honest.__dict__, "converged": False})
    monkeypatch.setattr(filtered, "fit_garch", lambda daily: broken)
    outcome = filtered.filtered_historical(recent, Parameters(), SETTINGS)
    assert "EWMA" in outcome.fallbacks[0]
    assert all(found.value > 0 for found in outcome.estimates)


def test_exponential_filter_is_the_recursion_of_riskmetrics(recent):
    fit = filtered.exponential_filter(recent)
    shock = (recent - recent.mean()) ** 2
    following = 0.94 * fit.variances + 0.06 * shock
    np.testing.assert_allclose(np.append(fit.variances[1:], fit.next_variance), following, rtol=1e-12)
    np.testing.assert_allclose(fit.residuals**2 * fit.variances, shock, rtol=1e-9, atol=1e-18)


def test_too_few_days_are_refused_by_name():
    with pytest.raises(InvalidMarketData, match="too few"):
        filtered.filtered_historical(np.random.default_rng(0).normal(size=99), Parameters(), SETTINGS)
    with pytest.raises(InvalidMarketData, match="not enough"):
        parametric.student_t(np.random.default_rng(0).normal(size=29), Parameters(), SETTINGS)
    with pytest.raises(InvalidMarketData, match="beyond the threshold"):
        peaks.gpd(np.random.default_rng(0).normal(size=200), Parameters(), SETTINGS)
