"""A Ray head node as a process of this machine: start it, stop it, and leave none of its processes or files behind.

``ray start --head --block`` runs in a session of its own, so it outlives the terminal. A guard starts it, and until its
swarm is recorded watches over whoever asked for it: should that process die, however, the guard ends the head. Ray is
not imported here, so that the guard is up in a moment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster import session
from cluster.errors import BootFailed, SessionConflict
from cluster.session import Process

LOOPBACK = "127.0.0.1"
EVERYWHERE = ""  # where Ray listens, whatever address it is given
POLL_S = 0.05
RAY_PACKAGE = "/ray/"  # stands in the command line of every server that Ray starts
WORKER_TITLE = "ray::"  # what workers and agents of Ray name themselves
RESERVED_PORTS = {*range(10001, 20000), 52365}  # Ray's client server, workers and dashboard agent
LOWEST_PORT = 9000  # of those that may be chosen for a Ray: above what services commonly listen on
STOP_GRACE_S = 2.0  # how long Ray may take to end by itself before it is killed; agents have nothing to save
KILL_GRACE_S = 10.0  # how long the kernel may take to remove what was killed
NICENESS = "RAY_worker_niceness"  # what Ray calls it in the environment; 15 if nobody says anything


@dataclass(frozen=True)
class Head:
    """A Ray head node that we started."""

    launcher: Process
    address: str
    dashboard_url: str
    session_directory: str
    """Where it keeps its logs and sockets."""


def start(
    *,
    port: int,
    dashboard_port: int,
    cpus: int | None,
    log: Path,
    deadline_s: float,
    resources: Mapping[str, float] = {},
) -> Head:
    """Start a Ray head on this machine, detached from this terminal; :func:`cluster.runtime.use_token` comes first.

    ``resources`` are what it advertises beside cores and memory.

    Raises
    ------
    SessionConflict
        The port is taken, before or by somebody who was quicker; nothing is left running.
    BootFailed
        Ray ended or did not listen before the deadline; nothing is left running.
    """
    _refuse_port(port, "ray.port", EVERYWHERE)
    _refuse_port(dashboard_port, "ray.dashboard_port", LOOPBACK)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--system-config", json.dumps(system_config())),
        *("--port", str(port)),
        *("--dashboard-host", LOOPBACK, "--dashboard-port", str(dashboard_port)),
        *(("--num-cpus", str(cpus)) if cpus is not None else ()),
        *(("--resources", json.dumps(dict(resources))) if resources else ()),
    ]
    launcher = _launch(command, log)
    try:
        if not until(lambda: _listens(launcher, port) or not launcher.alive(), deadline_s):
            raise BootFailed(f"Ray did not listen on port {port} within {deadline_s:g} s", f"Look into {log}")
        if not launcher.alive():
            raise BootFailed("Ray ended while starting", f"Its own words are in {log}")
    except BootFailed:
        stop(launcher, session_directory_of(launcher))
        _refuse_port(port, "ray.port", EVERYWHERE)  # somebody may have been quicker
        raise
    except BaseException:
        stop(launcher, session_directory_of(launcher))
        raise
    return Head(
        launcher=launcher,
        address=f"{LOOPBACK}:{port}",
        dashboard_url=f"http://{LOOPBACK}:{dashboard_port}",
        session_directory=session_directory_of(launcher),
    )


def system_config() -> dict[str, int]:
    """What a Ray of ours is told beside its defaults: its workers are as nice as any other process.

    At Ray's own niceness of 15 one busy process on each core makes an answer of 30 ms take more than a second. Who sets
    ``RAY_worker_niceness`` is not overruled.
    """
    return {} if NICENESS in os.environ else {"worker_niceness": 0}


def stop(launcher: Process, directory: str) -> None:
    """End a head that :func:`start` began with everything below it, and remove its files.

    The launcher itself does not heed SIGTERM while it blocks, so its children are asked first and it is killed last.
    Where the launcher has died, the kernel has killed its children, but not theirs: those are found by the files of
    their session that they hold open.
    """
    processes = [process for process in processes_of(directory) if process.pid != launcher.pid]
    if launcher.alive():
        root = psutil.Process(launcher.pid)
        processes += [process for process in root.children(recursive=True) if process not in processes]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(processes, timeout=STOP_GRACE_S)
        processes.append(root)
    end(processes, grace_s=0.0)
    remove_session_directory(directory)


def free_ports(count: int) -> list[int]:
    """Ports that are free now and that neither the kernel nor a Ray of this machine hands out to somebody else soon."""
    kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = sorted(set(range(LOWEST_PORT, kernel)) - RESERVED_PORTS)
    random.shuffle(candidates)  # so that two who look at once do not find the same
    free = (port for port in candidates if not _taken(port, EVERYWHERE))
    return list(itertools.islice(free, count))


def until(done: Callable[[], bool], deadline_s: float) -> bool:
    """Poll ``done`` until it holds or ``deadline_s`` seconds have passed; whether it held."""
    give_up = time.monotonic() + deadline_s
    while not done():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True


def _launch(command: list[str], log: Path) -> Process:
    """Have a guard run ``command``; returns the process of the command itself."""
    with log.open("ab") as sink:
        guard = subprocess.Popen(
            [sys.executable, "-m", "cluster.head", str(os.getpid()), str(log.parent), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            start_new_session=True,
            text=True,
        )
    assert guard.stdout is not None
    with guard.stdout as words:
        first = words.readline().split()
    if len(first) != 2:
        raise BootFailed("Ray could not be started", f"Look into {log}")
    return Process(pid=int(first[0]), started=float(first[1]))


def guard(starter_pid: int, home: Path, command: list[str]) -> None:
    """Run ``command`` and print its process, then wait until its swarm is recorded in ``home``.

    Should the starter or the command end before that, end the command and all that is below it.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    launcher = Process.of(child.pid)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{launcher.pid} {launcher.started!r}\n")
        sys.stdout.flush()
    directory = ""
    try:
        starter = Process.of(starter_pid)
        while starter.alive() and child.poll() is None:
            if _recorded(launcher, home):
                return
            directory = session_directory_of(launcher) or directory
            time.sleep(POLL_S)
    except psutil.NoSuchProcess:
        pass  # the starter ended before it could be looked at
    if not _recorded(launcher, home):
        stop(launcher, session_directory_of(launcher) or directory)


