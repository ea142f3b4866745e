"""The pre-trade gate in its process: how it begins, answers orders, follows its market, and ends.

One thread owns the book and judges. What else the gate is told, and by whom, is :mod:`.control`'s: others change limits
through a page that the thread reads whole or not at all, and close the gate through a word that it looks at before
every order. Whatever cannot be judged is rejected. What the gate knows it can find again in its journal.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from actors.trading.gate import entries, switch
from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate.book import Account, Instrument
from actors.trading.gate.control import MOST_ACCOUNTS, MOST_SYMBOLS, Control
from actors.trading.gate.entries import Market
from actors.trading.gate.history import CONTROL_S, History, enter, opened, restored
from actors.trading.gate.journal import Journal
from actors.trading.gate.numbers import numbers_of, status_of, tick_numbers, verdict_of
from actors.trading.gate.settings import GateSettings
from cluster.errors import InvalidMarketData, InvalidPortfolio, InvalidRequest, SwarmError
from cluster.lanes.addresses import LaneAddress
from cluster.lanes.layout import OK, SLOT_HEADER
from cluster.lanes.port import Port, PortStatus
from hive.messages.fast import boot_id
from hive.messages.gate import GateFacts, GateStatus
from hive.messages.orders import Operation, Order, Outcome, Verdict

SLOTS = 32
SLOT_WORDS = kernels.LARGEST + SLOT_HEADER
LOOK_S = 0.02  # between looks at what others have written to the gate's words
CHECKPOINT_EVERY = 200_000  # records, which a start reads in about a second


class Gate:
    """The gate. It serves until :meth:`close`; one process owns it.

    An account's cash and positions are those it opens with; from then on the journal knows better. After an end
    without order the gate permits reductions only, until :meth:`.Control.reconcile`.

    Parameters
    ----------
    covariance : ndarray of shape (n_symbols, n_symbols)
        Of daily returns, in the instruments' order.
    prices : mapping
        Last prices by symbol; every held symbol needs one. They value the book, and count as stale until a tick.
    journal : Path
        SQLite file; one that exists is continued. The kill switch lies beside it.
    committee : Path, optional
        Where the public keys of the first committee are, or will be. Once the gate has seen it, what permits more needs
        this committee's decision for ever: the journal keeps the keys, and a later file changes nothing.

    Raises
    ------
    InvalidPortfolio, InvalidMarketData
        A name is unknown or twice there, a held symbol has no price, or the covariance is none.
    LanesUnavailable, JournalUnavailable
        No shared memory, or no file.
    """

    facts: GateFacts
    control: Control
    """What the gate is told: instructions, limits, the kill switch."""
    journal: Journal
    port: Port
    _market: Market
    _book: kernels.Book

    def __init__(
        self,
        *,
        settings: GateSettings,
        instruments: Sequence[Instrument],
        accounts: Sequence[Account],
        covariance: np.ndarray,
        prices: Mapping[str, float],
        journal: Path,
        strategy: str = "park",
        committee: Path | None = None,
    ) -> None:
        symbols, names = tuple(i.symbol for i in instruments), tuple(a.name for a in accounts)
        if len(set(symbols)) < len(symbols) or len(set(names)) < len(names) or not symbols or not names:
            raise InvalidPortfolio("a symbol or an account is there twice, or there is none", "Name each once")
        self._market = Market(symbols, np.asarray(covariance, np.float64), dict(prices))
        self.directory = journal.parent
        self.snapshot_id = ""
        self._life = secrets.token_hex(8)
        self._settings, self._accounts = settings, tuple(accounts)
        self._closing, self._closed = threading.Lock(), threading.Event()
        self._reply = np.zeros(kernels.LARGEST)
        database = opened(journal, CONTROL_S)
        try:
            self._come_back(database, tuple(instruments), committee)
            self._serve(journal, strategy)
        except BaseException:
            database.close()
            raise

    def check(self, order: Order) -> Verdict:
        """Judge an order as a lane would, and reserve what is allowed.

        Raises
        ------
        LaneLost
            The gate is closed for good.
        """
        return verdict_of(self.ask(Operation.CHECK, numbers_of(self.facts, order)))

    def commit(self, sequence: int, filled: float, price: float) -> Outcome:
        """A fill of an order: ``filled`` units of it in all until now, the new ones at ``price``."""
        return Outcome(int(self.ask(Operation.COMMIT, np.array([sequence, filled, price], np.float64))[0]))

    def release(self, sequence: int) -> Outcome:
        """An order that the market cancelled or rejected: what of it is not filled is free again."""
        return Outcome(int(self.ask(Operation.RELEASE, np.array([sequence], np.float64))[0]))

    def tick(self, symbol: str, price: float, ns: int) -> Outcome:
        """A last price that was true at a reading of the monotonic clock."""
        return Outcome(int(self.ask(Operation.TICK, tick_numbers(self.facts, symbol, price, ns))[0]))

    def take_prices(self, prices: Mapping[str, float], ns: int) -> None:
        """Last prices that were true at a reading of the monotonic clock; symbols that the gate lacks are left out."""

        def tick() -> None:
            now = time.monotonic_ns()
            for place, symbol in enumerate(self.facts.symbols):
                price = prices.get(symbol)
                if price is not None:
                    kernels.tick(place, price, ns, now, self._book)

        self.port.do(tick)

    def status(self) -> dict[str, int]:
        """Counters of the gate and its journal."""
        return status_of(self.ask(Operation.STATUS, np.empty(0))) | {"longest_ns": self.journal.longest_ns}

    def ask(self, operation: int, question: np.ndarray) -> np.ndarray:
        """Numbers that an operation gives, for callers who have no lane.

        Raises
        ------
        InvalidRequest
            Too few or too many numbers, or no such operation.
        LaneLost
            The gate is closed for good.
        """

        def answer() -> np.ndarray:
            code, count = kernels.answer(int(operation), question, self._reply, time.monotonic_ns(), self._book)
            if code != OK:
                raise InvalidRequest(f"{question.size} numbers for the operation {int(operation)}", "Correct them")
            return self._reply[:count].copy()

        return self.port.do(answer)

    def describe(self) -> GateStatus:
        """Everything that a person must know of the gate."""
        holdings, counters = self.port.do(self._holdings), self.status()
        now, settings = time.monotonic_ns(), self.control.settings
        ages = now - self._book.ticked
        fresh = (ages >= 0) & (ages <= settings.stale_after_s * 1e9) & (self._book.prices > 0)
        accounts: dict[str, dict[str, Any]] = {
            account.name: {
                "cash": holdings.cash[account.name],
                "loan": account.loan,
                "positions": {s: units for s, units in holdings.units[account.name].items() if units},
                "open": {n: vars(order) for n, order in holdings.open.items() if order.account == account.name},
            }
            for account in self._accounts
        }
        return GateStatus(
            **self.control.told(),
            accounts=accounts,
            counters=counters,
            stale=tuple(s for s, ok in zip(self.facts.symbols, fresh.tolist(), strict=True) if not ok),
            durable=counters["durable"],
            longest_ns=self.journal.longest_ns,
            most_lost=settings.journal_size,
            journal_error=self.journal.error or "",
            snapshot_id=self.snapshot_id,
        )

    def lanes(self) -> PortStatus:
        """What the lanes have carried; lanes of callers that are gone are freed before."""
        self.port.sweep()
        return self.port.status()

    def open(self, pid: int, started_ticks: int, strategy: str = "park") -> LaneAddress:
        """A lane for a process of this machine."""
        return self.port.open(pid, started_ticks, strategy)

    def renew(self, instruments: Sequence[Instrument], covariance: np.ndarray, prices: Mapping[str, float]) -> None:
        """Another market: its covariance, its symbols beside those known, its prices where no tick has come.

        Raises
        ------
        InvalidMarketData
            It lacks a symbol in which there are positions or orders; the old market stays.
        """
        symbols = tuple(i.symbol for i in instruments)
        market = Market(symbols, np.asarray(covariance, np.float64), dict(prices))
        with self.control.lock:
            known = {i.symbol: i for i in (*self.control.instruments, *instruments)}

            def exchange() -> None:
                lost = sorted(self._holdings().held() - set(symbols))
                if lost:
                    raise InvalidMarketData(f"the snapshot lacks {lost[0]}, which is held", "Give one that has it")
                self.facts, self._market = self._facts(self.facts.identity, tuple(known)), market
                self.control.admit(tuple(known.values()))
                self.journal.extend(self.facts.symbols)
                self._book = kernels.widened(self._book, len(self.facts.symbols))
                entries.value(self._book, self.facts, market)
                kernels.current(self._book)
                self.port.about(self.facts.tag)

            self.port.do(exchange)

    def checkpoint(self) -> None:
        """Write down where positions stand, so that the next start reads what comes after.

        Raises
        ------
        JournalUnavailable
            It is not on disk.
        """
        self._checkpointed = self.control.checkpoint()

    def close(self) -> None:
        """Stop serving, then bring the journal to disk. Twice does no harm.

        Raises
        ------
        JournalUnavailable
            Some records are not durable; the next gate will not take this for an end in order.
        """
        with self._closing:
            if self._closed.is_set():
                return
            self._closed.set()
            self._watcher.join()
            self.port.stop()
            self._thread.join()
            try:
                self.journal.close()
                self.control.end(self._holdings())
            finally:
                self.control.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _come_back(
        self, database: sqlite3.Connection, instruments: tuple[Instrument, ...], committee: Path | None
    ) -> None:
        """Find what is remembered, and put it into a new book."""
        settings, names, symbols = self._settings, tuple(a.name for a in self._accounts), self._market.symbols
        window_ns = int(settings.duplicate_window_s * 1e9)
        found = restored(database, boot=boot_id(), window_ns=window_ns, most_recent=settings.recent_orders // 2)
        found.identity = found.identity or secrets.token_hex(16)
        for account in self._accounts:
            enter(database, found, account, self._market.prices)
        gone = [name for name in found.cash if name not in names and found.held(name)]
        if gone:
            raise InvalidPortfolio(f"{gone[0]} has positions or orders and is not in the book", "Put it back")
        lost = sorted(found.held() - set(symbols))
        self.facts = self._facts(found.identity, (*symbols, *lost))
        self.control = Control(
            database,
            found,
            settings=settings,
            instruments=(*instruments, *map(Instrument, lost)),
            accounts=self._accounts,
            directory=self.directory,
            committee=committee,
            holdings=lambda: self.port.do(self._holdings),
            add=lambda body: self.port.do(lambda: entries.add(self._book, self.facts, self._market, body)),
        )
        book = kernels.new_book(
            len(names), len(self.facts.symbols), settings.open_orders, settings.recent_orders, settings.journal_size
        )
        self._book = book._replace(control=self.control.words)
        entries.restore(self._book, self.facts, found, self._market)
        self._book.cursor[kernels.SEQUENCE] = self._book.control[kernels.ON_DISK] = self.control.start
        self._checkpointed = self.control.start

    def _serve(self, journal: Path, strategy: str) -> None:
        """Open journal and lanes, write down that a gate begins, and let it judge."""
        settings, facts = self._settings, self.facts
        self.journal = Journal(
            journal,
            self._book,
            facts.accounts,
            facts.symbols,
            batch=settings.journal_batch,
            flush_s=settings.journal_flush_s,
        )
        self.port = Port(
            lanes=settings.lanes, slots=SLOTS, slot_words=SLOT_WORDS, strategy=strategy, spins=settings.spins
        )
        self.port.about(facts.tag)
        self._thread = threading.Thread(target=self.port.serve, args=(lambda: self._loop,), name="gate", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="gate-watch", daemon=True)
        self.control.begin()
        self.journal.start()
        self._thread.start()
        switch.publish(self.directory, self.control.address)
        self._watcher.start()

    def _loop(
        self, words: np.ndarray, numbers: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray
    ) -> int:
        return int(kernels.serve(words, numbers, active, own, hand, self._book))

    def _watch(self) -> None:
        """Look at the words that others write, and keep the next start short."""
        while not self._closed.wait(LOOK_S):
            with suppress(SwarmError, OSError):  # a disk that refuses: the journal says so, and this tries again
                if self.control.unwritten_kills:
                    self._closed.wait(LOOK_S)  # whoever threw the switch writes who they are just now
                    self.control.note_kills()
                self.control.look_for_committee()
                if self._book.control[switch.RETIRE]:  # not by this thread, which whoever closes waits for
                    threading.Thread(target=self._retire, name="gate-retire", daemon=True).start()
                    return
                if self._book.cursor[kernels.SEQUENCE] - self._checkpointed > CHECKPOINT_EVERY:
                    self.checkpoint()

    def _retire(self) -> None:
        with suppress(SwarmError):  # what is not durable the next gate will say
            self.close()

    def _holdings(self) -> History:
        """On the serving thread, or after its end."""
        return entries.holdings(self._book, self.facts)

    def _facts(self, identity: str, symbols: tuple[str, ...]) -> GateFacts:
        accounts = tuple(a.name for a in self._accounts)
        if len(symbols) > MOST_SYMBOLS or len(accounts) > MOST_ACCOUNTS:
            raise InvalidMarketData(
                f"{len(symbols)} symbols and {len(accounts)} accounts",
                f"The gate has room for {MOST_SYMBOLS} and {MOST_ACCOUNTS}",
            )
        life = self._life  # a question of another life of the gate must not be taken for one of this
        name = hashlib.sha256("\n".join((life, *accounts, "", *symbols)).encode()).digest()
        tag = int.from_bytes(name[:7], "big") | 1
        return GateFacts(accounts, symbols, self._settings.patience_s, tag, str(self.directory), identity)
