"""A gate that ends and comes back: what it knew it knows again, and what may be lost it does not pretend to know."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest

from actors.trading.gate import switch
from actors.trading.gate.client import GateClient
from actors.trading.gate.gate import Gate
from actors.trading.gate.history import JOURNAL, JournalUnavailable, newest
from cluster.errors import InvalidMarketData, InvalidPortfolio, InvalidRequest, InvalidSettings
from cluster.lanes.lane import Lane
from cluster.lanes.peer import started
from hive.messages.gate import Action, Instruction, Unwarranted, Warrant
from hive.messages.orders import Decision, InvalidVerdict, Mode, Outcome, Reason, Side, Verdict
from tests.actors.test_gate_support import DESK, OPEN_LIMITS, SYMBOLS, Orders, gate_process, make_gate
from tests.cluster.lanes.sides import side
from tests.conftest import RECOVERY_S, eventually, stopped

NOBODY = Warrant("", "")


def state(gate: Gate):
    """Holdings and everything that instructions set."""
    found = gate.describe()
    return {
        "accounts": {
            name: {**account, "cash": pytest.approx(account["cash"], rel=1e-12)}
            for name, account in found.accounts.items()
        },
        "limits": found.limits,
        "marks": (found.halted, found.restricted, found.disabled, found.mode, found.killed, found.kills),
    }


def crash(path, into):
    """The database as a crash would leave it, below another directory."""
    into.mkdir()
    source, target = sqlite3.connect(path / JOURNAL), sqlite3.connect(into / JOURNAL)
    source.backup(target)
    source.close()
    target.close()
    if (path / switch.KILLED).exists():
        shutil.copytree(path / switch.KILLED, into / switch.KILLED)
    return into


def trade(gate: Gate, draw: random.Random, make: Orders, count: int) -> None:
    """Random orders, of which some are filled, in parts or whole, and some released."""
    for _ in range(count):
        way, symbol = draw.choice([Side.BUY, Side.SELL]), draw.choice(SYMBOLS)
        price = draw.choice([None, 100.0, 101.0])
        verdict = gate.check(make(way, draw.randint(1, 9), price, symbol, draw.choice(["desk", "fund"])))
        if verdict.quantity and draw.random() < 0.6:
            gate.commit(verdict.sequence, draw.randint(1, int(verdict.quantity)), draw.uniform(99, 101))
        if verdict.quantity and draw.random() < 0.4:
            gate.release(verdict.sequence)


@pytest.mark.parametrize("orderly", [True, False])
def test_a_gate_that_returns_knows_holdings_reservations_and_instructions(tmp_path, orderly):
    draw, make = random.Random(5), Orders()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    gate = make_gate(first, positions={"BBB": 7.0})
    trade(gate, draw, make, 40)
    gate.checkpoint()
    trade(gate, draw, make, 40)
    gate.control.reconcile({"fund": {"CCC": -3.0}}, {"desk": 5e5}, DESK)
    trade(gate, draw, make, 10)
    gate.control.mark(Action.HALT, "AAA")
    gate.control.mark(Action.RESTRICT, "CCC")
    gate.control.mark(Action.DISABLE, "fund")
    gate.control.mark(Action.RESUME, "AAA", DESK)
    gate.control.set_limits({"max_gross": 5e5, "price_collar": 0.02}, DESK)
    gate.control.kill()
    before, last = state(gate), gate.status()["sequence"]
    if orderly:
        gate.close()
        again = make_gate(first, positions={"BBB": 99.0})
    else:
        assert eventually(lambda: gate.journal.waiting == 0)
        again = make_gate(crash(first, second))
        gate.close()
    with again:
        found = state(again)
        assert again.describe().accounts == before["accounts"]
        assert found["limits"] == before["limits"]
        if orderly:
            assert found["marks"] == before["marks"]
            assert again.status()["sequence"] == last
        else:
            assert found["marks"] == (*before["marks"][:3], "SAFE_MODE", *before["marks"][4:])
            assert again.status()["sequence"] == last + OPEN_LIMITS.journal_size


def test_an_id_stays_forbidden_over_a_restart_until_its_window_has_passed(tmp_path):
    limits = replace(OPEN_LIMITS, duplicate_window_s=1.0)
    order = Orders()(Side.BUY, 1.0)
    with make_gate(tmp_path, settings=limits) as gate:
        allowed = gate.check(order)
        assert allowed.decision is Decision.ALLOW
    with make_gate(tmp_path, settings=limits) as gate:
        if time.monotonic_ns() - allowed.ns < 0.9e9:
            assert gate.check(order).reason is Reason.DUPLICATE
        assert eventually(lambda: gate.check(order).decision is Decision.ALLOW)


def test_after_a_kill_of_the_process_only_reductions_pass_until_somebody_reconciles(tmp_path):
    make, limits = Orders(), replace(OPEN_LIMITS, patience_s=20.0, journal_size=64)
    seen: list[int] = []
    for life in range(2):
        with side(gate_process, str(tmp_path), limits) as gate:
            _, facts = gate.answer()
            client = GateClient(Lane(gate.call("open", os.getpid(), started(os.getpid()))), facts)
            way = Side.BUY if life == 0 else Side.SELL
            first = client.check(make(way, 5.0), durable=True, patience_s=RECOVERY_S)
            if life == 0:
                assert first.decision is Decision.ALLOW
                assert client.commit(first.sequence, 5.0, 100.0) is Outcome.DONE
                second = client.check(make(Side.BUY, 1.0, symbol="BBB"), durable=True, patience_s=RECOVERY_S)
                assert second.decision is Decision.ALLOW
            else:
                assert first.reason is Reason.PASSED  # it reduces what the first life bought
                assert client.check(make(Side.BUY, 1.0)).reason is Reason.MODE
            seen += [client.check(make(Side.SELL, 500.0, 100.0, "ZZZ")).sequence for _ in range(5)]
            gate.kill()
            gate.process.join(10.0)
            client.close()
    assert len(set(seen)) == len(seen)
    with make_gate(tmp_path, settings=limits) as gate:
        found = gate.describe()
        assert found.unreconciled and found.mode == "SAFE_MODE"
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.MODE
        assert {order["symbol"]: order["allowed"] for order in found.accounts["desk"]["open"].values()} == {
            "AAA": 5.0,
            "BBB": 1.0,
        }
        with pytest.raises(Unwarranted):
            gate.control.reconcile({}, {}, NOBODY)
        with pytest.raises(InvalidRequest):
            gate.control.reconcile({"desk": {"ZZZ": 1.0}}, {}, DESK)
        with pytest.raises(InvalidRequest):
            gate.control.reconcile({}, {"desk": float("nan")}, DESK)
        gate.control.reconcile({"desk": {"AAA": 4.0}}, {}, DESK)
        assert gate.describe().accounts["desk"]["positions"] == {"AAA": 4.0}
        allowed = gate.check(make(Side.BUY, 1.0))
        assert allowed.decision is Decision.ALLOW and allowed.sequence > max(seen)
    rows = newest(tmp_path / JOURNAL, 1000)
    assert len({row["sequence"] for row in rows["journal"]}) == len(rows["journal"])
    starts = [row["body"] for row in reversed(rows["control"]) if row["action"] == "start"]
    assert ['"clean": true' in body for body in starts] == [True, False, False]


def test_a_durable_verdict_is_on_disk_and_one_that_does_not_get_there_binds_nothing(tmp_path):
    make = Orders()
    with make_gate(tmp_path, settings=replace(OPEN_LIMITS, journal_flush_s=10.0)) as gate:
        client = GateClient.here(gate)
        quick = client.check(make(Side.BUY, 1.0))
        assert gate.journal.durable < quick.sequence
        verdict = client.check(make(Side.BUY, 2.0), durable=True, patience_s=RECOVERY_S)
        assert verdict.decision is Decision.ALLOW
        assert newest(tmp_path / JOURNAL, 1)["journal"][0]["sequence"] == verdict.sequence
        blocker = sqlite3.connect(tmp_path / JOURNAL, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        late = client.check(make(Side.BUY, 4.0), durable=True, patience_s=0.2)
        assert (late.decision, late.reason, late.quantity) == (Decision.REJECT, Reason.NOT_DURABLE, 0.0)
        assert late.sequence > verdict.sequence
        assert gate.status()["open_orders"] == 2
        blocker.execute("ROLLBACK")
        blocker.close()
        client.close()


def test_a_kill_is_kept_by_a_file_when_the_gate_is_dead_and_a_release_needs_a_person(tmp_path):
    make = Orders()
    assert not switch.kill(tmp_path, Warrant("ada", "drill")).closed
    with make_gate(tmp_path) as gate:
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.KILLED
        assert switch.kill(tmp_path, Warrant("bob", "again")).closed
        assert eventually(lambda: newest(tmp_path / JOURNAL, 1)["control"][0]["operator"] == "bob")
        with pytest.raises(Unwarranted):
            gate.control.release_kill(2, NOBODY)
        assert not gate.control.release_kill(1, DESK)
        assert len(switch.written_kills(tmp_path)) == 2
    with make_gate(tmp_path) as gate:
        assert gate.control.killed and gate.control.kills == 2
        assert gate.control.release_kill(2, DESK)
        assert not switch.written_kills(tmp_path)
        assert gate.check(make(Side.BUY, 1.0)).decision is Decision.ALLOW
    with make_gate(tmp_path) as gate:
        assert not gate.control.killed


def test_a_gate_that_stands_still_is_killed_and_stays_so_over_its_death(tmp_path):
    make = Orders()
    with side(gate_process, str(tmp_path), OPEN_LIMITS) as gate:
        gate.answer()
        with stopped(gate.pid):
            assert switch.kill(tmp_path).closed
            gate.kill()
        gate.process.join(10.0)
    assert switch.find(tmp_path) is None
    with make_gate(tmp_path) as gate:
        assert gate.check(make(Side.SELL, 1.0)).reason is Reason.KILLED


def test_a_gate_that_is_told_to_retire_ends_in_order_and_answers_nobody_any_more(tmp_path):
    make = Orders()
    with side(gate_process, str(tmp_path), replace(OPEN_LIMITS, journal_flush_s=10.0)) as gate:
        _, facts = gate.answer()
        client = GateClient(Lane(gate.call("open", os.getpid(), started(os.getpid()))), facts)
        last = client.check(make(Side.BUY, 5.0)).sequence
        found = switch.find(tmp_path)
        assert found is not None and found.retire(10.0)
        found.close()
        assert client.check(make(Side.BUY, 5.0)).reason is Reason.GATE_UNREACHABLE
        client.close()
    rows = newest(tmp_path / JOURNAL, 1)
    assert rows["journal"][0]["sequence"] == last and rows["control"][0]["action"] == "close"
    with make_gate(tmp_path) as gate:
        assert not gate.describe().unreconciled
        gate._book.control[switch.RETIRE] = 1
        assert eventually(lambda: newest(tmp_path / JOURNAL, 1)["control"][0]["action"] == "close")


def test_what_permits_less_holds_though_the_disk_refuses_and_what_permits_more_does_not(tmp_path):
    make = Orders()
    with make_gate(tmp_path) as gate:
        blocker = sqlite3.connect(tmp_path / JOURNAL, isolation_level=None)
        gate.control._database.execute("PRAGMA busy_timeout=50")
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable):
            gate.control.mark(Action.HALT, "AAA")
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.HALTED
        with pytest.raises(JournalUnavailable):
            gate.control.mark(Action.RESUME, "AAA", DESK)
        assert gate.check(make(Side.BUY, 1.0)).reason is Reason.HALTED
        blocker.execute("ROLLBACK")
        blocker.close()
        gate.control.mark(Action.RESUME, "AAA", DESK)
        assert gate.check(make(Side.BUY, 1.0)).decision is Decision.ALLOW


def test_whatever_permits_more_needs_somebody_who_says_why(tmp_path):
    with make_gate(tmp_path) as gate:
        gate.control.set_mode(Mode.EMERGENCY_SHUTDOWN, NOBODY)
        gate.control.set_limits({"max_gross": 1e6, "confidence": 0.999}, NOBODY)
        refused = [
            (Action.MODE, {"mode": "safe_mode"}),
            (Action.LIMITS, {"max_gross": 2e6}),
            (Action.LIMITS, {"confidence": 0.95}),
            (Action.LIMITS, {}),
            (Action.RESUME, {"name": "AAA"}),
            (Action.PERMIT, {"name": "AAA"}),
            (Action.ENABLE, {"name": "desk"}),
            (Action.RELEASE_KILL, {"kills": 0}),
            (Action.RECONCILE, {}),
        ]
        for action, body in refused:
            for by in (NOBODY, Warrant("ada", " "), Warrant("", "why")):
                with pytest.raises(Unwarranted):
                    gate.control.obey(Instruction(action, body, by))
        for body in ({"max_gros": 1.0}, {"max_gross": -1.0}, {"confidence": 2.0}):
            with pytest.raises(InvalidSettings):
                gate.control.obey(Instruction(Action.LIMITS, body, DESK))
        with pytest.raises(InvalidRequest):
            gate.control.obey(Instruction(Action.LIMITS, {"max_gross": float("nan")}, DESK))
        with pytest.raises(InvalidRequest):
            gate.control.obey(Instruction(Action.MODE, {"mode": "half"}, DESK))
        assert gate.describe().mode == "EMERGENCY_SHUTDOWN"
        assert gate.describe().changed_limits == ("max_gross", "confidence")


class Nearby:
    """A way to a gate of this process, as Ray is one to a gate of another."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.opened = 0

    def open(self, patience_s):
        self.opened += 1
        return Lane(self.gate.open(os.getpid(), started(os.getpid()))), self.gate.facts


