"""The session record: which swarm was started from this home, by whom, and whether it still lives.

``SWARM_HOME/session.json`` is written once the roster is healthy and removed when the swarm is down. A process is
named by pid *and* start time, since pids are reused.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cluster.errors import SessionConflict

LAYOUT_VERSION = 1
CLOCK_STEP_S = 2.0  # start times are derived from the boot time, which moves when the wall clock is set


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    started: float
    """Start time in seconds since the epoch, as the kernel reports it."""

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now; psutil.NoSuchProcess where none has."""
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < CLOCK_STEP_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Session:
    """Where a running swarm is and who owns its Ray."""

    address: str
    """Ray address, ``host:port``."""
    namespace: str
    started_utc: str
    launcher: Process | None
    """The process that keeps our own Ray alive; None when the swarm joined a Ray that was already there."""
    ray_session_dir: str
    dashboard_url: str
    actors: tuple[str, ...] = ()
    """Names of the actors that belong to the swarm; on a joined Ray, `swarm down` ends these alone."""

    @property
    def owns_ray(self) -> bool:
        """Whether `swarm up` started the Ray, and `swarm down` ends it."""
        return self.launcher is not None

    def stale(self) -> bool:
        """True when our own Ray is recorded and gone. A joined Ray is judged by asking it."""
        return self.launcher is not None and not self.launcher.alive()


def session_path(home: Path) -> Path:
    """Where the record of a home lies."""
    return home / "session.json"


def read(home: Path) -> Session | None:
    """The recorded session, or None. A record that cannot be read is an error, not a guess."""
    path = session_path(home)
    try:
        fields = json.loads(path.read_text())
        if fields.pop("layout_version") != LAYOUT_VERSION:
            raise ValueError("layout version")
        launcher = fields.pop("launcher")
        if launcher is not None:
            launcher = Process(pid=int(launcher["pid"]), started=float(launcher["started"]))
            if launcher.pid < 1:
                raise ValueError("pid")
        actors = tuple(str(name) for name in fields.pop("actors"))
        if not all(isinstance(text, str) for text in fields.values()):
            raise TypeError("a field is no text")
        return Session(launcher=launcher, actors=actors, **fields)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SessionConflict(
            f"the session record {path} cannot be read", "Run `swarm down`, which sets it aside"
        ) from error


def write(home: Path, session: Session) -> None:
    """Record ``session`` atomically, readable by its owner alone."""
    path = session_path(home)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"layout_version": LAYOUT_VERSION, **asdict(session)}, indent=2) + "\n")
    draft.replace(path)


def remove(home: Path) -> None:
    """Remove the record, or set aside what stands in its place and is no file."""
    path = session_path(home)
    if path.is_dir():
        path.rename(path.with_suffix(f".{os.getpid()}.unreadable"))
    else:
        path.unlink(missing_ok=True)


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Hold the home for one ``up`` or ``down`` at a time; a second one is refused, not queued."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SessionConflict(
                f"another `swarm up` or `swarm down` is at work in {home}", "Wait for it to end and try again"
            ) from error
        yield
