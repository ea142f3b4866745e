"""Change detection: kernels against their definitions, thresholds against theory and fresh simulation, real history."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.correlation import change_kernels as kernels
from actors.risk.correlation import changes
from cluster.errors import InvalidMarketData

PAIRS = list(itertools.product(changes.METHODS, changes.STATISTICS))


def market(rng, days, rho, n=10, volatility=1.0):
    common = rng.normal(size=(days, 1)) * np.sqrt(rho)
    return 0.01 * volatility * (common + np.sqrt(1 - rho) * rng.normal(size=(days, n)))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 80), ties=st.booleans())
def test_ranks_and_sums_equal_their_plain_twins(seed, n, ties):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, n).astype(float) if ties else rng.normal(size=n)
    ranks, peaks = np.empty(n), np.zeros(n)
    kernels.sequential_ranks(values, np.empty(n), ranks)
    np.testing.assert_allclose(ranks, kernels.sequential_ranks_plain(values), rtol=1e-14)
    for threshold in (0.5, 2.0, 6.0):
        start = int(rng.integers(0, n))
        assert kernels.cusum(values, 0.25, threshold, start, peaks) == kernels.cusum_plain(
            values, 0.25, threshold, start
        )
        passages = np.zeros(1)
        kernels.first_passages(values, 0.0, 0.25, np.array([threshold]), passages)
        assert passages[0] == kernels.first_passages_plain(values, 0.25, threshold)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 4))
def test_standardised_returns_equal_their_plain_twin(seed, n):
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(30, n)) * (rng.random((30, n)) < 0.5)
    variances = np.where(rng.random(n) < 0.5, 0.0, 1.0)
    expected, after = kernels.standardised_plain(returns, 0.9, variances)
    out = np.empty_like(returns)
    kernels.standardised(returns, 0.9, variances, out)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    np.testing.assert_allclose(variances, after, rtol=1e-12)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 60), hazard=st.floats(0.001, 0.5), precision=st.floats(0.1, 10))
def test_run_lengths_equal_their_plain_twin(seed, n, hazard, precision):
    scores = np.random.default_rng(seed).normal(size=n)
    weights, sums, recents = np.empty(n + 5), np.empty(n + 5), np.empty(n)
    recent = max(1, n // 3)
    kernels.run_lengths(scores, hazard, precision, recent, 0, 2.0, weights, sums, recents)
    expected = kernels.run_lengths_plain(scores, hazard, precision)
    np.testing.assert_allclose(weights[: n + 1], expected[-1], rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(recents, expected[:, : recent + 1].sum(axis=1), rtol=1e-9)
    assert weights[: n + 1].sum() == pytest.approx(1.0, rel=1e-12)


def test_run_lengths_equal_the_sum_over_every_way_to_cut_the_days():
    """Bayes by enumeration: 2^7 partitions, each segment's marginal a multivariate normal density."""
    scores, hazard, precision = np.random.default_rng(4).normal(size=8), 0.2, 2.0
    n = len(scores)

    def marginal(segment):
        covariance = np.eye(len(segment)) + 1 / precision
        return np.exp(-0.5 * segment @ np.linalg.solve(covariance, segment)) / np.sqrt(
            np.linalg.det(2 * np.pi * covariance)
        )

    by_run = np.zeros(n + 1)
    for cuts in itertools.product([False, True], repeat=n - 1):
        bounds = [0, *(day + 1 for day, cut in enumerate(cuts) if cut), n]
        density = np.prod([marginal(scores[i:j]) for i, j in itertools.pairwise(bounds)])
        by_run[n - bounds[-2]] += density * hazard ** sum(cuts) * (1 - hazard) ** (n - 1 - sum(cuts))
    by_run /= by_run.sum()
    found = kernels.run_lengths_plain(scores, hazard, precision)[-1]
    assert found[0] == pytest.approx(hazard)  # the day after the last may begin a run
    np.testing.assert_allclose(found[1:] / (1 - hazard), by_run[1:], rtol=1e-10)


def test_runs_longer_than_the_buffer_change_little():
    scores = np.random.default_rng(5).normal(size=900)
    scores[800:] += 1.0
    short, long = np.empty(900), np.empty(900)
    kernels.run_lengths(scores, 0.001, 4.0, 30, 0, 2.0, np.empty(401), np.empty(401), short)
    kernels.run_lengths(scores, 0.001, 4.0, 30, 0, 2.0, np.empty(901), np.empty(901), long)
    assert np.abs(short - long).max() < 0.1
    assert np.argmax(short > 0.5) == pytest.approx(np.argmax(long > 0.5), abs=2)


def test_thresholds_of_the_sums_equal_siegmunds_formula():
    """One-sided mean run length (exp(2kb) - 2kb - 1) / 2k^2, b = h + 1.166 (Siegmund 1985); half of it two-sided."""
    k = changes.ALLOWANCE
    for days, threshold in zip(changes.FALSE_ALARM_DAYS, changes.THRESHOLDS["cusum"], strict=True):
        b = threshold + 1.166
        expected = (np.exp(2 * k * b) - 2 * k * b - 1) / (2 * k**2) / 2
        assert days == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("method", "runs", "days"), [("cusum", 600, 8000), ("bayesian_change_point", 80, 4000)])
