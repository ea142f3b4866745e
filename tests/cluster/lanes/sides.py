"""Both sides of a lane for tests: compiled loops that can be told what to do, and processes that can be killed.

Processes are forked from a server that has loaded the machine code already, so that one costs milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numba import njit

from cluster.lanes import calls
from cluster.lanes.addresses import LaneAddress
from cluster.lanes.atomics import give_way, load_acquire, now_ns, pause
from cluster.lanes.lane import Lane
from cluster.lanes.layout import (
    BAD_INPUT,
    LANE_COUNTERS,
    OK,
    PORT_COUNTERS,
    SERVED,
    SLOT_CODE,
    SLOT_HEADER,
    UNKNOWN_OPERATION,
    Geometry,
)
from cluster.lanes.memory import SharedWords
from cluster.lanes.peer import started
from cluster.lanes.port import Loop, Port
from cluster.lanes.ring import NONE, look, publish, release, reserve
from cluster.lanes.serving import COUNT, REPLY, SCRATCH, finish, next_request

# Operations of the obliging agent.
ECHO, HOLD, ORDER, CODED, LOITER = range(5)
GATE = 500  # words of the port's header that nobody uses: a question to HOLD waits until the gate reaches its ticket
HELD = 501  # and says here that it waits
LONGEST_HOLD_NS = 20_000_000_000

# One ring by itself, for messages that go one way.
TAIL_AT, HEAD_AT, BASE, SLOTS, SIZE = 0, 16, 512, 64, 16
PATIENCE_NS, PATIENCE_OF_ONE_NS = 60_000_000_000, 10_000
LOOKS_BEFORE_YIELD = 2000
MASK = (1 << 50) - 1  # whole numbers that a float64 carries unchanged

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["pytest", "tests.cluster.lanes.preloaded"])


@njit(cache=True, nogil=True, error_model="numpy")
def obliging(words, numbers, active, own, hand):
    """Echo, wait for the gate, tell how many were served before, or answer with the code that was asked for."""
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return slot
        reply, operation, count = hand[REPLY], words[slot + SLOT_CODE], hand[COUNT]
        if operation == HOLD:
            limit = now_ns(hand[SCRATCH:]) + LONGEST_HOLD_NS
            words[HELD] = np.int64(numbers[slot + SLOT_HEADER])
            while load_acquire(words, GATE) < numbers[slot + SLOT_HEADER] and now_ns(hand[SCRATCH:]) < limit:
                give_way()
        if operation == LOITER:
            for _ in range(np.int64(numbers[slot + SLOT_HEADER + 1])):
                pause()
        if operation == CODED:
            finish(words, own, hand, np.int64(numbers[slot + SLOT_HEADER]), 0)
        elif operation == ORDER:
            numbers[reply + SLOT_HEADER] = words[PORT_COUNTERS + SERVED]
            finish(words, own, hand, OK, 1)
        elif operation in {ECHO, HOLD, LOITER}:
            for i in range(count):
                numbers[reply + SLOT_HEADER + i] = numbers[slot + SLOT_HEADER + i]
            finish(words, own, hand, OK, count)
        else:
            finish(words, own, hand, UNKNOWN_OPERATION, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def drawn(state):
    """Next state of a xorshift generator."""
    state ^= (state << 13) & 0x7FFFFFFFFFFFFFFF
    state ^= state >> 7
    state ^= (state << 17) & 0x7FFFFFFFFFFFFFFF
    return state & 0x7FFFFFFFFFFFFFFF


@njit(cache=True, nogil=True, error_model="numpy")
def stall(state):
    """Now and then stand still for up to 20 us, rarely for up to half a millisecond or until the core comes back."""
    if state & 0xFFF == 0:
        for _ in range((state >> 12) & 0x1FF):
            pause()
    if state & 0xFFFF == 1:
        for _ in range((state >> 16) & 0x3FFF):
            pause()
    if state & 0xFFFF == 2:
        give_way()
    return drawn(state)


@njit(cache=True, nogil=True, error_model="numpy")
def mixed(message, place):
    """What number ``place`` of a message is."""
    value = np.uint64(message) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(place) * np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(29)
    return np.int64((value * np.uint64(0x94D049BB133111EB)) & np.uint64(MASK))


@njit(cache=True, nogil=True, error_model="numpy")
def pour(words, messages, seed, polite):
    """Write messages into one ring; how many went in before the time was up."""
    own, scratch, state = np.zeros(2, np.int64), np.zeros(2, np.int64), seed
    limit, looks, message = now_ns(scratch) + PATIENCE_NS + messages * PATIENCE_OF_ONE_NS, 0, 0
    while message < messages:
        slot = reserve(words, HEAD_AT, BASE, SLOTS, SIZE, own)
        if slot < 0:
            if slot != NONE:
                return -1
            looks += 1
            pause()
            if looks % LOOKS_BEFORE_YIELD == 0:
                if polite:
                    give_way()
                if now_ns(scratch) > limit:
                    return message
            continue
        state = stall(state)
        count, checksum = 1 + mixed(message, 0) % (SIZE - 3), message
        words[slot], words[slot + 1] = message, count
        for i in range(count):
            words[slot + 2 + i] = mixed(message, i)
            checksum ^= words[slot + 2 + i]
        words[slot + 2 + count] = checksum
        publish(words, TAIL_AT, own)
        message += 1
    return message


@njit(cache=True, nogil=True, error_model="numpy")
def drain(words, messages, seed, polite):
    """Read messages from one ring; how many came in order and whole, or minus the first that did not, less one."""
    own, scratch, state = np.zeros(2, np.int64), np.zeros(2, np.int64), seed
    limit, looks, message = now_ns(scratch) + PATIENCE_NS + messages * PATIENCE_OF_ONE_NS, 0, 0
    while message < messages:
        slot = look(words, TAIL_AT, BASE, SLOTS, SIZE, own)
        if slot < 0:
            if slot != NONE:
                return -1 - message
            looks += 1
            pause()
            if looks % LOOKS_BEFORE_YIELD == 0:
                if polite:
                    give_way()
                if now_ns(scratch) > limit:
                    return message
            continue
        state = stall(state)
        count, checksum = words[slot + 1], message
        if words[slot] != message or count != 1 + mixed(message, 0) % (SIZE - 3):
            return -1 - message
        for i in range(count):
            checksum ^= words[slot + 2 + i]
        if checksum != words[slot + 2 + count] or words[slot + 1 + count] != mixed(message, count - 1):
            return -1 - message
        release(words, HEAD_AT, own)
        message += 1
    return message


@njit(cache=True, nogil=True, error_model="numpy")
def dawdling(words, numbers, active, own, hand):
    """Echo messages that are whole, with stalls; what is not whole is a bad input."""
    state = 88172645463325252
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return slot
        state = stall(state)
        reply, count, body = hand[REPLY], hand[COUNT], slot + SLOT_HEADER
        whole = count > 1
        for i in range(1, count):
            whole = whole and numbers[body + i] == mixed(np.int64(numbers[body]), i)
        for i in range(count):
            numbers[reply + SLOT_HEADER + i] = numbers[body + i]
        finish(words, own, hand, OK if whole else BAD_INPUT, count)


@njit(cache=True, nogil=True, error_model="numpy")
def stream(words, numbers, hand, messages, seed, window, answer):
    """Ask messages, up to ``window`` at a time; how many answers came in order and whole.

    A window of one is a round trip at a time. Minus the first answer that was wrong, less one, where one was.
    """
    scratch, state, payload = np.zeros(2, np.int64), seed, np.empty(answer.size)
    limit, sent, received = now_ns(scratch) + PATIENCE_NS + messages * PATIENCE_OF_ONE_NS, 0, 0
    while received < messages:
        if now_ns(scratch) > limit:
            return received
        accepted = False
        if sent < messages and sent - received < window:
            count = 2 + mixed(sent, 0) % (answer.size - 1)
            payload[0] = sent
            for i in range(1, count):
                payload[i] = mixed(sent, i)
            code = calls.send(words, numbers, hand, 0, 0, limit, payload[:count])
            if code < 0 and code != calls.REFUSED:
                return -1 - received
            accepted = code >= 0
            sent += 1 if accepted else 0
        state = stall(state)
        if accepted and sent < messages and state & 7:
            continue
        code = calls.receive(words, numbers, hand, answer, now_ns(scratch) + 1_000_000_000)
        if code == calls.WAITING:
            continue
        if code != OK or hand[calls.COUNT] != 2 + mixed(received, 0) % (answer.size - 1) or answer[0] != received:
            return -1 - received
        for i in range(1, hand[calls.COUNT]):
            if answer[i] != mixed(received, i):
                return -1 - received
        received += 1
    return received


@njit(cache=True, nogil=True, error_model="numpy")
def paused_trips(words, numbers, hand, trips, seed, answer, times):
    """Round trips one at a time, with random pauses of both sides; ``times`` in ns.

    The pauses end before, after and about the moment at which the other side falls asleep.
    """
    scratch, state, payload = np.zeros(2, np.int64), seed, np.zeros(2)
    for trip in range(trips):
        state = drawn(state)
        for _ in range(state % 24576):
            pause()
        payload[0], payload[1] = trip, (state >> 20) % 12288
        begun = now_ns(scratch)
        if calls.send(words, numbers, hand, LOITER, 0, begun + 1_000_000_000, payload) < 0:
            return trip
        if calls.receive(words, numbers, hand, answer, begun + 1_000_000_000) != OK or answer[0] != trip:
            return trip
        times[trip] = now_ns(scratch) - begun
    return trips


@njit(cache=True, nogil=True, error_model="numpy")
def flood(words, numbers, hand, stop_at, answer):
    """Keep a lane's ring full until ``words[GATE]`` reaches ``stop_at``; how many answers came."""
    scratch, payload, received = np.zeros(2, np.int64), np.zeros(1), 0
    while load_acquire(words, GATE) < stop_at:
        now = now_ns(scratch)
        if calls.send(words, numbers, hand, 0, 0, now + 1_000_000_000, payload) >= 0:
            continue
        received += calls.receive(words, numbers, hand, answer, now + 1_000_000) == OK
    return received


