"""The pre-trade gate in its process, and those who ask it: in the process, over a lane, or with a kill switch.

One thread owns the book and judges; others change limits through a page that it reads whole or not at all, and close
the gate through a word that it looks at before every order. Whatever cannot be judged is rejected.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate.journal import Journal
from actors.trading.gate.settings import GateSettings
from cluster.errors import InvalidMarketData, InvalidPortfolio, InvalidRequest
from cluster.lanes.lane import Lane
from cluster.lanes.layout import OK
from cluster.lanes.page import Page, PageAddress
from cluster.lanes.peer import started
from cluster.lanes.port import LaneAddress, Port, PortStatus
from hive.messages.orders import TEXTS, Decision, Mode, Operation, Order, Outcome, Reason, Verdict

SLOTS = 64
SLOT_WORDS = 64


@dataclass(frozen=True)
class Instrument:
    """What the gate must know of a symbol."""

    symbol: str
    tick: float = 0.01
    """Limit prices are multiples of it, money."""
    lot: float = 1.0
    """Quantities are multiples of it, units."""
    max_position: float = math.inf
    """Largest position, long or short, units."""

    def __post_init__(self) -> None:
        if not (0 < self.tick < math.inf and 0 < self.lot < math.inf and self.max_position > 0):
            raise InvalidPortfolio(f"the instrument {self} has no positive tick, lot and limit", "Correct it")


@dataclass(frozen=True)
class Account:
    """What an account brings."""

    name: str
    cash: float
    loan: float = 0.0
    """What it may owe beyond its cash, money."""
    positions: Mapping[str, float] = field(default_factory=dict)
    """Signed units by symbol."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(x) for x in (self.cash, self.loan, *self.positions.values())) or self.loan < 0:
            raise InvalidPortfolio(f"the account {self.name} holds what is no number", "Give finite numbers")


@dataclass(frozen=True)
class GateFacts:
    """What a caller on a lane must know."""

    accounts: tuple[str, ...]
    symbols: tuple[str, ...]
    patience_s: float


class KillSwitch:
    """The gate's kill switch, from any process of this machine and user; it needs nobody's answer.

    Raises
    ------
    LaneLost
        The gate's process is gone.
    """

    def __init__(self, address: PageAddress) -> None:
        self._page = Page.attach(address)

    def kill(self) -> int:
        """Close the gate for the very next order, until it is released; how many kills there were, this included."""
        return int(kernels.throw_switch(self._page.memory.words))

    @property
    def killed(self) -> bool:
        """Whether the gate is closed."""
        return _killed(self._page.memory.words)


