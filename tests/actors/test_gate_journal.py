"""The journal: every verdict has a row, a full ring closes the gate, and what a crash may lose is what is stated."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import replace

import pytest

from actors.trading.gate.client import GateClient
from actors.trading.gate.history import JournalUnavailable
from cluster.lanes.lane import Lane
from cluster.lanes.peer import started
from hive.messages.orders import Decision, Outcome, Reason, Side
from tests.actors.test_gate_support import OPEN_LIMITS, Orders, gate_process, make_gate
from tests.cluster.lanes.sides import side
from tests.conftest import eventually

COLUMNS = "sequence, operation, order_sequence, client_order_id, account, symbol, side, quantity, limit_price, "
COLUMNS += "decision, reason, allowed"


def rows(path, columns=COLUMNS):
    connection = sqlite3.connect(path / "journal.sqlite")
    try:
        return connection.execute(f"SELECT {columns} FROM journal ORDER BY sequence").fetchall()
    finally:
        connection.close()


def test_rows_say_what_was_asked_and_decided(tmp_path):
    make = Orders()
    with make_gate(tmp_path, max_position=50.0) as gate:
        gate.check(make(Side.BUY, 10.0))
        gate.check(make(Side.SELL, 100.0, None, "BBB", "fund"))
        gate.check(make(Side.BUY, 1.0, symbol="ZZZ"))
        gate.commit(1, 4.0, 99.5)
        gate.commit(1, 4.0, 99.5)
        gate.release(1)
        gate.release(1)
    assert rows(tmp_path) == [
        (1, "CHECK", 1, 1, "desk", "AAA", 1, 10.0, 100.0, "ALLOW", "PASSED", 10.0),
        (2, "CHECK", 2, 2, "fund", "BBB", -1, 100.0, None, "REDUCE", "POSITION", 50.0),
        (3, "CHECK", 3, 3, "desk", None, 1, 1.0, 100.0, "REJECT", "UNKNOWN_SYMBOL", 0.0),
        (4, "COMMIT", 1, 1, "desk", "AAA", 1, 4.0, 99.5, "ALLOW", "DONE", 4.0),
        (5, "RELEASE", 1, 1, "desk", "AAA", 1, 4.0, None, "ALLOW", "DONE", 6.0),
    ]
    times = rows(tmp_path, "ns, wall_ns")
    assert [ns for ns, _ in times] == sorted(ns for ns, _ in times)
    assert all(abs(wall - time.time_ns()) < 60e9 for _, wall in times)


def test_numbers_that_are_none_are_null(tmp_path):
    with make_gate(tmp_path) as gate:
        lane = Lane(gate.open(os.getpid(), started(os.getpid())))
        import numpy as np

        lane.ask(1, np.array([np.nan, np.inf, np.nan, np.nan, np.nan, 1.0, np.inf]))
        lane.close()
    assert rows(tmp_path) == [
        (1, "CHECK", 1, None, None, None, None, None, None, "REJECT", "INVALID_NUMBER", 0.0),
    ]


def test_reopened_journal_goes_on_counting(tmp_path):
    make = Orders()
    for _ in range(3):
        with make_gate(tmp_path) as gate:
            gate.check(make(Side.BUY, 1.0))
            gate.check(make(Side.BUY, 1.0))
    assert [row[0] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_close_loses_nothing_of_a_burst(tmp_path):
    make = Orders()
    with make_gate(tmp_path, settings=replace(OPEN_LIMITS, journal_flush_s=10.0)) as gate:
        client = GateClient.here(gate)
        decided = [client.check(make(Side.BUY, 1.0)).sequence for _ in range(500)]
        assert gate.journal.durable == 0
        client.close()
    assert [row[0] for row in rows(tmp_path)] == decided


def test_gate_closes_while_the_disk_does_not_take_records_and_opens_after(tmp_path):
    make = Orders()
    with make_gate(tmp_path, settings=replace(OPEN_LIMITS, journal_size=8)) as gate:
        blocker = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        verdicts = [gate.check(make(Side.BUY, 1.0)) for _ in range(10)]
        assert [v.sequence for v in verdicts] == [1, 2, 3, 4, 5, 6, 7, 8, 0, 0]
        assert [v.reason for v in verdicts[8:]] == [Reason.JOURNAL_FULL] * 2
        assert gate.release(1) is Outcome.JOURNAL_FULL
        assert gate.status()["unrecorded"] == 2
        assert gate.status()["open_orders"] == 8
        assert eventually(lambda: gate.journal.error is not None)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert eventually(lambda: gate.journal.waiting == 0)
        assert gate.journal.error is None
        assert gate.release(1) is Outcome.DONE
        assert gate.check(make(Side.BUY, 1.0)).sequence == 10
    assert [row[0] for row in rows(tmp_path)] == list(range(1, 11))


def test_loss_by_kill_is_within_the_ring_and_durable_rows_are_whole_and_without_gaps(tmp_path):
    size = 1024
    limits = replace(OPEN_LIMITS, journal_size=size, patience_s=1.0)
    make, last = Orders(), 0
    with side(gate_process, str(tmp_path), limits) as gate:
        _, facts = gate.answer()
        client = GateClient(Lane(gate.call("open", os.getpid(), started(os.getpid()))), facts)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            verdict = client.check(make(Side.BUY if last % 2 else Side.SELL, 1.0))
            last = max(last, verdict.sequence)
            client.release(verdict.sequence)
        longest_ns = gate.call("longest")
        killed_ns = time.monotonic_ns()
        gate.kill()
        gate.process.join(10.0)
        assert client.check(make(Side.BUY, 1.0)).decision is Decision.REJECT
        client.close()
    found = rows(tmp_path, "sequence, ns, operation, account, symbol, side, quantity, decision, reason, allowed")
    assert last > 100
    assert [row[0] for row in found] == list(range(1, len(found) + 1))
    assert all(None not in row for row in found)
    assert {row[2] for row in found} == {"CHECK", "RELEASE"}
    assert last + 1 - len(found) <= size
    if len(found) < last:
        # What was lost is younger than the measured window and the time for which the gate lived on unobserved.
        assert killed_ns - found[-1][1] <= longest_ns + 1e9
    with make_gate(tmp_path, settings=limits) as gate:
        assert gate.check(Orders(10**6)(Side.BUY, 1.0)).sequence == len(found) + 1 + size  # more than can be lost


def test_path_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"this is no database, though it is long enough to be one" * 40)
    with pytest.raises(JournalUnavailable, match="cannot be opened"):
        make_gate(tmp_path)
