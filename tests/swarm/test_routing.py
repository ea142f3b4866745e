"""Routed references on a real swarm: who is asked when instances are far, full, doubted or unknown to this process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.errors import InvalidSettings, LanesUnavailable, Overloaded, SwarmUnavailable
from hive.messages.calculation import Role
from hive.messages.fast import OPERATIONS, SERVING_LANES, Caller
from hive.reference import Distance
from hive.routing.kernels import ELSEWHERE, MOST_ROWS
from hive.routing.page import Route, RoutingAddress, RoutingPage
from hive.routing.reference import RoutedReference
from hive.routing.router import Router
from swarm import Portfolio, SwarmClient
from swarm.boot import roster
from swarm.cli.main import app
from swarm.report.swarm import routes as shown
from swarm.settings import Settings
from tests.conftest import agent, eventually, stopped, waiting_at

SCENARIOS = OPERATIONS[Role.STRESS]["scenarios"]
QUESTION = np.full(20, 0.05)
PATIENCE_S = 60.0


@pytest.fixture
def page() -> Iterator[RoutingPage]:
    """A page that a test writes instead of the hub."""
    made = RoutingPage()
    yield made
    made.close()


@pytest.fixture
def routed(client: SwarmClient, page: RoutingPage) -> Iterator[RoutedReference]:
    """Asks the real agents as the test's page says."""
    router = Router(lambda caller, _patience_s: page.admit(caller))
    reference = RoutedReference(Role.STRESS, client._namespace, router, lambda role, _: role.value)
    yield reference
    reference.close()
    router.close()


def row(number: int = 1, **fields: object) -> Route:
    known = {"serving": True, "passed_over": False, "place": 0, "pid": 1, "started": 1, "life": number}
    return Route(Role.STRESS, number, **{**known, **fields})


def test_the_hubs_page_shows_the_roster_and_what_waits(client: SwarmClient) -> None:
    assert eventually(lambda: all(route.serving and not waiting for route, waiting in client.routes()))
    told = {route.agent_id: route.pid for route, _ in client.routes()}
    assert set(told) == {"market_data", *(role.value for role in SERVING_LANES)}
    assert told == {found.agent_id: found.pid for found in client.health().agents[1:]}
    reference = client.reference(Role.STRESS)
    assert reference.ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S).size
    with stopped(agent(client, "stress").pid):
        receive = reference.send(SCENARIOS, QUESTION, patience_s=PATIENCE_S)
        assert waiting_at(client, "stress") == 1
    assert receive(PATIENCE_S).size
    assert waiting_at(client, "stress") == 0
    reference.close()


def test_what_is_never_received_is_not_counted_after_closing(client: SwarmClient) -> None:
    reference = client.reference(Role.STRESS)
    for _ in range(3):
        reference.send(SCENARIOS, QUESTION, patience_s=PATIENCE_S)
    assert waiting_at(client, "stress") == 3
    reference.close()
    assert waiting_at(client, "stress") == 0


def test_calculations_in_flight_are_load(healthy: SwarmClient) -> None:
    book = Portfolio.equal_weights(healthy.snapshot().symbols)
    with stopped(agent(healthy, "stress").pid):
        future = healthy.submit(book, "stress", deadline=30.0)
        assert eventually(lambda: waiting_at(healthy, "stress") == 1)
    assert future.result(timeout=60).complete
    assert eventually(lambda: waiting_at(healthy, "stress") == 0)


def test_an_instance_of_another_machine_is_asked_through_ray(
    client: SwarmClient, page: RoutingPage, routed: RoutedReference
) -> None:
    page.show([row(place=ELSEWHERE)])
    expected = client.reference("stress").ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S)
    assert np.array_equal(routed.ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S), expected)
    assert routed.distance is Distance.CALL
    with pytest.raises(LanesUnavailable):
        routed.lane()


def test_an_instance_that_is_not_there_is_doubted_and_the_other_one_answers(
    page: RoutingPage, routed: RoutedReference
) -> None:
    page.show([row(1), row(7)])
    for _ in range(20):
        assert routed.ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S).size


def test_nobody_serving_is_said_in_time_and_somebody_new_is_found(page: RoutingPage, routed: RoutedReference) -> None:
    page.show([row(serving=False)])
    with pytest.raises(SwarmUnavailable, match="no stress agent serves") as error:
        routed.ask(SCENARIOS, QUESTION, patience_s=0.2)
    assert "swarm health" in error.value.remedy
    page.show([row()])
    assert routed.ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S).size


def test_a_full_lane_with_no_other_instance_is_overloaded(
    healthy: SwarmClient, page: RoutingPage, routed: RoutedReference
) -> None:
    page.show([row()])
    assert routed.ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S).size
    with stopped(agent(healthy, "stress").pid), pytest.raises(Overloaded):
        for _ in range(65):
            routed.send(SCENARIOS, QUESTION, patience_s=PATIENCE_S)
    assert routed.ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S).size


def test_without_a_page_the_hub_names_the_instance(client: SwarmClient) -> None:
    def far(_caller: Caller, _patience_s: float) -> RoutingAddress:
        raise LanesUnavailable("another machine", "")

    asked = []

    def name(role: Role, patience_s: float) -> str:
        asked.append(role)
        return client._instance_name(role, patience_s)

    router = Router(far)
    reference = RoutedReference(Role.STRESS, client._namespace, router, name)
    for _ in range(3):
        assert reference.ask(SCENARIOS, QUESTION, patience_s=PATIENCE_S).size
    assert asked == [Role.STRESS], "once: it is kept until it is gone"
    reference.close()
    router.close()


def test_more_instances_than_are_routed_are_refused_before_anything_starts() -> None:
    settings = Settings()
    many = Settings(agents=type(settings.agents)(instances=MOST_ROWS // 5 + 1))
    with pytest.raises(InvalidSettings, match=r"agents\.instances"):
        roster(many)
    assert len(roster(Settings(agents=type(settings.agents)(instances=MOST_ROWS // 5)))) <= MOST_ROWS


def test_the_command_shows_the_page(client: SwarmClient) -> None:
    table = shown([(row(), 3), (row(2, serving=False), 0), (row(3, passed_over=True, place=ELSEWHERE), 1)])
    assert [len(column._cells) for column in table.columns] == [3] * 5
    done = CliRunner().invoke(app, ["routes", "--help"])
    assert done.exit_code == 0 and "how many questions wait" in " ".join(done.stdout.split())
    assert json.dumps([route.agent_id for route, _ in client.routes()])
