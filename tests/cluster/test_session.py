"""A session record is written for its owner alone, judged by a living process, and held by one command at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import session
from cluster.errors import SessionConflict
from cluster.session import Process, Session

RECORD = Session(
    address="127.0.0.1:6379",
    namespace="riskswarm",
    started_utc="2026-01-02T03:04:05Z",
    launcher=Process(pid=os.getpid(), started=Process.of(os.getpid()).started),
    ray_session_dir="/tmp/ray/session",
    dashboard_url="",
)
HOLDER = """
import sys
from pathlib import Path
from cluster.session import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["/bin/sleep", "120"])
    yield process
    process.kill()
    process.wait()


def becomes(condition, within_s=60.0):
    """Poll until ``condition`` holds."""
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        os.sched_yield()
    return condition()


def test_a_running_process_is_alive_and_a_killed_one_is_not_even_before_it_is_reaped(sleeper):
    process = Process.of(sleeper.pid)
    assert process.alive()
    sleeper.kill()
    assert becomes(lambda: not process.alive())  # a zombie until wait() below
    sleeper.wait()
    assert not process.alive()


def test_a_later_process_with_the_same_pid_is_another(sleeper):
    process = Process.of(sleeper.pid)
    assert not dataclasses.replace(process, started=process.started - 60).alive()


def test_a_session_is_stale_once_its_launcher_is_gone(sleeper, tmp_path):
    session.write(tmp_path, dataclasses.replace(RECORD, launcher=Process.of(sleeper.pid)))
    assert session.read(tmp_path).owns_ray
    assert not session.read(tmp_path).stale()
    sleeper.kill()
    sleeper.wait()
    assert session.read(tmp_path).stale()


def test_a_joined_ray_is_never_judged_stale_here(tmp_path):
    session.write(tmp_path, dataclasses.replace(RECORD, launcher=None))
    joined = session.read(tmp_path)
    assert joined == dataclasses.replace(RECORD, launcher=None)
    assert not joined.owns_ray
    assert not joined.stale()


def test_a_record_comes_back_as_it_was_written_and_leaves_nothing_beside_it(tmp_path):
    assert session.read(tmp_path) is None
    session.write(tmp_path, dataclasses.replace(RECORD, namespace="first"))
    session.write(tmp_path, RECORD)
    assert session.read(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["session.json"]
    session.remove(tmp_path)
    session.remove(tmp_path)
    assert session.read(tmp_path) is None


def test_the_record_is_its_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        session.write(tmp_path, RECORD)
        with session.exclusive(tmp_path / "home"):
            pass
    finally:
        os.umask(before)
    assert session.session_path(tmp_path).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def record_with(**changes) -> str:
    return json.dumps({"layout_version": session.LAYOUT_VERSION, **dataclasses.asdict(RECORD), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        '"text"',
        "null",
        "{}",
        record_with(layout_version=2),
        record_with(layout_version=None),
        record_with(unknown_key=1),
        record_with(launcher={"pid": 1}),
        record_with(launcher=7),
        record_with(launcher={"pid": "many", "started": 1.0}),
        json.dumps({"layout_version": 1, "launcher": None}),
        "\udcff",
    ],
)
def test_a_record_that_cannot_be_read_is_a_conflict_and_not_a_guess(tmp_path, text):
    session.session_path(tmp_path).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SessionConflict) as refusal:
        session.read(tmp_path)
    assert str(session.session_path(tmp_path)) in refusal.value.problem
    assert "swarm down" in refusal.value.remedy


def test_a_second_holder_in_another_process_is_refused_until_the_first_has_ended(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(session.__file__).parents[1],
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SessionConflict) as refusal, session.exclusive(tmp_path):
            pass
        assert str(tmp_path) in refusal.value.problem
        holder.stdin.close()
        assert holder.wait(timeout=20) == 0
        with session.exclusive(tmp_path):
            pass


def test_a_killed_holder_does_not_leave_the_home_locked(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(session.__file__).parents[1],
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
        with session.exclusive(tmp_path):
            pass


def test_a_failure_inside_frees_the_home(tmp_path):
    with pytest.raises(RuntimeError), session.exclusive(tmp_path / "new"):
        raise RuntimeError
    with (
        session.exclusive(tmp_path / "new"),
        pytest.raises(SessionConflict),
        session.exclusive(tmp_path / "new"),
    ):
        pass
