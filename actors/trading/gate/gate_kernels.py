"""The gate's check and its book, compiled; :mod:`actors.trading.gate.plain` is the plain twin.

An order is held against the book as it is if the worst part of all open orders is filled. By account and symbol the
position q, the open buys b and the open sells s leave it between q - s and q + b, a range that fills and releases only
narrow. Hence, at unchanged prices:

* gross exposure is the sum of max(abs(q + b), abs(q - s)) times price, net that of q + b or of q - s;
* buying power bound is the cash of open buys beyond what covers a short, the value of shorts and their margin;
* value at risk is that of the positions plus that of each open order alone: a norm, so no part of the orders that is
  filled can exceed it (triangle inequality).

All are kept by account and changed by the difference that one symbol makes. An order no larger than what the position
still has to close is a reduction, which none of these limits blocks.

Nothing that is NaN passes: comparisons ask what is allowed, not what is forbidden. Money is in the account's currency,
times are readings of the monotonic clock in ns, value at risk is a positive number, money a day.

Nothing here allocates, so Numba's reference counting is off (``_nrt=False``): it counted every array of the book at
every access, atomically, and a check took 1.2 us instead of 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

from actors.trading.gate.switch import KILLS, RELEASED, WORDS
from cluster.lanes.atomics import load_acquire, store_release
from cluster.lanes.layout import BAD_INPUT, LINE, OK, SLOT_CODE, SLOT_HEADER, UNKNOWN_OPERATION
from cluster.lanes.page import UNREADABLE, read
from cluster.lanes.ring import publish, reserve
from cluster.lanes.serving import COUNT, REPLY, SIZE, STARTED_NS, finish, idle, next_request
from hive.messages import orders

PASSED, KILLED, LIMITS_UNREADABLE, INVALID_NUMBER, UNKNOWN_ACCOUNT, ACCOUNT_DISABLED, UNKNOWN_SYMBOL = range(7)
RESTRICTED, TICK_SIZE, LOT_SIZE, PRICE_COLLAR, FAT_QUANTITY, FAT_NOTIONAL, DUPLICATE, MESSAGE_RATE = range(7, 15)
POSITION, GROSS, NET, LEVERAGE, CREDIT, BUYING_POWER, VAR_INCREMENT, VAR = range(15, 23)
HALTED, MODE, STALE_DATA, CAPACITY, JOURNAL_FULL = range(23, 28)
REJECT, ALLOW, REDUCE = range(3)
FULL_PERFORMANCE, SAFE_MODE, EMERGENCY_SHUTDOWN = range(3)

DONE, REPEATED, NOT_OPEN, UNKNOWN_ORDER, OVERFILL, NO_NUMBER, OUT_OF_DATE, NO_ROOM = range(8)
CHECK, COMMIT, RELEASE, TICK, STATUS, ABANDON, DURABLE, CHECK_MANY = (o.value for o in orders.Operation)

# Order, float64 (ORDER,). Accounts and symbols are places; kind is LIMIT, or MARKET with the price 0.
ORDER_ID, ACCOUNT, SYMBOL, SIDE, QUANTITY, KIND, PRICE, ORDER = range(8)
MARKET, LIMIT = 0.0, 1.0
LARGEST_ID = float(orders.LARGEST_ID)

# Control memory: the words of the kill switch, then the newest sequence number that is on disk, then that of which
# somebody waits for it, then the page of limits.
ON_DISK, AWAITED, LIMITS_AT = WORDS, WORDS + LINE, WORDS + 2 * LINE

# Page of limits, float64: scalars, then five numbers a symbol, then two an account.
COLLAR, MAX_QUANTITY, MAX_NOTIONAL, WINDOW_NS, RATE, BURST, MAX_GROSS, MAX_NET, MAX_LEVERAGE, MAX_CREDIT = range(10)
MARGIN, QUANTILE, MAX_VAR_INCREMENT, MAX_VAR, STALE_NS, SYSTEM_MODE, SCALARS = range(10, 17)
LISTED, SYMBOL_HALTED, TICK_OF, LOT_OF, MAX_POSITION, BY_SYMBOL = range(6)
ENABLED, LOAN, BY_ACCOUNT = range(3)

# Book by account and symbol, units but the last: money that open buys may cost.
HELD, BUYS, SELLS, BUY_CASH, UNITS = range(5)
# Book by account, money; variance in money squared a day; open value at risk in standard deviations; then tokens.
CASH, MARKED, LONG, SHORT, GROSS_SUM, BOUND, VARIANCE, OPEN_VAR, TOKENS, TOTALS = range(10)

# Open order, float64 (OPEN,).
O_ID, O_ACCOUNT, O_SYMBOL, O_SIDE, O_QUANTITY, O_FILLED, O_PRICE, O_SEQUENCE, OPEN = range(9)

# The loop's counters, int64 (CURSOR,).
SEEN_VERSION, SEQUENCE, ALLOWED, REDUCED, REJECTED, UNRECORDED, OPEN_COUNT, TICKS, CURSOR = range(9)

# Journal ring of its own memory; record of RECORD words: three whole numbers, then float64.
JOURNAL_TAIL, JOURNAL_HEAD, JOURNAL_BASE, RECORD = 0, LINE, 2 * LINE, 16
R_SEQUENCE, R_NS, R_OPERATION, R_ORDER = 0, 1, 2, 3
R_DECISION, R_REASON, R_ALLOWED, R_OF, R_RESERVED = 10, 11, 12, 13, 14

VERDICT, STATUS_NUMBERS, LARGEST = 6, 12, 248
MANY = LARGEST // ORDER
"""Orders that one message carries."""
PROBES = 32
TOLERANCE = 1e-6  # of a tick or lot, by which a price or quantity may miss a multiple of it
RECOUNT_EVERY = 4095  # ticks, less one; a power of two less one
NEVER = -(2**62)
NS = 1_000_000_000

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Decorator: a kernel that allocates nothing."""
    return cast(Kernel, njit(**OPTIONS)(function))


