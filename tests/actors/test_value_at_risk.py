"""The value-at-risk report: its window, its order, its warnings and its worst days."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.measures import gaussian_measures, historical, historical_entropic
from actors.risk.value_at_risk import estimators
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData
from hive.messages.calculation import METHODS, Parameters, Role


def _estimate(snapshot, held, parameters=None, **fields):
    settings = ValueAtRiskSettings(**fields)
    return estimators.estimate(estimators.rebuild(snapshot, settings), held, parameters or Parameters(), settings)[:2]


@pytest.mark.parametrize(("window_days", "used"), [(0, 8312), (500, 500), (10_000, 8312)])
def test_report_rests_on_the_newest_days_of_the_window(snapshot, equal_book, equal_returns, window_days, used):
    report, _ = _estimate(snapshot, equal_book, window_days=window_days)
    assert {found.samples for found in report.estimates} == {used}
    recent = equal_returns[-used:]
    expected = [
        *(e for c in (0.95, 0.99) for e in (*historical(recent, c), historical_entropic(recent, c))),
        *(e for c in (0.95, 0.99) for e in gaussian_measures(recent, c)),
    ]
    for found, wanted in zip(report.estimates, expected, strict=True):
        assert (found.measure, found.method_label, found.confidence) == (
            wanted.measure,
            wanted.method_label,
            wanted.confidence,
        )
        assert found.value == pytest.approx(wanted.value, rel=1e-12)


def test_weights_follow_their_symbols_and_not_the_columns(market, book):
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.01, (300, 3)) * [1, 5, 25]
    report, _ = _estimate(market(returns, symbols=("A", "B", "C")), book({"C": -0.5, "A": 1.5}))
    wanted, _ = historical(1.5 * returns[:, 0] - 0.5 * returns[:, 2], 0.95)
    assert report.estimates[0].value == pytest.approx(wanted.value, rel=1e-12)


def test_worst_days_are_the_largest_losses_first_of_the_days_they_fell_on(market, book):
    report, _ = _estimate(market([[0.01], [-0.03], [0.02], [-0.05], [0.0]]), book({"S0": 1.0}), worst_days=3)
    listed = [(day.date, day.loss) for day in report.worst_days]
    assert listed == [("2020-01-05", 0.05), ("2020-01-03", 0.03), ("2020-01-06", 0.0)]


def test_worst_days_are_dated_inside_the_window(market, book):
    snapshot = market([[-0.9], [0.01], [-0.03], [0.02], [-0.05], [0.0]])
    report, _ = _estimate(snapshot, book({"S0": 1.0}), worst_days=2, window_days=4)
    assert [day.date for day in report.worst_days] == ["2020-01-06", "2020-01-04"]


def test_short_history_and_long_horizon_are_warned_of(market, book):
    snapshot = market(np.random.default_rng(1).normal(0, 0.01, (400, 1)))
    _, calm = _estimate(snapshot, book({"S0": 1.0}), Parameters(confidences=(0.95,)))
    _, thin = _estimate(snapshot, book({"S0": 1.0}), Parameters(confidences=(0.95, 0.99)))
    _, long = _estimate(snapshot, book({"S0": 1.0}), Parameters(confidences=(0.9,), horizon_days=20))
    assert calm == ()
    assert len(thin) == 1
    assert "0.99" in thin[0]
    assert len(long) == 2
    assert "overlap" in long[1]


def test_horizon_that_history_does_not_hold_is_refused(market, book):
    with pytest.raises(InvalidMarketData):
        _estimate(market(np.full((50, 1), 0.01)), book({"S0": 1.0}), Parameters(horizon_days=50))


def test_every_method_answers_when_all_are_asked(snapshot, equal_book):
    asked = Parameters(methods=("all",), confidences=(0.99,))
    settings = ValueAtRiskSettings(window_days=1000)
    report, warnings, fallbacks = estimators.estimate(
        estimators.rebuild(snapshot, settings), equal_book, asked, settings
    )
    assert {found.method_label for found in report.estimates} == set(METHODS[Role.VALUE_AT_RISK])
    assert fallbacks == ()
    assert all(": " in warning for warning in warnings if "EVaR" in warning)


def test_methods_asked_by_name_are_those_that_answer(snapshot, equal_book):
    report, _ = _estimate(snapshot, equal_book, Parameters(methods=("gpd", "student_t")), window_days=800)
    assert list(dict.fromkeys(found.method_label for found in report.estimates)) == ["student_t", "gpd"]
    assert report.decompositions == ()
    assert [use.limit_name for use in report.limits] == ["var", "cvar", "drawdown", "leverage", "concentration"]


def test_method_that_cannot_run_says_why_and_the_others_answer(market, book):
    snapshot = market(np.random.default_rng(2).normal(0, 0.01, (90, 1)))
    report, warnings = _estimate(
        snapshot, book({"S0": 1.0}), Parameters(methods=("historical", "filtered_historical", "gpd"))
    )
    assert {found.method_label for found in report.estimates} == {"historical"}
    assert sum(warning.startswith(("filtered_historical: ", "gpd: ")) for warning in warnings) == 2


def test_no_method_with_a_figure_is_an_error_that_names_them(market, book):
    snapshot = market(np.random.default_rng(2).normal(0, 0.01, (90, 1)))
    with pytest.raises(InvalidMarketData, match="gpd"):
        _estimate(snapshot, book({"S0": 1.0}), Parameters(methods=("gpd",)))


def test_book_of_one_asset_and_book_of_nothing_are_answered(market, book):
    snapshot = market(np.random.default_rng(3).normal(0, 0.01, (300, 2)))
    one, _ = _estimate(snapshot, book({"S0": 1.0}))
    assert one.decompositions[0].largest_share == pytest.approx(1)
    nothing, _ = _estimate(snapshot, book({"S0": 0.0, "S1": 0.0}))
    assert all(found.value == 0 for found in nothing.estimates)
    assert nothing.breaches == ()


def test_series_that_does_not_move_has_the_tail_of_its_drift(market, book):
    report, _ = _estimate(market(np.full((300, 1), -0.001)), book({"S0": 1.0}))
    assert {round(found.value, 12) for found in report.estimates} == {0.001}


def test_report_lists_the_breaches_of_its_book(snapshot, book):
    held = book(dict.fromkeys(snapshot.symbols, 0.15), value=70.0, peak_value=100.0)
    report, _ = _estimate(snapshot, held)
    assert [breach.limit_name for breach in report.breaches] == ["var", "cvar", "drawdown", "leverage"]
    assert {found.limit_name for found in report.limits if found.headroom is not None and found.headroom < 0} == {
        breach.limit_name for breach in report.breaches
    }


def test_limits_are_watched_at_one_day_and_95_percent_whatever_is_asked(snapshot, equal_book, equal_returns):
    report, _ = _estimate(snapshot, equal_book, Parameters(confidences=(0.99,), horizon_days=10))
    assert report.limits[0].value == historical(equal_returns, 0.95)[0].value


def test_report_of_default_methods_carries_both_decompositions_at_every_confidence(snapshot, equal_book):
    report, _ = _estimate(snapshot, equal_book, Parameters(horizon_days=5))
    assert [(found.method_label, found.confidence) for found in report.decompositions] == [
        *(("historical", 0.95), ("historical", 0.99), ("gaussian", 0.95), ("gaussian", 0.99)),
    ]
    assert report.symbols == equal_book.symbols
