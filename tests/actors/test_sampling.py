"""Points of the cube and models of moves: what each method promises, and the moments each model states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actors.risk.sampling import METHODS, Gaussian, JumpDiffusion, StudentT, factor_of, jumps_of, uniforms
from cluster.errors import InvalidMarketData, InvalidRequest

MEAN = np.array([0.001, -0.002, 0.0])
COVARIANCE = np.array([[4.0, 1.2, -0.4], [1.2, 1.0, 0.3], [-0.4, 0.3, 2.25]]) * 1e-4
MODELS = {
    "gaussian": Gaussian(MEAN, COVARIANCE),
    "student_t": StudentT(MEAN, COVARIANCE, 8.0),
    "jumps": JumpDiffusion(MEAN, COVARIANCE, 0.3, np.array([-0.03, -0.01, 0.02]), np.array([0.02, 0.0, 0.01])),
}


@pytest.mark.parametrize("method", METHODS)
def test_points_fill_the_open_cube_evenly_and_repeat_by_seed(method):
    points = uniforms(method, 1024, 3, seed=5)
    assert points.shape == (1024, 3)
    assert points.min() > 0
    assert points.max() < 1
    assert all(stats.kstest(points[:, j], "uniform").pvalue > 1e-4 for j in range(3))
    assert np.array_equal(points, uniforms(method, 1024, 3, seed=5))
    assert not np.array_equal(points, uniforms(method, 1024, 3, seed=6))


def test_antithetic_points_are_mirrored():
    points = uniforms("antithetic", 64, 2, seed=1)
    assert points[:32] + points[32:] == pytest.approx(np.ones((32, 2)))


@given(n=st.integers(1, 300), inputs=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_stratified_sample_has_one_point_in_every_stratum(n, inputs, seed):
    strata = np.floor(uniforms("stratified", n, inputs, seed) * n).astype(int)
    assert all(sorted(strata[:, j]) == list(range(n)) for j in range(inputs))


def test_a_sobol_net_has_one_point_in_every_elementary_interval():
    points = uniforms("sobol", 256, 2, seed=3)
    for power in range(9):
        cells = np.floor(points * [2**power, 2 ** (8 - power)]).astype(int)
        assert len({tuple(cell) for cell in cells}) == 256


@pytest.mark.parametrize(
    ("method", "n", "remedy"), [("sobol", 1000, "512 or 1024"), ("antithetic", 7, "8"), ("plain", 0, "at least one")]
)
def test_a_size_that_a_method_cannot_serve_is_refused_with_one_that_it_can(method, n, remedy):
    with pytest.raises(InvalidRequest, match=remedy):
        uniforms(method, n, 2, seed=0)


@pytest.mark.parametrize("kind", ["pca", "cholesky"])
def test_factor_squares_to_the_covariance(kind):
    root = factor_of(COVARIANCE, kind)
    assert root @ root.T == pytest.approx(COVARIANCE, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("kind", ["pca", "cholesky"])
def test_turned_factor_moves_the_direction_by_its_first_normal_alone(kind):
    direction = np.array([0.5, -2.0, 1.0])
    root = factor_of(COVARIANCE, kind, direction)
    assert root @ root.T == pytest.approx(COVARIANCE, rel=1e-12, abs=1e-18)
    along = root.T @ direction
    assert along[0] == pytest.approx(np.sqrt(direction @ COVARIANCE @ direction))
    assert along[1:] == pytest.approx([0.0, 0.0], abs=1e-15)


def test_principal_factor_puts_the_largest_component_first():
    scale = (factor_of(COVARIANCE) ** 2).sum(axis=0)
    assert (np.diff(scale) < 0).all()


@pytest.mark.parametrize(
    "wrong",
    [np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[1.0, 0.5], [0.4, 1.0]]), np.array([[1.0, np.nan], [np.nan, 1.0]])],
    ids=["indefinite", "asymmetric", "not finite"],
)
@pytest.mark.parametrize("kind", ["pca", "cholesky"])
def test_a_matrix_that_is_no_covariance_is_refused(wrong, kind):
    with pytest.raises(InvalidMarketData):
        factor_of(wrong, kind)


def test_a_singular_covariance_has_a_principal_factor():
    ones = np.ones((3, 3))
    assert factor_of(ones) @ factor_of(ones).T == pytest.approx(ones)


@pytest.mark.parametrize("name", ["gaussian", "student_t"])
def test_moves_have_the_mean_and_covariance_stated(name):
    model = MODELS[name]
    moves = model.transform(uniforms("sobol", 2**16, model.inputs, seed=2))
    assert moves.mean(axis=0) == pytest.approx(MEAN, abs=2e-5)
    assert np.cov(moves.T) == pytest.approx(COVARIANCE, rel=0.03, abs=4e-6)


def test_jumps_have_the_log_moments_stated():
    model = MODELS["jumps"]
    logs = np.log1p(model.transform(uniforms("sobol", 2**16, model.inputs, seed=2)))
    assert logs.mean(axis=0) == pytest.approx(model.log_mean, abs=2e-5)
    assert np.cov(logs.T) == pytest.approx(model.log_covariance, rel=0.02, abs=2e-6)


def test_margins_of_student_t_are_student_t():
    moves = MODELS["student_t"].transform(uniforms("plain", 20_000, 4, seed=9))
    scale = np.sqrt(COVARIANCE[0, 0] * 6 / 8)
    assert stats.kstest((moves[:, 0] - MEAN[0]) / scale, stats.t(8).cdf).pvalue > 1e-3


@pytest.mark.parametrize("intensity", [0.0, 0.05, 1.7, 40.0])
def test_jump_counts_are_poisson_and_the_smallest_uniforms_jump_most(intensity):
    points = (np.arange(100_000) + 0.5) / 100_000
    counts = jumps_of(points, intensity)
    assert (np.diff(counts) <= 0).all()
    for k in range(4):
        assert (counts == k).mean() == pytest.approx(stats.poisson.pmf(k, intensity), abs=2e-5)


def test_two_degrees_of_freedom_are_refused():
    with pytest.raises(InvalidMarketData, match="more than 2"):
        StudentT(MEAN, COVARIANCE, 2.0)
