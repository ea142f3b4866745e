"""Gates, books and processes for the tests of the gate; no tests here."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate.book import Account, Instrument
from actors.trading.gate.client import GateClient
from actors.trading.gate.gate import Gate
from actors.trading.gate.plain import PlainGate, PlainLimits, PlainOrder
from actors.trading.gate.settings import GateSettings
from actors.trading.gate.switch import KillSwitch
from cluster.lanes.lane import Lane
from cluster.lanes.memory import SharedWords
from cluster.lanes.page import begin, write
from hive.messages.gate import Warrant
from hive.messages.orders import Mode, Order, Side

SYMBOLS = ("AAA", "BBB", "CCC")
NOW = 10**15
INF = float("inf")
DESK = Warrant("ada", "the test says so")
OPEN_LIMITS = GateSettings(
    duplicate_window_s=0.0,
    messages_per_s=1e9,
    message_burst=1e9,
    max_gross=INF,
    max_net=INF,
    max_leverage=INF,
    credit=INF,
    max_var_increment=INF,
    max_var=INF,
    stale_after_s=1e6,
    max_notional=INF,
    patience_s=5.0,
)


def make_gate(
    path: Path,
    *,
    settings=OPEN_LIMITS,
    positions=(),
    cash=1e6,
    accounts=("desk", "fund"),
    committee=None,
    **instrument,
):
    """A gate of three symbols at 100 with fresh prices; two accounts, of which the first holds ``positions``."""
    gate = Gate(
        settings=settings,
        instruments=[Instrument(symbol, **instrument) for symbol in SYMBOLS],
        accounts=[Account(name, cash, 0.0, dict(positions) if not i else {}) for i, name in enumerate(accounts)],
        covariance=np.diag([0.0001, 0.0004, 0.0009]),
        prices=dict.fromkeys(SYMBOLS, 100.0),
        journal=path / "journal.sqlite",
        committee=committee,
    )
    for symbol in SYMBOLS:
        gate.tick(symbol, 100.0, time.monotonic_ns())
    return gate


class Orders:
    """Orders with ids that count up."""

    def __init__(self, first: int = 0) -> None:
        self.number = first

    def __call__(self, side: Side, quantity: float, price: float | None = 100.0, symbol="AAA", account="desk") -> Order:
        self.number += 1
        return Order(self.number, account, symbol, side, quantity, price)


def sums(gate: Gate) -> dict[str, float]:
    """The first account's worst case, counted anew on the gate's thread from positions and reservations."""

    def count() -> dict[str, float]:
        book = gate._book
        units = book.units[0]
        held, buys, sells = units[:, kernels.HELD], units[:, kernels.BUYS], units[:, kernels.SELLS]
        extremes = np.maximum(abs(held + buys), abs(held - sells))
        rows = book.open_orders[book.open_sequences > 0]
        rest = rows[:, kernels.O_QUANTITY] - rows[:, kernels.O_FILLED]
        assert rest.sum() == (buys + sells).sum()
        return {
            "gross": float(extremes @ book.prices),
            "net": float(max((held + buys) @ book.prices, -(held - sells) @ book.prices)),
            "position": float(extremes.max()),
            "cash": float(book.totals[0, kernels.CASH] - book.totals[0, kernels.BOUND]),
            "kept": float(book.totals[0, kernels.GROSS_SUM]),
            "held": float(abs(held).sum()),
        }

    return gate.port.do(count)


# The kernel and its twin over the same numbers.


def twins(limits: PlainLimits, covariance, cash, held, prices, ticked) -> tuple[kernels.Book, PlainGate]:
    accounts, symbols = len(cash), len(prices)
    book = kernels.new_book(accounts, symbols, 64, 256, 64)
    book.covariance[:], book.deviations[:] = covariance, np.sqrt(np.diag(covariance))
    book.totals[:, kernels.CASH] = cash
    book.units[:, :, kernels.HELD] = held
    book.prices[:] = prices
    book.ticked[:] = ticked
    post(book, limits)
    kernels.current(book)
    plain = PlainGate(limits, np.array(covariance), list(cash), np.array(held, float), list(prices), list(ticked))
    return book, plain


def post(book: kernels.Book, x: PlainLimits) -> None:
    """Write the page of limits."""
    scalars = [x.collar, x.max_quantity, x.max_notional, x.window_ns, x.rate, x.burst, x.max_gross, x.max_net]
    scalars += [x.max_leverage, x.credit, x.margin, x.quantile, x.max_var_increment, x.max_var, x.stale_ns, x.mode]
    by_symbol = np.column_stack([x.listed, x.halted, x.tick, x.lot, x.max_position])
    numbers = np.concatenate([scalars, by_symbol.ravel(), np.column_stack([x.enabled, x.loan]).ravel()])
    write(book.control, kernels.LIMITS_AT, numbers.astype(np.float64).view(np.int64))


def judged(book: kernels.Book, order: PlainOrder, now: int) -> tuple[int, int, float, int]:
    """(decision, reason, quantity, sequence) by the kernel; the journal is emptied."""
    reply, kind = np.zeros(kernels.LARGEST), kernels.LIMIT if order.limit else kernels.MARKET
    question = [order.number, order.account, order.symbol, order.side, order.quantity, kind, order.price]
    kernels.answer(kernels.CHECK, np.array(question, np.float64), reply, now, book)
    empty(book)
    return int(reply[0]), int(reply[2]), float(reply[1]), int(reply[3])


def empty(book: kernels.Book) -> None:
    book.journal[kernels.JOURNAL_HEAD] = book.journal[kernels.JOURNAL_TAIL]


def lavish(symbols: int = 2, accounts: int = 2, **changes) -> PlainLimits:
    """Limits that forbid nothing, but for what is said."""
    fields = {
        **dict.fromkeys(("max_quantity", "max_notional", "max_gross", "max_net", "max_leverage", "credit"), INF),
        **dict.fromkeys(("max_var_increment", "max_var"), INF),
        "collar": 0.25,
        "window_ns": 1000,
        "rate": 1e9,
        "burst": 1e9,
        "margin": 0.5,
        "quantile": 2.0,
        "stale_ns": 1e9,
        "mode": Mode.FULL_PERFORMANCE,
        "listed": [True] * symbols,
        "halted": [False] * symbols,
        "tick": [0.25] * symbols,
        "lot": [1.0] * symbols,
        "max_position": [INF] * symbols,
        "enabled": [True] * accounts,
        "loan": [0.0] * accounts,
    }
    return PlainLimits(**{**fields, **changes})


# Processes.


def caller(pipe, orders: int, seed: int, settle: bool) -> None:
    """Send random orders over a lane, fill and release some if told; says what was allowed, then waits."""
    address, facts = pipe.recv()
    client, draw = GateClient(Lane(address), facts), random.Random(seed)
    make, allowed, outcomes = Orders(first=seed * 10**6), 0.0, []
    for _ in range(orders):
        side = draw.choice([Side.BUY, Side.SELL]) if settle else Side.BUY
        verdict = client.check(make(side, draw.randint(1, 9), symbol=draw.choice(SYMBOLS)))
        outcomes.append(int(verdict.reason))
        allowed += verdict.quantity
        if settle and verdict.quantity:
            if draw.random() < 0.5:
                client.commit(verdict.sequence, max(1, verdict.quantity // 2), 100.0)
            if draw.random() < 0.9:
                client.release(verdict.sequence)
                client.release(verdict.sequence)
    pipe.send((allowed, outcomes))
    pipe.recv()


def dead_writer(pipe, pid: int, descriptor: int, count: int) -> None:
    """Begin to write the page of limits, and die."""
    memory = SharedWords.attach(pid, descriptor, count)
    begin(memory.words, kernels.LIMITS_AT)
    pipe.send("begun")
    os.kill(os.getpid(), signal.SIGKILL)


def killer(pipe, address) -> None:
    """Throw the kill switch from another process."""
    pipe.send(KillSwitch(address).kill())
    pipe.recv()


def gate_process(pipe, path: str, settings: GateSettings) -> None:
    """A gate of its own process: opens a lane as told, and throws itself with orders when told to burst."""
    gate = make_gate(Path(path), settings=settings)
    pipe.send(("ready", gate.facts))
    while True:
        what, *arguments = pipe.recv()
        if what == "open":
            pipe.send(gate.open(*arguments))
        if what == "longest":
            pipe.send(gate.journal.longest_ns)
