"""The composition root: the one place that knows every agent, and how a swarm goes up and comes down.

Adding an agent means adding its room, a line to :data:`ROSTER`, and its settings to ``swarm/settings.py``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from actors.agent import CONCURRENCY_GROUPS, Agent, Identity
from actors.consensus import agent as consensus_agent
from actors.consensus.agent import ReplicaAgent, Terms
from actors.market.market_data.agent import MarketDataAgent
from actors.pinned import shares
from actors.risk.agent import RiskAgent
from actors.risk.correlation.agent import CorrelationAgent
from actors.risk.liquidity.agent import LiquidityAgent
from actors.risk.portfolio.agent import PortfolioAgent
from actors.risk.stress.agent import StressAgent
from actors.risk.value_at_risk.agent import ValueAtRiskAgent
from actors.trading.gate import switch
from actors.trading.gate.agent import GateAgent
from actors.trading.gate.book import read as read_gate_book
from cluster import durable, head, runtime, session, topology
from cluster.errors import BootFailed, InvalidSettings, SessionConflict, SwarmError, SwarmUnavailable
from cluster.session import Session
from consensus import decisions, seats
from consensus.seats import Seats, replica_name
from consensus.simplex.types import Committee
from hive.hub.agent import Hub
from hive.hub.registry import RosterEntry
from hive.messages.calculation import Role
from hive.messages.health import AgentState, SwarmHealth
from hive.routing.kernels import MOST_ROWS
from hive.routing.page import instance_id
from swarm.settings import GATE_DIRECTORY, Settings

Progress = Callable[[str, SwarmHealth | None], None]
"""Told what is being waited for, and the health of the roster once there is one."""

HUB_CALL_TIMEOUT_S = 10.0
HUB_MAX_CONCURRENCY = 1000  # coroutines of the hub; calculations are bounded by hub.max_in_flight
POLL_S = 0.1
RETIRE_S = 3.0  # how long the gate may take to bring its journal to disk before it is taken down


@dataclass(frozen=True)
class RosterLine:
    """One kind of agent. ``critical``: without it the swarm is down, not degraded."""

    agent: type[Agent]
    critical: bool = False
    many: bool = True
    """Whether ``agents.instances`` of it may live side by side."""


ROSTER = (
    RosterLine(MarketDataAgent, critical=True, many=False),
    RosterLine(ValueAtRiskAgent, critical=True),
    RosterLine(StressAgent),
    RosterLine(CorrelationAgent),
    RosterLine(LiquidityAgent),
    RosterLine(PortfolioAgent),
    RosterLine(GateAgent, many=False),
)
VOTER = RosterLine(ReplicaAgent)
"""``consensus.voters`` when their committee is founded; later those that its decisions have put into their seats."""
VOTERS_PLACES = "voters"
"""Name in Ray of the places that they have on several nodes."""
SALT_BYTES = 16


def version() -> str:
    """Version of the installed package."""
    return metadata.version("riskswarm")


def up(settings: Settings, home: Path, progress: Progress) -> Session:
    """Start or join Ray, bring the roster up, and record the session.

    Raises
    ------
    SessionConflict
        A swarm is recorded here or lives in the namespace, its record is stale, or the port is taken.
    BootFailed
        Ray or the roster did not come up; whatever was started is gone again.
    """
    with session.exclusive(home), _terminated_like_interrupted():
        _refuse_second(session.read(home), home)
        read_gate_book(settings.gate.book)  # a wrong one is refused before anything is started
        entries = roster(settings, home)
        started: head.Head | None = None
        address = settings.ray.address
        if not address:
            progress("starting Ray", None)
            runtime.use_token(create=True)
            started = head.start(
                port=settings.ray.port,
                dashboard_port=settings.ray.dashboard_port,
                cpus=settings.ray.cpus or None,
                resources=topology.discover().resources(),
                log=home / "ray.log",
                deadline_s=settings.ray.start_deadline_s,
            )
            address = started.address
        try:
            progress("joining Ray", None)
            dashboard_url = _join(address, settings, started)
            record = Session(
                address=address,
                namespace=settings.namespace,
                started_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                launcher=started.launcher if started is not None else None,
                ray_session_dir=started.session_directory if started is not None else "",
                dashboard_url=started.dashboard_url if started is not None else dashboard_url,
                actors=(Role.HUB.value, *(entry.agent_id for _, entry in entries)),
            )
            bring_up(settings, home, progress)
            session.write(home, record)
        except BaseException:
            runtime.disconnect()
            if started is not None:
                head.stop(started.launcher, started.session_directory)
            raise
        return record


def _join(address: str, settings: Settings, started: head.Head | None) -> str:
    """Join Ray; one that was just started listens before it can be joined, and has as long for that as for starting."""
    give_up = time.monotonic() + settings.ray.start_deadline_s
    while True:
        try:
            return runtime.connect(address, settings.namespace)
        except SwarmUnavailable:
            if started is None or not started.launcher.alive() or time.monotonic() > give_up:
                raise
        time.sleep(POLL_S)


def down(home: Path) -> str:
    """Take the recorded swarm down; a stale or unreadable record is cleared. Says in words what was done."""
    if not session.session_path(home).exists():
        return f"No swarm is recorded in {home}; nothing to do."
    with session.exclusive(home):
        try:
            record = session.read(home)
        except SessionConflict:
            session.remove(home)
            return f"The session record in {home} could not be read and was removed. Look for a Ray left running."
        if record is None:
            return f"No swarm is recorded in {home}; nothing to do."
        stale = record.stale()
        _retire_gate(home)
        if record.launcher is not None:
            runtime.disconnect()
            head.stop(record.launcher, record.ray_session_dir)
        else:
            with contextlib.suppress(SwarmUnavailable):
                runtime.connect(record.address, record.namespace)
                left = take_down(record.actors, record.namespace)
                runtime.release(VOTERS_PLACES)
                runtime.disconnect()
                if left:
                    raise SessionConflict(
                        f"{', '.join(left)} of namespace {record.namespace} did not end", "Run `swarm down` again"
                    )
        session.remove(home)
        if stale:
            return f"The swarm of {record.started_utc} had died; its record and files were removed."
        return f"The swarm of {record.started_utc} is down."


@contextlib.contextmanager
def embedded(settings: Settings, progress: Progress, home: Path | None = None) -> Iterator[Path]:
    """A swarm inside this process, and its home: its Ray dies with the process, and without ``home`` its store too."""
    with contextlib.ExitStack() as stack:
        if home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="riskswarm-")))
        progress("starting Ray", None)
        runtime.embed(
            cpus=settings.ray.cpus or None,
            namespace=settings.namespace,
            resources=topology.discover().resources(),
        )
        stack.callback(runtime.disconnect)
        bring_up(settings, home, progress)
        stack.callback(_retire_gate, home)
        yield home


def bring_up(settings: Settings, home: Path, progress: Progress) -> SwarmHealth:
    """Create the roster on the joined Ray and wait until all of it is HEALTHY.

    Raises
    ------
    SessionConflict
        A hub lives in the namespace already.
    BootFailed
        The roster is not HEALTHY by the deadline; it is taken down again.
    """
    if Role.HUB.value in runtime.named_actors(settings.namespace):
        raise SessionConflict(
            f"a swarm already lives in namespace {settings.namespace} of this Ray",
            "Use it with `--address`, take it down, or set another `namespace`",
        )
    give_up = time.monotonic() + settings.boot_deadline_s
    created: dict[str, Any] = {}
    try:
        _create(settings, home, created)
        progress("creating agents", None)
        found_committee(settings, home, created, give_up)
        return _until_healthy(created[Role.HUB.value], settings, give_up, progress)
    except BaseException:
        _retire_gate(home)
        for handle in created.values():  # what others have created in the namespace is theirs
            runtime.kill(handle)
        runtime.release(VOTERS_PLACES)
        raise


def take_down(names: tuple[str, ...], namespace: str) -> list[str]:
    """End the named actors and wait until they are gone; returns those that are not."""
    for name in names:
        with contextlib.suppress(SwarmUnavailable):
            runtime.kill(runtime.find_actor(name, namespace))

    def left() -> list[str]:
        return sorted(set(names) & set(runtime.named_actors(namespace)))

    head.until(lambda: not left(), HUB_CALL_TIMEOUT_S)
    return left()


def roster(settings: Settings, home: Path | None = None) -> tuple[tuple[RosterLine, RosterEntry], ...]:
    """Every agent that should live: its kind, and its entry in the hub's registry.

    The voters are those of the home's committee, which may have changed since it was founded.

    Raises
    ------
    InvalidSettings
        They are more than the routing page has rows, or the home's committee was founded with another size.
    """
    agents = tuple(
        (line, RosterEntry(agent_id=instance_id(line.agent.role, number), role=line.agent.role, critical=line.critical))
        for line in ROSTER
        for number in range(1, (settings.agents.instances if line.many else 1) + 1)
    )
    known = _seats(settings, home)
    names = known.names if known is not None else tuple(map(replica_name, range(settings.consensus.voters)))
    voters = tuple((VOTER, RosterEntry(agent_id=name, role=Role.CONSENSUS, critical=False)) for name in names)
    found = agents + voters
    if len(found) > MOST_ROWS:
        raise InvalidSettings(
            f"agents.instances is {settings.agents.instances}: {len(found)} agents, and {MOST_ROWS} can be routed",
            "Lower it",
        )
    return found


def committee_path(home: Path) -> Path:
    """Where the public keys of a home's committee lie."""
    return home / "consensus" / "committee.json"