class Gate:
    """The gate. It serves until :meth:`close`; one process owns it, and its control methods are that process's own.

    Parameters
    ----------
    covariance : ndarray of shape (n_symbols, n_symbols)
        Of daily returns, in the instruments' order.
    prices : mapping
        Last prices by symbol; every held symbol needs one. They value the book, and count as stale until a tick.
    journal : Path
        SQLite file; one that exists is continued.

    Raises
    ------
    InvalidPortfolio, InvalidMarketData
        A name is unknown or twice there, a held symbol has no price, or the covariance is none.
    LanesUnavailable, JournalUnavailable
        No shared memory, or no file.
    """

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
    ) -> None:
        symbols, names = tuple(i.symbol for i in instruments), tuple(a.name for a in accounts)
        if len(set(symbols)) < len(symbols) or len(set(names)) < len(names) or not symbols or not names:
            raise InvalidPortfolio("a symbol or an account is there twice, or there is none", "Name each once")
        self.facts = GateFacts(names, symbols, settings.patience_s)
        self._settings, self._instruments, self._accounts = settings, tuple(instruments), tuple(accounts)
        self._mode = Mode.FULL_PERFORMANCE
        self._halted: set[str] = set()
        self._restricted: set[str] = set()
        self._disabled: set[str] = set()
        self._control = threading.Lock()
        book = kernels.new_book(
            len(names), len(symbols), settings.open_orders, settings.recent_orders, settings.journal_size
        )
        self._page = Page.create("riskswarm-gate", len(book.limits), kernels.LIMITS_AT)
        self._book = book._replace(control=self._page.memory.words)
        self._fill(covariance, prices)
        self._write()
        kernels.current(self._book)
        self.journal = Journal(
            journal, self._book, names, symbols, batch=settings.journal_batch, flush_s=settings.journal_flush_s
        )
        self._book.cursor[kernels.SEQUENCE] = self.journal.durable
        self.journal.start()
        self.port = Port(lanes=settings.lanes, slots=SLOTS, slot_words=SLOT_WORDS, strategy=strategy)
        self._reply = np.zeros(kernels.LARGEST)
        self._thread = threading.Thread(target=self.port.serve, args=(lambda: self._loop,), name="gate", daemon=True)
        self._thread.start()

    def check(self, order: Order) -> Verdict:
        """Judge an order as a lane would, and reserve what is allowed.

        Raises
        ------
        LaneLost
            The gate is closed for good.
        """
        found = self._ask(Operation.CHECK, numbers_of(self.facts, order))
        return verdict_of(found)

    def commit(self, sequence: int, filled: float, price: float) -> Outcome:
        """A fill of an order: ``filled`` units of it in all until now, the new ones at ``price``."""
        return Outcome(int(self._ask(Operation.COMMIT, np.array([sequence, filled, price], np.float64))[0]))

    def release(self, sequence: int) -> Outcome:
        """An order that the market cancelled or rejected: what of it is not filled is free again."""
        return Outcome(int(self._ask(Operation.RELEASE, np.array([sequence], np.float64))[0]))

    def tick(self, symbol: str, price: float, ns: int) -> Outcome:
        """A last price that was true at a reading of the monotonic clock."""
        return Outcome(int(self._ask(Operation.TICK, tick_numbers(self.facts, symbol, price, ns))[0]))

    def status(self) -> dict[str, int]:
        """Counters of the gate and its journal."""
        return status_of(self._ask(Operation.STATUS, np.empty(0))) | {"longest_ns": self.journal.longest_ns}

    def lanes(self) -> PortStatus:
        """What the lanes have carried."""
        return self.port.status()

    def open(self, pid: int, started_ticks: int, strategy: str = "park") -> LaneAddress:
        """A lane for a process of this machine."""
        return self.port.open(pid, started_ticks, strategy)

    @property
    def address(self) -> PageAddress:
        """Where a :class:`KillSwitch` finds the gate."""
        return self._page.address(os.getpid())

    @property
    def killed(self) -> bool:
        """Whether the gate is closed."""
        return _killed(self._book.control)

    @property
    def kills(self) -> int:
        """Times that the switch was thrown."""
        return int(self._book.control[kernels.KILLS])

    def kill(self) -> int:
        """Close the gate for the very next order; latched. How many kills there were, this included."""
        return int(kernels.throw_switch(self._book.control))

    def release_kill(self, kills: int) -> bool:
        """Whether the gate is open again, for a person who has seen so many kills; a later one keeps it closed.

        Raises
        ------
        InvalidRequest
            More than there were, or fewer than were released before.
        """
        with self._control:
            words = self._book.control
            if not int(words[kernels.RELEASED]) <= kills <= self.kills:
                raise InvalidRequest(f"{kills} kills to release; there were {self.kills}", "Look at the gate's `kills`")
            words[kernels.RELEASED] = kills
            return not self.killed

    def set_limits(self, settings: GateSettings) -> None:
        """Other limits, for the very next order. Sizes of tables, journal and lanes stay as they are."""
        with self._control:
            self._settings = settings
            self._write()

    def set_mode(self, mode: Mode) -> None:
        """Permit everything, reductions only, or nothing."""
        with self._control:
            self._mode = Mode(mode)
            self._write()

    def halt(self, symbol: str) -> None:
        """The market in a symbol is halted."""
        self._mark(self._halted, symbol, self.facts.symbols, marked=True)

    def resume(self, symbol: str) -> None:
        """The market in a symbol is open again."""
        self._mark(self._halted, symbol, self.facts.symbols, marked=False)

    def restrict(self, symbol: str) -> None:
        """Nobody may trade a symbol."""
        self._mark(self._restricted, symbol, self.facts.symbols, marked=True)

    def permit(self, symbol: str) -> None:
        """A symbol may be traded again."""
        self._mark(self._restricted, symbol, self.facts.symbols, marked=False)

    def disable(self, account: str) -> None:
        """An account may not trade."""
        self._mark(self._disabled, account, self.facts.accounts, marked=True)

    def enable(self, account: str) -> None:
        """An account may trade again."""
        self._mark(self._disabled, account, self.facts.accounts, marked=False)

    def close(self) -> None:
        """Stop serving, then bring the journal to disk.

        Raises
        ------
        JournalUnavailable
            Some records are not durable.
        """
        self.port.stop()
        self._thread.join()
        self.journal.close()
        self._page.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _loop(
        self, words: np.ndarray, numbers: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray
    ) -> int:
        return int(kernels.serve(words, numbers, active, own, hand, self._book))

    def _ask(self, operation: Operation, question: np.ndarray) -> np.ndarray:
        def answer() -> np.ndarray:
            code, count = kernels.answer(operation.value, question, self._reply, time.monotonic_ns(), self._book)
            assert code == OK
            return self._reply[:count].copy()

        return self.port.do(answer)

    def _mark(self, marks: set[str], name: str, known: tuple[str, ...], *, marked: bool) -> None:
        if name not in known:
            raise InvalidRequest(f"the gate does not know {name!r}", f"Known are: {', '.join(known)}")
        with self._control:
            (marks.add if marked else marks.discard)(name)
            self._write()

    def _fill(self, covariance: np.ndarray, prices: Mapping[str, float]) -> None:
        book, symbols = self._book, self.facts.symbols
        matrix = np.asarray(covariance, np.float64)
        sound = matrix.shape == (len(symbols), len(symbols)) and bool(np.isfinite(matrix).all())
        if not sound or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] < -1e-9 * np.trace(matrix):
            raise InvalidMarketData("the covariance is no covariance of the gate's symbols", "Give a finite PSD matrix")
        book.covariance[:], book.deviations[:] = matrix, np.sqrt(np.maximum(np.diag(matrix), 0.0))
        for symbol, price in prices.items():
            if symbol not in symbols or not 0 < price < math.inf:
                raise InvalidMarketData(f"{symbol} has the price {price!r}", "Give positive prices of known symbols")
            book.prices[symbols.index(symbol)] = price
        for place, account in enumerate(self._accounts):
            book.totals[place, kernels.CASH] = account.cash
            for symbol, units in account.positions.items():
                if symbol not in symbols or (units and symbol not in prices):
                    raise InvalidPortfolio(f"{account.name} holds {symbol}, which has no price", "Give its last price")
                book.units[place, symbols.index(symbol), kernels.HELD] = units

    def _write(self) -> None:
        s, limits = self._settings, np.zeros(len(self._book.limits))
        limits[: kernels.SCALARS] = (
            s.price_collar,
            s.max_quantity,
            s.max_notional,
            s.duplicate_window_s * 1e9,
            s.messages_per_s,
            s.message_burst,
            s.max_gross,
            s.max_net,
            s.max_leverage,
            s.credit,
            s.short_margin,
            NormalDist().inv_cdf(s.confidence),
            s.max_var_increment,
            s.max_var,
            s.stale_after_s * 1e9,
            float(self._mode),
        )
        by_symbol = [
            (float(i.symbol not in self._restricted), float(i.symbol in self._halted), i.tick, i.lot, i.max_position)
            for i in self._instruments
        ]
        by_account = [(float(a.name not in self._disabled), a.loan) for a in self._accounts]
        split = kernels.SCALARS + kernels.BY_SYMBOL * len(by_symbol)
        limits[kernels.SCALARS : split] = np.ravel(by_symbol)
        limits[split:] = np.ravel(by_account)
        self._page.write(limits)