def test_another_market_keeps_positions_and_callers_learn_its_symbols(tmp_path):
    make = Orders()
    with make_gate(tmp_path) as gate:
        client = GateClient(reach=Nearby(gate))
        bought = client.check(make(Side.BUY, 10.0))
        client.commit(bought.sequence, 10.0, 100.0)
        held = client.check(make(Side.BUY, 3.0, symbol="BBB"))
        before = state(gate)["accounts"]
        instruments = [replace(gate.control.instruments[0], symbol=name) for name in ("NEW", "BBB", "AAA")]
        with pytest.raises(InvalidMarketData, match="lacks AAA"):
            gate.renew(instruments[:2], np.eye(2), {})
        gate.renew(instruments, np.diag([1e-4, 4e-4, 9e-4]), {"NEW": 50.0, "AAA": 90.0})
        assert gate.facts.symbols == (*SYMBOLS, "NEW")
        assert gate.describe().accounts == before
        assert gate._book.prices.tolist() == [100.0, 100.0, 100.0, 50.0]  # a tick is newer than a snapshot
        assert gate._book.covariance[0, 0] == 9e-4 and np.isnan(gate._book.covariance[2, 2])
        gate.tick("CCC", 101.0, time.monotonic_ns())
        assert client.check(make(Side.BUY, 1.0, symbol="CCC")).reason is Reason.INVALID_NUMBER
        assert client.check(make(Side.BUY, 1.0, 50.0, "NEW")).reason is Reason.STALE_DATA
        assert client.tick("NEW", 50.0) is Outcome.DONE
        assert client.check(make(Side.BUY, 1.0, 50.0, "NEW")).decision is Decision.ALLOW
        assert client.release(held.sequence) is Outcome.DONE
        client.close()
    assert newest(tmp_path / JOURNAL, 2)["journal"][1]["symbol"] == "NEW"


