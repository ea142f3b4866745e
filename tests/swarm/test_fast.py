"""Fast answers on a real swarm: the same numbers at every distance, those of a calculation, and typed ends."""

from __future__ import annotations

import io
import os
import signal
import time

import numpy as np
import pytest
from rich.console import Console

from cluster.errors import InvalidPortfolio, InvalidRequest, SwarmError, SwarmUnavailable, UnknownSnapshot
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from hive.messages.calculation import Role
from hive.messages.fast import OPERATIONS, SERVING_LANES
from hive.reference import Distance, Reference, here
from swarm import Portfolio, SwarmClient
from swarm.report.swarm import lanes as shown
from swarm.settings import Settings
from tests.actors.test_every_method import AGENTS
from tests.conftest import agent, eventually, stopped

SYMBOLS = 20
PATIENCE_S = 2.0


@pytest.fixture(scope="module")
def book(client: SwarmClient) -> Portfolio:
    return Portfolio.from_file("swarm/examples/long_only.toml")


def questions() -> list[tuple[Role, int, np.ndarray]]:
    """One for every operation of every agent."""
    weights = np.full(SYMBOLS, 1 / SYMBOLS)
    money = np.concatenate([[1e6], weights * 1e6, np.full(SYMBOLS, 1e7), np.full(SYMBOLS, 1e-4), np.full(SYMBOLS, 1e5)])
    numbers = {
        Role.VALUE_AT_RISK: {name: np.concatenate([[0.99], weights]) for name in OPERATIONS[Role.VALUE_AT_RISK]},
        Role.STRESS: {"scenarios": weights, "simulated": np.concatenate([[0.95], weights])},
        Role.CORRELATION: {"book": weights},
        Role.LIQUIDITY: {"book": money},
        Role.PORTFOLIO: {"risk_budgets": weights, "minimum_variance": np.full(SYMBOLS, 0.15)},
    }
    return [(role, code, numbers[role][name]) for role, named in OPERATIONS.items() for name, code in named.items()]


@pytest.fixture(scope="module")
def local() -> str:
    """The same agents' services in this process, found under a namespace of their own."""
    snapshot = bundled(MarketSettings())
    for role, kind in AGENTS.items():
        brain = type("Brain", (), {"settings": getattr(Settings(), role.value)})()
        service = kind.fast_service(brain, kind.rebuild(brain, snapshot))
        here("local", role.value, lambda code, numbers, *_, known=service: known.ask(code, numbers), lambda: None)
    return "local"


@pytest.mark.parametrize(("role", "operation", "numbers"), questions(), ids=lambda value: str(value)[:20])
def test_answers_are_the_same_bits_at_all_three_distances(
    client: SwarmClient, local: str, role: Role, operation: int, numbers: np.ndarray
) -> None:
    near = Reference(role.value, local)
    lane, far = client.reference(role), client.reference(role, distance=Distance.CALL)
    assert [near.distance, lane.distance, far.distance] == list(Distance)
    try:
        expected = lane.ask(operation, numbers, patience_s=60.0)
        lane.lane()  # there was one: the answer did not go through Ray
        for answer in (far.ask(operation, numbers, patience_s=60.0), near.ask(operation, numbers)):
            if role is Role.PORTFOLIO:  # a warm start remembers the question before, to within its tolerance
                assert answer == pytest.approx(expected, rel=1e-6, abs=1e-9)
            else:
                assert np.array_equal(answer, expected)
    finally:
        lane.close()


def test_a_desk_says_what_a_calculation_says(client: SwarmClient, book: Portfolio) -> None:
    slow = client.calculate(book)
    with client.fast(book, confidence=0.99) as desk:
        fast = desk.calculate()
    assert fast.complete, fast.missing
    assert fast.snapshot_id == slow.snapshot_id
    for measure in ("var", "cvar"):
        expected = slow.estimate(measure, confidence=0.99, method_label="historical").value
        assert getattr(fast, measure) == pytest.approx(expected, rel=1e-12)
    assert sum(fast.components.values()) == pytest.approx(fast.cvar, rel=1e-12)
    told = {s.name: s.loss.value for s in slow.report("stress").scenarios if s.name in fast.scenarios}
    assert fast.scenarios == pytest.approx(told, rel=1e-12)
    assert fast.scenarios[fast.worst_scenario] == max(fast.scenarios.values())
    assert fast.days_to_liquidate == pytest.approx(slow.estimate("days_to_liquidate").value)
    cost = next(e for e in slow.report("liquidity").estimates if e.measure == "liquidity_cost" and e.unit == "money")
    assert fast.liquidity_cost == pytest.approx(cost.value, rel=1e-9)
    assert sum(fast.risk_parity.values()) == pytest.approx(1)