def inlined(function: Kernel) -> Kernel:
    """Decorator: such a kernel, copied into those that call it, so that the book is not passed on by value."""
    return cast(Kernel, njit(**OPTIONS, forceinline=True)(function))


class Book(NamedTuple):
    """The gate's state: n symbols, a accounts. One thread changes it."""

    control: np.ndarray
    """int64, shared: kill switch and page of limits."""
    copy: np.ndarray
    """int64: the limits as last read."""
    limits: np.ndarray
    """The same bytes as float64."""
    cursor: np.ndarray
    """int64 (CURSOR,)."""
    prices: np.ndarray
    """Last prices, (n,); 0 where none is known."""
    ticked: np.ndarray
    """When they were true, int64 (n,)."""
    covariance: np.ndarray
    """Of daily returns, (n, n)."""
    deviations: np.ndarray
    """Roots of its diagonal, (n,)."""
    units: np.ndarray
    """(a, n, UNITS)."""
    shared: np.ndarray
    """Covariance times exposures, (a, n)."""
    totals: np.ndarray
    """(a, TOTALS)."""
    firm: np.ndarray
    """Gross exposure of all accounts, (1,)."""
    refilled: np.ndarray
    """When an account's tokens were counted, int64 (a,)."""
    open_sequences: np.ndarray
    """int64, a power of two; 0 where free."""
    open_orders: np.ndarray
    """As many rows of OPEN numbers."""
    recent: np.ndarray
    """int64 (2, a power of two): keys of recent orders by content and by id."""
    recent_ns: np.ndarray
    """When they were allowed."""
    journal: np.ndarray
    """int64: the ring of records."""
    journal_numbers: np.ndarray
    """The same bytes as float64."""
    journal_own: np.ndarray
    """The writer's side of the ring, int64 (2,)."""
    order: np.ndarray
    """The order at hand, (ORDER,): callers cannot change it while it is checked."""
    bits: np.ndarray
    """The same bytes as int64."""


KEPT = (
    *("control", "cursor", "refilled", "open_sequences", "open_orders", "recent", "recent_ns"),
    *("journal", "journal_numbers", "journal_own", "order", "bits"),
)
"""Arrays of a book that do not depend on how many symbols there are."""


@compiled
def check(order: np.ndarray, now: int, book: Book) -> tuple[int, float]:
    """(reason, quantity allowed) of the order; nothing is reserved yet, but a message's token is taken.

    PASSED allows all. Another reason with a positive quantity allows that much: the most whole lots that pass where
    the order's size alone offends. Any other reason allows 0.
    """
    limits = book.limits
    if load_acquire(book.control, KILLS) != load_acquire(book.control, RELEASED):
        return KILLED, 0.0
    if not current(book):
        return LIMITS_UNREADABLE, 0.0
    for i in range(ORDER):
        if not abs(order[i]) < np.inf:
            return INVALID_NUMBER, 0.0
    side, quantity, kind, price = order[SIDE], order[QUANTITY], order[KIND], order[PRICE]
    number = order[ORDER_ID]
    sound = 1.0 <= number <= LARGEST_ID and number == math.floor(number) and abs(side) == 1.0 and quantity > 0.0
    if not sound or not ((kind == LIMIT and price > 0.0) or (kind == MARKET and price == 0.0)):
        return INVALID_NUMBER, 0.0
    accounts, symbols = book.units.shape[0], book.units.shape[1]
    if not 0.0 <= order[ACCOUNT] < accounts or order[ACCOUNT] != math.floor(order[ACCOUNT]):
        return UNKNOWN_ACCOUNT, 0.0
    account = int(order[ACCOUNT])
    if limits[SCALARS + BY_SYMBOL * symbols + BY_ACCOUNT * account + ENABLED] != 1.0:
        return ACCOUNT_DISABLED, 0.0
    if not 0.0 <= order[SYMBOL] < symbols or order[SYMBOL] != math.floor(order[SYMBOL]):
        return UNKNOWN_SYMBOL, 0.0
    symbol = int(order[SYMBOL])
    at = SCALARS + BY_SYMBOL * symbol
    if limits[at + LISTED] != 1.0:
        return RESTRICTED, 0.0
    if kind == LIMIT and not _multiple(price, limits[at + TICK_OF]):
        return TICK_SIZE, 0.0
    if not _multiple(quantity, limits[at + LOT_OF]):
        return LOT_SIZE, 0.0
    last = book.prices[symbol]
    if not 0.0 < last < np.inf:
        return STALE_DATA, 0.0
    if not (abs(price - last) if kind == LIMIT else 0.0) <= limits[COLLAR] * last:
        return PRICE_COLLAR, 0.0
    if not quantity <= limits[MAX_QUANTITY]:
        return FAT_QUANTITY, 0.0
    if not quantity * max(price, last) <= limits[MAX_NOTIONAL]:
        return FAT_NOTIONAL, 0.0
    if not 0.0 <= limits[WINDOW_NS] < 1e15:
        return DUPLICATE, 0.0
    window = int(limits[WINDOW_NS])
    content, identity = _keys(book.bits, account, symbol, side, number, kind)
    if _seen(book, 0, content, now, window) or _seen(book, 1, identity, now, window):
        return DUPLICATE, 0.0
    if not _take_token(book, account, now):
        return MESSAGE_RATE, 0.0
    if not _finite(book, account, symbol):
        return INVALID_NUMBER, 0.0
    reason = _offence(quantity, account, symbol, side, _reservation_price(kind, price, last, limits), now, book)
    room = _spare(book, 0, content, now, window) >= 0 and _spare(book, 1, identity, now, window) >= 0
    room = room and _spare_slot(book.open_sequences, book.cursor[SEQUENCE] + 1) >= 0
    if reason == PASSED:
        return (PASSED, quantity) if room else (CAPACITY, 0.0)
    if reason in (HALTED, STALE_DATA) or not room:
        return reason, 0.0
    reserved = _reservation_price(kind, price, last, limits)
    lot = limits[at + LOT_OF]
    fits, fails = 0.0, float(round(quantity / lot))
    while fails - fits > 1.0:
        middle = math.floor(0.5 * (fits + fails))
        if _offence(middle * lot, account, symbol, side, reserved, now, book) == PASSED:
            fits = middle
        else:
            fails = middle
    return reason, fits * lot


