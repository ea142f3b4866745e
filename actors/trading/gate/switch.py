"""The gate's kill switch, for anybody of this machine and user: it needs neither Ray nor the hub nor the gate's answer.

Three words of the gate's memory: how often it was killed, how many of those kills were released, and whether it shall
end. The gate is closed while the first two differ, and looks before every order. A kill is also a file below the
gate's directory, so that a gate which is dead, or dies in between, starts closed. No compiler is loaded here: a kill
must not wait for one.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cluster.durable import sync_names
from cluster.errors import LaneLost
from cluster.lanes.layout import LINE
from cluster.lanes.memory import SharedWords
from cluster.lanes.peer import started
from hive.messages.gate import Warrant

# Words of the gate's memory that others than its loop write.
KILLS, RELEASED, RETIRE, RETIRED = 0, LINE, 2 * LINE, 3 * LINE
WORDS = 4 * LINE

ADDRESS, KILLED = "switch.json", "kills"  # file and folder below the gate's directory
LOOK_S = 0.005


@dataclass(frozen=True)
class SwitchAddress:
    """Where the gate's words are, for processes of the same user and machine."""

    pid: int
    started: int
    """Start time of the process, clock ticks since boot."""
    descriptor: int


@dataclass(frozen=True)
class Kill:
    """What became of one kill."""

    closed: bool
    """Whether a gate that runs is closed now; where none runs, the next one starts closed."""
    file: str


class KillSwitch:
    """The switch of a gate that runs.

    Raises
    ------
    LaneLost
        The gate's process is gone.
    """

    def __init__(self, address: SwitchAddress) -> None:
        if address.started == 0 or started(address.pid) != address.started:
            raise LaneLost(f"the gate's process {address.pid} has ended", "Run `swarm health`")
        self._memory = SharedWords.attach(address.pid, address.descriptor, WORDS)

    def kill(self) -> int:
        """Close the gate for the very next order, until it is released; how many kills there were, this included."""
        return throw(self._memory.words)

    @property
    def killed(self) -> bool:
        """Whether the gate is closed."""
        return closed(self._memory.words)

    def retire(self, patience_s: float) -> bool:
        """Ask the gate to bring its journal to disk and end for good; whether it has, in time."""
        words, give_up = self._memory.words, time.monotonic() + patience_s
        words[RETIRE] = 1
        while not words[RETIRED] and time.monotonic() < give_up:
            time.sleep(LOOK_S)
        return bool(words[RETIRED])

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def throw(words: np.ndarray) -> int:
    """Close a gate by its words; how many kills there were.

    Two that throw at once may count as one. Read back, since a release that came between store and load would else
    take the kill with it.
    """
    while True:
        words[KILLS] += 1
        if closed(words):
            return int(words[KILLS])


def closed(words: np.ndarray) -> bool:
    """Whether a gate is closed by its words."""
    return int(words[KILLS]) != int(words[RELEASED])


def publish(directory: Path, address: SwitchAddress) -> None:
    """Tell where the switch is, for :func:`find`."""
    draft = directory / f"{ADDRESS}.{os.getpid()}"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(address)))
    draft.replace(directory / ADDRESS)


def find(directory: Path) -> KillSwitch | None:
    """The switch of the gate that keeps its journal in ``directory``; None where none runs."""
    try:
        return KillSwitch(SwitchAddress(**json.loads((directory / ADDRESS).read_text())))
    except (OSError, ValueError, TypeError, LaneLost):
        return None


def kill(directory: Path, by: Warrant | None = None) -> Kill:
    """Close the gate of ``directory``, whatever state it, Ray and the hub are in; then make that durable."""
    switch = find(directory)
    if switch is not None:
        switch.kill()
        switch.close()
    return Kill(switch is not None, str(write_kill(directory, by or Warrant(user(), ""))))


def write_kill(directory: Path, by: Warrant) -> Path:
    """A file that keeps the gate closed over its death, on disk when this returns."""
    folder = directory / KILLED
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{time.time_ns()}-{secrets.token_hex(4)}.json"
    with path.open("x") as file:
        json.dump({"operator": by.operator, "reason": by.reason, "wall_ns": time.time_ns()}, file)
        file.flush()
        os.fsync(file.fileno())
    sync_names(folder)
    return path


def written_kills(directory: Path) -> tuple[Path, ...]:
    """Kills that are on file."""
    return tuple(sorted((directory / KILLED).glob("*.json")))


def last_kill(directory: Path) -> Warrant | None:
    """Who wrote the newest kill that is on file; None where there is none, or it is not whole yet."""
    with suppress(OSError, ValueError, KeyError, IndexError):
        found = json.loads(written_kills(directory)[-1].read_text())
        return Warrant(str(found["operator"]), str(found["reason"]))
    return None


def user() -> str:
    """Who runs this process."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())
