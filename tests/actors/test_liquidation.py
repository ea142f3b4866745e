"""Schedules against the paper's figures and a general solver; impact law, conditions, funding and the stress index."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from actors.risk.liquidity import impact, kernels
from actors.risk.liquidity.conditions import advice_of, score_of
from actors.risk.liquidity.funding import WEIGHTS
from actors.risk.liquidity.impact_fit import Fills, decay, fit_impact, impact_bps
from actors.risk.liquidity.schedules import Market, almgren_chriss, outcome, twap, vwap
from actors.risk.liquidity.settings import LiquiditySettings
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.messages.calculation import Parameters
from hive.messages.mandate import FundingFlow

PAPER = Market(deviation=0.95, spread_cost=0.0625, permanent=2.5e-7, temporary=2.5e-6)
SHARES = 1e6
SETTINGS = LiquiditySettings()


@pytest.mark.parametrize(
    ("aversion", "expected", "deviation", "utility", "holdings"),
    [
        (0.0, 662_500, 1_040_673, 662_500, [1000, 800, 600, 400, 200, 0]),
        (1e-6, 911_227, 603_431, 1_275_355.56, [1000, 542.0, 289.9, 147.9, 62.1, 0]),
        (2e-6, 1_140_715, 449_368, 1_544_578, [1000, 428.6, 182.9, 76.3, 27.6, 0]),
    ],
)
def test_example_of_almgren_and_chriss(aversion, expected, deviation, utility, holdings):
    """Almgren & Chriss (2000): X = 1e6, T = 5 days, N = 5, sigma 0.95, eps 0.0625, gamma 2.5e-7, eta 2.5e-6."""
    held = almgren_chriss(SHARES, PAPER, 5.0, 5, aversion)
    found = outcome(held, PAPER, 5.0)
    assert held / 1000 == pytest.approx(holdings, abs=0.05)
    assert found.expected == pytest.approx(expected, abs=0.6)
    assert math.sqrt(found.variance) == pytest.approx(deviation, abs=0.6)
    assert found.utility(aversion) == pytest.approx(utility, abs=0.6)


def test_even_and_immediate_selling_of_the_example():
    assert outcome(twap(SHARES, 5), PAPER, 5.0).utility(1e-6) == pytest.approx(1_745_500, rel=1e-6)
    at_once = np.array([SHARES, 0, 0, 0, 0, 0])
    assert outcome(at_once, PAPER, 5.0).utility(1e-6) == pytest.approx(2_562_500, rel=1e-6)


@given(st.floats(1e-8, 1e-4), st.integers(2, 12), st.floats(0.5, 20))
@settings(max_examples=30)
def test_trajectory_is_the_best_that_a_quadratic_program_finds(aversion, steps, days):
    held = almgren_chriss(1.0, PAPER, days, steps, aversion * 1e6)
    tau = days / steps
    eta = PAPER.temporary - PAPER.permanent * tau / 2
    difference = np.eye(steps, steps - 1) - np.eye(steps, steps - 1, k=-1)  # trades from inner holdings
    matrix = eta / tau * difference.T @ difference + aversion * 1e6 * PAPER.deviation**2 * tau * np.eye(steps - 1)
    start = np.zeros(steps)
    start[0] = -1.0
    inner = np.linalg.solve(matrix, -(eta / tau) * difference.T @ start)
    assert held[1:-1] == pytest.approx(np.abs(inner), abs=1e-8)
    assert held[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(held) <= 1e-12).all()


def test_no_aversion_sells_evenly_and_much_sells_at_once():
    assert almgren_chriss(10.0, PAPER, 5.0, 5, 0.0) == pytest.approx(twap(10.0, 5))
    assert almgren_chriss(10.0, PAPER, 5.0, 5, 1e9)[1] < 1e-6


def test_volume_profile_is_followed():
    assert vwap(100.0, np.array([1.0, 3.0, 0.0])) == pytest.approx([100, 75, 0, 0])
    for bad in (np.zeros(3), np.array([1.0, -1.0]), np.array([np.nan])):
        with pytest.raises(InvalidRequest):
            vwap(1.0, bad)


def test_impossible_markets_are_refused():
    with pytest.raises(InvalidRequest, match="smaller steps"):
        almgren_chriss(1.0, Market(1.0, 0.0, 1.0, 0.1), 10.0, 5, 1.0)
    with pytest.raises(InvalidRequest):
        Market(math.nan, 0.0, 0.0, 1.0)


def _fills(n, alpha=0.8, beta=0.55, tau0=600.0, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    volumes = rng.uniform(1e5, 1e7, n)
    quantities = volumes * 10 ** rng.uniform(-3, -0.7, n) * rng.choice([-1, 1], n)
    volatility, durations = rng.uniform(0.01, 0.03, n), 10 ** rng.uniform(1, 4, n)
    law = alpha * volatility * (np.abs(quantities) / volumes) ** beta * decay(durations, tau0) * 1e4
    return Fills(quantities, volumes, volatility, durations, law + rng.normal(0, noise, n))


def test_impact_law_is_recovered_from_its_fills_within_its_intervals():
    found = fit_impact(_fills(2000))
    for value, (low, high) in zip(
        (0.8, 0.55, 600.0), (found.alpha_interval, found.beta_interval, found.tau0_interval), strict=True
    ):
        assert low < value < high
    assert found.beta == pytest.approx(0.55, abs=0.05)
    assert found.residual_bps == pytest.approx(2.0, rel=0.1)


def test_intervals_of_the_impact_law_hold_the_truth_nineteen_times_of_twenty():
    inside = [low < 0.55 < high for low, high in (fit_impact(_fills(300, seed=s)).beta_interval for s in range(100))]
    assert 88 <= sum(inside) <= 100


def test_impact_falls_with_duration_and_needs_a_volume():
    law = {"alpha": 1.0, "beta": 0.5, "tau0": 600.0}
    impacts = [impact_bps(100, 1e4, 0.02, duration, **law) for duration in (0, 60, 600, 6000)]
    assert impacts == sorted(impacts, reverse=True)
    assert impacts[0] == pytest.approx(0.02 * 0.1 * 1e4)
    assert impact_bps(0, 1e4, 0.02, 60, **law) == 0.0
    with pytest.raises(InvalidMarketData, match="volume"):
        impact_bps(100, 0, 0.02, 60, **law)
    with pytest.raises(InvalidMarketData, match="30"):
        fit_impact(_fills(5))


@pytest.mark.parametrize(
    ("volume", "spread", "depth", "score", "advice"),
    [
        (1.0, 1.0, 1e6, 0.0, "NORMAL_TRADING"),
        (0.5, 2.0, 1e5, 0.0, "NORMAL_TRADING"),
        (0.1, 1.0, 1e6, 0.32, "LIMIT_ORDERS_ONLY"),
        (1.0, 4.0, 1e6, 0.4, "REDUCE_SIZE"),
        (1.0, 1.0, 0.0, 0.2, "AVOID_TRADING"),
        (0.0, 9.0, 0.0, 1.0, "AVOID_TRADING"),
        (math.nan, math.nan, 1e6, 0.8, "AVOID_TRADING"),
    ],
)
def test_conditions_score_ramps_and_vetoes(volume, spread, depth, score, advice):
    assert score_of(volume, spread, depth, 1e5) == pytest.approx(score)
    assert advice_of(score, volume, depth) == advice


ratios = st.floats(0, 5)


@given(ratios, ratios, st.floats(0, 2e5), st.floats(0, 1))
def test_worse_conditions_never_score_better(volume, spread, depth, worse):
    base = score_of(volume, spread, depth, 1e5)
    assert score_of(volume * worse, spread, depth, 1e5) >= base - 1e-12
    assert score_of(volume, spread * (1 + worse), depth, 1e5) >= base - 1e-12
    assert score_of(volume, spread, depth * worse, 1e5) >= base - 1e-12


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=80)
def test_compiled_assessment_is_its_plain_twin(seed, n):
    rng = np.random.default_rng(seed)
    table = rng.uniform(0, 2, (8, n))
    table[kernels.EXPOSURE] *= rng.choice([-1e5, 0, 1e5], n)
    table[kernels.VOLUME] *= 1e4
    table[rng.random((8, n)) < 0.2] = np.nan
    table[[kernels.EXPOSURE, kernels.VOLATILITY]] = np.nan_to_num(table[[kernels.EXPOSURE, kernels.VOLATILITY]])
    limits, answer = np.array([0.1, 1.0, 1.0, 10.0, 0.05, 1e6]), np.empty(4)
    assert kernels.assess_book(table, limits, answer) >= 0
    assert answer == pytest.approx(kernels.assess_book_plain(table, limits), rel=1e-9, abs=1e-12)


def test_compiled_assessment_refuses_what_is_not_finite():
    table = np.ones((8, 2))
    table[kernels.VOLATILITY, 1] = np.nan
    assert kernels.assess_book(table, np.ones(6), np.empty(4)) == -1


@pytest.fixture
def state(market):
    returns = np.random.default_rng(1).normal(0, [0.02, 0.01], (200, 2))
    return impact.rebuild(market(returns, symbols=("A", "B")), SETTINGS)


def ask(state, held, **options):
    return impact.answer(state, held, Parameters(), LiquiditySettings(**options))


def liquid(book, **fields):
    fields = {"value": 1e6, "prices": [10.0, 20.0], "volumes": [1e5, 1e5], "spreads": [1e-3, 1e-3], **fields}
    return book({"A": 0.6, "B": 0.4}, **fields)


def test_schedules_sell_everything_and_the_optimal_one_is_cheapest_for_its_aversion(state, book):
    report, _ = ask(state, liquid(book))
    by_label = {schedule.method_label: schedule for schedule in report.schedules}
    assert set(by_label) == {"twap", "participation", "almgren_chriss"}
    for schedule in report.schedules:
        assert schedule.remaining[0] == pytest.approx(1)
        assert schedule.remaining[-1] == pytest.approx(0, abs=1e-9)
        assert (np.diff(schedule.remaining) <= 1e-12).all()
        assert schedule.cost.lower <= schedule.cost.value <= schedule.cost.upper
    patient, _ = ask(state, liquid(book), schedule_risk_aversion=0.0)
    optimal = next(s for s in patient.schedules if s.method_label == "almgren_chriss")
    assert optimal.cost.value == pytest.approx(by_label["twap"].cost.value)
    assert by_label["almgren_chriss"].deviation.value < by_label["twap"].deviation.value


def test_liquidation_var_grows_with_the_days_that_selling_takes(state, book):
    def value(volumes):
        report, _ = ask(state, liquid(book, volumes=volumes))
        return next(e for e in report.estimates if e.measure == "liquidation_var" and e.confidence == 0.99)

    quick, slow = value([1e6, 1e6]), value([2e4, 2e4])
    assert quick.value < slow.value
    assert slow.lower < slow.value < slow.upper


def test_funding_gap_is_what_flows_and_sales_leave_open(state, book):
    flows = (FundingFlow(0, outflow=1e4), FundingFlow(7, outflow=5e5), FundingFlow(30, inflow=2e6))
    report, _ = ask(state, liquid(book, funding=flows))
    first, second, third = report.funding
    assert (first.tenor_days, first.gap.value, first.proceeds) == (0, 1e4, 0.0)
    assert report.survival_days == 0
    assert second.net_flow == pytest.approx(-5.1e5)
    assert third.gap.value == 0.0
    assert second.gap.value == pytest.approx(max(0.0, 5.1e5 - second.proceeds))


def test_stress_index_is_its_weighted_mean_and_names_its_state(state, book):
    calm, _ = ask(state, liquid(book, volumes=[1e7, 1e7]))
    assert calm.stress.state == "NORMAL"
    dry = liquid(book, volumes=[100.0, 100.0], recent_volumes=np.zeros(2), depths=np.zeros(2))
    stressed, warnings = ask(state, dry)
    assert stressed.stress.state == "STRESSED"
    weights = {name: WEIGHTS[name] for name in stressed.stress.components}
    known = sum(weights[n] * v for n, v in stressed.stress.components.items()) / sum(weights.values())
    assert stressed.stress.value == pytest.approx(known)
    assert any("larger than a whole day's volume" in warning for warning in warnings)
    assert {found.advice for found in stressed.conditions} == {"AVOID_TRADING"}


def test_a_schedule_of_many_positions_costs_what_a_general_solver_cannot_beat(state, book):
    """One position: no other split of the sale over the days has less cost + aversion x variance."""
    report, _ = ask(state, liquid(book, volumes=[1e5, np.nan]), schedule_days=5)
    held = next(s for s in report.schedules if s.method_label == "almgren_chriss").remaining * 6e5
    sigma = float(np.sqrt(np.cov(state.recent.T)[0, 0]))

    def utility(inner):
        path = np.concatenate([[6e5], inner, [0.0]])
        sold = -np.diff(path)
        eta = sigma * math.sqrt(0.1) / (0.1 * 1e6) - 0.314 * sigma / 1e6 / 2
        return eta * sold @ sold + 1e-6 * sigma**2 * path[1:] @ path[1:]

    best = optimize.minimize(utility, np.linspace(5e5, 1e5, len(held) - 2)).fun
    assert utility(held[1:-1]) == pytest.approx(best, rel=0.05)
