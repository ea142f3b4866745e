"""Liquidity: numbers worked by hand, the laws they scale by, and what is never assumed."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.liquidity import impact
from actors.risk.liquidity.settings import LiquiditySettings
from actors.risk.liquidity.state import Volatilities

DEFAULTS = LiquiditySettings()
CALM = Volatilities(
    {"A": 0.02, "B": 0.01, "C": 0.03},
    observations=63,
    columns={"A": 0, "B": 1, "C": 2},
    recent=np.random.default_rng(0).normal(0, [0.02, 0.01, 0.03], (63, 3)),
    weekdays=None,
    as_of=np.datetime64("2022-12-28"),
)


def _estimate(report, measure, unit):
    return next(found for found in report.estimates if (found.measure, found.unit) == (measure, unit))


def _cost_fraction(book, value, **fields):
    held = book({"A": 0.5, "B": -0.5}, value=value, prices=[50, 20], volumes=[1e5, 4e5], **fields)
    return _estimate(impact.assess(CALM, held, DEFAULTS)[0], "liquidity_cost", "fraction")


def test_days_and_cost_equal_the_numbers_worked_by_hand(book):
    """500 000 of A are 10 000 units, a tenth of a day's volume; -250 000 of B are 12 500, a thirty-second of it."""
    held = book({"A": 0.5, "B": -0.25}, value=1e6, prices=[50, 20], volumes=[1e5, 4e5], spreads=[0.001, 0.002])
    report, warnings = impact.assess(CALM, held, DEFAULTS)
    a, b = report.positions
    assert (a.exposure, b.exposure) == (500_000, -250_000)
    assert a.participation_days == pytest.approx(0.1 / 0.1)
    assert b.participation_days == pytest.approx(0.03125 / 0.1)
    assert a.cost == pytest.approx(500_000 * (0.0005 + 0.02 * math.sqrt(0.1)))
    assert b.cost == pytest.approx(250_000 * (0.0010 + 0.01 * math.sqrt(0.03125)))
    money = _estimate(report, "liquidity_cost", "money")
    spreads = 500_000 * 0.0005 + 250_000 * 0.001
    assert money.value == pytest.approx(a.cost + b.cost)
    assert money.lower - spreads == pytest.approx(0.5 * (money.value - spreads))
    assert money.upper - spreads == pytest.approx(1.5 * (money.value - spreads))
    assert _estimate(report, "liquidity_cost", "fraction").value == pytest.approx(money.value / 1e6)
    assert _estimate(report, "days_to_liquidate", "days").value == pytest.approx(1.0)
    assert (report.covered, warnings) == (1.0, ())


def test_profile_of_two_positions_equals_the_numbers_worked_by_hand(book):
    """A takes 4 days and B 10; of A three quarters of the exposure."""
    held = book({"A": 0.75, "B": 0.25}, value=1e6, prices=[1, 1], volumes=[750_000 / 0.4, 250_000.0])
    report, _ = impact.assess(CALM, held, LiquiditySettings(profile_days=(1, 2, 4, 5, 10)))
    expected = {1: 0.75 / 4 + 0.025, 2: 0.75 / 2 + 0.05, 4: 0.75 + 0.1, 5: 0.75 + 0.125, 10: 1.0}
    assert dict(report.profile) == pytest.approx(expected)


@settings(max_examples=60)
@given(value=st.floats(1e3, 1e9), growth=st.floats(1.01, 1e3))
def test_larger_book_takes_longer_and_its_cost_grows_with_the_root_of_its_size(book, value, growth):
    def sizes(amount):
        held = book({"A": 0.5, "B": -0.5}, value=amount, prices=[50, 20], volumes=[1e5, 4e5])
        report, _ = impact.assess(CALM, held, DEFAULTS)
        return (
            _estimate(report, "days_to_liquidate", "days").value,
            _estimate(report, "liquidity_cost", "fraction").value,
            [share for _, share in report.profile],
        )

    (days, cost, profile), (more_days, more_cost, slower) = sizes(value), sizes(growth * value)
    assert more_days == pytest.approx(growth * days, rel=1e-9)
    assert more_cost == pytest.approx(math.sqrt(growth) * cost, rel=1e-9)
    assert all(late <= soon + 1e-12 for soon, late in zip(profile, slower, strict=True))


def test_spread_costs_the_same_fraction_at_every_size(book):
    for value in (1e4, 1e6, 1e8):
        wide, none = _cost_fraction(book, value, spreads=[0.01, 0.03]), _cost_fraction(book, value, spreads=[0, 0])
        assert wide.value - none.value == pytest.approx(0.5 * 0.005 + 0.5 * 0.015)


def test_cost_is_linear_in_the_coefficient_and_days_inverse_in_participation(book):
    held = book({"A": 1.0}, value=1e6, prices=[50], volumes=[1e5])
    base, _ = impact.assess(CALM, held, DEFAULTS)
    other, _ = impact.assess(CALM, held, LiquiditySettings(impact_coefficient=3.0, participation=0.05))
    assert other.positions[0].cost == pytest.approx(3 * base.positions[0].cost)
    assert other.positions[0].participation_days == pytest.approx(2 * base.positions[0].participation_days)


