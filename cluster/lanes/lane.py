"""A caller's side of a lane: ask, get the numbers or a typed error by the deadline, whatever becomes of the agent."""

from __future__ import annotations

import os
import threading
import time
from typing import NoReturn

import numpy as np

from cluster.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LaneLost,
    Overloaded,
    SwarmError,
    SwarmUnavailable,
    UnknownSnapshot,
)
from cluster.lanes import calls
from cluster.lanes.addresses import LaneAddress
from cluster.lanes.layout import (
    BAD_INPUT,
    HUNG_UP,
    LANE_BROKEN,
    LANE_GENERATION,
    LANE_PID,
    LANE_STATE,
    LANE_STRATEGY,
    LATE_ANSWER,
    MAGIC,
    MOST_LANES,
    MOST_SLOT_WORDS,
    MOST_SLOTS,
    NO_STATE,
    OK,
    OPEN,
    PAGE,
    PORT_GENERATION,
    PORT_LANES,
    PORT_MAGIC,
    PORT_SLOT_WORDS,
    PORT_SLOTS,
    PORT_VERSION,
    STRATEGIES,
    TOO_LARGE,
    UNKNOWN_OPERATION,
    VERSION,
    WRONG_SNAPSHOT,
    Geometry,
)
from cluster.lanes.memory import AGAIN, SharedWords
from cluster.lanes.peer import Peer

LONGEST_S = 1e6
DEFAULT_S, DEFAULT_NS = 1.0, 1_000_000_000  # patience
NO_VECTOR = ("a payload that is no contiguous float64 vector", "Convert it with np.ascontiguousarray")

ANSWERS: dict[int, tuple[type[SwarmError], str, str]] = {
    LATE_ANSWER: (DeadlineExceeded, "the deadline passed before the agent came to the question", "Allow more time"),
    UNKNOWN_OPERATION: (InvalidRequest, "the agent has no such operation", "Ask for one that it lists"),
    WRONG_SNAPSHOT: (UnknownSnapshot, "the agent's resident state is of another snapshot", AGAIN),
    BAD_INPUT: (InvalidRequest, "a number is not finite, or there are too few or too many of them", "Correct them"),
    NO_STATE: (SwarmUnavailable, "the agent has no resident state yet", "Ask again when it is HEALTHY"),
    TOO_LARGE: (InvalidRequest, "the payload is larger than a slot", "Send a reference instead"),
}


def _nanoseconds(patience_s: float) -> int:
    if not 0 <= patience_s <= LONGEST_S:
        raise InvalidRequest(f"a patience of {patience_s!r} s", f"Give seconds from 0 to {LONGEST_S:g}")
    return int(patience_s * 1e9)


def complain(code: int) -> NoReturn:
    """Raise what an answer's code says."""
    kind, problem, remedy = ANSWERS.get(code, (LaneLost, f"the agent answered with code {code}", AGAIN))
    raise kind(problem, remedy)


