"""What this machine is, read from the operating system: benchmarks and status quote it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

NODES = Path("/sys/devices/system/node")
CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")


def usable_cores() -> int:
    """Number of cores this process may run on (its affinity mask, not the machine's size)."""
    return len(os.sched_getaffinity(0))


def numa_nodes() -> int:
    """Number of NUMA nodes the kernel shows; 1 where it shows none."""
    return max(1, len(list(NODES.glob("node[0-9]*"))))


def describe() -> dict[str, Any]:
    """Cores, NUMA nodes, memory (GiB), CPU model and versions of what the numbers depend on."""
    return {
        "cpu": _field(CPUINFO, "model name") or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "numa_nodes": numa_nodes(),
        "memory_gib": round(int((_field(MEMINFO, "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "ray": metadata.version("ray"),
        "numpy": metadata.version("numpy"),
    }


def _field(path: Path, name: str) -> str | None:
    """First ``name : value`` line of a /proc file, or None where the file has none."""
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
