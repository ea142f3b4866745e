"""What the gate's database remembers, and the state that follows from it.

Three tables. ``journal`` holds every verdict, fill and release. ``control`` holds every instruction with who gave it
and why, and the committee's decision where one let it permit more, openings of accounts, the committee's keys and the
epochs that it has come to, and each start and end of a gate. ``checkpoint`` holds the newest copy of the positions,
so that a start reads what came after it and no more. Nothing here knows the compiled book.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.trading.gate.book import Account
from cluster.errors import InvalidPortfolio, SwarmError
from consensus.decisions import Decision
from hive.messages.gate import Action, Unmandated, Warrant
from hive.messages.orders import Mode, Order, Side

JOURNAL = "journal.sqlite"  # below the gate's directory
LAYOUT = 2
TIMEOUT_S = 0.05  # how long a write waits for another writer of the database
CONTROL_S = 2.0  # the same for an instruction, which a person waits for

TABLES = """
CREATE TABLE IF NOT EXISTS journal (
    sequence INTEGER PRIMARY KEY,
    ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    operation TEXT NOT NULL,
    order_sequence INTEGER NOT NULL,
    client_order_id INTEGER,
    account TEXT,
    symbol TEXT,
    side INTEGER,
    quantity REAL,
    limit_price REAL,
    decision TEXT NOT NULL,
    reason TEXT NOT NULL,
    allowed REAL NOT NULL,
    reserved REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS control (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    wall_ns INTEGER NOT NULL,
    action TEXT NOT NULL,
    body TEXT NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS checkpoint (
    sequence INTEGER NOT NULL,
    control INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
"""
DECIDED = """
ALTER TABLE control ADD COLUMN decision TEXT;
ALTER TABLE control ADD COLUMN evidence BLOB;
CREATE UNIQUE INDEX used ON control (decision);
"""
"""What layout 2 has beside layout 1: a decision of the committee is used once."""
INSERT = f"INSERT INTO journal VALUES ({', '.join('?' * 15)})"  # noqa: S608
WRITE = """
INSERT INTO control (wall_ns, action, body, operator, reason, decision, evidence) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
ALLOWED = """
SELECT sequence, ns, wall_ns, client_order_id, account, symbol, side, quantity, limit_price, allowed, reserved
FROM journal WHERE sequence > ? AND operation = 'CHECK' AND allowed > 0 ORDER BY sequence
"""
CHANGED = """
SELECT operation, order_sequence, account, symbol, side, quantity, limit_price, allowed
FROM journal WHERE sequence > ? AND operation <> 'CHECK' ORDER BY sequence
"""
RECENT = """
SELECT ns, wall_ns, client_order_id, account, symbol, side, quantity, limit_price
FROM journal WHERE operation = 'CHECK' AND allowed > 0
AND sequence > (SELECT coalesce(max(sequence), 0) FROM journal) - ? AND wall_ns > ? ORDER BY sequence
"""

OPEN, START, CLOSE, COMMITTEE, EPOCH = "open", "start", "close", "committee", "epoch"
"""What is written beside the instructions: an account's first holdings, a gate's beginning and end, the committee
that it saw first, and the newest epoch of it that was proved to the gate by more than a decision."""
ITSELF = Warrant("gate", "")
"""Who says what nobody had to say."""
MARKS: dict[str, tuple[str, bool]] = {
    Action.HALT: ("halted", True),
    Action.RESUME: ("halted", False),
    Action.RESTRICT: ("restricted", True),
    Action.PERMIT: ("restricted", False),
    Action.DISABLE: ("disabled", True),
    Action.ENABLE: ("disabled", False),
}
"""Instructions that put a name on a list or take it off."""


class JournalUnavailable(SwarmError):
    """The journal cannot be opened or brought to disk."""


@dataclass
class Reservation:
    """An order that was allowed and is not done."""

    client_order_id: int
    account: str
    symbol: str
    side: int
    allowed: float
    """Units."""
    filled: float
    reserved: float
    """Money a unit."""


@dataclass
class Recent:
    """An order that was allowed a moment ago, as the duplicate window must know it."""

    ns: int
    """Reading of the monotonic clock of this boot."""
    client_order_id: int
    account: str
    symbol: str
    side: int
    quantity: float
    limit_price: float | None

    def order(self) -> Order:
        """The order itself."""
        side = Side(self.side)
        return Order(self.client_order_id, self.account, self.symbol, side, self.quantity, self.limit_price)


@dataclass
class History:
    """What a gate that starts must know."""

    sequence: int = 0
    """Newest sequence number of which anything is known."""
    cash: dict[str, float] = field(default_factory=dict)
    units: dict[str, dict[str, float]] = field(default_factory=dict)
    """Signed, by account and symbol."""
    open: dict[int, Reservation] = field(default_factory=dict)
    """By sequence number."""
    recent: list[Recent] = field(default_factory=list)
    mode: Mode = Mode.FULL_PERFORMANCE
    halted: set[str] = field(default_factory=set)
    restricted: set[str] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)
    limits: dict[str, Any] = field(default_factory=dict)
    """Limits changed while a gate ran; they outlast the settings file."""
    kills: int = 0
    released: int = 0
    running: dict[str, Any] | None = None
    """Of the last gate that did not end in order: what it said when it started; None where it did."""
    unreconciled: bool = False
    """Whether a gate ended without order since somebody last confirmed the positions."""
    identity: str = ""
    """Of the gate, from its first start on."""
    committee: str = ""
    """Text of the first committee that a gate saw here; no other takes its place."""
    epoch: dict[str, Any] | None = None
    """Of that committee, the newest that was written down, as :func:`actors.trading.gate.mandate.epoch_facts` does."""

    def apply(self, action: str, body: Mapping[str, Any]) -> None:
        """Follow one row of control; positions are :meth:`move`'s."""
        if action in MARKS:
            marks, marked = MARKS[action]
            names = getattr(self, marks)
            names.add(body["name"]) if marked else names.discard(body["name"])
        elif action == Action.MODE:
            self.mode = Mode(body["mode"])
        elif action == Action.LIMITS:
            self.limits = {**self.limits, **body} if body else {}
        elif action == Action.KILL:
            self.kills = max(self.kills, body["kills"])
        elif action == Action.RELEASE_KILL:
            self.released = body["kills"]
        elif action == START:
            self.unreconciled = self.unreconciled or self.running is not None
            self.running = dict(body)
            self.identity = self.identity or body.get("gate", "")
        elif action == CLOSE:
            self.running = None
        elif action == COMMITTEE:
            self.committee = self.committee or body["text"]
        elif action == EPOCH:
            self.epoch = dict(body)
        elif action == Action.RECONCILE:
            self.unreconciled = False

    def move(self, body: Mapping[str, Any]) -> None:
        """Add holdings: those of an account that opens, or what a person found to differ."""
        for account, cash in body["cash"].items():
            self.cash[account] = self.cash.get(account, 0.0) + cash
        for account, units in body["units"].items():
            held = self.units.setdefault(account, {})
            for symbol, change in units.items():
                held[symbol] = held.get(symbol, 0.0) + change

    def held(self, account: str | None = None) -> set[str]:
        """Symbols in which there are positions or orders, of one account or of all."""
        units = self.units.values() if account is None else (self.units.get(account, {}),)
        held = {symbol for by_symbol in units for symbol, count in by_symbol.items() if count}
        return held | {order.symbol for order in self.open.values() if account in (None, order.account)}

    def plain(self) -> dict[str, Any]:
        """Positions and reservations, for a checkpoint."""
        return {
            "cash": self.cash,
            "units": self.units,
            "open": {str(sequence): vars(found) for sequence, found in self.open.items()},
        }


def opened(path: Path, timeout_s: float = TIMEOUT_S) -> sqlite3.Connection:
    """A connection that writes, every commit of it synchronised.

    Raises
    ------
    JournalUnavailable
        The file cannot be opened, or is no journal of this layout.
    """
    try:
        connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if layout not in ((1, LAYOUT) if tables else (0,)):
            raise JournalUnavailable(f"{path} has the layout {layout}, not {LAYOUT}", "Move it away, or give another")
        if layout != LAYOUT:
            lacking = DECIDED if tables else TABLES + DECIDED
            connection.executescript(f"BEGIN IMMEDIATE; {lacking} PRAGMA user_version={LAYOUT}; COMMIT")
    except sqlite3.Error as error:
        raise JournalUnavailable(f"the journal {path} cannot be opened ({error})", "Give another path") from error
    return connection


def restored(connection: sqlite3.Connection, *, boot: str, window_ns: int, most_recent: int) -> History:
    """State after the last row.

    Parameters
    ----------
    boot : str
        Identity of the machine's present boot; readings of the monotonic clock of another one are translated.
    window_ns, most_recent : int
        How far back, and how many records at most, are looked through for orders that still forbid their like.
    """
    found = History()
    base = connection.execute("SELECT sequence, control, body FROM checkpoint ORDER BY rowid DESC LIMIT 1").fetchone()
    seen = 0
    if base is not None:
        found.sequence, seen, body = base[0], base[1], json.loads(base[2])
        found.cash, found.units = body["cash"], body["units"]
        found.open = {int(sequence): Reservation(**fields) for sequence, fields in body["open"].items()}
    last: dict[str, Any] = {"boot": "", "sequence": 0}
    for number, action, text in connection.execute("SELECT id, action, body FROM control ORDER BY id"):
        body = json.loads(text)
        found.apply(action, body)
        if action in (OPEN, Action.RECONCILE) and number > seen:
            found.move(body)
        if action == START:
            last = body
    _replay(connection, found)
    (newest,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM journal").fetchone()
    found.sequence = max(found.sequence, newest, last["sequence"])
    now, wall = time.monotonic_ns(), time.time_ns()
    for ns, wall_ns, *fields in connection.execute(RECENT, (most_recent, wall - window_ns)):
        at = ns if last["boot"] == boot else now - max(0, wall - wall_ns)
        found.recent.append(Recent(min(at, now), *fields))
    return found


def _replay(connection: sqlite3.Connection, found: History) -> None:
    """Follow what was allowed, filled and released after the checkpoint."""
    since = found.sequence
    for sequence, _, _, number, account, symbol, side, _, _, allowed, reserved in connection.execute(ALLOWED, (since,)):
        found.open[sequence] = Reservation(number, account, symbol, side, allowed, 0.0, reserved)
    for operation, of, account, symbol, side, filled, price, changed in connection.execute(CHANGED, (since,)):
        order = found.open.get(of)
        if operation == "COMMIT":
            found.move({"cash": {account: -side * changed * price}, "units": {account: {symbol: side * changed}}})
            if order is not None:
                order.filled = filled
        if order is not None and (operation == "RELEASE" or filled == order.allowed):
            del found.open[of]


def enter(connection: sqlite3.Connection, found: History, account: Account, prices: Mapping[str, float]) -> None:
    """Open an account with what it brings, unless it is known.

    Raises
    ------
    InvalidPortfolio
        It holds a symbol that has no price.
    JournalUnavailable
        It is not on disk.
    """
    if account.name in found.cash:
        return
    for symbol, units in account.positions.items():
        if units and symbol not in prices:
            raise InvalidPortfolio(f"{account.name} holds {symbol}, which has no price", "Give its last price")
    body = {"cash": {account.name: account.cash}, "units": {account.name: dict(account.positions)}}
    write_control(connection, OPEN, body, ITSELF)
    found.move(body)


def write_control(
    connection: sqlite3.Connection,
    action: str,
    body: Mapping[str, Any],
    by: Warrant,
    decision: Decision | None = None,
    evidence: bytes | None = None,
) -> None:
    """One row of control, on disk when this returns; ``evidence`` is what proves a row that rests on no decision.

    Raises
    ------
    Unmandated
        The committee's decision was used before, in whatever life of the gate; nothing is written.
    JournalUnavailable
        It is not.
    """
    proof = (None, evidence) if decision is None else (decision.id.hex(), decision.evidence)
    row = (time.time_ns(), action, json.dumps(body), by.operator, by.reason, *proof)
    try:
        connection.execute(WRITE, row)
    except sqlite3.Error as error:
        if decision is not None and isinstance(error, sqlite3.IntegrityError):
            raise Unmandated(f"the decision {proof[0]} was used before", "Propose it again") from error
        raise JournalUnavailable(f"{action} could not be brought to disk ({error})", "Look at the disk") from error


def newest_evidence(connection: sqlite3.Connection) -> bytes:
    """What proves the decision that was obeyed last; empty where none was."""
    row = connection.execute("SELECT evidence FROM control WHERE decision IS NOT NULL ORDER BY id DESC LIMIT 1")
    return next((bytes(evidence) for (evidence,) in row), b"")


def write_checkpoint(connection: sqlite3.Connection, sequence: int, body: Mapping[str, Any]) -> None:
    """Replace the checkpoint; whoever calls sees to it that no control is written meanwhile."""
    (control,) = connection.execute("SELECT coalesce(max(id), 0) FROM control").fetchone()
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM checkpoint")
        connection.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (sequence, control, json.dumps(body)))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise JournalUnavailable(f"no checkpoint could be written ({error})", "Look at the disk") from error


def newest(path: Path, count: int) -> dict[str, list[dict[str, Any]]]:
    """The newest rows of journal and control, newest first. Needs no gate, and changes nothing.

    Raises
    ------
    JournalUnavailable
        There is no journal, or it cannot be read.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=CONTROL_S)
        try:
            connection.row_factory = sqlite3.Row
            for table, key in (("journal", "sequence"), ("control", "id")):
                query = f"SELECT * FROM {table} ORDER BY {key} DESC LIMIT ?"  # noqa: S608
                rows = [dict(row) for row in connection.execute(query, (count,))]
                found[table] = [
                    {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
                    for row in rows
                ]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise JournalUnavailable(f"the journal {path} cannot be read ({error})", "Run `swarm up` first") from error
    return found
