"""The gate of a real swarm: reasons in order, SIGKILL under callers, a kill without a hub, callers without a lane."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from actors.trading.gate import switch
from actors.trading.gate.book import read
from actors.trading.gate.client import GateClient
from actors.trading.gate.history import JOURNAL, newest
from cluster import runtime
from cluster.errors import InvalidPortfolio, InvalidRequest, SwarmError
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from hive.messages.gate import Action, Unwarranted, Warrant
from hive.messages.orders import Decision, Order, Outcome, Reason, Side, Verdict
from hive.reference import Distance
from swarm import SwarmClient
from swarm.cli.gate import LISTS, app
from tests.conftest import RECOVERY_S, agent, eventually, is_healthy, stopped

DESK = Warrant("ada", "the test says so")
LIMIT = 100_000.0
NUMBERS = count(1)


def order(symbol: str = "AAPL", side: Side = Side.BUY, quantity: float = 1.0, price: float | None = None) -> Order:
    return Order(next(NUMBERS), "main", symbol, side, quantity, price)


def tick(gate: GateClient, client: SwarmClient) -> dict[str, float]:
    """The snapshot's last prices, as true now."""
    header = client.snapshot()
    assert header.last_prices is not None
    prices = dict(zip(header.symbols, header.last_prices.tolist(), strict=True))
    assert eventually(lambda: {gate.tick(symbol, price) for symbol, price in prices.items()} == {Outcome.DONE})
    return prices


@pytest.fixture
def gate(healthy: SwarmClient) -> Iterator[GateClient]:
    """The swarm's gate with fresh prices, flat, without reservations, and so again after the test."""
    with healthy.gate() as found:
        flatten(found)
        found.instruct(Action.LIMITS, {"stale_after_s": 1e6, "duplicate_window_s": 0.0}, DESK)
        tick(found, healthy)
        yield found
    with healthy.gate() as found:
        flatten(found)


def flatten(gate: GateClient) -> None:
    status = gate.describe()
    if status.killed:
        gate.instruct(Action.RELEASE_KILL, {"kills": status.kills}, DESK)
    flat = dict.fromkeys(status.accounts["main"]["positions"], 0.0)
    gate.instruct(Action.RECONCILE, {"positions": {"main": flat}, "cash": {"main": 1e7}}, DESK)
    for sequence in status.accounts["main"]["open"]:
        gate.release(int(sequence))
    gate.instruct(Action.LIMITS, {}, DESK)


def gross(gate: GateClient, prices: dict[str, float]) -> float:
    """Positions and reservations together, if the worst part of the orders is filled; these tests only buy."""
    account = gate.describe().accounts["main"]
    held = sum(units * prices[symbol] for symbol, units in account["positions"].items())
    rest = sum((o["allowed"] - o["filled"]) * prices[o["symbol"]] for o in account["open"].values())
    return float(held + rest)


def test_reasons_come_in_the_order_of_the_checks_over_a_lane_and_by_ray(gate: GateClient, healthy: SwarmClient) -> None:
    with healthy.gate(distance=Distance.CALL) as far:
        for way in (gate, far):
            price = tick(way, healthy)["AAPL"]
            assert way.check(order()).decision is Decision.ALLOW
            assert way.check(order("ZZZ")).reason is Reason.UNKNOWN_SYMBOL
            assert way.check(order(price=price + 0.001)).reason is Reason.TICK
            assert way.check(order(quantity=0.5)).reason is Reason.LOT
            assert way.check(order(price=round(price * 2, 2))).reason is Reason.PRICE_COLLAR
            assert way.check(order(quantity=1e6)).reason is Reason.MAX_QUANTITY
            assert way.check(order(quantity=90_000.0)).reason is Reason.MAX_NOTIONAL
            way.instruct(Action.LIMITS, {"max_gross": LIMIT}, DESK)
            reduced = way.check(order(quantity=2000.0))
            assert (reduced.decision, reduced.reason) == (Decision.REDUCE, Reason.GROSS)
            assert way.release(reduced.sequence) is Outcome.DONE
            way.instruct(Action.RESTRICT, {"name": "AAPL"}, DESK)
            way.instruct(Action.HALT, {"name": "AAPL"}, DESK)
            assert way.check(order()).reason is Reason.RESTRICTED
            way.instruct(Action.PERMIT, {"name": "AAPL"}, DESK)
            assert way.check(order()).reason is Reason.HALTED
            way.instruct(Action.RESUME, {"name": "AAPL"}, DESK)
            way.instruct(Action.DISABLE, {"name": "main"}, DESK)
            assert way.check(order("ZZZ")).reason is Reason.ACCOUNT_DISABLED
            way.instruct(Action.ENABLE, {"name": "main"}, DESK)
            way.instruct(Action.MODE, {"mode": "safe_mode"}, DESK)
            assert way.check(order()).reason is Reason.MODE
            way.instruct(Action.MODE, {"mode": "full_performance"}, DESK)
            assert way.check(order(), durable=True, patience_s=RECOVERY_S).decision is Decision.ALLOW
            assert [v.decision for v in way.check_many([order() for _ in range(50)])] == [Decision.ALLOW] * 50
            way.instruct(Action.LIMITS, {"stale_after_s": 1e-6}, DESK)
            assert way.check(order()).reason is Reason.STALE_DATA
            way.instruct(Action.LIMITS, {"stale_after_s": 1e6}, DESK)
            with pytest.raises(InvalidRequest):
                way.instruct(Action.HALT, {"name": "ZZZ"}, DESK)
            with pytest.raises(Unwarranted):
                way.instruct(Action.LIMITS, {}, Warrant("ada", ""))
        assert (gate.distance, far.distance) == ("lane", "call")


