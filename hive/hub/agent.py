"""The hub actor: one event loop that owns the registry, fans questions out, gathers to the deadline and merges.

It computes nothing itself, so a health sweep is never behind a calculation. Everything it waits for has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cluster import pinning, runtime
from cluster.errors import (
    CalculationIncomplete,
    DeadlineExceeded,
    InvalidRequest,
    LaneLost,
    LanesUnavailable,
    Overloaded,
    SwarmError,
    SwarmUnavailable,
)
from cluster.lanes.peer import Peer
from hive.desk import COMMON, FastDesk, FastResult
from hive.hub.alarms import Alarms
from hive.hub.merging import alerts, completeness, merge
from hive.hub.registry import Instance, Registry, RosterEntry, choose, swarm_state
from hive.hub.settings import HubSettings
from hive.market.snapshot import SHORT_ID, SnapshotHeader
from hive.messages.alert import SwarmAlerts
from hive.messages.calculation import (
    AgentAnswer,
    AnswerStatus,
    CalculationRequest,
    CalculationResult,
    CalculationType,
    Role,
    Task,
)
from hive.messages.fast import SERVING_LANES, Caller, boot_id
from hive.messages.health import (
    SERVING,
    AgentHealth,
    AgentReport,
    AgentState,
    Descriptor,
    LateAnswer,
    RolePerformance,
    SwarmHealth,
)
from hive.messages.portfolio import Book, Portfolio, resolve
from hive.routing.page import RoutingAddress, RoutingPage
from hive.routing.reference import RoutedReference
from hive.routing.router import Router


class Hub:
    """Routes, balances, gathers, merges, and never hides a late answer."""

    def __init__(self, roster: tuple[RosterEntry, ...], settings: HubSettings, version: str, seed: int) -> None:
        pinning.renice(pinning.NORMAL)  # agents say it in their reports where that is refused
        self._settings = settings
        self._registry = Registry(roster, settings, time.monotonic_ns())
        self._alarms = Alarms(settings.alerts_kept)
        self._rng = random.Random(seed)
        self._version = version
        self._node_id = runtime.node_id()
        self._started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._current: SnapshotHeader | None = None
        self._in_flight = 0
        self._calculations = 0
        self._late_total = 0
        self._late: deque[LateAnswer] = deque(maxlen=settings.late_answers_kept)
        self._changed = asyncio.Event()
        self._desk: FastDesk | None = None
        self._at_desk = threading.Lock()
        self._background: set[asyncio.Future[Any]] = set()
        self._boot_id = boot_id()
        self._page: RoutingPage | None = None
        with contextlib.suppress(LanesUnavailable):  # callers then ask the hub by name, and go through Ray
            self._page = RoutingPage()
        self._lives: dict[str, tuple[str, Peer]] = {}
        self._callers: dict[int, Peer] = {}
        self._watching = False
        if runtime.was_restarted():
            self._remember_the_parked(roster)

    def __repr__(self) -> str:
        return "Hub(hub)"

    async def register(self, descriptor: Descriptor, handles: list[Any]) -> bool:
        """Enter an agent into the registry; False when it has died too often and is stopped for good.

        The handle travels in a list: Ray replaces a top-level argument, and must leave this one as it is.
        """
        welcome = self._registry.register(descriptor, handles[0], time.monotonic_ns())
        if welcome:
            self._watch(descriptor)
        else:
            self._unwatch(descriptor.agent_id)
            runtime.kill(handles[0])
        self._show()
        if not self._watching:
            self._watching = True
            self._keep(asyncio.ensure_future(self._look_round()))
        return welcome

    async def heartbeat(self, report: AgentReport) -> bool:
        """Take an agent's report; False asks it to register again."""
        known = self._registry.heartbeat(report, time.monotonic_ns())
        self._show()
        if known and report.state in SERVING:
            self._changed.set()
            self._learn_current(report.agent_id)
        return known

    async def deregister(self, agent_id: str) -> None:
        """Take an agent out of the roster."""
        self._registry.deregister(agent_id)
        self._unwatch(agent_id)
        self._show()

    async def resolve(self, role: Role) -> Any:
        """Handle of an instance of ``role`` to talk to directly, chosen as the hub itself would choose."""
        instance = self._pick_now(Role(role))
        if instance is None:
            raise SwarmUnavailable(f"no {role} agent serves now", "Run `swarm health`")
        return [instance.handle]

    async def name(self, role: Role) -> str:
        """Like :meth:`resolve`, the instance's name: for who asks in numbers and cannot have the routing page."""
        return self._name_now(Role(role))

    async def routing(self, caller: Caller) -> RoutingAddress:
        """The routing page, for a process of this machine.

        Raises
        ------
        LanesUnavailable
            It lives on another machine, or there is no shared memory here.
        LaneLost
            It has ended.
        """
        if self._page is None or caller.boot_id != self._boot_id:
            raise LanesUnavailable("the hub's routing page is on another machine, or it has none", "Ask through Ray")
        address = self._page.admit(caller)
        if address.column >= 0 and address.column not in self._callers:
            try:
                peer = Peer(caller.pid, caller.started)
            except OSError as error:
                self._page.dismiss(caller)
                raise LaneLost(f"process {caller.pid} has ended", "Ask from a process that lives") from error
            self._callers[address.column] = peer
            asyncio.get_running_loop().add_reader(peer.fileno(), self._caller_ended, caller, address.column)
        return address

    async def announce(self, header: SnapshotHeader) -> None:
        """The market data agent made ``header`` the current snapshot; whoever keeps state of the market rebuilds."""
        self._current = header
        for instance in self._registry.instances():
            if instance.entry.role in SERVING_LANES and instance.handle is not None:
                self._keep(asyncio.ensure_future(_ignore_death(_prepare(instance, header.snapshot_id))))

    async def calculate(self, request: CalculationRequest) -> tuple[CalculationResult, ...]:
        """Run one coordinated calculation: the same frozen snapshot for every agent, gathered to the deadline.

        Raises
        ------
        InvalidInput
            The deadline has passed, the snapshot is unknown, or a portfolio does not fit it. Nothing was computed.
        Overloaded
            Too many calculations are in flight; nothing was accepted.
        CalculationIncomplete
            The agent without which there is no answer is late or has failed; what arrived is in ``results``.
        """
        accepted_ns = time.monotonic_ns()
        remaining_s = (request.deadline_utc_ns - time.time_ns()) / 1e9
        if remaining_s <= 0:
            raise InvalidRequest(f"the deadline passed {-remaining_s:.3f} s ago", "Give a deadline in the future")
        if len(request.portfolios) > self._settings.max_batch:
            raise InvalidRequest(
                f"{len(request.portfolios)} portfolios are more than the {self._settings.max_batch} of one request",
                "Send them in several requests",
            )
        if self._in_flight >= self._settings.max_in_flight:
            raise Overloaded(
                f"{self._in_flight} calculations are in flight, the most the hub accepts",
                "Try again shortly, or batch portfolios into one request",
            )
        needed = _indispensable(request.calculation)
        if self._registry.serving(needed) and self._choose(self._registry.serving(needed)) is None:
            raise Overloaded(f"every queue of {needed} is full", "Try again shortly")
        self._in_flight += 1
        try:
            give_up_ns = accepted_ns + int(remaining_s * 1e9)
            header = await self._freeze(request, give_up_ns)
            books = tuple(
                resolve(
                    portfolio,
                    symbols=header.symbols,
                    currency=header.currency,
                    last_prices=header.last_prices,
                    average_volumes=header.average_volumes,
                )
                for portfolio in request.portfolios
            )
            task = Task(request.request_id, header.snapshot_id, books, request.parameters, request.deadline_utc_ns)
            roles = request.calculation.roles
            columns = await asyncio.gather(*(self._ask(role, task, give_up_ns) for role in roles))
            elapsed_ns = time.monotonic_ns() - accepted_ns
            results = tuple(
                _result(request, header, book, dict(zip(roles, row, strict=True)), elapsed_ns)
                for book, row in zip(books, zip(*columns, strict=True), strict=True)
            )
            self._calculations += 1
        finally:
            self._in_flight -= 1
        _require(results)
        return results

    async def calculate_fast(self, portfolio: Portfolio, confidence: float) -> FastResult:
        """Five agents' numbers on the current snapshot, over the hub's own lanes; other machines' agents through Ray.

        Raises
        ------
        Overloaded
            Too many calculations are in flight.
        InvalidPortfolio
            It cannot be priced, or is not linear and of one currency.
        """
        if self._in_flight >= self._settings.max_in_flight:
            raise Overloaded(f"{self._in_flight} calculations are in flight", "Try again shortly")
        self._in_flight += 1
        try:
            give_up_ns = time.monotonic_ns() + int(self._settings.deadline_s * 1e9)
            header = self._current or await self._named(None, None, give_up_ns)
            book = resolve(
                portfolio,
                symbols=header.symbols,
                currency=header.currency,
                last_prices=header.last_prices,
                average_volumes=header.average_volumes,
            )
            return await asyncio.to_thread(self._answered_fast, header.snapshot_id, book, confidence)
        finally:
            self._in_flight -= 1

    def _answered_fast(self, snapshot_id: str, book: Book, confidence: float) -> FastResult:
        """One book at a time: a lane has one writer. On a thread of its own, so that nothing else waits for it."""
        with self._at_desk:
            if self._desk is None:
                router = Router(self._own_page)
                references = {
                    role: RoutedReference(role, runtime.own_namespace(), router, lambda role, _: self._name_now(role))
                    for role in COMMON
                }
                self._desk = FastDesk(references, book, confidence, self._settings.deadline_s)
            else:
                self._desk.take(book, confidence, snapshot_id)
            return self._desk.calculate()

    async def health(self) -> SwarmHealth:
        """Ping every agent in parallel and judge the swarm."""
        started_ns = time.monotonic_ns()
        self._registry.judge(started_ns)
        instances = self._registry.instances()
        pings = await asyncio.gather(*(self._ping(instance) for instance in instances))
        agents = (self._self_health(), *map(self._seen, instances, pings))
        self._show()
        return SwarmHealth(
            state=swarm_state(agents),
            agents=agents,
            sweep_ms=(time.monotonic_ns() - started_ns) / 1e6,
            snapshot_id=self._current.snapshot_id if self._current else "",
            as_of=self._current.as_of if self._current else "",
            calculations=self._calculations,
            late_answers=self._late_total,
            in_flight=self._in_flight,
            hub_since=self._started,
            hub_restarted=runtime.was_restarted(),
            alerts=self._alarms.open,
        )

    async def performance(self) -> tuple[RolePerformance, ...]:
        """How each agent has served since the hub started."""
        return self._registry.performance()

    async def late_answers(self) -> tuple[LateAnswer, ...]:
        """Answers that came after their deadline, newest last, as many as are kept."""
        return tuple(self._late)

    async def alerts(self) -> SwarmAlerts:
        """What must be known of the swarm itself, now and of late."""
        return self._alarms.told()

    async def ping(self) -> int:
        """Process id of the hub."""
        return os.getpid()

    async def _freeze(self, request: CalculationRequest, give_up_ns: int) -> SnapshotHeader:
        """The header of the snapshot every agent of this calculation will use."""
        if request.snapshot_id is None and request.as_of is None and self._current is not None:
            return self._current
        return await self._named(request.snapshot_id, request.as_of, give_up_ns)

    async def _named(self, snapshot_id: str | None, as_of: str | None, give_up_ns: int) -> SnapshotHeader:
        """The header the market data agent gives for a selection, asked again to the deadline when it dies over it."""
        while True:
            instance = await self._pick(Role.MARKET_DATA, give_up_ns)
            if isinstance(instance, str):
                raise SwarmUnavailable(f"the market data agent does not serve ({instance})", "Run `swarm health`")
            life = instance.incarnation
            try:
                call = instance.handle.header.remote(snapshot_id, as_of)
                header: SnapshotHeader = await asyncio.wait_for(_value(call), _seconds_left(give_up_ns))
            except TimeoutError:
                raise DeadlineExceeded(
                    "the market data agent did not name the snapshot in time", "Allow more time"
                ) from None
            except runtime.ActorUnreachable:
                if instance.incarnation == life:
                    self._unreachable(instance.entry.agent_id)
                continue
            if snapshot_id is None and as_of is None and self._current is None:
                self._current = header  # only while none is known: an announcement that overtook this answer is newer
            return header

    async def _ask(self, role: Role, task: Task, give_up_ns: int) -> tuple[AgentAnswer, ...]:
        """One agent's answers, one a book: from whichever instance answers, or the reason why none did."""
        attempts, reason = 0, ""
        while attempts <= self._settings.retries:
            instance = await self._pick(role, give_up_ns)
            if isinstance(instance, str):
                status = AnswerStatus.FAILED
                return _without_report(role, role.value, status, f"{reason}; {instance}".lstrip("; "), task, attempts)
            attempts += 1
            instance.in_flight += 1
            self._occupied(instance)
            asked_ns = time.monotonic_ns()
            try:
                call = asyncio.ensure_future(_value(instance.handle.calculate.remote(task)))
            except runtime.QueueFull:
                self._ended(instance, AnswerStatus.FAILED)
                return self._failed(instance, "its queue is full", task, attempts)
            life = instance.incarnation
            if not await self._settled(call, instance, give_up_ns):
                self._keep(call)
                reason = f"no answer within {(time.monotonic_ns() - asked_ns) / 1e6:.0f} ms"
                if _seconds_left(give_up_ns) > 0:  # this instance has gone quiet, and another one serves
                    call.add_done_callback(partial(self._overtaken, instance))
                    continue
                call.add_done_callback(partial(self._arrived_late, instance, task.request_id, give_up_ns))
                return _without_report(role, instance.entry.agent_id, AnswerStatus.LATE, reason, task, attempts)
            error = call.exception()
            if error is None:
                return self._answered(instance, call.result(), asked_ns, attempts)
            if not isinstance(error, runtime.ActorUnreachable):
                self._ended(instance, AnswerStatus.FAILED)
                return self._failed(instance, _words(error), task, attempts)
            reason = f"{instance.entry.agent_id} died over the question (attempt {attempts})"
            self._ended(instance, AnswerStatus.FAILED)
            if instance.incarnation == life:
                self._unreachable(instance.entry.agent_id)
        return _without_report(role, role.value, AnswerStatus.FAILED, reason, task, attempts)

    async def _settled(self, call: asyncio.Future[Any], instance: Instance, give_up_ns: int) -> bool:
        """Wait for an answer to the deadline, or until the instance misses heartbeats while another one serves."""
        while True:
            patience_s = min(_seconds_left(give_up_ns), self._settings.heartbeat_s)
            done, _ = await asyncio.wait({call}, timeout=patience_s)
            if done or _seconds_left(give_up_ns) <= 0:
                return bool(done)
            self._registry.judge(time.monotonic_ns())
            if instance.state not in SERVING and self._registry.serving(instance.entry.role):
                return False

    def _answered(
        self, instance: Instance, answers: tuple[AgentAnswer, ...], asked_ns: int, attempts: int
    ) -> tuple[AgentAnswer, ...]:
        round_trip_ms = (time.monotonic_ns() - asked_ns) / 1e6
        good = all(answer.status is AnswerStatus.OK for answer in answers)
        if good:
            self._ended(instance, AnswerStatus.OK, round_trip_ms)
        else:  # a fast failure must not make an instance look fast
            self._ended(instance, AnswerStatus.FAILED)
        return tuple(replace(answer, attempts=attempts) for answer in answers) if attempts > 1 else answers

    def _failed(self, instance: Instance, reason: str, task: Task, attempts: int) -> tuple[AgentAnswer, ...]:
        return _without_report(
            instance.entry.role, instance.entry.agent_id, AnswerStatus.FAILED, reason, task, attempts
        )

    def _arrived_late(
        self, instance: Instance, request_id: str, give_up_ns: int, call: asyncio.Future[tuple[AgentAnswer, ...]]
    ) -> None:
        late_ms = (time.monotonic_ns() - give_up_ns) / 1e6
        self._ended(instance, AnswerStatus.LATE)
        self._late_total += 1
        error = None if call.cancelled() else call.exception()
        status = _words(error) if error is not None else call.result()[0].status.value
        self._late.append(LateAnswer(request_id, instance.entry.agent_id, status, late_ms))

    def _overtaken(self, instance: Instance, call: asyncio.Future[Any]) -> None:
        """An instance that had gone quiet has ended a question that another one answered meanwhile."""
        if not call.cancelled():
            call.exception()  # seen: asyncio would report it as forgotten
        self._ended(instance, AnswerStatus.LATE)

    async def _pick(self, role: Role, give_up_ns: int) -> Instance | str:
        """An instance to ask, waited for while it may still come; else the reason why there is none."""
        while True:
            self._registry.judge(time.monotonic_ns())
            serving = self._registry.serving(role)
            instance = self._choose(serving)
            if instance is not None:
                return instance
            if serving:
                return f"every {role} queue is full ({self._settings.max_agent_queue} waiting)"
            hopeless = self._registry.hopeless(role)
            if hopeless:
                return hopeless
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _seconds_left(give_up_ns))
            except TimeoutError:
                states = [
                    f"{i.entry.agent_id} is {i.state}: {i.reason}"
                    for i in self._registry.instances()
                    if i.entry.role is role
                ]
                return f"{'; '.join(states) or f'no {role} agent is in the roster'}, to the deadline"

    def _watch(self, descriptor: Descriptor) -> None:
        """Hear of the end of an agent's process from the kernel, the moment it comes."""
        agent_id, life = descriptor.agent_id, descriptor.incarnation
        if descriptor.boot_id != self._boot_id or self._lives.get(agent_id, ("", None))[0] == life:
            return
        self._unwatch(agent_id)
        try:
            peer = Peer(descriptor.pid, descriptor.started)
        except ProcessLookupError:
            self._ended_life(agent_id, life)
            return
        except OSError:
            return  # no handles left, or another container's process: heartbeats tell, as they do of other machines
        self._lives[agent_id] = life, peer
        asyncio.get_running_loop().add_reader(peer.fileno(), self._ended_life, agent_id, life)

    def _unwatch(self, agent_id: str) -> None:
        _, peer = self._lives.pop(agent_id, ("", None))
        if peer is not None:
            asyncio.get_running_loop().remove_reader(peer.fileno())
            peer.close()

    def _ended_life(self, agent_id: str, life: str) -> None:
        if self._lives.get(agent_id, ("", None))[0] == life:
            self._unwatch(agent_id)
        if self._registry.died(agent_id, life, "its process died; Ray is restarting it"):
            self._show()

    def _caller_ended(self, caller: Caller, column: int) -> None:
        peer = self._callers.pop(column)
        asyncio.get_running_loop().remove_reader(peer.fileno())
        peer.close()
        if self._page is not None:
            self._page.dismiss(caller)

    async def _look_round(self) -> None:
        """Judge missed heartbeats and ended pauses once a beat, whether or not anybody asks."""
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            self._registry.judge(time.monotonic_ns())
            self._show()

    def _show(self) -> None:
        """Bring alarms and routing page up to the registry."""
        self._alarms.look(self._registry.instances(), time.time_ns())
        if self._page is not None:
            with contextlib.suppress(Overloaded):  # who has no row is asked by name
                self._page.show(self._registry.routes(time.monotonic_ns(), self._boot_id))

    def _own_page(self, caller: Caller, _patience_s: float) -> RoutingAddress:
        if self._page is None:
            raise LanesUnavailable("the hub has no routing page", "Ask through Ray")
        return self._page.admit(caller)

    def _name_now(self, role: Role) -> str:
        instance = self._pick_now(role)
        if instance is None:
            raise SwarmUnavailable(f"no {role} agent serves now", "Run `swarm health`")
        return instance.entry.agent_id

    def _pick_now(self, role: Role) -> Instance | None:
        return self._choose(self._registry.serving(role))

    def _choose(self, serving: tuple[Instance, ...]) -> Instance | None:
        return choose(
            serving,
            max_queue=self._settings.max_agent_queue,
            node_id=self._node_id,
            rng=self._rng,
            now_ns=time.monotonic_ns(),
        )

    def _ended(self, instance: Instance, status: AnswerStatus, round_trip_ms: float | None = None) -> None:
        now_ns = time.monotonic_ns()
        passed_over = instance.passed_over_until_ns
        self._registry.ended(instance, status, round_trip_ms, now_ns)
        self._occupied(instance)
        if instance.passed_over_until_ns != passed_over:
            self._show()

    def _occupied(self, instance: Instance) -> None:
        if self._page is not None:
            self._page.occupy(instance.entry.agent_id, instance.in_flight)

    def _unreachable(self, agent_id: str) -> None:
        self._registry.unreachable(agent_id, "its process died; Ray is restarting it")
        self._show()

    async def _ping(self, instance: Instance) -> float | None:
        """Round trip of one ping in milliseconds, None where none came back; the registry learns either way."""
        if instance.handle is None or instance.parked:
            return None
        asked_ns = time.monotonic_ns()
        agent_id = instance.entry.agent_id
        try:
            call = asyncio.ensure_future(_value(instance.handle.ping.remote()))
            report = await asyncio.wait_for(call, self._settings.ping_timeout_s)
        except runtime.ActorUnreachable:
            self._unreachable(agent_id)
            return None
        except (TimeoutError, runtime.QueueFull):
            return None  # whether it lives, its heartbeats tell
        except Exception as error:
            instance.reason = f"cannot report: {_words(error)}"
            return None
        answered_ns = time.monotonic_ns()
        self._registry.heartbeat(report, answered_ns)
        return (answered_ns - asked_ns) / 1e6

    def _seen(self, instance: Instance, ping_ms: float | None) -> AgentHealth:
        """Health as this sweep saw it: an agent that says it serves but answers no ping is SUSPECT here."""
        health = self._registry.health(instance, ping_ms)
        if ping_ms is None and instance.state in SERVING:
            why = instance.reason or f"no answer to a ping within {self._settings.ping_timeout_s:g} s"
            return replace(health, state=AgentState.SUSPECT, reason=why)
        return health

    def _self_health(self) -> AgentHealth:
        return AgentHealth(
            agent_id=Role.HUB.value,
            role=Role.HUB,
            state=AgentState.HEALTHY,
            reason="",
            critical=True,
            restarts=0,
            ping_ms=0.0,
            node_id=self._node_id,
            pid=os.getpid(),
            version=self._version,
        )

    def _remember_the_parked(self, roster: tuple[RosterEntry, ...]) -> None:
        """An agent that was parked before this hub started exists no more in Ray: nobody need wait for it."""
        for entry in roster:
            try:
                runtime.find_actor(entry.agent_id, runtime.own_namespace())
            except SwarmError:
                self._registry.gone(entry.agent_id, "its actor does not exist: it was parked before the hub restarted")

    def _learn_current(self, agent_id: str) -> None:
        """A hub that knows no current snapshot, new or restarted, asks the market data agent when it comes to serve."""
        if self._current is None and agent_id == Role.MARKET_DATA.value:
            give_up_ns = time.monotonic_ns() + int(self._settings.deadline_s * 1e9)
            self._keep(asyncio.ensure_future(_ignore_death(self._named(None, None, give_up_ns))))

    def _keep(self, future: asyncio.Future[Any]) -> None:
        """Hold a reference until it is done: the loop itself keeps none."""
        self._background.add(future)
        future.add_done_callback(self._background.discard)