@inlined
def _offence(quantity: float, account: int, symbol: int, side: float, reserved: float, now: int, book: Book) -> int:
    """First reason from POSITION to STALE_DATA against so much; once one holds, it or another holds for more."""
    limits, totals, units = book.limits, book.totals[account], book.units[account, symbol]
    symbols = book.prices.size
    at = SCALARS + BY_SYMBOL * symbol
    held, buys, sells, buy_cash = units[HELD], units[BUYS], units[SELLS], units[BUY_CASH]
    last, margin = book.prices[symbol], limits[MARGIN]
    _, _, gross_now, bound_now = _worst(held, buys, sells, buy_cash, last, margin)
    if side > 0.0:
        reduction = quantity <= -held - buys
        buys += quantity
        buy_cash += quantity * reserved
        net = totals[LONG] + quantity * last
    else:
        reduction = quantity <= held - sells
        sells += quantity
        net = quantity * last - totals[SHORT]
    _, _, gross_then, bound_then = _worst(held, buys, sells, buy_cash, last, margin)
    if _beyond(max(abs(held + buys), abs(held - sells)), limits[at + MAX_POSITION], reduction):
        return POSITION
    gross = totals[GROSS_SUM] - gross_now + gross_then
    if _beyond(gross, limits[MAX_GROSS], reduction):
        return GROSS
    if _beyond(net, limits[MAX_NET], reduction):
        return NET
    leverage = limits[MAX_LEVERAGE]
    if leverage < np.inf:
        leverage *= totals[CASH] + totals[MARKED]
    if _beyond(gross, leverage, reduction):
        return LEVERAGE
    if _beyond(book.firm[0] - gross_now + gross_then, limits[MAX_CREDIT], reduction):
        return CREDIT
    loan = limits[SCALARS + BY_SYMBOL * symbols + BY_ACCOUNT * account + LOAN]
    if _beyond(totals[BOUND] - bound_now + bound_then, totals[CASH] + loan, reduction):
        return BUYING_POWER
    added = side * quantity * last
    variance = totals[VARIANCE]
    after = variance + added * (2.0 * book.shared[account, symbol] + added * book.covariance[symbol, symbol])
    before_var = limits[QUANTILE] * _root(variance)
    if _beyond(limits[QUANTILE] * _root(after) - before_var, limits[MAX_VAR_INCREMENT], reduction):
        return VAR_INCREMENT
    open_var = totals[OPEN_VAR] + quantity * last * book.deviations[symbol]
    if _beyond(before_var + limits[QUANTILE] * open_var, limits[MAX_VAR], reduction):
        return VAR
    if limits[at + SYMBOL_HALTED] != 0.0:
        return HALTED
    mode = limits[SYSTEM_MODE]
    if mode != FULL_PERFORMANCE and not (mode == SAFE_MODE and reduction):
        return MODE
    age = now - book.ticked[symbol]
    return PASSED if age >= 0 and age <= limits[STALE_NS] else STALE_DATA


@compiled
def decide(now: int, book: Book, reply: np.ndarray) -> None:
    """Judge ``book.order``, reserve what is allowed, write the record, and only then the verdict to ``reply``.

    Verdict: decision, quantity, reason, sequence number, and ``now`` as seconds and nanoseconds.
    """
    order, cursor = book.order, book.cursor
    record = _reserve_record(book)
    if record < 0:
        cursor[UNRECORDED] += 1
        _tell(reply, REJECT, 0.0, JOURNAL_FULL, 0, now)
        return
    reason, allowed = check(order, now, book)
    cursor[SEQUENCE] += 1
    sequence = cursor[SEQUENCE]
    decision = REJECT
    if allowed > 0.0:
        decision = ALLOW if reason == PASSED else REDUCE
        _hold(order, allowed, sequence, now, book)
    reserved = 0.0
    if allowed > 0.0:
        reserved = _reservation_price(order[KIND], order[PRICE], book.prices[int(order[SYMBOL])], book.limits)
    cursor[ALLOWED + (0 if decision == ALLOW else 1 if decision == REDUCE else 2)] += 1
    numbers = book.journal_numbers
    for i in range(ORDER):
        numbers[record + R_ORDER + i] = order[i]
    _publish_record(book, record, now, CHECK, decision, reason, allowed, sequence, reserved)
    _tell(reply, decision, allowed, reason, sequence, now)


