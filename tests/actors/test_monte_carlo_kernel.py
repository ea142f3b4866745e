"""The fused Monte Carlo kernel: its generator against the laws it claims, and its figures against its plain twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from actors.risk.measures import tail
from actors.risk.value_at_risk import mc_kernels

ROWS = 2**17
N = 5
A = np.random.default_rng(3).normal(size=(N, 2 * N))
COVARIANCE = A @ A.T / (2 * N) * 1e-4
ROOT = np.linalg.cholesky(COVARIANCE)
WEIGHTS = np.array([0.4, -0.2, 0.3, 0.3, 0.2])
NOTHING = np.zeros(N)


@pytest.fixture(scope="module")
def normals():
    work = np.empty((N + 8, mc_kernels.BLOCK))
    drawn = np.empty((ROWS, N))
    for start in range(0, ROWS, mc_kernels.BLOCK):
        rows = np.arange(start, start + mc_kernels.BLOCK)
        mc_kernels._draw(np.uint64(98), rows, mc_kernels.BLOCK, N, work)
        drawn[rows] = work[:N].T
    return drawn


def simulate(seed=7, rows=20_000, mean=NOTHING, gammas=NOTHING, degrees=math.inf, confidence=0.99, weights=WEIGHTS):
    buffers = mc_kernels.buffers_for(rows, len(mean))
    contributions = np.empty(len(mean))
    root = ROOT[: len(mean), : len(mean)].copy()
    var, cvar = mc_kernels.simulate(
        np.uint64(seed), mean, root, weights[: len(mean)], gammas, degrees, confidence, buffers, contributions
    )
    return var, cvar, contributions, buffers


def test_polynomials_give_the_normals_of_exact_functions(normals):
    assert normals[:4096] == pytest.approx(mc_kernels.normals_plain(98, 4096, N), abs=2e-11)


def test_normals_are_normal_in_every_margin_and_far_into_the_tails(normals):
    for column in normals.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
        edges = np.array([-np.inf, -4, -3.5, -3, -2, -1, 0, 1, 2, 3, 3.5, 4, np.inf])
        counts, expected = np.histogram(column, edges)[0], ROWS * np.diff(stats.norm.cdf(edges))
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3


def test_normals_do_not_depend_on_each_other_within_or_between_rows(normals):
    assert np.abs(np.corrcoef(normals.T) - np.eye(N)).max() < 5 / math.sqrt(ROWS)
    squares = normals**2
    assert np.abs(np.corrcoef(squares.T) - np.eye(N)).max() < 5 / math.sqrt(ROWS)
    flat = normals.ravel()
    for lag in (1, 2, 5, 10, 17):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 5 / math.sqrt(flat.size)


def test_mixing_variables_follow_their_chi_square():
    mixing = np.empty(ROWS)
    mc_kernels._mixing(np.uint64(5), 4.0, mixing)
    assert stats.kstest(4.0 / mixing**2, stats.chi2(4).cdf).pvalue > 1e-3


@pytest.mark.parametrize("degrees", [math.inf, 5.0])
@pytest.mark.parametrize("gammas", [NOTHING, np.array([40.0, -20.0, 0.0, 10.0, -60.0])], ids=["linear", "convex"])
@pytest.mark.parametrize("rows", [1, 255, 256, 257, 20_000])
def test_kernel_gives_the_tail_of_its_plain_twin_and_contributions_that_sum_to_it(degrees, gammas, rows):
    mean = np.linspace(-0.001, 0.001, N)
    var, cvar, contributions, buffers = simulate(rows=rows, mean=mean, gammas=gammas, degrees=degrees)
    mixing = buffers[2] if degrees < math.inf else np.ones(rows)
    plain = mc_kernels.simulate_plain(7, mean, ROOT, WEIGHTS, gammas, mixing, rows)
    assert (var, cvar) == pytest.approx(tail(plain.sum(axis=1), 0.99), abs=1e-12)
    assert contributions.sum() == pytest.approx(cvar, rel=1e-12)


def test_contributions_are_mean_losses_of_the_tail():
    var, _, contributions, _ = simulate()
    plain = mc_kernels.simulate_plain(7, NOTHING, ROOT, WEIGHTS, NOTHING, np.ones(20_000), 20_000)
    worst = plain[plain.sum(axis=1) >= var - 1e-12]
    assert contributions == pytest.approx(worst[: len(worst)].mean(axis=0), rel=0.02, abs=2e-4)


@pytest.mark.parametrize("degrees", [math.inf, 6.0])
def test_figures_meet_their_closed_form_within_the_error_of_the_draw(degrees):
    sigma = math.sqrt(WEIGHTS @ COVARIANCE @ WEIGHTS)
    law = stats.norm(0, sigma) if degrees == math.inf else stats.t(degrees, 0, sigma)
    var, cvar, _, _ = simulate(rows=400_000, degrees=degrees)
    q = law.ppf(0.99)
    assert var == pytest.approx(q, abs=4 * math.sqrt(0.01 * 0.99 / 400_000) / law.pdf(q))
    assert cvar == pytest.approx(law.expect(lambda x: x, lb=q, conditional=True), rel=0.02)


def test_same_seed_has_the_same_bits_and_another_seed_has_not():
    assert simulate(seed=1)[:2] == simulate(seed=1)[:2]
    assert simulate(seed=1)[:2] != simulate(seed=2)[:2]


def test_inputs_that_are_not_finite_give_nan_for_the_caller_to_refuse():
    assert math.isnan(simulate(mean=np.array([0.0, math.nan, 0.0, 0.0, 0.0]))[0])
    assert math.isnan(simulate(mean=np.array([0.0, math.inf, 0.0, 0.0, 0.0]))[0])
