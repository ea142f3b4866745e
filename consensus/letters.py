"""What peers have said and a replica has not read yet: each peer has a share of the room and of the reader's time.

Nothing here is known to be true of whoever it seems to come from. What is rare and large, a supply for one who is far
behind, takes long to read: of that a peer gets in little, and a stranger none, so that nobody keeps a replica busy with
letters that turn out to say nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

LEAST_SHARE: Final = 16
"""Messages of one peer that may wait, however small the room."""
LARGE_BYTES: Final = 640 * 1024
"""More than any message has that replicas need daily: a proposal, a supply of some views."""
LARGE_PAUSE_NS: Final = 1_000_000_000
"""Between two large messages of one peer."""
WAITING_BYTES: Final = 16 * 2**20
"""Of one peer's messages that may wait."""
BYTES_A_TURN: Final = LARGE_BYTES
"""Of one peer's messages that are read before the others'; at least one message is."""


@dataclass(slots=True)
class _Box:
    messages: deque[bytes] = field(default_factory=deque)
    size: int = 0
    large_from_ns: int = 0
    """When it may bring the next large message."""


class Letters:
    """Messages that wait, by who seems to have sent them. Not thread-safe but for whether any wait.

    Parameters
    ----------
    room : int
        How many may wait in all.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._boxes: dict[int, _Box] = {}

    def __bool__(self) -> bool:
        """Whether any wait; may be asked while another thread puts some down."""
        return any(box.messages for box in list(self._boxes.values()))

    def put(self, sender: int, messages: Sequence[Any], now_ns: int, *, known: bool, peers: int) -> int:
        """Take what there is room for, and nothing that is no bytes; how many were dropped.

        Parameters
        ----------
        known : bool
            Whether it seems to come from one of the ``peers``; all others share one box, which is told by its number.
        """
        box = self._boxes.setdefault(sender, _Box())
        room = max(LEAST_SHARE, self._room // max(1, peers)) - len(box.messages)
        taken = 0
        for message in messages[: max(0, room)]:
            size = len(message) if type(message) is bytes else WAITING_BYTES + 1
            large = size > LARGE_BYTES
            if box.size + size > WAITING_BYTES or (large and (not known or now_ns < box.large_from_ns)):
                continue
            if large:
                box.large_from_ns = now_ns + LARGE_PAUSE_NS
            box.messages.append(message)
            box.size += size
            taken += 1
        return len(messages) - taken

    def take(self, most: int) -> list[tuple[int, bytes]]:
        """(sender, message) of what is read next, of every sender some."""
        share = max(1, most // max(1, len(self._boxes)))
        found: list[tuple[int, bytes]] = []
        for sender, box in self._boxes.items():
            left = BYTES_A_TURN
            for _ in range(min(len(box.messages), share)):
                if left <= 0:
                    break
                message = box.messages.popleft()
                box.size -= len(message)
                left -= len(message)
                found.append((sender, message))
        return found

    def clear(self) -> None:
        """Forget them all."""
        self._boxes.clear()
