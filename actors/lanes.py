"""An agent's lanes: a thread that serves its compiled loop, started when somebody first asks for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from actors.fast import FastService
from actors.market.market_data.ticks import Follower
from cluster import pinning
from cluster.errors import DeadlineExceeded, LanesUnavailable, UnknownSnapshot
from cluster.lanes.addresses import LaneAddress
from cluster.lanes.lane import ANSWERS
from cluster.lanes.layout import PAGE, SLOT_HEADER, WRONG_SNAPSHOT
from cluster.lanes.port import HANDOVER_S, Loop, Port, PortStatus
from cluster.lanes.settings import LaneSettings
from hive.messages.fast import Caller, FastFacts, boot_id

PARK, AUTO = "park", "auto"


class LaneHost:
    """The lanes of one agent.

    Parameters
    ----------
    own_core : bool
        Whether this agent has a core to itself, so that it may spin on it.
    node : int or None
        NUMA node on which the lanes should lie, whoever touches them; None leaves that to the kernel.
    """

    def __init__(
        self,
        settings: LaneSettings,
        service: FastService,
        facts: FastFacts,
        *,
        own_core: bool,
        node: int | None = None,
    ) -> None:
        wait = ("spin" if own_core else PARK) if settings.wait == AUTO else settings.wait
        words = max(settings.slot_words, _room_for(service.largest))
        self._service, self.facts = service, facts
        self._follower: Follower | None = None
        self.port = Port(lanes=settings.per_agent, slots=settings.slots, slot_words=words, strategy=wait)
        self.port.about(facts.tag)
        self.notes: tuple[str, ...] = ()
        """What was refused of where the lanes should lie; sentences for people."""
        if node is not None:
            self._note(pinning.prefer_node_for(self.port.memory.words, node))
        self._thread = threading.Thread(target=self._serve, args=(node,), name="lanes", daemon=True)
        self._thread.start()

    def open(self, caller: Caller) -> LaneAddress:
        """A lane for a process of this machine.

        Raises
        ------
        LanesUnavailable
            It lives on another machine.
        Overloaded
            Every lane is taken.
        """
        if caller.boot_id != boot_id():
            raise LanesUnavailable("the caller lives on another machine", "Ask through Ray")
        address = self.port.open(caller.pid, caller.started, caller.wait)
        first = self.port.geometry.lane_at(address.lane) + PAGE
        # Nobody writes there yet: the caller does not know the lane, and the agent answers no question it has not got.
        pinning.prefault(self.port.memory.words[first : first + self.port.geometry.lane_words - PAGE])
        return address

    def ask(self, operation: int, question: np.ndarray, snapshot: int, patience_s: float = HANDOVER_S) -> np.ndarray:
        """Answer one question on the serving thread, for callers who have no lane.

        Raises
        ------
        DeadlineExceeded
            The thread did not come to it within ``patience_s`` seconds.
        """

        def answer() -> np.ndarray:
            if snapshot not in (0, self.facts.tag):
                _, problem, remedy = ANSWERS[WRONG_SNAPSHOT]
                raise UnknownSnapshot(problem, remedy)
            return self._service.ask(operation, question)

        try:
            return self.port.do(answer, patience_s)
        except TimeoutError:
            raise DeadlineExceeded("the agent's loop did not come to the question", "Run `swarm health`") from None

    def _serve(self, node: int | None) -> None:
        """The serving thread. Memory policies are a thread's own, and one of Ray's threads has started this one."""
        if node is not None:
            self._note(pinning.prefer_node(node))
        self.port.serve(self._loop)

    def _note(self, refused: str) -> None:
        if refused and refused not in self.notes:
            self.notes = (*self.notes, refused)

    def renew(self, service: FastService, facts: FastFacts) -> None:
        """Answer on another snapshot from now on."""

        def exchange() -> None:
            self._service, self.facts = service, facts
            self.port.about(facts.tag)

        self.port.do(exchange)

    def follow(self, follower: Follower) -> None:
        """Take ticks beside the lanes from now on, instead of what was followed before."""

        def exchange() -> None:
            self._follower = follower

        self.do(exchange)

    def leave(self, follower: Follower) -> None:
        """Follow this no more, where it is what is followed."""

        def drop() -> None:
            if self._follower is follower:
                self._follower = None

        self.do(drop)

    def do(self, work: Callable[[], None]) -> None:
        """Do something on the serving thread, where nothing else touches what is followed.

        Raises
        ------
        DeadlineExceeded
            The thread did not come to it in time.
        """
        try:
            self.port.do(work)
        except TimeoutError as error:
            raise DeadlineExceeded("the serving thread did not come in time", "Ask again") from error

    def status(self) -> PortStatus:
        """What the lanes have carried; lanes of callers that are gone are freed before."""
        self.port.sweep()
        follower = self._follower
        return replace(self.port.status(), ticks=None if follower is None else follower.counts)

    def close(self) -> None:
        """Stop serving; callers find their lanes lost."""
        self.port.stop()

    def _loop(self) -> Loop:
        """What the serving thread runs until it is wanted: lanes alone, or in turn with ticks."""
        follower, service = self._follower, self._service
        if follower is None or follower.astray:
            return service.loop
        return partial(follower.serve, service.state)


def _room_for(largest: int) -> int:
    """Words of a slot that carries so many numbers, a power of two."""
    return 1 << (SLOT_HEADER + largest - 1).bit_length()
