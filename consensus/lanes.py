"""Messages between replicas of one machine through shared memory: each tells all, and hears every other.

A replica writes what it says into one broadcast ring; the thread that owns its core sleeps on the rings of all its
peers, and on a bell that whoever else has something for it rings. A replica that falls behind misses the oldest
messages, which the protocol says again. What is larger than a slot, and whoever has not said that it listens, is told
by other means. Nothing that is heard here is believed more than what Ray brings.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from cluster.errors import LaneLost
from cluster.lanes.addresses import BroadcastAddress
from cluster.lanes.broadcast import Bell, Broadcaster, Listener, Rest
from consensus.simplex.types import Malformed, packed, unpacked

SLOTS: Final = 1024
PAYLOAD_WORDS: Final = 1022  # with its header a slot is 8 KiB: a proposal with a few motions, or many votes
WORD_BYTES: Final = 8
HEAD_WORDS: Final = 2  # length in bytes, and a bit for each peer that is meant
MOST_HEARERS: Final = 63
"""Bits of a word without its sign; seats of higher numbers are told by other means."""
MOST_LETTER_BYTES: Final = (PAYLOAD_WORDS - HEAD_WORDS) * WORD_BYTES
SHORTEST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
LEAST_REST_NS: Final = 1_000_000
MOST_AT_A_TIME: Final = 64
"""Letters of a peer that are heard before the others are: who speaks without end keeps nobody waiting for long."""
MOST_SLEEPLESS: Final = 3
"""Rests in a row that ended at once and nothing was heard after, until the ear sleeps all the same."""

Introduce = Callable[[int], BroadcastAddress | None]
"""(peer) -> where it speaks, having been told that it is listened to; None where it is elsewhere, or not there now."""
Hear = Callable[[int, list[bytes]], None]


class Lanes:
    """One replica's mouth and ears. One thread hears and rests; any thread may wake it.

    Parameters
    ----------
    number : int
        Of this replica's seat.
    peers : sequence of int
        The others; :meth:`attend` and :meth:`ignore` say who comes and goes later.
    lost : callable
        Told of a peer whose process has ended, some milliseconds after.
    """

    def __init__(
        self, number: int, peers: Sequence[int], introduce: Introduce, hear: Hear, lost: Callable[[int], None]
    ) -> None:
        self.number = number
        self._introduce, self._hear, self._lost = introduce, hear, lost
        self._mouth = Broadcaster(slots=SLOTS, payload_words=PAYLOAD_WORDS)
        self._slot = np.zeros(PAYLOAD_WORDS, np.int64)
        self.listening: set[int] = set()
        """Peers that have said that they listen."""
        self.spoken = self.heard = self.missed = 0
        self._closing, self._sleepless = False, 0
        self._peers = tuple(peers)
        self._attended: dict[int, threading.Event] = {}
        """Peers to be listened to, each with a mark of its own: who was forgotten meanwhile and is back has another. To
        look for the peer at once, it is set."""
        self._seekers: list[threading.Thread] = []
        self._found: deque[tuple[int, threading.Event, Listener]] = deque()
        """For the thread that hears, which alone touches listeners."""
        self._listeners: dict[int, tuple[threading.Event, Listener]] = {}
        self._rest: Rest | None = None
        """Beside all of these and the bell; made anew when they have changed."""
        self._bell = Bell()
        self._load()

    @property
    def address(self) -> BroadcastAddress:
        """Where this replica speaks."""
        return self._mouth.address

    def start(self) -> None:
        """Begin to look for the peers."""
        for peer in self._peers:
            self.attend(peer)

    def seen(self) -> int:
        """To be asked for before looking for what :meth:`wake` is called for."""
        return self._bell.seen()

    def wake(self) -> None:
        """Let a rest end, also one that begins after this with what was seen before it."""
        self._bell.ring()

    def hear(self) -> None:
        """Hear what the peers have said since, each through all its lives."""
        while self._found:
            peer, mark, listener = self._found.popleft()
            if self._attended.get(peer) is not mark:  # it took so long that the peer was forgotten meanwhile
                listener.close()
                continue
            if peer in self._listeners:
                self._listeners[peer][1].close()
            self._listeners[peer] = mark, listener
            self._rest = None
        for peer, (mark, listener) in list(self._listeners.items()):
            if not listener.quiet() and self._hear_from(peer, mark, listener):
                self._sleepless = 0

    def rest(self, patience_s: float, seen: int) -> None:
        """Sleep until somebody speaks or wakes this, or for 20 ms; not at the pace of a peer that stopped in a word."""
        begun_ns = time.monotonic_ns()
        if self._rest is None:
            self._rest = Rest([listener for _, listener in self._listeners.values()], self._bell)
        self._rest.sleep(patience_s, seen)
        awake = self._bell.seen() != seen or time.monotonic_ns() - begun_ns >= LEAST_REST_NS
        self._sleepless = 0 if awake else self._sleepless + 1
        if self._sleepless > MOST_SLEEPLESS:
            time.sleep(LEAST_REST_NS / 1e9)

    def attend(self, peer: int) -> None:
        """Listen to a peer, through all its lives; if it is being looked for, then at once, since it has begun to live.

        One thread calls this and :meth:`ignore`.
        """
        if peer in self._attended:
            self._attended[peer].set()
        else:
            self._attended[peer] = threading.Event()
            self._seek(peer, 0.0)

    def ignore(self, peer: int) -> None:
        """Neither tell nor hear a peer any more."""
        mark = self._attended.pop(peer, None)
        if mark is not None:
            mark.set()
        self.listening.discard(peer)

    def tell(self, peers: Sequence[int], messages: list[bytes]) -> list[int]:
        """Tell those of these peers who listen; the others, or all where it is too much for a slot, are returned."""
        told = [peer for peer in peers if peer in self.listening and peer < MOST_HEARERS]
        letter = packed(messages) if told else b""
        if not told or len(letter) > MOST_LETTER_BYTES:
            return list(peers)
        slot = self._slot
        slot[0], slot[1] = len(letter), sum(1 << peer for peer in told)
        slot.view(np.uint8)[HEAD_WORDS * WORD_BYTES : HEAD_WORDS * WORD_BYTES + len(letter)] = np.frombuffer(
            letter, np.uint8
        )
        self._mouth.publish(slot)
        self.spoken += 1
        return [peer for peer in peers if peer not in told]

    def close(self) -> None:
        """Fall silent and stop listening; nobody may hear any more."""
        self._closing = True
        for mark in self._attended.values():
            mark.set()
        for seeker in self._seekers:
            seeker.join()
        for listener in (*(found[2] for found in self._found), *(known[1] for known in self._listeners.values())):
            listener.close()
        self._mouth.close()

    def _load(self) -> None:
        """What hearing is compiled of, half a second that the first word of a peer would else wait for."""
        own = Listener(self.address, "park", most=MOST_AT_A_TIME)
        own.poll()
        Rest([own], self._bell).sleep(0.0, self._bell.seen())
        self._bell.ring()
        own.close()

    def _seek(self, peer: int, pause_s: float) -> None:
        """Look for where a peer speaks, after a pause, until it is found or forgotten."""
        mark = self._attended.get(peer)
        if mark is None:
            return
        seeker = threading.Thread(target=self._find, args=(peer, mark, pause_s), name=f"seeker-{peer}", daemon=True)
        self._seekers = [*(other for other in self._seekers if other.is_alive()), seeker]
        seeker.start()

    def _find(self, peer: int, mark: threading.Event, pause_s: float) -> None:
        mark.wait(pause_s)
        while self._attended.get(peer) is mark and not self._closing:
            mark.clear()
            listener = self._met(peer)
            if listener is not None:
                self._found.append((peer, mark, listener))
                return
            pause_s = min(max(2 * pause_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
            if mark.wait(pause_s):
                pause_s = 0.0

    def _met(self, peer: int) -> Listener | None:
        """Where a peer speaks now, if it does, and into a ring like all replicas'."""
        address = self._introduce(peer)
        if address is None:
            return None
        try:
            listener = Listener(address, "park", most=MOST_AT_A_TIME)
        except LaneLost:  # it will have another ring in its next life
            return None
        if listener.payload_words == PAYLOAD_WORDS:
            return listener
        listener.close()
        return None

    def _hear_from(self, peer: int, mark: threading.Event, listener: Listener) -> bool:
        """Hear what a peer has said, if anything; let go of one that is forgotten or whose process has ended."""
        if self._attended.get(peer) is not mark:
            self._let_go(peer, listener)
            return False
        try:
            heard = listener.poll()
            self.missed += heard.missed
            for slot in heard.messages:
                messages = _letter(slot, self.number)
                if messages:
                    self.heard += 1
                    self._hear(peer, messages)
        except (
            Exception
        ):  # it is lost; or whatever a faulty peer's memory leads to must not keep others from being heard
            self._let_go(peer, listener)
            self._lost(peer)
            self._seek(peer, SHORTEST_PAUSE_S)
            return False
        return len(heard.messages) > 0

    def _let_go(self, peer: int, listener: Listener) -> None:
        del self._listeners[peer]
        listener.close()
        self._rest = None


def _letter(slot: np.ndarray, number: int) -> list[bytes]:
    """Messages of a slot, int64 of shape (PAYLOAD_WORDS,), that are for this replica; none where it is garbage."""
    length, meant = int(slot[0]), int(slot[1])
    if not meant >> number & 1 or not 0 < length <= MOST_LETTER_BYTES:
        return []
    data = slot.view(np.uint8)[HEAD_WORDS * WORD_BYTES : HEAD_WORDS * WORD_BYTES + length].tobytes()
    try:
        messages = unpacked(data)
    except Malformed:
        return []
    return messages if isinstance(messages, list) and all(isinstance(one, bytes) for one in messages) else []
