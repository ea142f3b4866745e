"""How long a swarm takes to come up, and what it weighs: the real ``swarm up``, as its own process, again and again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cluster import head, runtime, session
from cluster.errors import BootFailed
from swarm.bench.record import Row, row
from swarm.client import SwarmClient

UP_TIMEOUT_S = 180.0
GOAL_COLD_S = 15.0
GOAL_WARM_S = 5.0
GOAL_LOADING_S = 1.0
ROOMS = ("value_at_risk", "stress", "correlation", "liquidity", "portfolio")
LOADING = """
import sys, time
import numba
from actors.warm import kernel_modules
started = time.perf_counter()
shared = "actors.risk.kernels"
for module in kernel_modules():
    if module.__name__ == shared or module.__name__.startswith(f"actors.risk.{sys.argv[1]}."):
        module.warm()
print(time.perf_counter() - started)
"""
SETTLED_CORES = 0.1  # cores an idle Ray keeps busy at most


def run(*, repeats: int, progress: Callable[[str], None]) -> list[Row]:
    """Boot with and without a running Ray, ``repeats`` times each, and weigh the roster."""
    cold: list[float] = []
    warm: list[float] = []
    down: list[float] = []
    agents_mib: list[float] = []
    ray_mib: list[float] = []
    for number in range(repeats):
        progress(f"boot {number + 1} of {repeats}, Ray not running")
        with _home() as home:
            cold.append(_up(home, "--set", f"ray.port={head.free_ports(1)[0]}", "up"))
            agents, everything = _weigh(home)
            agents_mib.append(agents)
            ray_mib.append(everything - agents)
            started = time.monotonic()
            _swarm(home, "down")
            down.append(time.monotonic() - started)
        progress(f"boot {number + 1} of {repeats}, Ray running")
        with _home() as home, _ray(home) as address:
            warm.append(_up(home, "up", "--address", address))
            _swarm(home, "down")
    return [
        row("swarm up, Ray not running, until HEALTHY", cold, unit="s", goal=("p50", GOAL_COLD_S)),
        row("swarm up on a running Ray, until HEALTHY", warm, unit="s", goal=("p50", GOAL_WARM_S)),
        row("swarm down", down, unit="s"),
        row("memory of the roster (hub and agents, proportional share)", agents_mib, unit="MiB"),
        row("memory of Ray itself beside it", ray_mib, unit="MiB"),
        *(_loading(room, repeats, progress) for room in ROOMS),
    ]


def _loading(room: str, repeats: int, progress: Callable[[str], None]) -> Row:
    """Seconds in which a fresh process has every kernel of a room ready, Numba itself being imported before."""
    progress(f"kernels of {room} loaded")
    taken = []
    for _ in range(repeats + 1):
        done = subprocess.run(
            [sys.executable, "-c", LOADING, room], capture_output=True, text=True, timeout=UP_TIMEOUT_S, check=True
        )
        taken.append(float(done.stdout))
    # The first one may still have had to compile.
    return row(
        "kernels loaded from the cache", taken[1:], unit="s", params={"room": room}, goal=("p50", GOAL_LOADING_S)
    )


def _up(home: Path, *arguments: str) -> float:
    started = time.monotonic()
    _swarm(home, *arguments)
    return time.monotonic() - started


def _swarm(home: Path, *arguments: str) -> None:
    """Run the command as a user would; its own message becomes the error."""
    environment = {**os.environ, "SWARM_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "swarm.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=UP_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BootFailed(f"`swarm {' '.join(arguments)}` failed: {done.stderr.strip()}", "Run it by hand")


def _weigh(home: Path) -> tuple[float, float]:
    """Proportional memory, MiB, of the roster's processes and of the whole Ray with them."""
    record = session.read(home)
    assert record is not None and record.launcher is not None
    with SwarmClient(home=home) as client:
        roster = {agent.pid for agent in client.health().agents}
    everything = [record.launcher.pid, *(p.pid for p in psutil.Process(record.launcher.pid).children(recursive=True))]
    weights = {pid: _pss_mib(pid) for pid in everything}
    return sum(weight for pid, weight in weights.items() if pid in roster), sum(weights.values())


def _pss_mib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="riskswarm-bench-") as directory:
        try:
            yield Path(directory)
        finally:
            _swarm(Path(directory), "down")


@contextmanager
def _ray(home: Path) -> Iterator[str]:
    """A Ray head without a swarm, idle workers started, as a user finds it."""
    runtime.use_token(create=True)
    port, dashboard_port = head.free_ports(2)
    started = head.start(port=port, dashboard_port=dashboard_port, cpus=None, log=home / "ray.log", deadline_s=60.0)
    try:
        runtime.connect(started.address, "bench")  # returns once the node takes work
        runtime.disconnect()
        head.until(lambda: _busy_cores(started.launcher.pid) < SETTLED_CORES, UP_TIMEOUT_S)
        yield started.address
    finally:
        head.stop(started.launcher, started.session_directory)


def _busy_cores(launcher_pid: int) -> float:
    """Cores that a Ray keeps busy, over one second: its dashboard goes on loading after it takes work."""
    before = _cpu_seconds(launcher_pid)
    time.sleep(1.0)
    return _cpu_seconds(launcher_pid) - before


def _cpu_seconds(launcher_pid: int) -> float:
    total = 0.0
    for process in psutil.Process(launcher_pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
