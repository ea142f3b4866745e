"""``swarm bench gate``: a verdict in a kernel, over a lane, in batches and through Ray; its journal; its kill switch.

The caller is held on the first core and the gate on the last, the gate's journal thread beside the caller's side. Every
order passes every check and is reserved; reservations are given up between measurements, which is not timed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate.book import Account, Instrument
from actors.trading.gate.client import GateClient
from actors.trading.gate.gate import Gate
from actors.trading.gate.history import JOURNAL
from actors.trading.gate.settings import GateSettings
from actors.trading.gate.switch import KillSwitch
from cluster.lanes import calls
from cluster.lanes.atomics import now_ns
from cluster.lanes.lane import Lane
from cluster.lanes.peer import started
from hive.messages.gate import Warrant
from hive.messages.orders import TEXTS, Decision, Order, Reason, Side, Verdict
from hive.reference import Distance
from swarm.bench.record import Row, row
from swarm.client import SwarmClient
from swarm.settings import Settings

SYMBOLS = 20
PRICE = 100.0
BURST = 21_000  # orders of a burst, a third of the gate's room: a fuller table is slower
BURSTS = 10
KILLS = 30
STEADY_S, STEADY_EVERY_S = 3.0, 0.0005
START_S = 60.0
BATCH = 100
WIDE = GateSettings(
    duplicate_window_s=0.0,
    messages_per_s=1e9,
    message_burst=1e9,
    max_notional=1e12,
    max_gross=1e12,
    max_net=1e12,
    max_leverage=1e6,
    credit=1e12,
    max_var_increment=1e12,
    max_var=1e12,
    stale_after_s=1e6,
    open_orders=65536,
    journal_size=262144,
    journal_batch=65536,
    patience_s=5.0,
)
"""Limits that let every order of the bench pass; they are held against it nevertheless."""
BENCH = Warrant("bench", "the drill is over")


def run(*, rounds: int, settings: Settings, progress: Callable[[str], None]) -> list[Row]:
    """Every way to a verdict on a gate of 20 symbols, then the journal and the kill switch."""
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    rows: list[Row] = []
    os.sched_setaffinity(0, cores[:1])
    try:
        progress("the kernel")
        kernel = _kernel(rounds)
        progress("verdicts in Python")
        rows += [kernel, *_verdicts(rounds)]
        for strategy in ("spin", "park"):
            progress(f"over a lane, {strategy}")
            with _served(strategy, cores[-1:]) as side:
                rows += _over_a_lane(side, strategy, rounds)
                if strategy == "spin":
                    progress("in batches")
                    rows += _batches(side, kernel)
                    progress("the kill switch")
                    rows.append(_kills(side))
                else:
                    progress("the journal at a steady pace")
                    rows.append(_steady(side))
        progress("through Ray")
        rows.append(_through_ray(settings, max(100, rounds // 20), rows))
    finally:
        os.sched_setaffinity(0, before)
    return rows


class Served:
    """A gate in a process of its own, and a lane to it."""

    def __init__(self, pipe: Connection, strategy: str) -> None:
        self.pipe = pipe
        self.lane_address, self.facts, self.switch = pipe.recv()
        self.lane = Lane(self.lane_address, strategy)
        self.client = GateClient(self.lane, self.facts)

    def call(self, what: str, *arguments: Any) -> Any:
        """Have the gate's process do something."""
        self.pipe.send((what, *arguments))
        if not self.pipe.poll(START_S):
            raise TimeoutError(f"the gate's process did not {what} in time")
        return self.pipe.recv()

    def empty(self) -> None:
        """Give every reservation up, and wait for the disk."""
        self.call("empty")


def _order(number: int) -> Order:
    return Order(number, "main", "S0", Side.BUY if number % 2 else Side.SELL, 1.0, PRICE)


def _numbers(count: int, first: int = 1) -> np.ndarray:
    """Orders as lanes carry them, over all symbols and both sides."""
    number = np.arange(first, first + count)
    found = np.zeros((count, kernels.ORDER))
    found[:, kernels.ORDER_ID], found[:, kernels.SYMBOL] = number, number % SYMBOLS
    found[:, kernels.SIDE] = np.where(number % 2, 1.0, -1.0)
    found[:, kernels.QUANTITY], found[:, kernels.KIND], found[:, kernels.PRICE] = 1.0, kernels.LIMIT, PRICE
    return found


def _gate(path: Path, strategy: str) -> Gate:
    symbols = [f"S{i}" for i in range(SYMBOLS)]
    factor = np.random.default_rng(0).normal(size=(SYMBOLS, SYMBOLS)) / 100
    gate = Gate(
        settings=WIDE,
        instruments=[Instrument(symbol) for symbol in symbols],
        accounts=[Account("main", 1e12, 1e12)],
        covariance=factor @ factor.T,
        prices=dict.fromkeys(symbols, PRICE),
        journal=path / JOURNAL,
        strategy=strategy,
    )
    for symbol in symbols:
        gate.tick(symbol, PRICE, time.monotonic_ns())
    return gate


