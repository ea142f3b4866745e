"""``swarm up`` and ``swarm down`` with a Ray of their own: what is in the way is named, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import session
from tests.conftest import alone, eventually
from tests.swarm.commands import SWARM, TIMEOUT_S, Traces, free_ports, on_free_ports, swarm


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["Ray is starting", "the roster is starting"])
def test_up_that_is_interrupted_leaves_nothing(
    tmp_path: Path, traces: Traces, number: signal.Signals, moment: str
) -> None:
    for attempt in range(3):  # Ray itself gives up where a part of it lacks a core for half a minute
        if interrupted(tmp_path / str(attempt), traces, number, moment):
            return
    pytest.fail("Ray did not come up three times")


def interrupted(home: Path, traces: Traces, number: signal.Signals, moment: str) -> bool:
    """Send a signal to a command that brings a swarm up; whether the moment came."""
    home.mkdir()
    log = home / "ray.log"
    with alone():
        command = subprocess.Popen(
            [*SWARM, *on_free_ports(), "up"],
            env={**os.environ, "SWARM_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def came() -> bool:
            return log.exists() and (moment == "Ray is starting" or "Ray runtime started" in log.read_text())

        eventually(lambda: came() or command.poll() is not None, TIMEOUT_S)
        command.send_signal(number)
    ended = command.wait(timeout=TIMEOUT_S)
    assert ended > 0 if number is signal.SIGINT else ended != 0, "Ctrl-C does not make it crash"
    assert not session.session_path(home).exists()
    assert eventually(lambda: not traces.processes()), traces.processes()
    assert eventually(lambda: not traces.files()), traces.files()
    return came()


@pytest.mark.parametrize("setting", ["ray.port", "ray.dashboard_port"])
def test_taken_port_is_named_and_nothing_is_started(tmp_path: Path, traces: Traces, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = swarm(tmp_path, *on_free_ports(), "--set", f"{setting}={port}", "up")
    assert done.returncode == 4 and f"port {port} is taken" in done.stderr and setting in done.stderr
    assert not session.session_path(tmp_path).exists()
    assert not traces.files() and not traces.processes()


def test_port_that_somebody_takes_while_ray_starts_is_named_and_nothing_is_left(tmp_path: Path, traces: Traces) -> None:
    port, dashboard_port = free_ports(2)
    command = subprocess.Popen(
        [*SWARM, "--set", f"ray.port={port}", "--set", f"ray.dashboard_port={dashboard_port}", "up"],
        env={**os.environ, "SWARM_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert eventually((tmp_path / "ray.log").exists)  # the port was found free, and Ray takes a while to come to it
    with socket.socket() as quicker:
        quicker.bind(("", port))
        quicker.listen()
        _, words = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode == 4 and f"port {port} is taken" in words and "ray.port" in words
    assert not session.session_path(tmp_path).exists()
    assert eventually(lambda: not traces.processes()), traces.processes()
    assert eventually(lambda: not traces.files()), traces.files()


LATE_S = 400.0
LATE = """
import os, sys, threading
from pathlib import Path
from cluster import head, runtime
from cluster.errors import SwarmUnavailable
from cluster.session import Process
from swarm import boot
from swarm.settings import RaySettings, Settings

port, dashboard_port = map(int, sys.argv[2:])
runtime.use_token(create=True)
started = []

def begun(launcher):
    return head.Head(launcher, f"127.0.0.1:{port}", "", "")

def start():
    log, deadline_s = Path(sys.argv[1], "ray.log"), 300.0
    started.append(head.start(port=port, dashboard_port=dashboard_port, cpus=1, log=log, deadline_s=deadline_s))

def refused(launcher, deadline_s):
    try:
        boot._join(f"127.0.0.1:{port}", Settings(ray=RaySettings(start_deadline_s=deadline_s)), launcher)
    except SwarmUnavailable:
        return True

assert refused(None, 1e6), "nobody has started it"
assert refused(begun(Process(pid=os.getpid(), started=0.0)), 1e6), "whoever started it has ended"
assert refused(begun(Process.of(os.getpid())), 0.2), "it takes too long"
thread = threading.Timer(1.0, start)
thread.start()
try:
    boot._join(f"127.0.0.1:{port}", Settings(ray=RaySettings(start_deadline_s=330.0)), begun(Process.of(os.getpid())))
    thread.join()
    runtime.disconnect()
finally:
    thread.join()
    head.stop(started[0].launcher, started[0].session_directory)
print("joined")
"""


@pytest.mark.timeout(3 * LATE_S)
def test_a_ray_that_was_started_and_cannot_be_joined_yet_is_joined_when_it_can(tmp_path: Path, traces: Traces) -> None:
    with alone():
        for number in range(3):  # Ray ends whoever joins it, where a part of it lacks a core for half a minute
            place = tmp_path / str(number)
            place.mkdir()
            done = subprocess.run(
                [sys.executable, "-c", LATE, str(place), *map(str, free_ports(2))],
                capture_output=True,
                text=True,
                timeout=LATE_S,
                check=False,
            )
            if "core_worker_process" not in done.stderr:
                break
    assert done.stdout.endswith("joined\n"), done.stderr
    assert eventually(lambda: not traces.processes() and not traces.files()), (traces.processes(), traces.files())


LEAVES = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        held = open(sys.argv[1], "w")
        print("there", flush=True)
        sys.stdin.read()
    os._exit(0)
os.wait()
"""


def test_what_is_left_behind_is_found_whoever_its_parent_has_become_and_nothing_of_others(traces: Traces) -> None:
    own, foreign = (Path("/dev/shm", f"{traces.directory.name}-{whose}") for whose in ("own", "foreign"))
    with contextlib.ExitStack() as stack:
        for file, environment in ((own, os.environ), (foreign, {**os.environ, "RAY_TMPDIR": "/tmp"})):
            words = [sys.executable, "-c", LEAVES, str(file)]
            started = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(file.unlink)
            stack.enter_context(started)
            assert started.stdout is not None and started.stdout.readline() == "there\n"
            assert started.wait(TIMEOUT_S) == 0
        assert [words.split()[-1] for words in traces.processes().values()] == [str(own)]
        assert traces.files() == [own]
    assert eventually(lambda: not traces.processes()) and not traces.files()
