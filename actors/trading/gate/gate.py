"""The pre-trade gate in its process: its book, its journal, its lanes, and the instructions it takes.

One thread owns the book and judges; others change limits through a page that it reads whole or not at all, and close
the gate through a word that it looks at before every order. Whatever cannot be judged is rejected. What the gate knows
it can find again: verdicts in its journal, instructions on disk before they take effect where they permit more.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate import mandate, switch
from actors.trading.gate.book import Account, Instrument
from actors.trading.gate.history import (
    CLOSE,
    COMMITTEE,
    CONTROL_S,
    MARKS,
    OPEN,
    START,
    History,
    Reservation,
    newest_evidence,
    opened,
    restored,
    write_checkpoint,
    write_control,
)
from actors.trading.gate.journal import Journal
from actors.trading.gate.mandate import Shown, Trust, finite, mode_of
from actors.trading.gate.numbers import numbers_of, place_in, status_of, tick_numbers, verdict_of
from actors.trading.gate.settings import LIMITS, LOOSER_BELOW, GateSettings
from cluster.errors import (
    InvalidInput,
    InvalidMarketData,
    InvalidPortfolio,
    InvalidRequest,
    InvalidSettings,
    SwarmError,
)
from cluster.lanes.layout import LINE, OK, SLOT_HEADER
from cluster.lanes.memory import SharedWords
from cluster.lanes.page import write
from cluster.lanes.peer import started
from cluster.lanes.port import LaneAddress, Port, PortStatus
from consensus import decisions
from hive.messages.fast import boot_id
from hive.messages.gate import Action, GateFacts, GateStatus, Instruction, Warrant
from hive.messages.orders import Mode, Operation, Order, Outcome, Verdict

SLOTS = 32
SLOT_WORDS = kernels.LARGEST + SLOT_HEADER
MOST_SYMBOLS, MOST_ACCOUNTS = 4096, 256  # what the page of limits has room for
LOOK_S = 0.02  # between looks at what others have written to the gate's words
CHECKPOINT_EVERY = 200_000  # records, which a start reads in about a second
ITSELF = Warrant("gate", "")


class Gate:
    """The gate. It serves until :meth:`close`; one process owns it.

    An account's cash and positions are those it opens with; from then on the journal knows better. After an end
    without order the gate permits reductions only, until :meth:`reconcile`.

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
    journal: Journal
    port: Port
    _instruments: tuple[Instrument, ...]
    _trust: Trust | None
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
        _require_covariance(covariance, len(symbols))
        self.directory = journal.parent
        self.snapshot_id = ""
        self._life = secrets.token_hex(8)
        self._settings, self._accounts = settings, tuple(accounts)
        self._control = threading.RLock()
        self._database = opened(journal, CONTROL_S)
        window_ns = int(settings.duplicate_window_s * 1e9)
        self._history = restored(
            self._database, boot=boot_id(), window_ns=window_ns, most_recent=settings.recent_orders // 2
        )
        self._history.identity = self._history.identity or secrets.token_hex(16)
        self._committee, self._trust = committee, None
        try:
            self._come_back(tuple(instruments), covariance, prices, journal, strategy)
        except BaseException:
            self._database.close()
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
        now, found, settings = time.monotonic_ns(), self._history, self._settings_now
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
            mode=self._mode().name,
            unreconciled=found.unreconciled,
            killed=self.killed,
            kills=self.kills,
            halted=tuple(sorted(found.halted)),
            restricted=tuple(sorted(found.restricted)),
            disabled=tuple(sorted(found.disabled)),
            limits={name: getattr(settings, name) for name in LIMITS},
            changed_limits=tuple(n for n in LIMITS if getattr(settings, n) != getattr(self._settings, n)),
            accounts=accounts,
            counters=counters,
            stale=tuple(s for s, ok in zip(self.facts.symbols, fresh.tolist(), strict=True) if not ok),
            durable=counters["durable"],
            longest_ns=self.journal.longest_ns,
            most_lost=settings.journal_size,
            journal_error=self.journal.error or "",
            snapshot_id=self.snapshot_id,
            committee="" if self._trust is None else self._trust.first.chain.hex(),
        )

    def lanes(self) -> PortStatus:
        """What the lanes have carried; lanes of callers that are gone are freed before."""
        self.port.sweep()
        return self.port.status()

    def open(self, pid: int, started_ticks: int, strategy: str = "park") -> LaneAddress:
        """A lane for a process of this machine."""
        return self.port.open(pid, started_ticks, strategy)

    @property
    def address(self) -> switch.SwitchAddress:
        """Where a :class:`~actors.trading.gate.switch.KillSwitch` finds the gate."""
        return switch.SwitchAddress(os.getpid(), started(os.getpid()), self._memory.descriptor)

    @property
    def killed(self) -> bool:
        """Whether the gate is closed."""
        return switch.closed(self._book.control)

    @property
    def kills(self) -> int:
        """Times that the switch was thrown."""
        return int(self._book.control[switch.KILLS])

    def obey(self, instruction: Instruction) -> Any:
        """Carry out an instruction: what permits less takes effect and is then written, what permits more the reverse.

        Raises
        ------
        Unwarranted, InvalidRequest, InvalidSettings
            It permits more and lacks an operator or a reason, or its body is not what its action needs.
        Unmandated
            It permits more, and no decision of the gate's committee came with it that says so.
        JournalUnavailable
            It could not be brought to disk. What permits less holds nevertheless, while this gate lives.
        """
        body, by = instruction.body, instruction.by
        if instruction.action in MARKS:
            return self._mark(instruction.action, str(body.get("name")), by)
        if instruction.action is Action.KILL:
            return self.kill(by)
        if instruction.action is Action.RELEASE_KILL:
            return self.release_kill(int(body.get("kills", -1)), by)
        if instruction.action is Action.MODE:
            return self.set_mode(mode_of(body.get("mode")), by)
        if instruction.action is Action.LIMITS:
            return self.set_limits(body, by)
        return self.reconcile(body.get("positions", {}), body.get("cash", {}), by)

    def kill(self, by: Warrant = ITSELF) -> int:
        """Close the gate for the very next order; latched. How many kills there were, this included."""
        thrown = switch.throw(self._book.control)
        with self._control:
            self._note_kills(by)
        return thrown

    def release_kill(self, kills: int, by: Warrant) -> bool:
        """Whether the gate is open again, for a person who has seen so many kills; a later one keeps it closed.

        Raises
        ------
        InvalidRequest
            More than there were, or fewer than were released before.
        """
        shown = self._shown(by)
        by.loosen()
        written = switch.written_kills(self.directory)  # before the count is looked at: later ones stay
        with self._control:
            words = self._book.control
            if not int(words[switch.RELEASED]) <= kills <= self.kills:
                raise InvalidRequest(f"{kills} kills to release; there were {self.kills}", "Look at the gate's `kills`")
            last = kills == self.kills
            self._note_kills(ITSELF)
            body = {"kills": kills}
            self._permit(Action.RELEASE_KILL, body, by, shown)
            if last and written:
                for path in written:
                    path.unlink(missing_ok=True)
                switch.sync(self.directory / switch.KILLED)
            self._history.apply(Action.RELEASE_KILL, body)
            words[switch.RELEASED] = kills
            return not self.killed

    def set_limits(self, changes: Mapping[str, float], by: Warrant) -> None:
        """Other limits, for the very next order; none at all takes them back to the settings.

        Raises
        ------
        InvalidSettings
            A name is no limit, or a value is out of its range.
        """
        shown = self._shown(by)
        with self._control:
            before = self._settings_now
            overrides = {**self._history.limits, **changes} if changes else {}
            after = _validated(self._settings, overrides)
            loosens = any(
                getattr(after, n) < getattr(before, n) if n in LOOSER_BELOW else getattr(after, n) > getattr(before, n)
                for n in LIMITS
            )
            self._carry_out(Action.LIMITS, dict(changes), by, shown, loosens=loosens)

    def set_mode(self, mode: Mode, by: Warrant) -> None:
        """Permit everything, reductions only, or nothing."""
        shown = self._shown(by)
        with self._control:
            loosens = mode < self._history.mode
            self._carry_out(Action.MODE, {"mode": mode}, by, shown, loosens=loosens)

    def halt(self, symbol: str, by: Warrant = ITSELF) -> None:
        """The market in a symbol is halted."""
        self._mark(Action.HALT, symbol, by)

    def resume(self, symbol: str, by: Warrant) -> None:
        """The market in a symbol is open again."""
        self._mark(Action.RESUME, symbol, by)

    def restrict(self, symbol: str, by: Warrant = ITSELF) -> None:
        """Nobody may trade a symbol."""
        self._mark(Action.RESTRICT, symbol, by)

    def permit(self, symbol: str, by: Warrant) -> None:
        """A symbol may be traded again."""
        self._mark(Action.PERMIT, symbol, by)

    def disable(self, account: str, by: Warrant = ITSELF) -> None:
        """An account may not trade."""
        self._mark(Action.DISABLE, account, by)

    def enable(self, account: str, by: Warrant) -> None:
        """An account may trade again."""
        self._mark(Action.ENABLE, account, by)

    def reconcile(
        self, positions: Mapping[str, Mapping[str, float]], cash: Mapping[str, float], by: Warrant
    ) -> dict[str, Any]:
        """Positions by account and symbol, and cash by account, as they truly are; what is not named is confirmed.

        Reservations stay: release those that the market does not know. Returns what differed, as it was added.

        Raises
        ------
        InvalidRequest
            An account or symbol is unknown, or a number is not finite.
        """
        shown = self._shown(by)
        by.loosen()
        for account, units in positions.items():
            place_in(self.facts.accounts, account)
            for symbol, held in units.items():
                place_in(self.facts.symbols, symbol)
                finite(held)
        for account, money in cash.items():
            place_in(self.facts.accounts, account)
            finite(money)
        with self._control:
            now = self.port.do(self._holdings)
            body: dict[str, Any] = {
                "cash": {account: money - now.cash[account] for account, money in cash.items()},
                "units": {
                    account: {symbol: held - now.units[account].get(symbol, 0.0) for symbol, held in units.items()}
                    for account, units in positions.items()
                },
            }
            self._permit(Action.RECONCILE, body, by, shown, said={"positions": positions, "cash": cash})
            self._history.apply(Action.RECONCILE, body)
            self.port.do(lambda: self._add(body))
            self._write()
        return body

    def renew(self, instruments: Sequence[Instrument], covariance: np.ndarray, prices: Mapping[str, float]) -> None:
        """Another market: its covariance, its symbols beside those known, its prices where no tick has come.

        Raises
        ------
        InvalidMarketData
            It lacks a symbol in which there are positions or orders; the old market stays.
        """
        symbols = tuple(i.symbol for i in instruments)
        _require_covariance(covariance, len(symbols))
        with self._control:
            known = {i.symbol: i for i in self._instruments} | {i.symbol: i for i in instruments}
            market = symbols, np.asarray(covariance, np.float64), dict(prices)

            def exchange() -> None:
                holdings = self._holdings()
                held = {s for units in holdings.units.values() for s, count in units.items() if count}
                held |= {order.symbol for order in holdings.open.values()}
                if held - set(symbols):
                    raise InvalidMarketData(
                        f"the snapshot lacks {sorted(held - set(symbols))[0]}, which is held", "Give one that has it"
                    )
                self._instruments, self._market = tuple(known.values()), market
                self.facts = self._facts(self.facts.accounts)
                self.journal.extend(self.facts.symbols)
                self._book = kernels.widened(self._book, len(self.facts.symbols))
                self._value()
                self._write()
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
        with self._control:
            self._keep(self.port.do(self._holdings))

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
                with self._control:
                    self._note_kills(ITSELF)
                    self._keep(self._holdings())
                    write_control(self._database, CLOSE, {}, ITSELF)
            finally:
                self._database.close()
                self._book.control[switch.RETIRED] = 1
                self._memory.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _come_back(
        self,
        instruments: tuple[Instrument, ...],
        covariance: np.ndarray,
        prices: Mapping[str, float],
        journal: Path,
        strategy: str,
    ) -> None:
        """Build everything from what is remembered, write down that a gate begins, and serve."""
        settings, names = self._settings, tuple(a.name for a in self._accounts)
        symbols = tuple(i.symbol for i in instruments)
        found = self._history
        self._settings_now = replace(settings, **{k: v for k, v in found.limits.items() if k in LIMITS})
        for account in self._accounts:
            self._open(account, prices)
        gone = [name for name in found.cash if name not in names and self._busy(name)]
        if gone:
            raise InvalidPortfolio(f"{gone[0]} has positions or orders and is not in the book", "Put it back")
        lost = sorted(self._held() - set(symbols))
        self._instruments = (*instruments, *(Instrument(symbol) for symbol in lost))
        self._market = symbols, np.asarray(covariance, np.float64), dict(prices)
        self.facts = self._facts(names)
        unclean = found.running
        start = found.sequence + (unclean["journal_size"] if unclean is not None else 0)
        said = {"boot": boot_id(), "journal_size": settings.journal_size, "sequence": start, "clean": unclean is None}
        said["gate"] = found.identity
        found.apply(START, said)
        words = kernels.LIMITS_AT + LINE + kernels.limits_size(MOST_ACCOUNTS, MOST_SYMBOLS)
        self._memory = SharedWords.create("riskswarm-gate", words)
        book = kernels.new_book(
            len(names), len(self.facts.symbols), settings.open_orders, settings.recent_orders, settings.journal_size
        )
        self._book = book._replace(control=self._memory.words)
        self._restore_kills()
        self._restore()
        self._book.cursor[kernels.SEQUENCE] = start
        self._checkpointed = start
        self.journal = Journal(
            journal,
            self._book,
            names,
            self.facts.symbols,
            batch=settings.journal_batch,
            flush_s=settings.journal_flush_s,
        )
        self._book.control[kernels.ON_DISK] = start
        self.port = Port(
            lanes=settings.lanes, slots=SLOTS, slot_words=SLOT_WORDS, strategy=strategy, spins=settings.spins
        )
        self.port.about(self.facts.tag)
        self._reply = np.zeros(kernels.LARGEST)
        self._closing, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self.port.serve, args=(lambda: self._loop,), name="gate", daemon=True)
        with suppress(InvalidInput):  # what permits more will say it; what permits less need not wait for a mended file
            self._meet()
        write_control(self._database, START, said, ITSELF)  # before the first order, after all that may fail
        self.journal.start()
        self._thread.start()
        switch.publish(self.directory, self.address)
        self._watcher = threading.Thread(target=self._watch, name="gate-watch", daemon=True)
        self._watcher.start()

    def _loop(
        self, words: np.ndarray, numbers: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray
    ) -> int:
        return int(kernels.serve(words, numbers, active, own, hand, self._book))

    def _watch(self) -> None:
        """Look at the words that others write, and keep the next start short."""
        while not self._closed.wait(LOOK_S):
            with suppress(SwarmError, OSError):  # a disk that refuses: the journal says so, and this tries again
                if self.kills > self._history.kills:
                    self._closed.wait(LOOK_S)  # whoever threw the switch writes who they are just now
                    with self._control:
                        self._note_kills(switch.last_kill(self.directory) or ITSELF)
                if self._trust is None and self._committee is not None and self._committee.exists():
                    with self._control:
                        self._meet()
                if self._book.control[switch.RETIRE]:  # not by this thread, which whoever closes waits for
                    threading.Thread(target=self._retire, name="gate-retire", daemon=True).start()
                    return
                if self._book.cursor[kernels.SEQUENCE] - self._checkpointed > CHECKPOINT_EVERY:
                    self.checkpoint()

    def _retire(self) -> None:
        with suppress(SwarmError):  # what is not durable the next gate will say
            self.close()

    def _carry_out(
        self, action: Action, body: dict[str, Any], by: Warrant, shown: Shown | None, *, loosens: bool
    ) -> None:
        """What permits more is durable before it holds; what permits less holds before it is durable."""
        if loosens:
            by.loosen()
            self._permit(action, body, by, shown)
        self._history.apply(action, body)
        self._settings_now = replace(self._settings, **self._history.limits)
        self._write()
        if not loosens:
            write_control(self._database, action, body, by)

    def _mark(self, action: Action, name: str, by: Warrant) -> None:
        place_in(self.facts.accounts if action in (Action.DISABLE, Action.ENABLE) else self.facts.symbols, name)
        shown = self._shown(by)
        with self._control:
            self._carry_out(action, {"name": name}, by, shown, loosens=not MARKS[action][1])

    def _shown(self, by: Warrant) -> Shown | None:
        """What came with a warrant; proved before anything is held that what tightens might wait for."""
        return None if self._trust is None else mandate.examined(self._trust.first, by)

    def _permit(
        self,
        action: Action,
        body: Mapping[str, Any],
        by: Warrant,
        shown: Shown | None,
        *,
        said: Mapping[str, Any] | None = None,
    ) -> None:
        """Bring what permits more to disk, with the decision that it needs where the gate has a committee.

        ``said`` is what was instructed, where another thing is written.
        """
        if self._trust is None and not self._meet():
            write_control(self._database, action, body, by)
            return
        assert self._trust is not None
        shown = shown or mandate.examined(self._trust.first, by)  # the committee has only just been met
        about = body if said is None else said
        decision, trust = mandate.required(self._trust, shown, self.facts.identity, action, about, time.time_ns())
        write_control(self._database, action, body, by, decision)
        self._trust = trust

    def _meet(self) -> bool:
        """Whether there is a committee; the first one that is found is kept in the journal, and no other after it.

        Raises
        ------
        InvalidInput
            Its file cannot be read, or holds none: then nobody knows who may permit more, and nobody may.
        """
        if not self._history.committee:
            if self._committee is None:
                return False
            try:
                text = self._committee.read_text()
            except FileNotFoundError:
                return False
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidInput(f"{self._committee} cannot be read ({error})", "Restore the file") from error
            decisions.committee_of(text, str(self._committee))
            body = {"text": text}
            write_control(self._database, COMMITTEE, body, ITSELF)
            self._history.apply(COMMITTEE, body)
        first = decisions.committee_of(self._history.committee, "the gate's journal")
        evidence = newest_evidence(self._database)
        newest = decisions.certified(first, evidence).known[-1] if evidence else first
        self._trust = Trust(first, newest)
        return True

    def _note_kills(self, by: Warrant) -> None:
        if self.kills > self._history.kills:
            body = {"kills": self.kills}
            write_control(self._database, Action.KILL, body, by)
            self._history.apply(Action.KILL, body)

    def _mode(self) -> Mode:
        return max(self._history.mode, Mode.SAFE_MODE if self._history.unreconciled else Mode.FULL_PERFORMANCE)

    def _keep(self, holdings: History) -> None:
        write_checkpoint(self._database, holdings.sequence, holdings.plain())
        self._checkpointed = holdings.sequence

    def _open(self, account: Account, prices: Mapping[str, float]) -> None:
        """Enter what an account brings, unless it is known."""
        if account.name in self._history.cash:
            return
        for symbol, units in account.positions.items():
            if units and symbol not in prices:
                raise InvalidPortfolio(f"{account.name} holds {symbol}, which has no price", "Give its last price")
        body = {"cash": {account.name: account.cash}, "units": {account.name: dict(account.positions)}}
        write_control(self._database, OPEN, body, ITSELF)
        self._history.move(body)

    def _busy(self, account: str) -> bool:
        found = self._history
        return any(found.units.get(account, {}).values()) or any(o.account == account for o in found.open.values())

    def _held(self) -> set[str]:
        found = self._history
        held = {symbol for units in found.units.values() for symbol, count in units.items() if count}
        return held | {order.symbol for order in found.open.values()}

    def _facts(self, accounts: tuple[str, ...]) -> GateFacts:
        symbols = tuple(i.symbol for i in self._instruments)
        if len(symbols) > MOST_SYMBOLS or len(accounts) > MOST_ACCOUNTS:
            raise InvalidMarketData(
                f"{len(symbols)} symbols and {len(accounts)} accounts",
                f"The gate has room for {MOST_SYMBOLS} and {MOST_ACCOUNTS}",
            )
        life = self._life  # a question of another life of the gate must not be taken for one of this
        name = hashlib.sha256("\n".join((life, *accounts, "", *symbols)).encode()).digest()
        tag = int.from_bytes(name[:7], "big") | 1
        return GateFacts(accounts, symbols, self._settings.patience_s, tag, str(self.directory), self._history.identity)

    def _restore_kills(self) -> None:
        words, found = self._book.control, self._history
        if found.kills == found.released and switch.written_kills(self.directory):
            body = {"kills": found.kills + 1}  # by file alone: no gate has seen it yet
            write_control(self._database, Action.KILL, body, switch.last_kill(self.directory) or ITSELF)
            found.apply(Action.KILL, body)
        words[switch.KILLS], words[switch.RELEASED] = found.kills, found.released

    def _restore(self) -> None:
        """Put what is known into the book, and the limits into the page."""
        book, found = self._book, self._history
        accounts, symbols = self.facts.accounts, self.facts.symbols
        for place, name in enumerate(accounts):
            book.totals[place, kernels.CASH] = found.cash[name]
            for symbol, units in found.units.get(name, {}).items():
                if units:
                    book.units[place, symbols.index(symbol), kernels.HELD] = units
        for sequence, order in found.open.items():
            row = np.array(
                [
                    order.client_order_id,
                    accounts.index(order.account),
                    symbols.index(order.symbol),
                    order.side,
                    order.allowed,
                    order.filled,
                    order.reserved,
                    sequence,
                ],
                np.float64,
            )
            if not kernels.reopen(row, book):
                raise InvalidSettings(f"{len(found.open)} open orders have no room", "Raise `gate.open_orders`")
        self._value()
        self._write()
        kernels.current(book)
        for recent in found.recent:
            if recent.account in accounts and recent.symbol in symbols:
                book.order[:] = numbers_of(self.facts, recent.order())
                kernels.remember(book.order, recent.ns, book)

    def _value(self) -> None:
        """Covariance and prices of the market.

        What is not in it has the variance NaN, so that no order in it passes, and none of an account that holds it;
        what is held and has no price either closes the gate.
        """
        book, (symbols, covariance, prices) = self._book, self._market
        place = {symbol: i for i, symbol in enumerate(self.facts.symbols)}
        at = np.array([place[symbol] for symbol in symbols])
        book.covariance[:] = 0.0
        book.covariance[np.ix_(at, at)] = covariance
        for symbol in self.facts.symbols:
            i = place[symbol]
            if book.ticked[i] == kernels.NEVER:
                price = prices.get(symbol, 0.0)
                if not 0 <= price < math.inf or (symbol in prices and price == 0):
                    raise InvalidMarketData(f"{symbol} has the price {price!r}", "Give positive prices")
                book.prices[i] = price
            if symbol not in symbols:
                book.covariance[i, i] = math.nan
            if book.prices[i] == 0.0 and book.units[:, i, : kernels.BUY_CASH].any():
                book.prices[i] = math.nan
        book.deviations[:] = np.sqrt(np.maximum(np.diag(book.covariance), 0.0))
        unknown = set(prices) - set(symbols)
        if unknown:
            raise InvalidMarketData(
                f"{sorted(unknown)[0]} has a price and is no symbol", "Give prices of known symbols"
            )

    def _add(self, body: Mapping[str, Any]) -> None:
        """What a reconciliation found, on the serving thread."""
        book, (accounts, symbols) = self._book, (self.facts.accounts, self.facts.symbols)
        for account, money in body["cash"].items():
            book.totals[accounts.index(account), kernels.CASH] += money
        for account, units in body["units"].items():
            for symbol, change in units.items():
                book.units[accounts.index(account), symbols.index(symbol), kernels.HELD] += change
        for i in np.flatnonzero(np.isnan(book.prices)):
            book.prices[i] = 0.0
        self._value()
        kernels.recount(book)

    def _holdings(self) -> History:
        """Positions and reservations by name, read on the serving thread or after its end."""
        book, (accounts, symbols) = self._book, (self.facts.accounts, self.facts.symbols)
        found = History(sequence=int(book.cursor[kernels.SEQUENCE]))
        for place, account in enumerate(accounts):
            found.cash[account] = float(book.totals[place, kernels.CASH])
            held = book.units[place, :, kernels.HELD]
            found.units[account] = {symbols[i]: float(held[i]) for i in np.flatnonzero(held).tolist()}
        for slot in np.flatnonzero(book.open_sequences > 0):
            number, account, symbol, side, allowed, filled, reserved, sequence = book.open_orders[slot].tolist()
            found.open[int(sequence)] = Reservation(
                int(number), accounts[int(account)], symbols[int(symbol)], int(side), allowed, filled, reserved
            )
        return found

    def _write(self) -> None:
        settings, found, limits = self._settings_now, self._history, np.zeros(len(self._book.limits))
        limits[: kernels.SCALARS] = (
            settings.price_collar,
            settings.max_quantity,
            settings.max_notional,
            settings.duplicate_window_s * 1e9,
            settings.messages_per_s,
            settings.message_burst,
            settings.max_gross,
            settings.max_net,
            settings.max_leverage,
            settings.credit,
            settings.short_margin,
            NormalDist().inv_cdf(settings.confidence),
            settings.max_var_increment,
            settings.max_var,
            settings.stale_after_s * 1e9,
            float(self._mode()),
        )
        by_symbol = [
            (float(i.symbol not in found.restricted), float(i.symbol in found.halted), i.tick, i.lot, i.max_position)
            for i in self._instruments
        ]
        by_account = [(float(a.name not in found.disabled), a.loan) for a in self._accounts]
        split = kernels.SCALARS + kernels.BY_SYMBOL * len(by_symbol)
        limits[kernels.SCALARS : split] = np.ravel(by_symbol)
        limits[split:] = np.ravel(by_account)
        write(self._book.control, kernels.LIMITS_AT, limits.view(np.int64))


def _require_covariance(covariance: np.ndarray, count: int) -> None:
    matrix = np.asarray(covariance, np.float64)
    sound = matrix.shape == (count, count) and bool(np.isfinite(matrix).all())
    if not sound or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] < -1e-9 * np.trace(matrix):
        raise InvalidMarketData("the covariance is no covariance of the gate's symbols", "Give a finite PSD matrix")


def _require_number(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise InvalidRequest(f"{value!r} is no number", "Correct it")


def _validated(settings: GateSettings, changes: Mapping[str, float]) -> GateSettings:
    """Settings with other limits, each in its range."""
    from pydantic import TypeAdapter, ValidationError

    strange = sorted(set(changes) - set(LIMITS))
    if strange:
        raise InvalidSettings(f"{strange[0]} is no limit of the gate", f"Known are: {', '.join(LIMITS)}")
    for value in changes.values():
        _require_number(value)
    values = {item.name: getattr(settings, item.name) for item in fields(settings)} | dict(changes)
    try:
        return TypeAdapter(GateSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidSettings(f"{first['loc'][0]} is {first['input']!r}: {first['msg']}", "Correct it") from error