def test_every_list_is_put_on_and_taken_off_by_its_commands(gate: GateClient, healthy: SwarmClient) -> None:
    here = SimpleNamespace(client=lambda address: nullcontext(healthy))
    seen = []
    for action, what, done, _, loosens in LISTS:
        name = {"symbol": "AAPL", "account": "main"}[what]
        told = [action.value, name, "--json"]
        if loosens:
            assert CliRunner().invoke(app, told, obj=here).exit_code == 2  # without a reason
        found = CliRunner().invoke(app, [*told, "--reason", "drill"], obj=here)
        assert found.exit_code == 0 and json.loads(found.stdout)["done"] == f"{name} {done}"
        status = gate.describe()
        seen.append(status.halted + status.restricted + status.disabled)
    assert seen == [("AAPL",), (), ("AAPL",), (), ("main",), ()]


def test_sigkill_under_callers_passes_no_limit_and_uses_no_number_twice(gate: GateClient, healthy: SwarmClient) -> None:
    prices = tick(gate, healthy)
    gate.instruct(Action.LIMITS, {"max_gross": LIMIT}, DESK)
    told: list[Verdict] = []
    durable: list[Verdict] = []
    ended = threading.Event()

    def call(number: int) -> None:
        with healthy.gate() as own:
            while not ended.is_set():
                kept = number == 0 and len(durable) < 20
                asked = order("KO", quantity=3.0)
                begun = time.monotonic()
                verdict = own.check(asked, durable=kept)
                assert time.monotonic() - begun < 5.0
                told.append(verdict)
                if verdict.quantity and kept:
                    durable.append(verdict)
                elif verdict.quantity:
                    own.release(verdict.sequence)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in callers:
        thread.start()
    try:
        assert eventually(lambda: len(durable) == 20 and len(told) > 300)
        before = agent(healthy, "gate")
        os.kill(before.pid, signal.SIGKILL)
        assert eventually(lambda: told[-1].reason is Reason.GATE_UNREACHABLE)
        assert eventually(lambda: agent(healthy, "gate").restarts == before.restarts + 1 and is_healthy(healthy))
        assert eventually(lambda: told[-1].reason is Reason.MODE)  # they have found it again by themselves
        status = gate.describe()
        assert status.unreconciled and status.mode == "SAFE_MODE"
        assert {v.sequence for v in durable} <= {int(sequence) for sequence in status.accounts["main"]["open"]}
        assert gross(gate, prices) <= LIMIT
        gate.instruct(Action.RECONCILE, {}, DESK)
        assert eventually(lambda: told[-1].reason is Reason.STALE_DATA)
        tick(gate, healthy)
        looks = 0
        while looks < 10 or not any(v.quantity for v in told[-20:]):
            assert gross(gate, prices) <= LIMIT
            looks += 1
    finally:
        ended.set()
        for thread in callers:
            thread.join(20.0)
    numbers = [verdict.sequence for verdict in told if verdict.sequence]
    assert len(set(numbers)) == len(numbers)
    rows = newest(Path(gate.facts().directory) / JOURNAL, 10**6)["journal"]
    assert len({row["sequence"] for row in rows}) == len(rows)
    checks = [row["client_order_id"] for row in rows if row["operation"] == "CHECK" and row["allowed"]]
    assert len(set(checks)) == len(checks)


def test_kill_closes_the_gate_with_the_hub_dead_and_the_gates_shell_standing_still(
    gate: GateClient, healthy: SwarmClient
) -> None:
    directory = Path(gate.facts().directory)
    assert gate.check(order()).decision is Decision.ALLOW
    os.kill(agent(healthy, "hub").pid, signal.SIGKILL)
    assert switch.kill(directory, Warrant("ada", "drill")).closed
    assert gate.check(order(side=Side.SELL)).reason is Reason.KILLED
    assert eventually(lambda: is_healthy(healthy))
    seen = gate.describe()
    assert seen.killed and any("killed" in remark for remark in seen.remarks)
    assert gate.instruct(Action.RELEASE_KILL, {"kills": seen.kills}, DESK) is True
    before = agent(healthy, "gate")
    with stopped(before.pid):
        assert gate.kill("drill").closed
        os.kill(before.pid, signal.SIGKILL)
    assert eventually(lambda: agent(healthy, "gate").restarts == before.restarts + 1 and is_healthy(healthy))
    assert eventually(lambda: gate.check(order()).reason is Reason.KILLED)
    assert gate.describe().kills == seen.kills + 1


