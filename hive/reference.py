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
from typing import Any

import numpy as np

from cluster import runtime
from cluster.errors import LaneLost, LanesUnavailable, Overloaded, SwarmError, SwarmUnavailable
from cluster.lanes.lane import Lane
from hive.messages.fast import Caller, FastFacts

OPEN_S = 10.0  # to open a lane: the agent may have to load its kernels first
RETRY_S = 0.02

Answerer = Callable[[int, np.ndarray, int], np.ndarray]
"""(operation, question, snapshot tag) to the answer: an agent of this process."""

_local: dict[tuple[str, str], tuple[Answerer, Callable[[], FastFacts]]] = {}


class Distance(StrEnum):
    """How far away an agent is."""

    PROCESS = "process"
    LANE = "lane"
    CALL = "call"


def here(namespace: str, agent_id: str, answer: Answerer, facts: Callable[[], FastFacts]) -> None:
    """Let references of this process find an agent that lives in it."""
    _local[namespace, agent_id] = answer, facts


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
        if self.distance is Distance.PROCESS:
            return _local[self.namespace, self.agent_id][0](operation, question, snapshot)
        give_up = time.monotonic() + patience_s
        while self.distance is Distance.LANE:
            try:
                lane = self._opened(give_up)
                if lane is not None:
                    left = max(0.0, give_up - time.monotonic())
                    return lane.ask(operation, question, patience_s=left, snapshot=snapshot).copy()
            except LaneLost as error:
                self._drop()
                if time.monotonic() + RETRY_S > give_up:
                    raise SwarmUnavailable(f"{self.agent_id} is gone ({error})", "Run `swarm health`") from error
                time.sleep(RETRY_S)
        left = max(0.001, give_up - time.monotonic())
        try:
            answer: np.ndarray = runtime.wait_for(self._actor().fast.remote(operation, question, snapshot), left)
        except runtime.ActorUnreachable as error:
            raise SwarmUnavailable(f"{self.agent_id} is gone ({error})", "Run `swarm health`") from error
        return answer

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

    def _drop(self) -> None:
        with self._lock:
            lane, self._lane, self._facts = self._lane, None, None
        if lane is not None:
            with contextlib.suppress(SwarmError, OSError):
                lane.close()

    def _actor(self) -> Any:
        return runtime.find_actor(self.agent_id, self.namespace)