def _kernel(rounds: int) -> Row:
    """Checks, reservations and records on one core, the journal's reader left out."""
    with tempfile.TemporaryDirectory(prefix="riskswarm-bench-") as directory:
        gate = _gate(Path(directory), "park")
        gate.close()
        orders, reply = _numbers(BURST), np.zeros(kernels.LARGEST)
        taken = []
        for _ in range(max(10, rounds // 500)):
            book = kernels.emptied(gate._book)
            begun = time.perf_counter_ns()
            allowed = _decide_all(orders, reply, time.monotonic_ns(), book)
            taken.append((time.perf_counter_ns() - begun) / 1e3 / len(orders))
            assert allowed == len(orders)
    return row("check, reserve and record, compiled, one core", taken, unit="us", goal=("p50", 1.0))


def _verdicts(rounds: int) -> list[Row]:
    """What a verdict costs as a Python object, beside its numbers."""
    text = TEXTS[Reason.PASSED]
    plain = row(
        "a Verdict by its constructor",
        _timed(lambda: Verdict(Decision.ALLOW, 1.0, Reason.PASSED, text, 7, 1), rounds),
        unit="us",
    )
    quick = row(
        "a Verdict from a lane's numbers",
        _timed(lambda: Verdict.of(1.0, 1.0, 0.0, 7.0, 1), rounds),
        unit="us",
        peer=plain,
    )
    return [quick, plain]


def _over_a_lane(side: Served, strategy: str, rounds: int) -> list[Row]:
    """From a compiled loop and from Python, in turns."""
    memory, hand, tag = side.lane._memory, side.lane._hand, side.facts.tag
    answer, compiled, whole = np.zeros(side.lane.room), [], []
    _ask_all(memory.words, hand, tag, _numbers(10), answer, np.zeros(10, np.int64))
    number = 10
    for _ in range(max(4, rounds // BATCH)):
        times = np.zeros(BATCH, np.int64)
        right = _ask_all(memory.words, hand, tag, _numbers(BATCH, number), answer, times)
        assert right == BATCH
        compiled += (times / 1e3).tolist()
        number += BATCH
        orders = [_order(n) for n in range(number, number + BATCH)]
        for order in orders:
            begun = time.perf_counter_ns()
            found = side.client.check(order)
            whole.append((time.perf_counter_ns() - begun) / 1e3)
            assert found.decision is Decision.ALLOW, found
        number += BATCH
        if number % 10_000 < 2 * BATCH:
            side.empty()
    side.empty()
    goal = {"spin": 5.0, "park": 5.0}[strategy]
    inner = row(f"verdict over a lane, compiled caller, {strategy}", compiled, unit="us", goal=("p50", goal))
    outer = f"verdict over a lane, GateClient.check, {strategy}"
    return [inner, row(outer, whole, unit="us", goal=("p50", goal), peer=inner)]


def _batches(side: Served, kernel: Row) -> list[Row]:
    """Many orders to a message and many messages on their way; then how long until all of it is on disk."""
    taken, drained, windows = [], [], []
    side.client.check_numbers(_numbers(BURST), patience_s=START_S)
    side.empty()
    for burst in range(BURSTS):
        orders = _numbers(BURST, 1 + burst * BURST)
        begun = time.perf_counter()
        answers = side.client.check_numbers(orders, patience_s=START_S)
        ended = time.perf_counter()
        side.call("durable")
        drained.append((time.perf_counter() - begun) / BURST * 1e6)
        windows.append(side.call("window"))
        taken.append((ended - begun) / BURST * 1e6)
        assert (answers[:, 0] == Decision.ALLOW).all()
        side.empty()
    return [
        row(
            f"a check in batches over a lane, {kernels.MANY} to a message",
            taken,
            unit="us",
            goal=("p50", 1.0),
            peer=kernel,
        ),
        row("the same, until the last verdict is on disk", drained, unit="us a record"),
        row(f"age of the oldest record when on disk, bursts of {BURST}", windows, unit="ms"),
    ]


def _steady(side: Served) -> Row:
    """Age of the oldest record when it became durable, looked at every quarter of a second."""
    side.call("window")
    windows, number, end = [], 10**6, time.monotonic() + STEADY_S
    look = time.monotonic() + 0.25
    while time.monotonic() < end:
        number += 1
        side.client.check(_order(number))
        if time.monotonic() > look:
            windows.append(side.call("window"))
            look = time.monotonic() + 0.25
        time.sleep(STEADY_EVERY_S)
    side.empty()
    return row("age of the oldest record when on disk, about a thousand orders a second", windows, unit="ms")


def _kills(side: Served) -> Row:
    """From the switch thrown by another thread to the first order that is rejected for it, while orders stream."""
    switch, taken = KillSwitch(side.switch), []
    memory, hand, answer = side.lane._memory, side.lane._hand, np.zeros(side.lane.room)
    orders = _numbers(50_000, 10**7)
    for _ in range(KILLS):
        thrown: list[int] = []

        def throw(thrown: list[int] = thrown) -> None:
            time.sleep(0.005)
            thrown.append(time.monotonic_ns())
            switch.kill()

        thread = threading.Thread(target=throw)
        thread.start()
        first = _until_killed(memory.words, hand, side.facts.tag, orders, answer)
        thread.join()
        assert first > 0
        taken.append((first - thrown[0]) / 1e3)
        side.call("release_kill")
        side.empty()
    switch.close()
    return row("kill: from the switch to the first order rejected for it", taken, unit="us", goal=("max", 1e6))


def _through_ray(settings: Settings, rounds: int, rows: list[Row]) -> Row:
    """The gate of a real swarm by Ray calls."""
    lane = next(found for found in rows if "GateClient.check, park" in found.name)
    settings = replace(settings, gate=WIDE)
    with SwarmClient.embedded(settings=settings) as client, client.gate(distance=Distance.CALL) as gate:
        symbol = gate.facts().symbols[0]
        price = float(client.snapshot().last_prices[0])  # type: ignore[index]
        gate.tick(symbol, price)
        taken = []
        for number in range(1, rounds + 1):
            order = Order(number, "main", symbol, Side.BUY, 1.0)
            begun = time.perf_counter_ns()
            found = gate.check(order)
            taken.append((time.perf_counter_ns() - begun) / 1e3)
            assert found.decision is Decision.ALLOW, found
    return row("verdict by a Ray call, GateClient.check", taken, unit="us", peer=lane)


@njit(nogil=True, error_model="numpy")
def _decide_all(orders, reply, now, book):  # type: ignore[no-untyped-def]
    """How many of the orders are allowed."""
    allowed = 0
    for k in range(orders.shape[0]):
        kernels.answer(kernels.CHECK, orders[k], reply, now, book)
        allowed += reply[0] == 1.0
    return allowed


@njit(nogil=True, error_model="numpy")
def _ask_all(words, hand, tag, orders, answer, times):  # type: ignore[no-untyped-def]
    """One after the other, each timed; how many are allowed."""
    allowed, scratch = 0, np.zeros(2, np.int64)
    for k in range(orders.shape[0]):
        begun = now_ns(scratch)
        count = calls.ask(words, hand, 1, tag, 5_000_000_000, orders[k], answer)
        times[k] = now_ns(scratch) - begun
        allowed += count == 6 and answer[0] == 1.0
    return allowed


@njit(nogil=True, error_model="numpy")
def _until_killed(words, hand, tag, orders, answer):  # type: ignore[no-untyped-def]
    """When the first order was back that the kill switch stopped; 0 where none was."""
    scratch = np.zeros(2, np.int64)
    for k in range(orders.shape[0]):
        calls.ask(words, hand, 1, tag, 5_000_000_000, orders[k], answer)
        if answer[2] == 1.0:
            return now_ns(scratch)
    return 0


def _timed(call: Callable[[], Any], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return taken


@contextlib.contextmanager
def _served(strategy: str, cores: list[int]) -> Iterator[Served]:
    """A gate in a process of its own, its loop on cores of its own."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    me = os.getpid()
    with tempfile.TemporaryDirectory(prefix="riskswarm-bench-") as directory:
        process = spawning.Process(
            target=_serve, args=(theirs, strategy, cores, directory, me, started(me)), daemon=True
        )
        process.start()
        try:
            if not ours.poll(START_S):
                raise TimeoutError("the gate did not start")
            side = Served(ours, strategy)
            yield side
            side.client.close()
            side.call("end")
        finally:
            process.terminate()
            process.join()


def _serve(pipe: Connection, strategy: str, cores: list[int], directory: str, pid: int, ticks: int) -> None:
    gate = _gate(Path(directory), strategy)
    os.sched_setaffinity(gate._thread.native_id or 0, cores)
    pipe.send((gate.open(pid, ticks, strategy), gate.facts, gate.control.address))
    while True:
        what, *_ = pipe.recv()
        found: Any = None
        if what == "end":
            gate.close()
            pipe.send(None)
            return
        if what == "empty":
            for sequence in gate._book.open_sequences[gate._book.open_sequences > 0].tolist():
                while gate.release(sequence).name == "JOURNAL_FULL":
                    time.sleep(0.01)
        if what in ("empty", "durable"):
            while gate.journal.waiting:
                time.sleep(0.0005)
        if what in ("empty", "window"):
            found, gate.journal.longest_ns = gate.journal.longest_ns / 1e6, 0
        if what == "release_kill":
            while not gate.control.release_kill(gate.control.kills, BENCH):
                time.sleep(0.001)
        pipe.send(found)
