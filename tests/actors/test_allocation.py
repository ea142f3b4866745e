"""Allocations: equal risk and least variance against closed forms, other solvers and optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from skfolio import RiskMeasure
from skfolio.moments import EmpiricalCovariance
from skfolio.optimization import MeanRisk, RiskBudgeting
from skfolio.prior import EmpiricalPrior

from actors.risk.covariance import ledoit_wolf
from actors.risk.portfolio import allocation
from actors.risk.portfolio.settings import PortfolioSettings
from cluster.errors import InvalidMarketData, InvalidPortfolio
from hive.messages.calculation import Parameters

DEFAULTS = PortfolioSettings()


@st.composite
def covariances(draw):
    """Positive definite, 1 to 12 symbols, correlations of either sign, volatilities up to twentyfold apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 12))
    loadings = rng.normal(size=(n, n + draw(st.integers(1, 20)))) + draw(st.floats(0, 1))
    scale = rng.uniform(0.005, 0.1, n)
    covariance = loadings @ loadings.T
    covariance += 0.1 * np.diag(np.diag(covariance))  # keeps every symbol some risk of its own
    covariance *= np.outer(scale, scale)
    covariance.setflags(write=False)
    return covariance


@pytest.fixture(scope="module")
def recent(snapshot):
    return snapshot.returns[-1260:]


@settings(max_examples=100)
@given(covariance=covariances())
def test_risk_parity_gives_every_symbol_the_same_share_of_variance(covariance):
    weights = allocation.risk_parity(covariance, DEFAULTS)
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    shares = weights * (covariance @ weights) / (weights @ covariance @ weights)
    assert np.abs(shares - 1 / len(weights)).max() < 1e-8


@settings(max_examples=20)
@given(covariance=covariances())
def test_risk_parity_equals_the_minimum_that_scipy_finds(covariance):
    n, scale = len(covariance), np.trace(covariance) / len(covariance)

    def objective(logs):
        x = np.exp(logs)
        return x @ covariance @ x / (2 * scale) - logs.sum() / n

    def gradient(logs):
        x = np.exp(logs)
        return x * (covariance @ x) / scale - 1 / n

    start = -0.5 * np.log(n * np.diag(covariance) / scale)
    x = np.exp(minimize(objective, start, jac=gradient, method="BFGS", options={"gtol": 1e-10}).x)
    np.testing.assert_allclose(allocation.risk_parity(covariance, DEFAULTS), x / x.sum(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.6])
def test_risk_parity_of_two_symbols_is_inverse_volatility(correlation):
    volatilities = np.array([0.01, 0.03])
    covariance = np.outer(volatilities, volatilities) * [[1, correlation], [correlation, 1]]
    np.testing.assert_allclose(allocation.risk_parity(covariance, DEFAULTS), [0.75, 0.25], rtol=0, atol=1e-8)


@pytest.mark.parametrize("correlation", [-0.995, -0.9999])
def test_risk_parity_of_a_nearly_perfect_hedge_converges(correlation):
    """A long against a short of its twin: the signed correlation is close to -1."""
    volatilities = np.array([0.01, 0.03])
    covariance = np.outer(volatilities, volatilities) * [[1, correlation], [correlation, 1]]
    np.testing.assert_allclose(allocation.risk_parity(covariance, DEFAULTS), [0.75, 0.25], rtol=0, atol=1e-6)


