"""GARCH margins against published fits, the plain recursion, and simulated truth."""

from __future__ import annotations

import arch.data.sp500
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.garch import fit_garch
from cluster.errors import InvalidMarketData


def simulate(rng, days, *, mu=0.0, omega=2e-6, alpha=0.08, beta=0.9, shocks=None):
    """Returns of a GARCH(1,1), written as its definition."""
    shocks = rng.normal(size=days) if shocks is None else shocks
    variance, returns = omega / (1 - alpha - beta), []
    for shock in shocks:
        returns.append(mu + np.sqrt(variance) * shock)
        variance = omega + alpha * (returns[-1] - mu) ** 2 + beta * variance
    return np.array(returns)


@pytest.fixture(scope="module")
def sp500():
    """Daily returns of the index, 1999 to 2018, as arch ships them."""
    returns = arch.data.sp500.load()["Adj Close"].pct_change().dropna().to_numpy()
    returns.setflags(write=False)
    return returns


@pytest.fixture(scope="module")
def fitted(sp500):
    return fit_garch(sp500)


def test_index_has_the_published_parameters(sp500, fitted):
    """arch 8 on 100 times the returns: mu .056353, omega .017507, alpha .102150, beta .885206, llf -6936.718477."""
    assert fitted.mu * 100 == pytest.approx(0.056353, abs=2e-5)
    assert fitted.omega * 1e4 == pytest.approx(0.017507, abs=2e-5)
    assert fitted.alpha == pytest.approx(0.102150, abs=2e-5)
    assert fitted.beta == pytest.approx(0.885206, abs=2e-5)
    assert fitted.log_likelihood - len(sp500) * np.log(100) == pytest.approx(-6936.718477, abs=1e-4)
    assert fitted.converged
    assert fitted.degrees is None


def test_variances_follow_the_recursion_and_give_the_likelihood(sp500, fitted):
    shocks = sp500 - fitted.mu
    expected = fitted.omega + fitted.alpha * shocks[:-1] ** 2 + fitted.beta * fitted.variances[:-1]
    np.testing.assert_allclose(fitted.variances[1:], expected, rtol=1e-10)
    assert fitted.next_variance == pytest.approx(
        fitted.omega + fitted.alpha * shocks[-1] ** 2 + fitted.beta * fitted.variances[-1], rel=1e-12
    )
    np.testing.assert_allclose(fitted.residuals * np.sqrt(fitted.variances), shocks, rtol=1e-9, atol=1e-15)
    densities = -0.5 * (np.log(2 * np.pi * fitted.variances) + shocks**2 / fitted.variances)
    assert fitted.log_likelihood == pytest.approx(densities.sum(), rel=1e-12)


def test_student_shocks_fit_an_index_better_and_have_few_degrees(sp500, fitted):
    heavy = fit_garch(sp500, "t")
    assert heavy.log_likelihood > fitted.log_likelihood + 50
    assert 4 < heavy.degrees < 12


def test_truth_is_recovered_from_a_long_simulation():
    fit = fit_garch(simulate(np.random.default_rng(1), 20_000, mu=5e-4))
    assert fit.mu == pytest.approx(5e-4, abs=2e-4)
    assert fit.alpha == pytest.approx(0.08, abs=0.015)
    assert fit.beta == pytest.approx(0.9, abs=0.02)
    assert fit.residuals.var() == pytest.approx(1.0, abs=0.01)


@settings(max_examples=8, derandomize=True)
@given(seed=st.integers(0, 2**32), power=st.integers(-6, 3))
def test_fit_does_not_depend_on_the_unit_of_the_returns(seed, power):
    """Basis points, per cent or fractions: the same digits, so the same optimum."""
    returns = simulate(np.random.default_rng(seed), 600)
    unit = 10.0**power
    fit, scaled = fit_garch(returns), fit_garch(returns * unit)
    assert scaled.alpha == pytest.approx(fit.alpha, abs=1e-4)
    assert scaled.next_variance == pytest.approx(fit.next_variance * unit**2, rel=1e-3)
    assert scaled.log_likelihood == pytest.approx(fit.log_likelihood - 600 * np.log(unit), abs=1e-3)


@pytest.mark.parametrize(
    "returns",
    [
        np.zeros(500),
        np.full(500, 0.01),
        np.full(99, 0.01) * np.arange(99),
        np.array([0.01, np.nan] * 100),
        np.array([0.01, np.inf] * 100),
        np.ones((200, 2)),
    ],
    ids=["zero", "constant", "short", "nan", "infinite", "two series"],
)
def test_what_has_no_variance_to_model_is_refused(returns):
    with pytest.raises(InvalidMarketData):
        fit_garch(returns)


def test_series_that_trades_rarely_is_answered_or_refused_by_name():
    rng = np.random.default_rng(3)
    returns = np.where(rng.random(1000) < 0.02, rng.normal(0, 0.05, 1000), 0.0)
    fit = fit_garch(returns)
    assert np.isfinite(fit.residuals).all()
    assert (fit.variances > 0).all()


def test_input_is_left_alone_and_equal_inputs_have_equal_fits(sp500):
    assert fit_garch(sp500[-1000:]).residuals.tobytes() == fit_garch(sp500[-1000:]).residuals.tobytes()
