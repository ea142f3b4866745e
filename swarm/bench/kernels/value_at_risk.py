"""Value at risk: kernels on resident state beside NumPy, skfolio and QuantLib, on the bundled prices where they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from swarm.bench.kernels import Case

CONFIDENCE = 0.95
PARAMETRIC_GOALS = {20: ("p50", 1.5), 100: ("p50", 5.0), 500: ("p50", 100.0)}
TICKS = 10_000  # steps of one timed run of the monitor


def cases() -> Iterable[Case]:
    """Parametric and historical tails, their components, the monitor's tick, a backtest and a bootstrap."""
    yield from (_parametric(n) for n in (5, 10, 20, 50, 100, 200, 500))
    returns = _returns()
    yield from (_historical(returns[-days:]) for days in (252, 500, 1000, 2000, 4000, len(returns)))
    yield _contributions(returns)
    yield from (_selection(n) for n in (1000, 8312, 100_000, 1_000_000))
    yield from (_tick(n) for n in (20, 100))
    yield _rolling(returns)
    yield _bootstrap(returns)


def _parametric(n: int) -> Case:
    from actors.risk.value_at_risk.resident import ParametricTail

    rng = np.random.default_rng(n)
    factors = rng.normal(size=(n, n))
    covariance, means, weights = factors @ factors.T / n * 1e-4, rng.normal(0, 1e-4, n), rng.dirichlet(np.ones(n))
    tail = ParametricTail(covariance, means, CONFIDENCE)
    z, beyond = tail.z, tail.beyond

    def by_numpy() -> tuple[float, float, np.ndarray, np.ndarray]:
        with_book = covariance @ weights
        deviation = np.sqrt(weights @ with_book)
        carried, drift = weights * (with_book / deviation), weights * means
        mean = drift.sum()
        return z * deviation - mean, beyond * deviation - mean, z * carried - drift, beyond * carried - drift

    return Case(
        "parametric VaR, CVaR and components",
        {"assets": n},
        lambda: tail.contributions(weights),
        goal=PARAMETRIC_GOALS.get(n),
        peers={"NumPy": by_numpy},
    )


def _historical(returns: np.ndarray) -> Case:
    from actors.risk.value_at_risk.resident import HistoricalTail

    days, n = returns.shape
    weights = np.full(n, 1 / n)
    tail = HistoricalTail(returns, CONFIDENCE)
    beyond = round((1 - CONFIDENCE) * days)
    lowest = days - beyond - 1

    def by_numpy() -> tuple[float, float]:
        ordered = np.partition(-(returns @ weights), lowest)
        return ordered[lowest], ordered[lowest + 1 :].mean()

    peers: dict[str, Callable[[], Any]] = {"NumPy": by_numpy}
    if days > 5000:
        peers["skfolio"] = _by_skfolio(returns, weights)
    goals = {252: ("p50", 3.0), 500: ("p50", 5.0), 1000: ("p50", 8.0)}
    return Case(
        "historical VaR and CVaR",
        {"assets": n, "days": days},
        lambda: tail.measure(weights),
        goal=goals.get(days),
        peers=peers,
    )


def _contributions(returns: np.ndarray) -> Case:
    from actors.risk.value_at_risk.resident import HistoricalTail

    days, n = returns.shape
    weights = np.full(n, 1 / n)
    tail = HistoricalTail(returns, CONFIDENCE)
    size = (1 - CONFIDENCE) * days

    def by_numpy() -> tuple[float, np.ndarray]:
        losses = -(returns @ weights)
        worst = np.argpartition(losses, days - int(size) - 1)[days - int(size) - 1 :]
        var = losses[worst].min()
        shares = np.where(losses[worst] > var, 1 / size, 1 - int(size) / size)
        return var, -(shares @ returns[worst]) * weights

    return Case(
        "historical VaR, CVaR and components",
        {"assets": n, "days": days},
        lambda: tail.contributions(weights),
        goal=("p50", 150.0),
        peers={"NumPy": by_numpy, "skfolio": _contributions_by_skfolio(returns, weights)},
        samples=200,
    )


