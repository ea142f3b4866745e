"""One contract over three transports: in this process, over a lane, by a Ray call. Real agents answer.

In this process the agent is what an agent's process holds: a service of the value-at-risk room behind its own lanes'
thread. What a transport cannot do is said where it is left out.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from actors.lanes import LaneHost
from actors.risk.value_at_risk.agent import ValueAtRiskAgent
from cluster.errors import DeadlineExceeded, InvalidRequest, Overloaded, SwarmError, SwarmUnavailable, UnknownSnapshot
from cluster.lanes.settings import LaneSettings
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from hive.messages.calculation import Role
from hive.messages.fast import OPERATIONS, FastFacts, tag_of
from hive.reference import Askable, Distance, Reference, here
from swarm import SwarmClient
from swarm.settings import Settings
from tests.conftest import agent, eventually, stopped

HISTORICAL = OPERATIONS[Role.VALUE_AT_RISK]["historical"]
SYMBOLS = 20
PATIENCE_S = 60.0
NAMESPACE = "conformance"


@dataclass(frozen=True)
class Transport:
    """A way to ask the value-at-risk agent."""

    distance: Distance
    routed: bool
    reach: Callable[[], Askable]
    host: LaneHost | None
    """The agent itself, where it lives in this process."""


@pytest.fixture(scope="module")
def host() -> Iterator[LaneHost]:
    market = bundled(MarketSettings())
    brain = type("Brain", (), {"settings": Settings().value_at_risk})()
    service = ValueAtRiskAgent.fast_service(brain, ValueAtRiskAgent.rebuild(brain, market))
    snapshot = market.content_id
    facts = FastFacts(snapshot, tag_of(snapshot), market.symbols, service.facts)
    made = LaneHost(LaneSettings(), service, facts, own_core=False)
    here(NAMESPACE, Role.VALUE_AT_RISK.value, made.ask, lambda: made.facts)
    yield made
    made.close()


@pytest.fixture(params=["process", "lane", "call", "routed lane", "routed call"])
def transport(request: pytest.FixtureRequest, client: SwarmClient, host: LaneHost) -> Transport:
    words = request.param.split()
    distance = Distance(words[-1])
    if distance is Distance.PROCESS:
        return Transport(distance, False, lambda: Reference(Role.VALUE_AT_RISK.value, NAMESPACE), host)
    name = Role.VALUE_AT_RISK if len(words) > 1 else Role.VALUE_AT_RISK.value
    chosen = distance if distance is Distance.CALL else None
    return Transport(distance, len(words) > 1, lambda: client.reference(name, distance=chosen), None)


@pytest.fixture
def asked(transport: Transport) -> Iterator[Askable]:
    reference = transport.reach()
    assert reference.distance is transport.distance
    yield reference
    reference.close()


def question(confidence: float = 0.99) -> np.ndarray:
    return np.concatenate([[confidence], np.full(SYMBOLS, 1 / SYMBOLS)])


def ask(reference: Askable, numbers: np.ndarray, operation: int = HISTORICAL, **options: object) -> np.ndarray:
    return reference.ask(operation, numbers, **{"patience_s": PATIENCE_S, **options})


def test_answers_are_the_same_bits(asked: Askable, host: LaneHost) -> None:
    for confidence in (0.95, 0.99):
        expected = host.ask(HISTORICAL, question(confidence), 0)
        for _ in range(3):
            assert np.array_equal(ask(asked, question(confidence)), expected)
        assert np.array_equal(asked.send(HISTORICAL, question(confidence), patience_s=PATIENCE_S)(PATIENCE_S), expected)


def test_an_answer_belongs_to_whoever_has_it(asked: Askable) -> None:
    first = ask(asked, question(0.95))
    kept = first.copy()
    ask(asked, question(0.99))
    assert np.array_equal(first, kept)
    first[:] = 0.0
    assert np.array_equal(ask(asked, question(0.95)), kept)


def test_answers_come_in_the_order_of_their_questions(asked: Askable, host: LaneHost) -> None:
    levels = [0.95, 0.99, 0.95, 0.95, 0.99]
    waiting = [asked.send(HISTORICAL, question(level), patience_s=PATIENCE_S) for level in levels]
    for level, receive in zip(levels, waiting, strict=True):
        assert np.array_equal(receive(PATIENCE_S), host.ask(HISTORICAL, question(level), 0))


def test_what_is_asked_is_not_changed_and_may_be_read_only(asked: Askable) -> None:
    numbers = question()
    numbers.setflags(write=False)
    before = numbers.copy()
    ask(asked, numbers)
    assert np.array_equal(numbers, before)


@pytest.mark.parametrize(
    ("operation", "numbers", "kind"),
    [
        (HISTORICAL, np.full(10**5, 0.5), InvalidRequest),
        (HISTORICAL, np.ones(0), InvalidRequest),
        (HISTORICAL, question()[:-1], InvalidRequest),
        (HISTORICAL, np.append(question(), 0.0), InvalidRequest),
        (99, question(), InvalidRequest),
        (-1, question(), InvalidRequest),
        (HISTORICAL, np.full(SYMBOLS + 1, np.nan), InvalidRequest),
        (HISTORICAL, np.append([0.99], np.full(SYMBOLS, np.inf)), InvalidRequest),
        (HISTORICAL, question(0.05), InvalidRequest),
        (HISTORICAL, question(7.0), InvalidRequest),
    ],
    ids=["huge", "empty", "short", "long", "unknown", "negative", "nan", "infinite", "0.05", "7"],
)
def test_what_cannot_be_answered_is_refused_and_nothing_is_the_worse_for_it(
    asked: Askable, operation: int, numbers: np.ndarray, kind: type[SwarmError]
) -> None:
    expected = ask(asked, question())
    with pytest.raises(kind) as error:
        ask(asked, numbers, operation)
    assert error.value.problem and error.value.remedy
    assert np.array_equal(ask(asked, question()), expected)


@pytest.mark.parametrize("numbers", [[0.5] * (SYMBOLS + 1), np.ones(SYMBOLS + 1, np.float32), np.ones((3, 7)), None])
def test_what_is_no_vector_of_float64_is_refused(asked: Askable, numbers: object) -> None:
    with pytest.raises(InvalidRequest):
        ask(asked, numbers)


def test_a_question_about_another_snapshot_is_refused(asked: Askable) -> None:
    tag = asked.facts().tag
    assert ask(asked, question(), snapshot=tag).size
    with pytest.raises(UnknownSnapshot):
        ask(asked, question(), snapshot=tag + 1)


def test_facts_say_what_must_be_known(asked: Askable, host: LaneHost) -> None:
    facts = asked.facts(fresh=True)
    assert (facts.symbols, facts.tag, facts.snapshot_id) == (host.facts.symbols, host.facts.tag, host.facts.snapshot_id)


def test_who_does_not_wait_gets_no_answer_and_the_next_question_gets_its_own(asked: Askable) -> None:
    expected = ask(asked, question(0.95))
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            ask(asked, question(0.99), patience_s=0.0)
    assert np.array_equal(ask(asked, question(0.95)), expected)


@pytest.mark.parametrize("patience_s", [-1.0, float("nan"), float("inf"), 1e9])
def test_a_patience_that_is_no_span_is_refused(asked: Askable, patience_s: float) -> None:
    with pytest.raises(InvalidRequest, match="patience"):
        ask(asked, question(), patience_s=patience_s)
    with pytest.raises(InvalidRequest, match="patience"):
        asked.send(HISTORICAL, question(), patience_s=patience_s)


def test_closing_twice_and_asking_after_it(transport: Transport) -> None:
    reference = transport.reach()
    expected = ask(reference, question())
    reference.close()
    reference.close()
    assert np.array_equal(ask(reference, question()), expected), "it is reached again"
    reference.close()


def test_threads_share_one_and_nobody_gets_anothers_answer(asked: Askable, host: LaneHost) -> None:
    expected = {level: host.ask(HISTORICAL, question(level), 0) for level in (0.95, 0.99)}

    def many(level: float) -> bool:
        return all(np.array_equal(ask(asked, question(level)), expected[level]) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(many, [0.95, 0.99] * 4))


def test_an_agent_that_stands_still_costs_the_patience(transport: Transport, healthy: SwarmClient) -> None:
    reference = transport.reach()
    ask(reference, question())
    if transport.host is not None:  # its thread is held up instead: the process is this one
        let_go = threading.Event()
        held = threading.Thread(target=transport.host.port.do, args=(let_go.wait,))
        held.start()
        with pytest.raises(DeadlineExceeded):
            ask(reference, question(), patience_s=0.3)
        let_go.set()
        held.join()
    else:
        with stopped(agent(healthy, "value_at_risk").pid), pytest.raises(DeadlineExceeded):
            ask(reference, question(), patience_s=0.3)
    assert ask(reference, question()).size
    reference.close()


def test_an_agent_with_no_room_says_so_or_waits(transport: Transport, healthy: SwarmClient) -> None:
    """A lane has a bound of questions; Ray's queue is bounded by the caller; in one process there is no queue."""
    if transport.distance is not Distance.LANE:
        pytest.skip("only lanes have a ring")
    reference = transport.reach()
    ask(reference, question())
    with stopped(agent(healthy, "value_at_risk").pid), pytest.raises(Overloaded):
        for _ in range(LaneSettings().slots + 1):
            reference.send(HISTORICAL, question(), patience_s=PATIENCE_S)
    assert ask(reference, question()).size
    reference.close()


def test_an_agent_that_dies_over_a_question_is_gone_in_time_and_answers_when_it_is_back(
    transport: Transport, healthy: SwarmClient
) -> None:
    if transport.host is not None:
        pytest.skip("an agent of this process dies with it")
    reference = transport.reach()
    expected = ask(reference, question())
    pid = agent(healthy, "value_at_risk").pid
    with stopped(pid):
        receive = reference.send(HISTORICAL, question(), patience_s=5.0)
        os.kill(pid, signal.SIGKILL)
        if transport.routed:  # put again to whoever serves next
            assert np.array_equal(receive(PATIENCE_S), expected)
        else:
            with pytest.raises(SwarmUnavailable):
                receive(5.0)
    assert eventually(lambda: np.array_equal(_or_none(reference), expected))
    reference.close()


def _or_none(reference: Askable) -> np.ndarray:
    try:
        return ask(reference, question(), patience_s=1.0)
    except SwarmError:
        return np.empty(0)
