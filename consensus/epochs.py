"""What is known of a committee's epochs: how each that is over has ended, in memory and beside ``committee.json``.

The keys of voters who have left can sign whatever they like of the epochs they voted in. Who knows that such an epoch
is over believes none of it, so what was proved once must not be forgotten: ``epochs.json`` holds the ends of all epochs
that were proved to any client of a home, and every client begins with the last of them. It is verified from the first
committee's keys whenever it is read, and only ever grows. A file that does not hold is an error and not ignored, since
to go on without it is to know less: to delete it is for the owner to decide, who then knows what the founding says, and
what the committee answers.

That the first ends to be known are the true ones is proved by nothing: where nobody knows yet how an epoch ended, a
quorum of its keys can end it as they like.
"""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster import durable, head
from cluster.errors import InvalidInput
from consensus import decisions
from consensus.decisions import Certified
from consensus.errors import BadCertificate
from consensus.simplex.types import Committee

FORMAT: Final = "riskswarm/epochs/1"
FILE: Final = "epochs.json"
LOCK_S: Final = 1.0  # how long another process may hold the file
REMEDY: Final = "Restore it, or delete it: this home then knows no more of its epochs than its committee answers"


@dataclass(frozen=True)
class Known:
    """The committees of all epochs until now, from the first on, each later one with what proves it."""

    committees: tuple[Committee, ...]
    ends: tuple[bytes, ...] = ()
    """Of every epoch but the last, as :func:`consensus.decisions.following` reads them."""

    @classmethod
    def of(cls, certified: Certified) -> Known:
        """What certified blocks prove of the epochs up to theirs."""
        return cls(certified.known, certified.ends)

    @property
    def present(self) -> Committee:
        """Of the last epoch."""
        return self.committees[-1]

    def followed(self, ends: Any) -> Known:
        """With later epochs, by the ends of this one's last epoch and of those after it.

        Raises
        ------
        BadCertificate
            One of them ends nothing.
        """
        if not isinstance(ends, (list, tuple)) or not all(isinstance(end, bytes) for end in ends):
            raise BadCertificate("what was given are no ends of epochs", "Ask another replica")
        committees = decisions.following(self.committees, ends)
        return Known(tuple(committees), (*self.ends, *ends[: len(committees) - len(self.committees)]))

    def agrees(self, other: Known) -> bool:
        """Whether one of the two is the beginning of the other."""
        common = min(len(self.committees), len(other.committees))
        return self.committees[:common] == other.committees[:common]

    def since(self, committee: Committee) -> tuple[bytes, ...]:
        """The ends from this committee's epoch on; none where it is not among those known here."""
        epoch = committee.epoch
        return self.ends[epoch:] if self.committees[epoch : epoch + 1] == (committee,) else ()


def chosen(known: Known, offered: Sequence[Known]) -> Known:
    """The furthest of what was offered that continues ``known``.

    Where some prove that an epoch ended in one way and some that it ended in another, its voters' keys were misused
    since. Then the end that most prove is taken, and none where as many prove another.
    """
    left = [one for one in offered if known.agrees(one)]
    while True:
        epoch = len(known.committees)
        left = [one for one in left if len(one.committees) > epoch]
        found = Counter(one.committees[epoch] for one in left).most_common(2)
        if not found or (len(found) == 2 and found[0][1] == found[1][1]):
            return known
        left = [one for one in left if one.committees[epoch] == found[0][0]]
        known = Known(left[0].committees[: epoch + 1], left[0].ends[:epoch])


def read(folder: Path, first: Committee) -> Known:
    """What the folder of a committee's ``committee.json`` knows of its epochs, verified.

    Raises
    ------
    InvalidInput
        The file does not hold: it is torn, of another committee, or not signed by its voters.
    """
    path = folder / FILE
    try:
        fields = json.loads(path.read_text())
        if fields["format"] != FORMAT or fields["chain"] != first.chain.hex():
            raise ValueError("it is of another committee")
        return Known((first,)).followed([bytes.fromhex(end) for end in fields["ends"]])
    except FileNotFoundError:
        return Known((first,))
    except (OSError, ValueError, KeyError, TypeError, BadCertificate) as error:
        raise InvalidInput(f"{path} does not prove which epochs have ended ({error})", REMEDY) from error


def keep(folder: Path, known: Known) -> Known:
    """Bring what is known to disk where it is more than the file has; what the file has then.

    Raises
    ------
    InvalidInput
        The file does not hold, or proves another end of an epoch; it stays as it is.
    OSError
        It cannot be written.
    """
    with _alone(folder):
        held = read(folder, known.committees[0])
        if not held.agrees(known):
            raise InvalidInput(f"{folder / FILE} proves another end of an epoch than the committee does", REMEDY)
        if len(held.committees) >= len(known.committees):
            return held
        facts = {"format": FORMAT, "chain": known.present.chain.hex(), "ends": [end.hex() for end in known.ends]}
        durable.write(folder / FILE, json.dumps(facts, indent=2) + "\n")
        return known


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Without another process that reads and then writes: who knows less would write last."""

    def taken() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    with (folder / "epochs.lock").open("a") as lock:
        if not head.until(taken, LOCK_S):
            raise BlockingIOError(f"another process holds {lock.name}")
        yield
