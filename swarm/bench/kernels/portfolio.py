"""Compiled allocations beside skfolio and SciPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.portfolio import kernels
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from swarm.bench.kernels import Case

DAYS = 1260
TOLERANCE = 1e-8


def cases() -> Iterator[Case]:
    """Risk parity warm and cold, minimum variance with boxes warm and cold; warm means from yesterday's answer."""
    returns = bundled(MarketSettings()).returns
    today = np.ascontiguousarray(ledoit_wolf(returns[-DAYS:])[0])
    yesterday = np.ascontiguousarray(ledoit_wolf(returns[-DAYS - 1 : -1])[0])
    n = len(today)
    budgets, inverse = np.full(n, 1.0 / n), 1.0 / np.sqrt(np.diag(today))
    weights = inverse.copy()
    kernels.risk_budgets(today, budgets, weights, TOLERANCE, 500)
    turns = _alternate(today, yesterday)

    def cold() -> None:
        weights[:] = inverse
        kernels.risk_budgets(today, budgets, weights, TOLERANCE, 500)

    def warm() -> None:
        kernels.risk_budgets(next(turns), budgets, weights, TOLERANCE, 500)

    sample = returns[-DAYS:]
    yield Case("risk parity, warm", {"assets": n}, warm, goal=("p50", 5.0))
    yield Case(
        "risk parity, cold",
        {"assets": n},
        cold,
        goal=("p50", 20.0),
        peers={
            "plain Newton": lambda: kernels.risk_budgets_plain(today, budgets, TOLERANCE, 100),
            "skfolio RiskBudgeting": _skfolio(sample, "RiskBudgeting"),
        },
    )
    lower, upper = np.zeros(n), np.full(n, 0.15)
    solver = kernels.BoxMinimumVariance(lower, upper)
    yield Case(
        "minimum variance with boxes, warm",
        {"assets": n},
        lambda: solver.solve(next(turns)),
        goal=("p50", 50.0),
    )
    yield Case(
        "minimum variance with boxes, cold",
        {"assets": n},
        lambda: kernels.BoxMinimumVariance(lower, upper).solve(today),
        peers={
            "SciPy SLSQP": lambda: kernels.minimum_variance_plain(today, lower, upper, 1.0),
            "skfolio MeanRisk": _skfolio(sample, "MeanRisk", max_weights=0.15),
        },
    )
    for size in (50, 100, 200, 500):
        yield from _larger(size)


def _larger(n: int) -> Iterator[Case]:
    rng = np.random.default_rng(n)
    factors = rng.normal(size=(n, 2 * n))
    covariance = factors @ factors.T / (2 * n)
    budgets, weights = np.full(n, 1.0 / n), np.empty(n)

    def parity() -> None:
        weights[:] = 1.0
        kernels.risk_budgets(covariance, budgets, weights, TOLERANCE, 500)

    yield Case("risk parity, cold", {"assets": n}, parity, samples=50)
    yield Case(
        "minimum variance with boxes, cold",
        {"assets": n},
        lambda: kernels.BoxMinimumVariance(np.zeros(n), np.full(n, 3.0 / n)).solve(covariance),
        samples=50,
    )


def _alternate(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
    while True:
        yield first
        yield second


def _skfolio(returns: np.ndarray, kind: str, **options: float) -> Callable[[], object]:
    from skfolio import optimization
    from skfolio.moments import LedoitWolf
    from skfolio.prior import EmpiricalPrior

    model = getattr(optimization, kind)

    def run() -> object:
        return model(prior_estimator=EmpiricalPrior(covariance_estimator=LedoitWolf()), **options).fit(returns)

    return run