@contextmanager
def served(loop: Any = obliging, **sizes: Any) -> Iterator[Port]:
    """A port that a thread of this process serves."""
    port = Port(**{"lanes": 4, "slots": 8, "slot_words": 24, "strategy": "park", **sizes})
    thread = threading.Thread(target=port.serve, args=(lambda: loop,), daemon=True)
    thread.start()
    try:
        yield port
    finally:
        port.memory.words[GATE] = 2**62
        port.stop()
        thread.join(30.0)
        assert not thread.is_alive()


def mine(port: Port, strategy: str = "park") -> LaneAddress:
    """A lane of this port for this process."""
    return port.open(os.getpid(), started(os.getpid()), strategy)


@contextmanager
def laned(port: Port, strategy: str = "park") -> Iterator[Lane]:
    """A lane of this port for this process, closed again."""
    lane = Lane(mine(port, strategy), strategy)
    try:
        yield lane
    finally:
        lane.close()


def counter(memory: SharedWords, geometry: Geometry, lane: int, which: int) -> int:
    """One of the counters that a caller keeps."""
    return int(memory.words[geometry.lane_at(lane) + LANE_COUNTERS + which])


class Side:
    """A process that runs ``work(connection, *arguments)``."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=work, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def call(self, *request: Any, within_s: float = 60.0) -> Any:
        self.pipe.send(request)
        return self.answer(within_s)

    def answer(self, within_s: float = 60.0) -> Any:
        assert self.pipe.poll(within_s), "no answer from the other process"
        return self.pipe.recv()

    def said_nothing(self) -> bool:
        """Whether a process that was killed had nothing to say."""
        try:
            return not self.pipe.poll(0) or not self.pipe.recv()
        except (EOFError, ConnectionError):
            return True

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        self.process.kill()
        self.process.join(30.0)
        self.process.close()
        self.pipe.close()


@contextmanager
def side(work: Callable[..., None], *arguments: Any) -> Iterator[Side]:
    """A process that ends with the block, if not before."""
    process = Side(work, *arguments)
    try:
        yield process
    finally:
        process.end()


def agent(pipe: Connection, loop: str, sizes: dict[str, Any]) -> None:
    """Process with a port: says its address, then opens lanes and sweeps as it is told."""
    loops: dict[str, Loop] = {"obliging": obliging, "dawdling": dawdling}
    port = Port(**sizes)
    threading.Thread(target=port.serve, args=(lambda: loops[loop],), daemon=True).start()
    pipe.send(port.address)
    while True:
        name, *arguments = pipe.recv()
        pipe.send(getattr(port, name)(*arguments))


def eager_caller(pipe: Connection) -> None:
    """Process that asks without end once it has a lane's address and strategy; silent unless an answer is wrong."""
    address, strategy = pipe.recv()
    lane, number = Lane(address, strategy), 0
    while True:
        number += 1
        question = np.array([number, -number, 0.5 * number])
        if not np.array_equal(lane.ask(ECHO, question, patience_s=30.0), question):
            pipe.send(f"wrong answer to question {number}")


