"""Processes stopped and killed for real: nothing hangs, nothing late is hidden, everybody comes back with its state."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import runtime
from cluster.errors import CalculationIncomplete, Overloaded
from swarm import AnswerStatus, Portfolio, SwarmClient, SwarmError
from tests.conftest import MAX_IN_FLIGHT, agent, eventually, is_healthy, stopped, waiting_at

ROLES = ["market_data", "value_at_risk", "stress", "correlation", "liquidity", "portfolio"]


@pytest.fixture
def book(client: SwarmClient) -> Portfolio:
    return Portfolio.equal_weights(client.snapshot().symbols, value=1e7)


def test_late_agent_is_flagged_and_its_answer_counted_when_it_comes(healthy: SwarmClient, book: Portfolio) -> None:
    late_before = healthy.health().late_answers
    with stopped(agent(healthy, "correlation").pid):
        result = healthy.calculate(book, deadline=1.5)
    assert result.answers["correlation"].status is AnswerStatus.LATE
    assert "no answer within" in result.answers["correlation"].reason
    assert result.completeness == 0.8
    assert result.report("value_at_risk").estimates
    assert eventually(lambda: healthy.health().late_answers == late_before + 1)
    late = healthy.late_answers()[-1]
    assert (late.request_id, late.agent_id) == (result.request_id, "correlation") and late.late_ms > 0


def test_comprehensive_without_value_at_risk_is_an_error_with_the_rest_attached(
    healthy: SwarmClient, book: Portfolio
) -> None:
    with stopped(agent(healthy, "value_at_risk").pid), pytest.raises(CalculationIncomplete) as error:
        healthy.calculate(book, deadline=1.5)
    (result,) = error.value.results
    assert "value_at_risk answer: late" in str(error.value)
    assert result.answers["value_at_risk"].status is AnswerStatus.LATE
    assert result.answers["stress"].status is AnswerStatus.OK


def test_hub_with_full_hands_refuses_and_loses_nothing_it_accepted(healthy: SwarmClient, book: Portfolio) -> None:
    pid = agent(healthy, "value_at_risk").pid
    with ThreadPoolExecutor(MAX_IN_FLIGHT) as pool:
        with stopped(pid):
            accepted = [pool.submit(healthy.calculate, book, "var", deadline=120.0) for _ in range(MAX_IN_FLIGHT)]
            assert eventually(lambda: healthy.health().in_flight == MAX_IN_FLIGHT)
            with pytest.raises(Overloaded, match="in flight"):
                healthy.calculate(book, "var")
        assert all(piece.result(timeout=30).complete for piece in accepted)


def test_stopped_agent_is_suspect_and_named_by_health(healthy: SwarmClient) -> None:
    with stopped(agent(healthy, "liquidity").pid):
        assert eventually(lambda: any("liquidity is SUSPECT" in problem for problem in healthy.health().problems))
        assert eventually(lambda: any("liquidity is DEAD: no heartbeat" in p for p in healthy.health().problems))


@pytest.mark.parametrize("role", ROLES)
def test_killed_agent_leaves_no_calculation_hanging_and_returns_with_its_state(
    healthy: SwarmClient, book: Portfolio, role: str
) -> None:
    before = agent(healthy, role)
    expected = healthy.calculate(book)
    asked = role in expected.answers
    with ThreadPoolExecutor(8) as pool, stopped(before.pid):
        in_flight = [pool.submit(healthy.calculate, book, deadline=120.0) for _ in range(8)]
        if asked:
            assert eventually(lambda: waiting_at(healthy, role) == 8)
        os.kill(before.pid, signal.SIGKILL)
        results = [piece.result(timeout=150) for piece in in_flight]
    assert all(result.complete for result in results)
    if asked:
        assert {result.answers[role].attempts for result in results} == {2}
    assert eventually(lambda: agent(healthy, role).restarts == before.restarts + 1 and is_healthy(healthy))
    after = agent(healthy, role)
    assert after.pid != before.pid
    assert after.report is not None and after.report.snapshot_id == expected.snapshot_id
    again = healthy.calculate(book)
    assert all(again.report(found) == expected.report(found) for found in expected.answers)


def test_killed_hub_is_asked_again_and_the_roster_registers_anew(healthy: SwarmClient, book: Portfolio) -> None:
    hub, correlation = agent(healthy, "hub"), agent(healthy, "correlation")
    with ThreadPoolExecutor(4) as pool, stopped(correlation.pid):
        in_flight = [pool.submit(healthy.calculate, book, deadline=120.0) for _ in range(4)]
        assert eventually(lambda: healthy.health().in_flight == 4)
        os.kill(hub.pid, signal.SIGKILL)
        assert eventually(lambda: healthy_hub_pid(healthy) not in (None, hub.pid))
        os.kill(correlation.pid, signal.SIGCONT)
        results = [piece.result(timeout=150) for piece in in_flight]
    assert all(result.complete for result in results)
    assert eventually(lambda: is_healthy(healthy))
    assert agent(healthy, "hub").pid != hub.pid
    assert healthy.health().hub_restarted
    assert [found.agent_id for found in healthy.health().agents] == ["hub", *ROLES, "gate"]


def test_hub_names_an_agent_to_talk_to_directly(healthy: SwarmClient) -> None:
    hub = runtime.find_actor("hub", "riskswarm")
    (handle,) = runtime.wait_for(hub.resolve.remote("stress"), 10.0)
    assert runtime.wait_for(handle.ping.remote(), 10.0).agent_id == "stress"


def test_agent_that_was_deregistered_registers_again_at_its_next_heartbeat(healthy: SwarmClient) -> None:
    hub = runtime.find_actor("hub", "riskswarm")
    healthy.calculate(Portfolio.from_weights({"AAPL": 1.0}), "liquidity")
    assert _calls(healthy, "liquidity") > 0
    runtime.wait_for(hub.deregister.remote("liquidity"), 10.0)
    assert eventually(lambda: _calls(healthy, "liquidity") == 0)


def test_calculation_on_a_new_date_survives_the_death_of_the_market_agent(
    healthy: SwarmClient, book: Portfolio
) -> None:
    market = agent(healthy, "market_data")
    with ThreadPoolExecutor(3) as pool, stopped(market.pid):
        dates = ("2003-02-03", "2004-02-03", "2005-02-03")
        in_flight = [pool.submit(healthy.calculate, book, as_of=date, deadline=120.0) for date in dates]
        assert eventually(lambda: healthy.health().in_flight == 3)
        os.kill(market.pid, signal.SIGKILL)
        results = [piece.result(timeout=150) for piece in in_flight]
    assert [result.as_of for result in results] == list(dates)
    assert all(result.complete for result in results)


def healthy_hub_pid(client: SwarmClient) -> int | None:
    try:
        return agent(client, "hub").pid
    except SwarmError:
        return None


def _calls(client: SwarmClient, agent_id: str) -> int | None:
    return next((line.calls for line in client.performance() if line.agent_id == agent_id), None)


def test_snapshot_that_was_cut_before_a_kill_is_cut_again_after_it(healthy: SwarmClient, book: Portfolio) -> None:
    cut = healthy.calculate(book, "var", as_of="2001-09-10")
    os.kill(agent(healthy, "market_data").pid, signal.SIGKILL)
    os.kill(agent(healthy, "value_at_risk").pid, signal.SIGKILL)
    again = healthy.calculate(book, "var", snapshot=cut.snapshot_id, deadline=120.0)
    assert again.report("value_at_risk") == cut.report("value_at_risk")
