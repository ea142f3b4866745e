"""What coordination costs: a COMPREHENSIVE through the hub beside the same five calls without it and beside bare Ray.

All sides take turns inside one loop, so that whatever disturbs the machine disturbs them alike.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from cluster import runtime
from cluster.errors import SwarmError
from hive.hub.registry import Registry
from hive.messages.calculation import AnswerStatus, CalculationType, Parameters, Role, Task
from hive.messages.health import Descriptor
from hive.messages.portfolio import Portfolio, resolve
from swarm.bench.record import Row, row
from swarm.client import SwarmClient
from swarm.settings import Settings

TIMEOUT_S = 30.0
FAN = 5
CONCURRENT = 10
INSERTIONS = 10_000


class Bare:
    """An actor that does nothing: the floor under every Ray call."""

    def nothing(self) -> None:
        """Return at once."""


def run(*, calculations: int, settings: Settings, progress: Callable[[str], None]) -> list[Row]:
    """Measure on an embedded swarm of bundled prices: 20 assets, 8312 days."""
    progress("starting a swarm")
    with SwarmClient.embedded(settings=settings) as client:
        return [*_flow(client, settings.namespace, calculations, progress), *_registration(settings)]


def _flow(client: SwarmClient, namespace: str, calculations: int, progress: Callable[[str], None]) -> list[Row]:
    header = client.snapshot()
    book = Portfolio.equal_weights(header.symbols, value=1e7)
    resolved = resolve(book, symbols=header.symbols, currency=header.currency, last_prices=header.last_prices)
    agents = [runtime.find_actor(role.value, namespace) for role in CalculationType.COMPREHENSIVE.roles]
    bare = [
        runtime.spawn(Bare, name=f"bare-{number}", namespace=namespace, concurrency_groups={}) for number in range(FAN)
    ]

    def direct() -> None:
        deadline_ns = time.time_ns() + int(TIMEOUT_S * 1e9)
        task = Task("bench", header.snapshot_id, (resolved,), Parameters(), deadline_ns)
        answers = runtime.wait_for([agent.calculate.remote(task) for agent in agents], TIMEOUT_S)
        assert all(answer.status is AnswerStatus.OK for (answer,) in answers)

    sides: dict[str, Callable[[], Any]] = {
        "call": lambda: runtime.wait_for(bare[0].nothing.remote(), TIMEOUT_S),
        "fan": lambda: runtime.wait_for([actor.nothing.remote() for actor in bare], TIMEOUT_S),
        "direct": direct,
        "comprehensive": lambda: client.calculate(book),
        "var": lambda: client.calculate(book, CalculationType.VAR_CVAR),
        "sweep": lambda: client.health().sweep_ms,
    }
    for side in sides.values():
        for _ in range(5):
            side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    sweeps: list[float] = []
    overheads: list[float] = []
    for number in range(calculations):
        if number % 20 == 0:
            progress(f"round {number} of {calculations}")
        for name, side in sides.items():
            started = time.perf_counter_ns()
            result = side()
            times[name].append((time.perf_counter_ns() - started) / 1e6)
            if name == "sweep":
                sweeps.append(result)
            elif name == "comprehensive":
                slowest = max(answer.elapsed_ns for answer in result.answers.values())
                overheads.append((result.elapsed_ns - slowest) / 1e6)
    progress("ten at a time, then one after another")
    together = _concurrent(client, book)
    started = time.perf_counter_ns()
    row_times = list(_survivors(lambda: _timed(lambda: client.calculate(book)) for _ in range(calculations)))
    per_second = calculations / ((time.perf_counter_ns() - started) / 1e9)

    size = {"assets": len(header.symbols), "days": header.observations}
    call = row("one Ray call to one bare actor", times["call"], unit="ms")
    fan = row("fan-out to five bare actors", times["fan"], unit="ms", peer=call)
    without = row("the five agents asked directly, no hub", times["direct"], unit="ms", params=size, peer=fan)
    return [
        call,
        fan,
        without,
        row("COMPREHENSIVE through the hub", times["comprehensive"], unit="ms", params=size, peer=without),
        row("of it not spent in the slowest agent", overheads, unit="ms", peer=fan),
        row("VAR_CVAR through the hub", times["var"], unit="ms", params=size, peer=call),
        row("health sweep, inside the hub", sweeps, unit="ms", params={"agents": 6}, goal=("p99", 100.0), peer=fan),
        row("health sweep, as the client sees it", times["sweep"], unit="ms", peer=call),
        row("COMPREHENSIVE, ten at a time", together, unit="ms", params={"lost": CONCURRENT * 3 - len(together)}),
        row(
            "COMPREHENSIVE, one after another",
            row_times,
            unit="ms",
            params={"lost": calculations - len(row_times), "per second": round(per_second, 1)},
        ),
    ]


def _concurrent(client: SwarmClient, book: Portfolio) -> list[float]:
    with ThreadPoolExecutor(CONCURRENT) as pool:
        work = [pool.submit(_timed, lambda: client.calculate(book)) for _ in range(CONCURRENT * 3)]
        return list(_survivors(partial(piece.result, TIMEOUT_S) for piece in work))


def _survivors(calculations: Iterable[Callable[[], float]]) -> Iterator[float]:
    """Times of those that were answered; the caller counts what is missing as lost."""
    for calculation in calculations:
        with contextlib.suppress(SwarmError, TimeoutError):
            yield calculation()


def _registration(settings: Settings) -> list[Row]:
    """Insertion of an agent that lives already into a registry that grows to ten thousand."""
    registry = Registry((), settings.hub)
    times = []
    for number in range(INSERTIONS):
        descriptor = Descriptor(f"agent-{number}", Role.STRESS, (), "", "", 1, "one", critical=False)
        started = time.perf_counter_ns()
        registry.register(descriptor, None, started)
        times.append((time.perf_counter_ns() - started) / 1e6)
    return [row("registry insertion", times, unit="ms", params={"registered": INSERTIONS}, goal=("p99", 1.0))]


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter_ns()
    work()
    return float(np.float64(time.perf_counter_ns() - started) / 1e6)
