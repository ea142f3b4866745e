"""Who is in the swarm and how it fares."""

from __future__ import annotations

from enum import StrEnum

from hive.messages.alert import Alert
from hive.messages.calculation import CalculationType, Role
from hive.messages.codec import message


class AgentState(StrEnum):
    """Life of an agent. It reports the first three of itself, and DEAD where it cannot initialise; the hub judges."""

    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    SUSPECT = "SUSPECT"
    DEAD = "DEAD"


SERVING = (AgentState.HEALTHY, AgentState.DEGRADED)


@message
class Descriptor:
    """What an agent declares when it registers."""

    agent_id: str
    """Its name in Ray: the role, with ``-2``, ``-3``... for further instances."""
    role: Role
    capabilities: tuple[CalculationType, ...]
    version: str
    node_id: str
    pid: int
    incarnation: str
    """New at every start of the process, so a restart is never taken for the same life."""
    critical: bool
    """Without it the swarm counts as down, not as degraded."""
    started: int = 0
    """Start time of the process, clock ticks since boot: with the pid it names one process and no other."""
    boot_id: str = ""
    """Of the machine's present boot."""


@message
class AgentReport:
    """An agent's own words about itself."""

    agent_id: str
    incarnation: str
    state: AgentState
    reason: str = ""
    """Why it is not HEALTHY."""
    answered: int = 0
    failed: int = 0
    in_flight: int = 0
    last_error: str = ""
    snapshot_id: str = ""
    """Snapshot its resident state was built on."""
    compute_p50_ms: float | None = None
    compute_p99_ms: float | None = None
    """Of its last answers."""
    resident_mib: float = 0.0
    """Memory of its process, shared pages included."""
    cores: tuple[int, ...] = ()
    """Cores its threads may run on, read back from the kernel; empty for agents that serve no lanes."""
    numa_node: int | None = None
    own_core: bool = False
    """Whether nobody else of the swarm was given these cores."""
    memory_node: int | None = None
    """NUMA node that new memory is asked from, read back; None where the kernel decides."""
    seat_notes: tuple[str, ...] = ()
    """What must be known of where it runs: rights that are missing, a machine of one node."""
    ticks: int | None = None
    """Ticks taken of the book that it watches; None where it watches none."""
    observes: bool = False
    """Whether it is a replica that is no voter of the present epoch."""
    alerts: tuple[Alert, ...] = ()
    """What it knows of the swarm that somebody must look at, for as long as the cause is there."""


@message
class AgentHealth:
    """One agent as the hub sees it."""

    agent_id: str
    role: Role
    state: AgentState
    reason: str
    critical: bool
    restarts: int
    ping_ms: float | None
    node_id: str = ""
    pid: int = 0
    version: str = ""
    report: AgentReport | None = None


class SwarmState(StrEnum):
    """Verdict over the whole swarm."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


@message
class SwarmHealth:
    """The whole swarm in one sweep."""

    state: SwarmState
    agents: tuple[AgentHealth, ...]
    sweep_ms: float
    snapshot_id: str
    as_of: str
    calculations: int
    """Calculations gathered since the hub started."""
    late_answers: int
    in_flight: int
    hub_since: str
    """When the hub's process started; its counts begin there."""
    hub_restarted: bool
    alerts: tuple[Alert, ...] = ()
    """About the swarm itself, whose cause is there now; the most urgent first."""

    @property
    def problems(self) -> tuple[str, ...]:
        """One line per agent that is not HEALTHY, naming it and saying why."""
        return tuple(
            f"{agent.agent_id} is {agent.state}" + (f": {agent.reason}" if agent.reason else "")
            for agent in self.agents
            if agent.state is not AgentState.HEALTHY
        )


@message
class LateAnswer:
    """An answer that came after its deadline: kept, counted and shown, never passed off as timely."""

    request_id: str
    agent_id: str
    status: str
    late_ms: float


@message
class RolePerformance:
    """How one agent has served the hub since the hub started."""

    agent_id: str
    calls: int
    ok: int
    late: int
    failed: int
    latency_ms: float
    """Exponentially weighted mean round trip as the hub sees it."""
