"""Fixtures that need a real swarm: one embedded for the whole run, and a home that is not the user's."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from actors.trading.gate.settings import GateSettings
from cluster import head
from hive.hub.settings import HubSettings
from hive.messages.health import AgentHealth, SwarmState
from swarm import SwarmClient
from swarm.settings import Settings

pytest.register_assert_rewrite("tests.swarm.commands")
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")  # no test of timing: a machine may be busy

RECOVERY_S = 150.0
BOOT_S = 200.0
MAX_IN_FLIGHT = 16

GROUPS = {
    "a committee in the swarm": (
        "swarm/test_joined_ray.py",
        "consensus/test_committee.py",
        "consensus/test_faulty_voters.py",
        "consensus/test_killed_voters.py",
        "consensus/test_lying_replica.py",
        "consensus/test_members.py",
    ),
    "the swarm": (
        "swarm/test_client.py",
        "swarm/test_fast.py",
        "swarm/test_gate.py",
        "swarm/test_market_flow.py",
        "swarm/test_recovery.py",
        "swarm/test_report.py",
        "swarm/test_routing.py",
        "swarm/test_watch.py",
        "hive/test_conformance.py",
    ),
}
"""Files of the embedded swarm, each group for one worker, so that no third such swarm is up; one takes as long as the
other."""
LONG = (
    "swarm/test_command.py",
    "swarm/test_gate_committee.py",
    "swarm/test_boot.py",
    "swarm/test_instances.py",
    "swarm/test_bench.py",
    "consensus/test_places.py",
)
"""Files that take the longest of those that start swarms of their own."""
GROUP_OF = {f"tests/{name}": group for group, names in GROUPS.items() for name in names}

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, and children inherit that


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups first, then the long files; those that need no swarm fill what is left of a worker's time."""
    order = [*GROUP_OF, *(f"tests/{name}" for name in LONG)]
    place = {name: number for number, name in enumerate(order)}
    items.sort(key=lambda item: place.get(_file_of(item.nodeid), len(order)))
    for item in items:
        if "client" in getattr(item, "fixturenames", ()) and _file_of(item.nodeid) not in GROUP_OF:
            raise pytest.UsageError(f"{_file_of(item.nodeid)} uses the embedded swarm: name it in one of GROUPS")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker a group, or else a file, at a time."""
    from xdist.scheduler import LoadFileScheduling

    class ByGroup(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return GROUP_OF.get(_file_of(nodeid), _file_of(nodeid))

    return ByGroup(config, log)


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.fixture(scope="session", autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the home of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get("SWARM_HOME")
    os.environ["SWARM_HOME"] = str(home)
    yield home
    os.environ.pop("SWARM_HOME")
    if before is not None:
        os.environ["SWARM_HOME"] = before


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Defaults, with a small bound on calculations in flight, and patience with a busy machine and what tests kill."""
    hub = HubSettings(max_in_flight=MAX_IN_FLIGHT, max_restarts=1000, ping_timeout_s=2.0)
    return Settings(hub=hub, gate=GateSettings(patience_s=1.0), boot_deadline_s=BOOT_S)


@contextmanager
def alone() -> Iterator[None]:
    """Of all workers of this run only one is inside: a dozen processes that start want all cores for themselves."""
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def embedded(settings: Settings, home: Path | None = None) -> Iterator[SwarmClient]:
    """A swarm in this process, which came up while no other one did."""
    with ExitStack() as stack:
        with alone():
            swarm = stack.enter_context(SwarmClient.embedded(settings=settings, home=home))
        yield swarm


@pytest.fixture(scope="session")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmClient]:
    with embedded(settings, tmp_path_factory.mktemp("embedded")) as swarm:
        yield swarm


@pytest.fixture
def healthy(client: SwarmClient) -> Iterator[SwarmClient]:
    """The embedded swarm, whole before the test and whole again after it."""
    wait_until_healthy(client)
    yield client
    wait_until_healthy(client)


def wait_until_healthy(client: SwarmClient) -> None:
    assert eventually(lambda: is_healthy(client)), client.health().problems


def is_healthy(client: SwarmClient) -> bool:
    try:
        return client.health().state is SwarmState.HEALTHY
    except Exception:
        return False


def eventually(condition: Callable[[], bool], within_s: float = RECOVERY_S) -> bool:
    return head.until(condition, within_s)


def agent(client: SwarmClient, agent_id: str) -> AgentHealth:
    return next(found for found in client.health().agents if found.agent_id == agent_id)


def waiting_at(client: SwarmClient, agent_id: str) -> int:
    """Questions that an agent has not answered yet."""
    return {route.agent_id: waiting for route, waiting in client.routes()}[agent_id]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still inside the block, unless the block kills it."""
    os.kill(pid, signal.SIGSTOP)
    assert eventually(lambda: _stands_still(pid))  # a thread that is awake stops a little later
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # a thread has ended since
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
