"""Monitors: a step against its definition and against the whole history, alarms, and days that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.correlation import changes, dcc, kernels
from actors.risk.covariance import correlation_of, ewma, mean_pair
from actors.risk.garch import fit_garch
from cluster.errors import InvalidMarketData


def market(rng, days, rho=0.4, n=5):
    return 0.01 * (np.sqrt(rho) * rng.normal(size=(days, 1)) + np.sqrt(1 - rho) * rng.normal(size=(days, n)))


@pytest.fixture(scope="module")
def fitted():
    returns = market(np.random.default_rng(0), 600)
    margins = [fit_garch(column.copy()) for column in returns.T]
    return returns, margins, dcc.fit_dcc(np.column_stack([m.residuals for m in margins]), margins)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 25), decay=st.floats(0.8, 0.99))
def test_ewma_monitor_equals_its_plain_twin_day_by_day(seed, n, decay):
    rng = np.random.default_rng(seed)
    history = market(rng, 150, n=n)
    monitor, covariance = kernels.ewma_monitor(history, decay), ewma(history, decay)
    for moves in market(rng, 5, n=n):
        covariance, mean, share = kernels.ewma_step_plain(moves, covariance, decay)
        assert monitor.step(moves) == pytest.approx(mean, rel=1e-10, abs=1e-14)
        assert monitor.state[kernels.SHARE] == pytest.approx(share, rel=1e-10)
        np.testing.assert_allclose(monitor.correlation, correlation_of(covariance), rtol=0, atol=1e-12)


def test_dcc_monitor_equals_its_plain_twin_and_the_fit_carried_on(fitted):
    returns, margins, fit = fitted
    monitor = kernels.dcc_monitor(returns, fit, margins)
    q, variances, carried = fit.q, np.array([m.next_variance for m in margins]), fit
    for moves in market(np.random.default_rng(1), 30):
        shocks = (moves - [m.mu for m in margins]) / np.sqrt(variances)
        q, variances, mean, share = kernels.dcc_step_plain(moves, q, variances, margins, fit)
        carried = dcc.updated(carried, shocks)
        assert monitor.step(moves) == pytest.approx(mean, rel=1e-10)
        assert monitor.state[kernels.SHARE] == pytest.approx(share, rel=1e-9)
        assert mean == pytest.approx(mean_pair(carried.correlation), rel=1e-10)
        np.testing.assert_allclose(monitor.correlation, carried.correlation, rtol=0, atol=1e-12)


def test_sums_are_those_of_scores_among_the_reference():
    rng = np.random.default_rng(3)
    monitor = kernels.ewma_monitor(market(rng, 400), 0.94)
    past, scores = monitor.reference[0, :-1].copy(), monitor.reference[1]
    assert (np.diff(monitor.reference[0]) > 0).all() and (np.diff(scores) > 0).all()
    up = down = 0.0
    for moves in market(rng, 50):
        monitor.step(moves)
        score = scores[np.searchsorted(past, monitor.state[kernels.SHARE])]
        up, down = max(0.0, up + score - changes.ALLOWANCE), max(0.0, down - score - changes.ALLOWANCE)
        assert monitor.state[kernels.UP] == pytest.approx(up, abs=1e-12)
        assert monitor.state[kernels.DOWN] == pytest.approx(down, abs=1e-12)


@pytest.mark.parametrize(("rho", "direction"), [(0.95, 1), (0.0, -1)])
def test_change_raises_the_alarm_and_says_which_way(rho, direction):
    monitor = kernels.ewma_monitor(market(np.random.default_rng(4), 500, 0.5, n=10), 0.94)
    assert monitor.alarm == 0
    for moves in market(np.random.default_rng(5), 200, rho, n=10):
        monitor.step(moves)
        if monitor.alarm:
            break
    assert monitor.alarm == direction


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_day_that_is_not_finite_is_refused_and_leaves_everything_as_it_was(fitted, bad):
    returns, margins, fit = fitted
    for monitor in (kernels.ewma_monitor(returns, 0.94), kernels.dcc_monitor(returns, fit, margins)):
        before = monitor.matrix.tobytes(), monitor.state.tobytes()
        moves = np.zeros(5)
        moves[3] = bad
        with pytest.raises(InvalidMarketData):
            monitor.step(moves)
        assert (monitor.matrix.tobytes(), monitor.state.tobytes()) == before


def test_day_on_which_nothing_moves_counts_for_nothing(fitted):
    monitor = kernels.ewma_monitor(fitted[0], 0.94)
    monitor.step(np.full(5, 0.02))
    sums, r = monitor.state[:2].copy(), monitor.correlation
    monitor.step(np.zeros(5))
    np.testing.assert_array_equal(monitor.state[:2], sums)
    np.testing.assert_allclose(monitor.correlation, r, atol=1e-14)


def test_monitor_of_what_does_not_move_or_of_a_corrected_fit_is_refused(fitted):
    returns, margins, fit = fitted
    still = returns.copy()
    still[:, 2] = 0.0
    with pytest.raises(InvalidMarketData):
        kernels.ewma_monitor(still, 0.94)
    with pytest.raises(InvalidMarketData):
        kernels.dcc_monitor(returns, dcc.replace(fit, corrected=True), margins)
