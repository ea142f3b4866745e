"""Logs of voters as files."""

from __future__ import annotations

from typing import Final

from consensus.seats import Seat

GAP: Final = 16
"""From where :func:`torn` writes on: a last record may end with some zeros of its own."""


def written(seat: Seat) -> bytes:
    """A log without the zeros that are made ready behind it."""
    return seat.log.read_bytes().rstrip(b"\x00")


def torn(seat: Seat, rest: bytes) -> None:
    """Leave behind a log's last record what a write that a crash broke off left there; its first bytes are missing."""
    end = len(written(seat))
    with seat.log.open("r+b") as file:
        file.seek(end + GAP)
        file.write(rest)