def _result(
    request: CalculationRequest,
    header: SnapshotHeader,
    book: Book,
    answers: dict[Role, AgentAnswer],
    elapsed_ns: int,
) -> CalculationResult:
    return CalculationResult(
        request_id=request.request_id,
        calculation=request.calculation,
        portfolio=book.name,
        currency=book.currency,
        value=book.value,
        snapshot_id=header.snapshot_id,
        as_of=header.as_of,
        answers={role.value: answer for role, answer in answers.items()},
        merged=merge(answers),
        completeness=completeness(answers),
        elapsed_ns=elapsed_ns,
        parameters=request.parameters,
        alerts=alerts(answers, book.name, time.time_ns()),
    )


def _require(results: Sequence[CalculationResult]) -> None:
    """COMPREHENSIVE needs value-at-risk, and a single question needs its one agent: without it there is no answer."""
    for result in results:
        role = _indispensable(result.calculation)
        answer = result.answers[role.value]
        if answer.status is not AnswerStatus.OK:
            raise CalculationIncomplete(
                f"{result.calculation.name} of {result.portfolio!r} on snapshot {result.snapshot_id[:SHORT_ID]} has no "
                f"{role} answer: {answer.status}, {answer.reason}",
                "Correct the input if it is named, allow more time with a later deadline, or run `swarm health`",
                tuple(results),
            )