@compiled
def commit(sequence: int, filled: float, price: float, now: int, book: Book) -> int:
    """Outcome of a fill: ``filled`` units of the order in all, so that it may be said twice; the new ones at ``price``.

    The position and cash take them, and as much of the reservation goes.
    """
    if not (0.0 < filled < np.inf and 0.0 < price < np.inf):
        return NO_NUMBER
    slot = _slot_of(book.open_sequences, sequence)
    if slot < 0:
        return UNKNOWN_ORDER if sequence < 1 or sequence > book.cursor[SEQUENCE] else NOT_OPEN
    row = book.open_orders[slot]
    if filled > row[O_QUANTITY] * (1.0 + TOLERANCE * TOLERANCE):
        return OVERFILL
    filled = min(filled, row[O_QUANTITY])
    new = filled - row[O_FILLED]
    if new <= 0.0:
        return REPEATED
    record = _reserve_record(book)
    if record < 0:
        return NO_ROOM
    account, symbol, side = int(row[O_ACCOUNT]), int(row[O_SYMBOL]), row[O_SIDE]
    units = book.units[account, symbol]
    held, buys, sells, buy_cash = units[HELD] + side * new, units[BUYS], units[SELLS], units[BUY_CASH]
    if side > 0.0:
        buys, buy_cash = _less(buys, new, buy_cash, row[O_PRICE])
    else:
        sells, _ = _less(sells, new, 0.0, 0.0)
    book.totals[account, CASH] -= side * new * price
    _move(book, account, symbol, held, buys, sells, buy_cash, book.prices[symbol])
    row[O_FILLED] = filled
    _write_change(book, record, now, COMMIT, row, filled, price, new)
    if filled == row[O_QUANTITY]:
        book.open_sequences[slot] = 0
        book.cursor[OPEN_COUNT] -= 1
    return DONE


@compiled
def release(sequence: int, now: int, book: Book) -> int:
    """Outcome of giving up what of an order is not filled: cancelled, or rejected by the market."""
    slot = _slot_of(book.open_sequences, sequence)
    if slot < 0:
        return UNKNOWN_ORDER if sequence < 1 or sequence > book.cursor[SEQUENCE] else NOT_OPEN
    record = _reserve_record(book)
    if record < 0:
        return NO_ROOM
    row = book.open_orders[slot]
    account, symbol = int(row[O_ACCOUNT]), int(row[O_SYMBOL])
    units = book.units[account, symbol]
    rest = row[O_QUANTITY] - row[O_FILLED]
    buys, sells, buy_cash = units[BUYS], units[SELLS], units[BUY_CASH]
    if row[O_SIDE] > 0.0:
        buys, buy_cash = _less(buys, rest, buy_cash, row[O_PRICE])
    else:
        sells, _ = _less(sells, rest, 0.0, 0.0)
    _move(book, account, symbol, units[HELD], buys, sells, buy_cash, book.prices[symbol])
    _write_change(book, record, now, RELEASE, row, row[O_FILLED], 0.0, rest)
    book.open_sequences[slot] = 0
    book.cursor[OPEN_COUNT] -= 1
    return DONE


@compiled
def abandon(number: float, account: float, after: int, now: int, book: Book) -> int:
    """:func:`release` by client order id, for a caller that never got its verdict.

    Of orders with a sequence number above ``after`` the newest: one with the same id that the caller knows stays.
    """
    newest = after
    for slot in range(book.open_sequences.size):
        row = book.open_orders[slot]
        if book.open_sequences[slot] > newest and row[O_ID] == number and row[O_ACCOUNT] == account:
            newest = book.open_sequences[slot]
    return release(newest, now, book) if newest > after else UNKNOWN_ORDER


@compiled
def tick(symbol: int, price: float, at_ns: int, now: int, book: Book) -> int:
    """Outcome of a new last price, true at ``at_ns``: every account's exposures and value at risk follow."""
    if not 0 <= symbol < book.prices.size or not 0.0 < price < np.inf:
        return NO_NUMBER
    if at_ns > now or at_ns < book.ticked[symbol]:
        return OUT_OF_DATE
    for account in range(book.units.shape[0]):
        units = book.units[account, symbol]
        _move(book, account, symbol, units[HELD], units[BUYS], units[SELLS], units[BUY_CASH], price)
    book.prices[symbol] = price
    book.ticked[symbol] = at_ns
    book.cursor[TICKS] += 1
    if book.cursor[TICKS] & RECOUNT_EVERY == 0:
        recount(book)
    return DONE


@inlined
def current(book: Book) -> bool:
    """Whether ``book.limits`` are those of the page, read anew where it was written since."""
    if load_acquire(book.control, LIMITS_AT) == book.cursor[SEEN_VERSION]:
        return True
    book.cursor[SEEN_VERSION] = read(book.control, LIMITS_AT, book.copy)
    if book.cursor[SEEN_VERSION] < 0:
        return False
    recount(book)
    return True


