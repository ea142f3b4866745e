# mypy: disable-error-code="call-overload, untyped-decorator"
"""A page that one writes and many read, whole or not at all: a sequence lock over shared words.

The version lies on a line of its own, before the body. It is odd while the writer writes; a reader takes a body only
when it found the same even version before and after. Every word of the body is stored with release and loaded with
acquire: a body's store cannot pass the odd version before it, nor its load the version looked at after it, on any CPU
(Boehm, "Can seqlocks get along with programming language memory models?", 2012).

A writer that dies inside leaves the version odd for ever: readers then answer ``UNREADABLE`` until somebody writes the
page whole again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cluster.errors import InvalidRequest, SwarmUnavailable
from cluster.lanes.addresses import PageAddress
from cluster.lanes.atomics import load_acquire, pause, store_release
from cluster.lanes.layout import LINE
from cluster.lanes.memory import SharedWords

UNREADABLE = -1
RETRIES = 256


class PageUnreadable(SwarmUnavailable):
    """A page was never written, or its writer stopped inside a write."""


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def begin(words: np.ndarray, at: int) -> None:
    """Make the version odd: readers wait."""
    store_release(words, at, (words[at] + 1) | 1)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def end(words: np.ndarray, at: int) -> None:
    """Make the version even: readers may take the body."""
    store_release(words, at, (words[at] | 1) + 1)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def write(words: np.ndarray, at: int, body: np.ndarray) -> None:
    """Replace the body by ``body``, int64; one writer at a time."""
    begin(words, at)
    for i in range(body.size):
        store_release(words, at + LINE + i, body[i])
    end(words, at)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def read(words: np.ndarray, at: int, copy: np.ndarray) -> int:
    """Version of the body that was copied to ``copy``, int64; ``UNREADABLE`` with a copy not to be believed."""
    for _ in range(RETRIES):
        version = load_acquire(words, at)
        if version > 0 and version & 1 == 0:
            for i in range(copy.size):
                copy[i] = load_acquire(words, at + LINE + i)
            if load_acquire(words, at) == version:
                return int(version)
        pause()
    return UNREADABLE


class Page:
    """A page of float64 numbers, from Python. Whoever creates it writes; others attach and read.

    Raises
    ------
    LanesUnavailable
        The system gives no shared memory.
    LaneLost
        The page to attach is gone or too small.
    """

    def __init__(self, memory: SharedWords, at: int, count: int) -> None:
        self.memory, self.at, self.count = memory, at, count

    @classmethod
    def create(cls, name: str, count: int, at: int = 0) -> Page:
        """An unwritten page of ``count`` numbers behind ``at`` words that are the creator's to use."""
        return cls(SharedWords.create(name, at + LINE + count), at, count)

    @classmethod
    def attach(cls, address: PageAddress) -> Page:
        """A page that another process made."""
        memory = SharedWords.attach(address.pid, address.descriptor, address.at + LINE + address.count)
        return cls(memory, address.at, address.count)

    def address(self, pid: int) -> PageAddress:
        """Where processes other than ``pid``, which is this one, find it."""
        return PageAddress(pid, self.memory.descriptor, self.at, self.count)

    def write(self, numbers: np.ndarray) -> None:
        """Replace the body.

        Raises
        ------
        InvalidRequest
            Another count of numbers than the page holds.
        """
        body: np.ndarray[Any, Any] = np.array(numbers, np.float64)
        if body.shape != (self.count,):
            raise InvalidRequest(f"{body.shape} numbers for a page of {self.count}", "Give the whole body")
        write(self.memory.words, self.at, body.view(np.int64))

    def read(self) -> np.ndarray:
        """A copy of the body.

        Raises
        ------
        PageUnreadable
            Never written, or the writer stopped inside a write.
        """
        copy = np.empty(self.count, np.int64)
        if read(self.memory.words, self.at, copy) == UNREADABLE:
            raise PageUnreadable("the page is being written and does not come to rest", "Write it whole again")
        return copy.view(np.float64)

    def close(self) -> None:
        """Close the descriptor."""
        self.memory.close()
