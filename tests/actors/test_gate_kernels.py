"""The gate's check: against its plain twin, every reason by one example, limits under any sequence, NaN everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate.plain import PlainOrder
from actors.trading.gate.switch import throw
from cluster.lanes.page import begin, write
from hive.messages.orders import Decision, Mode, Outcome, Reason
from tests.actors.test_gate_support import INF, NOW, empty, judged, lavish, post, twins

# Dyadic numbers: sums are exact, so kernel and twin agree to the last bit even where a limit is just reached.
QUARTERS = st.integers(1, 400).map(lambda k: k / 4)
COVARIANCE = np.array([[4.0, 1.0], [1.0, 2.25]]) / 1024


def maybe(values, *, often=INF):
    return st.one_of(st.just(often), st.just(often), values)


@st.composite
def limits_of(draw):
    money = st.integers(1, 200).map(lambda k: k * 250.0)
    return lavish(
        collar=draw(st.sampled_from([0.0625, 0.25, 0.5])),
        max_quantity=draw(maybe(st.integers(1, 40).map(float))),
        max_notional=draw(maybe(money)),
        window_ns=draw(st.sampled_from([0, 500, 5000])),
        rate=draw(st.sampled_from([1e6, 1e9])),
        burst=draw(st.sampled_from([1.0, 3.0, 1e9])),
        max_gross=draw(maybe(money)),
        max_net=draw(maybe(money)),
        max_leverage=draw(maybe(st.sampled_from([0.5, 1.0, 2.0]))),
        credit=draw(maybe(money)),
        max_var_increment=draw(maybe(money.map(lambda x: x / 8))),
        max_var=draw(maybe(money.map(lambda x: x / 8))),
        mode=draw(st.sampled_from([*[Mode.FULL_PERFORMANCE] * 4, *Mode])),
        listed=[True, draw(st.integers(0, 9)) > 0],
        halted=[False, draw(st.integers(0, 9)) == 0],
        lot=[draw(st.sampled_from([1.0, 0.5, 5.0])), 1.0],
        max_position=[draw(maybe(st.integers(1, 60).map(float))), INF],
        enabled=[True, draw(st.integers(0, 9)) > 0],
        loan=[draw(st.sampled_from([0.0, 1000.0])), 0.0],
    )


@st.composite
def orders_of(draw, number):
    limited = draw(st.booleans())
    return PlainOrder(
        number=draw(st.sampled_from([number, number, number, 1, 0, 0.5])),
        account=draw(st.sampled_from([0, 0, 0, 1, 2, -1])),
        symbol=draw(st.sampled_from([0, 0, 0, 1, 1, 2, -1])),
        side=draw(st.sampled_from([1, -1])),
        quantity=draw(st.sampled_from([1.0, 5.0, 10.0, 20.0, 40.0, 7.5, 0.3, 0.0])),
        limit=limited,
        price=draw(st.sampled_from([50.0, 50.25, 55.0, 45.0, 60.1])) if limited else 0.0,
    )


@settings(max_examples=150)
@given(st.data())
def test_kernel_and_plain_twin_agree_on_every_verdict_and_outcome(data):
    limits = data.draw(limits_of())
    cash = [data.draw(st.sampled_from([0.0, 1000.0, 5000.0, 50_000.0])), 2000.0]
    held = [[float(data.draw(st.integers(-40, 40))) for _ in range(2)], [10.0, 0.0]]
    book, plain = twins(limits, COVARIANCE, cash, held, [50.0, 40.0], [NOW, NOW])
    now, allowed = NOW, []
    for step in range(data.draw(st.integers(1, 14))):
        now += data.draw(st.sampled_from([0, 100, 1000, 600_000_000]))
        what = data.draw(st.sampled_from(["check", "check", "check", "commit", "release", "tick"]))
        if what == "check":
            order = data.draw(orders_of(number=step + 2))
            _, reason, quantity, sequence = judged(book, order, now)
            assert (Reason(reason), quantity) == plain.decide(order, now)
            if quantity:
                allowed.append(sequence)
        elif what == "commit":
            sequence = data.draw(st.sampled_from([*allowed, 99, 1]))
            filled, price = data.draw(st.sampled_from([0.5, 1.0, 5.0, 40.0])), data.draw(QUARTERS)
            found = kernels.commit(sequence, filled, price, now, book)
            assert Outcome(found) is plain.commit(sequence, filled, price)
        elif what == "release":
            sequence = data.draw(st.sampled_from([*allowed, 99, 1]))
            assert Outcome(kernels.release(sequence, now, book)) is plain.release(sequence)
        else:
            symbol, price, at = data.draw(st.integers(0, 2)), data.draw(QUARTERS), now - data.draw(st.integers(-1, 9))
            assert Outcome(kernels.tick(symbol, price, at, now, book)) is plain.tick(symbol, price, at, now)
        empty(book)
    kept = book.totals.copy()
    kernels.recount(book)
    np.testing.assert_allclose(kept[:, : kernels.TOKENS], book.totals[:, : kernels.TOKENS], rtol=1e-9, atol=1e-6)


BUY = PlainOrder(7, 0, 0, 1, 10.0, True, 50.0)
EXAMPLES = {
    Reason.PASSED: ({}, {}),
    Reason.INVALID_NUMBER: ({}, {"quantity": math.nan}),
    Reason.UNKNOWN_ACCOUNT: ({}, {"account": 5}),
    Reason.ACCOUNT_DISABLED: ({"enabled": [False, True]}, {}),
    Reason.UNKNOWN_SYMBOL: ({}, {"symbol": 5}),
    Reason.RESTRICTED: ({"listed": [False, True]}, {}),
    Reason.TICK: ({}, {"price": 50.1}),
    Reason.LOT: ({}, {"quantity": 10.5}),
    Reason.PRICE_COLLAR: ({"collar": 0.125}, {"price": 60.0}),
    Reason.MAX_QUANTITY: ({"max_quantity": 9.0}, {}),
    Reason.MAX_NOTIONAL: ({"max_notional": 499.0}, {}),
    Reason.MESSAGE_RATE: ({"burst": 0.5}, {}),
    Reason.POSITION: ({"max_position": [0.5, INF]}, {}),
    Reason.GROSS: ({"max_gross": 49.0}, {}),
    Reason.NET: ({"max_net": 49.0}, {}),
    Reason.LEVERAGE: ({"max_leverage": 0.001}, {}),
    Reason.CREDIT: ({"credit": 49.0}, {}),
    Reason.BUYING_POWER: ({}, {"account": 1}),
    Reason.VAR_INCREMENT: ({"max_var_increment": 1.0}, {}),
    Reason.VAR: ({"max_var": 1.0}, {}),
    Reason.HALTED: ({"halted": [True, False]}, {}),
    Reason.MODE: ({"mode": Mode.SAFE_MODE}, {}),
    Reason.STALE_DATA: ({"stale_ns": 1.0}, {}),
}


def flat(limits):
    return twins(limits, COVARIANCE, [10_000.0, 0.0], np.zeros((2, 2)), [50.0, 40.0], [NOW, NOW])


def order(**changes):
    return PlainOrder(**{**vars(BUY), **changes})


@pytest.mark.parametrize("reason", EXAMPLES, ids=lambda reason: reason.name)
def test_each_check_has_an_order_that_only_it_refuses(reason):
    limits, changes = EXAMPLES[reason]
    book, plain = flat(lavish(**limits))
    decision, found, quantity, sequence = judged(book, order(**changes), NOW + 10)
    assert Reason(found) is reason
    assert (Reason(found), quantity) == (reason, 10.0 if reason is Reason.PASSED else 0.0)
    assert Decision(decision) is (Decision.ALLOW if reason is Reason.PASSED else Decision.REJECT)
    assert sequence == 1
    if reason is not Reason.INVALID_NUMBER:
        assert plain.check(order(**changes), NOW + 10)[0] is reason


def test_duplicate_by_content_and_by_id_within_the_window_only():
    book, _ = flat(lavish(window_ns=1000))
    assert judged(book, BUY, NOW)[1] == Reason.PASSED
    assert judged(book, order(number=8), NOW + 999)[1] == Reason.DUPLICATE
    assert judged(book, order(quantity=11.0), NOW + 999)[1] == Reason.DUPLICATE
    assert judged(book, order(number=8), NOW + 1000)[1] == Reason.PASSED


def test_orders_that_differ_in_anything_are_no_duplicates():
    book, _ = flat(lavish(symbols=2, accounts=2, window_ns=1000))
    book.totals[:, kernels.CASH] = 1e6
    number, found = 0, []
    for account in range(2):
        for symbol in range(2):
            for way in (1, -1):
                for quantity in (1.0, 2.0):
                    for price in (0.0, 45.0, 46.0):
                        number += 1
                        found.append(PlainOrder(number, account, symbol, way, quantity, price > 0, price))
    assert {judged(book, one, NOW)[1] for one in found} == {Reason.PASSED}
    assert {judged(book, PlainOrder(**{**vars(one), "number": 999}), NOW)[1] for one in found} == {Reason.DUPLICATE}


def test_tokens_come_back_with_time():
    book, _ = flat(lavish(window_ns=0, burst=2.0, rate=1e6))
    found = [judged(book, order(number=k + 1), NOW + at)[1] for k, at in enumerate([0, 0, 0, 999, 1000])]
    assert found == [Reason.PASSED, Reason.PASSED, Reason.MESSAGE_RATE, Reason.MESSAGE_RATE, Reason.PASSED]


def test_full_table_of_open_orders_refuses():
    book, _ = flat(lavish(window_ns=0))
    found = [judged(book, order(number=k + 1, quantity=1.0), NOW)[1] for k in range(80)]
    assert set(found) == {Reason.PASSED, Reason.CAPACITY}
    assert found.count(Reason.PASSED) == int((book.open_sequences > 0).sum()) <= 64


def test_full_journal_refuses_without_a_number_and_without_a_reservation():
    book, _ = flat(lavish(window_ns=0))
    reply = np.zeros(kernels.LARGEST)
    question = np.array([0, 0, 0, 1, 1, 1, 50], np.float64)
    for k in range(64):
        question[0] = k + 1
        kernels.answer(kernels.CHECK, question, reply, NOW, book)
    units, sequence = book.units.copy(), int(book.cursor[kernels.SEQUENCE])
    question[0] = 100
    kernels.answer(kernels.CHECK, question, reply, NOW, book)
    assert (reply[0], reply[2], reply[3]) == (Decision.REJECT, Reason.JOURNAL_FULL, 0)
    assert kernels.release(1, NOW, book) == Outcome.JOURNAL_FULL
    np.testing.assert_array_equal(book.units, units)
    empty(book)
    kernels.answer(kernels.CHECK, question, reply, NOW, book)
    assert reply[3] == sequence + 1


def test_kill_comes_before_everything_and_unreadable_limits_after_it():
    book, _ = flat(lavish())
    begin(book.control, kernels.LIMITS_AT)
    assert judged(book, BUY, NOW)[1] == Reason.LIMITS_UNREADABLE
    throw(book.control)
    throw(book.control)
    assert judged(book, order(quantity=math.nan), NOW)[1] == Reason.KILLED
    book.control[kernels.RELEASED] = 1
    assert judged(book, BUY, NOW)[1] == Reason.KILLED
    book.control[kernels.RELEASED] = 2
    post(book, lavish())
    assert judged(book, BUY, NOW)[1] == Reason.PASSED


def test_limits_that_were_never_written_cannot_be_read():
    book = kernels.new_book(1, 1, 64, 256, 8)
    assert judged(book, BUY, NOW)[1] == Reason.LIMITS_UNREADABLE


@pytest.mark.parametrize("reducing", [False, True])
@pytest.mark.parametrize("place", range(kernels.SCALARS + 2 * kernels.BY_SYMBOL + 2 * kernels.BY_ACCOUNT))
def test_no_limit_that_is_nan_lets_an_order_pass(place, reducing):
    book, _ = flat(lavish())
    book.units[0, 0, kernels.HELD] = -50.0 if reducing else 0.0
    kernels.current(book)
    numbers = book.limits.copy()
    numbers[place] = math.nan
    write(book.control, kernels.LIMITS_AT, numbers.view(np.int64))
    others = {kernels.SCALARS + kernels.BY_SYMBOL + k for k in range(kernels.BY_SYMBOL)}  # of the other symbol
    others |= {kernels.SCALARS + 2 * kernels.BY_SYMBOL + kernels.BY_ACCOUNT + k for k in range(kernels.BY_ACCOUNT)}
    decision, reason, quantity, _ = judged(book, BUY, NOW)
    assert (decision == Decision.REJECT and quantity == 0) == (place not in others), Reason(reason)


@pytest.mark.parametrize("place", range(kernels.ORDER))
@pytest.mark.parametrize("value", [math.nan, INF, -INF])
def test_no_order_with_a_number_that_is_none_passes(place, value):
    book, _ = flat(lavish())
    question, reply = np.array([7, 0, 0, 1, 10, 1, 50], np.float64), np.zeros(kernels.LARGEST)
    question[place] = value
    kernels.answer(kernels.CHECK, question, reply, NOW, book)
    assert (reply[0], reply[2]) == (Decision.REJECT, Reason.INVALID_NUMBER)


@pytest.mark.parametrize("part", ["prices", "covariance", "deviations", "units", "shared", "totals", "firm"])
def test_no_book_that_holds_nan_lets_an_order_pass(part):
    book, _ = flat(lavish())
    kernels.current(book)
    array = getattr(book, part)
    array[(0,) * array.ndim] = math.nan
    assert judged(book, BUY, NOW)[0] == Decision.REJECT


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_position": [23.0, INF]}, Reason.POSITION),
        ({"max_gross": 1200.0}, Reason.GROSS),
        ({"max_net": 1199.0}, Reason.NET),
        ({"max_leverage": 0.125}, Reason.LEVERAGE),
        ({"credit": 1200.0}, Reason.CREDIT),
        ({"max_var_increment": 100.0}, Reason.VAR_INCREMENT),
        ({"max_var": 100.0}, Reason.VAR),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else "",
)
@pytest.mark.parametrize("lot", [1.0, 5.0, 0.5])
def test_reduction_in_size_is_in_lots_and_the_next_lot_is_refused(limits, reason, lot):
    def book():
        return flat(lavish(lot=[lot, 1.0], **limits))[0]

    decision, found, quantity, _ = judged(book(), order(quantity=100.0), NOW)
    assert (Decision(decision), Reason(found)) == (Decision.REDUCE, reason)
    assert quantity > 0
    assert quantity % lot == 0
    assert judged(book(), order(quantity=quantity), NOW)[1] == Reason.PASSED
    assert judged(book(), order(quantity=quantity + lot), NOW)[:3] == (Decision.REDUCE, reason, quantity)


def test_halted_market_is_no_matter_of_size():
    book, _ = flat(lavish(max_position=[5.0, INF], halted=[True, False]))
    assert judged(book, BUY, NOW)[:3] == (Decision.REJECT, Reason.POSITION, 0.0)


def test_closing_a_position_is_not_blocked_by_limits_it_is_beyond_already():
    tight = lavish(max_position=[1.0, INF], max_gross=1.0, max_net=1.0, max_leverage=0.001, credit=1.0, max_var=0.01)
    book, _ = twins(tight, COVARIANCE, [0.0, 0.0], [[40.0, 0.0], [0.0, 0.0]], [50.0, 40.0], [NOW, NOW])
    assert judged(book, order(side=-1, quantity=30.0), NOW)[1] == Reason.PASSED
    decision, reason, quantity, _ = judged(book, order(number=8, side=-1, quantity=20.0), NOW)
    assert (Decision(decision), Reason(reason), quantity) == (Decision.REDUCE, Reason.POSITION, 10.0)
    assert judged(book, order(number=9, side=-1, quantity=1.0), NOW)[0] == Decision.REJECT


def test_safe_mode_lets_reduce_and_emergency_nothing():
    held = [[-40.0, 0.0], [0.0, 0.0]]
    book, _ = twins(lavish(mode=Mode.SAFE_MODE), COVARIANCE, [9e4, 0.0], held, [50.0, 40.0], [NOW, NOW])
    assert judged(book, order(side=-1), NOW)[:2] == (Decision.REJECT, Reason.MODE)
    assert judged(book, order(number=8, quantity=60.0), NOW)[:3] == (Decision.REDUCE, Reason.MODE, 40.0)
    post(book, lavish(mode=Mode.EMERGENCY_SHUTDOWN))
    kernels.release(2, NOW, book)
    assert judged(book, order(number=9), NOW)[:2] == (Decision.REJECT, Reason.MODE)


def test_fill_said_twice_counts_once_and_releases_once():
    book, _ = flat(lavish())
    sequence = judged(book, BUY, NOW)[3]
    assert kernels.commit(sequence, 4.0, 50.0, NOW, book) == Outcome.DONE
    assert kernels.commit(sequence, 4.0, 50.0, NOW, book) == Outcome.REPEATED
    assert kernels.commit(sequence, 11.0, 50.0, NOW, book) == Outcome.OVERFILL
    assert kernels.commit(sequence, 5.0, math.nan, NOW, book) == Outcome.INVALID_NUMBER
    assert book.units[0, 0].tolist() == [4.0, 6.0, 0.0, 300.0]
    assert kernels.release(sequence, NOW, book) == Outcome.DONE
    assert kernels.release(sequence, NOW, book) == Outcome.NOT_OPEN
    assert kernels.commit(sequence, 5.0, 50.0, NOW, book) == Outcome.NOT_OPEN
    assert kernels.release(10**9, NOW, book) == Outcome.UNKNOWN_ORDER
    assert book.units[0, 0].tolist() == [4.0, 0.0, 0.0, 0.0]
    assert book.totals[0, kernels.CASH] == 9800.0


def test_old_and_future_ticks_are_refused():
    book, _ = flat(lavish())
    assert kernels.tick(0, 51.0, NOW + 2, NOW + 1, book) == Outcome.OUT_OF_DATE
    assert kernels.tick(0, 51.0, NOW - 1, NOW + 1, book) == Outcome.OUT_OF_DATE
    assert kernels.tick(0, math.nan, NOW, NOW, book) == Outcome.INVALID_NUMBER
    assert kernels.tick(2, 51.0, NOW, NOW, book) == Outcome.INVALID_NUMBER
    assert kernels.tick(0, 51.0, NOW + 1, NOW + 1, book) == Outcome.DONE


class Desk(RuleBasedStateMachine):
    """Whatever is checked, filled and released at unchanged prices: no limit is passed, were any part filled."""

    LIMITS = lavish(
        window_ns=0,
        max_position=[30.0, 40.0],
        max_gross=2500.0,
        max_net=1800.0,
        max_leverage=1.5,
        credit=3500.0,
        max_var=200.0,
    )

    @initialize()
    def start(self):
        cash, held = [2000.0, 1500.0], [[10.0, -5.0], [0.0, 0.0]]
        self.book, self.plain = twins(self.LIMITS, COVARIANCE, cash, held, [50.0, 40.0], [NOW, NOW])
        self.allowed, self.number, self.closed = [], 0, 0.0

    @rule(account=st.integers(0, 1), symbol=st.integers(0, 1), side=st.sampled_from([1, -1]), lots=st.integers(1, 60))
    def check(self, account, symbol, side, lots):
        self.number += 1
        price = self.book.prices[symbol]
        asked = PlainOrder(self.number, account, symbol, side, float(lots), True, price)
        reduction = self.plain.closing(account, symbol, side)
        _, reason, quantity, sequence = judged(self.book, asked, NOW)
        assert (Reason(reason), quantity) == self.plain.decide(asked, NOW)
        if 0 < quantity <= reduction:  # it may undo a hedge: the one way to more value at risk than was allowed
            self.closed += 2.0 * math.sqrt(COVARIANCE[symbol, symbol]) * quantity * price
        if quantity:
            self.allowed.append((sequence, quantity, price))

    @rule(which=st.integers(0, 10**6), share=st.integers(1, 4))
    def commit(self, which, share):
        if self.allowed:
            sequence, quantity, price = self.allowed[which % len(self.allowed)]
            filled = max(1.0, float(int(quantity * share / 4)))
            assert kernels.commit(sequence, filled, price, NOW, self.book) == self.plain.commit(sequence, filled, price)
            empty(self.book)

    @rule(which=st.integers(0, 10**6))
    def release(self, which):
        if self.allowed:
            sequence = self.allowed[which % len(self.allowed)][0]
            assert kernels.release(sequence, NOW, self.book) == self.plain.release(sequence)
            empty(self.book)

    @invariant()
    def within_every_limit(self):
        if not hasattr(self, "plain"):
            return
        limits, plain, firm = self.LIMITS, self.plain, 0.0
        for account in range(2):
            state = plain.state(account)
            firm += state["gross"]
            assert all(x <= most for x, most in zip(state["extremes"], limits.max_position, strict=True))
            assert state["gross"] <= limits.max_gross
            assert max(state["long"], -state["short"]) <= limits.max_net
            equity = plain.cash[account] + float(plain.held[account] @ np.array(plain.prices))
            assert state["gross"] <= limits.max_leverage * equity + 1e-9
            assert state["bound"] <= plain.cash[account] + 1e-9
            var = 2.0 * (math.sqrt(max(plain.variance(account), 0.0)) + state["open"])
            assert var <= limits.max_var + self.closed + 1e-9
        assert firm <= limits.credit


TestDesk = Desk.TestCase
TestDesk.settings = settings(max_examples=40, stateful_step_count=30)
