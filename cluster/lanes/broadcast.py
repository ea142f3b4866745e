"""Broadcast: one process tells many, through shared memory, and never waits for any of them.

Readers sleep, spin or give way as they like; a slow one loses the oldest messages and is told how many. Only the writer
is watched: a reader whose writer died hears what is still there, then gets ``LaneLost``.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from cluster.errors import DeadlineExceeded, InvalidRequest, InvalidSettings, LaneLost
from cluster.lanes import broadcast_kernels as kernels
from cluster.lanes.addresses import BroadcastAddress
from cluster.lanes.atomics import SEEN, bells_at, futex_wait_any
from cluster.lanes.calls import SLICE_NS, ring
from cluster.lanes.lane import _nanoseconds
from cluster.lanes.layout import MOST_SLOT_WORDS, MOST_SLOTS, PAGE, STRATEGIES
from cluster.lanes.memory import AGAIN, SharedWords
from cluster.lanes.peer import Peer, started
from cluster.lanes.ring import BAD, NONE

LEAST_SLOT_WORDS = 8  # one cache line
MOST_AT_A_TIME = 1024
LOOK_NS = SLICE_NS // 2  # between two looks for the writer's process: who rests a slice finds it due each time
LOW_HALF = 2**32 - 1  # of a bell: what a futex compares


@dataclass(frozen=True)
class Heard:
    """What a listener got at once."""

    messages: np.ndarray
    """int64 of shape (n, payload words)."""
    numbers: np.ndarray
    """Number of each message, int64 of shape (n,), rising; a gap is where messages were missed."""
    missed: int
    """Messages that were overwritten before this listener came to them, since it was told last."""


class Broadcaster:
    """The writing side. One thread writes at a time; compiled loops write with ``words`` and ``hand`` themselves.

    Parameters
    ----------
    slots : int
        Messages kept, a power of two: a listener that falls further behind misses some.
    payload_words : int
        Words of eight bytes of every message.
    first : int
        Number of the first message.
    """

    def __init__(self, *, slots: int = 4096, payload_words: int = 6, first: int = 0) -> None:
        if not (1 < slots <= MOST_SLOTS and slots & (slots - 1) == 0):
            raise InvalidSettings(f"a ring of {slots} slots", f"Give a power of two from 2 to {MOST_SLOTS}")
        if not 0 < payload_words <= MOST_SLOT_WORDS - kernels.SLOT_HEADER:
            raise InvalidSettings(f"messages of {payload_words} words", "No listener would believe them")
        if not 0 <= first <= kernels.MOST_MESSAGES - 2 * slots:
            raise InvalidSettings(f"a first message of number {first}", "Give 0")
        size = _slot_words(payload_words)
        self.payload_words = payload_words
        self.memory = SharedWords.create("riskswarm-broadcast", PAGE + slots * size)
        self.words = self.memory.words
        own = os.getpid()
        self.address = BroadcastAddress(own, started(own), self.memory.descriptor, secrets.randbits(62) | 1)
        self.hand = np.zeros(kernels.WRITER_HAND, np.int64)
        self.hand[kernels.NEXT], self.hand[kernels.SLOTS], self.hand[kernels.SIZE] = first, slots, size
        self.hand[kernels.PAYLOAD], self.hand[kernels.GENERATION] = payload_words, self.address.generation
        words = self.words
        words[kernels.RING_VERSION], words[kernels.RING_SLOTS] = kernels.VERSION, slots
        words[kernels.RING_SLOT_WORDS], words[kernels.RING_PAYLOAD] = size, payload_words
        words[kernels.RING_PID], words[kernels.RING_STARTED] = own, self.address.started
        words[kernels.RING_FIRST] = words[kernels.RING_TAIL] = first
        words[kernels.RING_GENERATION] = self.address.generation
        words[kernels.RING_MAGIC] = kernels.MAGIC
        self._scratch = np.zeros(2, np.int64)
        self._closed = False

    @property
    def written(self) -> int:
        """Number of the next message."""
        return int(self.hand[kernels.NEXT])

    def publish(self, messages: np.ndarray) -> None:
        """Tell one message, int64 of shape (payload_words,), or many, (n, payload_words).

        Raises
        ------
        InvalidRequest
            They have another shape or type; nothing was written.
        LaneLost
            The broadcast has been closed.
        """
        kernels.publish_all(self.words, self.hand, self._sound(messages))

    def publish_now(self, messages: np.ndarray, place: int) -> int:
        """Tell messages, and put the time into a word of each: UTC ns, taken as the first is written.

        Raises
        ------
        InvalidRequest, LaneLost
            As :meth:`publish`.
        """
        rows = self._sound(messages)
        ahead_ns = time.time_ns() - time.monotonic_ns()
        return int(kernels.publish_now(self.words, self.hand, rows, place, ahead_ns, self._scratch))

    def _sound(self, messages: np.ndarray) -> np.ndarray:
        """Messages as rows."""
        if self._closed:
            raise LaneLost("this broadcast has been closed", "Make a new one")
        sound = isinstance(messages, np.ndarray) and messages.dtype == np.int64 and messages.flags.c_contiguous
        if not sound or messages.ndim not in {1, 2} or messages.shape[-1] != self.payload_words:
            raise InvalidRequest(
                f"messages that are not contiguous int64 of {self.payload_words} words", "Convert them first"
            )
        return np.require(messages, requirements="W").reshape(-1, self.payload_words)

    def close(self) -> None:
        """End the broadcast; listeners hear what is there, then find it lost."""
        if self._closed:
            return
        self._closed = True
        self.words[kernels.RING_GENERATION] = 0
        ring(self.words, kernels.RING_BELL)
        self.memory.close()

    def __enter__(self) -> Broadcaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Listener:
    """A reading side, with a place of its own. Threads take turns on it. Close it when done.

    Parameters
    ----------
    strategy : str
        ``spin``, ``yield`` or ``park``: how it waits.
    oldest : bool
        Begin with the oldest message that is kept, else with the next one.
    most : int
        Messages that are heard at a time; there is room for as many.

    Raises
    ------
    LaneLost
        The writer has died or closed since the address was made, or speaks another layout.
    """

    def __init__(
        self, address: BroadcastAddress, strategy: str = "park", *, oldest: bool = False, most: int = MOST_AT_A_TIME
    ) -> None:
        if strategy not in STRATEGIES:
            raise InvalidSettings(f"the wait strategy {strategy!r} is unknown", f"Known are: {', '.join(STRATEGIES)}")
        self.address = address
        try:
            self._writer = Peer(address.pid, address.started)
        except OSError as error:
            raise LaneLost(f"the writer's process {address.pid} has ended", AGAIN) from error
        try:
            self.memory = SharedWords.attach(address.pid, address.descriptor, PAGE)
            self.words = self.memory.words
            try:
                self.hand = self._introduced(STRATEGIES.index(strategy), oldest)
            except BaseException:
                self.memory.close()
                raise
        except BaseException:
            self._writer.close()
            raise
        self.payload_words = int(self.hand[kernels.PAYLOAD])
        self._control = np.zeros(1, np.int64)
        self._inbox = np.empty((most, self.payload_words), np.int64)
        self._numbers = np.empty(most, np.int64)
        self._told = 0
        self._looked_ns = 0
        self._dead = False
        self._lock = threading.Lock()
        self._closed = False

    @property
    def missed(self) -> int:
        """Messages missed since this listener began."""
        return int(self.hand[kernels.MISSED])

    @property
    def lost(self) -> bool:
        """Whether the writer has died or closed; messages may be left to hear."""
        return (
            self._closed
            or int(self.words[kernels.RING_GENERATION]) != self.address.generation
            or not self._writer.alive()
        )

    def poll(self) -> Heard:
        """What is there now, maybe nothing.

        Raises
        ------
        LaneLost
            Nothing is there and the writer has died or closed, or the memory cannot be believed.
        """
        with self._lock:
            return self._heard(0)

    def quiet(self) -> bool:
        """Whether :meth:`poll` would bring nothing, at a tenth of its price; also false when the writer's end is due to
        be looked for."""
        silent = bool(kernels.nothing_new(self.words, self.hand))
        return silent and time.monotonic_ns() - self._looked_ns < LOOK_NS

    def wait(self, patience_s: float = 1.0) -> Heard:
        """As :meth:`poll`, but at least one message.

        Raises
        ------
        DeadlineExceeded
            There was none in time.
        LaneLost
            As :meth:`poll`, at most 20 ms after the writer died.
        """
        give_up_ns = time.monotonic_ns() + _nanoseconds(patience_s)
        with self._lock:
            while True:
                heard = self._heard(min(give_up_ns, time.monotonic_ns() + SLICE_NS))
                if len(heard.numbers):
                    return heard
                if time.monotonic_ns() >= give_up_ns:
                    raise DeadlineExceeded("no message of the broadcast in time", "Allow more time")

    def close(self) -> None:
        """Stop listening; the writer never notices."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._writer.close()
                self.memory.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _heard(self, until_ns: int) -> Heard:
        count, reason = self._drained(until_ns)
        if not count and reason == NONE and self._gone():
            count, reason = self._drained(0)  # what was written between the last look and the end
            if not count:
                raise LaneLost(f"the writer's process {self.address.pid} died, or closed this broadcast", AGAIN)
        if not count and reason == BAD:
            raise LaneLost("what lies in the broadcast's memory cannot be believed", AGAIN)
        missed, self._told = self.missed - self._told, self.missed
        return Heard(self._inbox[:count].copy(), self._numbers[:count].copy(), missed)

    def _drained(self, until_ns: int) -> tuple[int, int]:
        if self._closed:
            raise LaneLost("this listener has been closed", AGAIN)
        found: tuple[int, int] = kernels.drain(
            self.words, self.hand, self._inbox, self._numbers, self._control, until_ns
        )
        return found

    def _gone(self) -> bool:
        """Whether the writer is gone. Its process is looked for at most twice a slice: that is a system call."""
        now = time.monotonic_ns()
        if not self._dead and now - self._looked_ns >= LOOK_NS:
            self._looked_ns = now
            self._dead = not self._writer.alive()
        return self._dead or int(self.words[kernels.RING_GENERATION]) != self.address.generation

    def _introduced(self, strategy: int, oldest: bool) -> np.ndarray:
        """The reader's own memory, from a header that says what it must."""
        words = self.words
        generation = self.address.generation
        if int(words[kernels.RING_MAGIC]) != kernels.MAGIC or int(words[kernels.RING_GENERATION]) != generation:
            raise LaneLost("that memory is not the broadcast that was meant", AGAIN)
        if int(words[kernels.RING_VERSION]) != kernels.VERSION:
            raise LaneLost(
                f"the writer speaks layout {int(words[kernels.RING_VERSION])}, this process {kernels.VERSION}",
                "Use the same version of Riskswarm on both sides",
            )
        slots, size = int(words[kernels.RING_SLOTS]), int(words[kernels.RING_SLOT_WORDS])
        payload, first = int(words[kernels.RING_PAYLOAD]), int(words[kernels.RING_FIRST])
        tail = int(words[kernels.RING_TAIL])
        sound = 1 < slots <= MOST_SLOTS and slots & (slots - 1) == 0
        sound = sound and 0 < payload <= MOST_SLOT_WORDS and size == _slot_words(payload)
        sound = sound and 0 <= first <= tail <= kernels.MOST_MESSAGES
        if not sound or PAGE + slots * size > len(words):
            raise LaneLost("the broadcast's sizes cannot be believed", AGAIN)
        hand = np.zeros(kernels.READER_HAND, np.int64)
        hand[kernels.CURSOR] = max(first, tail - slots) if oldest else tail
        hand[kernels.SLOTS], hand[kernels.SIZE], hand[kernels.PAYLOAD] = slots, size, payload
        hand[kernels.GENERATION], hand[kernels.STRATEGY] = generation, strategy
        return hand


