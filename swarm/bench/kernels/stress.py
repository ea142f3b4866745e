"""Stress kernels beside NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from actors.risk.stress.kernels import ScenarioSet
from swarm.bench.kernels import Case


def cases() -> Iterator[Case]:
    """A library of scenarios, and precomputed Monte Carlo scenarios with VaR, CVaR and contributions."""
    rng = np.random.default_rng(3)
    for scenarios, assets in ((100, 20), (1000, 20), (10_000, 20), (100, 100)):
        yield _library(rng.standard_t(4, (scenarios, assets)) * 0.01, goal=(scenarios, assets) == (100, 20))
    for scenarios, assets in ((1000, 20), (10_000, 20), (100_000, 20), (10_000, 100)):
        yield _simulated(rng.standard_t(4, (scenarios, assets)) * 0.01, goal=(scenarios, assets) == (10_000, 20))


def _library(moves: np.ndarray, *, goal: bool) -> Case:
    resident, weights = ScenarioSet(moves), np.full(moves.shape[1], 1.0 / moves.shape[1])

    def numpy() -> tuple[float, np.ndarray]:
        losses = -(moves @ weights)
        worst = losses.argmax()
        return losses[worst], -moves[worst] * weights

    return Case(
        "stress: losses, worst and its contributions",
        {"scenarios": len(moves), "assets": moves.shape[1]},
        lambda: resident.run(weights),
        goal=("p50", 5.0) if goal else None,
        peers={"NumPy": numpy},
    )


def _simulated(moves: np.ndarray, *, goal: bool) -> Case:
    resident, weights = ScenarioSet(moves), np.full(moves.shape[1], 1.0 / moves.shape[1])
    return Case(
        "stress: VaR, CVaR and contributions over scenarios",
        {"scenarios": len(moves), "assets": moves.shape[1]},
        lambda: resident.tail(weights, 0.99),
        goal=("p50", 100.0) if goal else None,
        peers={"NumPy": _numpy_tail(moves, weights)},
        samples=100,
    )


def _numpy_tail(moves: np.ndarray, weights: np.ndarray) -> Callable[[], object]:
    whole = round(len(moves) * 0.01)

    def run() -> tuple[float, float, np.ndarray]:
        losses = -(moves @ weights)
        worst = np.argpartition(losses, len(losses) - whole - 1)[len(losses) - whole - 1 :]
        return float(losses[worst].min()), float(losses[worst].mean()), -moves[worst].mean(axis=0) * weights

    return run