class GateClient:
    """A gate over a lane. Nothing here raises: an order without a verdict in time is rejected as GATE_UNREACHABLE.

    Such an order may have been allowed meanwhile; it is abandoned, before anything else is asked, as soon as the gate
    answers again, so that it binds nothing. One thread uses a client.
    """

    def __init__(self, lane: Lane, facts: GateFacts) -> None:
        self._lane, self._facts = lane, facts
        self._doubtful: list[tuple[int, int, int]] = []
        self._known = 0

    @classmethod
    def here(cls, gate: Gate, strategy: str = "park") -> GateClient:
        """A client in the gate's own process."""
        own = os.getpid()
        return cls(Lane(gate.open(own, started(own), strategy), strategy), gate.facts)

    def check(self, order: Order, *, patience_s: float | None = None) -> Verdict:
        """Judge an order; what is allowed is reserved."""
        try:
            numbers = numbers_of(self._facts, order)
            patience = self._facts.patience_s if patience_s is None else patience_s
            self._abandon()
            self._doubtful.append((order.client_order_id, int(numbers[kernels.ACCOUNT]), self._known))
            verdict = verdict_of(self._lane.ask(kernels.CHECK, numbers, patience_s=patience))
            if not verdict.quantity <= order.quantity:
                return Verdict.unreachable(time.monotonic_ns())
            self._doubtful.pop()
            self._known = max(self._known, verdict.sequence)
        except Exception:
            return Verdict.unreachable(time.monotonic_ns())
        return verdict

    def commit(self, sequence: int, filled: float, price: float) -> Outcome:
        """As :meth:`Gate.commit`; GATE_UNREACHABLE where nobody knows whether it was done: say it again."""
        return self._outcome(kernels.COMMIT, np.array([sequence, filled, price], np.float64))

    def release(self, sequence: int) -> Outcome:
        """As :meth:`Gate.release`."""
        return self._outcome(kernels.RELEASE, np.array([sequence], np.float64))

    def tick(self, symbol: str, price: float, ns: int) -> Outcome:
        """As :meth:`Gate.tick`."""
        try:
            return self._outcome(kernels.TICK, tick_numbers(self._facts, symbol, price, ns))
        except (ValueError, OverflowError):
            return Outcome.INVALID_NUMBER

    def status(self) -> dict[str, int] | None:
        """Counters of the gate; None where it does not answer."""
        try:
            return status_of(self._lane.ask(kernels.STATUS, np.empty(0), patience_s=self._facts.patience_s))
        except Exception:
            return None

    def close(self) -> None:
        """Hang up. Orders in doubt stay reserved where the gate still does not answer."""
        with suppress(Exception):
            self._abandon()
        self._lane.close()

    def _outcome(self, operation: int, numbers: np.ndarray) -> Outcome:
        try:
            return Outcome(int(self._lane.ask(operation, numbers, patience_s=self._facts.patience_s)[0]))
        except Exception:
            return Outcome.GATE_UNREACHABLE

    def _abandon(self) -> None:
        while self._doubtful:
            question = np.array(self._doubtful[0], np.float64)
            outcome = self._lane.ask(kernels.ABANDON, question, patience_s=self._facts.patience_s)[0]
            if outcome == Outcome.JOURNAL_FULL:
                raise InvalidRequest("an order in doubt could not be abandoned", "Ask again")
            self._doubtful.pop(0)


