"""The gate by Ray: where it lives now, a lane to it, and every question and instruction without one."""

from __future__ import annotations

from typing import Any

import numpy as np

from cluster import runtime
from cluster.errors import LanesUnavailable, Overloaded, SwarmUnavailable
from cluster.lanes.lane import Lane
from hive.messages.calculation import Role
from hive.messages.fast import Caller
from hive.messages.gate import GateFacts, GateStatus, Instruction


class RayReach:
    """The gate of one namespace.

    Parameters
    ----------
    lanes : bool
        Whether to look for a lane; without one every question is a Ray call.
    """

    def __init__(self, namespace: str, *, wait: str = "park", lanes: bool = True) -> None:
        self._namespace, self._wait, self._lanes = namespace, wait, lanes
        self._opening: Any = None

    def open(self, patience_s: float) -> tuple[Lane | None, GateFacts]:
        """A lane and the facts; the same request is waited for again, so that no lane is opened for nobody."""
        if not self._lanes:
            return None, self._wait_for(self._actor().gate_facts.remote(), patience_s)
        if self._opening is None:
            self._opening = self._actor().open_gate.remote(Caller.here(self._wait))
        try:
            address, facts = self._wait_for(self._opening, patience_s)
            self._opening = None
            return Lane(address, self._wait), facts
        except (LanesUnavailable, Overloaded):
            self._opening = None
            self._lanes = False
            return None, self._wait_for(self._actor().gate_facts.remote(), patience_s)
        except SwarmUnavailable:
            self._opening = None
            raise

    def call(self, operation: int, numbers: np.ndarray, tag: int, patience_s: float) -> np.ndarray:
        """One question by Ray."""
        found: np.ndarray = self._wait_for(self._actor().ask_gate.remote(operation, numbers, tag), patience_s)
        return found

    def instruct(self, instruction: Instruction, patience_s: float) -> Any:
        """Have an instruction carried out."""
        return self._wait_for(self._actor().instruct.remote(instruction), patience_s)

    def describe(self, patience_s: float) -> GateStatus:
        """The gate in one look."""
        found: GateStatus = self._wait_for(self._actor().describe.remote(), patience_s)
        return found

    def _wait_for(self, reference: Any, patience_s: float) -> Any:
        try:
            return runtime.wait_for(reference, patience_s)
        except runtime.ActorUnreachable as error:
            raise SwarmUnavailable("the gate's process is dead or restarting", "Run `swarm health`") from error

    def _actor(self) -> Any:
        return runtime.find_actor(Role.GATE.value, self._namespace)
