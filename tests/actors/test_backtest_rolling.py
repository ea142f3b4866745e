"""Rolling backtests: forecasts know no future, are those of the methods, and come back whole."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.measures import gaussian, historical
from actors.risk.value_at_risk import backtest as rolling
from actors.risk.value_at_risk import estimators
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.messages.calculation import Parameters
from hive.messages.codec import decode, encode, plain

SETTINGS = ValueAtRiskSettings()
WINDOW = 320
DAYS = 420


@pytest.fixture(scope="module")
def returns():
    rng = np.random.default_rng(0)
    calm = np.exp(np.cumsum(rng.normal(0, 0.05, (DAYS, 1))) * 0.3)[:, None]
    return 0.01 * calm * rng.standard_t(5, (DAYS, 2))


@pytest.fixture(scope="module")
def held(book):
    return book({"S0": 0.6, "S1": 0.4})


@pytest.fixture(scope="module")
def tested(market, returns, held):
    return rolling.backtest(market(returns), held, methods=rolling.METHODS, confidence=0.95, window_days=WINDOW, seed=5)


@pytest.mark.parametrize("method", rolling.METHODS)
def test_changed_future_changes_no_earlier_forecast(method, market, returns, held, tested):
    day = 57  # not a day of a refit
    changed = returns.copy()
    changed[WINDOW + day :] = -0.2
    found = rolling.backtest(
        market(changed), held, methods=(method,), confidence=0.95, window_days=WINDOW, seed=5
    ).models[0]
    before = tested.model(method)
    np.testing.assert_array_equal(found.var[: day + 1], before.var[: day + 1])
    np.testing.assert_array_equal(found.cvar[: day + 1], before.cvar[: day + 1])
    assert found.exceptions[day]
    if method != "gpd":
        assert (found.cvar[-1] != before.cvar[-1]).all()


@pytest.mark.parametrize("method", rolling.METHODS)
@pytest.mark.parametrize("day", [0, 40])
def test_forecast_of_a_refit_day_is_the_method_on_the_window_before(method, day, returns, held, tested):
    past = (returns @ held.weights)[day : day + WINDOW]
    outcome = estimators.BY_DAYS[method](past, Parameters(confidences=(0.95,)), SETTINGS)
    found = {estimate.measure: estimate.value for estimate in outcome.estimates}
    expected = tested.model(method).var[day], tested.model(method).cvar[day]
    assert (found["var"], found["cvar"]) == pytest.approx(expected, rel=1e-9)


def test_methods_without_a_fit_are_forecast_anew_every_day(returns, held, tested):
    daily = returns @ held.weights
    for day in (1, 33, 99):
        past = daily[day : day + WINDOW]
        for method, measured in (("historical", historical), ("gaussian", gaussian)):
            var, cvar = measured(past, 0.95)
            model = tested.model(method)
            assert (model.var[day], model.cvar[day]) == pytest.approx((var.value, cvar.value), rel=1e-10)


def test_filter_goes_on_filtering_between_fits(tested):
    assert len(np.unique(tested.model("filtered_historical").var)) > 90
    assert len(np.unique(tested.model("student_t").var)) == 5


def test_result_holds_every_day_with_its_return_and_its_exceptions(market, returns, held, tested):
    daily = (returns @ held.weights)[WINDOW:]
    assert tested.dates == tuple(str(day) for day in market(returns).dates[WINDOW:])
    np.testing.assert_allclose(tested.returns, daily, rtol=1e-12)
    assert tuple(model.method_label for model in tested.models) == rolling.METHODS
    for model in tested.models:
        np.testing.assert_array_equal(model.exceptions, -tested.returns > model.var)
        assert (model.cvar >= model.var).all()
        assert model.expected == pytest.approx(5.0)
        assert [test.name for test in model.tests] == [
            "kupiec",
            "christoffersen_independence",
            "conditional_coverage",
            "acerbi_szekely_z1",
            "acerbi_szekely_z2",
        ]
    assert len(tested.comparisons) == 2 * 21
    with pytest.raises(KeyError):
        tested.model("guess")


def test_result_is_a_message_and_the_same_every_time(market, returns, held, tested):
    assert decode(encode(tested)) == tested
    assert plain(tested)["models"][0]["var"][0] > 0
    again = rolling.backtest(
        market(returns), held, methods=rolling.METHODS, confidence=0.95, window_days=WINDOW, seed=5
    )
    assert again == tested


def test_progress_rises_to_the_whole(market, returns, held):
    seen = []
    rolling.backtest(
        market(returns),
        held,
        methods=("historical", "student_t"),
        window_days=WINDOW,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (200, 200)
    assert len(seen) > 5


def test_better_forecaster_of_changing_volatility_wins_on_real_prices(snapshot, equal_book):
    found = rolling.backtest(
        snapshot, equal_book, methods=("historical", "age_weighted", "gaussian"), confidence=0.99, window_days=500
    )
    scores = {model.method_label: model.fissler_ziegel for model in found.models}
    assert scores["age_weighted"] < scores["historical"] < scores["gaussian"]
    assert found.model("gaussian").tests[0].p_value < 1e-6
    assert found.model("historical").exceptions.sum() == 120
    first = next(c for c in found.comparisons if (c.first, c.second, c.loss) == ("historical", "gaussian", "pinball"))
    assert first.difference < 0
    assert first.p_value < 0.01


def test_method_that_cannot_forecast_is_left_out_and_the_others_answer(market, returns, held):
    found = rolling.backtest(market(returns), held, methods=("historical", "gpd"), window_days=200)
    assert [model.method_label for model in found.models] == ["historical"]
    assert "gpd" in found.warnings[0]
    with pytest.raises(InvalidMarketData, match="no method"):
        rolling.backtest(market(returns), held, methods=("gpd",), window_days=200)


def test_refit_that_fails_holds_the_last_fit_and_is_told(market, returns, held):
    still = returns.copy()
    still[60:] = 0.0
    found = rolling.backtest(market(still), held, methods=("student_t", "filtered_historical"), window_days=WINDOW)
    for model in found.models:
        assert model.fallbacks
        assert "the last fit is held" in model.fallbacks[-1]
        assert np.isfinite(model.var).all()


@pytest.mark.parametrize(
    "asked",
    [
        {"methods": ()},
        {"methods": ("historical", "historical")},
        {"methods": ("mc_plain",)},
        {"confidence": 0.05},
        {"confidence": 1.0},
        {"window_days": 20},
        {"refit_days": 0},
    ],
)
def test_impossible_request_is_refused(asked, market, returns, held):
    with pytest.raises(InvalidRequest):
        rolling.backtest(market(returns), held, **asked)


def test_tail_probability_is_answered_with_its_confidence(market, returns, held):
    with pytest.raises(InvalidRequest, match=r"its confidence is 0\.99"):
        rolling.backtest(market(returns), held, confidence=0.01)


def test_history_of_the_window_alone_leaves_nothing_to_test(market, returns, held):
    with pytest.raises(InvalidMarketData, match="none to test"):
        rolling.backtest(market(returns), held, window_days=DAYS)


def test_book_without_risk_is_forecast_without_exceptions(market, returns, book):
    found = rolling.backtest(market(returns), book({"S0": 0.0}), methods=("historical", "gaussian"), window_days=WINDOW)
    for model in found.models:
        assert not model.exceptions.any()
        assert model.fissler_ziegel is None
        assert model.pinball == 0