def _indispensable(calculation: CalculationType) -> Role:
    return Role.VALUE_AT_RISK if calculation is CalculationType.COMPREHENSIVE else calculation.roles[0]


def _without_report(
    role: Role, agent_id: str, status: AnswerStatus, reason: str, task: Task, attempts: int
) -> tuple[AgentAnswer, ...]:
    answer = AgentAnswer(
        role=role,
        agent_id=agent_id,
        status=status,
        reason=reason,
        snapshot_id=task.snapshot_id,
        seed=task.parameters.seed,
        attempts=attempts,
    )
    return (answer,) * len(task.books)


async def _value(call: Any) -> Any:
    """Await a Ray call; the actor's own SwarmError comes out unwrapped."""
    try:
        return await call
    except Exception as error:
        known = runtime.swarm_error(error)
        if known is not None and known is not error:
            raise known from error
        raise


async def _prepare(instance: Instance, snapshot_id: str) -> None:
    await instance.handle.prepare.remote(snapshot_id)


async def _ignore_death(call: Awaitable[Any]) -> None:
    """Await a hint to an agent; one that cannot be told finds out by itself when it is asked."""
    try:
        await call
    except (runtime.ActorUnreachable, runtime.QueueFull, SwarmError):
        return


def _seconds_left(give_up_ns: int) -> float:
    return max(0.0, (give_up_ns - time.monotonic_ns()) / 1e9)


def _words(error: BaseException) -> str:
    if isinstance(error, SwarmError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"
