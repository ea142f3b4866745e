"""Seats: where the voters of a home's committee live, through all its epochs.

A seat has a number, which is never given again, and with it a name in Ray and a folder. The founding voters have the
first numbers, by their places in the first committee; whoever comes later has the next one. Which voter of an epoch a
seat is follows from its public key. ``seats.json`` beside ``committee.json`` says whom a swarm that comes up starts:
nothing that is decided rests on it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cluster import durable
from cluster.errors import InvalidInput
from consensus import decisions
from consensus.simplex.crypto import KeyUnusable, Signer, load_key, make_key
from consensus.simplex.types import Committee
from consensus.simplex.wal import Log

FORMAT: Final = "riskswarm/seats/1"
_NAME: Final = re.compile(r"consensus-([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Seats:
    """The seats of a committee: those that voters sit in, and those that stand by."""

    keys: Mapping[int, bytes]
    """Public key by number."""
    addresses: Mapping[int, str]
    """Of the machine where the seat's folder is, by number, where it is known."""
    fresh: int
    """Number of the next one."""

    @classmethod
    def founding(cls, first: Committee, addresses: Sequence[str] = ()) -> Seats:
        """Those of a committee that has not changed."""
        return cls(dict(enumerate(first.keys)), dict(enumerate(addresses)), len(first.keys))

    @property
    def names(self) -> tuple[str, ...]:
        """Names in Ray, in the order of the numbers."""
        return tuple(replica_name(number) for number in sorted(self.keys))

    def reserved(self, count: int) -> Seats:
        """Without the next numbers, which somebody is about to use."""
        return replace(self, fresh=self.fresh + count)

    def taken(self, keys: Mapping[int, bytes], addresses: Mapping[int, str]) -> Seats:
        """With these, too."""
        fresh = max([self.fresh, *(number + 1 for number in keys)])
        return Seats({**self.keys, **keys}, {**self.addresses, **addresses}, fresh)

    def left(self, present: Committee) -> Seats:
        """Only those of the voters of an epoch."""
        keys = {number: key for number, key in self.keys.items() if key in present.keys}
        addresses = {number: where for number, where in self.addresses.items() if number in keys}
        return replace(self, keys=keys, addresses=addresses)


@dataclass(frozen=True)
class Seat:
    """What a voter keeps on disk, in a folder of its own that nobody else may read."""

    folder: Path

    @property
    def key(self) -> Path:
        """The private key."""
        return self.folder / "key"

    @property
    def log(self) -> Path:
        """The write-ahead log."""
        return self.folder / "log"

    @property
    def committee(self) -> Path:
        """The first committee; written last, so that a voter with it has been founded."""
        return self.folder / "committee.json"

    @property
    def lost(self) -> Path:
        """There from when the log was found missing until the new one says all that counts; in it, once that is known,
        the epoch and the view from which on the voter may speak."""
        return self.folder / "log-lost"

    @property
    def founded(self) -> bool:
        """Whether this voter is of a committee."""
        return self.committee.exists()

    def signer(self, *, may_make: bool) -> Signer:
        """The voter's key; a new one where none may have been lost.

        Raises
        ------
        KeyUnusable
            It is missing in a committee that exists, others may read it, or it is none.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.key.exists():
            return load_key(self.key)
        if self.founded or not may_make:
            raise KeyUnusable(
                f"the key {self.key} of a voter is missing", "Restore it; a new one is no member of the committee"
            )
        return make_key(self.key)

    def found(self, text: str, signer: Signer, *, later: bool = False) -> None:
        """Take a seat in a committee: an empty log first, then the word that it was there.

        Parameters
        ----------
        later : bool
            The committee exists, and this key has never been a voter's: it observes until the committee makes it one.

        Raises
        ------
        SwarmError
            The voter is in another committee, its key is not in this one, or, of one that comes later, is.
        """
        committee = decisions.committee_of(text, "the founding")
        if later is (signer.public in committee.keys):
            who = "a founding voter's" if later else "not in the committee that is founded"
            raise KeyUnusable(f"this voter's key is {who}", "Give each seat a key of its own")
        if self.founded:
            if decisions.read_committee(self.committee) != committee:
                raise KeyUnusable(f"{self.folder} belongs to another committee", "Give the voter a folder of its own")
            return
        if self.log.exists():  # of a founding that was not finished: nothing was ever voted there
            self.log.unlink()
        log = Log.create(self.log, committee.chain, signer.public)
        log.close()
        durable.write(self.committee, text)

    def open(self, committee: Committee, signer: Signer) -> tuple[Log, int, tuple[int, int] | None]:
        """The log, and 0, or the nonce of a voter that has lost it, and what :meth:`note_loss` noted of that.

        Raises
        ------
        LogUnusable
            It is damaged, of another voter, or another process has it open.
        """
        if not self.log.exists():
            self.note_loss(None)  # before there is a log again: a second crash must not make it look whole
            log = Log.create(self.log, committee.chain, signer.public)
        else:
            log = Log(self.log, committee.chain, signer.public)
        if not self.lost.exists():
            return log, 0, None
        told = self.lost.read_text().split()
        return log, secrets.randbits(62) | 1, (int(told[0]), int(told[1])) if told else None

    def note_loss(self, recovered: tuple[int, int] | None) -> None:
        """Note that the log was lost, and the epoch and view from which on the voter may speak, where that is known."""
        durable.write(self.lost, "" if recovered is None else f"{recovered[0]} {recovered[1]}\n")


def replica_name(number: int) -> str:
    """Name in Ray of the voter in a seat."""
    return f"consensus-{number + 1}"


def seat_of(name: str) -> int | None:
    """Number of the seat of this name; None where it names none."""
    found = _NAME.fullmatch(name)
    return int(found[1]) - 1 if found else None


def read(folder: Path, first: Committee) -> Seats:
    """The seats of the committee whose ``committee.json`` lies in a folder.

    Raises
    ------
    InvalidInput
        The file of them cannot be read, or is of another committee.
    """
    path = folder / "seats.json"
    if not path.exists():
        return Seats.founding(first)
    try:
        fields = json.loads(path.read_text())
        if (fields["format"], fields["chain"]) != (FORMAT, first.chain.hex()):
            raise ValueError(fields["chain"])
        listed = {_number(name): seat for name, seat in fields["seats"].items()}
        keys = {number: bytes.fromhex(seat["key"]) for number, seat in listed.items()}
        addresses = {number: str(seat["address"]) for number, seat in listed.items()}
        return Seats(keys, addresses, _number(fields["fresh"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{path} does not say which seats the committee has", "Restore it, or move it away to begin as founded"
        ) from error


def write(folder: Path, first: Committee, seats: Seats) -> None:
    """Keep the seats, durably, before anything is done that rests on it."""
    path = folder / "seats.json"
    facts = {"format": FORMAT, "chain": first.chain.hex(), "fresh": replica_name(seats.fresh)}
    listed = {
        replica_name(number): {"key": seats.keys[number].hex(), "address": seats.addresses.get(number, "")}
        for number in sorted(seats.keys)
    }
    durable.write(path, json.dumps({**facts, "seats": listed}, indent=2) + "\n")


def _number(name: str) -> int:
    number = seat_of(name)
    if number is None:
        raise ValueError(name)
    return number
