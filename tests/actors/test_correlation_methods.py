"""The correlation room's methods asked by name: what runs, what it says, and what it says when it cannot."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.cluster.hierarchy
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.correlation import changes, estimators, matrices
from actors.risk.correlation.clusters import clustered
from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.covariance import correlation_of, ewma, mean_pair
from hive.messages.calculation import METHODS, Parameters, Role
from hive.messages.codec import decode, encode

QUICK = CorrelationSettings(replications=100, spectral_replications=50, copula_days=500, dcc_days=1000)


def factor_returns(rng, days, symbols, correlation):
    common = rng.normal(size=(days, 1)) * np.sqrt(correlation)
    return 0.01 * (common + np.sqrt(1 - correlation) * rng.normal(size=(days, symbols)))


def analyse(snapshot, held, *methods, chosen=QUICK, seed=0):
    state = estimators.rebuild(snapshot, chosen)
    return estimators.analyse(state, held, Parameters(methods=methods, seed=seed), chosen)


@pytest.fixture(scope="module")
def five(snapshot):
    return dict.fromkeys(("AAPL", "JPM", "BAC", "XOM", "CVX"), 0.2)


@pytest.fixture(scope="module")
def everything(snapshot, five, book):
    return analyse(snapshot, book(five), "all")


def labels(report):
    return {estimate.method_label for estimate in report.all_estimates()}


def test_default_asks_for_the_cheap_methods_alone(snapshot, five, book):
    report, warnings, fallbacks = analyse(snapshot, book(five))
    assert (report.watches, report.dynamic, report.dependence, report.matrices) == ((), None, None, ())
    assert report.regime is not None
    assert labels(report) == {"ledoit_wolf", "ewma", "sample"}  # the change is of sample correlations
    assert (warnings, fallbacks) == ((), ())


@pytest.mark.parametrize("method", METHODS[Role.CORRELATION])
def test_method_asked_alone_says_the_same_as_among_all(snapshot, five, book, everything, method):
    alone, whole = analyse(snapshot, book(five), method)[0], everything[0]
    theirs = {(e.measure, e.method_label): e for e in whole.all_estimates()}
    for estimate in alone.all_estimates():
        if not estimate.method_label.startswith("copula"):  # several pairs share a measure and a label
            assert estimate == theirs[estimate.measure, estimate.method_label]
    present = {
        "sample": "sample" in {m.method for m in alone.matrices},
        "ledoit_wolf": "ledoit_wolf" in labels(alone),
        "ewma": "ewma" in labels(alone),
        "rmt_denoised": "rmt_denoised" in {m.method for m in alone.matrices},
        "dcc": alone.dynamic == whole.dynamic and alone.dynamic is not None,
        "copula": alone.dependence == whole.dependence and alone.dependence is not None,
        "window_change": alone.regime == whole.regime and alone.regime is not None,
        "cusum": {w.method for w in alone.watches} == {"cusum"},
        "bayesian_change_point": {w.method for w in alone.watches} == {"bayesian_change_point"},
    }
    assert {name for name, found in present.items() if found} == {method, "ledoit_wolf"}


def test_report_of_everything_is_a_message_whose_estimates_all_say_how(everything):
    report, warnings, fallbacks = everything
    assert decode(encode(report)) == report
    assert (warnings, fallbacks) == ((), ())
    for estimate in report.all_estimates():
        assert np.isfinite(estimate.value)
        assert estimate.samples > 0 and estimate.method_label and estimate.convention
        if estimate.lower is None:
            assert estimate.interval_method.startswith("none: ")
        else:
            assert estimate.lower <= estimate.value <= estimate.upper


def test_same_question_has_the_same_bits(snapshot, five, book, everything):
    again = analyse(snapshot, book(five), "all")
    assert encode(again[0]) == encode(everything[0])


def test_dates_of_the_watches_are_days_of_the_market_and_recent_is_of_the_last_alarm(snapshot, everything):
    days = {str(day) for day in snapshot.dates}
    for watch in everything[0].watches:
        assert watch.days == len(snapshot.returns)
        assert watch.false_alarm_days == QUICK.false_alarm_days
        for call in watch.calls:
            assert {call.change_date, call.alarm_date} <= days
            assert call.delay_days >= 0 and call.direction in ("rise", "fall")
        newest = len(snapshot.dates) - list(map(str, snapshot.dates)).index(watch.last.alarm_date) - 1
        assert watch.recent == (newest <= QUICK.recent_days)


def test_rarer_false_alarms_call_fewer_changes(snapshot, five, book):
    often = analyse(snapshot, book(five), "cusum", chosen=replace(QUICK, false_alarm_days=250))[0]
    seldom = analyse(snapshot, book(five), "cusum", chosen=replace(QUICK, false_alarm_days=2000))[0]
    assert len(often.watches[0].calls) > len(seldom.watches[0].calls)
    assert often.watches[0].usual_delay_days < seldom.watches[0].usual_delay_days


def test_dynamic_correlation_says_where_it_stands_and_goes(snapshot, everything):
    dynamic = everything[0].dynamic
    assert dynamic.path_dates[-1] == snapshot.dates[-1]
    assert len(dynamic.path) == len(dynamic.path_dates) == QUICK.window_days
    assert dynamic.mean_correlation.value == pytest.approx(mean_pair(dynamic.correlation))
    assert dynamic.forecast[0] == pytest.approx(dynamic.mean_correlation.value)
    assert dynamic.half_life_days == pytest.approx(np.log(0.5) / np.log(dynamic.a.value + dynamic.b.value))
    assert dynamic.log_likelihood > dynamic.constant_log_likelihood


def test_closest_pairs_have_copulas_and_the_best_stands_first(everything):
    dependence = everything[0].dependence
    assert {dependence.pairs[0].first, dependence.pairs[0].second} in ({"JPM", "BAC"}, {"XOM", "CVX"})
    for pair in dependence.pairs:
        assert [fit.aic for fit in pair.fits] == sorted(fit.aic for fit in pair.fits)
        assert pair.lower_tail.method_label == f"copula_{pair.fits[0].family}"
    assert len(dependence.pairs) == QUICK.copula_pairs
    assert dependence.fits[0].family == "student_t"
    assert dependence.degrees.lower < dependence.degrees.value < dependence.degrees.upper


def test_one_symbol_is_answered_with_a_reason_for_what_is_missing(snapshot, book):
    report, warnings, _ = analyse(snapshot, book({"AAPL": 1.0}), "all")
    assert (report.watches, report.dynamic, report.dependence, report.matrices) == ((), None, None, ())
    assert (report.order, report.clusters) == ((0,), ())
    assert any("one symbol has no correlation" in warning for warning in warnings)


def test_more_symbols_than_days_keep_what_can_be_kept(market, book):
    """40 symbols on 35 days: the sample is singular and says so, the cleaned ones are not, the rest gives reasons."""
    snapshot = market(factor_returns(np.random.default_rng(0), 35, 40, 0.3))
    report, warnings, _ = analyse(snapshot, book(dict.fromkeys(snapshot.symbols, 1 / 40)), "all")
    by_method = {matrix.method: matrix for matrix in report.matrices}
    assert "singular: 35 days do not span 40 symbols" in by_method["sample"].note
    assert np.linalg.eigvalsh(by_method["rmt_denoised"].correlation)[0] > 0
    assert np.linalg.eigvalsh(report.shrunk)[0] > 0
    for start in ("the sample correlation is singular", "dcc: ", "copula: ", "cusum: ", "bayesian_change_point: "):
        assert any(warning.startswith(start) for warning in warnings), start


def test_symbol_that_repeats_another_turns_dynamic_correlation_to_pairs_or_says_why(market, book):
    returns = factor_returns(np.random.default_rng(1), 600, 3, 0.4)
    returns = np.column_stack([returns, 2 * returns[:, 0]])
    report, warnings, fallbacks = analyse(market(returns), book(dict.fromkeys(["S0", "S1", "S2", "S3"], 0.25)), "all")
    assert any("full likelihood" in fallback for fallback in fallbacks) or any(w.startswith("dcc") for w in warnings)
    assert any(warning.startswith("copula: ") and "repeat" in warning for warning in warnings)
    assert report.dependence is None
    assert any("symbols repeat one another" in matrix.note for matrix in report.matrices)


def test_many_symbols_use_pairs_for_dynamic_correlation(snapshot, five, book):
    report, _, _ = analyse(snapshot, book(five), "dcc", chosen=replace(QUICK, dcc_full_symbols=3))
    assert report.dynamic.likelihood == "all_pairs"


@pytest.mark.parametrize("method", ["ledoit_wolf", "ewma", "sample"])
def test_intervals_of_the_spectrum_hold_the_truth_about_as_often_as_they_say(method):
    """One factor of correlation 0.3 and normal days; EWMA's few effective days make its eigenvalues biased."""
    truth = matrices.figures(np.full((5, 5), 0.3) + 0.7 * np.eye(5))
    inside = []
    chosen = CorrelationSettings(block_days=1)
    for seed in range(80):
        rng = np.random.default_rng(seed)
        window = factor_returns(rng, 252, 5, 0.3)
        decay = 0.97 if method == "ewma" else None
        covariance = ewma(window, 0.97) if decay else np.cov(window.T)
        draws = matrices.figures(
            matrices.correlations(matrices.Resamples.drawn(252, rng, chosen, decay).covariances(window))
        )
        found = matrices.estimates(method, correlation_of(covariance), draws, 252, tuple(matrices.FIGURES))
        inside.append([e.lower <= value <= e.upper for e, value in zip(found, truth, strict=True)])
    assert (np.mean(inside, axis=0) > (0.75 if method == "ewma" else 0.85)).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 6), block=st.integers(1, 30), weighed=st.booleans())
