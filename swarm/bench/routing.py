"""Routing: what a choice from the page costs, until the chosen side sees the question, and what it is worth under load.

The other side of the first rows is one compiled loop on a core of its own that looks at the rings of two instances in
turn and answers with the time at which it saw the question. Under load, the work of the two instances is slept, not
computed, so that a machine of two cores holds them and their callers: what is compared is who is asked.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numba import njit

from cluster.lanes import calls
from cluster.lanes.atomics import futex_wait, load_acquire, now_ns, pause
from cluster.lanes.lane import Lane
from cluster.lanes.layout import (
    ANSWER_HEAD,
    ANSWER_TAIL,
    OK,
    PAGE,
    REQUEST_HEAD,
    REQUEST_TAIL,
    SLOT_CODE,
    SLOT_COUNT,
    SLOT_HEADER,
    SLOT_SENT,
    SLOT_SEQUENCE,
)
from cluster.lanes.peer import started
from cluster.lanes.port import Port
from cluster.lanes.ring import look, publish, release, reserve
from cluster.lanes.serving import REPLY, SCRATCH, finish, next_request
from hive.messages.calculation import Role
from hive.messages.fast import Caller
from hive.routing import kernels
from hive.routing.kernels import NOBODY
from hive.routing.page import CODES, Route, RoutingAddress, RoutingPage, RoutingView
from hive.routing.reference import Leg, RoutedReference
from hive.routing.router import Router
from swarm.bench.record import Row, row

QUESTIONS = 20_000
BATCHES, BATCH = 100, 10_000
INSTANCES = 2
ROLES = (Role.VALUE_AT_RISK, Role.STRESS, Role.CORRELATION, Role.LIQUIDITY, Role.PORTFOLIO)
SLOTS, SIZE = 64, 32
START_S = 60.0
PAYLOAD = 8
# Under load.
CALLERS, ASKED = 4, 400
QUICK_NS, SLOW_NS, SLOW_SHARE = 300_000, 6_000_000, 0.05


def run(progress: Callable[[str], None], cores: list[int]) -> list[Row]:
    """Rows of routing; the caller is held on the first core already."""
    shown = RoutingPage()
    shown.show(_route(role, number) for role in ROLES for number in (1, 2))
    view = RoutingView(shown.admit(Caller.here("spin")))
    try:
        progress("choosing")
        rows = _choosing(view)
        progress("choosing and publishing")
        rows += _published(shown, view, cores)
        os.sched_setaffinity(0, cores)
        progress("two instances under load")
        return [*rows, *_under_load(shown)]
    finally:
        view.close()
        shown.close()


def _choosing(view: RoutingView) -> list[Row]:
    page = view._words, view._copies, view._state
    _chosen(*page, CODES[Role.STRESS], 1)
    compiled, plain = [], []
    for _ in range(BATCHES):
        begun = time.perf_counter_ns()
        _chosen(*page, CODES[Role.STRESS], BATCH)
        compiled.append((time.perf_counter_ns() - begun) / BATCH / 1e3)
        begun = time.perf_counter_ns()
        for _ in range(BATCH // 10):
            view.choose(Role.STRESS)
        plain.append((time.perf_counter_ns() - begun) / (BATCH // 10) / 1e3)
    params = {"instances": INSTANCES * len(ROLES), "of the role": INSTANCES}
    return [
        row("a choice from the routing page, compiled", compiled, unit="us", params=params),
        row("a choice from the routing page, from Python", plain, unit="us", params=params),
    ]


def _published(shown: RoutingPage, view: RoutingView, cores: list[int]) -> list[Row]:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(_ported()) for _ in range(INSTANCES)]
        lanes = [Lane(port.open(os.getpid(), started(os.getpid()), "spin"), "spin") for port in ports]
        for lane in lanes:
            stack.callback(lane.close)
        stop = np.zeros(1, np.int64)
        seeing = threading.Thread(target=_seen, args=(ports, stop, cores[-1]), daemon=True)
        seeing.start()
        stack.callback(seeing.join)
        stack.callback(stop.fill, 1)
        times = np.empty(QUESTIONS)
        payload = np.arange(float(PAYLOAD))
        (one, other), answer = lanes, np.empty(lanes[0].room)
        _timed(
            view._words, view._copies, view._state, CODES[Role.STRESS], _row_of(view, 1), payload, answer, times,
            one._memory.words, one._memory.numbers, one._hand, other._memory.words, other._memory.numbers, other._hand,
        )  # fmt: skip
        compiled = (times[QUESTIONS // 10 :] / 1e3).tolist()
        reference, router = _reference(shown)
        stack.callback(router.close)
        attached = router.view()
        assert attached is not None
        for place in range(INSTANCES):
            leg: Leg = reference._leg(attached, _row_of(attached, place + 1))
            leg.reference._lane = lanes[place]
        plain, bare = [], []
        for _ in range(QUESTIONS):
            begun = time.perf_counter_ns()
            one.send(0, payload, patience_s=START_S)
            bare.append((float(one.receive(patience_s=START_S)[0]) - begun) / 1e3)
            begun = time.perf_counter_ns()
            receive = reference.send(0, payload, patience_s=START_S)
            plain.append((float(receive(START_S)[0]) - begun) / 1e3)
        for leg in reference._legs.values():
            leg.reference._lane = None
    goal = ("p50", 1.0)
    peer = row("publish on a lane until the instance sees it, from Python", bare, unit="us")
    return [
        row("choose and publish until the instance sees it, compiled", compiled, unit="us", goal=goal),
        row("choose and publish until the instance sees it, from Python", plain, unit="us", goal=goal, peer=peer),
        peer,
    ]


def _under_load(shown: RoutingPage) -> list[Row]:
    """The same callers and the same two instances, by the page's choice and, with nothing counted, at random."""
    with contextlib.ExitStack() as stack:
        pipes = [stack.enter_context(_sleepers()) for _ in range(INSTANCES)]
        rows: dict[str, list[float]] = {}
        shares: dict[str, list[int]] = {}
        for name, counted in (("random choice", False), ("the page's choice", True)):
            taken: list[float] = []
            asked = [0] * INSTANCES
            threads = [
                threading.Thread(target=_ask, args=(shown, pipes, counted, seed, taken, asked))
                for seed in range(CALLERS)
            ]
            _joined(threads)
            rows[name], shares[name] = taken, asked
    words = f"{CALLERS} callers at {INSTANCES} instances, {{}}"
    what = {"slept ms": f"{QUICK_NS / 1e6:g}, of {SLOW_SHARE:.0%} {SLOW_NS / 1e6:g}"}

    def params(name: str) -> dict[str, Any]:
        return {**what, "share of the first": round(float(shares[name][0] / sum(shares[name])), 3)}

    peer = row(words.format("random choice"), rows["random choice"], unit="us", params=params("random choice"))
    mine = row(
        words.format("the page's choice"),
        rows["the page's choice"],
        unit="us",
        params=params("the page's choice"),
        peer=peer,
    )
    return [mine, peer]