@compiled
def recount(book: Book) -> None:
    """All sums anew from positions, open orders and prices: margins may have changed, and sums drift."""
    accounts, symbols = book.units.shape[0], book.units.shape[1]
    book.firm[0] = 0.0
    for account in range(accounts):
        totals, shared = book.totals[account], book.shared[account]
        for i in range(MARKED, TOKENS):
            totals[i] = 0.0
        for j in range(symbols):
            shared[j] = 0.0
        for i in range(symbols):
            units, last = book.units[account, i], book.prices[i]
            long, short, gross, bound = _worst(
                units[HELD], units[BUYS], units[SELLS], units[BUY_CASH], last, book.limits[MARGIN]
            )
            exposure = units[HELD] * last
            totals[MARKED] += exposure
            totals[LONG] += long
            totals[SHORT] += short
            totals[GROSS_SUM] += gross
            totals[BOUND] += bound
            if units[BUYS] + units[SELLS] != 0.0:  # a symbol without a market is NaN, which only who has it must meet
                totals[OPEN_VAR] += book.deviations[i] * last * (units[BUYS] + units[SELLS])
            if exposure != 0.0:
                for j in range(symbols):
                    shared[j] += exposure * book.covariance[i, j]
        for i in range(symbols):
            if book.units[account, i, HELD] != 0.0:
                totals[VARIANCE] += book.units[account, i, HELD] * book.prices[i] * shared[i]
        book.firm[0] += totals[GROSS_SUM]


@compiled
def answer(operation: int, question: np.ndarray, reply: np.ndarray, now: int, book: Book) -> tuple[int, int]:
    """(code, numbers in ``reply``) of one question on a lane.

    CHECK takes an order and gives a verdict; CHECK_MANY up to MANY of them, one after the other, and gives a verdict
    each. COMMIT takes a sequence number, the quantity filled in all and its price; RELEASE a sequence number; ABANDON
    a client order id, an account and the last sequence number that its caller knows; TICK a symbol, a price, and
    seconds and nanoseconds of the monotonic clock. These four give an outcome. DURABLE takes a sequence number, has
    the journal hurry until it is on disk, and gives the newest one that is. STATUS takes nothing and gives the last
    sequence number, orders allowed, reduced, rejected and refused without a record, open orders, ticks, whether
    killed, records that wait, the newest sequence number on disk, kills, and those released.
    """
    if not CHECK <= operation <= CHECK_MANY:
        return UNKNOWN_OPERATION, 0
    if operation == CHECK_MANY:
        many = question.size // ORDER
        if many == 0 or many * ORDER != question.size or many * VERDICT > reply.size:
            return BAD_INPUT, 0
        for k in range(many):
            for i in range(ORDER):
                book.order[i] = question[k * ORDER + i]
            decide(now, book, reply[k * VERDICT : (k + 1) * VERDICT])
        return OK, many * VERDICT
    wanted = ORDER if operation == CHECK else 3 if operation in (COMMIT, ABANDON) else 1
    wanted = 4 if operation == TICK else 0 if operation == STATUS else wanted
    if question.size != wanted:
        return BAD_INPUT, 0
    if operation == CHECK:
        for i in range(ORDER):
            book.order[i] = question[i]
        decide(now, book, reply)
        return OK, VERDICT
    if operation == STATUS:
        for i in range(SEQUENCE, TICKS + 1):
            reply[i - SEQUENCE] = book.cursor[i]
        reply[7] = load_acquire(book.control, KILLS) != load_acquire(book.control, RELEASED)
        reply[8] = book.journal_own[0] - load_acquire(book.journal, JOURNAL_HEAD)
        reply[9] = load_acquire(book.control, ON_DISK)
        reply[10] = load_acquire(book.control, KILLS)
        reply[11] = load_acquire(book.control, RELEASED)
        return OK, STATUS_NUMBERS
    if operation == DURABLE:
        durable = load_acquire(book.control, ON_DISK)
        if _whole(question[0]) and durable < question[0] <= book.cursor[SEQUENCE]:
            store_release(book.control, AWAITED, int(question[0]))
        reply[0] = durable
        return OK, 1
    outcome = NO_NUMBER
    if operation == COMMIT:
        if _whole(question[0]):
            outcome = commit(int(question[0]), question[1], question[2], now, book)
    elif operation == RELEASE:
        if _whole(question[0]):
            outcome = release(int(question[0]), now, book)
    elif operation == ABANDON:
        if _whole(question[2]):
            outcome = abandon(question[0], question[1], int(question[2]), now, book)
    elif _whole(question[0]) and _whole(question[2]) and question[2] < 2**33 and 0.0 <= question[3] < NS:
        at_ns = int(question[2]) * NS + int(question[3])
        outcome = tick(int(question[0]), question[1], at_ns, now, book)
    reply[0] = outcome
    return OK, 1


@compiled
def serve(
    words: np.ndarray, numbers: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray, book: Book
) -> int:
    """Answer every lane until the thread is wanted."""
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return int(slot)
        question = numbers[slot + SLOT_HEADER : slot + SLOT_HEADER + hand[COUNT]]
        reply = numbers[hand[REPLY] + SLOT_HEADER : hand[REPLY] + hand[SIZE]]
        code, count = answer(words[slot + SLOT_CODE], question, reply, hand[STARTED_NS], book)
        finish(words, own, hand, code, count)