def test_resamples_equal_resampling_by_hand(seed, n, block, weighed):
    window = factor_returns(np.random.default_rng(seed), 40, n, 0.3)
    chosen = CorrelationSettings(block_days=block, spectral_replications=50)
    decay = 0.9 if weighed else None
    found = matrices.Resamples.drawn(40, np.random.default_rng(seed), chosen, decay).covariances(window)
    starts = np.random.default_rng(seed).integers(40, size=(50, -(-40 // block), 1))[:, :, 0]
    for replication in (0, 49):
        rows = [(start + step) % 40 for start in starts[replication] for step in range(block)][:40]
        drawn = window[rows]
        expected = ewma(drawn, 0.9) if weighed else np.cov(drawn.T, bias=True).reshape(n, n)
        np.testing.assert_allclose(found[replication], expected, rtol=1e-9, atol=1e-16)


def test_figures_of_known_matrices():
    np.testing.assert_allclose(matrices.figures(np.eye(4)), [0, 0.25, 4], atol=1e-12)
    np.testing.assert_allclose(matrices.figures(np.ones((3, 3))), [1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(matrices.figures(np.stack([np.eye(2), np.ones((2, 2))])), [[0, 0.5, 2], [1, 1, 1]])


def blocks(rng, sizes, inside, across):
    n = sum(sizes)
    correlation = np.full((n, n), across)
    start = 0
    for size in sizes:
        correlation[start : start + size, start : start + size] = inside
        start += size
    np.fill_diagonal(correlation, 1.0)
    shuffle = rng.permutation(n)
    return correlation[np.ix_(shuffle, shuffle)], np.repeat(np.arange(len(sizes)), sizes)[shuffle]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(2, 5), min_size=2, max_size=4))
def test_clusters_of_a_block_market_are_its_blocks_and_stand_together(seed, sizes):
    correlation, block = blocks(np.random.default_rng(seed), sizes, 0.8, 0.1)
    order, groups = clustered(correlation, 0.5)
    assert sorted(order.tolist()) == list(range(len(block)))
    assert sorted(sorted(group) for group in groups) == sorted(
        np.flatnonzero(block == number).tolist() for number in range(len(sizes))
    )
    assert (np.diff(block[order]) != 0).sum() == len(sizes) - 1


def test_order_is_the_best_that_the_tree_allows(snapshot):
    correlation = np.corrcoef(snapshot.returns[-252:].T)
    order, _ = clustered(correlation, 0.5)
    distances = np.sqrt((1 - correlation[np.triu_indices(20, 1)]) / 2)
    plain = scipy.cluster.hierarchy.leaves_list(scipy.cluster.hierarchy.linkage(distances, "average"))

    def walk(places):
        return sum(np.sqrt((1 - correlation[i, j]) / 2) for i, j in itertools.pairwise(places))

    assert walk(order) <= walk(plain) + 1e-12


def test_copies_and_opposites_are_clustered_without_failing():
    correlation = np.array([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    order, groups = clustered(correlation, 0.5)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert groups == ((0, 1),) or groups == ((1, 0),)
    assert clustered(np.ones((1, 1)), 0.5)[1] == ()


def test_table_covers_every_setting_of_the_false_alarm_time():
    assert changes.FALSE_ALARM_DAYS[0] == 250 and changes.FALSE_ALARM_DAYS[-1] == 2000
    for method in changes.METHODS:
        assert changes.threshold_for(method, 700) == pytest.approx(
            np.interp(np.log(700), np.log([500, 1000]), changes.THRESHOLDS[method][1:3])
        )
