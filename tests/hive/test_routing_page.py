"""The routing page: it shows what the registry knows, whole or not at all, and choices are fair, near and unhurried."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import LaneLost, LanesUnavailable, Overloaded, SwarmUnavailable
from cluster.lanes import page
from cluster.lanes.peer import started
from hive.hub.registry import Registry, RosterEntry
from hive.hub.settings import HubSettings
from hive.messages.calculation import AnswerStatus, Role
from hive.messages.fast import Caller, boot_id
from hive.messages.health import SERVING, AgentReport, AgentState, Descriptor
from hive.routing import kernels
from hive.routing.kernels import ELSEWHERE, MOST_CALLERS, MOST_ROWS, NOBODY, SOMEWHERE
from hive.routing.page import CODES, Route, RoutingPage, RoutingView, instance_id, life_of, number_of
from hive.routing.router import Router
from tests.cluster.lanes.sides import SPAWN
from tests.conftest import eventually

SECOND = 1_000_000_000
DRAWS = 20_000
HERE = Caller.here("park")


@pytest.fixture
def shown() -> Iterator[RoutingPage]:
    made = RoutingPage()
    yield made
    made.close()


@pytest.fixture
def view(shown: RoutingPage) -> Iterator[RoutingView]:
    attached = RoutingView(shown.admit(HERE))
    yield attached
    attached.close()


def route(number: int, **fields: object) -> Route:
    whole = Route(Role.STRESS, number, True, False, SOMEWHERE, 100 + number, 7, 1000 + number)
    return replace(whole, **fields)


def draws(view: RoutingView, count: int = DRAWS, role: Role = Role.STRESS) -> Counter[int]:
    return Counter(view.choose(role) for _ in range(count))


# What is shown.


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["register", "reborn", "beat", "degraded", "silence", "unreachable", "died", "leaves", "fails"]
        ),
        st.sampled_from(["stress", "stress-2", "stress-3", "liquidity", "oddly_named"]),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(EVENTS)
def test_the_page_shows_what_the_registry_knows_after_every_event(events: list[tuple[str, str]]) -> None:
    chosen = HubSettings(max_restarts=2, breaker_failures=2)
    registry = Registry([RosterEntry("stress", Role.STRESS, False)], chosen)
    hub = RoutingPage()
    view = RoutingView(hub.admit(HERE))
    lives: dict[str, int] = {}
    now = 0
    for event, agent_id in events:
        now += SECOND // 4
        role = Role.LIQUIDITY if agent_id == "liquidity" else Role.STRESS
        life = f"{agent_id} {lives.setdefault(agent_id, 0)}"
        if event in ("register", "reborn"):
            lives[agent_id] += event == "reborn"
            life = f"{agent_id} {lives[agent_id]}"
            whose = boot_id() if agent_id != "stress-3" else "another machine"
            registry.register(
                Descriptor(agent_id, role, (), "1", "node", 17, life, False, started=9, boot_id=whose), "handle", now
            )
        elif event in ("beat", "degraded"):
            state = AgentState.HEALTHY if event == "beat" else AgentState.DEGRADED
            registry.heartbeat(AgentReport(agent_id=agent_id, incarnation=life, state=state, numa_node=0), now)
        elif event == "silence":
            now += 3 * SECOND
            registry.judge(now)
        elif event == "unreachable":
            registry.unreachable(agent_id, "gone")
        elif event == "died":
            registry.died(agent_id, life, "its process died")
        elif event == "leaves":
            registry.deregister(agent_id)
        elif (found := registry.find(agent_id)) is not None:
            registry.ended(found, AnswerStatus.FAILED, None, now)
        hub.show(registry.routes(now, boot_id()))
        told = {row.agent_id: row for row, _ in view.routes()}
        known = {i.entry.agent_id: i for i in registry.instances() if i.descriptor is not None}
        assert set(told) == set(known) - {"oddly_named"}
        for name, row in told.items():
            instance = known[name]
            assert row.serving == (instance.state in SERVING)
            assert row.passed_over == (instance.passed_over_until_ns > now)
            assert row.life == life_of(instance.incarnation)
            assert (row.pid, row.started) == (17, 9)
            near = 0 if instance.report is not None else SOMEWHERE
            assert row.place == (ELSEWHERE if name == "stress-3" else near)
        for asked in (Role.STRESS, Role.LIQUIDITY):
            row = view.choose(asked)
            serving = [name for name, shown in told.items() if shown.role is asked and shown.serving]
            assert (row == NOBODY) == (not serving)
            assert row == NOBODY or view.route(row).agent_id in serving
    view.close()
    hub.close()


def test_the_last_words_of_a_life_that_has_ended_do_not_bring_it_back() -> None:
    registry = Registry([], HubSettings())
    first = Descriptor("stress", Role.STRESS, (), "1", "node", 17, "one", False)
    registry.register(first, "handle", 0)
    registry.heartbeat(AgentReport(agent_id="stress", incarnation="one", state=AgentState.HEALTHY), 0)
    assert registry.died("stress", "one", "its process died")
    assert registry.heartbeat(AgentReport(agent_id="stress", incarnation="one", state=AgentState.HEALTHY), 1)
    assert registry.register(first, "handle", 2)
    assert registry.find("stress").state is AgentState.DEAD
    registry.register(replace(first, incarnation="two"), "handle", 3)
    registry.heartbeat(AgentReport(agent_id="stress", incarnation="two", state=AgentState.HEALTHY), 4)
    assert not registry.died("stress", "one", "heard too late")
    assert registry.find("stress").state is AgentState.HEALTHY


def test_a_row_stays_an_instances_and_one_too_many_is_refused_by_name(shown: RoutingPage, view: RoutingView) -> None:
    everybody = [route(number) for number in range(1, MOST_ROWS + 1)]
    shown.show(everybody)
    rows = {found.agent_id: row for row, (found, _) in enumerate(view.routes())}
    shown.show(everybody[1:])
    assert view.choose(Role.STRESS) != rows["stress"]
    assert len(view.routes()) == MOST_ROWS - 1
    shown.show(everybody[::-1])
    assert view.routes()[rows["stress"]][0] == everybody[0]
    with pytest.raises(Overloaded, match=f"no row for stress-{MOST_ROWS + 1}"):
        shown.show([*everybody, route(MOST_ROWS + 1)])
    assert len(view.routes()) == MOST_ROWS
    shown.show([*everybody[1:], route(MOST_ROWS + 1)])
    assert view.routes()[rows["stress"]][0].number == MOST_ROWS + 1, "the row of one that left"


def test_names_of_instances_and_back() -> None:
    assert [instance_id(Role.STRESS, number) for number in (1, 2, 10)] == ["stress", "stress-2", "stress-10"]
    for number in (1, 2, 99, 10**8):
        assert number_of(Role.STRESS, instance_id(Role.STRESS, number)) == number
    for odd in (
        "stress-1",
        "stress-0",
        "stress-02",
        "stress-",
        "stress--2",
        "liquidity-2",
        "stress-²",
        f"stress-{10**30}",
    ):
        assert number_of(Role.STRESS, odd) is None


def test_no_torn_page_is_taken(shown: RoutingPage, view: RoutingView) -> None:
    """Every row of a version carries the same number; a writer changes it as fast as it can."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            shown.show([route(place, pid=number, life=number) for place in range(1, 33)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen: set[int] = set()

        def look() -> bool:
            for _ in range(50):
                pids = {found.pid for found, _ in view.routes()}
                assert len(pids) <= 1, pids
                seen.update(pids)
            return len(seen) > 20

        assert eventually(look)
    finally:
        done.set()
        writer.join()