def numbers_of(facts: GateFacts, order: Order) -> np.ndarray:
    """An order as lanes carry it; names that the gate does not know are -1."""
    limited = order.limit_price is not None
    return np.array(
        [
            order.client_order_id,
            _place(facts.accounts, order.account),
            _place(facts.symbols, order.symbol),
            order.side,
            order.quantity,
            kernels.LIMIT if limited else kernels.MARKET,
            order.limit_price if limited else 0.0,
        ],
        np.float64,
    )


def tick_numbers(facts: GateFacts, symbol: str, price: float, ns: int) -> np.ndarray:
    """A tick as lanes carry it."""
    return np.array([_place(facts.symbols, symbol), price, ns // kernels.NS, ns % kernels.NS], np.float64)


def verdict_of(numbers: np.ndarray) -> Verdict:
    """A verdict as lanes carry it.

    Raises
    ------
    InvalidVerdict, ValueError
        The numbers are none.
    """
    decision, quantity, reason, sequence, seconds, rest = numbers.tolist()
    why = Reason(int(reason))
    ns = int(seconds) * kernels.NS + int(rest)
    return Verdict(Decision(int(decision)), quantity, why, TEXTS[why], int(sequence), ns)


def status_of(numbers: np.ndarray) -> dict[str, int]:
    """Counters as lanes carry them."""
    names = ("sequence", "allowed", "reduced", "rejected", "unrecorded", "open_orders", "ticks", "killed", "waiting")
    return dict(zip(names, numbers.astype(np.int64).tolist(), strict=True))


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


def _killed(words: np.ndarray) -> bool:
    return int(words[kernels.KILLS]) != int(words[kernels.RELEASED])
