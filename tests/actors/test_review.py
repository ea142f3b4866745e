"""What an adversarial review found wrong, each held by the case that showed it."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.liquidity import impact
from actors.risk.liquidity.settings import LiquiditySettings
from actors.risk.measures import compounded, horizon_returns
from actors.risk.sampling import fitted_degrees
from actors.risk.stress import scenarios
from actors.risk.stress.settings import StressSettings
from actors.risk.value_at_risk import coverage, estimators
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidPortfolio, InvalidRequest
from hive.messages.calculation import Parameters, Shock
from hive.messages.mandate import FundingFlow
from hive.messages.portfolio import Portfolio, Position, resolve


def value_at_risk(market, book, **parameters):
    settings = ValueAtRiskSettings()
    return estimators.estimate(estimators.rebuild(market, settings), book, Parameters(**parameters), settings)


def test_a_book_that_is_ruined_stays_ruined(market, book):
    """Eight times one symbol, two days of -30 %: -140 % after the first, and no profit from squaring it."""
    assert compounded(1 + np.array([-2.4, -2.4, 0.5])).tolist() == pytest.approx([-1.4, -1.4, -1.4])
    assert horizon_returns(np.array([0.1, -2.4, -2.4]), 2) == pytest.approx([1.1 * -1.4 - 1, -2.4])
    moves = np.full((40, 1), 0.001)
    moves[10:12] = -0.3
    held = book({"S0": 8.0})
    fallen = market(moves)
    window = (str(fallen.dates[9]), str(fallen.dates[11]))
    state = scenarios.rebuild(fallen, StressSettings())
    report, _ = scenarios.run(
        state, held, Parameters(windows=(window,), methods=("historical_window",)), StressSettings()
    )
    found = report.scenarios[-1]
    assert found.loss.value == pytest.approx(2.4)
    assert sum(found.contributions.values()) == pytest.approx(2.4)


def test_a_portfolio_of_another_currency_holds_positions_at_the_markets_prices():
    known = {"symbols": ("A", "EURUSD"), "currency": "USD", "last_prices": np.array([50.0, 1.1])}
    book = resolve(Portfolio.from_quantities({"A": 100.0}, currency="EUR"), **known)
    assert book.value == pytest.approx(5000 / 1.1)
    assert book.exchange == ("EURUSD",)
    explicit = Portfolio(positions=(Position("A", quantity=100.0, currency="USD"),), currency="EUR")
    assert resolve(explicit, **known).value == pytest.approx(5000 / 1.1)


@pytest.mark.parametrize("seed", range(5))
def test_a_pareto_tail_says_nothing_at_its_own_threshold(seed, market, book):
    losses = np.random.default_rng(seed).standard_t(4, 1000) * 0.01
    report, warnings, _ = value_at_risk(
        market(losses[:, None]), book({"S0": 1.0}), methods=("historical", "gpd"), confidences=(0.9,)
    )
    assert {estimate.method_label for estimate in report.estimates} == {"historical"}
    assert any("gpd" in note and "threshold" in note for note in warnings)


def test_nothing_simulated_falls_by_more_than_all_of_it(market, book):
    wild = np.random.default_rng(1).standard_t(3, (800, 1)) * 0.04
    held = market(wild.clip(-0.9))
    for method in ("mc_plain", "mc_stratified"):
        report, _, _ = value_at_risk(held, book({"S0": 1.0}), methods=(method,), horizon_days=250, confidences=(0.999,))
        assert all(estimate.value <= 1 + 1e-12 for estimate in report.estimates)


def test_cash_at_hand_meets_what_is_due(market, book):
    flows = (FundingFlow(0, outflow=5e4), FundingFlow(30, outflow=2e5))
    returns = np.random.default_rng(0).normal(0, 0.01, (300, 1))
    held = book({"S0": 0.1}, value=1e6, prices=[50.0], volumes=[1e6], funding=flows)
    settings = LiquiditySettings()
    report = impact.answer(impact.rebuild(market(returns), settings), held, Parameters(), settings)[0]
    assert [gap.gap.value for gap in report.funding] == [0.0, 0.0]
    assert report.survival_days is None


def test_normal_moves_of_symbols_that_repeat_each_other_have_no_fat_tails():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(1000, 4))
    z[:, 1] = 0.999 * z[:, 0] + np.sqrt(1 - 0.999**2) * z[:, 1]
    assert fitted_degrees(z) > 30
    assert fitted_degrees(np.column_stack([z, z[:, 0]])) > 30
    assert fitted_degrees(rng.normal(size=(10, 30))) > 15
    heavy = rng.normal(size=(2000, 4)) * np.sqrt(5 / rng.chisquare(5, 2000))[:, None]
    assert fitted_degrees(heavy) == pytest.approx(5, rel=0.2)


def test_a_position_that_is_not_held_has_no_share_of_the_variance(market, book):
    returns = np.random.default_rng(2).normal(0, 0.01, (80, 10))
    weights = {f"S{i}": 0.5 if i < 2 else 0.0 for i in range(10)}
    settings = StressSettings()
    report, _ = scenarios.run(
        scenarios.rebuild(market(returns), settings), book(weights), Parameters(methods=("sensitivity",)), settings
    )
    shares = {found.symbol: found.share.value for found in report.sensitivities}
    assert sum(shares.values()) == pytest.approx(1)
    assert max(abs(shares[f"S{i}"]) for i in range(2, 10)) < 1e-9


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_the_control_variate_is_not_always_below_the_truth(confidence, market, book):
    """A linear book under a normal law has a closed form: its interval must hold it most of the time."""
    returns = np.random.default_rng(7).normal(0, 0.01, (2000, 2))
    settings = ValueAtRiskSettings(mc_model="gaussian", mc_samples=4096)
    held, state = book({"S0": 0.5, "S1": 0.5}), estimators.rebuild(market(returns), ValueAtRiskSettings())
    inside = 0
    for seed in range(40):
        asked = Parameters(methods=("mc_control_variate", "gaussian"), confidences=(confidence,), seed=seed)
        report, _, _ = estimators.estimate(state, held, asked, settings)
        drawn, exact = (e for e in report.estimates if e.measure == "var")
        inside += drawn.lower <= exact.value <= drawn.upper
    assert inside >= 26


def test_christoffersen_has_no_opinion_where_every_day_is_an_exception():
    assert coverage.christoffersen(np.array([True, True])).statistic is None


@pytest.mark.parametrize(
    "fields",
    [
        {"mandate": {"bounds": [0, 1]}},
        {"mandate": {"groups": [1]}},
        {"mandate": {"risk_budgets": [1]}},
        {"mandate": {"views": 3}},
        {"mandate": {"views": [{"weights": [1], "annual_return": 0.1}]}},
        {"funding": 5},
        {"funding": None},
    ],
)
def test_fields_of_a_wrong_shape_are_refused_by_name(fields):
    with pytest.raises(InvalidPortfolio) as refusal:
        Portfolio.from_dict({"positions": [{"symbol": "A", "weight": 1.0}], **fields})
    assert refusal.value.remedy


@pytest.mark.parametrize(
    "fields", [{"given": "x"}, {"given": (1,)}, {"windows": (5,)}, {"methods": ([],)}, {"shocks": (1,)}]
)
def test_parameters_of_a_wrong_shape_are_refused_by_name(fields):
    with pytest.raises(InvalidRequest, match=next(iter(fields))):
        Parameters(**fields)
    with pytest.raises(InvalidRequest):
        Shock("s", ["x"])


def test_numbers_too_small_for_a_method_silence_that_method_alone(market, book):
    returns = np.random.default_rng(3).normal(0, 0.01, (400, 1))
    report, warnings, _ = value_at_risk(market(returns), book({"S0": 1e-160}), methods=("all",))
    assert "gaussian" in {estimate.method_label for estimate in report.estimates}
    assert warnings
