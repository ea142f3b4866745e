"""Liquidity of a whole book beside NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from actors.risk.liquidity import kernels
from swarm.bench.kernels import Case


def cases() -> Iterator[Case]:
    """Days, cost, score and stress index."""
    for positions in (5, 20, 100, 500):
        rng = np.random.default_rng(positions)
        table = rng.uniform(0.5, 2.0, (8, positions))
        table[kernels.EXPOSURE] *= 1e5
        table[kernels.VOLUME] *= 1e6
        table[kernels.VOLATILITY] *= 0.01
        table[kernels.SPREAD] *= 1e-4
        table[kernels.DEPTH] *= 1e5
        limits = np.array([0.1, 1.0, 1e5, 10.0, 0.05, 1e7])
        yield _case(table, limits, goal=positions == 20)


def _case(table: np.ndarray, limits: np.ndarray, *, goal: bool) -> Case:
    answer = np.empty(4)
    return Case(
        "liquidity: days, cost, score and stress index",
        {"positions": table.shape[1]},
        lambda: kernels.assess_book(table, limits, answer),
        goal=("p50", 3.0) if goal else None,
        peers={"NumPy": lambda: kernels.assess_book_plain(table, limits)},
    )
