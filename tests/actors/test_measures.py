"""VaR and CVaR against other libraries, against their definitions, and in the shapes they must keep."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import QuantLib
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from skfolio.measures import cvar as skfolio_cvar
from skfolio.measures import entropic_risk_measure
from skfolio.measures import evar as skfolio_evar
from skfolio.measures import value_at_risk as skfolio_var

from actors.risk.measures import (
    book_returns,
    entropic,
    gaussian,
    gaussian_measures,
    historical,
    historical_entropic,
    horizon_returns,
    tail,
    thin_tail_warning,
    volatility,
)
from cluster.errors import InvalidMarketData

CONFIDENCES = st.one_of(st.sampled_from([0.6, 0.75, 0.8, 0.9, 0.95, 0.975, 0.99, 0.999]), st.floats(0.51, 0.9995))
FAMILIES = {
    "normal": lambda rng, n: rng.normal(0.0005, 0.01, n),
    "heavy": lambda rng, n: 0.01 * rng.standard_t(3, n),
    "tied": lambda rng, n: np.round(rng.normal(0, 0.01, n), 2),
}


@st.composite
def samples(draw, max_size=1500):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    returns = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))](rng, draw(st.integers(1, max_size)))
    returns.setflags(write=False)
    return returns


@settings(max_examples=100)
@given(returns=samples(), confidence=CONFIDENCES)
def test_tail_of_random_samples_equals_skfolio(returns, confidence):
    var, cvar = tail(-returns, confidence)
    assert var == pytest.approx(skfolio_var(returns, beta=confidence), rel=1e-12, abs=1e-15)
    assert cvar == pytest.approx(skfolio_cvar(returns, beta=confidence), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975, 0.99, 0.995, 0.999])
@pytest.mark.parametrize("days", [30, 252, 1000, 1260, 8312])
def test_tail_of_real_returns_equals_skfolio(equal_returns, days, confidence):
    recent = equal_returns[-days:]
    expected = skfolio_var(recent, beta=confidence), skfolio_cvar(recent, beta=confidence)
    assert tail(-recent, confidence) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("confidence", ["0.6", "0.7", "0.8", "0.9", "0.95", "0.99", "0.999"])
def test_whole_tail_size_takes_exactly_that_many_losses(confidence):
    for n in range(10, 3001, 10):
        size = (1 - Fraction(confidence)) * n
        if size.denominator == 1:
            losses = np.random.default_rng(n).normal(size=n)
            worst = np.sort(losses)[::-1]
            expected = worst[int(size)], worst[: int(size)].mean()
            assert tail(losses, float(confidence)) == pytest.approx(expected, rel=1e-12), n


@settings(max_examples=60)
@given(returns=samples(max_size=200), confidence=CONFIDENCES)
def test_cvar_is_the_minimum_of_rockafellar_and_uryasev(returns, confidence):
    losses = -returns
    excess = np.maximum(losses[None, :] - losses[:, None], 0).sum(axis=1)
    minimum = (losses + excess / ((1 - confidence) * len(losses))).min()
    assert tail(losses, confidence)[1] == pytest.approx(minimum, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("confidence", "offset"), [(0.95, 1.4024e-5), (0.99, 2.0802e-5)])
def test_quantlib_has_the_same_var_and_a_cvar_of_the_mean_beyond_it(equal_returns, confidence, offset):
    statistics = QuantLib.RiskStatistics()
    statistics.add(equal_returns.tolist())
    var, cvar = tail(-equal_returns, confidence)
    beyond = -equal_returns[-equal_returns > var].mean()
    assert statistics.valueAtRisk(confidence) == pytest.approx(var, rel=1e-14)
    assert statistics.expectedShortfall(confidence) == pytest.approx(beyond, rel=1e-12)
    assert beyond - cvar == pytest.approx(offset, abs=1e-9)


@pytest.mark.parametrize(("confidence", "linear"), [(0.95, 0.017441999827), (0.99, 0.031381385448)])
def test_numpy_inverts_the_same_distribution_and_interpolates_below_it(equal_returns, confidence, linear):
    losses = -equal_returns
    var, _ = tail(losses, confidence)
    assert var == np.quantile(losses, confidence, method="inverted_cdf")
    assert np.quantile(losses, confidence) == pytest.approx(linear, rel=1e-9)
    assert np.quantile(losses, confidence) < var


@settings(max_examples=60)
@given(returns=samples(), confidence=CONFIDENCES, scale=st.floats(0.01, 100), shift=st.floats(-1, 1))
def test_tail_is_ordered_homogeneous_translation_equivariant_and_blind_to_order(returns, confidence, scale, shift):
    losses = -returns
    var, cvar = tail(losses, confidence)
    assert var <= cvar + 1e-15
    assert cvar <= losses.max() + 1e-15
    assert tail(scale * losses, confidence) == pytest.approx((scale * var, scale * cvar), rel=1e-9, abs=1e-12)
    assert tail(losses + shift, confidence) == pytest.approx((var + shift, cvar + shift), rel=1e-9, abs=1e-12)
    assert tail(np.random.default_rng(0).permutation(losses), confidence) == pytest.approx((var, cvar), rel=1e-12)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 500), mix=st.floats(-1, 1), confidence=CONFIDENCES)
def test_cvar_of_a_sum_is_at_most_the_sum_of_cvars(seed, n, mix, confidence):
    rng = np.random.default_rng(seed)
    first = rng.standard_t(3, n)
    second = mix * first + rng.standard_t(3, n)
    together = tail(first + second, confidence)[1]
    assert together <= tail(first, confidence)[1] + tail(second, confidence)[1] + 1e-9


@settings(max_examples=60)
@given(returns=samples(), confidence=CONFIDENCES)
def test_evar_lies_between_cvar_and_the_worst_loss(returns, confidence):
    losses = -returns
    value, exponent = entropic(losses, confidence)
    assert tail(losses, confidence)[1] <= value + 1e-9 * abs(value) + 1e-12
    assert value <= losses.max() + 1e-12
    assert exponent > 0


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("days", [30, 500, 8312])
def test_evar_of_real_returns_is_that_of_skfolio(equal_returns, days, confidence):
    recent = np.array(equal_returns[-days:])
    value, exponent = entropic(-recent, confidence)
    assert value == pytest.approx(skfolio_evar(recent, beta=confidence), rel=1e-6)
    if math.isfinite(exponent):  # theta is 1 / t; the measure at it is the minimum
        at_minimum = entropic_risk_measure(recent, theta=1 / exponent, beta=confidence)
        assert value == pytest.approx(at_minimum, rel=1e-9)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 300), confidence=CONFIDENCES)
def test_evar_is_below_its_bound_at_every_exponent(seed, n, confidence):
    rng = np.random.default_rng(seed)
    losses, weights = rng.standard_t(3, n), rng.dirichlet(np.ones(n))
    value, exponent = entropic(losses, confidence, weights)
    for t in (exponent if math.isfinite(exponent) else 50.0) * np.array([0.3, 0.9, 1.1, 3.0]):
        bound = losses.max() + (math.log(weights @ np.exp(t * (losses - losses.max()))) - math.log1p(-confidence)) / t
        assert value <= bound + 1e-9


def test_evar_of_a_sample_whose_worst_losses_fill_the_tail_is_the_worst_loss():
    losses = np.concatenate([np.zeros(95), np.ones(5)])
    assert entropic(losses, 0.95) == (1.0, math.inf)
    assert entropic(np.full(20, 0.3), 0.95) == (0.3, math.inf)
    assert 0.5 < entropic(losses, 0.9)[0] < 1


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_gaussian_evar_is_the_limit_of_the_sample_evar(confidence):
    grid = stats.norm.ppf((np.arange(400_000) + 0.5) / 400_000)
    *_, evar = gaussian_measures(grid, confidence)
    assert evar.value == pytest.approx(math.sqrt(-2 * math.log(1 - confidence)), rel=1e-5)
    assert entropic(-grid, confidence)[0] == pytest.approx(evar.value, rel=5e-3)  # the sample has an end


MEASURES = {
    "tail": lambda sample: tail(sample, 0.95),
    "historical": lambda sample: historical(sample, 0.95),
    "historical_overlapping": lambda sample: historical(sample, 0.95, 3),
    "entropic": lambda sample: entropic(sample, 0.95),
    "historical_entropic": lambda sample: historical_entropic(sample, 0.95),
    "gaussian": lambda sample: gaussian(sample, 0.95),
    "gaussian_sqrt_time": lambda sample: gaussian(sample, 0.95, 3),
    "volatility": volatility,
}


@pytest.mark.parametrize("measure", MEASURES)
def test_write_protected_sample_is_measured_and_left_as_it_was(measure, equal_returns):
    before = equal_returns.copy()
    MEASURES[measure](equal_returns)
    np.testing.assert_array_equal(equal_returns, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("measure", MEASURES)
def test_sample_with_a_value_that_is_not_finite_is_refused_by_every_measure(measure, bad):
    sample = np.random.default_rng(0).normal(0, 0.01, 50)
    sample[17] = bad
    with pytest.raises(InvalidMarketData):
        MEASURES[measure](sample)


@pytest.mark.parametrize("measure", MEASURES)
def test_empty_sample_is_refused_by_every_measure(measure):
    with pytest.raises(InvalidMarketData):
        MEASURES[measure](np.array([]))


@pytest.mark.parametrize("measure", ["gaussian", "volatility"])
def test_single_observation_has_no_standard_deviation_and_is_refused(measure):
    with pytest.raises(InvalidMarketData):
        MEASURES[measure](np.array([0.01]))


@pytest.mark.parametrize("held", [[2], [0, 1]], ids=["held", "not held"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_book_returns_refuse_a_return_that_is_not_finite(bad, held):
    returns = np.full((5, 3), 0.01)
    returns[2, 2] = bad
    with pytest.raises(InvalidMarketData):
        book_returns(returns, np.array(held), np.full(len(held), 1 / len(held)))


def test_book_returns_put_each_weight_on_its_column():
    returns = np.array([[0.1, 0.2, 0.4], [-0.1, 0.0, 0.3]])
    np.testing.assert_allclose(book_returns(returns, np.array([2, 0]), np.array([0.5, -1.0])), [0.1, 0.25])


@pytest.mark.parametrize(("n", "confidence"), [(1, 0.95), (2, 0.95), (10, 0.99), (19, 0.95), (99, 0.99)])
def test_tail_smaller_than_one_observation_is_the_worst_loss(n, confidence):
    losses = np.random.default_rng(n).normal(size=n)
    assert tail(losses, confidence) == (losses.max(), losses.max())


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 60), horizon=st.integers(1, 59))
def test_horizon_returns_compound_every_overlapping_window(seed, n, horizon):
    daily = np.random.default_rng(seed).normal(0, 0.05, n)
    if 1 < horizon > n - 1:
        with pytest.raises(InvalidMarketData):
            horizon_returns(daily, horizon)
        return
    expected = [math.prod(1 + r for r in daily[start : start + horizon]) - 1 for start in range(n - horizon + 1)]
    np.testing.assert_allclose(horizon_returns(daily, horizon), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("horizon", [1, 10, 60])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_gaussian_equals_the_normal_quantile_and_its_integral_beyond(equal_returns, confidence, horizon):
    mean, deviation = equal_returns.mean() * horizon, equal_returns.std(ddof=1) * math.sqrt(horizon)
    loss = stats.norm(-mean, deviation)
    var, cvar = gaussian(equal_returns, confidence, horizon)
    integral, _ = integrate.quad(lambda x: x * loss.pdf(x), loss.ppf(confidence), loss.mean() + 40 * deviation)
    assert var.value == pytest.approx(loss.ppf(confidence), rel=1e-12)
    assert cvar.value == pytest.approx(integral / (1 - confidence), rel=1e-7)


def test_gaussian_of_a_book_that_only_gains_is_floored_at_zero():
    var, cvar = gaussian(np.array([0.010, 0.011, 0.012, 0.011]), 0.95)
    assert (var.value, var.lower, cvar.value, cvar.lower) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("n", "confidence", "horizon", "thin"),
    [
        *((200, 0.95, 1, False), (199, 0.95, 1, True), (2000, 0.95, 10, False), (1999, 0.95, 10, True)),
        *((100, 0.9, 1, False), (99, 0.9, 1, True), (1000, 0.99, 1, False)),
    ],
)
def test_tail_of_fewer_than_ten_independent_observations_is_called_thin(n, confidence, horizon, thin):
    assert (thin_tail_warning(n, confidence, horizon) is not None) is thin
