"""An agent's side of its lanes: the memory, the thread that serves it, and who may use which lane.

Everything that changes which lanes there are happens on the serving thread, between two questions: the compiled loop
comes back when asked (:meth:`Port.do`), so neither side ever guards against the other changing under it.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cluster.errors import DeadlineExceeded, InvalidSettings, LaneLost, LanesUnavailable, Overloaded
from cluster.lanes import serving
from cluster.lanes.addresses import LaneAddress, PortAddress
from cluster.lanes.calls import SPINS_BEFORE_SLEEP, ring
from cluster.lanes.histogram import percentiles
from cluster.lanes.layout import (
    BUCKETS,
    COUNTERS,
    FREE,
    HUNG_UP,
    LANE_BROKEN,
    LANE_COUNTER_NAMES,
    LANE_COUNTERS,
    LANE_GENERATION,
    LANE_PID,
    LANE_STARTED,
    LANE_STATE,
    LANE_STRATEGY,
    LANE_TIMES,
    MAGIC,
    MOST_LANES,
    MOST_SLOT_WORDS,
    MOST_SLOTS,
    OPEN,
    PAGE,
    PORT_BELL,
    PORT_CONTROL,
    PORT_COUNTERS,
    PORT_GENERATION,
    PORT_LANES,
    PORT_MAGIC,
    PORT_PID,
    PORT_SLOT_WORDS,
    PORT_SLOTS,
    PORT_SNAPSHOT,
    PORT_STARTED,
    PORT_STRATEGY,
    PORT_TIMES,
    PORT_VERSION,
    REQUEST_HEAD,
    REQUEST_TAIL,
    SLOT_HEADER,
    STRATEGIES,
    VERSION,
    Geometry,
)
from cluster.lanes.memory import AGAIN, SharedWords
from cluster.lanes.peer import Peer, started
from cluster.lanes.ring import BAD

T = TypeVar("T")
HANDOVER_S = 5.0  # how long the loop may take to come back between two questions
SHARES = (0.5, 0.99, 0.999)

Loop = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], int]
"""A room's compiled loop over (words, numbers, active, own, hand)."""


@dataclass(frozen=True)
class LaneStatus:
    """What one lane has carried."""

    lane: int
    pid: int
    waiting: int
    """Questions in its ring."""
    counters: dict[str, int]
    round_trip_ns: tuple[float | None, ...]
    """At the shares of ``SHARES``."""


@dataclass(frozen=True)
class PortStatus:
    """What a port has served."""

    strategy: str
    counters: dict[str, int]
    service_ns: tuple[float | None, ...]
    """At the shares of ``SHARES``."""
    lanes: tuple[LaneStatus, ...]
    ticks: dict[str, int] | None = None
    """Ticks taken, missed and refused, and alerts, where the same loop follows some."""