def test_a_page_whose_writer_died_inside_is_left_alone_and_the_last_one_believed(
    shown: RoutingPage, view: RoutingView
) -> None:
    shown.show([route(1), route(2)])
    assert set(draws(view, 100)) == {0, 1}
    words = shown._memory.words
    page.begin(words, kernels.PAGE_AT)
    words[kernels.PAGE_AT + 16 : kernels.PAGE_AT + 16 + kernels.BODY] = -1
    assert set(draws(view, 100)) == {0, 1}


def test_sizes_that_cannot_be_believed_harm_nobody(shown: RoutingPage, view: RoutingView) -> None:
    shown.show([route(1)])
    words = shown._memory.words
    for count in (2**62, -5):
        words[kernels.COLUMNS] = count
        view.choose(Role.STRESS)
        body = np.full(kernels.BODY, count, np.int64)
        page.write(words, kernels.PAGE_AT, body)
        assert view.choose(Role.STRESS) == NOBODY


@pytest.mark.parametrize("word", [kernels.IDENTITY, kernels.LAYOUT])
def test_a_page_of_another_hub_or_version_is_refused(shown: RoutingPage, word: int) -> None:
    address = shown.admit(HERE)
    shown._memory.words[word] += 1
    with pytest.raises(LaneLost):
        RoutingView(address)
    with pytest.raises(LaneLost, match="has ended"):
        RoutingView(replace(address, started=address.started + 1))


