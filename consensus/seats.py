"""Seats: where the voters of a home's committee live, through all its epochs.

A seat has a number, which is never given again, and with it a name in Ray and a folder. The founding voters have the
first numbers, by their places in the first committee; whoever comes later has the next one. Which voter of an epoch a
seat is follows from its public key. ``seats.json`` beside ``committee.json`` says whom a swarm that comes up starts:
nothing that is decided rests on it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cluster.errors import InvalidInput
from consensus.simplex.types import Committee

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
    durably(path, json.dumps({**facts, "seats": listed}, indent=2) + "\n")


def durably(path: Path, text: str) -> None:
    """Write a file that is there whole, or as it was before, whenever the machine stops; on disk when this returns."""
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _number(name: str) -> int:
    number = seat_of(name)
    if number is None:
        raise ValueError(name)
    return number
