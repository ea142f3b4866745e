"""Simulated VaR of books whose VaR is known, by every method; amplitude estimation against what it enumerates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from actors.risk.covariance import ledoit_wolf
from actors.risk.measures import tail
from actors.risk.sampling import fitted_degrees
from actors.risk.value_at_risk import amplitude, monte_carlo
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.messages.calculation import Parameters

NORMAL = ValueAtRiskSettings(mc_model="gaussian", mc_samples=2**15)
PARAMETERS = Parameters(seed=5)


@pytest.fixture(scope="module")
def moves(snapshot):
    return snapshot.returns[-1000:, :5]


@pytest.fixture(scope="module")
def mixed(book):
    return book({"A": 0.5, "B": -0.2, "C": 0.3, "D": 0.2, "E": 0.2})


@pytest.mark.parametrize("horizon", [1, 10])
@pytest.mark.parametrize("method", monte_carlo.METHODS)
def test_normal_moves_of_a_linear_book_give_its_closed_form(method, horizon, moves, mixed):
    parameters = replace(PARAMETERS, horizon_days=horizon)
    covariance, _ = ledoit_wolf(moves)
    deviation = math.sqrt(mixed.weights @ covariance @ mixed.weights * horizon)
    mean = float(moves.mean(axis=0) @ mixed.weights) * horizon
    for found in monte_carlo.estimate(mixed, moves, method, parameters, NORMAL).estimates:
        z = stats.norm.ppf(found.confidence)
        factor = z if found.measure == "var" else stats.norm.pdf(z) / (1 - found.confidence)
        known = deviation * factor - mean
        # Four standard errors: the interval spans about four of them, two on either side.
        assert abs(found.value - known) < max(found.upper - found.lower, 0.004 * known)
        assert found.method_label == (method if horizon == 1 else f"{method}_sqrt_time")
        assert found.lower < found.value < found.upper


@pytest.mark.parametrize("method", monte_carlo.METHODS)
def test_all_methods_agree_on_a_convex_book_with_heavy_tails(method, moves, book):
    convex = book(dict.fromkeys("ABCDE", 0.2), gammas=[-30.0, 20.0, -10.0, 0.0, -20.0])
    settings = ValueAtRiskSettings(mc_samples=2**15)
    reference = monte_carlo.estimate(convex, moves, "mc_plain", PARAMETERS, replace(settings, mc_samples=2**20))
    found = monte_carlo.estimate(convex, moves, method, PARAMETERS, settings)
    for ours, known in zip(found.estimates, reference.estimates, strict=True):
        error = math.hypot(ours.upper - ours.lower, known.upper - known.lower) / 4
        assert abs(ours.value - known.value) < 4 * error


def test_plain_simulation_of_a_foreign_book_compounds_the_exchange_rate(snapshot, book):
    foreign = book({"A": 0.6, "B": 0.4}, exchange=("EURUSD", ""), exchange_powers=np.array([1.0, 0.0]))
    moves = snapshot.returns[-1000:, :3]
    fitted = monte_carlo.fit(foreign, moves, 1, "gaussian")
    assert fitted.delta == pytest.approx([0.6, 0.4, 0.6])
    deviation = math.sqrt(fitted.delta @ fitted.covariance @ fitted.delta)
    var = monte_carlo.estimate(foreign, moves, "mc_plain", PARAMETERS, NORMAL).estimates[0]
    assert var.value == pytest.approx(1.645 * deviation - fitted.delta @ fitted.mean, rel=0.03)


def test_degrees_of_freedom_are_recovered():
    rng = np.random.default_rng(2)
    covariance = np.array([[4.0, 1.0], [1.0, 2.0]]) * 1e-4
    z = rng.multivariate_normal([0, 0], covariance * (3 / 5), 20_000) / np.sqrt(rng.chisquare(5, 20_000) / 5)[:, None]
    assert fitted_degrees(z) == pytest.approx(5, rel=0.06)
    normal = rng.multivariate_normal([0, 0], covariance, 20_000)
    assert fitted_degrees(normal) > 60


def test_samples_that_make_no_net_are_refused_with_the_settings_to_change(moves, mixed):
    settings = ValueAtRiskSettings(mc_samples=10_000)
    with pytest.raises(InvalidRequest, match="powers of two"):
        monte_carlo.estimate(mixed, moves, "qmc_sobol", PARAMETERS, settings)


def test_same_seed_has_the_same_bits(moves, mixed):
    for method in monte_carlo.METHODS:
        first, again = (monte_carlo.estimate(mixed, moves, method, PARAMETERS, NORMAL) for _ in range(2))
        other = monte_carlo.estimate(mixed, moves, method, replace(PARAMETERS, seed=6), NORMAL)
        assert first.estimates == again.estimates
        assert first.estimates != other.estimates


def test_a_book_without_risk_has_no_control(moves, book):
    with pytest.raises(InvalidMarketData):
        monte_carlo.estimate(book(dict.fromkeys("ABCDE", 0.0)), moves, "mc_control_variate", PARAMETERS, NORMAL)


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_amplified_var_is_the_bin_of_the_exact_one(confidence, equal_returns):
    found = amplitude.amplified_var(-equal_returns, confidence, seed=1)
    width = float(np.ptp(equal_returns)) / 2**8
    assert found.exact == pytest.approx(tail(-equal_returns, confidence)[0], abs=width)
    assert found.lower <= found.var <= found.upper
    assert found.lower <= found.exact <= found.upper
    assert found.amplified_error < found.plain_error


def test_amplitude_estimation_errs_as_its_fisher_information_says():
    amplitudes = np.sqrt(np.array([0.5, 0.2, 0.2, 0.07, 0.03]))
    rng = np.random.default_rng(3)
    runs = [amplitude._probability(amplitudes, 3, (0, 1, 2, 4, 8, 16), 100, rng) for _ in range(300)]
    values, errors = np.array(runs).T
    assert values.mean() == pytest.approx(0.1, abs=4 * errors.mean() / math.sqrt(300))
    assert values.std() == pytest.approx(errors.mean(), rel=0.25)


def test_a_state_too_large_to_simulate_is_refused():
    with pytest.raises(InvalidRequest, match="2 to 16"):
        amplitude.amplified_var(np.zeros(10), 0.95, 0, qubits=40)