def test_the_hub_gives_what_a_desk_gives(client: SwarmClient, book: Portfolio) -> None:
    through_hub = client.calculate_fast(book, confidence=0.99)
    with client.fast(book, confidence=0.99) as desk:
        mine = desk.calculate()
    assert through_hub.complete, through_hub.missing
    for name in ("snapshot_id", "var", "cvar", "components", "scenarios", "volatility", "liquidity_cost"):
        assert getattr(through_hub, name) == getattr(mine, name)
    equal = Portfolio.equal_weights(client.snapshot().symbols, value=1e6)
    assert client.calculate_fast(equal).var == pytest.approx(0.017451735440, rel=1e-9)
    with pytest.raises(InvalidPortfolio):
        client.calculate_fast(Portfolio.from_weights({"NONE": 1.0}))


def test_what_numbers_cannot_say_is_refused(client: SwarmClient) -> None:
    convex = Portfolio.from_dict({"positions": [{"symbol": "AAPL", "weight": 1.0, "gamma": 4.0}]})
    with pytest.raises(InvalidPortfolio, match="linear"):
        client.fast(convex)
    reference = client.reference(Role.VALUE_AT_RISK)
    for operation, numbers in ((1, np.ones(3)), (99, np.ones(21)), (1, np.full(21, np.nan)), (1, np.full(21, 0.5))):
        with pytest.raises(InvalidRequest):
            reference.ask(operation, numbers, patience_s=60.0)
    with pytest.raises(UnknownSnapshot):
        reference.ask(1, np.full(21, 0.95), snapshot=1, patience_s=60.0)
    reference.close()


def test_an_agent_that_dies_is_named_and_asked_again_when_it_is_back(healthy: SwarmClient, book: Portfolio) -> None:
    with healthy.fast(book, patience_s=PATIENCE_S) as desk:
        assert desk.calculate().complete
        os.kill(agent(healthy, "stress").pid, signal.SIGKILL)
        # Known to be dead before it is asked: what is sent to it waits for its next life, and the others do not.
        assert eventually(lambda: any(r.agent_id == "stress" and not r.serving for r, _ in healthy.routes()))
        began = time.monotonic()
        partial = desk.calculate()
        assert time.monotonic() - began < 2 * PATIENCE_S
        assert set(partial.missing) <= {Role.STRESS}
        assert partial.var is not None
        assert eventually(lambda: desk.calculate().complete)


def test_who_cannot_be_asked_yet_takes_nothing_from_those_asked_after_it(healthy: SwarmClient, book: Portfolio) -> None:
    with healthy.fast(book, patience_s=PATIENCE_S) as desk:
        with stopped(agent(healthy, "value_at_risk").pid):  # the first that is asked; no lane is open to anybody yet
            began = time.monotonic()
            partial = desk.calculate()
            assert time.monotonic() - began < 2 * PATIENCE_S
        assert list(partial.missing) == [Role.VALUE_AT_RISK]
        assert eventually(lambda: desk.calculate().complete)


def test_an_agent_that_stands_still_costs_the_patience_and_no_more(healthy: SwarmClient, book: Portfolio) -> None:
    with healthy.fast(book, patience_s=PATIENCE_S) as desk:
        assert desk.calculate().complete
        with stopped(agent(healthy, "liquidity").pid):
            began = time.monotonic()
            partial = desk.calculate()
            assert time.monotonic() - began < 2 * PATIENCE_S
        assert list(partial.missing) == [Role.LIQUIDITY]
        assert eventually(lambda: desk.calculate().complete)


def test_a_reference_to_nobody_says_so_in_time(client: SwarmClient) -> None:
    with pytest.raises((SwarmUnavailable, SwarmError)):
        client.reference("nobody").ask(1, np.ones(1), patience_s=0.3)


def test_what_the_lanes_carried_is_shown(client: SwarmClient, book: Portfolio) -> None:
    with client.fast(book) as desk:
        before = {name: port.counters["served"] for name, port in client.lanes().items() if port is not None}
        for _ in range(10):
            assert desk.calculate().complete
        health, ports = client.health(), client.lanes()
    assert set(ports) == set(SERVING_LANES)
    for name in OPERATIONS:
        port = ports[name]
        assert port is not None
        assert port.counters["served"] >= before.get(name, 0) + 10
        assert port.service_ns[0] > 0
        (mine,) = [lane for lane in port.lanes if lane.pid == os.getpid() and lane.counters["answered"] == 10]
        assert mine.round_trip_ns[0] >= port.service_ns[0] * 0.5
        assert mine.waiting == 0
    console = Console(file=io.StringIO(), width=200)
    console.print(shown(health, ports, before, 1.0))
    words = console.file.getvalue()
    assert all(name in words for name in ports)
    assert "park" in words
    seats = {found.agent_id: found.report for found in health.agents if found.agent_id in ports}
    assert all(set(report.cores) <= os.sched_getaffinity(0) and report.seat_notes for report in seats.values())