def _selection(n: int) -> Case:
    from actors.risk.kernels import NO_GUESS, tail_of
    from actors.risk.measures import tail

    losses = np.random.default_rng(n).standard_t(4, n) * 0.01
    scratch = np.empty(n)
    return Case(
        "VaR and CVaR of losses",
        {"losses": n},
        lambda: tail_of(losses, scratch, CONFIDENCE, NO_GUESS),
        peers={"NumPy": lambda: tail(losses, CONFIDENCE), "QuantLib, filled before": _by_quantlib(losses)},
    )


def _tick(n: int) -> Case:
    from actors.risk.value_at_risk.kernels import watch
    from actors.risk.value_at_risk.resident import Monitor

    rng = np.random.default_rng(n)
    factors = rng.normal(size=(n, n))
    monitor = Monitor(
        factors @ factors.T / n * 1e-4,
        rng.normal(size=n),
        np.full(n, 100.0),
        cash=1e4,
        limits={"var": 0.02, "drawdown": 0.2, "leverage": 2.0, "concentration": 0.3},
    )
    which, prices = rng.integers(0, n, TICKS), 100 * np.exp(rng.normal(0, 0.01, TICKS))
    found = np.empty(TICKS, np.int64)
    return Case(
        "monitor: one tick of P&L, exposure, VaR, drawdown and limits",
        {"assets": n},
        lambda: watch(monitor.covariance, monitor.positions, monitor.book, monitor.limits, which, prices, found),
        unit="ns",
        goal=("p50", 50.0),
        calls_each=TICKS,
    )


def _rolling(returns: np.ndarray) -> Case:
    from actors.risk.value_at_risk.kernels import rolling_tails

    window = 500
    losses = -returns.mean(axis=1)
    ordered, days, found = np.empty(window), np.empty(window, np.int64), np.empty((len(losses) - window, 2))
    rank = window - int((1 - CONFIDENCE) * window) - 1
    windows = np.lib.stride_tricks.sliding_window_view(losses, window)[:-1]

    def by_numpy() -> tuple[np.ndarray, np.ndarray]:
        parted = np.partition(windows, rank, axis=1)
        return parted[:, rank], parted[:, rank + 1 :].mean(axis=1)

    return Case(
        "rolling VaR and CVaR of a backtest",
        {"days": len(losses), "window": window},
        lambda: rolling_tails(losses, window, CONFIDENCE, ordered, days, found),
        unit="ms",
        peers={"NumPy": by_numpy},
        samples=50,
    )


def _bootstrap(returns: np.ndarray) -> Case:
    from actors.risk.measures import tail
    from actors.risk.value_at_risk.blocks import block_starts, bootstrap_tails

    losses = -returns.mean(axis=1)
    length, resamples = 100, 200
    starts = block_starts(len(losses), length, resamples, 0)
    closed = np.concatenate([losses, losses[:length]])

    def by_numpy() -> list[tuple[float, float]]:
        places = (starts[:, :, None] + np.arange(length)).reshape(resamples, -1)[:, : len(losses)]
        return [tail(closed[row], CONFIDENCE) for row in places]

    return Case(
        "block bootstrap of VaR and CVaR",
        {"losses": len(losses), "resamples": resamples},
        lambda: bootstrap_tails(losses, CONFIDENCE, starts, length),
        unit="ms",
        peers={"NumPy": by_numpy},
        samples=50,
    )


def _by_skfolio(returns: np.ndarray, weights: np.ndarray) -> Callable[[], Any]:
    from skfolio.measures import cvar, value_at_risk

    def measured() -> tuple[float, float]:
        daily = returns @ weights
        return value_at_risk(daily, beta=CONFIDENCE), cvar(daily, beta=CONFIDENCE)

    return measured


def _contributions_by_skfolio(returns: np.ndarray, weights: np.ndarray) -> Callable[[], Any]:
    from skfolio import Portfolio, RiskMeasure

    return lambda: Portfolio(returns, weights).contribution(measure=RiskMeasure.CVAR)


def _by_quantlib(losses: np.ndarray) -> Callable[[], Any]:
    import QuantLib

    statistics = QuantLib.RiskStatistics()
    statistics.add((-losses).tolist())
    return lambda: (statistics.valueAtRisk(CONFIDENCE), statistics.expectedShortfall(CONFIDENCE))


def _returns() -> np.ndarray:
    from hive.market.settings import MarketSettings
    from hive.market.sources import bundled

    return np.array(bundled(MarketSettings()).returns)
