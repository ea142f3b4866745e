"""Correlation: the bootstrap against resampling by hand, changes that are and are not there, and books at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.correlation import estimators
from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.covariance import correlation_of, ewma, ledoit_wolf
from cluster.errors import InvalidMarketData
from hive.messages.calculation import Parameters

QUICK = CorrelationSettings(replications=100)


def _factor_returns(rng, days, symbols, correlation):
    """Normal returns of one common factor, every pair correlated by ``correlation``."""
    common = rng.normal(size=(days, 1)) * np.sqrt(correlation)
    return 0.01 * (common + np.sqrt(1 - correlation) * rng.normal(size=(days, symbols)))


def _analyse(snapshot, held, parameters=None, settings=QUICK):
    state = estimators.rebuild(snapshot, settings)
    report, warnings, fallbacks = estimators.analyse(state, held, parameters or Parameters(), settings)
    assert fallbacks == ()
    return report, warnings


def _value(report, measure):
    return next(estimate.value for estimate in report.estimates if estimate.measure == measure)


def _resampled_by_hand(returns, seed, settings):
    """Mean pair correlation of every resample; the correlation with a series that stands still counts as zero."""
    days, symbols = returns.shape
    starts = np.random.default_rng(seed).integers(
        days, size=(settings.replications, -(-days // settings.block_days), 1)
    )
    means = []
    for blocks in starts[:, :, 0]:
        rows = [(start + step) % days for start in blocks for step in range(settings.block_days)][:days]
        moving = [c for c in range(symbols) if np.ptp(returns[rows, c]) > 0]
        correlation = np.atleast_2d(np.corrcoef(returns[np.ix_(rows, moving)].T)) if moving else np.zeros((0, 0))
        means.append((correlation.sum() - len(moving)) / (symbols * (symbols - 1)))
    return np.array(means)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32),
    days=st.integers(30, 80),
    symbols=st.integers(2, 5),
    block=st.sampled_from([1, 7, 10, 90]),
)
def test_bootstrap_equals_resampling_by_hand(seed, days, symbols, block):
    returns = _factor_returns(np.random.default_rng(seed), days, symbols, 0.4) * np.geomspace(0.1, 10, symbols)
    chosen = CorrelationSettings(replications=100, block_days=block)
    found = estimators.bootstrap_mean_correlation(returns, np.random.default_rng(seed), chosen)
    np.testing.assert_allclose(found, _resampled_by_hand(returns, seed, chosen), rtol=0, atol=1e-10)


def test_resample_in_which_a_symbol_stands_still_counts_it_as_uncorrelated():
    """A symbol that traded on one day alone is missing from a third of the resamples."""
    returns = _factor_returns(np.random.default_rng(1), 252, 2, 0.0)
    returns[:, 1] = 0.0
    returns[100, 1] = 0.02
    found = estimators.bootstrap_mean_correlation(returns, np.random.default_rng(7), QUICK)
    np.testing.assert_allclose(found, _resampled_by_hand(returns, 7, QUICK), rtol=0, atol=1e-8)


def test_bootstrap_spreads_like_the_sampling_error_of_the_mean_correlation():
    """Against fresh samples of the same independent market, not against the bootstrap's own formula."""
    chosen = CorrelationSettings(replications=1000, block_days=1)
    draws = [np.corrcoef(_factor_returns(np.random.default_rng(seed), 252, 5, 0.3).T) for seed in range(400)]
    error = np.std([(correlation.sum() - 5) / 20 for correlation in draws])
    sample = _factor_returns(np.random.default_rng(1000), 252, 5, 0.3)
    found = estimators.bootstrap_mean_correlation(sample, np.random.default_rng(0), chosen)
    assert found.std() == pytest.approx(error, rel=0.25)


def test_rise_of_correlation_is_called_a_regime_change():
    rng = np.random.default_rng(2)
    returns = np.vstack([_factor_returns(rng, 252, 6, 0.1), _factor_returns(rng, 63, 6, 0.7)])
    found = estimators.regime_change(returns, np.random.default_rng(0), QUICK)
    assert found.changed
    assert found.recent == pytest.approx(0.7, abs=0.1)
    assert found.previous == pytest.approx(0.1, abs=0.1)
    assert found.change.value == pytest.approx(found.recent - found.previous)
    assert 0 < found.change.lower < found.change.value < found.change.upper


