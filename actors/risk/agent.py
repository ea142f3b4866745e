"""What the five risk agents share: one snapshot's resident state, and the road from a task to its answers.

A room gives two pure functions: ``rebuild(snapshot) -> state`` and ``answer(state, book, parameters) -> Finding``.
Everything about Ray, deadlines, caching and failure is here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from actors.agent import RETRY_S, Agent, Identity
from actors.fast import FastService
from actors.lanes import LaneHost
from actors.market.market_data.ticks import Follower
from actors.pinned import take_seat
from actors.risk.following import Following, MarketDesk
from actors.settings import ShellSettings
from cluster import runtime, topology
from cluster.errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidRequest,
    LanesUnavailable,
    SwarmError,
    SwarmUnavailable,
)
from cluster.lanes.addresses import LaneAddress
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.port import HANDOVER_S, PortStatus
from cluster.lanes.settings import LaneSettings
from hive import alerts
from hive.figures import SHOWN
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import AgentAnswer, AnswerStatus, Parameters, Role, Task
from hive.messages.codec import digest
from hive.messages.fast import Caller, FastFacts, boot_id, tag_of
from hive.messages.health import SERVING, AgentState
from hive.messages.portfolio import Book, Portfolio, resolve
from hive.messages.reports import Report
from hive.messages.ticks import PlacedBook, WatchedBook, Watching
from hive.reference import here

State = TypeVar("State")
TICKS_TIMEOUT_S = 5.0  # to learn where ticks are
FETCH_TIMEOUT_S = 30.0  # to get a snapshot outside a calculation, which brings its own deadline
REHEARSED_SYMBOLS = 5  # symbols of the question an agent answers to itself before it serves


@dataclass(frozen=True)
class Finding:
    """What a room's brain returns: its report and what the reader must be told beside it."""

    report: Report
    warnings: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()


