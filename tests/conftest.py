"""Fixtures that need a real swarm: one embedded for the whole run, and a home that is not the user's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cluster import head
from hive.hub.settings import HubSettings
from hive.messages.health import AgentHealth, SwarmState
from swarm import SwarmClient
from swarm.settings import Settings

RECOVERY_S = 60.0
MAX_IN_FLIGHT = 16

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, and children inherit that


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
    """Defaults, with a small bound on calculations in flight and patience with processes that tests kill."""
    return Settings(hub=HubSettings(max_in_flight=MAX_IN_FLIGHT, max_restarts=1000, ping_timeout_s=2.0))


@pytest.fixture(scope="session")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmClient]:
    with SwarmClient.embedded(settings=settings, home=tmp_path_factory.mktemp("embedded")) as embedded:
        yield embedded


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


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still inside the block, unless the block kills it."""
    os.kill(pid, signal.SIGSTOP)
    assert eventually(lambda: _stands_still(pid), 5.0)  # a thread that is awake stops a little later
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