@inlined
def _worst(
    held: float, buys: float, sells: float, buy_cash: float, last: float, margin: float
) -> tuple[float, float, float, float]:
    """(longest, shortest, gross, buying power bound) of one symbol over every part of its open orders, money."""
    high, low = held + buys, held - sells
    opening = buys + min(held, 0.0)
    cash = buy_cash * (opening / buys) if opening > 0.0 and buys > 0.0 else 0.0
    bound = cash + (margin * max(-low, 0.0) + max(-held, 0.0)) * last
    return high * last, low * last, max(abs(high), abs(low)) * last, bound


@inlined
def _move(
    book: Book, account: int, symbol: int, held: float, buys: float, sells: float, buy_cash: float, price: float
) -> None:
    """Put other units or another price, and change the sums by the difference; O(n) where the exposure changes."""
    totals, units, margin = book.totals[account], book.units[account, symbol], book.limits[MARGIN]
    last, deviation = book.prices[symbol], book.deviations[symbol]
    long, short, gross, bound = _worst(units[HELD], units[BUYS], units[SELLS], units[BUY_CASH], last, margin)
    long_then, short_then, gross_then, bound_then = _worst(held, buys, sells, buy_cash, price, margin)
    added = held * price - units[HELD] * last
    totals[LONG] += long_then - long
    totals[SHORT] += short_then - short
    totals[GROSS_SUM] += gross_then - gross
    totals[BOUND] += bound_then - bound
    opened = (buys + sells) * price - (units[BUYS] + units[SELLS]) * last
    if opened != 0.0:
        totals[OPEN_VAR] += deviation * opened
    book.firm[0] += gross_then - gross
    if added != 0.0:
        shared, row = book.shared[account], book.covariance[symbol]
        totals[MARKED] += added
        totals[VARIANCE] += added * (2.0 * shared[symbol] + added * row[symbol])
        for j in range(row.size):
            shared[j] += added * row[j]
    units[HELD], units[BUYS], units[SELLS], units[BUY_CASH] = held, buys, sells, buy_cash


@inlined
def _hold(order: np.ndarray, allowed: float, sequence: int, now: int, book: Book) -> None:
    """Reserve what was allowed, and remember the order; :func:`check` has found room."""
    account, symbol, side, kind = int(order[ACCOUNT]), int(order[SYMBOL]), order[SIDE], order[KIND]
    units, last = book.units[account, symbol], book.prices[symbol]
    reserved = _reservation_price(kind, order[PRICE], last, book.limits)
    buys, sells, buy_cash = units[BUYS], units[SELLS], units[BUY_CASH]
    if side > 0.0:
        buys += allowed
        buy_cash += allowed * reserved
    else:
        sells += allowed
    _move(book, account, symbol, units[HELD], buys, sells, buy_cash, last)
    slot = _spare_slot(book.open_sequences, sequence)
    row = book.open_orders[slot]
    row[O_ID], row[O_ACCOUNT], row[O_SYMBOL], row[O_SIDE] = order[ORDER_ID], account, symbol, side
    row[O_QUANTITY], row[O_FILLED], row[O_PRICE], row[O_SEQUENCE] = allowed, 0.0, reserved, sequence
    book.open_sequences[slot] = sequence
    book.cursor[OPEN_COUNT] += 1
    _remember(order, now, book)


@compiled
def remember(order: np.ndarray, now: int, book: Book) -> None:
    """Forbid the like of ``book.order``, which was allowed at ``now``, for the duplicate window."""
    _remember(order, now, book)


@inlined
def _remember(order: np.ndarray, now: int, book: Book) -> None:
    account, symbol, side, kind = int(order[ACCOUNT]), int(order[SYMBOL]), order[SIDE], order[KIND]
    window = int(book.limits[WINDOW_NS])
    content, identity = _keys(book.bits, account, symbol, side, order[ORDER_ID], kind)
    for which, key in ((0, content), (1, identity)):
        place = _spare(book, which, key, now, window)
        if place >= 0:
            book.recent[which, place] = key
            book.recent_ns[which, place] = now


@compiled
def reopen(row: np.ndarray, book: Book) -> bool:
    """Put back a reservation of an earlier life, a row of OPEN numbers; whether there was room. Sums are not kept."""
    sequence = int(row[O_SEQUENCE])
    slot = _spare_slot(book.open_sequences, sequence)
    if slot < 0:
        return False
    units = book.units[int(row[O_ACCOUNT]), int(row[O_SYMBOL])]
    rest = row[O_QUANTITY] - row[O_FILLED]
    if row[O_SIDE] > 0.0:
        units[BUYS] += rest
        units[BUY_CASH] += rest * row[O_PRICE]
    else:
        units[SELLS] += rest
    for i in range(OPEN):
        book.open_orders[slot, i] = row[i]
    book.open_sequences[slot] = sequence
    book.cursor[OPEN_COUNT] += 1
    return True


@inlined
def _take_token(book: Book, account: int, now: int) -> bool:
    """Whether the account may send another order now."""
    limits, totals = book.limits, book.totals[account]
    if not limits[RATE] >= 0.0:
        return False
    tokens = totals[TOKENS] + limits[RATE] * 1e-9 * max(now - book.refilled[account], 0)
    if not tokens <= limits[BURST]:
        tokens = limits[BURST]
    book.refilled[account] = max(now, book.refilled[account])
    granted = bool(tokens >= 1.0)
    totals[TOKENS] = tokens - 1.0 if granted else tokens
    return granted