@settings(max_examples=60)
@given(
    weights=st.lists(st.floats(-1, 1).filter(lambda w: abs(w) > 1e-3), min_size=3, max_size=3),
    volumes=st.lists(st.floats(1e3, 1e7), min_size=3, max_size=3),
)
def test_profile_rises_with_time_and_reaches_one_at_the_slowest_position(book, weights, volumes):
    held = book(dict(zip("ABC", weights, strict=True)), value=1e6, prices=[10, 20, 30], volumes=volumes)
    slowest = _estimate(impact.assess(CALM, held, DEFAULTS)[0], "days_to_liquidate", "days").value
    last = math.ceil(slowest)
    spans = tuple(sorted({1, max(1, last // 3), max(1, last // 2), last, last + 1}))
    shares = [share for _, share in impact.assess(CALM, held, LiquiditySettings(profile_days=spans))[0].profile]
    assert all(0 < soon <= late + 1e-12 for soon, late in pairwise(shares))
    assert shares[-1] == pytest.approx(1.0, abs=1e-12)
    if slowest > 1.001:
        assert shares[0] < 1.0


@pytest.mark.parametrize("gap", ["volume", "price"])
def test_position_of_unknown_volume_or_price_is_listed_and_nothing_is_assumed_for_it(book, gap):
    prices, volumes = [50, math.nan if gap == "price" else 20], [1e5, math.nan if gap == "volume" else 4e5]
    held = book({"A": 0.5, "B": -0.3}, value=1e6, prices=prices, volumes=volumes, spreads=[0.001, 0.002])
    report, warnings = impact.assess(CALM, held, DEFAULTS)
    alone, _ = impact.assess(CALM, book({"A": 0.5}, value=1e6, prices=[50], volumes=[1e5], spreads=[0.001]), DEFAULTS)
    unknown = report.positions[1]
    assert (unknown.exposure, unknown.participation_days, unknown.cost) == (-300_000, None, None)
    assert unknown.note
    assert any("known for B" in warning for warning in warnings)
    assert report.covered == pytest.approx(0.5 / 0.8)
    assert report.estimates == alone.estimates
    assert report.profile == alone.profile


def test_book_without_any_volume_has_no_estimate(book):
    report, warnings = impact.assess(CALM, book({"A": 1.0}, value=1e6, prices=[50]), DEFAULTS)
    assert (report.covered, report.estimates, report.profile) == (0.0, (), ())
    assert len(warnings) == 1


@pytest.mark.parametrize("volume", [0.0, -100.0])
def test_volume_that_is_not_positive_counts_as_unknown(book, volume):
    held = book({"A": 0.5, "B": 0.5}, value=1e6, prices=[50, 20], volumes=[1e5, volume])
    report, warnings = impact.assess(CALM, held, DEFAULTS)
    assert report.positions[1].cost is None
    assert all(math.isfinite(found.value) for found in report.estimates)
    assert any("B" in warning for warning in warnings)


def test_book_without_value_is_not_estimated_and_says_why(book):
    report, warnings = impact.assess(CALM, book({"A": 1.0}, prices=[50], volumes=[1e5]), DEFAULTS)
    assert (report.covered, report.estimates, report.profile) == (0.0, (), ())
    assert report.positions[0].cost is None
    assert "value" in warnings[0]


def test_missing_spread_is_warned_of_and_costs_impact_alone(book):
    held = book({"A": 0.5, "B": 0.5}, value=1e6, prices=[50, 20], volumes=[1e5, 4e5], spreads=[0.001, math.nan])
    report, warnings = impact.assess(CALM, held, DEFAULTS)
    assert report.positions[1].cost == pytest.approx(500_000 * 0.01 * math.sqrt(25_000 / 4e5))
    assert [warning for warning in warnings if "spread" in warning] == [
        "no spread is stated for B: its cost is impact alone"
    ]


def test_position_of_zero_weight_sells_at_once_for_nothing_whatever_is_unknown(book):
    held = book({"A": 1.0, "B": 0.0}, value=1e6, prices=[50, math.nan], volumes=[1e5, math.nan], spreads=[0, math.nan])
    report, warnings = impact.assess(CALM, held, DEFAULTS)
    nothing = report.positions[1]
    assert (nothing.exposure, nothing.participation_days, nothing.cost) == (0.0, 0.0, 0.0)
    assert (report.covered, warnings) == (1.0, ())


def test_volatility_is_the_sample_deviation_of_the_newest_days(snapshot):
    state = impact.rebuild(snapshot, DEFAULTS)
    for column, symbol in enumerate(snapshot.symbols):
        assert state.daily[symbol] == pytest.approx(np.std(snapshot.returns[-63:, column], ddof=1), rel=1e-12)


def test_cost_counts_the_days_its_volatility_rests_on(market, book):
    """Forty days of history are forty samples, whatever the setting would like to have."""
    state = impact.rebuild(market(np.random.default_rng(0).normal(0, 0.01, (40, 1))), DEFAULTS)
    report, _ = impact.assess(state, book({"S0": 1.0}, value=1e6, prices=[50], volumes=[1e5]), DEFAULTS)
    assert _estimate(report, "liquidity_cost", "money").samples == 40