class Lane:
    """One lane to one agent. Threads take turns on it; a lane each is quicker. Close it: the agent has so many.

    ``park`` spins for some microseconds and then sleeps: spin for ever only on a core that nobody else needs.

    Raises
    ------
    LaneLost
        The agent has died or given the lane to somebody else since the address was made, or speaks another layout.
    """

    def __init__(self, address: LaneAddress, strategy: str = "park") -> None:
        calls.settle()
        self.address = address
        port = address.port
        try:
            self._agent = Peer(port.pid, port.started)
        except OSError as error:
            raise LaneLost(f"the agent's process {port.pid} has ended", AGAIN) from error
        try:
            self._memory = SharedWords.attach(port.pid, port.descriptor, PAGE)
            try:
                self._hand = self._introduced(strategy)
            except BaseException:
                self._memory.close()
                raise
        except BaseException:
            self._agent.close()
            raise
        self.room = self.geometry.payload_words
        """Numbers that one message carries."""
        self._words = self._memory.words
        self._expected = 0  # numbers of the last answer: the next one is likely to be as long
        self._early: dict[int, tuple[int, np.ndarray]] = {}
        """(code, numbers) of answers that came while another one was waited for, by the question's number."""
        self._lock = threading.Lock()
        self._closed = False

    @property
    def lost(self) -> bool:
        """Whether the other side is gone, has stopped serving or has broken the lane."""
        words = self._memory.words
        return (
            self._closed
            or not self._agent.alive()
            or int(words[PORT_GENERATION]) != self.address.port.generation
            or int(words[int(self._hand[calls.AT]) + LANE_STATE]) != OPEN
            or int(words[int(self._hand[calls.AT]) + LANE_BROKEN]) != 0
            or int(words[int(self._hand[calls.AT]) + LANE_GENERATION]) != self.address.generation
        )

    def ask(
        self, operation: int, payload: np.ndarray, *, patience_s: float = DEFAULT_S, snapshot: int = 0
    ) -> np.ndarray:
        """Numbers that an operation gives for a float64 payload.

        Parameters
        ----------
        patience_s : float
            When the answer is no longer wanted, seconds from now.
        snapshot : int
            Tag of the snapshot that the answer must be about; 0 takes the agent's current one.

        Raises
        ------
        DeadlineExceeded
            No answer in time. A late one is thrown away and never taken for another.
        LaneLost
            The agent died meanwhile, or the lane cannot be believed any more.
        Overloaded
            The ring is full; nothing was sent.
        InvalidRequest, UnknownSnapshot, SwarmUnavailable
            The agent refused the question.
        """
        patience_ns = DEFAULT_NS if patience_s == DEFAULT_S else _nanoseconds(patience_s)
        expected = self._expected
        answer = np.empty(expected)
        lock = self._lock
        lock.acquire()  # this and the `finally` take half as long as a `with`
        try:
            if self._closed:
                raise LaneLost("this lane has been closed", AGAIN)
            if len(payload) > self.room:
                self._oversized(payload)
            count = calls.ask(self._words, self._hand, operation, snapshot, patience_ns, payload, answer)
            if count == expected:
                return answer
            return self._awkward(count, answer, max(0, patience_ns - calls.SLICE_NS))
        except TypeError:
            raise InvalidRequest(*NO_VECTOR) from None
        finally:
            lock.release()

    def send(self, operation: int, payload: np.ndarray, *, patience_s: float = 1.0, snapshot: int = 0) -> int:
        """First half of :meth:`ask`: many lanes can be sent to before one of them is waited for.

        Returns
        -------
        int
            Number of the question. Any :meth:`ask` of this lane gives up what was sent and not received before.
        """
        give_up_ns = time.monotonic_ns() + _nanoseconds(patience_s)
        with self._lock:
            if self._closed:
                raise LaneLost("this lane has been closed", AGAIN)
            try:
                if len(payload) > self.room:
                    self._oversized(payload)
                code = calls.send(
                    self._words, self._memory.numbers, self._hand, operation, snapshot, give_up_ns, payload
                )
            except TypeError:
                raise InvalidRequest(*NO_VECTOR) from None
            if code < 0:
                self._refused(code)
            return int(code)

    def receive(self, number: int | None = None, *, patience_s: float = 1.0) -> np.ndarray:
        """Second half of :meth:`ask`: the answer to the question of this number, or to the oldest one."""
        with self._lock:
            give_up_ns = time.monotonic_ns() + _nanoseconds(patience_s)
            if self._closed:
                raise LaneLost("this lane has been closed", AGAIN)
            # Who asks several at once sleeps at once: they need the cores that it would spin on.
            self._hand[calls.SPINS] = 0
            if number is None:
                return self._received(np.empty(self._expected), calls.WAITING, give_up_ns)
            while number not in self._early:
                found = self._next(np.empty(self._expected), calls.WAITING, give_up_ns)
                taken = int(self._hand[calls.WANTED]) - 1
                if taken == number:
                    return self._opened(*found)
                if len(self._early) >= self.geometry.slots:
                    del self._early[next(iter(self._early))]
                self._early[taken] = found
            return self._opened(*self._early.pop(number))

    @property
    def service_ns(self) -> int:
        """How long the agent worked on the last answer."""
        return int(self._hand[calls.SERVICE_NS])

    def close(self) -> None:
        """Hang up; the agent frees the lane."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            at = int(self._hand[calls.AT])
            if int(self._memory.words[at + LANE_GENERATION]) == self.address.generation:
                self._memory.words[at + LANE_STATE] = HUNG_UP
            self._agent.close()
            self._memory.close()

    def _oversized(self, payload: np.ndarray) -> NoReturn:
        raise InvalidRequest(
            f"a payload of {len(payload)} numbers; a slot holds {self.room}", "Send a reference instead"
        )

    def _awkward(self, count: int, answer: np.ndarray, left_ns: int) -> np.ndarray:
        """What :func:`.calls.ask` did not settle: an answer of another length than the last one, an error, patience."""
        if count >= 0:
            self._expected = count
            return answer[:count].copy()
        code = calls.REFUSED_BY_AGENT - count if count <= calls.REFUSED_BY_AGENT else count
        return self._received(answer, code, time.monotonic_ns() + left_ns)

    def _received(self, answer: np.ndarray, code: int, give_up_ns: int) -> np.ndarray:
        """Wait on, while the agent lives, until there is an answer that is none of the errors."""
        return self._opened(*self._next(answer, code, give_up_ns))

    def _next(self, answer: np.ndarray, code: int, give_up_ns: int) -> tuple[int, np.ndarray]:
        """Wait on, while the agent lives, for the next answer: (code, numbers)."""
        memory = self._memory
        while code in {calls.WAITING, calls.TOO_SMALL}:
            now = time.monotonic_ns()
            if code == calls.TOO_SMALL:
                answer = np.empty(int(self._hand[calls.COUNT]))
            until = min(give_up_ns, now + calls.SLICE_NS)
            code = calls.receive(memory.words, memory.numbers, self._hand, answer, until)
            if code != calls.WAITING:
                continue
            if self.lost:
                raise LaneLost(f"the agent's process {self.address.port.pid} died, or gave this lane up", AGAIN)
            if time.monotonic_ns() >= give_up_ns:
                calls.give_up(memory.words, self._hand)
                raise DeadlineExceeded("no answer from the lane in time", "Allow more time, or run `swarm health`")
        if code < 0:
            self._refused(code)
        return code, answer[: int(self._hand[calls.COUNT])] if code == OK else answer[:0]

    def _opened(self, code: int, answer: np.ndarray) -> np.ndarray:
        if code != OK:
            complain(code)
        self._expected = len(answer)
        return answer

    def _refused(self, code: int) -> NoReturn:
        if code == calls.REFUSED and not self.lost:
            raise Overloaded("the lane is full of questions without answers", "Ask less at a time")
        raise LaneLost("the lane is lost, or its indices cannot be believed", AGAIN)

    def _introduced(self, strategy: str) -> np.ndarray:
        """The caller's own memory, from a header that says what it must."""
        words = self._memory.words
        if int(words[PORT_MAGIC]) != MAGIC or int(words[PORT_GENERATION]) != self.address.port.generation:
            raise LaneLost("that memory is not the port that was meant", AGAIN)
        if int(words[PORT_VERSION]) != VERSION:
            raise LaneLost(
                f"the agent speaks layout {int(words[PORT_VERSION])}, this process {VERSION}",
                "Use the same version of Riskswarm on both sides",
            )
        self.geometry = Geometry(int(words[PORT_LANES]), int(words[PORT_SLOTS]), int(words[PORT_SLOT_WORDS]))
        g = self.geometry
        sound = 0 < g.lanes <= MOST_LANES and 1 < g.slots <= MOST_SLOTS and g.slots & (g.slots - 1) == 0
        sound = sound and 8 < g.slot_words <= MOST_SLOT_WORDS and 0 <= self.address.lane < g.lanes
        if not sound or g.words > len(words):
            raise LaneLost("the port's sizes cannot be believed", AGAIN)
        at = g.lane_at(self.address.lane)
        if int(words[at + LANE_STATE]) != OPEN or int(words[at + LANE_GENERATION]) != self.address.generation:
            raise LaneLost("the lane has been given to somebody else", AGAIN)
        if int(words[at + LANE_PID]) != os.getpid():
            raise LaneLost("the lane was opened for another process", AGAIN)
        hand = np.zeros(calls.HAND, np.int64)
        hand[calls.AT], hand[calls.SLOTS], hand[calls.SIZE] = at, g.slots, g.slot_words
        hand[calls.STRATEGY], hand[calls.WANTED] = STRATEGIES.index(strategy), 1
        words[at + LANE_STRATEGY] = hand[calls.STRATEGY]
        return hand
