"""Snapshots on disk, named by their content hash: written once, verified when read, never changed.

``SWARM_HOME/snapshots/<id>.snapshot`` holds the bytes of one snapshot, ``<id>.cut`` names the snapshot and date that
another was cut from, and ``current`` names the one that calculations use unless they ask for another.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cluster.errors import InvalidMarketData, UnknownSnapshot
from hive.market.settings import MarketSettings
from hive.market.snapshot import SHORT_ID, MarketSnapshot
from hive.messages.codec import decode, encode
from hive.messages.ticks import WatchedBook

MIN_PREFIX = 6  # characters of an id that may stand for the whole


class SnapshotStore:
    """The snapshots of one swarm home. One writer: the market data agent."""

    def __init__(self, directory: Path, settings: MarketSettings) -> None:
        self._directory = directory
        self._settings = settings
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, snapshot: MarketSnapshot) -> str:
        """Write a snapshot; saving the same content again changes nothing. Returns its id."""
        identity = snapshot.content_id
        path = self._path(identity)
        if not path.exists():
            _write(path, encode(snapshot))
        return identity

    def save_cut(self, parent_id: str, date: str, identity: str) -> None:
        """Note that ``identity`` is ``parent_id`` cut at ``date``, so that it can be made again."""
        if not self._path(identity).exists():
            _write(self._cut_path(identity), json.dumps({"parent": parent_id, "date": date}).encode())

    def load(self, identity: str) -> MarketSnapshot:
        """The snapshot with exactly this id.

        Raises
        ------
        UnknownSnapshot
            It was never saved here.
        InvalidMarketData
            The file does not hold what its name says.
        """
        path = self._path(identity)
        if not path.exists() and self._cut_path(identity).exists():
            return self._cut_again(identity)
        try:
            snapshot = decode(path.read_bytes())
        except FileNotFoundError as error:
            raise _unknown(identity) from error
        except ValueError as error:
            raise _damaged(path) from error
        if not isinstance(snapshot, MarketSnapshot) or snapshot.content_id != identity:
            raise _damaged(path)
        return snapshot

    def _cut_again(self, identity: str) -> MarketSnapshot:
        path = self._cut_path(identity)
        try:
            cut = json.loads(path.read_text())
            parent, date = str(cut["parent"]), str(cut["date"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path) from error
        snapshot = self.load(parent).until(
            date, min_observations=self._settings.min_observations, volume_days=self._settings.volume_days
        )
        if snapshot.content_id != identity:  # altered, or cut under another market.volume_days
            raise _damaged(path)
        return snapshot

    def find(self, beginning: str) -> str:
        """The one id that begins so.

        Raises
        ------
        UnknownSnapshot
            None or several do, or the beginning is too short to mean one.
        """
        matches = sorted({path.stem for path in self._directory.iterdir() if path.stem.startswith(beginning)})
        matches = [match for match in matches if len(match) == 64]
        if len(beginning) < MIN_PREFIX or not matches:
            raise _unknown(beginning)
        if len(matches) > 1:
            raise UnknownSnapshot(f"{len(matches)} snapshots begin with {beginning}", "Give more characters of the id")
        return matches[0]

    def ids(self) -> tuple[str, ...]:
        """Every snapshot saved in full, newest first."""
        paths = sorted(self._directory.glob("*.snapshot"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return tuple(path.stem for path in paths)

    def current(self) -> str | None:
        """Id of the snapshot in use, or None before the first."""
        path = self._directory / "current"
        return path.read_text().strip() if path.exists() else None

    def use(self, identity: str) -> None:
        """Make a saved snapshot the current one."""
        if not self._path(identity).exists():
            raise _unknown(identity)
        _write(self._directory / "current", f"{identity}\n".encode())

    def watch(self, book: WatchedBook | None) -> None:
        """Keep the book that is watched; None keeps none."""
        if book is None:
            (self._directory / "watched").unlink(missing_ok=True)
        else:
            _write(self._directory / "watched", encode(book))

    def watched(self) -> WatchedBook | None:
        """The book that is watched, if there is one.

        Raises
        ------
        InvalidMarketData
            The file does not hold one.
        """
        path = self._directory / "watched"
        try:
            book = decode(path.read_bytes())
            if not isinstance(book, WatchedBook):
                raise TypeError(type(book).__name__)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise InvalidMarketData(f"{path} holds no watched book", "Remove it and watch the book anew") from error
        return book

    def _path(self, identity: str) -> Path:
        return self._directory / f"{identity}.snapshot"

    def _cut_path(self, identity: str) -> Path:
        return self._directory / f"{identity}.cut"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, on disk before the name appears."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _unknown(identity: str) -> UnknownSnapshot:
    return UnknownSnapshot(f"no snapshot {identity[:SHORT_ID]!r} is known", "See `swarm data list` for those that are")


def _damaged(path: Path) -> InvalidMarketData:
    return InvalidMarketData(f"{path} does not hold the snapshot its name says", "Remove the file and load it again")
