"""Sizes by the corrected rules: no edge no position, no data no answer, never rounded up; rebalancing that pays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from actors.risk.covariance import ledoit_wolf
from actors.risk.portfolio import sizing
from actors.risk.portfolio.kernels import BoxMinimumVariance
from actors.risk.portfolio.rebalance import Costs, plan
from cluster.errors import InvalidRequest


def test_binary_kelly_maximises_expected_log_growth():
    p, b = 0.55, 1.4
    full = sizing.kelly_binary(p, b, fraction=1.0, cap=1.0)
    found = optimize.minimize_scalar(
        lambda f: -(p * math.log1p(f * b) + (1 - p) * math.log1p(-f)), bounds=(0, 0.9), method="bounded"
    )
    assert full == pytest.approx(found.x, abs=1e-5)


@given(st.floats(0, 1), st.floats(0.1, 10), st.floats(0.1, 5))
def test_a_quarter_of_kelly_never_passes_half_of_it_and_needs_an_edge(p, b, scale):
    full = max(0.0, p - (1 - p) / b)
    size = sizing.kelly_binary(p, b, scale=scale, cap=1.0)
    assert 0 <= size <= full / 2 + 1e-15
    assert (size == 0) == (full == 0)


def test_continuous_kelly_with_its_penalty_maximises_the_penalised_growth():
    mean, deviation, penalty = 0.05, 0.2, 2.0
    found = optimize.minimize_scalar(lambda f: -(f * mean - 0.5 * f**2 * deviation**2 - penalty * f**2 * deviation**2))
    assert sizing.kelly_continuous(mean, deviation, fraction=1.0, penalty=penalty) == pytest.approx(found.x)
    assert sizing.kelly_continuous(-0.01, deviation) == 0.0


def test_few_trades_prove_little():
    assert sizing.lower_win_probability(6, 10) < sizing.lower_win_probability(600, 1000) < 0.6
    assert sizing.lower_win_probability(0, 10) == 0.0
    bound = sizing.lower_win_probability(7, 10)
    assert stats.binom.sf(6, 10, bound) == pytest.approx(0.05)


def test_many_kelly_is_the_single_one_on_one_asset_and_refuses_a_free_lunch():
    assert sizing.kelly_many(np.array([0.05]), np.array([[0.04]])) == pytest.approx([0.25 * 0.05 / 0.04])
    with pytest.raises(InvalidRequest, match="singular"):
        sizing.kelly_many(np.array([0.1, 0.1]), np.ones((2, 2)))


@given(st.floats(-1e6, 1e6), st.floats(0.01, 1e4))
def test_lots_are_whole_and_never_rounded_up(units, lot):
    whole = sizing.whole_lots(units, lot)
    assert abs(whole) <= abs(units) * (1 + 1e-6) + 1e-9
    assert abs(units) - abs(whole) <= lot * (1 + 1e-6)
    assert whole / lot == pytest.approx(round(whole / lot), abs=1e-6)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: sizing.kelly_binary(0.5, 0.0),
        lambda: sizing.kelly_binary(1.2, 1.0),
        lambda: sizing.kelly_binary(math.nan, 1.0),
        lambda: sizing.kelly_continuous(0.1, 0.0),
        lambda: sizing.lower_win_probability(0, 0),
        lambda: sizing.volatility_target(0.0, 0.1),
        lambda: sizing.fixed_fraction(1e6, 0.01, 0.0),
        lambda: sizing.whole_lots(10, 0),
        lambda: sizing.kelly_many(np.array([np.nan]), np.eye(1)),
    ],
)
def test_missing_data_is_refused(ask):
    with pytest.raises(InvalidRequest):
        ask()


def test_volatility_target_and_fixed_fraction():
    assert sizing.volatility_target(0.2, 0.1) == pytest.approx(0.5)
    assert sizing.volatility_target(0.01, 0.1) == 2.0
    assert sizing.fixed_fraction(100_000, 0.01, 250.0) == pytest.approx(4.0)


NO_COST = Costs(np.zeros(2), np.zeros(2))
AIM, NOW = np.array([0.8, 0.2]), np.array([0.2, 0.8])
MEANS, COVARIANCE = np.array([0.10, 0.02]), np.diag([0.04, 0.01])
OPTIONS = {"aversion": 3.0, "holding_days": 63.0, "band": 0.001}


def test_what_costs_nothing_and_gains_is_traded_whole_and_what_loses_is_not():
    optimum = plan(NOW, np.array([0.6, 0.4]), MEANS, COVARIANCE, NO_COST, **OPTIONS)
    assert (optimum.trade, optimum.share) == (True, 1.0)
    worse = plan(np.array([0.6, 0.4]), NOW, MEANS, COVARIANCE, NO_COST, **OPTIONS)
    assert (worse.trade, worse.share) == (False, 0.0)


def test_cost_shortens_the_way_and_then_ends_it():
    shares = [
        plan(NOW, AIM, MEANS, COVARIANCE, Costs(np.full(2, spread), np.full(2, spread)), **OPTIONS).share
        for spread in (0.0, 0.002, 0.004, 0.05)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0.0
    assert plan(NOW, AIM, MEANS, COVARIANCE, NO_COST, **{**OPTIONS, "band": 1.0}).trade is False


def test_walking_forward_the_band_trades_less_and_serves_no_worse(snapshot):
    """Minimum variance of the past year, monthly from 2005 on, 20 basis points a trade; nothing looks ahead."""
    returns = snapshot.returns[-4500:]
    costs = Costs(np.full(20, 0.002), np.zeros(20))
    solver = BoxMinimumVariance(np.zeros(20), np.full(20, 0.2))

    def walk(band):
        weights, turnover, gains = np.full(20, 0.05), 0.0, []
        for day in range(500, len(returns) - 21, 21):
            covariance = ledoit_wolf(returns[day - 500 : day])[0] * 252
            aim = solver.solve(np.ascontiguousarray(covariance)).copy()
            advice = plan(weights, aim, np.zeros(20), covariance, costs, aversion=10.0, holding_days=63.0, band=band)
            share = advice.share if band is not None and band >= 0 else 1.0
            trades = share * (aim - weights)
            weights = weights + trades
            turnover += np.abs(trades).sum() / 2
            following = returns[day : day + 21] @ weights
            gains += list(following - np.r_[costs.of(trades), np.zeros(20)])
        gains = np.array(gains)
        return turnover, gains.mean() * 252 - 5.0 * gains.var() * 252

    naive, banded = walk(-1.0), walk(0.002)
    assert banded[0] < 0.5 * naive[0]
    assert banded[1] > naive[1] - 0.005
