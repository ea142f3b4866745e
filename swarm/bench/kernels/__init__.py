"""``swarm bench kernels``: every compiled kernel beside its peers, in turns within one run, each side on one core."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cluster.errors import InvalidRequest
from swarm.bench import record

ROOMS = ("value_at_risk", "monte_carlo", "stress", "correlation", "liquidity", "portfolio")
BY = " by "  # between a kernel's name and its peer's in a row's name
SAMPLE_NS = 200_000  # a timed batch of calls lasts at least this long, so that the clock does not show
UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@dataclass(frozen=True)
class Case:
    """One call to time, and the calls that do the same work another way."""

    name: str
    params: dict[str, Any]
    """Sizes, such as {"assets": 20, "days": 8312}."""
    run: Callable[[], Any]
    """The kernel on resident state, as a caller in Python meets it."""
    unit: str = "us"
    goal: tuple[str, float] | None = None
    """Percentile and bound in ``unit``, such as ("p50", 5.0)."""
    peers: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """By name, such as {"NumPy": ..., "skfolio": ...}; a slow peer is timed fewer times."""
    samples: int = 300
    calls_each: int = 1
    """Steps that one call of ``run`` makes, where a compiled loop is timed and a step is meant."""


def run(rooms: Sequence[str], progress: Callable[[str], None]) -> list[record.Row]:
    """Time every case of the rooms; samples of a kernel and of its peers alternate.

    Raises
    ------
    InvalidRequest
        A library that does the same work is not installed.
    """
    if find_spec("QuantLib") is None:
        raise InvalidRequest("QuantLib, which kernels are held against, is not installed", "Install the `dev` group")
    from threadpoolctl import threadpool_limits

    rows: list[record.Row] = []
    for room in rooms:
        module = import_module(f"swarm.bench.kernels.{room}")
        cases: Iterable[Case] = module.cases()
        for case in cases:
            progress(f"{room}: {case.name} {case.params}")
            with threadpool_limits(limits=1):  # of BLAS: a kernel has one core, and so has who does the same work
                rows += _timed(case)
    return rows


def _timed(case: Case) -> list[record.Row]:
    sides = {"": case.run, **case.peers}
    batches = {name: _batch(call) for name, call in sides.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    counts = {name: max(5, min(case.samples, int(2e9 / span))) for name, (_, span) in batches.items()}
    gc.collect()
    gc.disable()
    try:
        for turn in range(max(counts.values())):
            for name, call in sides.items():
                # A slow peer takes part in every n-th turn, so that all are spread over the same minutes.
                if turn % max(1, max(counts.values()) // counts[name]) == 0 and len(taken[name]) < counts[name]:
                    taken[name].append(_once(call, batches[name][0]))
    finally:
        gc.enable()
    scale = UNITS[case.unit]
    first = [ns / scale / case.calls_each for ns in taken[""]]
    peers = [
        record.row(f"{case.name}{BY}{name}", [ns / scale for ns in taken[name]], unit=case.unit, params=case.params)
        for name in case.peers
    ]
    own = record.row(
        case.name, first, unit=case.unit, params=case.params, goal=case.goal, peer=peers[0] if peers else None
    )
    return [own, *peers]


def _batch(call: Callable[[], Any]) -> tuple[int, float]:
    """(calls in a batch, nanoseconds of the batch), after a warm-up that compiles and fills caches."""
    call()
    call()
    calls = 1
    while True:
        span = _once(call, calls) * calls
        if span >= SAMPLE_NS:
            return calls, span
        calls = max(calls * 2, int(calls * SAMPLE_NS / max(span, 1.0)))


def _once(call: Callable[[], Any], calls: int) -> float:
    """Nanoseconds of one call, the mean of a batch of ``calls``."""
    started = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - started) / calls
