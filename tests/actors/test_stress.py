"""Stress: windows against a plain loop over days, shocks by hand, betas and their errors by the textbook formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.measures import Z_INTERVAL
from actors.risk.stress import scenarios
from actors.risk.stress.settings import StressSettings
from cluster.errors import InvalidRequest
from hive.market.snapshot import FactorPanel
from hive.messages.calculation import Parameters, Shock

DAYS = 30  # of the small market: returns on 2020-01-02 to 2020-01-31, after the close of 2020-01-01


@pytest.fixture(scope="module")
def small(market):
    rng = np.random.default_rng(3)
    return market(
        rng.normal(0, 0.03, (DAYS, 3)),
        symbols=("A", "B", "C"),
        index_name="IDX",
        index_returns=rng.normal(0, 0.01, DAYS),
    )


def _library(snapshot):
    return scenarios.rebuild(snapshot, StressSettings())


def _window(snapshot, book, start, end):
    columns = np.array([snapshot.symbols.index(symbol) for symbol in book.symbols])
    return scenarios.historical_window(_library(snapshot), book, columns, "window", start, end)


def _loop(snapshot, book, start, end):
    """Loss, contributions and index loss, a day and a position at a time."""
    value, index, lost = 1.0, 1.0, dict.fromkeys(book.symbols, 0.0)
    for row, date in enumerate(snapshot.dates):
        if not start < str(date) <= end:
            continue
        before = value
        for symbol, weight in zip(book.symbols, book.weights, strict=True):
            gain = before * weight * snapshot.returns[row, snapshot.symbols.index(symbol)]
            lost[symbol] -= gain
            value += gain
        index *= 1 + snapshot.index_returns[row]
    return 1 - value, lost, 1 - index


@settings(max_examples=60)
@given(
    weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    bounds=st.lists(st.integers(0, DAYS), min_size=2, max_size=2, unique=True).map(sorted),
)
def test_window_equals_a_loop_over_its_days_and_its_contributions_sum_to_the_loss(small, book, weights, bounds):
    held = book(dict(zip("CAB", weights, strict=True)))  # in another order than the market's
    start, end = (str(np.datetime64("2020-01-01") + day) for day in bounds)
    found = _window(small, held, start, end)
    loss, lost, index = _loop(small, held, start, end)
    assert found.loss.value == pytest.approx(loss, abs=1e-12)
    assert found.contributions == pytest.approx(lost, abs=1e-12)
    assert sum(found.contributions.values()) == pytest.approx(found.loss.value, abs=1e-12)
    assert found.benchmark_loss == pytest.approx(index, abs=1e-12)
    assert found.loss.samples == bounds[1] - bounds[0]


def test_real_window_equals_a_loop_over_its_days(snapshot, equal_book):
    for _, start, end in scenarios.HISTORICAL_WINDOWS:
        found = _window(snapshot, equal_book, start, end)
        loss, lost, index = _loop(snapshot, equal_book, start, end)
        assert (found.loss.value, found.benchmark_loss) == pytest.approx((loss, index), abs=1e-12)
        assert found.contributions == pytest.approx(lost, abs=1e-12)


def test_return_of_the_first_date_is_not_part_of_the_window(small, book):
    found = _window(small, book({"A": 1.0}), "2020-01-10", "2020-01-11")
    assert found.loss.value == pytest.approx(-small.returns[9, 0], abs=1e-15)
    assert small.dates[9] == np.datetime64("2020-01-11")


def test_window_from_the_first_close_to_the_last_covers_every_day(small, book):
    assert _window(small, book({"A": 1.0}), "2020-01-01", "2020-01-31").loss.samples == DAYS


@pytest.mark.parametrize("window", [("2019-12-31", "2020-01-31"), ("2020-01-01", "2020-02-01")])
def test_window_a_day_beyond_the_snapshot_is_reported_and_not_run(small, book, window):
    report, warnings = scenarios.run(_library(small), book({"A": 1.0}), Parameters(windows=(window,)), StressSettings())
    reported = next(scenario for scenario in report.scenarios if scenario.name == " to ".join(window))
    assert (reported.loss, reported.contributions) == (None, {})
    assert "outside the snapshot" in reported.note
    assert any(reported.name in warning for warning in warnings)
    assert len(report.scenarios) == 5 + 1 + 3 + 2  # the library's windows are uncovered too, and none is dropped


def test_window_between_two_trading_days_is_reported_as_empty(market, book):
    dates = np.array(["2020-01-03", "2020-01-06"], dtype="datetime64[D]")
    weekend = market([[0.01], [0.02]], dates=dates, base_date="2020-01-02")
    found = _window(weekend, book({"S0": 1.0}), "2020-01-04", "2020-01-05")
    assert (found.loss, found.note) == (None, "holds no trading day")


@pytest.mark.parametrize(("start", "end"), [("2020-01-20", "2020-01-10"), ("2020-01-10", "2020-01-10")])
def test_window_that_runs_backwards_is_refused(start, end):
    with pytest.raises(InvalidRequest, match="backwards"):
        Parameters(windows=((start, end),))


@pytest.mark.parametrize(
    "nonsense", ["", "x", "NaT", "2020-02-30", "2020-13-01", "01/02/2020", "2020", "20200110", "now", "today"]
)
@pytest.mark.parametrize("place", [0, 1])
def test_text_that_is_no_iso_date_is_refused(nonsense, place):
    window = ["2020-01-05", "2020-01-20"]
    window[place] = nonsense
    with pytest.raises(InvalidRequest, match="no pair of dates"):
        Parameters(windows=(tuple(window),))


@pytest.mark.parametrize("window", [("2020-01-05",), ("2020-01-05", "2020-01-10", "2020-01-20")])
def test_window_without_exactly_two_dates_is_refused(window):
    with pytest.raises(InvalidRequest, match="no pair of dates"):
        Parameters(windows=(window,))


def test_shock_moves_the_named_symbol_and_the_star_moves_the_rest(book):
    held = book({"A": 0.5, "B": 0.7, "C": -0.2})
    found = scenarios.hypothetical(held, Shock("mixed", {"A": -0.3, "*": -0.1}))
    assert found.contributions == pytest.approx({"A": 0.15, "B": 0.07, "C": -0.02})
    assert found.loss.value == pytest.approx(0.20)
    alone = scenarios.hypothetical(held, Shock("one", {"B": -0.5}))
    assert alone.contributions == pytest.approx({"A": 0.0, "B": 0.35, "C": 0.0})


def test_shock_of_a_symbol_the_book_does_not_hold_is_refused(book):
    with pytest.raises(InvalidRequest, match="ZZZ"):
        scenarios.hypothetical(book({"A": 1.0}), Shock("stranger", {"A": -0.1, "ZZZ": -0.5}))


def test_short_book_gains_when_everything_falls(small, book):
    report, _ = scenarios.run(
        _library(small),
        book({"A": -0.4, "B": -0.6}),
        Parameters(),
        StressSettings(market_moves=(-0.1,)),
    )
    fall = next(scenario for scenario in report.scenarios if scenario.kind == "hypothetical")
    assert fall.loss.value == pytest.approx(-0.1)


@settings(max_examples=50)
@given(
    weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3).filter(lambda w: max(map(abs, w)) > 0.01),
    move=st.floats(-0.5, 0.5),
    seed=st.integers(0, 2**32),
)
def test_index_shock_is_the_least_squares_beta_with_its_robust_error(market, book, weights, move, seed):
    rng = np.random.default_rng(seed)
    factor = rng.normal(0.0004, 0.01, 120)
    noise = rng.normal(size=(120, 3)) * (0.002 + np.abs(factor[:, None]))  # heteroscedastic on purpose
    returns = factor[:, None] * [0.5, 1.0, 1.5] + noise
    state = _library(market(returns, index_name="IDX", index_returns=factor))
    held = book(dict(zip(("S0", "S1", "S2"), weights, strict=True)))
    (found,) = scenarios.factor_shocks(state, held, np.arange(3), StressSettings(index_moves=(move,)))

    design = np.column_stack([np.ones(120), factor])
    observed = returns @ held.weights
    slope = np.linalg.lstsq(design, observed, rcond=None)[0]
    residual = observed - design @ slope
    bread = np.linalg.inv(design.T @ design)
    sandwich = bread @ (design.T * residual**2) @ design @ bread
    half = Z_INTERVAL * np.sqrt(sandwich[1, 1]) * abs(move)
    assert found.loss.value == pytest.approx(-slope[1] * move, abs=1e-10)
    assert found.loss.upper - found.loss.value == pytest.approx(half, rel=1e-6, abs=1e-10)
    assert found.loss.value - found.loss.lower == pytest.approx(half, rel=1e-6, abs=1e-10)
    assert sum(found.contributions.values()) == pytest.approx(found.loss.value, abs=1e-12)


def test_factor_shock_is_linear_in_the_move(snapshot, equal_book):
    state = _library(snapshot)
    moves = (-0.1, -0.2, 0.1)
    found = scenarios.factor_shocks(state, equal_book, np.arange(20), StressSettings(index_moves=moves))[:3]
    one, two, up = (scenario.loss for scenario in found)
    assert two.value == pytest.approx(2 * one.value, rel=1e-12)
    assert up.value == pytest.approx(-one.value, rel=1e-12)
    assert two.upper - two.lower == pytest.approx(2 * (one.upper - one.lower), rel=1e-12)
    assert up.lower < up.upper


def test_factors_are_regressed_on_the_days_they_share_with_the_book(market, book):
    rng = np.random.default_rng(5)
    returns = rng.normal(0, 0.01, (100, 2))
    base = market(returns)
    kept = np.arange(20, 100, 2)
    strange = np.array(["2019-06-01", "2019-06-02"], dtype="datetime64[D]")  # before the book's first day
    series = np.concatenate([rng.normal(0, 0.01, 2), 0.5 * returns[kept, 0] + rng.normal(0, 0.001, len(kept))])
    panel = FactorPanel(("F",), np.concatenate([strange, base.dates[kept]]), series[:, None])
    settings = StressSettings(min_regression_days=len(kept))
    state = _library(market(returns, factors=panel))
    (found,) = scenarios.factor_shocks(state, book({"S0": 1.0}), np.array([0]), settings)
    assert found.loss.samples == len(kept)
    assert found.loss.value == pytest.approx(0.1 * np.polyfit(series[2:], returns[kept, 0], 1)[0], rel=1e-10)
    few = StressSettings(min_regression_days=len(kept) + 1)
    (refused,) = scenarios.factor_shocks(state, book({"S0": 1.0}), np.array([0]), few)
    assert refused.loss is None
    assert "fewer than" in refused.note


@pytest.mark.parametrize("level", [0.0, 0.001])
def test_factor_that_does_not_move_gives_no_beta(market, book, level):
    returns = np.random.default_rng(6).normal(0, 0.01, (100, 2))
    state = _library(market(returns, index_name="IDX", index_returns=np.full(100, level)))
    (found,) = scenarios.factor_shocks(state, book({"S0": 1.0}), np.array([0]), StressSettings(index_moves=(-0.1,)))
    assert (found.loss, found.note) == (None, "the factor does not move")


def test_library_on_the_bundled_market_runs_whole(snapshot, equal_book):
    report, warnings = scenarios.run(_library(snapshot), equal_book, Parameters(), StressSettings())
    assert warnings == ()
    assert len(report.all_estimates()) == 5 + 3 + 2 + 5
    assert report.worst.loss.value == max(estimate.value for estimate in report.all_estimates())
