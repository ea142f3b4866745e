"""``swarm bench lanes``: a question and its answer between two processes, over a lane and over what else there is.

The caller is pinned on one core and the other side on another, where the machine has two. All sides take turns in the
same minutes; times are whole calls from Python, as a caller meets them.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numba import njit

from cluster import runtime
from cluster.lanes import calls
from cluster.lanes.atomics import pause
from cluster.lanes.echo import echo
from cluster.lanes.lane import Lane
from cluster.lanes.layout import REQUEST_HEAD, REQUEST_TAIL, SLOT_HEADER
from cluster.lanes.peer import started
from cluster.lanes.port import Port
from cluster.lanes.ring import NONE, look, publish, release, reserve
from swarm.bench import routing
from swarm.bench.record import Row, row

PAYLOAD = 8  # numbers: 64 bytes
ROUNDS, BATCH, WARMING = 100, 200, 50
SLOW_ROUNDS = 400
MANY_LANES = 64
STREAMED = 5_000_000
STREAM_RUNS = 5
FLOW = 10_000_000
START_S = 60.0
LOOKS = 100_000  # at a subscriber, before the end is looked for
GOALS = {"spin": (2.5, 5.0), "park": (60.0, None)}
ICEORYX_SHARE, RAY_SHARE = 0.25, 0.005  # at least four and two hundred times as quick
NAMESPACE = "bench"


class Nothing:
    """An actor that gives back what it gets."""

    def echo(self, numbers: np.ndarray) -> np.ndarray:
        """The same numbers."""
        return numbers


class Payload(ctypes.Structure):
    """Eight numbers as iceoryx2 carries them."""

    _fields_ = (("numbers", ctypes.c_double * PAYLOAD),)


@dataclass(frozen=True)
class Side:
    """Something that can be asked, and the process that answers."""

    ask: Callable[[], Any]
    pid: int


def run(progress: Callable[[str], None], *, flow: int = FLOW) -> list[Row]:
    """Round trips, throughput, and whether either changes with use."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    os.sched_setaffinity(0, cores[:1])
    payload = np.arange(float(PAYLOAD))
    try:
        with contextlib.ExitStack() as stack:
            sides: dict[str, Side] = {}
            for strategy in GOALS:
                progress(f"an agent that waits by {strategy}")
                sides[strategy] = _asking(stack.enter_context(_served(strategy, cores[-1:])), payload)
            peer = stack.enter_context(_iceoryx(cores[-1:]))
            if peer is not None:
                sides["iceoryx2"] = peer
            rows = _round_trips(sides, progress)
        progress("Ray calls")
        rows += _beside_ray(payload, rows[0])
        rows += _use(payload, cores, rows[0], flow, progress)
        progress("one way")
        rows.append(_one_way(cores))
        rows += routing.run(progress, cores)
    finally:
        os.sched_setaffinity(0, before)
    return rows


def _asking(lane: Lane, payload: np.ndarray) -> Side:
    return Side(lambda: lane.ask(0, payload), lane.address.port.pid)


def _round_trips(sides: dict[str, Side], progress: Callable[[str], None]) -> list[Row]:
    """In turns; who is not asked is stopped, since two that spin on one core would time each other's slices."""
    progress("round trips")
    times: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side.ask()
        os.kill(side.pid, signal.SIGSTOP)
    for _ in range(ROUNDS):
        for name, side in sides.items():
            os.kill(side.pid, signal.SIGCONT)
            _timed(side.ask, WARMING)
            times[name] += _timed(side.ask, BATCH)
            os.kill(side.pid, signal.SIGSTOP)
    for side in sides.values():
        os.kill(side.pid, signal.SIGCONT)
    peer = row("iceoryx2, publish and answer", times["iceoryx2"], unit="us") if "iceoryx2" in times else None
    rows = []
    for name, (median, tail) in GOALS.items():
        label = f"lane round trip, 64 bytes, {name}"
        rows.append(row(label, times[name], unit="us", goal=("p50", median), peer=peer))
        if tail is not None:
            rows.append(row(f"{label}, its tail", times[name], unit="us", goal=("p99", tail)))
    if peer is not None:
        share = [rows[0].p50 / peer.p50]
        goal = ("p50", ICEORYX_SHARE)
        rows += [peer, row("lane round trip, spin, over that of iceoryx2", share, unit="ratio", goal=goal)]
    return rows


def _beside_ray(payload: np.ndarray, lane: Row) -> list[Row]:
    runtime.embed(cpus=2, namespace=NAMESPACE)
    try:
        actor = runtime.spawn(Nothing, name="echo", namespace=NAMESPACE, concurrency_groups={})

        def ask() -> None:
            runtime.wait_for(actor.echo.remote(payload), START_S)

        for _ in range(20):
            ask()
        taken = _timed(ask, SLOW_ROUNDS)
    finally:
        runtime.disconnect()
    call = row("Ray actor call, 64 bytes", taken, unit="us")
    share = [lane.p50 / call.p50]
    return [call, row("lane round trip, spin, over a Ray call", share, unit="ratio", goal=("p50", RAY_SHARE))]


def _use(payload: np.ndarray, cores: list[int], fresh: Row, flow: int, progress: Callable[[str], None]) -> list[Row]:
    """The same round trip after many messages, and with many lanes open."""
    with _served("spin", cores[-1:], others=MANY_LANES - 1) as lane:
        progress(f"{MANY_LANES} lanes")
        _timed(lambda: lane.ask(0, payload), BATCH)
        crowded = _timed(lambda: lane.ask(0, payload), ROUNDS * BATCH)
    with _served("spin", cores[-1:]) as lane:
        progress(f"{flow} messages")
        sent = _flow(lane._memory.words, lane._hand, payload, np.empty(PAYLOAD), flow)
        worn = _timed(lambda: lane.ask(0, payload), ROUNDS * BATCH)
    return [
        row(f"lane round trip, spin, {MANY_LANES} lanes open", crowded, unit="us", peer=fresh),
        row("lane round trip, spin, after messages", worn, unit="us", peer=fresh, params={"messages": sent}),
    ]


