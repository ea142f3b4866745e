"""Correlation: a monitor's day beside NumPy, and dynamic correlation of 20 stocks over 33 years."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from swarm.bench.kernels import Case

HISTORY_DAYS = 2000  # of the made-up markets that monitors stand on
DECAY = 0.94
A, B = 0.01, 0.97
FIT_SAMPLES = 5
SIZES = (5, 10, 20, 50, 100, 200)
GOALS = {20: ("p50", 2.0), 100: ("p50", 15.0)}


def cases() -> Iterable[Case]:
    """A day of EWMA and of DCC, one likelihood of a DCC, its whole second stage, and a history of change points."""
    yield from (_ewma_day(n) for n in SIZES)
    yield from (_dcc_day(n) for n in SIZES)
    residuals = _residuals()
    yield _likelihood(residuals)
    yield from (_fit(residuals, likelihood) for likelihood in ("full", "all_pairs", "contiguous_pairs"))
    yield from (_changes(method) for method in ("cusum", "bayesian_change_point"))


def _ewma_day(n: int) -> Case:
    from actors.risk.correlation.kernels import ewma_monitor

    monitor, moves = ewma_monitor(_returns(n), DECAY), _returns(n)[-1].copy()
    covariance, past, scores = monitor.correlation * 1e-4, monitor.reference[0], monitor.reference[1]
    sums = np.zeros(2)

    def by_numpy() -> float:
        z = moves / np.sqrt(covariance.diagonal())
        _judge(z, past, scores, sums)
        np.multiply(covariance, DECAY, out=covariance)
        np.add(covariance, (1 - DECAY) * np.outer(moves, moves), out=covariance)
        scale = 1.0 / np.sqrt(covariance.diagonal())
        return float((scale @ covariance @ scale - n) / (n * (n - 1)))

    return Case(
        "a day of EWMA correlation and its watch",
        {"assets": n},
        lambda: monitor.step(moves),
        goal=GOALS.get(n),
        peers={"NumPy": by_numpy},
    )


def _dcc_day(n: int) -> Case:
    from actors.risk.correlation.dcc import Dcc
    from actors.risk.correlation.kernels import dcc_monitor
    from actors.risk.garch import Garch

    returns = _returns(n)
    target = np.corrcoef(returns.T)
    none = np.zeros(0)
    margin = Garch(0.0, 1e-6, 0.05, 0.93, 0.0, none, none, 1e-4, True, None)
    fit = Dcc(A, B, None, None, "", 0.0, 0.0, "full", False, len(returns), target, target, "", 0)
    monitor, moves = dcc_monitor(returns, fit, [margin] * n), returns[-1].copy()
    q, variances, past, scores, sums = target.copy(), np.full(n, 1e-4), *monitor.reference, np.zeros(2)

    def by_numpy() -> float:
        z = moves / np.sqrt(variances)
        _judge(z, past, scores, sums)
        variances[:] = margin.omega + margin.alpha * moves**2 + margin.beta * variances
        np.multiply(q, B, out=q)
        np.add(q, (1 - A - B) * target + A * np.outer(z, z), out=q)
        scale = 1.0 / np.sqrt(q.diagonal())
        return float((scale @ q @ scale - n) / (n * (n - 1)))

    return Case(
        "a day of DCC, GARCH margins and its watch",
        {"assets": n},
        lambda: monitor.step(moves),
        goal=GOALS.get(n),
        peers={"NumPy": by_numpy},
    )


def _likelihood(residuals: np.ndarray) -> Case:
    from scipy.signal import lfilter

    from actors.risk.correlation.dcc_kernels import full_log_likelihood

    days, n = residuals.shape
    target = residuals.T @ residuals / days
    buffers = np.empty((n, n)), np.empty((n, n + 1)), np.empty(days)
    products = (residuals[:, :, None] * residuals[:, None, :]).reshape(days, -1)

    def by_numpy() -> float:
        pulled = (1 - A - B) * target.ravel() + A * products[:-1]
        q = np.empty((days, n * n))
        q[0] = target.ravel()
        q[1:] = lfilter([1.0], [1.0, -B], pulled, axis=0, zi=B * target.reshape(1, -1))[0]
        q = q.reshape(days, n, n)
        deviations = np.sqrt(np.diagonal(q, axis1=1, axis2=2))
        factor = np.linalg.cholesky(q / (deviations[:, :, None] * deviations[:, None, :]))
        solved = np.linalg.solve(factor, residuals[:, :, None])[:, :, 0]
        log_det = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum()
        return float(-0.5 * (log_det + (solved**2).sum() - (residuals**2).sum()))

    return Case(
        "DCC log likelihood",
        {"assets": n, "days": days},
        lambda: full_log_likelihood(residuals, residuals, target, A, B, *buffers),
        unit="ms",
        peers={"NumPy, batched Cholesky": by_numpy},
    )


def _fit(residuals: np.ndarray, likelihood: str) -> Case:
    from actors.risk.correlation.dcc import fit_dcc

    days, n = residuals.shape
    return Case(
        f"DCC second stage, {likelihood.replace('_', ' ')}",
        {"assets": n, "days": days},
        lambda: fit_dcc(residuals, likelihood=likelihood),  # type: ignore[arg-type]
        unit="s",
        goal=("p50", 3.0 if likelihood == "full" else 0.5),
        samples=FIT_SAMPLES,
    )


def _changes(method: str) -> Case:
    from actors.risk.correlation.changes import detect, threshold_for

    returns = _bundled()
    threshold = threshold_for(method, 1000)  # type: ignore[arg-type]
    return Case(
        f"change points of a history by {method.replace('_', ' ')}",
        {"assets": returns.shape[1], "days": len(returns)},
        lambda: detect(returns, method, "mean_correlation", threshold),  # type: ignore[arg-type]
        unit="ms",
        samples=30,
    )


def _judge(z: np.ndarray, past: np.ndarray, scores: np.ndarray, sums: np.ndarray) -> None:
    score = scores[np.searchsorted(past, z.sum() ** 2 / (len(z) * (z @ z)))]
    sums[0] = max(0.0, sums[0] + score - 0.25)
    sums[1] = max(0.0, sums[1] - score - 0.25)


def _returns(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return np.asarray(0.01 * (0.6 * rng.normal(size=(HISTORY_DAYS, 1)) + 0.8 * rng.normal(size=(HISTORY_DAYS, n))))


def _bundled() -> np.ndarray:
    from hive.market.settings import MarketSettings
    from hive.market.sources import bundled

    return np.asarray(bundled(MarketSettings()).returns)


def _residuals() -> np.ndarray:
    """Standardised shocks of the bundled stocks."""
    from actors.risk.garch import fit_garch

    return np.column_stack([fit_garch(column.copy()).residuals for column in _bundled().T])
