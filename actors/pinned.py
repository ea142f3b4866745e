"""Where an agent that serves lanes runs: a core of its own if the machine has one to spare, and its node's memory."""

from __future__ import annotations

from dataclasses import dataclass

from actors.settings import ShellSettings
from cluster import pinning, topology
from hive.messages.calculation import Role

PINNED = (Role.GATE, Role.VALUE_AT_RISK, Role.STRESS, Role.CORRELATION, Role.LIQUIDITY, Role.PORTFOLIO)
"""Agents that a core of their own is sought for, in this order: orders wait for the gate. Further instances of them
share what is left."""
NICENESS = 0  # Ray starts its workers at 15, and a loop at 15 loses to anything


@dataclass(frozen=True)
class Seat:
    """Where this process sits, as the kernel tells it."""

    cores: tuple[int, ...]
    node: int | None
    """NUMA node of the cores; None where they span several."""
    own: bool
    """Whether nobody else of the swarm was given these cores."""
    notes: tuple[str, ...]


def take_seat(agent_id: str, settings: ShellSettings) -> Seat:
    """Bind this process as the plan of this machine says, and read back what came of it. Never fails: it notes."""
    found = topology.discover()
    placement = found.plan([*PINNED], reserved=settings.reserved_cores).get(agent_id)
    notes = list(found.notes)
    if settings.pin == "off" or placement is None or not placement.own:
        binding = pinning.read_back()
        notes.append("pinning is off" if settings.pin == "off" else placement.reason if placement else "shares cores")
    else:
        binding = pinning.bind(placement.cores, node=placement.node)
        notes.append(placement.reason)
    own = placement is not None and placement.own and binding.cores == placement.cores
    refused = pinning.renice(NICENESS) if own else ""
    nodes = {node.number for node in found.nodes for core in binding.cores if core in node.cores}
    return Seat(
        cores=binding.cores,
        node=nodes.pop() if len(nodes) == 1 else None,
        own=own,
        notes=(*notes, *binding.notes, *((refused,) if refused else ())),
    )
