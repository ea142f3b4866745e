"""The write-ahead log: every vote is on disk before anybody sees it, so a replica that comes back knows what it said.

A file of frames behind a header that names the chain and the voter. What is appended at a time is one frame: its
length, its number, a checksum of both with the body, and the body. A crash can leave the last write torn, wherever its
pages stood on their way to the disk: what lies behind the last whole frame is cut off, unless a whole frame follows
later; then the file was damaged, and the replica must not trust it.

Behind the last frame lie zeros, written ahead: a write to bytes that the file has already need not wait for the journal
of the file system, as one that makes it longer does. Each write returns when it is on the disk (``O_DSYNC``).

What a disk that confirms and then forgets has lost cannot be seen here: such a replica is one of the f.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster.durable import sync_names
from cluster.errors import SwarmError
from consensus.simplex.core import Record
from consensus.simplex.types import (
    Block,
    Certificate,
    Finality,
    Malformed,
    Vote,
    block_fields,
    block_of,
    certificate_fields,
    certificate_of,
    finality_fields,
    finality_of,
    packed,
    unpacked,
    vote_fields,
    vote_of,
)

MAGIC = b"RSWAL\x00\x02\n"
_MARK = b"\xa7\x52"
_HEAD = struct.Struct(">2sIQ16s")  # mark, length of the body, number, checksum
NO_RECORDS = b"\x90"  # an empty array
ROOM = 2**20
"""Bytes that are made ready at a time."""


class LogUnusable(SwarmError):
    """The log is missing, damaged, of another voter, or in use by another process."""


class Log:
    """A log that is open for appending; one process at a time.

    Attributes
    ----------
    records : list
        What lay in it, in order.
    cut : int
        Bytes of a torn write that were cut off when it was opened.
    end : int
        Where the next frame begins.

    Raises
    ------
    LogUnusable
        It does not exist, is damaged before its end, belongs to another voter, or another process has it open.
    """

    def __init__(self, path: Path, chain: bytes, public: bytes) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_DSYNC | os.O_NOFOLLOW)
        except OSError as error:
            raise LogUnusable(
                f"the log {path} cannot be opened ({error.strerror})",
                "A voter without its log starts as one that has lost it",
            ) from error
        try:
            _lock(self._descriptor, path)
            data = _whole(self._descriptor)
            header = _header(chain, public)
            if data[: len(header)] != header:
                raise LogUnusable(f"{path} is no log of this voter and version", "Give the voter its own log")
            self.records, self.end, self._number = _read(data, len(header), path)
            self.cut = len(data[self.end :].rstrip(b"\x00"))
            self._size = self.end if self.cut else len(data)
            if self.cut:
                os.ftruncate(self._descriptor, self.end)
                os.fsync(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise
        self.syncs = 0

    @classmethod
    def create(cls, path: Path, chain: bytes, public: bytes) -> Log:
        """A new log; durable, with its name, before this returns. Whenever it is interrupted, it is whole or not there.

        Raises
        ------
        LogUnusable
            Something lies there already, or the place cannot be written.
        """
        draft = path.with_name(f"{path.name}.draft")
        try:
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                _write(descriptor, _header(chain, public), 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.link(draft, path)
            draft.unlink()
            sync_names(path.parent)
        except OSError as error:
            raise LogUnusable(f"no log can be made at {path} ({error.strerror})", "Give another place") from error
        return cls(path, chain, public)

    def append(self, records: Iterable[Record]) -> None:
        """Append and sync: when this returns, they are durable. What it raises ends the replica: it must not go on."""
        body = packed([_fields(record) for record in records])
        if body == NO_RECORDS:
            return
        frame = _HEAD.pack(_MARK, len(body), self._number, _checksum(self._number, body)) + body
        if self.end + len(frame) > self._size:
            self._size = _extended(self._descriptor, self._size, self.end + len(frame) + ROOM)
        _write(self._descriptor, frame, self.end)
        self.end += len(frame)
        self._number += 1
        self.syncs += 1

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def _write(descriptor: int, data: bytes, at: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], at + written)


def _extended(descriptor: int, size: int, wanted: int) -> int:
    """Make a file longer by zeros that are on the disk when this returns its new size."""
    _write(descriptor, bytes(wanted - size), size)
    return wanted


def _whole(descriptor: int) -> bytes:
    """All that a file holds: one call brings no more than 2 GiB, and the rest would be cut off as torn."""
    parts: list[bytes] = []
    at, end = 0, os.fstat(descriptor).st_size
    while at < end:
        parts.append(os.pread(descriptor, end - at, at))
        if not parts[-1]:
            raise OSError(f"{end - at} bytes of a log cannot be read")
        at += len(parts[-1])
    return b"".join(parts)


def _header(chain: bytes, public: bytes) -> bytes:
    return MAGIC + chain + public


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LogUnusable(
            f"another process has the log {path} open", "A voter lives in one process at a time"
        ) from error


def _read(data: bytes, at: int, path: Path) -> tuple[list[Record], int, int]:
    """Records from a place on, the end of the last whole frame, and the number of the next."""
    records: list[Record] = []
    number = 0
    while (body := _body(data, at, number)) is not None:
        try:
            records += map(_record, unpacked(body))
        except (Malformed, TypeError) as error:
            raise LogUnusable(f"frame {number} of {path} holds no records ({error})", "Restore the log") from error
        at += _HEAD.size + len(body)
        number += 1
    if _goes_on(data, at, number):
        raise LogUnusable(
            f"{path} is damaged at byte {at}, and goes on behind it", "Restore it, or start the voter without its log"
        )
    return records, at, number


def _body(data: bytes, at: int, number: int | None) -> bytes | None:
    """Body of the whole frame that begins at a place; with this number, or with any."""
    if len(data) - at < _HEAD.size:
        return None
    mark, length, found, checksum = _HEAD.unpack_from(data, at)
    begin = at + _HEAD.size
    if mark != _MARK or begin + length > len(data) or number not in {None, found}:
        return None
    body = data[begin : begin + length]
    return body if _checksum(found, body) == checksum else None


def _goes_on(data: bytes, at: int, number: int) -> bool:
    """Whether a whole frame with a later number begins behind a place."""
    while (at := data.find(_MARK, at)) >= 0:
        if _body(data, at, None) is not None and _HEAD.unpack_from(data, at)[2] > number:
            return True
        at += 1
    return False


def _checksum(number: int, body: bytes) -> bytes:
    return hashlib.blake2b(number.to_bytes(8, "big") + body, digest_size=16).digest()


def _fields(record: Record) -> list[Any]:
    match record:
        case Vote():
            return [1, vote_fields(record)]
        case Block():
            return [2, block_fields(record)]
        case Certificate():
            return [3, certificate_fields(record)]
        case Finality():
            return [4, finality_fields(record)]


_OF = {1: vote_of, 2: block_of, 3: certificate_of, 4: finality_of}


def _record(fields: Any) -> Record:
    if not isinstance(fields, list) or len(fields) != 2 or fields[0] not in _OF:
        raise Malformed("fields of no known record", "Use the version that wrote the log")
    record: Record = _OF[fields[0]](fields[1])  # type: ignore[assignment]  # one of them, by its tag
    return record
