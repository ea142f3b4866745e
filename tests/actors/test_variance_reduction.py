"""Twists and strata: unbiased where probabilities are known, and worth having where losses are rare."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actors.risk.measures import tail
from actors.risk.sampling import factor_of, uniforms
from actors.risk.value_at_risk.variance_reduction import quadratic, strata_weights, twist, weighted_tail
from cluster.errors import InvalidMarketData

MEAN = np.array([0.01, -0.02, 0.005])
COVARIANCE = np.array([[4.0, 1.2, -0.4], [1.2, 1.0, 0.3], [-0.4, 0.3, 2.25]])
DELTA = np.array([0.5, -0.3, 0.8])
GAMMA = np.array([-0.2, 0.1, -0.05])


def loss(moves, gamma=GAMMA):
    return -(moves @ DELTA + 0.5 * moves**2 @ gamma)


def test_quadratic_form_is_the_loss():
    form = quadratic(MEAN, factor_of(COVARIANCE), DELTA, GAMMA)
    z = np.random.default_rng(0).normal(size=(50, 3))
    rebuilt = form.constant + z @ form.linear + z**2 @ form.curvature
    assert rebuilt == pytest.approx(loss(MEAN + z @ form.root.T))
    assert form.root @ form.root.T == pytest.approx(COVARIANCE)


@pytest.mark.parametrize("degrees", [math.inf, 4.0, 12.0])
@pytest.mark.parametrize("gamma", [np.zeros(3), GAMMA], ids=["linear", "convex"])
@pytest.mark.parametrize("target", [2.0, 6.0])
def test_likelihood_ratios_are_one_on_average_and_the_target_is_common(degrees, gamma, target):
    form = quadratic(MEAN, factor_of(COVARIANCE), DELTA, gamma)
    found = twist(form, target, degrees)
    shifted, ratios = found.draw(uniforms("sobol", 2**15, found.inputs, seed=4))
    losses = loss(MEAN + shifted, gamma)
    assert 0.2 < (losses > target).mean() < 0.8
    # The ratio is small where losses are large, so probabilities of large losses are what it estimates well.
    plain = np.random.default_rng(1)
    z = plain.normal(size=(2**20, 3))
    if degrees < math.inf:
        z /= np.sqrt(plain.chisquare(degrees, 2**20) / degrees)[:, None]
    known = (loss(MEAN + z @ form.root.T, gamma) > target).mean()
    error = math.sqrt(known / 2**20)
    assert (ratios * (losses > target)).mean() == pytest.approx(known, abs=4 * error + 0.02 * known)


@pytest.mark.parametrize("confidence", [0.95, 0.99, 0.999])
@pytest.mark.parametrize("degrees", [math.inf, 4.0])
def test_twisted_tail_of_a_linear_book_is_its_closed_form(confidence, degrees):
    scale = math.sqrt(DELTA @ COVARIANCE @ DELTA)
    law = stats.norm(0, scale) if degrees == math.inf else stats.t(degrees, 0, scale)
    var = law.ppf(confidence)
    form = quadratic(np.zeros(3), factor_of(COVARIANCE), DELTA, np.zeros(3))
    found = twist(form, float(var), degrees)
    shifted, ratios = found.draw(uniforms("sobol", 2**14, found.inputs, seed=8))
    measured = weighted_tail(loss(shifted, np.zeros(3)), ratios, confidence)
    cvar = law.expect(lambda x: x, lb=var, conditional=True)
    assert measured == pytest.approx((var, cvar), rel=0.01)


def test_twisting_a_rare_loss_cuts_the_error_of_its_quantile():
    form = quadratic(np.zeros(3), factor_of(COVARIANCE), DELTA, np.zeros(3))
    scale = math.sqrt(DELTA @ COVARIANCE @ DELTA)
    found = twist(form, scale * stats.norm.ppf(0.999))
    plain, twisted = [], []
    for seed in range(60):
        shifted, ratios = found.draw(uniforms("plain", 2048, 3, seed))
        twisted.append(weighted_tail(loss(shifted, np.zeros(3)), ratios, 0.999)[0])
        z = np.random.default_rng(1000 + seed).normal(size=(2048, 3))
        plain.append(tail(loss(z @ form.root.T, np.zeros(3)), 0.999)[0])
    assert np.std(twisted) < np.std(plain) / 4


@given(
    losses=st.lists(st.floats(-10, 10), min_size=2, max_size=80, unique=True),
    confidence=st.sampled_from([0.6, 0.75, 0.9]),
)
@settings(max_examples=60)
def test_equal_weights_give_the_plain_tail(losses, confidence):
    sample = np.array(losses)
    var, cvar = tail(sample, confidence)
    if (1 - confidence) * len(sample) < 1:
        return
    assert weighted_tail(sample, np.ones(len(sample)), confidence) == pytest.approx((var, cvar), abs=1e-9)


def test_strata_get_their_known_probabilities():
    control = np.array([-1.0, -0.5, 0.2, 0.9, 3.0])
    weights = strata_weights(control, np.array([0.0, 1.0]), np.array([0.5, 0.9]))
    assert weights == pytest.approx([1.25, 1.25, 1.0, 1.0, 0.5])
    assert weights.mean() == pytest.approx(1.0)


def test_an_empty_stratum_lends_its_probability_to_a_neighbour():
    weights = strata_weights(np.array([-1.0, -0.5]), np.array([0.0, 1.0]), np.array([0.5, 0.9]))
    assert weights == pytest.approx([1.0, 1.0])
    above = strata_weights(np.array([2.0, 3.0]), np.array([0.0, 1.0]), np.array([0.5, 0.9]))
    assert above == pytest.approx([1.0, 1.0])


def test_a_book_without_risk_and_a_loss_that_is_not_rare_are_refused():
    flat = quadratic(np.zeros(3), factor_of(COVARIANCE), np.zeros(3), np.zeros(3))
    with pytest.raises(InvalidMarketData, match="does not vary"):
        twist(flat, 0.1)
    form = quadratic(np.zeros(3), factor_of(COVARIANCE), DELTA, np.zeros(3))
    with pytest.raises(InvalidMarketData, match="not rare"):
        twist(form, -1.0)