# Choosing.


def test_equals_are_chosen_alike(shown: RoutingPage, view: RoutingView) -> None:
    shown.show([route(number) for number in range(1, 6)])
    found = draws(view)
    assert set(found) == set(range(5))
    expected = DRAWS / 5
    assert sum((count - expected) ** 2 / expected for count in found.values()) < 30  # chi-square, 4 degrees: p < 1e-5


def test_two_callers_do_not_choose_in_step(shown: RoutingPage, view: RoutingView) -> None:
    shown.show([route(1), route(2)])
    other = RoutingView(shown.admit(HERE))
    same = sum(view.choose(Role.STRESS) == other.choose(Role.STRESS) for _ in range(DRAWS))
    other.close()
    assert abs(same / DRAWS - 0.5) < 0.03


def test_the_shorter_queue_is_preferred_whoever_fills_it(shown: RoutingPage, view: RoutingView) -> None:
    shown.show([route(1), route(2), route(3)])
    view.count(0, 3)
    shown.occupy("stress-2", 2)
    assert [load for _, load in view.routes()] == [3, 2, 0]
    found = draws(view)
    assert found[0] == 0, "never the busiest of two"
    assert abs(found[1] / DRAWS - 1 / 3) < 0.03, "where it is drawn with the busiest"
    view.count(0, -3)
    shown.occupy("stress-2", 0)
    assert len(draws(view, 200)) == 3


def test_own_node_then_own_machine_then_others_and_who_keeps_failing_last(
    shown: RoutingPage, view: RoutingView
) -> None:
    view._state[kernels.NODE] = 1
    ranked = [
        route(1, place=1),
        route(2, place=0),
        route(3, place=ELSEWHERE),
        route(4, place=1, passed_over=True),
        route(5, place=ELSEWHERE, passed_over=True),
    ]
    for first in range(len(ranked)):
        shown.show(ranked[first:])
        view.count(first, 9)  # nearness goes before load
        chosen = view.choose(Role.STRESS)
        assert view.route(chosen) == ranked[first]
        other = view.choose(Role.STRESS, chosen)
        assert other == NOBODY if first == len(ranked) - 1 else view.route(other) == ranked[first + 1]
    shown.show([route(1, serving=False)])
    assert view.choose(Role.STRESS) == NOBODY == view.choose(Role.LIQUIDITY)


