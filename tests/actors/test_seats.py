"""Seats: what agents ask Ray for on machines of every shape, and what they say of where they sit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from actors.fast import FastService
from actors.lanes import LaneHost
from actors.pinned import PINNED, SHARED, WHOLE, shares
from actors.settings import ShellSettings
from cluster import pinning
from cluster.lanes.echo import echo
from cluster.lanes.layout import PAGE
from cluster.lanes.settings import LaneSettings
from cluster.topology import discover, node_of
from hive.messages.fast import Caller, FastFacts
from tests.cluster.test_topology import build
from tests.conftest import eventually

AGENTS = [name for role in PINNED for name in (role.value, f"{role.value}-2")]
PLENTY = {"CPU": 64.0, "memory": 1e9, "numa0": 8.0, "numa1": 8.0}
Machine = Callable[[dict[int, str]], dict[str, dict[str, float]]]


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., dict[str, dict[str, float]]]:
    def ask(nodes: dict[int, str], free: dict[str, float], **settings: object) -> dict[str, dict[str, float]]:
        return shares(AGENTS, ShellSettings(**settings), discover(build(tmp_path, nodes)), free)

    return ask


def test_who_owns_a_core_asks_for_one_of_its_node_and_the_others_for_a_crumb(asked: Machine) -> None:
    found = asked({0: "0-7", 1: "8-15"}, PLENTY)
    assert set(found) == set(AGENTS)
    for role in PINNED:
        assert list(found[role.value].values()) == [WHOLE]
        assert list(found[f"{role.value}-2"].values()) == [SHARED]
    nodes = [node_of(found[role.value]) for role in PINNED]
    counts = [nodes.count(node) for node in (0, 1)]
    assert sum(counts) == len(PINNED) and max(counts) - min(counts) <= 1


def test_with_few_cores_everybody_asks_for_a_crumb(asked: Machine) -> None:
    found = asked({0: "0-1"}, {"numa0": 2.0})
    assert found == {agent_id: {"numa0": SHARED} for agent_id in AGENTS}


@pytest.mark.parametrize("free", [{}, {"CPU": 8.0}, {"numa7": 8.0}])
def test_a_ray_that_advertises_no_nodes_is_asked_for_nothing(asked: Machine, free: dict[str, float]) -> None:
    assert asked({0: "0-7", 1: "8-15"}, free) == {}


def test_nobody_waits_for_what_another_swarm_holds(asked: Machine) -> None:
    found = asked({0: "0-7", 1: "8-15"}, {"numa0": 1.005, "numa1": 0.0})
    total = sum(amount for share in found.values() for amount in share.values())
    assert 0 < total <= 1.005
    assert all(set(share) == {"numa0"} for share in found.values())


def test_without_pinning_nothing_is_asked(asked: Machine) -> None:
    assert asked({0: "0-7"}, PLENTY, pin="off") == {}


@pytest.mark.parametrize(
    ("resources", "node"), [({"numa1": 1.0, "CPU": 1.0}, 1), ({"numa": 1}, None), ({"numax": 1}, None), ({}, None)]
)
def test_the_granted_node(resources: dict[str, float], node: int | None) -> None:
    assert node_of(resources) == node


SEAT = """
from pathlib import Path
from actors import pinned
from actors.settings import ShellSettings
from cluster import topology
found = topology.discover(Path({root!r}), frozenset(range(2)))
topology.discover = lambda: found
for agent_id in ("value_at_risk", "value_at_risk-2"):
    print(pinned.take_seat(agent_id, ShellSettings(), {granted}))
"""


@pytest.mark.parametrize(
    ("granted", "words"),
    [
        (None, "Ray granted no share of a NUMA node"),
        (1, "shares the cores of node 1"),
    ],
)
def test_seats_on_a_machine_of_two_nodes_say_what_they_are(tmp_path: Path, granted: int | None, words: str) -> None:
    """In a process of its own, on a picture of two nodes; what the real kernel refuses is said, and nothing raises."""
    build(tmp_path, {0: "0", 1: "1"})
    script = SEAT.format(root=str(tmp_path), granted=granted)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "own=False" in first and words in second


def test_a_lane_is_in_memory_before_its_caller_hears_of_it_and_refusals_are_notes() -> None:
    service = FastService(lambda *_: (0, 0), echo, (), {}, 8)
    host = LaneHost(
        LaneSettings(per_agent=2), service, FastFacts("s", 1, (), {}), own_core=False, node=pinning.NODE_LIMIT + 1
    )
    try:
        before = _resident(host)
        host.open(Caller.here("park"))
        geometry = host.port.geometry
        pages = (geometry.lane_words - PAGE) * 8 // 4096
        assert _resident(host) - before >= pages
        assert np.count_nonzero(host.port.memory.words[geometry.lane_at(0) + PAGE : geometry.lane_at(1)]) == 0
        assert eventually(lambda: len(host.notes) == 2)
        assert all("does not exist or is not allowed here" in note for note in host.notes)
    finally:
        host.close()


def _resident(host: LaneHost) -> int:
    """Pages of the port in memory, of 4096 bytes."""
    inode = Path(f"/proc/self/fd/{host.port.memory.descriptor}").stat()
    return inode.st_blocks * 512 // 4096