def test_fall_of_correlation_is_called_a_regime_change():
    rng = np.random.default_rng(3)
    returns = np.vstack([_factor_returns(rng, 252, 6, 0.7), _factor_returns(rng, 63, 6, 0.1)])
    found = estimators.regime_change(returns, np.random.default_rng(0), QUICK)
    assert found.changed
    assert found.change.upper < 0


def test_stationary_market_seldom_raises_a_false_alarm():
    sensitive = CorrelationSettings(replications=100, regime_change=1e-6)  # the interval alone decides
    calls = []
    for seed in range(100):
        returns = _factor_returns(np.random.default_rng(seed), 315, 6, 0.3)
        calls.append(estimators.regime_change(returns, np.random.default_rng(seed), sensitive).changed)
    assert np.mean(calls) < 0.15


def test_sure_but_small_change_is_no_regime_change():
    rng = np.random.default_rng(4)
    returns = np.vstack([_factor_returns(rng, 252, 6, 0.1), _factor_returns(rng, 63, 6, 0.7)])
    deaf = CorrelationSettings(replications=100, regime_change=0.9)
    assert not estimators.regime_change(returns, np.random.default_rng(0), deaf).changed


def test_regime_is_left_open_with_a_warning_where_history_is_short(market, book):
    snapshot = market(_factor_returns(np.random.default_rng(5), 314, 2, 0.3))
    report, warnings = _analyse(snapshot, book({"S0": 0.5, "S1": 0.5}))
    assert report.regime is None
    assert any("fewer than the 315" in warning for warning in warnings)


def test_same_seed_gives_the_same_report_and_another_seed_another_interval(snapshot, equal_book):
    first, _ = _analyse(snapshot, equal_book, Parameters(seed=1))
    again, _ = _analyse(snapshot, equal_book, Parameters(seed=1))
    other, _ = _analyse(snapshot, equal_book, Parameters(seed=2))
    assert first == again
    assert first.estimates[0].lower != other.estimates[0].lower
    assert first.estimates[0].value == other.estimates[0].value


def test_matrices_are_those_of_the_window_in_the_order_of_the_book(snapshot, book):
    held = book({"XOM": 0.5, "AAPL": 0.3, "JPM": 0.2})
    columns = [snapshot.symbols.index(symbol) for symbol in held.symbols]
    report, warnings = _analyse(snapshot, held)
    covariance, shrinkage = ledoit_wolf(snapshot.returns[-252:, columns])
    assert report.symbols == held.symbols
    assert report.shrinkage == shrinkage
    np.testing.assert_allclose(report.shrunk, correlation_of(covariance), rtol=0, atol=1e-14)
    np.testing.assert_allclose(report.ewma, correlation_of(ewma(snapshot.returns[:, columns], 0.94)), rtol=0, atol=1e-7)
    expected = np.sqrt(held.weights @ covariance @ held.weights) / (held.weights @ np.sqrt(np.diag(covariance)))
    assert _value(report, "correlation_risk") == pytest.approx(expected, rel=1e-12)
    assert warnings == ()


def _signs(symbols, days=256):
    """Returns of plus and minus one per cent, exactly uncorrelated: rows of a Hadamard matrix."""
    return 0.01 * np.array([[(-1) ** (day >> bit & 1) for bit in range(symbols)] for day in range(days)])


@pytest.mark.parametrize("symbols", [1, 2, 4])
def test_effective_bets_of_uncorrelated_symbols_are_their_number(market, book, symbols):
    held = book({f"S{number}": 1.0 for number in range(symbols)})
    whole = CorrelationSettings(window_days=256, replications=100)
    report, _ = _analyse(market(_signs(symbols)), held, settings=whole)
    assert _value(report, "effective_bets") == pytest.approx(symbols, rel=1e-9)
    assert _value(report, "largest_eigenvalue_share") == pytest.approx(1 / symbols, rel=1e-9)
    assert _value(report, "correlation_risk") == pytest.approx(symbols**-0.5, rel=1e-9)


