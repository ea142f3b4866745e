"""The process at the other end: named by pid and start time, since pids are reused, and watched without a race."""

from __future__ import annotations

import os
import select
from pathlib import Path

STARTED_FIELD = 22  # of /proc/<pid>/stat, counted from 1; clock ticks since boot, which no clock change moves


def started(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 where there is none."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(line.rpartition(")")[2].split()[STARTED_FIELD - 3])


class Peer:
    """One process, whose end cannot be missed: the handle stays bound to it whatever becomes of its pid.

    Raises
    ------
    ProcessLookupError
        It has ended.
    """

    def __init__(self, pid: int, started_ticks: int) -> None:
        self.pid, self.started_ticks = pid, started_ticks
        self._handle = os.pidfd_open(pid)
        if started(pid) != started_ticks:
            os.close(self._handle)
            raise ProcessLookupError(pid)

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        poll = select.poll()  # one poll object must not be used by two threads at a time
        poll.register(self._handle, select.POLLIN)
        return not poll.poll(0)

    def fileno(self) -> int:
        """Descriptor that can be read from when the process has ended: for poll, select and event loops."""
        return self._handle

    def close(self) -> None:
        """Forget the process."""
        os.close(self._handle)