def _create(settings: Settings, home: Path, created: dict[str, Any]) -> None:
    """Create the hub and every agent and enter their handles; returns before they have initialised."""
    entries = roster(settings, home)
    created[Role.HUB.value] = runtime.spawn(
        Hub,
        tuple(entry for _, entry in entries),
        settings.hub,
        version(),
        settings.seed,
        name=Role.HUB.value,
        namespace=settings.namespace,
        concurrency_groups={},
        max_concurrency=HUB_MAX_CONCURRENCY,
        max_pending_calls=HUB_MAX_CONCURRENCY,
    )
    create_agents(settings, home, entries, created)


def create_agents(
    settings: Settings,
    home: Path,
    entries: tuple[tuple[RosterLine, RosterEntry], ...],
    created: dict[str, Any],
) -> None:
    """Create these agents of the roster and enter their handles."""
    seated = [entry.agent_id for line, entry in entries if issubclass(line.agent, (RiskAgent, GateAgent))]
    asked = shares(seated, settings.agents, topology.discover(), runtime.free_resources())
    voters = [entry.agent_id for line, entry in entries if line is VOTER]
    places = dict(zip(voters, _places(settings, home, voters) if voters else (), strict=True))
    for line, entry in entries:
        identity = Identity(
            agent_id=entry.agent_id,
            role=entry.role,
            critical=entry.critical,
            namespace=settings.namespace,
            version=version(),
            heartbeat_s=settings.hub.heartbeat_s,
        )
        arguments: tuple[Any, ...] = (getattr(settings, entry.role.value, None), settings.lanes)
        if line is VOTER:
            folder = committee_path(home).parent / entry.agent_id
            terms = Terms(identity, settings.agents, settings.consensus, str(folder))
            founded = committee_path(home).exists()
            created[entry.agent_id] = create_voter(terms, places[entry.agent_id], founded=founded)
            continue
        if line.agent is MarketDataAgent:
            arguments = (settings.market, str(home / "snapshots"))
        elif line.agent is GateAgent:
            place = str(home / GATE_DIRECTORY), str(committee_path(home))
            arguments = (*arguments, read_gate_book(settings.gate.book), *place)
        created[entry.agent_id] = runtime.spawn(
            line.agent,
            identity,
            settings.agents,
            *arguments,
            name=entry.agent_id,
            namespace=settings.namespace,
            concurrency_groups=CONCURRENCY_GROUPS,
            max_pending_calls=settings.agents.max_pending_calls,
            resources=asked.get(entry.agent_id),
        )