@pytest.mark.parametrize("correlation", [-0.2, 0.0, 0.5, 0.95])
def test_risk_parity_under_equal_correlations_is_inverse_volatility(correlation):
    volatilities = np.array([0.01, 0.02, 0.03, 0.08])
    covariance = np.outer(volatilities, volatilities) * (correlation + (1 - correlation) * np.eye(4))
    expected = (1 / volatilities) / (1 / volatilities).sum()
    np.testing.assert_allclose(allocation.risk_parity(covariance, DEFAULTS), expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(allocation.inverse_volatility(covariance), expected, rtol=1e-14)


def test_proposals_on_real_returns_agree_with_skfolio(recent):
    """Its solver stops at about 1e-5 in weights; the same covariance goes into both."""
    covariance = np.cov(recent.T)
    prior = EmpiricalPrior(covariance_estimator=EmpiricalCovariance())
    balanced = RiskBudgeting(risk_measure=RiskMeasure.VARIANCE, prior_estimator=prior).fit(recent)
    np.testing.assert_allclose(balanced.prior_estimator_.return_distribution_.covariance, covariance, rtol=1e-10)
    np.testing.assert_allclose(allocation.risk_parity(covariance, DEFAULTS), balanced.weights_, rtol=0, atol=1e-4)
    least = MeanRisk(risk_measure=RiskMeasure.VARIANCE, prior_estimator=prior).fit(recent)
    np.testing.assert_allclose(allocation.minimum_variance(covariance), least.weights_, rtol=0, atol=1e-4)


def test_minimum_variance_on_real_returns_is_not_beaten_by_scipy(recent):
    covariance = np.cov(recent.T)
    scaled = covariance / np.trace(covariance)
    found = minimize(
        lambda w: w @ scaled @ w,
        np.full(20, 0.05),
        jac=lambda w: 2 * scaled @ w,
        method="SLSQP",
        bounds=[(0, 1)] * 20,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    weights = allocation.minimum_variance(covariance)
    assert weights @ scaled @ weights <= found.fun * (1 + 1e-12)
    np.testing.assert_allclose(weights, found.x, rtol=0, atol=1e-5)


@settings(max_examples=100)
@given(covariance=covariances())
def test_minimum_variance_meets_the_optimality_conditions(covariance):
    """Every marginal variance is at least the book's, and equal to it wherever a weight is held."""
    weights = allocation.minimum_variance(covariance)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    variance = weights @ covariance @ weights
    slack = covariance @ weights / variance - 1
    assert slack.min() >= -1e-6
    assert np.abs(slack[weights > 1e-9]).max() <= 1e-6


@pytest.mark.parametrize(("correlation", "expected"), [(0.0, 0.9), (-0.5, 10.5 / 13), (1 / 3, 1.0), (0.9, 1.0)])
def test_minimum_variance_of_two_symbols_is_the_closed_form_cut_at_zero(correlation, expected):
    covariance = np.array([[1, 3 * correlation], [3 * correlation, 9]]) * 1e-4
    np.testing.assert_allclose(allocation.minimum_variance(covariance), [expected, 1 - expected], rtol=0, atol=1e-9)


def _propose(snapshot, held, settings=DEFAULTS):
    return allocation.propose(allocation.rebuild(snapshot, settings), held, Parameters(), settings)


def test_proposals_keep_signs_and_gross_exposure_of_a_long_short_book(snapshot, book):
    held = book({"JPM": 0.9, "BAC": -0.5, "XOM": 0.0, "AAPL": 0.6})
    report, _, fallbacks = _propose(snapshot, held)
    assert fallbacks == ()
    for proposal in report.proposals:
        assert (proposal.weights * held.weights >= 0).all()
        assert np.abs(proposal.weights).sum() == pytest.approx(2.0, abs=1e-12)
        assert proposal.weights[2] == 0.0
        assert proposal.risk_contributions.sum() == pytest.approx(1.0, abs=1e-12)
        assert proposal.turnover == pytest.approx(np.abs(proposal.weights - held.weights).sum() / 2)
    np.testing.assert_allclose(report.proposals[0].risk_contributions, [1 / 3, 1 / 3, 0, 1 / 3], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(report.current.weights, held.weights)
    assert report.current.turnover == 0.0


def test_minimum_variance_proposal_has_the_least_variance_of_the_three(snapshot, equal_book, recent):
    report, warnings, _ = _propose(snapshot, equal_book)
    covariance, _ = ledoit_wolf(recent)
    balanced, least = (proposal.weights for proposal in report.proposals)
    variances = [weights @ covariance @ weights for weights in (least, balanced, report.current.weights)]
    assert variances == sorted(variances)
    assert warnings == ()


def test_proposals_are_measured_on_the_whole_history(snapshot, equal_book):
    report, _, _ = _propose(snapshot, equal_book)
    for proposal in (report.current, *report.proposals):
        daily = snapshot.returns @ proposal.weights
        assert proposal.estimate("volatility").value == pytest.approx(daily.std(ddof=1), rel=1e-12)
        assert proposal.estimate("var", 0.95).value == pytest.approx(
            np.quantile(-daily, 0.95, method="inverted_cdf"), rel=1e-12
        )


def test_solver_stopped_too_early_falls_back_to_inverse_volatility_and_says_so(snapshot, equal_book, recent):
    impatient = PortfolioSettings(max_sweeps=1)
    report, _, fallbacks = _propose(snapshot, equal_book, impatient)
    covariance, _ = ledoit_wolf(recent)
    assert report.proposals[0].method_label == "inverse_volatility"
    np.testing.assert_allclose(report.proposals[0].weights, allocation.inverse_volatility(covariance), rtol=1e-12)
    assert len(fallbacks) == 1
    assert fallbacks[0].startswith("risk_parity")
    with pytest.raises(allocation.NotConverged):
        allocation.risk_parity(covariance, impatient)


def test_position_of_zero_weight_changes_no_proposal(snapshot, book):
    without, _, _ = _propose(snapshot, book({"JPM": 0.6, "BAC": 0.4}))
    beside, _, _ = _propose(snapshot, book({"JPM": 0.6, "AMD": 0.0, "BAC": 0.4}))
    for one, other in zip(without.proposals, beside.proposals, strict=True):
        np.testing.assert_allclose(other.weights, [one.weights[0], 0.0, one.weights[1]], rtol=0, atol=1e-8)


def test_book_of_zero_weights_is_refused(snapshot, book):
    with pytest.raises(InvalidPortfolio):
        _propose(snapshot, book({"JPM": 0.0, "BAC": 0.0}))


def test_book_whose_symbols_stand_still_is_refused_by_name(market, book):
    with pytest.raises(InvalidMarketData):
        _propose(market(np.zeros((100, 2))), book({"S0": 0.5, "S1": 0.5}))


def test_short_history_is_warned_of(market, book):
    returns = np.random.default_rng(0).normal(0, 0.01, (100, 2))
    _, warnings, _ = _propose(market(returns), book({"S0": 0.5, "S1": 0.5}))
    assert any("100 of 1260 days" in warning for warning in warnings)
