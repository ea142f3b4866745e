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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cluster.errors import InvalidInput
from consensus.simplex.types import Committee

FORMAT: Final = "riskswarm/seats/1"
_NAME: Final = re.compile(r"consensus-([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Seats:
    """The seats of a committee."""

    keys: Mapping[int, bytes]
    """Public key by number, of those that voters sit in, and of those that stand by."""
    fresh: int
    """Number of the next one."""

    @classmethod
    def founding(cls, first: Committee) -> Seats:
        """Those of a committee that has not changed."""
        return cls(dict(enumerate(first.keys)), len(first.keys))

    @property
    def names(self) -> tuple[str, ...]:
        """Names in Ray, in the order of the numbers."""
        return tuple(replica_name(number) for number in sorted(self.keys))

    def reserved(self, count: int) -> Seats:
        """Without the next numbers, which somebody is about to use."""
        return replace(self, fresh=self.fresh + count)

    def taken(self, keys: Mapping[int, bytes]) -> Seats:
        """With these, too."""
        return replace(self, keys={**self.keys, **keys})

    def left(self, present: Committee) -> Seats:
        """Only those of the voters of an epoch."""
        return replace(self, keys={number: key for number, key in self.keys.items() if key in present.keys})


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
        keys = {int(number): bytes.fromhex(key) for number, key in fields["seats"].items()}
        return Seats(keys, max([int(fields["fresh"]), *(number + 1 for number in keys)]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{path} does not say which seats the committee has", "Restore it, or move it away to begin as founded"
        ) from error


def write(folder: Path, first: Committee, seats: Seats) -> None:
    """Keep the seats, durably, before anything is done that rests on it."""
    path = folder / "seats.json"
    draft = path.with_suffix(".draft")
    facts = {"format": FORMAT, "chain": first.chain.hex(), "fresh": seats.fresh}
    listed = {str(number): seats.keys[number].hex() for number in sorted(seats.keys)}
    with draft.open("w") as file:
        file.write(json.dumps({**facts, "seats": listed}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
