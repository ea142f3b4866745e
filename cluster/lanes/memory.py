"""Memory that processes share: sealed, anonymous, private to the user, and gone with the last process that maps it.

A named file under /dev/shm outlives a process that is killed, and whoever truncates it kills every process that maps
it (SIGBUS). A sealed memfd can neither be truncated nor outlive its users, and does not count against the 64 MiB that
containers give /dev/shm. Other processes of the user open it as /proc/<pid>/fd/<fd>, which the kernel checks.
"""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

from cluster.errors import LaneLost, LanesUnavailable

WORD_BYTES = 8
AGAIN = "Ask the hub for a new route"
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class SharedWords:
    """Shared memory as int64 ``words`` and, over the same bytes, float64 ``numbers``."""

    def __init__(self, descriptor: int, count: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, count * WORD_BYTES)
        self.words = np.frombuffer(self._map, np.int64)
        self.numbers = np.frombuffer(self._map, np.float64)

    @classmethod
    def create(cls, name: str, count: int) -> SharedWords:
        """New memory of ``count`` words, all zero. Pages come into being when first touched.

        Raises
        ------
        LanesUnavailable
            The system gives none.
        """
        try:
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.fchmod(descriptor, 0o600)
                os.ftruncate(descriptor, count * WORD_BYTES)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
                return cls(descriptor, count)
            except BaseException:
                os.close(descriptor)
                raise
        except (OSError, AttributeError) as error:
            raise LanesUnavailable(
                f"no shared memory of {count * WORD_BYTES >> 20} MiB ({error})",
                "Give the process more memory or file descriptors; agents are asked through Ray meanwhile",
            ) from error

    @classmethod
    def attach(cls, pid: int, descriptor: int, least: int) -> SharedWords:
        """Memory that another process made; ``least`` words of it are needed.

        Raises
        ------
        LaneLost
            The process or its memory is gone, belongs to somebody else, or is too small.
        """
        try:
            own = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise LaneLost(f"the shared memory of process {pid} cannot be opened ({error})", AGAIN) from error
        try:
            count = os.fstat(own).st_size // WORD_BYTES
            sealed = fcntl.fcntl(own, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
            if count < max(1, least) or not sealed:
                raise LaneLost(f"descriptor {descriptor} of process {pid} is no shared memory of ours", AGAIN)
            return cls(own, count)
        except OSError as error:
            os.close(own)
            raise LaneLost(f"descriptor {descriptor} of process {pid} cannot be mapped ({error})", AGAIN) from error
        except LaneLost:
            os.close(own)
            raise

    def close(self) -> None:
        """Close the descriptor. The mapping itself ends with the last array that looks into it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
