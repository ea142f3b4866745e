"""The gate as a process meets it: callers that race over lanes, kills, dead writers, a gate that dies."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from actors.trading.gate.client import GateClient
from actors.trading.gate.switch import KillSwitch
from cluster.errors import InvalidMarketData, InvalidPortfolio, InvalidRequest, LaneLost
from cluster.lanes.lane import Lane
from cluster.lanes.page import Page, PageUnreadable, begin
from cluster.lanes.peer import started
from hive.messages.gate import Action
from hive.messages.orders import Decision, InvalidOrder, InvalidVerdict, Mode, Order, Outcome, Reason, Side, Verdict
from tests.actors.test_gate_support import (
    DESK,
    OPEN_LIMITS,
    Orders,
    caller,
    dead_writer,
    gate_process,
    killer,
    make_gate,
    sums,
)
from tests.cluster.lanes.sides import side
from tests.conftest import eventually

CALLERS = 4


def test_verdicts_are_the_same_in_process_and_over_a_lane(tmp_path):
    make = Orders()
    with make_gate(tmp_path, max_position=50.0) as gate:
        client = GateClient.here(gate)
        first = gate.check(make(Side.BUY, 10.0))
        second = client.check(make(Side.BUY, 100.0, None))
        assert (first.decision, first.quantity, first.reason) == (Decision.ALLOW, 10.0, Reason.PASSED)
        assert (second.decision, second.quantity, second.reason) == (Decision.REDUCE, 40.0, Reason.POSITION)
        assert (first.sequence, second.sequence) == (1, 2)
        assert 0 < first.ns < second.ns < time.monotonic_ns()
        assert client.commit(1, 10.0, 100.0) is Outcome.DONE
        assert gate.release(2) is Outcome.DONE
        assert client.release(2) is Outcome.NOT_OPEN
        assert client.status()["open_orders"] == 0
        assert client.tick("AAA", 101.0, time.monotonic_ns()) is Outcome.DONE
        assert client.tick("ZZZ", 101.0, time.monotonic_ns()) is Outcome.INVALID_NUMBER
        assert client.check(make(Side.BUY, 1.0, symbol="ZZZ")).reason is Reason.UNKNOWN_SYMBOL
        assert client.check(make(Side.BUY, 1.0, account="nobody")).reason is Reason.UNKNOWN_ACCOUNT
        client.close()


def test_controls_hold_for_the_next_order(tmp_path):
    make = Orders()
    with make_gate(tmp_path) as gate:

        def reason() -> Reason:
            return gate.check(make(Side.BUY, 1.0)).reason

        assert reason() is Reason.PASSED
        gate.control.mark(Action.HALT, "AAA")
        assert reason() is Reason.HALTED
        gate.control.mark(Action.RESUME, "AAA", DESK)
        gate.control.mark(Action.RESTRICT, "AAA")
        assert reason() is Reason.RESTRICTED
        gate.control.mark(Action.PERMIT, "AAA", DESK)
        gate.control.mark(Action.DISABLE, "desk")
        assert reason() is Reason.ACCOUNT_DISABLED
        gate.control.mark(Action.ENABLE, "desk", DESK)
        gate.control.set_mode(Mode.SAFE_MODE, DESK)
        assert reason() is Reason.MODE
        gate.control.set_mode(Mode.FULL_PERFORMANCE, DESK)
        gate.control.set_limits({"max_gross": 1.0}, DESK)
        assert reason() is Reason.GROSS
        gate.control.set_limits({}, DESK)
        assert reason() is Reason.PASSED
        with pytest.raises(InvalidRequest, match="does not know"):
            gate.control.mark(Action.HALT, "ZZZ")


def test_kill_is_latched_until_a_person_who_saw_it_releases_it(tmp_path):
    make = Orders()
    with make_gate(tmp_path) as gate:
        assert gate.control.kill() == 1
        assert gate.control.kill() == 2
        assert gate.check(make(Side.SELL, 1.0)).reason is Reason.KILLED
        assert not gate.control.release_kill(1, DESK)
        with pytest.raises(InvalidRequest):
            gate.control.release_kill(3, DESK)
        assert gate.control.release_kill(2, DESK)
        assert gate.check(make(Side.SELL, 1.0)).reason is Reason.PASSED


def test_kill_from_another_process_closes_the_gate_for_the_next_order_while_checks_run(tmp_path):
    with make_gate(tmp_path) as gate, side(caller, 100_000, 3, True) as busy:
        busy.pipe.send((gate.open(busy.pid, started(busy.pid)), gate.facts))
        client, make = GateClient.here(gate), Orders()
        assert eventually(lambda: gate.status()["sequence"] > 100)
        assert client.check(make(Side.BUY, 1.0)).decision is Decision.ALLOW
        with side(killer, gate.control.address) as other:
            assert other.answer() == 1
        before = gate.status()
        assert client.check(make(Side.BUY, 1.0)).reason is Reason.KILLED
        assert eventually(lambda: gate.status()["rejected"] > before["rejected"] + 50)
        assert gate.status()["allowed"] == before["allowed"]
        client.close()


def test_four_processes_that_race_share_one_limit_to_the_last_unit(tmp_path):
    limits = replace(OPEN_LIMITS, max_gross=100_000.0)
    with make_gate(tmp_path, settings=limits) as gate:
        racers = [side(caller, 200, 10 + k, False) for k in range(CALLERS)]
        processes = [racer.__enter__() for racer in racers]
        try:
            for process in processes:
                process.pipe.send((gate.open(process.pid, started(process.pid)), gate.facts))
            answers = [process.answer() for process in processes]
        finally:
            for racer in racers:
                racer.__exit__(None, None, None)
        assert sum(allowed for allowed, _ in answers) == 1000.0
        assert {reason for _, outcomes in answers for reason in outcomes} == {Reason.PASSED, Reason.GROSS}
        assert sums(gate)["gross"] == 100_000.0


def test_no_limit_is_passed_while_four_processes_check_fill_and_release(tmp_path):
    limits = replace(OPEN_LIMITS, max_gross=5_000.0, max_net=3_000.0)
    with make_gate(tmp_path, settings=limits, max_position=25.0, cash=2_000.0) as gate:
        racers = [side(caller, 400, 20 + k, True) for k in range(CALLERS)]
        processes = [racer.__enter__() for racer in racers]
        try:
            for process in processes:
                process.pipe.send((gate.open(process.pid, started(process.pid)), gate.facts))
            looks = 0
            while looks < 20 or not all(process.pipe.poll(0) for process in processes):
                found = sums(gate)
                assert found["gross"] <= 5_000.0
                assert found["gross"] == pytest.approx(found["kept"])
                assert found["net"] <= 3_000.0
                assert found["position"] <= 25.0
                assert found["cash"] >= -1e-6
                looks += 1
                time.sleep(0.005)
            answers = [process.answer() for process in processes]
        finally:
            for racer in racers:
                racer.__exit__(None, None, None)
        reasons = {Reason(reason) for _, outcomes in answers for reason in outcomes}
        assert Reason.PASSED in reasons
        assert reasons & {Reason.GROSS, Reason.NET, Reason.POSITION, Reason.BUYING_POWER}
        assert Reason.GATE_UNREACHABLE not in reasons
        assert sums(gate)["held"] > 0


def test_writer_that_dies_inside_the_page_closes_the_gate_until_it_is_written_whole(tmp_path):
    make = Orders()
    with make_gate(tmp_path) as gate:
        words = len(gate._book.control)
        with side(dead_writer, os.getpid(), gate.control.address.descriptor, words) as writer:
            assert writer.answer() == "begun"
            writer.process.join(10.0)
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.LIMITS_UNREADABLE
        assert gate.tick("AAA", 100.0, time.monotonic_ns()) is Outcome.DONE
        gate.control.set_limits({}, DESK)
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.PASSED


def test_prices_that_no_longer_tick_are_refused(tmp_path):
    make = Orders()
    with make_gate(tmp_path, settings=replace(OPEN_LIMITS, stale_after_s=0.05)) as gate:
        gate.tick("AAA", 100.0, time.monotonic_ns())
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.PASSED
        time.sleep(0.06)
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.STALE_DATA


def test_order_whose_verdict_came_too_late_is_abandoned(tmp_path):
    make = Orders()
    with make_gate(tmp_path) as gate:
        client = GateClient.here(gate)
        known = make(Side.BUY, 5.0)
        assert client.check(known).decision is Decision.ALLOW
        late = make(Side.BUY, 3.0)
        assert client.check(late, patience_s=0.0).reason is Reason.GATE_UNREACHABLE
        again = Order(known.client_order_id, "desk", "AAA", Side.BUY, 4.0, 100.0)
        assert client.check(again, patience_s=0.0).reason is Reason.GATE_UNREACHABLE
        assert client.check(make(Side.BUY, 1.0)).decision is Decision.ALLOW
        assert sums(gate)["gross"] == 600.0
        client.close()


def test_gate_that_is_killed_rejects_by_its_client_and_never_raises(tmp_path):
    make = Orders()
    with side(gate_process, str(tmp_path), OPEN_LIMITS) as gate:
        _, facts = gate.answer()
        client = GateClient(Lane(gate.call("open", os.getpid(), started(os.getpid()))), facts)
        assert client.check(make(Side.BUY, 1.0)).decision is Decision.ALLOW
        gate.kill()
        gate.process.join(10.0)
        for _ in range(3):
            verdict = client.check(make(Side.BUY, 1.0))
            assert (verdict.decision, verdict.reason) == (Decision.REJECT, Reason.GATE_UNREACHABLE)
            assert (verdict.quantity, verdict.sequence) == (0.0, 0)
        assert client.release(1) is Outcome.GATE_UNREACHABLE
        assert client.status() is None
        client.close()
        assert client.check(make(Side.BUY, 1.0)).reason is Reason.GATE_UNREACHABLE


def test_kill_switch_of_a_gate_that_is_gone_says_so(tmp_path):
    with side(gate_process, str(tmp_path), OPEN_LIMITS) as process:
        process.answer()
        pid = process.pid
    with make_gate(tmp_path) as gate:
        with pytest.raises(LaneLost):
            KillSwitch(replace(gate.control.address, pid=pid))
        assert not KillSwitch(gate.control.address).killed


def test_books_that_cannot_be_valued_are_refused(tmp_path):
    with pytest.raises(InvalidPortfolio, match="no price"):
        make_gate(tmp_path, positions={"ZZZ": 1.0})
    with pytest.raises(InvalidPortfolio, match="tick"):
        make_gate(tmp_path, tick=0.0)
    with pytest.raises(InvalidPortfolio, match="twice"):
        make_gate(tmp_path, accounts=("desk", "desk"))
    with pytest.raises(InvalidPortfolio, match="no number"):
        make_gate(tmp_path, cash=float("nan"))
    assert issubclass(InvalidMarketData, Exception)


@pytest.mark.parametrize(
    "field",
    [
        {"client_order_id": 0},
        {"client_order_id": True},
        {"client_order_id": 2**53},
        {"account": ""},
        {"symbol": None},
        {"side": 0},
        {"quantity": 0.0},
        {"quantity": float("nan")},
        {"limit_price": 0.0},
        {"limit_price": float("inf")},
    ],
)
def test_orders_that_are_none_are_refused(field):
    with pytest.raises(InvalidOrder, match=next(iter(field))):
        Order(**{"client_order_id": 1, "account": "a", "symbol": "s", "side": Side.BUY, "quantity": 1.0, **field})


def test_verdicts_that_contradict_themselves_are_refused():
    for decision, quantity, reason, sequence in [
        (Decision.ALLOW, 0.0, Reason.PASSED, 1),
        (Decision.ALLOW, 1.0, Reason.GROSS, 1),
        (Decision.REJECT, 1.0, Reason.GROSS, 1),
        (Decision.REJECT, 0.0, Reason.PASSED, 1),
        (Decision.REDUCE, 1.0, Reason.GROSS, 0),
    ]:
        with pytest.raises(InvalidVerdict):
            Verdict(decision, quantity, reason, "", sequence, 1)


def test_page_gives_whole_bodies_or_none():
    page = Page.create("riskswarm-test", 3)
    with pytest.raises(PageUnreadable):
        page.read()
    page.write([1.0, 2.0, 3.0])
    other = Page.attach(page.address(os.getpid()))
    assert other.read().tolist() == [1.0, 2.0, 3.0]
    begin(page.memory.words, 0)
    with pytest.raises(PageUnreadable):
        other.read()
    page.write([4.0, 5.0, 6.0])
    assert other.read().tolist() == [4.0, 5.0, 6.0]
    with pytest.raises(InvalidRequest):
        page.write([1.0])
    other.close()
    page.close()
