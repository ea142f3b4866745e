"""Who sits where: the seats that a replica writes to and hears from, and what shows that a letter comes from one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from consensus.simplex import crypto
from consensus.simplex.crypto import Signs
from consensus.simplex.types import Committee

STRANGER: Final = 1000
"""Added to the number of a peer that is no voter of the present epoch: answers still find it."""
NOBODY: Final = -1
"""Number of no seat."""


class Peers:
    """Public key of each seat. It leads letters to their readers, and nothing that they say rests on it.

    Parameters
    ----------
    signer : object that signs
        Of this replica.
    first : Committee
        Its founding voters have their places in it as seats.
    number : int
        Seat of this replica.
    present : callable
        Committee of the present epoch.
    """

    def __init__(self, signer: Signs, first: Committee, number: int, present: Callable[[], Committee]) -> None:
        self._signer, self._first, self._present = signer, first, present
        self.number = number
        self.directory = dict(enumerate(first.keys)) | {number: signer.public}
        self._given: dict[bytes, bytes] = {}
        """Own tokens, by the public key of whom each is for."""
        self._shown: dict[bytes, bytes] = {}
        """Tokens of others, by public key."""

    def token(self, seat: int) -> bytes:
        """What shows a seat that something comes from here; signed for it alone: it is of no use to it elsewhere."""
        public = self.directory.get(seat, b"")
        if public not in self._given:
            self._given[public] = self._signer.sign(token_bytes(self._first, public))
        return self._given[public]

    def vouched(self, sender: int, token: bytes) -> int:
        """The seat that something seems to come from, if its token is that seat's; else nobody's."""
        public = self.directory.get(sender) if isinstance(sender, int) else None
        if public is None or not isinstance(token, bytes):
            return NOBODY
        if public not in self._shown and crypto.verify(public, token_bytes(self._first, self._signer.public), token):
            self._shown[public] = token  # a key's signature of the same words is always the same
        return sender if self._shown.get(public) == token else NOBODY

    def meet(self, seat: int, public: bytes) -> None:
        """Know whose key a seat has; it keeps the first, so whoever says otherwise later changes nothing."""
        if public not in self.directory.values():
            self.directory = {seat: public} | self.directory  # another one: somebody may be reading this one

    def part(self, seat: int) -> bool:
        """Tell a seat nothing any more; False where a voter of the present epoch sits there, whoever says so."""
        if self.directory.get(seat) in self._present().keys:
            return False
        self.directory = {known: public for known, public in self.directory.items() if known != seat}
        return True

    def voter_of(self, seat: int) -> int:
        """A seat's number in the present epoch."""
        keys = self._present().keys
        public = self.directory.get(seat) if isinstance(seat, int) else None
        return keys.index(public) if public in keys else STRANGER + seat if isinstance(seat, int) else STRANGER

    def seats_of(self, voter: int) -> list[int]:
        """Where a voter of the present epoch, or a stranger who has spoken, sits; nowhere where that is here."""
        keys = self._present().keys
        if 0 <= voter < len(keys):
            found = [seat for seat, public in self.directory.items() if public == keys[voter]]
        else:
            found = [seat for seat in self.directory if seat == voter - STRANGER]
        return [seat for seat in found if seat != self.number]

    def soonest_first(self, view: int) -> list[int]:
        """All other seats: those first who lead this view and the next ones, then who votes not."""
        present = self._present()
        leaders = (present.leader(view + ahead) for ahead in range(len(present.keys)))
        soonest = [seat for voter in dict.fromkeys(leaders) for seat in self.seats_of(voter)]
        return soonest + [seat for seat in self.directory if seat != self.number and seat not in soonest]


def token_bytes(first: Committee, reader: bytes) -> bytes:
    """What a token is a signature of: the committee, and whose key is to be shown it."""
    return b"riskswarm/letters/1\x00" + first.chain + reader
