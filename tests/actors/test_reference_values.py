"""Reference values measured once with other libraries on the bundled prices, and every one of them checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from actors.risk.covariance import ledoit_wolf, mean_pair
from actors.risk.measures import gaussian, historical, historical_entropic, volatility
from actors.risk.portfolio.allocation import minimum_variance
from actors.risk.stress import scenarios
from actors.risk.stress.settings import StressSettings
from actors.risk.value_at_risk import estimators
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.messages.calculation import Parameters

ENTRIES = json.loads((Path(__file__).parent / "data" / "reference_values.json").read_text())["entries"]
WINDOWS = {start[:4]: (name, start, end) for name, start, end in scenarios.HISTORICAL_WINDOWS}
WORST_DAYS = ("2020-03-16", "2008-09-29", "2020-03-12", "2008-12-01", "2020-03-09")
TRADING_DAYS = 252  # a year, in the annualised reference


def _library(snapshot):
    return scenarios.rebuild(snapshot, StressSettings())


def _tail(method, position, confidence):
    return lambda snapshot, book: method(snapshot.returns @ book.weights, confidence)[position].value


def _window(year, read):
    def run(snapshot, book):
        columns = np.arange(len(book.symbols))
        return read(scenarios.historical_window(_library(snapshot), book, columns, *WINDOWS[year]))

    return run


def _correlation_from_first_date(year):
    """The reference was measured with the first date's own return, so the window starts a trading day earlier."""

    def run(snapshot, book):
        name, start, end = WINDOWS[year]
        earlier = snapshot.dates[np.searchsorted(snapshot.dates, np.datetime64(start)) - 1]
        window = (name, str(earlier), end)
        columns = np.arange(len(book.symbols))
        return scenarios.historical_window(_library(snapshot), book, columns, *window).mean_correlation

    return run


def _worst_day(date):
    def run(snapshot, book):
        settings = ValueAtRiskSettings(worst_days=len(WORST_DAYS))
        report, *_ = estimators.estimate(estimators.rebuild(snapshot, settings), book, Parameters(), settings)
        assert [day.date for day in report.worst_days] == list(WORST_DAYS)
        return next(day.loss for day in report.worst_days if day.date == date)

    return run


def _min_variance(snapshot, book):
    covariance = np.cov(snapshot.returns[-1260:].T)
    weights = minimum_variance(covariance)
    return float(np.sqrt(weights @ covariance @ weights * TRADING_DAYS))


CHECKS = {
    **{f"var_{c:.0f}": _tail(historical, 0, c / 100) for c in (95, 99)},
    **{f"cvar_{c:.0f}": _tail(historical, 1, c / 100) for c in (95, 99)},
    "evar_95": lambda snapshot, book: historical_entropic(snapshot.returns @ book.weights, 0.95).value,
    **{f"gaussian_var_{c:.0f}": _tail(gaussian, 0, c / 100) for c in (95, 99)},
    **{f"gaussian_cvar_{c:.0f}": _tail(gaussian, 1, c / 100) for c in (95, 99)},
    "volatility": lambda snapshot, book: volatility(snapshot.returns @ book.weights).value,
    "min_variance_annual_volatility": _min_variance,
    "ledoit_wolf_shrinkage_1260": lambda snapshot, book: ledoit_wolf(snapshot.returns[-1260:])[1],
    "mean_pair_correlation": lambda snapshot, book: mean_pair(np.corrcoef(snapshot.returns.T)),
    **{f"stress_{year}_book": _window(year, lambda scenario: scenario.loss.value) for year in WINDOWS},
    **{f"stress_{year}_index": _window(year, lambda scenario: scenario.benchmark_loss) for year in WINDOWS},
    **{f"stress_{year}_correlation_from_first_date": _correlation_from_first_date(year) for year in WINDOWS},
    **{f"worst_day_{date}": _worst_day(date) for date in WORST_DAYS},
}


def test_every_reference_value_has_a_check_and_a_source():
    assert set(CHECKS) == set(ENTRIES)
    assert all(entry["source"] and ("rel" in entry) != ("abs" in entry) for entry in ENTRIES.values())


@pytest.mark.parametrize("name", ENTRIES)
def test_measure_on_real_prices_equals_its_reference_value(name, snapshot, equal_book):
    entry = ENTRIES[name]
    tolerance = {"rel": entry["rel"], "abs": 0.0} if "rel" in entry else {"rel": 0.0, "abs": entry["abs"]}
    assert CHECKS[name](snapshot, equal_book) == pytest.approx(entry["value"], **tolerance)
