"""Who is in the swarm: registrations, heartbeats, health by missed beats, and who may take the next question.

Pure state: times come in as monotonic nanoseconds and handles are opaque, so all of it runs without Ray.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cluster.supervision import RestartIntensity
from hive.hub.settings import HubSettings
from hive.messages.calculation import AnswerStatus, Role
from hive.messages.codec import message
from hive.messages.health import (
    SERVING,
    AgentHealth,
    AgentReport,
    AgentState,
    Descriptor,
    RolePerformance,
    SwarmState,
)
from hive.routing.page import Route, life_of, number_of, place_of

NEVER_MEASURED_MS = 0.1  # latency assumed of an instance that has not answered yet, so that it is tried


@message
class RosterEntry:
    """One agent the swarm should have."""

    agent_id: str
    role: Role
    critical: bool


@dataclass
class Instance:
    """What the hub knows of one agent."""

    entry: RosterEntry
    intensity: RestartIntensity
    state: AgentState = AgentState.STARTING
    reason: str = "has not registered yet"
    descriptor: Descriptor | None = None
    handle: Any = None
    report: AgentReport | None = None
    last_seen_ns: int = 0
    restarts: int = 0
    parked: bool = False
    in_flight: int = 0
    latency_ms: float = NEVER_MEASURED_MS
    measured: bool = False
    failures: int = 0
    """Failures in a row."""
    passed_over_until_ns: int = 0
    buried: str = ""
    """A life whose process has ended for certain: what it said before may still arrive."""
    counts: dict[AnswerStatus, int] = field(default_factory=lambda: dict.fromkeys(AnswerStatus, 0))

    @property
    def load(self) -> float:
        """Expected wait: round trip times the questions before this one."""
        return self.latency_ms * (self.in_flight + 1)

    @property
    def incarnation(self) -> str:
        """The life it registered last; empty before the first."""
        return self.descriptor.incarnation if self.descriptor else ""

    @property
    def node_id(self) -> str:
        """Ray node it lives on; empty before it registers."""
        return self.descriptor.node_id if self.descriptor else ""


class Registry:
    """The roster as it should be and as it is."""

    def __init__(self, roster: Iterable[RosterEntry], settings: HubSettings, now_ns: int = 0) -> None:
        self._settings = settings
        self._created_ns = now_ns
        self._instances = {entry.agent_id: self._new(entry) for entry in roster}

    def register(self, descriptor: Descriptor, handle: Any, now_ns: int) -> bool:
        """Enter an agent. False when it has died too often and must be stopped for good."""
        instance = self._instances.get(descriptor.agent_id)
        if instance is None:
            entry = RosterEntry(descriptor.agent_id, descriptor.role, descriptor.critical)
            instance = self._instances[descriptor.agent_id] = self._new(entry)
        known = instance.descriptor
        if known is not None and known.incarnation != descriptor.incarnation:
            instance.restarts += 1
            instance.parked = instance.parked or instance.intensity.record(now_ns)
        instance.descriptor, instance.handle, instance.last_seen_ns = descriptor, handle, now_ns
        instance.report = None
        if descriptor.incarnation == instance.buried:
            return True
        if instance.parked:
            self._park(instance)
            return False
        instance.state, instance.reason = AgentState.STARTING, "is starting"
        return True

    def heartbeat(self, report: AgentReport, now_ns: int) -> bool:
        """Take an agent's own report. False when this life of it is not registered here."""
        instance = self._instances.get(report.agent_id)
        if instance is None or instance.descriptor is None or instance.descriptor.incarnation != report.incarnation:
            return False
        instance.last_seen_ns, instance.report = now_ns, report
        if not instance.parked and report.incarnation != instance.buried:
            instance.state, instance.reason = report.state, report.reason
        return True

    def deregister(self, agent_id: str) -> None:
        """Take an agent out of the roster; unknown ids are ignored."""
        self._instances.pop(agent_id, None)

    def unreachable(self, agent_id: str, reason: str) -> None:
        """Note that a call could not reach the agent's process."""
        instance = self._instances.get(agent_id)
        if instance is not None and not instance.parked:
            instance.state, instance.reason = AgentState.DEAD, reason

    def died(self, agent_id: str, incarnation: str, reason: str) -> bool:
        """Note that the process of one life has ended, whatever it said last; False where another life has followed."""
        instance = self._instances.get(agent_id)
        if instance is None or instance.incarnation != incarnation:
            return False
        instance.buried = incarnation
        self.unreachable(agent_id, reason)
        return True

    def gone(self, agent_id: str, reason: str) -> None:
        """Note that nobody need wait for this agent; should it register all the same, it is welcome."""
        instance = self._instances[agent_id]
        instance.state, instance.reason = AgentState.DEAD, reason

    def judge(self, now_ns: int) -> None:
        """Turn missed heartbeats into SUSPECT and DEAD."""
        period_ns = self._settings.heartbeat_s * 1e9
        overdue = now_ns - self._created_ns > self._settings.registration_grace_s * 1e9
        for instance in self._instances.values():
            if instance.descriptor is None and overdue and not instance.parked:
                self.gone(
                    instance.entry.agent_id, f"has not registered within {self._settings.registration_grace_s:g} s"
                )
            if instance.descriptor is None or instance.parked or instance.state is AgentState.DEAD:
                continue
            missed = int((now_ns - instance.last_seen_ns) / period_ns)
            reason = f"no heartbeat for {(now_ns - instance.last_seen_ns) / 1e9:.1f} s"
            if missed >= self._settings.dead_misses:
                instance.state, instance.reason = AgentState.DEAD, reason
            elif missed >= self._settings.suspect_misses:
                instance.state, instance.reason = AgentState.SUSPECT, reason

    def instances(self) -> tuple[Instance, ...]:
        """Every agent of the roster, in its order."""
        return tuple(self._instances.values())

    def find(self, agent_id: str) -> Instance | None:
        """The agent of this id, or None."""
        return self._instances.get(agent_id)

    def serving(self, role: Role) -> tuple[Instance, ...]:
        """Instances of a role that may be asked now."""
        return tuple(
            instance
            for instance in self._instances.values()
            if instance.entry.role is role and instance.handle is not None and instance.state in SERVING
        )

    def routes(self, now_ns: int, boot_id: str) -> tuple[Route, ...]:
        """Every instance that has registered, as the routing page of the machine of ``boot_id`` shows it.

        One whose name does not follow from its role is not shown: it is asked by name.
        """
        shown = []
        for instance in self._instances.values():
            descriptor = instance.descriptor
            number = number_of(instance.entry.role, instance.entry.agent_id)
            if descriptor is None or number is None:
                continue
            report = instance.report
            here = descriptor.boot_id == boot_id
            shown.append(
                Route(
                    role=instance.entry.role,
                    number=number,
                    serving=instance.handle is not None and instance.state in SERVING,
                    passed_over=instance.passed_over_until_ns > now_ns,
                    place=place_of(here=here, node=report.numa_node if report is not None else None),
                    pid=descriptor.pid,
                    started=descriptor.started,
                    life=life_of(descriptor.incarnation),
                )
            )
        return tuple(shown)

    def hopeless(self, role: Role) -> str:
        """Why waiting for this role is pointless, or an empty string while there is hope."""
        instances = [i for i in self._instances.values() if i.entry.role is role]
        if not instances:
            return f"no {role} agent is in the roster"
        lost = [i.parked or (i.descriptor is None and i.state is AgentState.DEAD) for i in instances]
        return instances[0].reason if all(lost) else ""

    def ended(
        self, instance: Instance, status: AnswerStatus, round_trip_ms: float | None = None, now_ns: int = 0
    ) -> None:
        """Account for one question: its status and, where it was answered well, its round trip."""
        instance.in_flight = max(0, instance.in_flight - 1)
        instance.counts[status] += 1
        instance.failures = 0 if status is AnswerStatus.OK else instance.failures + 1
        if instance.failures >= self._settings.breaker_failures:
            instance.passed_over_until_ns = now_ns + int(self._settings.breaker_open_s * 1e9)
        if round_trip_ms is not None:
            weight = self._settings.latency_decay if instance.measured else 1.0
            instance.latency_ms += weight * (round_trip_ms - instance.latency_ms)
            instance.measured = True

    def health(self, instance: Instance, ping_ms: float | None) -> AgentHealth:
        """One agent as the registry sees it, with the round trip of its ping."""
        descriptor = instance.descriptor
        return AgentHealth(
            agent_id=instance.entry.agent_id,
            role=instance.entry.role,
            state=instance.state,
            reason="" if instance.state is AgentState.HEALTHY else instance.reason,
            critical=instance.entry.critical,
            restarts=instance.restarts,
            ping_ms=ping_ms,
            node_id=descriptor.node_id if descriptor else "",
            pid=descriptor.pid if descriptor else 0,
            version=descriptor.version if descriptor else "",
            report=instance.report,
        )

    def performance(self) -> tuple[RolePerformance, ...]:
        """How every agent has served."""
        return tuple(
            RolePerformance(
                agent_id=instance.entry.agent_id,
                calls=sum(instance.counts.values()),
                ok=instance.counts[AnswerStatus.OK],
                late=instance.counts[AnswerStatus.LATE],
                failed=instance.counts[AnswerStatus.FAILED],
                latency_ms=instance.latency_ms,
            )
            for instance in self._instances.values()
        )

    def _new(self, entry: RosterEntry) -> Instance:
        return Instance(entry, RestartIntensity(self._settings.max_restarts, self._settings.restart_window_s))

    def _park(self, instance: Instance) -> None:
        instance.state = AgentState.DEAD
        instance.reason = (
            f"parked: more than {self._settings.max_restarts} restarts in {self._settings.restart_window_s:g} s; "
            "see its log, then `swarm down` and `swarm up`"
        )


def choose(
    instances: tuple[Instance, ...], *, max_queue: int, node_id: str, rng: random.Random, now_ns: int = 0
) -> Instance | None:
    """Power of two choices: of two instances drawn at random, the one with the smaller expected wait.

    Instances that keep failing are passed over while there are others: a fast failure must not draw traffic. Then
    those on ``node_id`` are drawn first where there are any. None when every queue is full.
    """
    free = [instance for instance in instances if instance.in_flight < max_queue]
    free = [instance for instance in free if instance.passed_over_until_ns <= now_ns] or free
    near = [instance for instance in free if instance.node_id == node_id] or free
    if not near:
        return None
    return min(rng.sample(near, min(2, len(near))), key=lambda instance: instance.load)


def swarm_state(agents: Iterable[AgentHealth]) -> SwarmState:
    """HEALTHY when every agent is; DOWN when a critical one does not serve; else DEGRADED."""
    agents = tuple(agents)
    if all(agent.state is AgentState.HEALTHY for agent in agents):
        return SwarmState.HEALTHY
    if any(agent.critical and agent.state not in SERVING for agent in agents):
        return SwarmState.DOWN
    return SwarmState.DEGRADED