@inlined
def _finite(book: Book, account: int, symbol: int) -> bool:
    units, totals = book.units[account, symbol], book.totals[account]
    total = units[HELD] + units[BUYS] + units[SELLS] + units[BUY_CASH] + book.shared[account, symbol] + book.firm[0]
    for i in range(TOKENS):
        total += totals[i]
    return bool(abs(total + book.deviations[symbol] + book.covariance[symbol, symbol]) < np.inf)


@inlined
def _beyond(value: float, limit: float, reduction: bool) -> bool:
    """Whether a limit blocks; a reduction passes every limit that is a number."""
    return (math.isnan(value) or math.isnan(limit)) if reduction else not value <= limit


@inlined
def _root(variance: float) -> float:
    return 0.0 if variance <= 0.0 else math.sqrt(variance)


@inlined
def _multiple(value: float, unit: float) -> bool:
    if not 0.0 < unit < np.inf:
        return False
    return value / unit < 2**53 and abs(round(value / unit) * unit - value) <= TOLERANCE * unit and value > 0.5 * unit


@inlined
def _whole(value: float) -> bool:
    return 0.0 <= value < 2**53 and value == math.floor(value)


@inlined
def _reservation_price(kind: float, price: float, last: float, limits: np.ndarray) -> float:
    """What a unit may cost: the limit, or the last price and the collar above it."""
    return price if kind == LIMIT else last * (1.0 + limits[COLLAR])


@inlined
def _less(open_units: float, gone: float, cash: float, price: float) -> tuple[float, float]:
    """Open units and their cash after some are gone; none below zero by rounding."""
    left = open_units - gone
    if left <= 1e-12 * open_units:
        return 0.0, 0.0
    return left, max(cash - gone * price, 0.0)


@inlined
def _mixed(key: int, more: int) -> int:
    """Two words as one that looks random, never 0; the multiplications wrap."""
    key = key * 0x1E3779B97F4A7C15 + more  # not symmetric: (0, 1) and (1, 0) are different orders
    key ^= (key >> 31) & 0x1FFFFFFFF
    key *= 0x2545F4914F6CDD1D
    key ^= (key >> 29) & 0x7FFFFFFFF
    key *= 0x3F58476D1CE4E5B9
    key ^= (key >> 32) & 0xFFFFFFFF
    return key | 1


@inlined
def _keys(bits: np.ndarray, account: int, symbol: int, side: float, number: float, kind: float) -> tuple[int, int]:
    """Keys of an order's content and of its id: two orders share one by chance once in 2^60 pairs or so."""
    who = account * 2 + (1 if side > 0.0 else 0)
    content = _mixed(_mixed(_mixed(_mixed(who, symbol), bits[QUANTITY]), bits[PRICE]), 1 if kind == LIMIT else 0)
    return content, _mixed(_mixed(account, 7), int(number))


@inlined
def _seen(book: Book, which: int, key: int, now: int, window: int) -> bool:
    keys, times = book.recent[which], book.recent_ns[which]
    for probe in range(PROBES):
        place = ((key >> 1) + probe) & (keys.size - 1)
        if keys[place] == key and now - times[place] < window:
            return True
        if keys[place] == 0:
            return False
    return False


@inlined
def _spare(book: Book, which: int, key: int, now: int, window: int) -> int:
    """Where a key may be remembered; -1 where all its places are in use."""
    keys, times = book.recent[which], book.recent_ns[which]
    for probe in range(PROBES):
        place = ((key >> 1) + probe) & (keys.size - 1)
        if keys[place] == 0 or now - times[place] >= window:
            return int(place)
    return -1


@inlined
def _slot_of(sequences: np.ndarray, sequence: int) -> int:
    """Where an open order is; -1 where it is not."""
    if sequence < 1:
        return -1
    home = _mixed(sequence, 0) >> 1
    for probe in range(PROBES):
        place = (home + probe) & (sequences.size - 1)
        if sequences[place] == sequence:
            return place
    return -1


@inlined
def _spare_slot(sequences: np.ndarray, sequence: int) -> int:
    home = _mixed(sequence, 0) >> 1
    for probe in range(PROBES):
        place = (home + probe) & (sequences.size - 1)
        if sequences[place] == 0:
            return place
    return -1


@inlined
def _reserve_record(book: Book) -> int:
    slots = (book.journal.size - JOURNAL_BASE) // RECORD
    return int(reserve(book.journal, JOURNAL_HEAD, JOURNAL_BASE, slots, RECORD, book.journal_own))


@inlined
def _publish_record(
    book: Book,
    record: int,
    now: int,
    operation: int,
    decision: int,
    reason: int,
    allowed: float,
    of: int,
    reserved: float,
) -> None:
    journal, numbers = book.journal, book.journal_numbers
    journal[record + R_SEQUENCE] = book.cursor[SEQUENCE]
    journal[record + R_NS] = now
    journal[record + R_OPERATION] = operation
    numbers[record + R_DECISION] = decision
    numbers[record + R_REASON] = reason
    numbers[record + R_ALLOWED] = allowed
    numbers[record + R_OF] = of
    numbers[record + R_RESERVED] = reserved
    publish(journal, JOURNAL_TAIL, book.journal_own)