def create_voter(terms: Terms, place: Any, *, founded: bool) -> Any:
    """Create a voter in a place of the runtime; ``founded`` as :class:`ReplicaAgent` takes it."""
    return runtime.spawn(
        ReplicaAgent,
        terms.identity,
        terms.shell,
        terms.settings,
        terms.folder,
        founded,
        name=terms.identity.agent_id,
        namespace=terms.identity.namespace,
        concurrency_groups=consensus_agent.CONCURRENCY_GROUPS,
        max_pending_calls=terms.shell.max_pending_calls,
        place=place,
    )


def found_committee(settings: Settings, home: Path, created: dict[str, Any], give_up: float) -> None:
    """Give voters that are in no committee yet their places in one, and keep its public keys in the home.

    The voters' own word goes first: if a founding was broken off, it is finished as it was begun.

    Raises
    ------
    BootFailed
        A voter does not answer, or refuses its place.
    """
    path = committee_path(home)
    if path.exists() or not settings.consensus.voters:
        return
    voters = [created[replica_name(number)] for number in range(settings.consensus.voters)]
    try:
        left_s = max(0.1, give_up - time.monotonic())
        answers = runtime.wait_for([voter.founding.remote() for voter in voters], left_s)
        text = next((text for _, _, text in answers if text), "")
        if not text:
            salt = os.urandom(SALT_BYTES)
            text = decisions.committee_text(Committee.founded(tuple(key for key, _, _ in answers), salt), salt)
        runtime.wait_for([voter.found.remote(text) for voter in voters], max(0.1, give_up - time.monotonic()))
    except (SwarmError, runtime.ActorUnreachable) as error:
        raise BootFailed(f"the committee could not be founded: {error}", "Mend that, and start again") from error
    first = decisions.committee_of(text, "the founding")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # where all voters are on other machines
    seats.write(path.parent, first, Seats.founding(first, [address for _, address, _ in answers]))
    durable.write(path, text)


