"""Compiled kernels of value at risk against their plain twins, and the state they keep between calls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk import kernels as shared
from actors.risk.kernels import NO_GUESS
from actors.risk.measures import tail
from actors.risk.value_at_risk import blocks, kernels
from actors.risk.value_at_risk.empirical import age_weights, weighted_tail
from actors.risk.value_at_risk.limits import WATCHED_POSITIONS
from actors.risk.value_at_risk.resident import HistoricalTail, Monitor, ParametricTail
from cluster.errors import InvalidMarketData, InvalidRequest

SEEDS = st.integers(0, 2**32)


def _covariance(rng, n):
    factors = rng.normal(size=(n, n))
    return factors @ factors.T / n * 1e-4


@settings(max_examples=60)
@given(seed=SEEDS, rows=st.integers(1, 23), columns=st.integers(1, 2500), scale=st.sampled_from([1.0, -1.0, 0.5]))
def test_weighted_rows_are_those_of_numpy(seed, rows, columns, scale):
    rng = np.random.default_rng(seed)
    matrix, weights, total = rng.normal(size=(rows, columns)), rng.normal(size=rows), np.empty(columns)
    shared.weighted_rows(matrix, weights, scale, total)
    expected = shared.weighted_rows_plain(matrix, weights, scale)
    np.testing.assert_allclose(total, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 20, 101])
def test_parametric_kernel_is_its_plain_twin(n):
    rng = np.random.default_rng(n)
    state = ParametricTail(_covariance(rng, n), rng.normal(0, 1e-3, n), 0.99)
    for _ in range(5):
        weights = rng.normal(size=n)
        found = state.contributions(weights)
        plain = kernels.parametric_tail_plain(state.moments, weights, state.z, state.beyond)
        np.testing.assert_allclose(found, plain, rtol=1e-9, atol=1e-14)


def test_parametric_book_without_positions_carries_nothing():
    state = ParametricTail(np.eye(3) * 1e-4, np.zeros(3), 0.95)
    np.testing.assert_array_equal(state.contributions(np.zeros(3)), np.zeros(8))


@settings(max_examples=60)
@given(
    seed=SEEDS,
    n=st.integers(1, 12),
    days=st.integers(1, 1200),
    confidence=st.sampled_from([0.6, 0.9, 0.95, 0.99]),
    tied=st.booleans(),
)
def test_historical_kernels_are_their_plain_twins(seed, n, days, confidence, tied):
    rng = np.random.default_rng(seed)
    positions = rng.standard_t(3, (days, n))
    if tied:
        positions = np.round(positions)
    state = HistoricalTail(positions, confidence)
    for _ in range(3):  # the second and third time from a guess
        weights = np.round(rng.normal(size=n), 1) if tied else rng.normal(size=n)
        plain = kernels.historical_contributions_plain(state.by_position, weights, confidence)
        np.testing.assert_allclose(state.measure(weights), plain[:2], rtol=1e-10, atol=1e-12)
        if not tied:  # rounding makes near ties of ties
            np.testing.assert_allclose(state.contributions(weights), plain, rtol=1e-9, atol=1e-12)
        without = state.without_each(weights)
        for place in range(n):
            left = np.where(np.arange(n) == place, 0.0, weights)
            np.testing.assert_allclose(without[place], tail(-(positions @ left), confidence), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_returns_and_weights_that_are_not_finite_are_refused(bad):
    rng = np.random.default_rng(0)
    positions, weights = rng.normal(size=(300, 4)), np.full(4, 0.25)
    broken = positions.copy()
    broken[7, 2] = bad
    for ask in ("measure", "contributions"):
        with pytest.raises(InvalidMarketData):
            getattr(HistoricalTail(broken, 0.95), ask)(weights)
        with pytest.raises(InvalidMarketData):
            getattr(HistoricalTail(positions, 0.95), ask)(np.array([0.5, bad, 0.0, 0.0]))
    state = ParametricTail(np.eye(4), np.zeros(4), 0.95)
    with pytest.raises(InvalidMarketData):
        state.contributions(np.array([0.5, bad, 0.0, 0.0]))
    with pytest.raises(InvalidMarketData):
        ParametricTail(np.full((4, 4), bad), np.zeros(4), 0.95)
    with pytest.raises(InvalidMarketData):
        ParametricTail(np.eye(3), np.zeros(4), 0.95)


@pytest.mark.parametrize("confidence", [0.05, 0.5, 1.0, math.nan])
def test_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(InvalidRequest):
        HistoricalTail(np.ones((3, 2)), confidence)
    with pytest.raises(InvalidRequest):
        ParametricTail(np.eye(2), np.zeros(2), confidence)


def test_empty_history_is_refused():
    with pytest.raises(InvalidMarketData):
        HistoricalTail(np.empty((0, 2)), 0.95)


# Rolling windows


@settings(max_examples=40)
@given(seed=SEEDS, window=st.integers(1, 60), tested=st.integers(1, 80), tied=st.booleans())
def test_rolling_tails_are_the_tails_of_every_window(seed, window, tested, tied):
    rng = np.random.default_rng(seed)
    losses = rng.standard_t(3, window + tested)
    if tied:
        losses = np.round(losses)
    found, weighted = np.empty((tested, 2)), np.empty((tested, 2))
    ordered, days, weights = np.empty(window), np.empty(window, np.int64), age_weights(window, 0.97)
    kernels.rolling_tails(losses, window, 0.9, ordered, days, found)
    kernels.rolling_weighted_tails(losses, window, 0.9, weights, ordered, days, weighted)
    for day in range(tested):
        past = losses[day : day + window]
        assert tuple(found[day]) == pytest.approx(tail(past, 0.9), rel=1e-12, abs=1e-12)
        assert weighted[day, 1] == pytest.approx(weighted_tail(past, weights, 0.9)[1], rel=1e-9, abs=1e-9)


def test_filtered_tail_is_the_garch_recursion():
    rng = np.random.default_rng(0)
    daily, (mu, omega, alpha, beta, variance) = rng.normal(0, 0.01, 300), (1e-4, 2e-6, 0.08, 0.9, 1.2e-4)
    variances = [variance]
    for shock in daily - mu:
        variances.append(omega + alpha * shock**2 + beta * variances[-1])
    losses = -(mu + math.sqrt(variances[-1]) * (daily - mu) / np.sqrt(variances[:-1]))
    held = np.array([mu, omega, alpha, beta, variance])
    found = kernels.filtered_tail(daily, held, 0.95, np.empty(300), np.empty(300))
    assert found == pytest.approx(tail(losses, 0.95), rel=1e-10)


# Block bootstrap


@settings(max_examples=40)
@given(seed=SEEDS, n=st.integers(2, 400), length=st.integers(1, 60), confidence=st.sampled_from([0.6, 0.9, 0.99]))
def test_bootstrapped_tails_are_the_tails_of_the_resamples_laid_out(seed, n, length, confidence):
    losses, length = np.random.default_rng(seed).standard_t(3, n), min(length, n)
    starts = blocks.block_starts(n, length, 8, seed)
    found = blocks.bootstrap_tails(losses, confidence, starts, length)
    for row, first in zip(found, starts, strict=True):
        laid = losses[((first[:, None] + np.arange(length)).ravel() % n)[:n]]
        assert tuple(row) == pytest.approx(tail(laid, confidence), rel=1e-12, abs=1e-12)


def test_resample_whose_tail_does_not_fill_is_laid_out_whole():
    losses = np.concatenate(
        [np.zeros(5000), np.arange(1, 251, dtype=float)]
    )  # the calm block alone can fill a resample
    starts = np.zeros((1, 2), np.int64)
    assert blocks.bootstrap_tails(losses, 0.95, starts, 2625)[0].tolist() == [0.0, 0.0]


# Monitor


def _monitored(rng, n, **fields):
    limits = {"var": 0.02, "drawdown": 0.2, "leverage": 2.0, "concentration": 0.5}
    return Monitor(
        _covariance(rng, n), rng.normal(size=n), np.full(n, 100.0), **{"cash": 300.0, "limits": limits, **fields}
    )


@pytest.mark.parametrize("n", [1, 3, 20])
def test_monitor_after_many_ticks_is_the_book_made_anew(n):
    rng = np.random.default_rng(n)
    monitor = _monitored(rng, n)
    start, peak = monitor.book[0], monitor.book[1]
    units = monitor.positions[0].copy()
    prices = np.full(n, 100.0)
    for _ in range(3000):
        place, price = int(rng.integers(n)), 100 * math.exp(rng.normal(0, 0.05))
        before = units @ prices
        prices[place] = price
        answer = monitor.tick(place, price)
        exposures = units * prices
        value, gross = start + units @ (prices - 100.0), np.abs(exposures).sum()
        peak = max(peak, value)
        assert monitor.book[0] == pytest.approx(value, abs=1e-8)
        assert monitor.book[2] == pytest.approx(gross, abs=1e-8)
        assert monitor.book[4] == pytest.approx(np.abs(exposures).max(), abs=1e-9)
        assert monitor.book[6] == pytest.approx(units @ prices - before, abs=1e-9)
        variance = exposures @ monitor.covariance @ exposures
        beyond = {
            "var": 1.6448536269514722 * math.sqrt(variance) > 0.02 * value,
            "drawdown": peak - value > 0.2 * peak,
            "leverage": gross > 2.0 * value,
            "concentration": n >= WATCHED_POSITIONS and np.abs(exposures).max() > 0.5 * gross,
        }
        assert monitor.beyond(answer) == tuple(name for name, over in beyond.items() if over)
    kept = monitor.book.copy()
    monitor.refresh()
    np.testing.assert_allclose(monitor.book[2:5], kept[2:5], rtol=1e-9)
    np.testing.assert_allclose(monitor.positions[3], monitor.covariance @ (units * prices), rtol=1e-12)


def test_stream_is_watched_as_its_ticks_one_by_one():
    one, many = (_monitored(np.random.default_rng(5), 8) for _ in range(2))
    rng = np.random.default_rng(6)
    which, prices = rng.integers(0, 8, 500), 100 * np.exp(rng.normal(0, 0.1, 500))
    prices[40] = math.nan
    answers = many.watch(which, prices)
    for place, price, answer in zip(which.tolist(), prices.tolist(), answers.tolist(), strict=True):
        if math.isnan(price):
            assert answer == -1
        else:
            assert one.tick(place, price) == answer
    np.testing.assert_array_equal(one.book, many.book)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_price_that_is_not_finite_is_refused_and_changes_nothing(bad):
    monitor = _monitored(np.random.default_rng(7), 4)
    before = monitor.book.copy(), monitor.positions.copy()
    with pytest.raises(InvalidMarketData):
        monitor.tick(1, bad)
    with pytest.raises(InvalidMarketData):
        monitor.tick(4, 100.0)
    with pytest.raises(InvalidMarketData):
        monitor.watch(np.array([0, -1]), np.array([1.0, 1.0]))
    with pytest.raises(InvalidMarketData):
        monitor.watch(np.array([0]), np.array([1.0, 1.0]))
    np.testing.assert_array_equal(monitor.book, before[0])
    np.testing.assert_array_equal(monitor.positions, before[1])


def test_limit_that_is_left_out_is_not_watched():
    monitor = _monitored(np.random.default_rng(8), 3, limits={}, cash=0.0)
    assert monitor.tick(0, 1e6) == 0


def test_guess_of_another_market_changes_nothing():
    positions = np.random.default_rng(9).normal(size=(500, 3))
    work = np.empty((2, 500))
    by_position = np.ascontiguousarray(positions.T)
    weights = np.full(3, 1 / 3)
    expected = tail(-(positions @ weights), 0.95)
    for guess in (NO_GUESS, -1e9, 0.0, 1e9):
        assert kernels.historical_tail(by_position, weights, 0.95, work, guess) == pytest.approx(expected, rel=1e-12)
