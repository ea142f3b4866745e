"""Which cores and NUMA nodes this process may use, and which agent goes where.

Discovery only reads, and only below a given root: ``/`` is this machine, any other directory is a picture of one. What
is missing or unreadable becomes a note for people, never an error. A core is a hardware thread, by the kernel's number;
a physical core is all its hardware threads together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.errors import InvalidRequest

NODES = "sys/devices/system/node"
CPUS = "sys/devices/system/cpu"
CGROUPS = "sys/fs/cgroup"
OWN_CGROUP = "proc/self/cgroup"
RESOURCE = "numa"
CORE_LIMIT = 65_536  # eight times the kernel's largest NR_CPUS: beyond it a list is garbage, and would fill memory

_ITEM = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9})/([0-9]{1,9}))?)?")
_MEMORY = re.compile(r"MemTotal:\s*([0-9]+) kB")


@dataclass(frozen=True)
class Node:
    """One NUMA node."""

    number: int
    cores: tuple[int, ...]
    """Those of its cores that this process may use, ascending; empty for a node of memory alone."""
    memory_mib: int | None
    distances: tuple[int, ...]
    """To every online node in ascending order, in the firmware's unit: 10 is local; empty where unknown."""


@dataclass(frozen=True)
class Placement:
    """Where one agent goes."""

    node: int
    cores: tuple[int, ...]
    """Empty where no core may be used: the agent is then not bound."""
    own: bool
    """Whether the core is given to this agent alone."""
    reason: str


@dataclass(frozen=True)
class Topology:
    """What :func:`discover` found."""

    nodes: tuple[Node, ...]
    """Ascending by number, at least one."""
    isolated: frozenset[int]
    nohz_full: frozenset[int]
    offline: frozenset[int]
    smt: Mapping[int, tuple[int, ...]]
    """Of every online core, the online hardware threads of its physical core, itself among them."""
    allowed: frozenset[int]
    """Online, in the affinity mask and in the cgroup; the cores of all nodes together."""
    notes: tuple[str, ...]
    """Sentences for people."""

    def resources(self) -> dict[str, float]:
        """Number of usable cores per node under the names ``numa0``, ``numa1``..., for ``ray start --resources``."""
        return {resource_of(node.number): float(len(node.cores)) for node in self.nodes if node.cores}

    def plan(
        self, agents: Sequence[str], *, reserved: int = 1, node_of: Mapping[str, int] = {}
    ) -> dict[str, Placement]:
        """A place for every agent, in the order given; the same question has the same answer.

        Agents go where ``node_of`` says, the others to the nodes in proportion to their free cores. On a node with
        enough of them each agent gets one hardware thread of a physical core, and nobody the other threads of it:
        isolated cores first, then those of ``nohz_full``. On a node with too few, no agent there gets a core of its
        own: all of them share the node's cores, without the isolated ones, over which the kernel spreads no load.

        Parameters
        ----------
        agents : sequence of str
            Different names, in the order in which they choose.
        reserved : int
            Physical cores of each node that no agent owns; the lowest that are not isolated.
        node_of : mapping of str to int
            Node of an agent. Entries of agents that are not placed now are ignored.

        Raises
        ------
        InvalidRequest
            A name occurs twice, ``reserved`` is negative, or ``node_of`` names a node that is unknown or without
            usable cores.
        """
        if len(set(agents)) < len(agents):
            raise InvalidRequest("an agent is to be placed twice", "Name every agent once")
        if reserved < 0:
            raise InvalidRequest(f"reserved is {reserved}", "Reserve 0 physical cores or more")
        usable = {node.number: node for node in self.nodes if node.cores}
        wished = {agent: node_of[agent] for agent in agents if agent in node_of}
        for agent, number in wished.items():
            if number not in usable:
                problem = "no usable core" if any(node.number == number for node in self.nodes) else "no such number"
                raise InvalidRequest(
                    f"{agent} is to live on node {number}: {problem}",
                    f"Nodes with usable cores are {', '.join(map(str, usable)) or 'none'}",
                )
        if not usable:
            nowhere = Placement(self.nodes[0].number, (), own=False, reason="no core may be used here: not bound")
            return dict.fromkeys(agents, nowhere)
        free = {number: self._free(node, reserved) for number, node in usable.items()}
        homes = _spread(agents, wished, {n: (len(free[n]), len(usable[n].cores)) for n in usable})
        placed: dict[str, Placement] = {}
        for number, node in usable.items():
            residents = [agent for agent in agents if homes[agent] == number]
            if len(residents) <= len(free[number]):
                for agent, core in zip(residents, free[number], strict=False):
                    isolated = ", isolated" if core in self.isolated else ""
                    placed[agent] = Placement(number, (core,), own=True, reason=f"core {core} to itself{isolated}")
            else:
                shared = tuple(core for core in node.cores if core not in self.isolated) or node.cores
                reason = (
                    f"{_count(len(residents), 'agent')} on node {number} and {_count(len(free[number]), 'core')} to "
                    f"give away, {reserved} reserved: shares {_named(shared)}"
                )
                placed |= dict.fromkeys(residents, Placement(number, shared, own=False, reason=reason))
        return {agent: placed[agent] for agent in agents}

    def _free(self, node: Node, reserved: int) -> list[int]:
        """One hardware thread of each physical core that may be given away, the best first."""
        physical: dict[int, list[int]] = {}
        for core in node.cores:
            first = min(sibling for sibling in self.smt.get(core, (core,)) if sibling in self.allowed)
            if first in node.cores:  # else a broken tree has the physical core in two nodes, and the other one has it
                physical.setdefault(first, []).append(core)
        ranked = sorted(min((self._rank(core), core) for core in threads) for threads in physical.values())
        quiet = [core for rank, core in ranked if rank < 2]
        ordinary = [core for rank, core in ranked if rank == 2]
        return (quiet + ordinary[reserved:])[: max(0, len(ranked) - reserved)]

    def _rank(self, core: int) -> int:
        return 0 if core in self.isolated else 1 if core in self.nohz_full else 2