def _one_way(cores: list[int]) -> Row:
    """Messages a second from one compiled loop to another, a core each."""
    port = Port(lanes=1, slots=1024, slot_words=16, strategy="spin")
    address = port.open(os.getpid(), started(os.getpid()), "spin")
    lane = Lane(address, "spin")
    rates = []
    try:
        for _ in range(STREAM_RUNS):
            sides = np.zeros((2, 2), np.int64)
            sides[:] = int(lane._memory.words[int(lane._hand[calls.AT]) + REQUEST_TAIL])
            begun = time.perf_counter()
            reader = threading.Thread(target=_drained, args=(lane, sides[1], cores[-1]))
            reader.start()
            _pour(lane._memory.words, int(lane._hand[calls.AT]), 1024, 16, sides[0], STREAMED)
            reader.join()
            rates.append(STREAMED / (time.perf_counter() - begun) / 1e6)
    finally:
        lane.close()
        port.stop()
    return row("one way, compiled to compiled", [1 / rate for rate in rates], unit="us a message", goal=("p50", 0.2))


def _drained(lane: Lane, own: np.ndarray, core: int) -> None:
    os.sched_setaffinity(threading.get_native_id(), [core])
    _drain(lane._memory.words, int(lane._hand[calls.AT]), 1024, 16, own, STREAMED)


@njit(nogil=True, error_model="numpy")
def _flow(words, hand, payload, answer, messages):  # type: ignore[no-untyped-def]
    """Round trips from a compiled loop; how many were right."""
    right = 0
    for i in range(messages):
        payload[0] = i
        if calls.ask(words, hand, 0, 0, 10_000_000_000, payload, answer) >= 0:
            right += answer[0] == i
    return right


@njit(nogil=True, error_model="numpy")
def _pour(words, at, slots, size, own, messages):  # type: ignore[no-untyped-def]
    sent = 0
    while sent < messages:
        slot = reserve(words, at + REQUEST_HEAD, at + 512, slots, size, own)
        if slot == NONE:
            pause()
            continue
        for i in range(PAYLOAD):
            words[slot + SLOT_HEADER + i] = sent + i
        publish(words, at + REQUEST_TAIL, own)
        sent += 1


@njit(nogil=True, error_model="numpy")
def _drain(words, at, slots, size, own, messages):  # type: ignore[no-untyped-def]
    got, total = 0, 0
    while got < messages:
        slot = look(words, at + REQUEST_TAIL, at + 512, slots, size, own)
        if slot == NONE:
            pause()
            continue
        for i in range(PAYLOAD):
            total += words[slot + SLOT_HEADER + i]
        release(words, at + REQUEST_HEAD, own)
        got += 1
    return total


def _timed(call: Callable[[], Any], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return taken


@contextlib.contextmanager
def _served(strategy: str, cores: list[int], others: int = 0) -> Iterator[Lane]:
    """A lane to an echo in a process of its own, on cores of its own."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    me = os.getpid()
    process = spawning.Process(target=_serve, args=(theirs, strategy, cores, me, started(me), others), daemon=True)
    process.start()
    try:
        if not ours.poll(START_S):
            raise TimeoutError("the other side did not start")
        lane = Lane(ours.recv(), strategy)
        yield lane
        lane.close()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, strategy: str, cores: list[int], pid: int, ticks: int, others: int) -> None:
    os.sched_setaffinity(0, cores)
    port = Port(lanes=MANY_LANES, strategy=strategy)
    serving = threading.Thread(target=port.serve, args=(lambda: echo,), daemon=True)
    serving.start()
    for _ in range(others):
        port.open(pid, ticks, strategy)
    pipe.send(port.open(pid, ticks, strategy))
    signal.pause()


@contextlib.contextmanager
def _iceoryx(cores: list[int]) -> Iterator[Side | None]:
    """A round trip over iceoryx2's publishers and subscribers; None where it is not installed."""
    try:
        publisher, subscriber, _keep = _ends("question", "answer")
    except ImportError:
        yield None
        return
    spawning = multiprocessing.get_context("spawn")
    ready, done = spawning.Event(), spawning.Event()
    process = spawning.Process(target=_answer, args=(cores, ready, done), daemon=True)
    process.start()
    payload = Payload()

    def ask() -> None:
        publisher.send_copy(payload)
        while subscriber.receive() is None:
            pass

    try:
        if not ready.wait(START_S):
            raise TimeoutError("the other side did not start")
        yield Side(ask, process.pid or 0)
    finally:
        done.set()  # killed, it would leave its files in /dev/shm
        process.join()


def _ends(sent: str, received: str) -> tuple[Any, Any, Any]:
    import iceoryx2

    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)

    def service(name: str) -> Any:
        named = iceoryx2.ServiceName.new(f"riskswarm-bench-{name}")
        return node.service_builder(named).publish_subscribe(Payload).open_or_create()

    out, back = service(sent), service(received)
    return out.publisher_builder().create(), back.subscriber_builder().create(), (node, out, back)


def _answer(cores: list[int], ready: Any, done: Any) -> None:
    os.sched_setaffinity(0, cores)
    publisher, subscriber, _keep = _ends("answer", "question")
    ready.set()
    looks = 0
    while looks % LOOKS or not done.is_set():
        looks += 1
        sample = subscriber.receive()
        if sample is not None:
            publisher.send_copy(sample.payload().contents)
