"""The command as a user runs it, in a process of its own, and what such processes leave on the machine."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from cluster import head, session
from tests.conftest import BOOT_S, alone

SWARM = [sys.executable, "-m", "swarm.cli.main"]
TIMEOUT_S = 240
PATIENT = {"SWARM_GATE__PATIENCE_S": "5"}
"""With a busy machine; a gate tells whoever asks it, so this must reach the command that starts it."""
BOOTING = {"up", "demo", "bench"}
"""Commands that start a swarm."""
MANDATED = Path(__file__).parents[2] / "swarm" / "examples" / "mandated.toml"
UNHURRIED = ("--set", f"boot_deadline_s={BOOT_S}", "--set", f"ray.start_deadline_s={BOOT_S}")
SHARED_MEMORY = Path("/dev/shm")


def swarm(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "SWARM_HOME": str(home), **PATIENT, **environment}
    if not BOOTING.intersection(arguments):
        return forked(COMMAND, arguments, surroundings)
    with alone():
        return subprocess.run(
            [*SWARM, *arguments], env=surroundings, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )


COMMAND = """
from swarm.cli.main import main
main()
"""
PREPARED = """
import gc, json, os, sys
import pydantic, swarm.cli.main, swarm.client
gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path in enumerate((os.devnull, asked["out"], asked["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["directory"])
        sys.argv = ["swarm", *asked["arguments"]]
        exec(asked["program"], {"__name__": "__main__"})
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def forked(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What a program does in a process of its own that has imported already what every command imports.

    That is half of what a command costs, and there are more than a hundred.
    """
    with tempfile.TemporaryDirectory() as place, _preparing:
        out, err = (Path(place, name) for name in ("out", "err"))
        asked = {"program": program, "arguments": arguments, "environment": dict(environment)}
        asked |= {"directory": str(Path.cwd()), "out": str(out), "err": str(err)}
        prepared = _prepared()
        assert prepared.stdin is not None and prepared.stdout is not None
        prepared.stdin.write(json.dumps(asked) + "\n")
        prepared.stdin.flush()
        if not select.select([prepared.stdout], [], [], TIMEOUT_S)[0]:
            _prepared.cache_clear()
            server = psutil.Process(prepared.pid)
            head.end([*server.children(recursive=True), server], grace_s=0.0)
            raise subprocess.TimeoutExpired(list(arguments), TIMEOUT_S)
        return subprocess.CompletedProcess(
            list(arguments), int(prepared.stdout.readline()), out.read_text(), err.read_text()
        )


_preparing = threading.Lock()


@functools.cache
def _prepared() -> subprocess.Popen[str]:
    """Ends when this process does; it is no trace of the test that needs it first."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"}
    return subprocess.Popen(
        [sys.executable, "-c", PREPARED], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def answer(home: Path, *arguments: str) -> dict:
    done = swarm(home, *arguments, "--json")
    assert done.returncode in (0, 1, 2), done.stderr
    return json.loads(done.stdout)


COMES_TO = """
import sys
from cluster import head
from swarm import SwarmClient, SwarmError
with SwarmClient() as client:
    def holds():
        try:
            health = client.health()
        except SwarmError:
            return False
        agents = {agent.agent_id: agent for agent in health.agents}
        return bool(eval(sys.argv[1], {"health": health, "agents": agents}))
    print(head.until(holds, 150.0))
"""


def comes_to(home: Path, what: str) -> bool:
    """Whether an expression of the swarm's ``health``, and of its ``agents`` by name, comes to hold."""
    done = forked(COMES_TO, [what], {**os.environ, "SWARM_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] == "True"


@contextlib.contextmanager
def brought_up(home: Path, *options: str) -> Iterator[Path]:
    """A home whose swarm was brought up in a terminal that has closed since; down afterwards."""
    with alone():
        for _ in range(3):  # Ray ends itself, and who is joining it, where a part of it lacks a core for half a minute
            terminal = subprocess.Popen(
                [*SWARM, *on_free_ports(), *options, *UNHURRIED, "up"],
                env={**os.environ, "SWARM_HOME": str(home), **PATIENT},
                start_new_session=True,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                _, words = terminal.communicate(timeout=TIMEOUT_S)
            finally:
                terminal.kill()  # where it hangs, and then whoever guards its Ray ends that too
            if terminal.returncode == 0 or "core_worker_process" not in words:
                break
    assert terminal.returncode == 0, words
    with contextlib.suppress(ProcessLookupError):
        os.killpg(terminal.pid, signal.SIGHUP)  # what the kernel does when a terminal closes
    yield home
    assert swarm(home, "down").returncode == 0  # a test may have taken it down


def on_free_ports() -> list[str]:
    port, dashboard_port = free_ports(2)
    return ["--set", f"ray.port={port}", "--set", f"ray.dashboard_port={dashboard_port}"]


def free_ports(count: int) -> list[int]:
    """Free ports that no other worker of this run picks too: it takes a Ray seconds to come to listen on its own."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return [port for port in head.free_ports(50 * count * workers) if port % workers == number][:count]


class Traces:
    """What the processes of one test leave on this machine, whatever else runs on it.

    They inherit a directory for the files of their Rays, which is the test's alone. Whoever a process has for a parent
    by then, that name stands in its environment as the kernel keeps it, or in its command line; or, where it has
    written a long title over both, as Ray's dashboard does, the process has a log open there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._shared = set(SHARED_MEMORY.iterdir())

    def processes(self) -> dict[int, str]:
        """Command lines of those that live, by pid."""
        return {process.pid: _words(process) for process in psutil.process_iter() if self._ours(process)}

    def files(self) -> list[Path]:
        """Session directories of their Rays, and what came into shared memory after us and nobody else holds."""
        shared = set(SHARED_MEMORY.iterdir()) - self._shared
        if shared:
            shared -= {file for process in psutil.process_iter() if not self._ours(process) for file in _held(process)}
        return sorted([*self.directory.glob("ray/session_2*"), *shared])

    def _ours(self, process: psutil.Process) -> bool:
        mark = str(self.directory)
        with contextlib.suppress(psutil.Error, OSError):
            if mark in _words(process) or mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                return True
        return any(self.directory in file.parents for file in _opened(process))


@contextlib.contextmanager
def traced() -> Iterator[Traces]:
    """Whatever is started in the block, and by that in turn, can be told from all else on the machine."""
    directory = Path(tempfile.mkdtemp(prefix="rays-", dir="/tmp"))  # short: the path of a socket has 107 bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(directory))
        yield Traces(directory)
    shutil.rmtree(directory)


def down_ends_every_process_and_file_of_its_ray(home: Path, traces: Traces, *, launcher_lives: bool) -> None:
    """Of a swarm that is up; but it does not end a client that has joined, which is nobody's to end."""
    record = session.read(home)
    assert record is not None and record.launcher is not None
    started = psutil.Process(record.launcher.pid).children(recursive=True)
    assert len(started) > 7 and Path(record.ray_session_dir).exists()
    traced = traces.processes()
    missed = [_words(process) for process in started if _lives(process) and process.pid not in traced]
    assert not missed, f"{missed} would not be found if they were left behind"
    script = "import sys; from swarm import SwarmClient; c = SwarmClient(); print('in', flush=True); sys.stdin.read()"
    bystander = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "SWARM_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bystander.stdout is not None and bystander.stdout.readline() == "in\n"
    if not launcher_lives:
        os.kill(record.launcher.pid, signal.SIGKILL)
        assert swarm(home, "health").returncode == 2
        assert swarm(home, "up").returncode == 4
    assert swarm(home, "down").returncode == 0
    bystander.communicate(timeout=TIMEOUT_S)
    assert bystander.returncode != -signal.SIGTERM
    assert not [process for process in started if _lives(process)]
    assert not traces.processes() and not traces.files()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _opened(process: psutil.Process) -> set[Path]:
    try:
        return {Path(file.path) for file in process.open_files()}
    except psutil.Error:
        return set()


def _held(process: psutil.Process) -> set[Path]:
    """Files that a process has open or mapped."""
    try:
        return _opened(process) | {Path(area.path) for area in process.memory_maps()}
    except psutil.Error:
        return _opened(process)