def test_thresholds_of_the_table_come_out_of_another_simulation(method, runs, days):
    found = changes.calibrate(method, seed=12345, runs=runs, days=days)
    np.testing.assert_allclose(found, changes.THRESHOLDS[method], rtol=0.05 if method == "cusum" else 0.2)
    assert (np.diff(changes.THRESHOLDS[method]) > 0).all()


@pytest.mark.parametrize("method", changes.METHODS)
def test_delays_of_the_table_come_out_of_another_simulation(method):
    threshold = changes.threshold_for(method, 1000)
    found = changes.median_delay(method, changes.SHIFT, threshold, seed=777, runs=200)
    assert found == pytest.approx(changes.delay_for(method, 1000), rel=0.25)
    assert changes.median_delay(method, 1.0, threshold, seed=777, runs=100) < found
    assert changes.delay_for(method, 250) < changes.delay_for(method, 1000) < changes.delay_for(method, 2000)


@pytest.mark.parametrize(("method", "statistic"), PAIRS)
def test_false_alarms_of_a_quiet_market_are_as_rare_as_stated(method, statistic):
    """Real market shape, not scores: correlated symbols, wild common volatility, twenty histories of 1125 days."""
    threshold, called = changes.threshold_for(method, 1000), 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        wild = np.exp(np.cumsum(rng.normal(0, 0.05, (1125, 1)), axis=0)) * rng.standard_t(4, (1125, 1))
        called += bool(changes.detect(market(rng, 1125, 0.3) * wild, method, statistic, threshold))
    assert 6 <= called <= 19  # of 20, where 63 % are to be expected: 1000 days follow the watched ones


@pytest.mark.parametrize(("method", "statistic"), PAIRS)
def test_change_is_called_and_dated(method, statistic):
    delays, errors = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        returns = np.vstack([market(rng, 500, 0.2), market(rng, 250, 0.7)])
        called = changes.detect(returns, method, statistic, 12.0 if method == "cusum" else 0.5)
        rise = next((alarm for alarm in called if alarm.alarm >= 500), None)
        assert rise is not None and rise.direction == 1
        delays.append(rise.alarm - 500)
        errors.append(abs(rise.change - 500))
    assert np.median(delays) < 50
    assert np.median(errors) < 25


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_volatility_alone_is_no_change(factor):
    """Tenfold volatility from one day to the next: not one alarm more."""
    alarms = [0, 0]
    for seed in range(10):
        returns = market(np.random.default_rng(seed), 600, 0.4)
        loud = returns.copy()
        loud[300:] *= factor
        for place, history in enumerate((returns, loud)):
            alarms[place] += len(changes.detect(history, "cusum", "mean_correlation", 11.0))
    assert abs(alarms[1] - alarms[0]) <= 1


def test_scores_of_a_quiet_market_are_independent_normal_whatever_its_tails():
    scores = changes.scores_of(np.random.default_rng(0).standard_cauchy(5000))[changes.WATCHED_DAYS :]
    assert scores.mean() == pytest.approx(0, abs=0.05)
    assert scores.std() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(scores[1:], scores[:-1])[0, 1] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("method", changes.METHODS)
def test_real_history_shows_the_crises_with_a_delay_of_weeks(snapshot, method):
    """Not tuned to: the same table as for any market."""
    alarms = changes.detect(snapshot.returns, method, "mean_correlation", changes.threshold_for(method, 1000))
    dates = [(snapshot.dates[a.change], snapshot.dates[a.alarm], a.direction) for a in alarms]
    for first, last in (("2008-09-01", "2008-11-30"), ("2020-02-15", "2020-03-31")):
        assert any(
            np.datetime64(first) <= change and alarm <= np.datetime64(last) and rise == 1
            for change, alarm, rise in dates
        )
    assert all(a.change <= a.alarm for a in alarms)
    assert all(earlier.change < later.change for earlier, later in itertools.pairwise(alarms))


def test_alarms_of_a_day_do_not_change_with_what_comes_after(snapshot):
    returns = snapshot.returns[-3000:]
    threshold = changes.threshold_for("cusum", 1000)
    whole = changes.detect(returns, "cusum", "mean_correlation", threshold)
    part = changes.detect(returns[:2000], "cusum", "mean_correlation", threshold)
    assert part == tuple(a for a in whole if a.alarm < 2000)


@pytest.mark.parametrize(
    "returns",
    [np.ones((300, 1)), np.ones((125, 3)), np.full((300, 3), np.nan), np.full((300, 2), np.inf)],
    ids=["one symbol", "short", "nan", "infinite"],
)
def test_what_cannot_be_watched_is_refused(returns):
    with pytest.raises(InvalidMarketData):
        changes.detect(returns, "cusum", "mean_correlation", 10.0)


def test_market_that_stands_still_has_no_change():
    assert changes.detect(np.zeros((400, 3)), "cusum", "mean_correlation", 1.0) == ()