def _recorded(launcher: Process, home: Path) -> bool:
    try:
        record = session.read(home)
    except SessionConflict:
        return False
    return record is not None and record.launcher is not None and record.launcher.pid == launcher.pid


def _refuse_port(port: int, setting: str, host: str) -> None:
    if port in RESERVED_PORTS:
        raise SessionConflict(
            f"port {port} is one that Ray keeps for itself (10001 to 19999 and 52365)",
            f"Pick another by --set {setting}=PORT",
        )
    taken = _taken(port, host)
    if taken is not None:
        raise SessionConflict(
            f"port {port} is taken ({taken.strerror})",
            f"Free it, join the Ray behind it with --address {LOOPBACK}:{port}, or pick another by "
            f"--set {setting}=PORT",
        ) from taken


def _taken(port: int, host: str) -> OSError | None:
    """Why nobody else can listen there; None where one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def _listens(launcher: Process, port: int) -> bool:
    """Whether the Ray of this launcher listens there: another one may have taken the port while this one started."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(launcher.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                sockets = process.net_connections("tcp")
                if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets):
                    return True
    return False


def session_directory_of(launcher: Process) -> str:
    """Session directory of a head: Ray names it by time and the launcher's pid. "" where there is none (yet)."""
    places = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray").glob(f"session_*_{launcher.pid}")
    return next((str(place) for place in sorted(places, reverse=True)), "")


def processes_of(directory: str) -> list[psutil.Process]:
    """Ray's own processes of a session, wherever they hang in the tree; never a client's, which only looks in.

    Servers name the session in their command line; workers and agents, which rename themselves, hold its logs open.
    """
    found = []
    for process in psutil.process_iter() if directory else ():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            server = directory in words and RAY_PACKAGE in words
            if server or (words.startswith(WORKER_TITLE) and _holds_files(process, directory)):
                found.append(process)
    return found


def _holds_files(process: psutil.Process, directory: str) -> bool:
    return any(file.path.startswith(directory) for file in process.open_files())


def end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Wait for processes to end; kill what is left after the grace, and wait for that too."""
    _, alive = psutil.wait_procs(list(processes), timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=KILL_GRACE_S)


def remove_session_directory(directory: str) -> None:
    """Remove one Ray session's files, and what Ray keeps beside them once no other session is there."""
    session = Path(directory)
    if not session.name.startswith("session_"):
        return
    shutil.rmtree(session, ignore_errors=True)
    latest = session.parent / "session_latest"
    if latest.is_symlink() and not latest.exists():
        latest.unlink(missing_ok=True)  # whoever guards this Ray may be at it too
    if not any(session.parent.glob("session_*")):
        for name in ("ray_current_cluster", "prom_metrics_service_discovery.json"):
            (session.parent / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            session.parent.rmdir()


if __name__ == "__main__":
    guard(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
