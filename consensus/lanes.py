"""Messages between replicas of one machine through shared memory: each tells all, and hears every other.

A replica writes what it says into one broadcast ring; a thread for each peer sleeps on that peer's ring. A replica that
falls behind misses the oldest messages, which the protocol says again. What is larger than a slot, and whoever has not
said that it listens, is told by other means. Nothing that is heard here is believed more than what Ray brings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from cluster.errors import DeadlineExceeded, LaneLost
from cluster.lanes.broadcast import BroadcastAddress, Broadcaster, Listener
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
PATIENCE_S: Final = 0.5

Introduce = Callable[[int], BroadcastAddress | None]
"""(peer) -> where it speaks, having been told that it is listened to; None where it is elsewhere, or not there now."""
Hear = Callable[[int, list[bytes]], None]


class Lanes:
    """One replica's mouth and ears.

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
        self._closing = False
        self._ears: dict[int, threading.Thread] = {}
        self._peers = tuple(peers)

    @property
    def address(self) -> BroadcastAddress:
        """Where this replica speaks."""
        return self._mouth.address

    def start(self) -> None:
        """Begin to listen."""
        for peer in self._peers:
            self.attend(peer)

    def attend(self, peer: int) -> None:
        """Listen to a peer, through all its lives. One thread calls this and :meth:`ignore`."""
        if peer not in self._ears:
            self._ears[peer] = threading.Thread(target=self._listen, args=(peer,), name=f"ear-{peer}", daemon=True)
            self._ears[peer].start()

    def ignore(self, peer: int) -> None:
        """Neither tell nor hear a peer any more; its ear ends soon."""
        self._ears.pop(peer, None)
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
        """Fall silent and stop listening."""
        self._closing = True
        for ear in self._ears.values():
            ear.join()
        self._mouth.close()

    def _listen(self, peer: int) -> None:
        """Hear a peer through all its lives."""
        pause_s = SHORTEST_PAUSE_S
        while self._attends(peer):
            address = self._introduce(peer)
            try:
                if address is not None:
                    with Listener(address, "park") as listener:
                        pause_s = SHORTEST_PAUSE_S
                        self._listen_to(peer, listener)
            except LaneLost:
                self._lost(peer)  # it will have another ring in its next life
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _attends(self, peer: int) -> bool:
        return not self._closing and self._ears.get(peer) is threading.current_thread()

    def _listen_to(self, peer: int, listener: Listener) -> None:
        while self._attends(peer):
            try:
                heard = listener.wait(PATIENCE_S)
            except DeadlineExceeded:
                continue
            self.missed += heard.missed
            for slot in heard.messages:
                messages = _letter(slot, self.number)
                if messages:
                    self.heard += 1
                    self._hear(peer, messages)


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