class Port:
    """An agent's port. Make it where its pages should lie: the maker touches the header, each side its own lanes.

    Parameters
    ----------
    spins : int
        Looks at all lanes before a loop that parks goes to sleep.
    """

    def __init__(
        self,
        *,
        lanes: int = 64,
        slots: int = 64,
        slot_words: int = 256,
        strategy: str = "park",
        spins: int = SPINS_BEFORE_SLEEP,
    ) -> None:
        if slots < 2 or slots & (slots - 1):
            raise InvalidSettings(f"a ring of {slots} slots", "Give a power of two from 2")
        if not (0 < lanes <= MOST_LANES and slots <= MOST_SLOTS and SLOT_HEADER < slot_words <= MOST_SLOT_WORDS):
            raise InvalidSettings(
                f"{lanes} lanes of {slots} slots of {slot_words} words", "No caller would believe them"
            )
        self._generations = [0] * lanes  # not in shared memory: callers write there
        which = _index(strategy)
        self.geometry = Geometry(lanes, slots, slot_words)
        self.memory = SharedWords.create("riskswarm-port", self.geometry.words)
        words = self.memory.words
        own = os.getpid()
        self.address = PortAddress(own, started(own), self.memory.descriptor, secrets.randbits(62))
        words[PORT_VERSION], words[PORT_LANES] = VERSION, lanes
        words[PORT_SLOTS], words[PORT_SLOT_WORDS] = slots, slot_words
        words[PORT_PID], words[PORT_STARTED] = self.address.pid, self.address.started
        words[PORT_GENERATION], words[PORT_STRATEGY] = self.address.generation, which
        words[PORT_MAGIC] = MAGIC
        self._active = np.zeros(lanes + 1, np.int64)
        self._own = np.zeros((lanes, serving.OWN), np.int64)
        self._hand = np.zeros(serving.HAND, np.int64)
        self._hand[serving.SLOTS], self._hand[serving.SIZE] = slots, slot_words
        self._hand[serving.LANE_WORDS] = self.geometry.lane_words
        self._hand[serving.STRATEGY] = which
        self._hand[serving.HOT] = -1
        self._hand[serving.SPINS] = spins
        self._callers: dict[int, Peer] = {}
        self._broken: set[int] = set()
        self._lock = threading.Lock()
        self._errands: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._serving = False
        self._stopping = False
        self._ended = threading.Event()

    def serve(self, loop: Callable[[], Loop]) -> None:
        """Serve on this thread until :meth:`stop`. ``loop`` is asked for the loop anew after every errand."""
        with self._lock:
            self._serving = True
            self._ended.clear()
        try:
            while not self._stopping:
                arrays = (self.memory.words, self.memory.numbers, self._active, self._own, self._hand)
                if loop()(*arrays) == BAD:
                    self._break(int(self._hand[serving.LANE]))
                self._run_errands()
        finally:
            with self._lock:
                self._serving = False
            self._run_errands()
            self.memory.words[PORT_GENERATION] = 0  # nobody serves any more, for whatever reason: lanes are lost
            self._ended.set()

    def do(self, work: Callable[[], T], timeout_s: float = HANDOVER_S) -> T:
        """Do something on the serving thread, between two questions, and wait for it.

        Raises
        ------
        TimeoutError
            The loop did not come back in time.
        """
        done: Future[T] = Future()
        with self._lock:
            if self._stopping:
                raise LaneLost("this port has been stopped", AGAIN)
            if not self._serving:
                return work()
            self._errands.append((work, done))
            self.memory.words[PORT_CONTROL] = 1
        ring(self.memory.words, PORT_BELL)
        try:
            return done.result(timeout_s)
        except TimeoutError:
            if done.cancel():
                raise
            return done.result()  # it is being done, or it raised this itself

    def open(self, pid: int, started_ticks: int, strategy: str) -> LaneAddress:
        """Give a lane to a process.

        Raises
        ------
        Overloaded
            Every lane is taken by a process that lives.
        LaneLost
            The process has ended.
        """
        which = _index(strategy)
        try:
            caller = Peer(pid, started_ticks)
        except (ProcessLookupError, OverflowError) as error:
            raise LaneLost(f"process {pid} has ended", "Ask from a process that lives on this machine") from error
        except OSError as error:
            raise LanesUnavailable(f"process {pid} cannot be watched ({error})", "Ask through Ray") from error
        try:
            return self.do(lambda: self._open(caller, which))
        except TimeoutError as error:
            caller.close()
            raise DeadlineExceeded("the agent did not come to open a lane in time", "Ask again") from error
        except BaseException:
            caller.close()
            raise

    def sweep(self) -> int:
        """Free the lanes of callers that hung up or died; returns how many."""
        return self.do(self._sweep)

    def about(self, snapshot: int) -> None:
        """Say which snapshot answers are about, its tag; to be called on the serving thread or before it serves."""
        self._hand[serving.SNAPSHOT] = snapshot
        self.memory.words[PORT_SNAPSHOT] = snapshot

    def stop(self, timeout_s: float = HANDOVER_S) -> None:
        """End :meth:`serve` and let go of the memory; callers find the lane lost."""
        with self._lock:
            self._stopping = True
            running = self._serving
            self.memory.words[PORT_CONTROL] = 1
        ring(self.memory.words, PORT_BELL)
        if running and not self._ended.wait(timeout_s):
            return  # the thread is stuck in a kernel, and what it may still touch stays
        with self._lock:
            self.memory.words[PORT_GENERATION] = 0
            while self._callers:
                self._callers.popitem()[1].close()
            self.memory.close()

    def status(self) -> PortStatus:
        """Counters and times, read while the loop runs: each is right, together they may be a question apart."""
        words = self.memory.words
        lanes = []
        for lane in self._active[1 : 1 + int(self._active[0])].tolist():
            at = self.geometry.lane_at(lane)
            lanes.append(
                LaneStatus(
                    lane=lane,
                    pid=int(words[at + LANE_PID]),
                    waiting=int(words[at + REQUEST_TAIL]) - int(words[at + REQUEST_HEAD]),
                    counters=_named(LANE_COUNTER_NAMES, words, at + LANE_COUNTERS),
                    round_trip_ns=percentiles(words[at + LANE_TIMES : at + LANE_TIMES + BUCKETS], SHARES),
                )
            )
        return PortStatus(
            strategy=STRATEGIES[int(self._hand[serving.STRATEGY])],
            counters=_named(COUNTERS, words, PORT_COUNTERS),
            service_ns=percentiles(words[PORT_TIMES : PORT_TIMES + BUCKETS], SHARES),
            lanes=tuple(lanes),
        )

    def _run_errands(self) -> None:
        while True:
            with self._lock:
                if not self._errands:
                    self.memory.words[PORT_CONTROL] = int(self._stopping)
                    return
                work, done = self._errands.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

    def _open(self, caller: Peer, strategy: int) -> LaneAddress:
        free = next((lane for lane in range(self.geometry.lanes) if lane not in self._callers), None)
        if free is None and self._sweep():
            return self._open(caller, strategy)
        if free is None:
            raise Overloaded(
                f"all {self.geometry.lanes} lanes of this agent are taken", "Close one, or raise `lanes.per_agent`"
            )
        words, at = self.memory.words, self.geometry.lane_at(free)
        self._generations[free] += 1
        generation = self._generations[free]
        words[at : at + PAGE] = 0
        words[at + LANE_GENERATION], words[at + LANE_STRATEGY] = generation, strategy
        words[at + LANE_PID], words[at + LANE_STARTED] = caller.pid, caller.started_ticks
        words[at + LANE_STATE] = OPEN
        self._own[free] = 0
        self._callers[free] = caller
        self._activate()
        return LaneAddress(self.address, free, generation)

    def _sweep(self) -> int:
        words = self.memory.words
        gone = [
            lane
            for lane, caller in self._callers.items()
            if not caller.alive() or words[self.geometry.lane_at(lane) + LANE_STATE] == HUNG_UP
        ]
        for lane in gone:
            self._callers.pop(lane).close()
            self._broken.discard(lane)
            words[self.geometry.lane_at(lane) + LANE_STATE] = FREE
        self._activate()
        return len(gone)

    def _break(self, lane: int) -> None:
        """Believe nothing of a lane any more. It stays taken until its caller, who may still write, is gone."""
        self.memory.words[self.geometry.lane_at(lane) + LANE_BROKEN] = 1
        self._broken.add(lane)
        self._activate()

    def _activate(self) -> None:
        words = self.memory.words
        lanes = [
            lane
            for lane in sorted(self._callers)
            if lane not in self._broken and words[self.geometry.lane_at(lane) + LANE_STATE] == OPEN
        ]
        self._hand[serving.HOT] = -1
        self._active[1 : 1 + len(lanes)] = lanes
        self._active[0] = len(lanes)


def _index(strategy: str) -> int:
    if strategy not in STRATEGIES:
        raise InvalidSettings(f"the wait strategy {strategy!r} is unknown", f"Known are: {', '.join(STRATEGIES)}")
    return STRATEGIES.index(strategy)


def _named(names: tuple[str, ...], words: np.ndarray, at: int) -> dict[str, int]:
    return dict(zip(names, words[at : at + len(names)].tolist(), strict=True))
