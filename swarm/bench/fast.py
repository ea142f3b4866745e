"""``swarm bench fast``: five agents of a real swarm over lanes, beside the same questions through Ray and the hub.

The caller is held on the first core and the agents on the last; they wait parked, as they do by default.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cluster import runtime
from hive.messages.calculation import Role
from hive.messages.fast import OPERATIONS
from hive.messages.portfolio import Portfolio
from hive.reference import Distance
from swarm.bench.record import Row, row
from swarm.client import SwarmClient
from swarm.settings import Settings

TIMEOUT_S = 30.0
CONFIDENCE = 0.95
DEPTH = 1e5  # money at the touch, of the made-up liquidity of the bench


def run(*, rounds: int, settings: Settings, progress: Callable[[str], None]) -> list[Row]:
    """Every operation over a lane, and a book by all five at once, on bundled prices: 20 assets, 8312 days."""
    before = os.sched_getaffinity(0)
    progress("starting a swarm")
    with SwarmClient.embedded(settings=settings) as client:
        os.sched_setaffinity(0, sorted(before)[:1])
        for agent in client.health().agents:
            for task in Path(f"/proc/{agent.pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), sorted(before)[-1:])
        try:
            return [*_operations(client, rounds, progress), *_desk(client, rounds, progress)]
        finally:
            os.sched_setaffinity(0, before)


def _operations(client: SwarmClient, rounds: int, progress: Callable[[str], None]) -> list[Row]:
    n = len(client.snapshot().symbols)
    params = {"assets": n, "days": client.snapshot().observations}
    rows = []
    for role, name, numbers, goals in _questions(n):
        progress(f"{role}: {name}")
        near, far = client.reference(role), client.reference(role, distance=Distance.CALL)
        operation = OPERATIONS[role][name]
        near.ask(operation, numbers, patience_s=TIMEOUT_S)
        lane = near.lane()

        def ask(lane: Any = lane, operation: int = operation, numbers: np.ndarray = numbers) -> None:
            lane.ask(operation, numbers)

        taken = _timed(ask, rounds)
        call = row(
            f"{role}: {name}, a Ray call",
            _timed(lambda: far.ask(operation, numbers, patience_s=TIMEOUT_S), max(20, rounds // 20)),  # noqa: B023
            unit="us",
            params=params,
        )
        for goal in goals:
            words = f"{role}: {name}, over a lane" + (", its tail" if goal[0] == "p99" else "")
            rows.append(row(words, taken, unit="us", params=params, goal=goal, peer=call))
        rows.append(call)
        near.close()
    return rows


def _questions(n: int) -> list[tuple[Role, str, np.ndarray, list[tuple[str, float]]]]:
    weights = np.full(n, 1 / n)
    sure = np.concatenate([[CONFIDENCE], weights])
    market = np.concatenate([[1e6], weights * 1e6, np.full(n, 1e7), np.full(n, 1e-4), np.full(n, DEPTH)])
    below = [("p50", 100.0)]
    return [
        (Role.VALUE_AT_RISK, "parametric", sure, [("p50", 10.0), ("p99", 25.0)]),
        (Role.VALUE_AT_RISK, "historical", sure, below),
        (Role.STRESS, "scenarios", weights, below),
        (Role.STRESS, "simulated", sure, below),
        (Role.CORRELATION, "book", weights, below),
        (Role.LIQUIDITY, "book", market, below),
        (Role.PORTFOLIO, "risk_budgets", weights, below),
        (Role.PORTFOLIO, "minimum_variance", np.full(n, 3 / n), below),
    ]


def _desk(client: SwarmClient, rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """A book by all five: over lanes, by five Ray calls with the same numbers, and as a COMPREHENSIVE by the hub."""
    progress("five agents at once")
    book = Portfolio.equal_weights(client.snapshot().symbols, value=1e7)
    with client.fast(book, confidence=CONFIDENCE, patience_s=TIMEOUT_S) as desk:
        missing = desk.calculate().missing
        assert not missing, missing
        asked = {role: desk._questions[role] for role in desk._references}
        actors = {role: runtime.find_actor(role.value, client._namespace) for role in asked}

        def through_ray() -> None:
            waiting = [actors[role].fast.remote(*question, 0) for role, question in asked.items()]
            runtime.wait_for(waiting, TIMEOUT_S)

        sides: dict[str, Callable[[], Any]] = {
            "five agents at once over lanes": desk.answers,
            "the same numbers by five Ray calls": through_ray,
            "five agents at once over the hub's lanes, one Ray call": lambda: client.calculate_fast(book),
            "COMPREHENSIVE through the hub, with every interval": lambda: client.calculate(book),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(max(10, rounds // 20)):
            for name, side in sides.items():
                times[name] += _timed(side, 5)
    lanes, *others = sides
    peers = [row(name, times[name], unit="us") for name in others]
    return [row(lanes, times[lanes], unit="us", goal=("p50", 500.0), peer=peers[0]), *peers]


def _timed(call: Callable[[], Any], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return taken
