"""The gate's journal: a thread that brings published records to SQLite, many to a transaction.

A record is durable when the transaction that holds it is: the write-ahead log is synchronised at every commit. What is
published and not yet durable when the process or the machine dies is lost. That window is at most the ring, since a
record's slot is given back only after its commit and a full ring closes the gate; while the disk keeps up it is about
``flush_s`` plus one commit. The age of the oldest record at its commit is measured: ``Journal.longest_ns``.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate.history import INSERT, JournalUnavailable, opened
from hive.messages.orders import Decision, Operation, Outcome, Reason

LOOK_S = 0.001
IDLE_LOOK_S = 0.005  # once nothing has come for a while: an idle gate must not cost a share of a core
IDLE_LOOKS = 100
RETRY_S = 0.05
CLOSE_S = 10.0
LARGEST_BATCH = 65536


def _table(members: type[IntEnum]) -> np.ndarray:
    """Names of an enum's members by value."""
    found = {member.value: member.name for member in members}
    return np.array([found.get(value, "") for value in range(max(found) + 1)], object)


NAMED, DECIDED, CHECKED, SETTLED = (_table(members) for members in (Operation, Decision, Reason, Outcome))


class Journal:
    """The reader of a book's journal ring. It starts with :meth:`start`; :meth:`close` loses nothing.

    Rows of fills and releases have the order's sequence number in ``order_sequence``, the quantity filled in all in
    ``quantity``, the price of a fill in ``limit_price`` and the units that moved in ``allowed``; ``reserved`` is the
    price at which an order's reservation is counted. Numbers that are not finite are NULL, and so are accounts and
    symbols that the gate does not know.

    Raises
    ------
    JournalUnavailable
        The file cannot be opened, or is no journal.
    """

    def __init__(
        self,
        path: Path,
        book: kernels.Book,
        accounts: Sequence[str],
        symbols: Sequence[str],
        *,
        batch: int,
        flush_s: float,
    ) -> None:
        self._book, self._accounts, self._symbols = book, tuple(accounts), tuple(symbols)
        self._batch, self._flush_ns = batch, int(flush_s * 1e9)
        self._own = np.zeros(2, np.int64)
        self._records = np.zeros((LARGEST_BATCH, kernels.RECORD), np.int64)
        self.longest_ns = 0
        """Greatest age of a record when it became durable."""
        self.durable = 0
        """Newest sequence number that is durable."""
        self.commits = 0
        self.error: str | None = None
        """Why the last commit failed, until one succeeds; records wait, and a full ring closes the gate."""
        self._closing = threading.Event()
        self._connection = opened(path)
        self.durable = self._connection.execute("SELECT coalesce(max(sequence), 0) FROM journal").fetchone()[0]
        self._thread = threading.Thread(target=self._run, name="gate-journal", daemon=True)

    @property
    def waiting(self) -> int:
        """Records that are published and not durable."""
        return int(self._book.journal[kernels.JOURNAL_TAIL]) - int(self._own[0])

    def extend(self, symbols: Sequence[str]) -> None:
        """The gate knows more symbols; those it knew keep their places."""
        self._symbols = tuple(symbols)

    def start(self) -> None:
        """Begin to drain."""
        self._thread.start()

    def close(self) -> None:
        """Bring everything to disk and end; the gate's loop must have ended before.

        Raises
        ------
        JournalUnavailable
            Some records could not be brought to disk.
        """
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            raise JournalUnavailable(f"{self.waiting} records wait for the disk ({self.error})", "Free the journal")
        with suppress(sqlite3.Error):
            self._connection.close()
        if self.waiting:
            raise JournalUnavailable(f"{self.waiting} records are not durable ({self.error})", "Look at the disk")

    def _run(self) -> None:
        give_up, looks = float("inf"), 0
        while True:
            closing = self._closing.is_set()
            if closing and give_up == float("inf"):
                give_up = time.monotonic() + CLOSE_S / 2
            waiting = self.waiting
            if waiting == 0:
                if closing:
                    return
                looks += 1
                time.sleep(LOOK_S if looks < IDLE_LOOKS else IDLE_LOOK_S)
                continue
            looks = 0
            hurry = closing or int(self._book.control[kernels.AWAITED]) > self.durable
            if waiting < self._batch and not hurry and self._age_ns() < self._flush_ns:
                time.sleep(LOOK_S)
                continue
            try:
                self._commit()
                self.error = None
            except Exception as error:
                self.error = repr(error)
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                if time.monotonic() > give_up:
                    return
                time.sleep(RETRY_S)

    def _age_ns(self) -> int:
        slots = (self._book.journal.size - kernels.JOURNAL_BASE) // kernels.RECORD
        oldest = kernels.JOURNAL_BASE + (int(self._own[0]) & (slots - 1)) * kernels.RECORD
        return time.monotonic_ns() - int(self._book.journal[oldest + kernels.R_NS])

    def _commit(self) -> None:
        """One transaction of what waits; only then are the slots given back."""
        book, records = self._book, self._records
        count = kernels.drain(book.journal, book.journal_numbers, self._own, records, records.view(np.float64))
        rows = self._rows(records[:count])
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, rows)
        self._connection.execute("COMMIT")
        kernels.give_back(book.journal, self._own, count)
        self.longest_ns = max(self.longest_ns, time.monotonic_ns() - rows[0][1])
        self.durable = rows[-1][0]
        self._book.control[kernels.ON_DISK] = self.durable
        self.commits += 1

    def _rows(self, records: np.ndarray) -> list[tuple[Any, ...]]:
        """Rows of a batch, built by column: a row at a time took longer than the database."""
        to_wall = time.time_ns() - time.monotonic_ns()
        whole, numbers = records[:, : kernels.R_ORDER], records.view(np.float64)
        operations, reasons = whole[:, kernels.R_OPERATION], numbers[:, kernels.R_REASON].astype(np.int64)
        why = np.where(operations == kernels.CHECK, CHECKED[reasons], SETTLED[np.minimum(reasons, len(SETTLED) - 1)])
        order = numbers[:, kernels.R_ORDER : kernels.R_ORDER + kernels.ORDER]
        price = _finite(order[:, kernels.PRICE])
        price[order[:, kernels.KIND] != kernels.LIMIT] = None
        columns = (
            whole[:, kernels.R_SEQUENCE],
            whole[:, kernels.R_NS],
            whole[:, kernels.R_NS] + to_wall,
            NAMED[operations],
            numbers[:, kernels.R_OF].astype(np.int64),
            _whole(order[:, kernels.ORDER_ID]),
            _names(self._accounts, order[:, kernels.ACCOUNT]),
            _names(self._symbols, order[:, kernels.SYMBOL]),
            _whole(order[:, kernels.SIDE]),
            _finite(order[:, kernels.QUANTITY]),
            price,
            DECIDED[numbers[:, kernels.R_DECISION].astype(np.int64)],
            why,
            numbers[:, kernels.R_ALLOWED],
            numbers[:, kernels.R_RESERVED],
        )
        return list(zip(*(column.tolist() for column in columns), strict=True))


def _names(names: tuple[str, ...], places: np.ndarray) -> np.ndarray:
    """Names by place; None where there is none."""
    known = (places >= 0) & (places < len(names)) & (places == np.floor(places))
    return np.array([*names, None], object)[np.where(known, places, len(names)).astype(np.int64)]


def _whole(values: np.ndarray) -> np.ndarray:
    found = np.where(np.abs(values) < 2**53, values, 0.0).astype(np.int64).astype(object)
    found[~(np.abs(values) < 2**53)] = None
    return found


def _finite(values: np.ndarray) -> np.ndarray:
    found = values.astype(object)
    found[~np.isfinite(values)] = None
    return found