@inlined
def _write_change(
    book: Book, record: int, now: int, operation: int, row: np.ndarray, filled: float, price: float, changed: float
) -> None:
    """Record of a fill or a release: quantity is what was filled in all, allowed what moved now."""
    book.cursor[SEQUENCE] += 1
    numbers = book.journal_numbers
    at = record + R_ORDER
    numbers[at + ORDER_ID], numbers[at + ACCOUNT], numbers[at + SYMBOL] = row[O_ID], row[O_ACCOUNT], row[O_SYMBOL]
    numbers[at + SIDE], numbers[at + QUANTITY] = row[O_SIDE], filled
    numbers[at + KIND], numbers[at + PRICE] = (LIMIT, price) if price > 0.0 else (MARKET, 0.0)
    _publish_record(book, record, now, operation, ALLOW, DONE, changed, int(row[O_SEQUENCE]), row[O_PRICE])


@inlined
def _tell(reply: np.ndarray, decision: int, quantity: float, reason: int, sequence: int, now: int) -> None:
    reply[0], reply[1], reply[2], reply[3] = decision, quantity, reason, sequence
    reply[4], reply[5] = now // NS, now % NS


@compiled
def drain(journal: np.ndarray, numbers: np.ndarray, own: np.ndarray, out: np.ndarray, out_numbers: np.ndarray) -> int:
    """Copy what waits in the ring, at most ``len(out)`` records, without giving their slots back; how many."""
    slots = (journal.size - JOURNAL_BASE) // RECORD
    waiting = load_acquire(journal, JOURNAL_TAIL) - own[0]
    count = min(waiting, out.shape[0])
    for k in range(count):
        at = JOURNAL_BASE + ((own[0] + k) & (slots - 1)) * RECORD
        for i in range(R_ORDER):
            out[k, i] = journal[at + i]
        for i in range(R_ORDER, RECORD):
            out_numbers[k, i] = numbers[at + i]
    return int(count)


@compiled
def give_back(journal: np.ndarray, own: np.ndarray, count: int) -> None:
    """Free the slots of the oldest records, which are durable."""
    own[0] += count
    store_release(journal, JOURNAL_HEAD, own[0])


def limits_size(accounts: int, symbols: int) -> int:
    """Numbers of a page of limits."""
    return SCALARS + BY_SYMBOL * symbols + BY_ACCOUNT * accounts


def widened(book: Book, symbols: int) -> Book:
    """The book with room for more symbols; those it has keep their places, and the limits must be written anew."""
    accounts, before = book.units.shape[0], book.units.shape[1]
    wide = new_book(accounts, symbols, 1, 1, 1)
    wide.prices[:before], wide.ticked[:before] = book.prices, book.ticked
    wide.units[:, :before] = book.units
    wide.totals[:] = book.totals
    kept = {name: getattr(book, name) for name in KEPT}
    kept["cursor"][SEEN_VERSION] = UNREADABLE
    return wide._replace(**kept)


def emptied(book: Book) -> Book:
    """The same market and limits with nothing open, nothing recent and a ring of its own: for measurements."""
    accounts, symbols = book.units.shape[:2]
    slots = (book.journal.size - JOURNAL_BASE) // RECORD
    fresh = new_book(accounts, symbols, book.open_sequences.size, book.recent.shape[1], slots)
    totals = fresh.totals.copy()
    totals[:, CASH] = book.totals[:, CASH]
    kept = {name: getattr(book, name).copy() for name in ("control", "prices", "ticked", "covariance", "deviations")}
    found = fresh._replace(**kept, totals=totals)
    current(found)
    return found


def new_book(accounts: int, symbols: int, open_orders: int, recent: int, records: int) -> Book:
    """An empty book of its own memory with an unwritten page of limits; tables have powers of two of rows."""
    count = limits_size(accounts, symbols)
    copy, order = np.zeros(count, np.int64), np.zeros(ORDER)
    journal = np.zeros(JOURNAL_BASE + records * RECORD, np.int64)
    totals = np.zeros((accounts, TOTALS))
    cursor = np.zeros(CURSOR, np.int64)
    cursor[SEEN_VERSION] = UNREADABLE
    totals[:, TOKENS] = np.inf  # the first count fills the bucket
    return Book(
        control=np.zeros(LIMITS_AT + LINE + count, np.int64),
        copy=copy,
        limits=copy.view(np.float64),
        cursor=cursor,
        prices=np.zeros(symbols),
        ticked=np.full(symbols, NEVER),
        covariance=np.zeros((symbols, symbols)),
        deviations=np.zeros(symbols),
        units=np.zeros((accounts, symbols, UNITS)),
        shared=np.zeros((accounts, symbols)),
        totals=totals,
        firm=np.zeros(1),
        refilled=np.zeros(accounts, np.int64),
        open_sequences=np.zeros(open_orders, np.int64),
        open_orders=np.zeros((open_orders, OPEN)),
        recent=np.zeros((2, recent), np.int64),
        recent_ns=np.zeros((2, recent), np.int64),
        journal=journal,
        journal_numbers=journal.view(np.float64),
        journal_own=np.zeros(2, np.int64),
        order=order,
        bits=order.view(np.int64),
    )


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    book = new_book(1, 2, 64, 256, 8)
    reply, out = np.zeros(LARGEST), np.zeros((8, RECORD), np.int64)
    answer(CHECK, np.ones(ORDER), reply, 1, book)
    check(book.order, 1, book)
    reader = np.zeros(2, np.int64)
    give_back(book.journal, reader, drain(book.journal, book.journal_numbers, reader, out, out.view(np.float64)))
    recount(book)
    current(book)
    remember(book.order, 1, book)
    reopen(np.ones(OPEN), book)
    serve(*idle(), book)
