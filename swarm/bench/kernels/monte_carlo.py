"""Monte Carlo VaR and CVaR with contributions, every asset drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from actors.risk.value_at_risk import mc_kernels
from swarm.bench.kernels import Case

CONFIDENCE = 0.99
GOALS_MS = {math.inf: 20.0, 5.0: 30.0}


def cases() -> Iterator[Case]:
    """Normal and Student-t moves, and the cost as rows and assets grow."""
    for degrees in GOALS_MS:
        for rows, assets in ((100_000, 20), (10_000, 20), (1000, 20), (100_000, 5), (100_000, 100)):
            yield _case(rows, assets, degrees)


def _case(rows: int, assets: int, degrees: float) -> Case:
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(assets, 3 * assets))
    root = np.linalg.cholesky(factors @ factors.T / (3 * assets) * 1e-4)
    weights, zeros = np.full(assets, 1.0 / assets), np.zeros(assets)
    buffers, contributions = mc_kernels.buffers_for(rows, assets), np.empty(assets)

    def ours() -> None:
        mc_kernels.simulate(np.uint64(7), zeros, root, weights, zeros, degrees, CONFIDENCE, buffers, contributions)

    law = "Student-t" if degrees < math.inf else "Gaussian"
    headline = (rows, assets) == (100_000, 20)
    return Case(
        f"Monte Carlo VaR, CVaR and contributions, {law}",
        {"rows": rows, "assets": assets},
        ours,
        unit="ms",
        goal=("p50", GOALS_MS[degrees]) if headline else None,
        peers={"NumPy": _numpy(rows, root, weights, degrees, rng)},
        samples=40,
    )


def _numpy(
    rows: int, root: np.ndarray, weights: np.ndarray, degrees: float, rng: np.random.Generator
) -> Callable[[], object]:
    whole = round(rows * (1 - CONFIDENCE))

    def run() -> tuple[float, float, np.ndarray]:
        moves = rng.standard_normal((rows, len(weights))) @ root.T
        if degrees < math.inf:
            moves *= np.sqrt(degrees / rng.chisquare(degrees, rows))[:, None]
        losses = -(moves @ weights)
        worst = np.argpartition(losses, rows - whole - 1)[rows - whole - 1 :]
        var = float(losses[worst].min())
        return var, float(losses[worst].mean()), -moves[worst].mean(axis=0) * weights

    return run
