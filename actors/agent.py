"""The shell every agent lives in: a Ray actor that initialises before it serves, registers, beats and counts.

Three concurrency groups keep it responsive: ``health`` answers pings, ``control`` takes instructions, ``compute``
works, one question at a time. The constructor returns at once. One thread of the shell initialises; another registers
with the hub and reports every heartbeat and every change, registering again whenever the hub does not know this life
of the agent (the hub restarted). When Ray restarts the process the same road is taken again, so state is restored
before HEALTHY.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import psutil

from actors.settings import ShellSettings
from cluster import head, pinning, runtime
from cluster.errors import DeadlineExceeded, SwarmError, SwarmUnavailable
from cluster.lanes.peer import started
from hive.messages.alert import Alert
from hive.messages.calculation import PARTICIPANTS, CalculationType, Role
from hive.messages.fast import boot_id
from hive.messages.health import AgentReport, AgentState, Descriptor

CONCURRENCY_GROUPS = {"health": 1, "control": 2, "compute": 1}
RETRY_S = 0.1  # pause between tries to initialise or to reach the hub
CALL_S = 5.0  # how long the hub may take over a heartbeat


@dataclass(frozen=True)
class Identity:
    """Who an agent is; the composition root decides it."""

    agent_id: str
    role: Role
    critical: bool
    namespace: str
    version: str
    heartbeat_s: float


class Agent:
    """Base of every agent but the hub. A room overrides :meth:`initialise` and adds its own methods."""

    role: ClassVar[Role]

    def __init__(self, identity: Identity, shell: ShellSettings) -> None:
        self.identity = identity
        self.shell = shell
        self._incarnation = secrets.token_hex(8)
        self._state = AgentState.STARTING
        self._reason = "initialising"
        self._lock = threading.Lock()
        self._answered = 0
        self._failed = 0
        self._in_flight = 0
        self._last_error = ""
        self._rank = ""
        self._timings_ms: deque[float] = deque(maxlen=shell.timings_kept)
        self._process = psutil.Process()
        self._hub: Any = None
        self._descriptor = Descriptor(
            agent_id=identity.agent_id,
            role=identity.role,
            capabilities=tuple(kind for kind in CalculationType if identity.role in PARTICIPANTS[kind]),
            version=identity.version,
            node_id=runtime.node_id(),
            pid=os.getpid(),
            incarnation=self._incarnation,
            critical=identity.critical,
            started=started(os.getpid()),
            boot_id=boot_id(),
        )
        self._own_handle = runtime.own_handle()
        self._news = threading.Event()
        threading.Thread(target=self._start, name="start", daemon=True).start()
        threading.Thread(target=self._live, name="life", daemon=True).start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.identity.agent_id})"

    def initialise(self) -> None:
        """Build or restore the state without which the agent must not serve. Raises until that is possible."""

    def seated(self) -> dict[str, Any]:
        """Fields of the report that say where the process runs; none where the agent does not care."""
        return {}

    def resident_snapshot_id(self) -> str:
        """Snapshot the resident state was built on, empty where there is none."""
        return ""

    def alerts(self) -> tuple[Alert, ...]:
        """What this agent knows of the swarm that somebody must look at, for as long as the cause is there."""
        return ()

    @runtime.answered_in("health")
    def ping(self) -> AgentReport:
        """The agent's own report; answered by a thread that no calculation can hold up."""
        seat = self.seated()
        notes = (*seat.pop("seat_notes", ()), *((self._rank,) if self._rank else ()))
        with self._lock:
            timings = sorted(self._timings_ms)
            return AgentReport(
                agent_id=self.identity.agent_id,
                incarnation=self._incarnation,
                state=self._state,
                reason=self._reason,
                answered=self._answered,
                failed=self._failed,
                in_flight=self._in_flight,
                last_error=self._last_error,
                snapshot_id=self.resident_snapshot_id(),
                compute_p50_ms=_percentile(timings, 0.50),
                compute_p99_ms=_percentile(timings, 0.99),
                resident_mib=self._process.memory_info().rss / 2**20,
                alerts=self.alerts(),
                seat_notes=notes,
                **seat,
            )

    @property
    def state(self) -> AgentState:
        """State as this agent reports it now."""
        return self._state

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Account for one piece of work: in flight while it lasts, then answered or failed, with its time."""
        started_ns = time.monotonic_ns()
        with self._lock:
            self._in_flight += 1
        try:
            yield
        except BaseException as error:
            with self._lock:
                self._failed += 1
                self._last_error = f"{type(error).__name__}: {error}"
            raise
        else:
            with self._lock:
                self._answered += 1
                self._timings_ms.append((time.monotonic_ns() - started_ns) / 1e6)
        finally:
            with self._lock:
                self._in_flight -= 1

    def become(self, state: AgentState, reason: str = "") -> None:
        """Change the state that heartbeats and pings report, and report it at once."""
        with self._lock:
            news = state is not self._state
            self._state, self._reason = state, reason
        if news:
            self._news.set()

    def ask(self, agent_id: str, call: Callable[[Any], Any], timeout_s: float) -> Any:
        """Call another agent by name and wait for its answer."""
        return runtime.wait_for(call(runtime.find_actor(agent_id, self.identity.namespace)), timeout_s)

    def _start(self) -> None:
        """Initialise, as often as it takes. What waiting cannot mend is reported as DEAD, with the reason."""
        refused = pinning.renice(pinning.NORMAL)
        self._rank = f"{refused}, or a Ray started with {head.NICENESS}={pinning.NORMAL}" if refused else ""
        while True:
            try:
                self.initialise()
            except (SwarmUnavailable, DeadlineExceeded, runtime.ActorUnreachable) as error:
                self.become(AgentState.STARTING, f"cannot initialise yet: {error}")
                time.sleep(RETRY_S)
            except Exception as error:
                self.become(AgentState.DEAD, f"cannot initialise: {type(error).__name__}: {error}")
                time.sleep(self.shell.restart_pause_s)
            else:
                self.become(AgentState.HEALTHY)
                return

    def _live(self) -> None:
        """Register with the hub and beat until the process ends; nothing that fails here ends it."""
        registered = False
        while True:
            self._news.clear()
            try:
                hub = self._find_hub()
                if not registered:
                    registered = runtime.wait_for(hub.register.remote(self._descriptor, [self._own_handle]), CALL_S)
                    if not registered:
                        return  # parked: the hub is stopping this process
                registered = runtime.wait_for(hub.heartbeat.remote(self.ping()), CALL_S)
            except Exception as error:
                self._hub, registered = None, False
                if not isinstance(error, (SwarmError, runtime.ActorUnreachable)):
                    self._last_error = f"heartbeat: {type(error).__name__}: {error}"
            self._news.wait(self.identity.heartbeat_s if registered else RETRY_S)

    def _find_hub(self) -> Any:
        if self._hub is None:
            self._hub = runtime.find_actor(Role.HUB.value, self.identity.namespace)
        return self._hub


def _percentile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