def _ask(
    shown: RoutingPage, pipes: list[Connection], counted: bool, seed: int, taken: list[float], asked: list[int]
) -> None:
    reference, router = _reference(shown, counted=counted)
    view = router.view()
    assert view is not None
    rng = random.Random(seed)
    lanes = {}
    for place, pipe in enumerate(pipes):
        with _TURN:
            pipe.send((os.getpid(), started(os.getpid())))
            lane = Lane(pipe.recv())
        leg = reference._leg(view, _row_of(view, place + 1))
        leg.reference._lane = lanes[place] = lane
    for _ in range(ASKED):
        pause_ns = SLOW_NS if rng.random() < SLOW_SHARE else QUICK_NS
        begun = time.perf_counter_ns()
        reference.ask(0, np.array([float(pause_ns)]), patience_s=START_S)
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    for place, lane in lanes.items():
        asked[place] += lane._hand[calls.SEQUENCE]
    reference.close()
    router.close()


_TURN = threading.Lock()


def _reference(shown: RoutingPage, *, counted: bool = True) -> tuple[RoutedReference, Router]:
    def attach(caller: Caller, _patience_s: float) -> RoutingAddress:
        address = shown.admit(caller)
        column = address.column if counted else NOBODY
        return RoutingAddress(address.pid, address.started, address.descriptor, address.identity, column)

    router = Router(attach)
    return RoutedReference(Role.STRESS, "bench", router, lambda role, _: role.value), router


def _joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _row_of(view: RoutingView, number: int) -> int:
    view.routes()
    rows = range(INSTANCES * len(ROLES))
    return next(r for r in rows if (view.route(r).role, view.route(r).number) == (Role.STRESS, number))


def _route(role: Role, number: int) -> Route:
    return Route(role, number, serving=True, passed_over=False, place=0, pid=0, started=0, life=number)