def _places(settings: Settings, home: Path, voters: list[str]) -> list[Any]:
    """Places for voters, each on the machine where its log is."""
    known = _seats(settings, home)
    addresses = {} if known is None else {replica_name(number): where for number, where in known.addresses.items()}
    return runtime.places(VOTERS_PLACES, [addresses.get(name, "") for name in voters])


def _seats(settings: Settings, home: Path | None) -> Seats | None:
    """The seats of the home's committee; None where it has none, or shall not have one come up."""
    voters = settings.consensus.voters
    path = committee_path(home) if home is not None else None
    if path is None or not path.exists() or not voters:
        return None
    first = decisions.read_committee(path)
    if len(first.keys) != voters:
        raise InvalidSettings(
            f"{path} was founded with {len(first.keys)} voters, consensus.voters is {voters}",
            "Give the size at founding, whatever it is now, or move the folder away to found another one",
        )
    return seats.read(path.parent, first)


def _until_healthy(hub: Any, settings: Settings, give_up: float, progress: Progress) -> SwarmHealth:
    health: SwarmHealth | None = None
    while time.monotonic() < give_up:
        try:
            health = runtime.wait_for(hub.health.remote(), max(0.1, give_up - time.monotonic()))
        except runtime.ActorUnreachable as error:
            raise BootFailed(f"the hub died while starting ({error})", "Look into Ray's logs") from error
        except SwarmError:
            break
        assert health is not None
        progress("waiting for the roster", health)
        may_lack = max(0, sum(agent.role is Role.CONSENSUS for agent in health.agents) - 1) // 3
        lost = [agent for agent in health.agents if agent.report is not None and agent.report.state is AgentState.DEAD]
        voters = [agent for agent in lost if agent.role is Role.CONSENSUS]
        others = {agent.state for agent in health.agents if agent not in voters}
        if others == {AgentState.HEALTHY} and len(voters) <= may_lack:
            return health  # a committee lives without those it may lose, and health says which
        if len(lost) > len(voters) or len(voters) > may_lack:
            raise BootFailed(f"an agent cannot start: {'; '.join(health.problems)}", "Mend that, and start again")
        time.sleep(POLL_S)
    problems = "; ".join(health.problems) if health else "the hub does not answer"
    raise BootFailed(
        f"the roster is not healthy after {settings.boot_deadline_s:g} s: {problems}",
        "Everything was taken down again; see the reason above, or allow more with boot_deadline_s",
    )


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that what was started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refuse_second(record: Session | None, home: Path) -> None:
    if record is None:
        return
    if record.stale():
        raise SessionConflict(
            f"{session.session_path(home)} records the swarm of {record.started_utc}, whose Ray is gone",
            "Run `swarm down` to clear what it left, then `swarm up`",
        )
    raise SessionConflict(
        f"a swarm started {record.started_utc} is recorded in {home}, Ray at {record.address}",
        "Use it, or run `swarm down` first",
    )


def _retire_gate(home: Path) -> None:
    """Have the gate end in order; one that does not, or is dead, will ask to be reconciled when it returns."""
    found = switch.find(home / GATE_DIRECTORY)
    if found is not None:
        found.retire(RETIRE_S)
        found.close()