def test_perfectly_correlated_symbols_are_one_bet(market, book):
    returns = np.repeat(_signs(1), 4, axis=1) * [1, 2, 3, 4]  # two-valued: the sample needs no shrinkage
    report, _ = _analyse(market(returns), book({"S0": 0.4, "S1": 0.3, "S2": 0.2, "S3": 0.1}))
    assert _value(report, "effective_bets") == pytest.approx(1.0, abs=1e-9)
    assert _value(report, "largest_eigenvalue_share") == pytest.approx(1.0, rel=1e-9)
    assert _value(report, "correlation_risk") == pytest.approx(1.0, rel=1e-9)
    assert _value(report, "mean_correlation") == pytest.approx(1.0, rel=1e-9)


def test_symbol_that_stands_still_is_left_out_with_a_warning(market, book):
    returns = _factor_returns(np.random.default_rng(8), 400, 3, 0.5)
    returns[:, 1] = 0.0
    report, warnings = _analyse(market(returns), book({"S0": 0.4, "S1": 0.4, "S2": 0.2}))
    without, _ = _analyse(market(returns), book({"S0": 0.4, "S2": 0.2}))
    assert report.symbols == ("S0", "S2")
    assert any("S1 did not move" in warning for warning in warnings)
    assert report == without


def test_book_of_symbols_that_all_stand_still_is_refused(market, book):
    with pytest.raises(InvalidMarketData):
        _analyse(market(np.zeros((300, 2))), book({"S0": 0.5, "S1": 0.5}))


def test_symbol_halted_throughout_the_exponential_window_does_not_cost_the_whole_report(market, book):
    returns = _factor_returns(np.random.default_rng(9), 400, 3, 0.5)
    returns[-210:, 1] = 0.0  # longer than a decay of 0.9 looks back, shorter than the window
    quick = CorrelationSettings(replications=100, ewma_decay=0.9)
    report, warnings = _analyse(market(returns), book({"S0": 0.4, "S1": 0.4, "S2": 0.2}), settings=quick)
    assert {"S0", "S2"} <= set(report.symbols)
    assert any("S1" in warning for warning in warnings)


def test_book_of_one_symbol_has_no_pairs_and_nothing_to_diversify(snapshot, book):
    report, warnings = _analyse(snapshot, book({"AAPL": 1.0}))
    assert (report.regime, report.pairs, warnings) == (None, (), ())
    assert report.shrunk.tolist() == [[1.0]]
    assert {e.measure for e in report.estimates} == {"correlation_risk", "largest_eigenvalue_share", "effective_bets"}
    assert all(estimate.value == pytest.approx(1.0, rel=1e-12) for estimate in report.estimates)


def test_pairs_beyond_the_thresholds_are_listed_by_strength_whatever_their_sign(market, book):
    rng = np.random.default_rng(10)
    root = rng.normal(size=2000)
    noises = (0.0, 0.3, 0.6, 3.0)  # against S0: none, about 0.96, 0.86 and 0.32
    returns = 0.01 * np.column_stack([root + noise * rng.normal(size=2000) for noise in noises]) * [1, -1, 1, 1]
    wide = CorrelationSettings(window_days=2000, replications=100)
    report, _ = _analyse(market(returns), book(dict.fromkeys(["S0", "S1", "S2", "S3"], 0.25)), settings=wide)
    listed = [(pair.first, pair.second, pair.severity) for pair in report.pairs]
    assert listed == [("S0", "S1", "HIGH"), ("S0", "S2", "MEDIUM"), ("S1", "S2", "MEDIUM")]
    assert [np.sign(pair.correlation) for pair in report.pairs] == [-1, 1, -1]


def test_short_against_a_long_lowers_the_correlation_risk_of_symbols_that_move_together(snapshot, book):
    together, _ = _analyse(snapshot, book({"JPM": 0.5, "BAC": 0.5}))
    hedged, _ = _analyse(snapshot, book({"JPM": 0.5, "BAC": -0.5}))
    assert _value(hedged, "correlation_risk") < 0.6 * _value(together, "correlation_risk")
    columns = [snapshot.symbols.index(symbol) for symbol in ("JPM", "BAC")]
    covariance, _ = ledoit_wolf(snapshot.returns[-252:, columns])
    variance = (covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]) / 4
    expected = np.sqrt(variance) / np.sqrt(np.diag(covariance)).mean()
    assert _value(hedged, "correlation_risk") == pytest.approx(expected, rel=1e-10)