@contextlib.contextmanager
def _ported() -> Iterator[Port]:
    port = Port(lanes=1, slots=SLOTS, slot_words=SIZE, strategy="spin")
    try:
        yield port
    finally:
        port.stop()


def _seen(ports: list[Port], stop: np.ndarray, core: int) -> None:
    os.sched_setaffinity(threading.get_native_id(), [core])
    (one, other) = (port.memory for port in ports)
    _see(one.words, one.numbers, other.words, other.numbers, ports[0].geometry.lane_at(0), stop)


@contextlib.contextmanager
def _sleepers() -> Iterator[Connection]:
    """An instance in a process of its own whose work is to sleep as long as it is told."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        if not ours.poll(START_S):
            raise TimeoutError("an instance did not start")
        ours.recv()
        yield ours
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    port = Port(lanes=4 * CALLERS, slots=SLOTS, slot_words=SIZE, strategy="park")
    threading.Thread(target=port.serve, args=(lambda: _sleep,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    pipe.send(True)
    while True:
        pid, ticks = pipe.recv()
        pipe.send(port.open(pid, ticks, "park"))


@njit(nogil=True, error_model="numpy")
def _chosen(words, copies, state, role, times):  # type: ignore[no-untyped-def]
    total = 0
    for _ in range(times):
        total += kernels.choose(words, copies, state, role, NOBODY)
    return total


@njit(nogil=True, error_model="numpy")
def _timed(  # type: ignore[no-untyped-def]
    page, copies, state, role, second, payload, answer, times,
    words, numbers, hand, other_words, other_numbers, other_hand,
):  # fmt: skip
    """Choose, count and publish, and take from the answer when the instance saw it; nanoseconds."""
    scratch = np.zeros(2, np.int64)
    for i in range(times.size):
        begun = now_ns(scratch)
        chosen = kernels.choose(page, copies, state, role, NOBODY)
        kernels.count(page, state, chosen, 1)
        if chosen == second:
            calls.send(words, numbers, hand, 0, 0, begun + 1_000_000_000, payload)
            calls.receive(words, numbers, hand, answer, begun + 1_000_000_000)
        else:
            calls.send(other_words, other_numbers, other_hand, 0, 0, begun + 1_000_000_000, payload)
            calls.receive(other_words, other_numbers, other_hand, answer, begun + 1_000_000_000)
        kernels.count(page, state, chosen, -1)
        times[i] = answer[0] - begun


@njit(nogil=True, error_model="numpy")
def _see(words, numbers, other_words, other_numbers, at, stop):  # type: ignore[no-untyped-def]
    """Look at the rings of two instances in turn; the answer is the time at which a question was seen."""
    own, scratch = np.zeros((2, 4), np.int64), np.zeros(2, np.int64)
    while load_acquire(stop, 0) == 0:
        _look_once(words, numbers, at, own[0], scratch)
        _look_once(other_words, other_numbers, at, own[1], scratch)
        pause()


@njit(nogil=True, error_model="numpy")
def _look_once(words, numbers, at, own, scratch):  # type: ignore[no-untyped-def]
    slot = look(words, at + REQUEST_TAIL, at + PAGE, SLOTS, SIZE, own[:2])
    if slot < 0:
        return
    seen = now_ns(scratch)
    reply = reserve(words, at + ANSWER_HEAD, at + PAGE + SLOTS * SIZE, SLOTS, SIZE, own[2:])
    words[reply + SLOT_SEQUENCE] = words[slot + SLOT_SEQUENCE]
    words[reply + SLOT_CODE] = OK
    words[reply + SLOT_COUNT] = 1
    words[reply + SLOT_SENT] = words[slot + SLOT_SENT]
    numbers[reply + SLOT_HEADER] = seen
    publish(words, at + ANSWER_TAIL, own[2:])
    release(words, at + REQUEST_HEAD, own[:2])


@njit(nogil=True, error_model="numpy")
def _sleep(words, numbers, active, own, hand):  # type: ignore[no-untyped-def]
    """Sleep as many nanoseconds as the question says, then answer."""
    nobody = np.zeros(1, np.int64)
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return slot
        futex_wait(nobody, 0, 0, int(numbers[slot + SLOT_HEADER]), hand[SCRATCH:])
        numbers[hand[REPLY] + SLOT_HEADER] = numbers[slot + SLOT_HEADER]
        finish(words, own, hand, OK, 1)