def test_the_gate_follows_the_market_and_is_shown(gate: GateClient, healthy: SwarmClient) -> None:
    held = gate.check(order(quantity=5.0))
    assert gate.commit(held.sequence, 5.0, 130.0) is Outcome.DONE
    before = healthy.snapshot().snapshot_id
    market = MarketSettings()
    early = bundled(market).until(
        "2015-06-30", min_observations=market.min_observations, volume_days=market.volume_days
    )
    cut = runtime.wait_for(healthy._market().add.remote(early, True), 30.0)
    try:
        assert eventually(lambda: gate.describe().snapshot_id == cut.snapshot_id)
        assert gate.describe().accounts["main"]["positions"] == {"AAPL": 5.0}
        assert gate.check(order()).decision is Decision.ALLOW
    finally:
        healthy.use_snapshot(before)
        assert eventually(lambda: gate.describe().snapshot_id == before)
    port = healthy.lanes()["gate"]
    assert port is not None and port.counters["served"] > 0
    report = agent(healthy, "gate").report
    assert report is not None and report.cores and report.seat_notes


def test_ticks_of_the_market_are_the_gates_prices_and_are_again_after_a_kill(
    gate: GateClient, healthy: SwarmClient
) -> None:
    header = healthy.snapshot()
    assert header.last_prices is not None
    prices = dict(zip(header.symbols, (1.01 * header.last_prices).tolist(), strict=True))
    before = gate.status()["ticks"]
    healthy.push_ticks(prices)
    assert eventually(lambda: gate.status()["ticks"] >= before + len(prices))
    fair, high = order(price=round(prices["AAPL"], 2)), order(price=round(2 * prices["AAPL"], 2))
    assert gate.check(fair).decision is Decision.ALLOW
    assert gate.check(high).reason is Reason.PRICE_COLLAR
    os.kill(agent(healthy, "gate").pid, signal.SIGKILL)
    assert eventually(lambda: is_healthy(healthy))
    with healthy.gate() as again:
        told = again.status()["ticks"]
        healthy.push_ticks({"AAPL": 1.02 * prices["AAPL"]})
        assert eventually(lambda: again.status()["ticks"] > told)
        assert "AAPL" not in again.describe().stale
    healthy.stop_ticks(forget=True)


def test_a_client_that_finds_no_gate_says_so(client: SwarmClient) -> None:
    from actors.trading.gate.reach import RayReach

    lost = GateClient(reach=RayReach("nowhere"))
    assert lost.check(order()).reason is Reason.GATE_UNREACHABLE
    assert lost.status() is None
    assert lost.tick("AAPL", 1.0) is Outcome.GATE_UNREACHABLE
    with pytest.raises(SwarmError):
        lost.facts(1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[accounts", "cannot be read"),
        ("", "no account"),
        ("[accounts.main]", "no cash"),
        ("[accounts.main]\ncash = 'much'", "cash"),
        ("[accounts.main]\ncash = nan", "no number"),
        ("[accounts.main]\ncash = 1\nloan = -1", "no number"),
        ("[accounts.main]\ncash = 1\npositions = 3", "positions"),
        ("[accounts.main]\ncash = 1\n[instruments.AAPL]\ntick = 0", "positive tick"),
        ("[accounts.main]\ncash = 1\n[instruments.AAPL]\nlots = 1", "lots"),
        ("[accounts.main]\ncash = 1\n[defaults]\nlot = true", "lot"),
        ("[accounts.main]\ncash = 1\n[other]\nlot = 1", "other"),
    ],
)
def test_a_book_that_is_none_is_one_clear_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "book.toml"
    path.write_text(text)
    with pytest.raises(InvalidPortfolio, match=said):
        read(str(path))
    with pytest.raises(InvalidPortfolio, match="cannot be read"):
        read(str(tmp_path / "none.toml"))


def test_a_book_names_accounts_and_instruments(tmp_path: Path) -> None:
    path = tmp_path / "book.toml"
    path.write_text(
        "[accounts.a]\ncash = 5\npositions = {X = 2}\n[accounts.b]\ncash = 1\nloan = 3\n"
        "[defaults]\nlot = 10\n[instruments.X]\ntick = 0.5"
    )
    book = read(str(path))
    assert [(a.name, a.cash, a.loan, dict(a.positions)) for a in book.accounts] == [
        ("a", 5.0, 0.0, {"X": 2.0}),
        ("b", 1.0, 3.0, {}),
    ]
    assert [(i.symbol, i.tick, i.lot) for i in book.instruments(("X", "Y"))] == [("X", 0.5, 10.0), ("Y", 0.01, 10.0)]
    with pytest.raises(InvalidPortfolio, match="names X"):
        book.instruments(("Y",))