def test_who_is_doubted_is_not_chosen_until_the_page_changes_or_another_life_comes(
    shown: RoutingPage, view: RoutingView
) -> None:
    shown.show([route(1), route(2)])
    assert len(view.routes()) == 2
    view.doubt(0, view.life(0))
    assert set(draws(view, 100)) == {1}
    view.doubt(1, 12345)
    assert set(draws(view, 100)) == {1}, "that was another life"
    view.believe()
    assert set(draws(view, 100)) == {0, 1}


# Callers.


def test_a_process_has_one_column_and_the_dead_ones_is_cleared_and_given_again(shown: RoutingPage) -> None:
    shown.show([route(1)])
    others = [Caller(pid, 1, boot_id(), "park") for pid in range(1, MOST_CALLERS)]
    columns = [shown.admit(caller).column for caller in others]
    assert columns == [shown.admit(caller).column for caller in others] == list(range(1, MOST_CALLERS))
    late = shown.admit(HERE)
    assert late.column == NOBODY
    view = RoutingView(late)
    view.count(0, 5)
    assert view.choose(Role.STRESS) == 0 and view.routes()[0][1] == 0, "it chooses, and is not counted"
    cells = shown._memory.words[kernels.CELLS :].reshape(MOST_ROWS, MOST_CALLERS)
    cells[0, columns[6]] = 4
    assert view.routes()[0][1] == 4
    shown.dismiss(others[6])
    assert view.routes()[0][1] == 0
    assert shown.admit(HERE).column == columns[6]
    view.close()


def test_threads_of_one_process_lose_no_count(shown: RoutingPage, view: RoutingView) -> None:
    shown.show([route(1)])

    def both() -> None:
        for _ in range(5000):
            view.count(0, 1)
            view.count(0, -1)

    threads = [threading.Thread(target=both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert view.routes()[0][1] == 0


# Hubs that come and go.


def hub_process(pipe: object, numbers: list[int]) -> None:
    """A hub's page in a process that can be killed."""
    shown = RoutingPage()
    shown.show([route(number) for number in numbers])
    with suppress(EOFError):
        while True:
            pipe.send(shown.admit(pipe.recv()))


def test_a_page_outlives_its_hub_and_the_next_one_is_attached_by_itself() -> None:
    hubs = []

    def start(numbers: list[int]) -> None:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=hub_process, args=(theirs, numbers), daemon=True)
        process.start()
        hubs.append((process, ours))

    def attach(caller: Caller, _patience_s: float) -> object:
        process, pipe = hubs[-1]
        if not process.is_alive():
            raise SwarmUnavailable("no hub", "")
        pipe.send(caller)
        assert pipe.poll(30.0)
        return pipe.recv()

    start([1, 2])
    router = Router(attach)
    first = router.view()
    assert len(first.routes()) == 2
    hubs[0][0].kill()
    hubs[0][0].join()
    assert first.choose(Role.STRESS) in (0, 1) and router.view() is first
    start([3])
    assert eventually(lambda: router.view() is not first)
    assert [found.agent_id for found, _ in router.view().routes()] == ["stress-3"]
    before = threading.active_count()
    router.close()
    router.close()
    assert threading.active_count() == before - 1
    hubs[1][0].kill()
    hubs[1][0].join()


def test_another_machine_has_no_page_and_no_hub_is_said_in_time() -> None:
    def far(_caller: Caller, _patience_s: float) -> object:
        raise LanesUnavailable("another machine", "")

    router = Router(far)
    assert router.view() is None
    router.close()

    def nobody(_caller: Caller, _patience_s: float) -> object:
        raise SwarmUnavailable("no hub", "")

    router = Router(nobody)
    with pytest.raises(SwarmUnavailable, match="routing page"):
        router.view(0.3)
    router.close()


def test_attaching_and_closing_leaks_no_descriptor(shown: RoutingPage) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = descriptors()
    for _ in range(20):
        router = Router(lambda caller, _s: shown.admit(caller))
        router.view().choose(Role.STRESS)
        router.close()
    assert descriptors() == before
    assert started(os.getpid()) == HERE.started and CODES[Role.HUB] == 1