def half_caller(pipe: Connection) -> None:
    """Process that asks once, then writes a slot without showing it to the agent, and stands still."""
    address, strategy = pipe.recv()
    lane = Lane(address, strategy)
    lane.ask(ECHO, np.zeros(1), patience_s=30.0)
    words, hand = lane._memory.words, lane._hand
    at, slots, size = (int(hand[place]) for place in (calls.AT, calls.SLOTS, calls.SIZE))
    own = hand[calls.REQUESTS : calls.REQUESTS + 2]
    slot = reserve(words, at + calls.REQUEST_HEAD, at + calls.PAGE, slots, size, own)
    words[slot : slot + size] = 1
    pipe.send("written")
    pipe.recv()


def pourer(pipe: Connection, pid: int, descriptor: int, messages: int, seed: int, polite: bool) -> None:
    """Process that writes into one ring."""
    memory = SharedWords.attach(pid, descriptor, BASE + SLOTS * SIZE)
    pipe.send(pour(memory.words, messages, seed, polite))
    pipe.recv()


def streamer(pipe: Connection, messages: int, seed: int, window: int) -> None:
    """Process that asks a stream of messages."""
    address, strategy = pipe.recv()
    lane = Lane(address, strategy)
    memory, answer = lane._memory, np.empty(lane.geometry.payload_words)
    pipe.send(stream(memory.words, memory.numbers, lane._hand, messages, seed, window, answer))
    pipe.recv()


def compile_all() -> None:
    """Load or make the machine code of everything above, so that children inherit it."""
    from cluster.lanes.warm import warm

    warm()
    memory = SharedWords.create("riskswarm-test", BASE + SLOTS * SIZE)
    pour(memory.words, 3, 1, True)
    drain(memory.words, 3, 1, True)
    memory.close()
    with served(dawdling, strategy="park") as port, laned(port) as lane:
        shared, answer, times = lane._memory, np.empty(lane.geometry.payload_words), np.zeros(1, np.int64)
        stream(shared.words, shared.numbers, lane._hand, 3, 1, 2, answer)
        flood(shared.words, shared.numbers, lane._hand, 0, answer)
    with served(obliging, strategy="park") as port, laned(port) as lane:
        shared = lane._memory
        paused_trips(shared.words, shared.numbers, lane._hand, 1, 1, answer, times)