def discover(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Topology:
    """What the kernel says below ``root`` about nodes, cores and the cgroup of this process. Never raises for it.

    Parameters
    ----------
    root : Path
        Where ``sys`` and ``proc`` lie.
    allowed : frozenset of int, optional
        Affinity mask; that of the calling thread for ``/``, every online core for any other root.
    """
    notes: list[str] = []
    nodes = _nodes(root, notes)
    named = frozenset(core for node in nodes for core in node.cores)
    folders = frozenset(int(path.name[3:]) for path in (root / CPUS).glob("cpu[0-9]*") if path.name[3:].isdecimal())
    affinity = frozenset(os.sched_getaffinity(0)) if allowed is None and root == Path("/") else allowed
    online = _cores(root, f"{CPUS}/online", notes)
    if not online:
        online = named or folders or affinity or frozenset()
        notes.append(f"{CPUS}/online lists no cores: {_named(online)} assumed")
    present = _cores(root, f"{CPUS}/present", notes) or frozenset()
    offline = (present | folders | named) - online
    if offline:
        notes.append(f"{_named(offline)} {'is' if len(offline) == 1 else 'are'} offline")
    isolated = _cores(root, f"{CPUS}/isolated", notes) or frozenset()
    usable = _allowed(online, affinity, _cgroup(root, notes), isolated, notes)
    return Topology(
        nodes=_divide(nodes, online, usable, notes),
        isolated=isolated,
        nohz_full=_cores(root, f"{CPUS}/nohz_full", notes) or frozenset(),
        offline=offline,
        smt=_siblings(root, online, notes),
        allowed=usable,
        notes=tuple(notes),
    )


def resource_of(node: int) -> str:
    """Name under which a NUMA node is advertised."""
    return f"{RESOURCE}{node}"


def node_of(resources: Iterable[str]) -> int | None:
    """The first NUMA node among names of resources; None where there is none."""
    numbers = (name.removeprefix(RESOURCE) for name in resources if name.startswith(RESOURCE))
    return next((int(number) for number in numbers if number.isdecimal()), None)


def parse_cpulist(text: str) -> tuple[int, ...]:
    """Cores of a kernel list such as ``0-3,8`` or ``0-15:2/4`` (the first 2 of every 4), ascending, each once.

    Raises
    ------
    ValueError
        Not such a list, or a core beyond what any kernel has.
    """
    if not text.strip():
        return ()
    cores: set[int] = set()
    for item in text.strip().split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise ValueError(f"{item!r} is no core and no range of cores")
        first, last, taken, group = (None if digits is None else int(digits) for digits in match.groups())
        assert first is not None
        last = first if last is None else last
        taken, group = (1, 1) if taken is None or group is None else (taken, group)
        if not first <= last < CORE_LIMIT or not 1 <= taken <= group:
            raise ValueError(f"{item!r} is no range of cores")
        cores.update(core for core in range(first, last + 1) if (core - first) % group < taken)
    return tuple(sorted(cores))


def format_cpulist(cores: Iterable[int]) -> str:
    """The kernel's list of these cores, the inverse of :func:`parse_cpulist`; empty text for none."""
    runs: list[list[int]] = []
    for core in sorted(set(cores)):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _spread(agents: Sequence[str], wished: Mapping[str, int], sizes: Mapping[int, tuple[int, int]]) -> dict[str, int]:
    """Node of each agent. ``sizes`` are free cores and usable cores of each node.

    D'Hondt's rule: the next agent goes where it leaves most cores per agent. It is proportional, and fills no node
    beyond its free cores while another has one.
    """
    homes = dict(wished)
    residents = dict.fromkeys(sizes, 0)
    for number in wished.values():
        residents[number] += 1
    for agent in agents:
        if agent not in homes:
            homes[agent] = max(sizes, key=lambda n: (*(size / (residents[n] + 1) for size in sizes[n]), -n))
            residents[homes[agent]] += 1
    return homes


def _nodes(root: Path, notes: list[str]) -> list[Node]:
    """Every node with all the cores it names, whether usable or not; empty where there are none."""
    nodes = []
    folders = [path.name for path in (root / NODES).glob("node[0-9]*") if path.name[4:].isdecimal()]
    for name in sorted(folders, key=lambda name: int(name[4:])):
        place = f"{NODES}/{name}"
        cores = _cores(root, f"{place}/cpulist", notes)
        if cores is None:
            notes.append(f"{place}/cpulist is missing or unreadable: no agent is pinned to it")
        elif not cores:
            notes.append(f"node {name[4:]} has memory and no cores: no agent is pinned to it")
        memory = _MEMORY.search(_text(root / place / "meminfo"))
        if memory is None:
            notes.append(f"{place}/meminfo does not say how much memory there is")
        distances = _text(root / place / "distance").split()
        if not distances or not all(distance.isdecimal() for distance in distances):
            notes.append(f"{place}/distance does not say how far the nodes are")
            distances = []
        nodes.append(
            Node(
                number=int(name[4:]),
                cores=tuple(sorted(cores or ())),
                memory_mib=None if memory is None else int(memory[1]) // 1024,
                distances=tuple(map(int, distances)),
            )
        )
    return nodes


def _divide(nodes: list[Node], online: frozenset[int], usable: frozenset[int], notes: list[str]) -> tuple[Node, ...]:
    """The nodes with their usable cores alone, every usable core in exactly one node."""
    if not nodes:
        notes.append("this kernel shows no NUMA nodes: one node assumed")
        return (Node(number=0, cores=tuple(sorted(usable)), memory_mib=None, distances=()),)
    if len(nodes) == 1:
        notes.append("one NUMA node: cores can be pinned, memory has no choice")
    left = set(online)
    divided = []
    for node in nodes:
        claimed = {core for core in node.cores if core in online}
        if claimed - left:
            notes.append(f"{_named(claimed - left)} of node {node.number} belongs to an earlier node as well")
        mine = tuple(sorted(claimed & left & usable))
        if claimed and not mine:
            notes.append(f"node {node.number} has no core that this process may use")
        left -= claimed
        divided.append(replace(node, cores=mine))
    if left:
        first = divided[0]
        notes.append(f"no node names {_named(left)}: taken for node {first.number}")
        divided[0] = replace(first, cores=tuple(sorted({*first.cores, *(left & usable)})))
    return tuple(divided)


def _allowed(
    online: frozenset[int],
    affinity: frozenset[int] | None,
    cgroup: frozenset[int] | None,
    isolated: frozenset[int],
    notes: list[str],
) -> frozenset[int]:
    """Online cores that both the affinity mask and the cgroup allow; None stands for no limit."""
    in_mask = online if affinity is None else online & affinity
    in_cgroup = online if cgroup is None else online & cgroup
    if in_cgroup < online:
        notes.append(f"cgroup allows {len(in_cgroup)} of {_count(len(online), 'core')}")
    if in_mask < online:
        notes.append(f"affinity mask allows {len(in_mask)} of {_count(len(online), 'core')}")
    unused = (isolated & in_cgroup) - in_mask
    if unused:  # isolcpus takes them out of every mask that nobody widens
        remedy = f"`taskset -c {format_cpulist(in_mask | unused)}`"
        notes.append(f"isolated {_named(unused)} outside the affinity mask: start under {remedy} to use them")
    if not in_mask & in_cgroup:
        notes.append("no core may be used: nothing is pinned")
    return in_mask & in_cgroup


def _cgroup(root: Path, notes: list[str]) -> frozenset[int] | None:
    """Cores that the cgroup of this process allows; None where no cgroup says.

    A container may see itself under the host's path and its files at the top of the mount: hence the way up.
    """
    paths: dict[str, str] = {}
    for line in _text(root / OWN_CGROUP).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpuset" in controllers.split(","):
            paths["v1"] = path
        elif number == "0" and not controllers:
            paths["v2"] = path
    mounts = {
        "v1": (f"{CGROUPS}/cpuset", ("cpuset.effective_cpus", "cpuset.cpus")),
        "v2": (CGROUPS, ("cpuset.cpus.effective",)),
    }
    for version in sorted(paths):
        mount, files = mounts[version]
        parts = [part for part in paths[version].split("/") if part not in ("", ".", "..")]
        for depth in range(len(parts), -1, -1):
            for file in files:
                if cores := _cores(root, "/".join((mount, *parts[:depth], file)), notes):
                    return cores
    notes.append("no cgroup says which cores it allows: the affinity mask alone decides")
    return None


def _siblings(root: Path, online: frozenset[int], notes: list[str]) -> dict[int, tuple[int, ...]]:
    """Hardware threads of each core's physical core. Lists that contradict each other are merged."""
    groups: dict[int, set[int]] = {}
    unknown = set()
    for core in sorted(online):
        listed = _cores(root, f"{CPUS}/cpu{core}/topology/thread_siblings_list", [])
        if not listed:
            unknown.add(core)
        merged = {core, *(online & (listed or frozenset()))}
        for sibling in tuple(merged):
            merged |= groups.get(sibling, set())
        for sibling in merged:
            groups[sibling] = merged
    if unknown:
        notes.append(f"siblings of {_named(unknown)} cannot be read: each is taken for a physical core")
    return {core: tuple(sorted(groups[core])) for core in sorted(online)}


def _cores(root: Path, place: str, notes: list[str]) -> frozenset[int] | None:
    """Cores of a list file; None where it is missing, and with a note where it is garbage."""
    try:
        text = (root / place).read_text(errors="replace").strip()
        return frozenset(parse_cpulist("" if text == "(null)" else text))  # so nohz_full says none
    except ValueError as error:
        notes.append(f"{place} is no list of cores ({str(error)[:60]}): ignored")
    except OSError:
        pass
    return None


def _text(path: Path) -> str:
    """Content of a file; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _named(cores: Iterable[int]) -> str:
    listed = sorted(set(cores))
    if not listed:
        return "no core"
    return f"{'core' if len(listed) == 1 else 'cores'} {format_cpulist(listed).replace(',', ', ')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
