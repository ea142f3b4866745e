"""What the tests of a committee on real Ray share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import runtime
from hive.messages.health import AgentState
from swarm import SwarmClient, boot
from swarm.settings import Settings
from tests.conftest import BOOT_S, eventually

DEADLINE_S = 90.0


@contextmanager
def committee_of(client: SwarmClient, home: Path, settings: Settings) -> Iterator[dict[str, Any]]:
    """Voters of a home in the embedded swarm, by name, founded and HEALTHY; ended and forgotten afterwards."""
    voters = tuple(pair for pair in boot.roster(settings) if pair[0] is boot.VOTER)
    created: dict[str, Any] = {}
    try:
        boot.create_agents(settings, home, voters, created)
        boot.found_committee(settings, home, created, give_up=time.monotonic() + BOOT_S)
        assert eventually(lambda: set(created) <= healthy(client)), client.health().problems
        yield created
    finally:
        boot.take_down(tuple(created), settings.namespace)
        hub = runtime.find_actor("hub", settings.namespace)
        runtime.wait_for([hub.deregister.remote(name) for name in created], DEADLINE_S)


def healthy(client: SwarmClient) -> set[str]:
    """Names of the agents that are."""
    return {agent.agent_id for agent in client.health().agents if agent.state is AgentState.HEALTHY}
