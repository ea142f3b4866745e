"""Compile every kernel of the lanes and the agents once and keep the machine code: ``python -m actors.warm``.

Run at installation, so that no agent and no test pays for a compiler. Numba keeps the code beside the sources, for this
CPU. It compiles a changed source anew, but not the callers of a kernel that changed in another file: so what was kept
is thrown away first.
"""

from __future__ import annotations

import pkgutil
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import actors
import cluster.lanes
import hive.routing
from cluster.lanes.warm import warm as warm_lanes
from hive.routing import kernels as routing_kernels


def kernel_modules() -> Iterator[ModuleType]:
    """Every module of compiled kernels, shared ones first."""
    names = [found.name for found in pkgutil.walk_packages(actors.__path__, "actors.")]
    for name in sorted((name for name in names if name.endswith("kernels")), key=lambda name: (name.count("."), name)):
        yield import_module(name)


def warm() -> dict[str, float]:
    """Throw away what was kept and call every kernel once; returns the seconds that each module took."""
    for package in (actors, cluster.lanes, hive.routing):
        for kept in Path(package.__path__[0]).rglob("*.nb[ic]"):
            kept.unlink(missing_ok=True)
    started = time.perf_counter()
    warm_lanes()
    taken = {cluster.lanes.__name__: time.perf_counter() - started}
    started = time.perf_counter()
    routing_kernels.warm()
    taken[hive.routing.__name__] = time.perf_counter() - started
    for module in kernel_modules():
        started = time.perf_counter()
        module.warm()
        taken[module.__name__] = time.perf_counter() - started
    return taken


if __name__ == "__main__":
    for name, seconds in warm().items():
        sys.stdout.write(f"{seconds:6.2f} s  {name}\n")