def test_a_held_symbol_without_a_market_closes_the_gate_until_it_is_reconciled(tmp_path):
    make = Orders()
    with make_gate(tmp_path, positions={"AAA": 10.0}) as gate:
        fields = {"settings": OPEN_LIMITS, "accounts": gate._accounts, "journal": tmp_path / JOURNAL}
        rest = gate.control.instruments[1:]
    with Gate(instruments=rest, covariance=np.eye(2) * 1e-4, prices={"BBB": 100.0, "CCC": 100.0}, **fields) as gate:
        gate.tick("BBB", 100.0, time.monotonic_ns())
        assert gate.check(make(Side.BUY, 1.0, symbol="BBB", account="fund")).reason is Reason.INVALID_NUMBER
        gate.control.reconcile({"desk": {"AAA": 0.0}}, {}, DESK)
        assert gate.check(make(Side.BUY, 1.0, symbol="BBB", account="fund")).decision is Decision.ALLOW


def test_an_account_with_positions_cannot_leave_the_book(tmp_path):
    with make_gate(tmp_path, positions={"AAA": 10.0}):
        pass
    with pytest.raises(InvalidPortfolio, match="desk"):
        make_gate(tmp_path, accounts=("fund",))


def test_many_orders_in_a_message_are_judged_and_recorded_one_by_one(tmp_path):
    make = Orders()
    with make_gate(tmp_path, max_position=100.0) as gate:
        client = GateClient.here(gate)
        verdicts = client.check_many([make(Side.BUY, 1.0, symbol=SYMBOLS[i % 3]) for i in range(1000)])
        assert [v.sequence for v in verdicts] == list(range(1, 1001))
        assert sum(v.quantity for v in verdicts) == 300.0
        assert {v.reason for v in verdicts} == {Reason.PASSED, Reason.POSITION}
        assert client.check_many([make(Side.SELL, 1.0, account="nobody")])[0].reason is Reason.UNKNOWN_ACCOUNT
        assert client.check_many([]) == []
        client.close()
    assert len(newest(tmp_path / JOURNAL, 5000)["journal"]) == 1001


def test_numbers_that_are_no_verdict_are_refused():
    assert Verdict.of(2.0, 3.0, 15.0, 7.0, 1) == Verdict(
        Decision.REDUCE, 3.0, Reason.POSITION, "the position would pass its limit", 7, 1
    )
    nan = float("nan")
    for numbers in (
        (1, 0, 0, 1),
        (1, 1, 15, 1),
        (0, 1, 15, 1),
        (1, 1, 0, 0),
        (7, 1, 0, 1),
        (1, nan, 0, 1),
        (1, 1, 99, 1),
    ):
        with pytest.raises(InvalidVerdict):
            Verdict.of(*map(float, numbers), 1)