class RiskAgent(Agent, ABC, Generic[State]):
    """Base of the five risk agents."""

    role: ClassVar[Role]

    def __init__(self, identity: Identity, shell: ShellSettings, settings: Any, lanes: LaneSettings) -> None:
        granted = topology.node_of(runtime.granted_resources())
        self.seat = take_seat(identity.agent_id, shell, granted)  # before anything is allocated that should lie near
        self.settings = settings
        self.lane_settings = lanes
        self._lanes: LaneHost | None = None
        self._opening = threading.Lock()
        self._resident: OrderedDict[str, State] = OrderedDict()
        self._current_id = ""
        self._building = threading.Lock()
        self._shelf = threading.Lock()
        self._wanted: WatchedBook | None = None
        self._following: Following | None = None
        self._unwatched = "no book is watched"
        self._watching = threading.RLock()
        super().__init__(identity, shell)
        here(identity.namespace, identity.agent_id, self.fast, self.fast_facts)

    @abstractmethod
    def fast_service(self, state: State) -> FastService:
        """What the agent answers in microseconds on a resident state."""

    @abstractmethod
    def rebuild(self, snapshot: MarketSnapshot) -> State:
        """Resident state of one snapshot: whatever does not depend on the book."""

    @abstractmethod
    def answer(self, state: State, book: Book, parameters: Parameters) -> Finding:
        """The brain: a pure function of its inputs."""

    def initialise(self) -> None:
        """Build the state of the current snapshot and answer one question on it: only then does the agent serve."""
        header = self.ask(Role.MARKET_DATA, lambda market: market.header.remote(None, None), FETCH_TIMEOUT_S)
        state = self._build(header.snapshot_id, FETCH_TIMEOUT_S)
        first = Portfolio.equal_weights(header.symbols[:REHEARSED_SYMBOLS], name="rehearsal")
        book = resolve(first, symbols=header.symbols, currency=first.currency, last_prices=header.last_prices)
        self.answer(state, book, Parameters())
        self._current_id = header.snapshot_id
        if self.identity.agent_id in SHOWN:
            self._watch_again()

    @runtime.answered_in("control")
    def open_lane(self, caller: Caller) -> LaneAddress:
        """A lane to this agent for a process of the same machine.

        Raises
        ------
        LanesUnavailable
            The process lives on another machine, or there is no shared memory.
        Overloaded
            Every lane is taken.
        SwarmUnavailable
            The agent has no resident state yet.
        """
        return self._host().open(caller)

    @runtime.answered_in("control")
    def fast_facts(self) -> FastFacts:
        """What a caller must know to ask in numbers."""
        return self._host().facts

    @runtime.answered_in("control")
    def fast(self, operation: int, question: np.ndarray, snapshot: int, patience_s: float = HANDOVER_S) -> np.ndarray:
        """Answer one fast question for a caller who has no lane."""
        return self._host().ask(operation, question, snapshot, patience_s)

    @runtime.answered_in("control")
    def watch(self, book: WatchedBook, caller: Caller) -> Watching:
        """Follow this book at every tick, instead of another; where to hear of it.

        Raises
        ------
        LanesUnavailable
            The caller, or the market data agent, lives on another machine.
        InvalidRequest
            This agent follows no ticks.
        InvalidPortfolio, InvalidMarketData
            The agent's snapshot lacks a symbol of the book, or what the room needs to follow it.
        """
        _refuse_elsewhere(caller)
        with self._watching:
            self._follow(book)
        return self.watching(caller)

    @runtime.answered_in("control")
    def watching(self, caller: Caller) -> Watching:
        """Where to hear of the book that this agent follows.

        Raises
        ------
        LanesUnavailable
            The caller lives on another machine.
        SwarmUnavailable
            It follows none, with the reason.
        """
        _refuse_elsewhere(caller)
        with self._watching:
            if self._following is None:
                raise SwarmUnavailable(f"{self.identity.agent_id}: {self._unwatched}", "Watch a book")
            return self._following.address

    @runtime.answered_in("control")
    def unwatch(self) -> None:
        """Follow no book any more."""
        with self._watching:
            self._wanted = None
            self._let_go("no book is watched")

    @runtime.answered_in("health")
    def lanes(self) -> PortStatus | None:
        """What the lanes have carried; None where nobody asked for one yet."""
        return self._lanes.status() if self._lanes is not None else None

    def follower(self, state: State, placed: PlacedBook, ticks: Listener, board: Broadcaster) -> Follower:
        """What follows the ticks of a book in this room.

        Raises
        ------
        InvalidRequest
            This room follows none.
        """
        raise InvalidRequest(f"{self.identity.agent_id} follows no ticks", f"Those that do: {', '.join(SHOWN)}")

    def _follow(self, book: WatchedBook, *, anew: bool = False) -> None:
        """Follow a book, unless it is the one that is followed already; with ``anew``, even then.

        What cannot be followed now is tried again on the next snapshot.
        """
        self._wanted, before = book, self._following
        if before is not None and before.placed.book.watch_id == book.watch_id and not anew:
            return
        if before is not None:  # a peak reached since the book was given
            peak = before.follower.peak_value if before.placed.book.watch_id == book.watch_id else 0.0
            book = replace(book, peak_value=max(book.peak_value, peak))
        snapshot_id = book.snapshot_id or self._current_id
        state = self._build(snapshot_id, FETCH_TIMEOUT_S)
        header = self.ask(Role.MARKET_DATA, lambda market: market.header.remote(snapshot_id, None), FETCH_TIMEOUT_S)
        try:
            placed = book.placed(header.symbols, header.last_prices)
            following = Following(
                self.identity.role,
                placed,
                header.last_prices,
                lambda *parts: self.follower(state, *parts),
                self._host(starting=True),
                MarketDesk(
                    lambda: self.ask(Role.MARKET_DATA, lambda market: market.tick_stream.remote(), TICKS_TIMEOUT_S),
                    lambda *peak: self.ask(
                        Role.MARKET_DATA, lambda market: market.keep_peak.remote(*peak), TICKS_TIMEOUT_S
                    ),
                ),
            )
        except InvalidInput as error:
            gone = len(set(book.symbols) - set(header.symbols))
            last_words = alerts.record(alerts.STALE_DATA, 0, value=gone, bound=0.0, tick_ns=time.time_ns())
            self._let_go(str(error), last_words if gone else None)
            raise
        self._let_go("another book is watched", on=following)

    def _let_go(self, reason: str, last_words: np.ndarray | None = None, on: Following | None = None) -> None:
        before, self._following, self._unwatched = self._following, on, reason
        if before is not None:
            before.close(last_words)

    def _watch_again(self) -> None:
        """Follow what the market data agent remembers, after a start. What cannot be followed does not keep it down."""
        book = self.ask(Role.MARKET_DATA, lambda market: market.watched.remote(), FETCH_TIMEOUT_S)
        if book is None:
            return
        with self._watching, contextlib.suppress(InvalidInput, LanesUnavailable):
            self._follow(book)

    def _host(self, *, starting: bool = False) -> LaneHost:
        """The lanes, made when first asked for: most swarms never need them, and their kernels take time to load."""
        with self._opening:
            if self._lanes is None:
                if self.state not in SERVING and not starting:
                    raise SwarmUnavailable(f"{self.identity.agent_id} is {self.state}", "Ask again when it is HEALTHY")
                node = self.seat.node if self.seat.bound else None
                self._lanes = LaneHost(
                    self.lane_settings, *self._service_of(self._current_id), own_core=self.seat.own, node=node
                )
            return self._lanes

    def _service_of(self, snapshot_id: str) -> tuple[FastService, FastFacts]:
        service = self.fast_service(self._build(snapshot_id, FETCH_TIMEOUT_S))
        header = self.ask(Role.MARKET_DATA, lambda market: market.header.remote(snapshot_id, None), FETCH_TIMEOUT_S)
        return service, FastFacts(snapshot_id, tag_of(snapshot_id), header.symbols, service.facts)

    def seated(self) -> dict[str, Any]:
        """Cores, NUMA node and what must be said of them."""
        following = self._following
        ticks = None if following is None else following.follower.counts["ticks"]
        return self.seat.told(self._lanes.notes if self._lanes is not None else ()) | {"ticks": ticks}

    def resident_snapshot_id(self) -> str:
        """Snapshot the agent was last prepared for."""
        return self._current_id

    @runtime.answered_in("control")
    def prepare(self, snapshot_id: str) -> None:
        """Build the resident state of the new current snapshot before anybody asks for it."""
        try:
            self._build(snapshot_id, FETCH_TIMEOUT_S)
        except (SwarmError, runtime.ActorUnreachable) as error:
            if self.state in SERVING:
                self.become(AgentState.DEGRADED, f"has no state for snapshot {snapshot_id[:12]}: {error}")
            raise
        self._current_id = snapshot_id
        with self._opening:
            if self._lanes is not None:
                self._lanes.renew(*self._service_of(snapshot_id))
        with self._watching:
            if self._wanted is not None and self._wanted.snapshot_id is None:
                with contextlib.suppress(InvalidInput):  # its listeners have been told
                    self._follow(self._wanted, anew=True)
        if self.state is AgentState.DEGRADED:
            self.become(AgentState.HEALTHY)

    @runtime.answered_in("compute")
    def calculate(self, task: Task) -> tuple[AgentAnswer, ...]:
        """Answer every book of a task; one that cannot be answered fails alone and says why."""
        remaining_s = (task.deadline_utc_ns - time.time_ns()) / 1e9
        if remaining_s <= 0:
            late = f"the deadline had passed {-remaining_s * 1e3:.0f} ms before its turn came"
            return tuple(self._unanswered(task, AnswerStatus.LATE, late) for _ in task.books)
        try:
            state = self._build(task.snapshot_id, remaining_s)
        except DeadlineExceeded:
            return tuple(
                self._unanswered(task, AnswerStatus.LATE, "the snapshot did not arrive in time") for _ in task.books
            )
        except Exception as error:
            return tuple(self._unanswered(task, AnswerStatus.FAILED, str(error)) for _ in task.books)
        return tuple(self._answer_one(task, state, book) for book in task.books)

    def _answer_one(self, task: Task, state: State, book: Book) -> AgentAnswer:
        if time.time_ns() > task.deadline_utc_ns:
            return self._unanswered(task, AnswerStatus.LATE, "the deadline passed before its turn in the batch came")
        started_ns = time.monotonic_ns()
        try:
            with self.counted():
                finding = self.answer(state, book, task.parameters)
        except Exception as error:
            reason = str(error) if isinstance(error, SwarmError) else f"{type(error).__name__}: {error}"
            return self._unanswered(task, AnswerStatus.FAILED, reason)
        return AgentAnswer(
            role=self.identity.role,
            agent_id=self.identity.agent_id,
            status=AnswerStatus.OK,
            report=finding.report,
            elapsed_ns=time.monotonic_ns() - started_ns,
            snapshot_id=task.snapshot_id,
            input_hash=digest([book, task.parameters, task.snapshot_id]),
            seed=task.parameters.seed,
            warnings=finding.warnings,
            fallbacks=finding.fallbacks,
        )

    def _unanswered(self, task: Task, status: AnswerStatus, reason: str) -> AgentAnswer:
        return AgentAnswer(
            role=self.identity.role,
            agent_id=self.identity.agent_id,
            status=status,
            reason=reason,
            snapshot_id=task.snapshot_id,
            seed=task.parameters.seed,
        )

    def _build(self, snapshot_id: str, timeout_s: float) -> State:
        """The resident state of a snapshot, built where it is not resident yet.

        Raises
        ------
        DeadlineExceeded
            Another build, or the snapshot itself, takes longer than ``timeout_s``.
        """
        give_up = time.monotonic() + timeout_s
        known = self._known(snapshot_id)
        if known is not None:
            return known
        if not self._building.acquire(timeout=timeout_s):
            raise DeadlineExceeded("another snapshot is still being built", "Allow more time")
        try:
            known = self._known(snapshot_id)
            if known is not None:
                return known
            state = self.rebuild(self._fetch(snapshot_id, give_up))
            with self._shelf:
                self._resident[snapshot_id] = state
                while len(self._resident) > self.shell.resident_snapshots:
                    self._resident.popitem(last=False)
            return state
        finally:
            self._building.release()

    def _known(self, snapshot_id: str) -> State | None:
        with self._shelf:
            if snapshot_id not in self._resident:
                return None
            self._resident.move_to_end(snapshot_id)
            return self._resident[snapshot_id]

    def _fetch(self, snapshot_id: str, give_up: float) -> MarketSnapshot:
        """The snapshot, its arrays views of the object store. Asked again while the market data agent restarts."""
        while True:
            try:
                (reference,) = self.ask(
                    Role.MARKET_DATA, lambda market: market.share.remote(snapshot_id), _left(give_up)
                )
                snapshot: MarketSnapshot = runtime.wait_for(reference, _left(give_up))
                return snapshot
            except (runtime.ActorUnreachable, runtime.ObjectLost, SwarmUnavailable) as error:
                if time.monotonic() + RETRY_S > give_up:
                    raise DeadlineExceeded(
                        f"snapshot {snapshot_id[:12]} did not arrive in time ({error})", "Allow more time"
                    ) from error
                time.sleep(RETRY_S)


def _refuse_elsewhere(caller: Caller) -> None:
    if caller.boot_id != boot_id():
        raise LanesUnavailable("the caller lives on another machine", "Watch from the machine of the swarm")


def _left(give_up: float) -> float:
    return max(0.001, give_up - time.monotonic())