class Bell:
    """Wakes a thread of this process that rests beside rings. Whatever it rings for must be there before it rings."""

    def __init__(self) -> None:
        self.words = np.zeros(1, np.int64)

    def seen(self) -> int:
        """To be asked for before looking for what is rung for, and given to :meth:`Rest.sleep` if nothing was there."""
        return int(self.words[0])

    def ring(self) -> None:
        """Let the rest end, also one that begins after this with what was seen before it."""
        ring(self.words, 0)


class Rest:
    """Where one thread sleeps until any of some listeners may have something to hear, or one of some bells rings.

    What the system is asked with is made once: whoever hears many peers goes to sleep often.
    """

    def __init__(self, listeners: Sequence[Listener], *bells: Bell) -> None:
        self._listeners, self._bells = tuple(listeners), bells
        rings = [(listener.words, kernels.RING_BELL) for listener in listeners]
        places = [*((bell.words, 0) for bell in bells), *rings]
        self._waited = bells_at(*places) if places else np.zeros((0, 3), np.int64)
        self._scratch = np.zeros(2, np.int64)

    def sleep(self, patience_s: float, *seen: int) -> None:
        """Sleep until there may be something, or for 20 ms, or for as long as is allowed.

        Not while a bell has rung since it was ``seen``, which is given for each.
        """
        waited = self._waited
        if not len(waited):
            time.sleep(min(patience_s, SLICE_NS / 1e9))
            return
        for place, count in enumerate(seen):
            waited[place, SEEN] = count & LOW_HALF
        for place, listener in enumerate(self._listeners, len(self._bells)):
            waited[place, SEEN] = kernels.announce_sleep(listener.words)
        if all(kernels.nothing_new(listener.words, listener.hand) for listener in self._listeners):
            futex_wait_any(waited, min(_nanoseconds(patience_s), SLICE_NS), self._scratch)


def _slot_words(payload_words: int) -> int:
    """Words of a slot: a power of two, so that small slots never straddle a cache line."""
    return max(LEAST_SLOT_WORDS, 1 << (payload_words + kernels.SLOT_HEADER - 1).bit_length())
