"""Where an agent that serves lanes runs: a core of its own if the machine has one to spare, and its node's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.settings import ShellSettings
from cluster import pinning, topology
from cluster.topology import Topology
from hive.messages.calculation import Role

PINNED = (Role.GATE, Role.VALUE_AT_RISK, Role.STRESS, Role.CORRELATION, Role.LIQUIDITY, Role.PORTFOLIO)
"""Agents that a core of their own is sought for, in this order: orders wait for the gate. Further instances of them
share what is left."""
WHOLE, SHARED = 1.0, 0.01  # of a node's cores: what an agent asks Ray for that owns one, and one that owns none


@dataclass(frozen=True)
class Seat:
    """Where this process sits, as the kernel tells it."""

    cores: tuple[int, ...]
    node: int | None
    """NUMA node of the cores; None where they span several."""
    own: bool
    """Whether nobody else of the swarm was given these cores."""
    memory_node: int | None
    """Node that new memory is asked from, read back; None where the kernel decides."""
    bound: bool
    """Whether cores and memory were chosen, not taken as they came."""
    notes: tuple[str, ...]

    def told(self, more: tuple[str, ...] = ()) -> dict[str, Any]:
        """Fields of an agent's report that say where it runs; ``more`` notes are those of its lanes."""
        return {
            "cores": self.cores,
            "numa_node": self.node,
            "own_core": self.own,
            "memory_node": self.memory_node,
            "seat_notes": (*self.notes, *more),
        }


def shares(
    agent_ids: Sequence[str], settings: ShellSettings, found: Topology, free: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """What each agent asks Ray for: a share of the NUMA node that it is planned on, and nothing where that is not free.

    Those that the plan does not know, further instances, go where most is left.
    """
    left = {name: free[name] for name in found.resources() if name in free}
    asked: dict[str, dict[str, float]] = {}
    if settings.pin == "off":
        return asked
    plan = found.plan([*PINNED], reserved=settings.reserved_cores)
    for agent_id in agent_ids:
        placement = plan.get(agent_id)
        name = (
            topology.resource_of(placement.node)
            if placement is not None
            else max(left, key=left.__getitem__, default="")
        )
        share = WHOLE if placement is not None and placement.own else SHARED
        if left.get(name, 0.0) >= share:
            asked[agent_id] = {name: share}
            left[name] -= share
    return asked


def take_seat(agent_id: str, settings: ShellSettings, granted: int | None) -> Seat:
    """Bind this process as the plan of this machine says, and read back what came of it. Never fails: it notes.

    Parameters
    ----------
    granted : int or None
        NUMA node that Ray granted a share of.
    """
    found = topology.discover()
    placement = found.plan([*PINNED], reserved=settings.reserved_cores).get(agent_id)
    notes = list(found.notes)
    home = next((node for node in found.nodes if node.number == granted and node.cores), None)
    cores: tuple[int, ...] = ()
    if settings.pin == "off":
        notes.append("pinning is off")
    elif placement is not None:
        notes.append(placement.reason)
        cores = placement.cores if placement.own else ()
        if granted is not None and granted != placement.node:
            notes.append(f"Ray granted a share of node {granted}, the plan of this machine says node {placement.node}")
    elif home is not None and len(found.nodes) > 1:
        cores = tuple(core for core in home.cores if core not in found.isolated) or home.cores
        notes.append(f"shares the cores of node {home.number}")
    else:
        notes.append("shares cores")
    if granted is None and settings.pin != "off":
        notes.append("Ray granted no share of a NUMA node")
    node = placement.node if placement is not None else granted
    binding = pinning.bind(cores, node=node) if cores else pinning.read_back()
    own = placement is not None and placement.own and binding.cores == placement.cores
    nodes = {node.number for node in found.nodes for core in binding.cores if core in node.cores}
    return Seat(
        cores=binding.cores,
        node=nodes.pop() if len(nodes) == 1 else None,
        own=own,
        memory_node=binding.memory_node,
        bound=bool(cores) and binding.cores == cores,
        notes=(*notes, *binding.notes),
    )
