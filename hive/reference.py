"""One agent, asked for numbers the same way wherever it lives: in this process, on this machine, or elsewhere.

The reference decides. In the agent's own process it calls the agent's service under the agent's lock; on the agent's
machine it opens a lane; else, and where no lane can be had, it makes a Ray call. The answers are the same, bit for bit,
but for optimisers that start from their last answer: those agree to their tolerance.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from cluster import runtime
from cluster.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LaneLost,
    LanesUnavailable,
    Overloaded,
    SwarmError,
    SwarmUnavailable,
)
from cluster.lanes.lane import LONGEST_S, NO_VECTOR, Lane
from hive.messages.fast import Caller, FastFacts

OPEN_S = 10.0  # to open a lane: the agent may have to load its kernels first
RETRY_S = 0.02

Answerer = Callable[[int, np.ndarray, int, float], np.ndarray]
"""(operation, question, snapshot tag, seconds to wait) to the answer: an agent of this process."""
Receive = Callable[[float], np.ndarray]
"""Waits so many seconds for the answer to a question that has been sent; to be called once."""

_local: dict[tuple[str, str], tuple[Answerer, Callable[[], FastFacts]]] = {}


class Distance(StrEnum):
    """How far away an agent is."""

    PROCESS = "process"
    LANE = "lane"
    CALL = "call"


def here(namespace: str, agent_id: str, answer: Answerer, facts: Callable[[], FastFacts]) -> None:
    """Let references of this process find an agent that lives in it."""
    _local[namespace, agent_id] = answer, facts


class Askable(Protocol):
    """Whoever can be asked in numbers: one agent, or one of a role's instances at a time."""

    def facts(self, *, fresh: bool = False) -> FastFacts:
        """What must be known to ask."""
        ...

    def ask(self, operation: int, question: np.ndarray, *, patience_s: float = 1.0, snapshot: int = 0) -> np.ndarray:
        """Numbers that an operation gives for a question."""
        ...

    @property
    def ready(self) -> bool:
        """Whether a question can go at once."""
        ...

    def send(self, operation: int, question: np.ndarray, *, patience_s: float = 1.0, snapshot: int = 0) -> Receive:
        """Put a question without waiting for its answer."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class Reference:
    """One agent. Threads may share it; they take turns on its lane.

    Parameters
    ----------
    wait : "spin", "yield" or "park"
        How this side waits for answers over a lane.
    distance : Distance, optional
        Instead of the nearest that is possible.
    """

    def __init__(self, agent_id: str, namespace: str, *, wait: str = "park", distance: Distance | None = None) -> None:
        self.agent_id, self.namespace = agent_id, namespace
        self._wait, self._asked = wait, distance
        self._lock = threading.Lock()
        self._lane: Lane | None = None
        self._facts: FastFacts | None = None
        self._no_lane = distance is Distance.CALL

    @property
    def distance(self) -> Distance:
        """How the next question will go."""
        if self._asked is not None:
            return self._asked
        if (self.namespace, self.agent_id) in _local:
            return Distance.PROCESS
        return Distance.CALL if self._no_lane else Distance.LANE

    def facts(self, *, fresh: bool = False) -> FastFacts:
        """What must be known to ask; kept from the last time, unless ``fresh``."""
        if self._facts is None or fresh:
            if self.distance is Distance.PROCESS:
                self._facts = _local[self.namespace, self.agent_id][1]()
            else:
                self._facts = runtime.wait_for(self._actor().fast_facts.remote(), OPEN_S)
        return self._facts

    def ask(self, operation: int, question: np.ndarray, *, patience_s: float = 1.0, snapshot: int = 0) -> np.ndarray:
        """Numbers that an operation gives for a float64 question.

        Raises
        ------
        DeadlineExceeded, Overloaded, InvalidRequest, UnknownSnapshot
            As :meth:`cluster.lanes.lane.Lane.ask` says.
        SwarmUnavailable
            The agent is gone and has not come back in time.
        """
        give_up = deadline(patience_s)
        while True:
            try:
                return self.attempt(operation, question, give_up, snapshot)
            except LaneLost as error:
                if time.monotonic() + RETRY_S > give_up:
                    raise SwarmUnavailable(f"{self.agent_id} is gone ({error})", "Run `swarm health`") from error
                time.sleep(RETRY_S)

    def attempt(self, operation: int, question: np.ndarray, give_up: float, snapshot: int = 0) -> np.ndarray:
        """Ask once, until ``give_up`` on the monotonic clock, and raise LaneLost where the agent's lane is lost."""
        if self.distance is Distance.PROCESS:
            return self._answered_here(operation, question, give_up, snapshot)
        lane = self._opened(give_up) if self.distance is Distance.LANE else None
        if lane is None:
            return self._answered(self._called(operation, question, give_up, snapshot), give_up)
        try:
            left = max(0.0, give_up - time.monotonic())
            return lane.ask(operation, question, patience_s=left, snapshot=snapshot)
        except LaneLost:
            self._drop(lane)
            raise

    def send(self, operation: int, question: np.ndarray, *, patience_s: float = 1.0, snapshot: int = 0) -> Receive:
        """First half of :meth:`ask`, tried once: many agents can be asked before one of them is waited for.

        Returns
        -------
        callable
            The second half; it raises what :meth:`ask` raises, and LaneLost where the agent died meanwhile.
        """
        give_up = deadline(patience_s)
        if self.distance is Distance.PROCESS:
            answer = self._answered_here(operation, question, give_up, snapshot)
            return lambda _patience_s: answer
        lane = self._opened(give_up) if self.distance is Distance.LANE else None
        if lane is None:
            call = self._called(operation, question, give_up, snapshot)
            return lambda patience_s: self._answered(call, time.monotonic() + patience_s)
        try:
            left = max(0.0, give_up - time.monotonic())
            number = lane.send(operation, question, patience_s=left, snapshot=snapshot)
        except (LaneLost, Overloaded):  # full of what nobody waits for any more: the next one begins empty
            self._drop(lane)
            raise
        return lambda patience_s: self._received(lane, number, patience_s)

    @property
    def ready(self) -> bool:
        """Whether a question can go at once, without a lane to be opened first."""
        return self._lane is not None or self.distance is not Distance.LANE

    @property
    def opened(self) -> Lane | None:
        """The lane where there is one already."""
        return self._lane

    def lane(self, patience_s: float = OPEN_S) -> Lane:
        """The lane itself, for who counts nanoseconds.

        Raises
        ------
        LanesUnavailable
            The agent is not on this machine, or has no shared memory.
        """
        found = self._opened(time.monotonic() + patience_s)
        if found is None:
            raise LanesUnavailable(f"{self.agent_id} gives no lane to this process", "Use `ask`")
        return found

    def close(self) -> None:
        """Hang up."""
        self._drop()

    def _opened(self, give_up: float) -> Lane | None:
        """The lane, opened where there is none; None where there can be none, which is remembered."""
        lane = self._lane
        if lane is not None:
            return lane
        with self._lock:
            if self._lane is None and not self._no_lane:
                left = max(0.001, give_up - time.monotonic())
                try:
                    address = runtime.wait_for(self._actor().open_lane.remote(Caller.here(self._wait)), left)
                    self._lane = Lane(address, self._wait)
                except LaneLost:
                    raise
                except (LanesUnavailable, Overloaded):
                    self._no_lane = True
                except (runtime.ActorUnreachable, SwarmUnavailable) as error:
                    raise LaneLost(f"{self.agent_id} is not there ({error})", "Ask again") from error
            return self._lane

    def _answered_here(self, operation: int, question: np.ndarray, give_up: float, snapshot: int) -> np.ndarray:
        return _local[self.namespace, self.agent_id][0](operation, _vector(question), snapshot, _left(give_up))

    def _called(self, operation: int, question: np.ndarray, give_up: float, snapshot: int) -> Any:
        return self._actor().fast.remote(operation, _vector(question), snapshot, _left(give_up))

    def _answered(self, call: Any, give_up: float) -> np.ndarray:
        try:
            answer: np.ndarray = runtime.wait_for(call, max(0.001, give_up - time.monotonic()))
        except runtime.ActorUnreachable as error:
            raise SwarmUnavailable(f"{self.agent_id} is gone ({error})", "Run `swarm health`") from error
        return answer if answer.flags.writeable else answer.copy()  # Ray's are its own

    def _received(self, lane: Lane, number: int, patience_s: float) -> np.ndarray:
        try:
            return lane.receive(number, patience_s=patience_s)
        except LaneLost:
            self._drop(lane)
            raise

    def _drop(self, lost: Lane | None = None) -> None:
        """Hang up; where ``lost`` is given, that lane alone and not one that another thread opened since."""
        with self._lock:
            if lost is not None and self._lane is not lost:
                return
            lane, self._lane, self._facts = self._lane, None, None
        if lane is not None:
            with contextlib.suppress(SwarmError, OSError):
                lane.close()

    def _actor(self) -> Any:
        return runtime.find_actor(self.agent_id, self.namespace)


def _left(give_up: float) -> float:
    """Seconds until then: a question that is late already is not put."""
    left = give_up - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("the deadline passed before the question was put", "Allow more time")
    return left


def _vector(question: np.ndarray) -> np.ndarray:
    """The question, where it is what a lane carries."""
    if not isinstance(question, np.ndarray) or question.dtype != np.float64 or question.ndim != 1:
        raise InvalidRequest(*NO_VECTOR)
    return question


def deadline(patience_s: float) -> float:
    """A patience as a reading of the monotonic clock.

    Raises
    ------
    InvalidRequest
        It is no span that anybody would wait.
    """
    if not 0 <= patience_s <= LONGEST_S:
        raise InvalidRequest(f"a patience of {patience_s!r} s", f"Give seconds from 0 to {LONGEST_S:g}")
    return time.monotonic() + patience_s
