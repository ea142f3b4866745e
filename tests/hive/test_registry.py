"""The registry: lives and deaths of agents as the hub counts them, and who gets the next question."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from hive.hub.registry import NEVER_MEASURED_MS, Registry, RosterEntry, choose, swarm_state
from hive.hub.settings import HubSettings
from hive.messages.calculation import AnswerStatus, Role
from hive.messages.health import AgentHealth, AgentReport, AgentState, Descriptor, SwarmState

SECOND = 1_000_000_000
SETTINGS = HubSettings(heartbeat_s=1.0, suspect_misses=2, dead_misses=5, max_restarts=3, restart_window_s=60.0)


def _descriptor(agent_id="stress", incarnation="one", *, role=Role.STRESS, node_id="here", critical=False):
    return Descriptor(agent_id, role, (), "1", node_id, 1, incarnation, critical)


def _report(agent_id="stress", incarnation="one", state=AgentState.HEALTHY, reason=""):
    return AgentReport(agent_id=agent_id, incarnation=incarnation, state=state, reason=reason)


def _registry(*extra):
    entries = [RosterEntry("stress", Role.STRESS, False), *extra]
    return Registry(entries, SETTINGS)


def _serving(registry, agent_id="stress", now_ns=0, **fields):
    """Register ``agent_id``, let it report HEALTHY, and give its instance back."""
    assert registry.register(_descriptor(agent_id, **fields), f"handle of {agent_id}", now_ns)
    assert registry.heartbeat(_report(agent_id), now_ns)
    return registry.find(agent_id)


def test_agent_of_the_roster_starts_unregistered_and_serves_after_its_first_heartbeat():
    registry = _registry()
    assert registry.find("stress").state is AgentState.STARTING
    assert registry.serving(Role.STRESS) == ()
    assert registry.register(_descriptor(), "handle", 0)
    assert registry.serving(Role.STRESS) == ()
    assert registry.heartbeat(_report(), SECOND)
    (instance,) = registry.serving(Role.STRESS)
    assert (instance.state, instance.handle, instance.restarts) == (AgentState.HEALTHY, "handle", 0)


def test_degraded_agent_serves_and_an_unasked_one_joins_the_roster():
    registry = _registry()
    _serving(registry)
    registry.heartbeat(_report(state=AgentState.DEGRADED, reason="old snapshot"), SECOND)
    _serving(registry, "stress-2")
    assert {instance.entry.agent_id for instance in registry.serving(Role.STRESS)} == {"stress", "stress-2"}
    assert registry.find("stress").reason == "old snapshot"
    assert registry.serving(Role.CORRELATION) == ()


@pytest.mark.parametrize(
    ("silent_s", "expected"),
    [
        *((1.0, AgentState.HEALTHY), (1.999, AgentState.HEALTHY)),
        *((2.0, AgentState.SUSPECT), (4.999, AgentState.SUSPECT)),
        *((5.0, AgentState.DEAD), (500.0, AgentState.DEAD)),
    ],
)
def test_missed_heartbeats_make_an_agent_suspect_at_two_and_dead_at_five(silent_s, expected):
    registry = _registry()
    instance = _serving(registry, now_ns=7 * SECOND)
    registry.judge(7 * SECOND + int(silent_s * SECOND))
    assert instance.state is expected
    assert (instance in registry.serving(Role.STRESS)) is (expected is AgentState.HEALTHY)


@pytest.mark.parametrize("silent_s", [3, 6])
def test_heartbeat_of_the_same_life_brings_a_silent_agent_back(silent_s):
    registry = _registry()
    instance = _serving(registry)
    registry.judge(silent_s * SECOND)
    assert instance.state is not AgentState.HEALTHY
    assert registry.heartbeat(_report(), silent_s * SECOND)
    registry.judge(silent_s * SECOND + SECOND)
    assert (instance.state, instance.restarts) == (AgentState.HEALTHY, 0)


def test_agent_that_never_registers_is_waited_for_through_its_grace_and_no_longer():
    registry = _registry()
    registry.judge(60 * SECOND)
    assert registry.find("stress").state is AgentState.STARTING and registry.hopeless(Role.STRESS) == ""
    registry.judge(61 * SECOND)
    assert registry.find("stress").state is AgentState.DEAD
    assert "has not registered within 60 s" in registry.hopeless(Role.STRESS)
    assert registry.register(_descriptor(), "handle", 62 * SECOND)
    assert registry.hopeless(Role.STRESS) == ""


def test_instance_that_keeps_failing_fast_is_passed_over_until_it_is_tried_again():
    registry = _registry(RosterEntry("stress-2", Role.STRESS, False))
    good, bad = _serving(registry), _serving(registry, "stress-2")
    registry.ended(good, AnswerStatus.OK, 20.0, SECOND)
    for _ in range(SETTINGS.breaker_failures):
        registry.ended(bad, AnswerStatus.FAILED, None, SECOND)

    def drawn(now_s):
        rng = random.Random(3)
        both = (good, bad)
        return {choose(both, max_queue=9, node_id="", rng=rng, now_ns=now_s * SECOND).entry.agent_id for _ in range(50)}

    assert drawn(2) == {"stress"}
    assert "stress-2" in drawn(32)
    registry.ended(bad, AnswerStatus.FAILED, None, 32 * SECOND)
    assert drawn(33) == {"stress"}
    registry.ended(bad, AnswerStatus.OK, 1.0, 62 * SECOND)
    registry.ended(bad, AnswerStatus.FAILED, None, 62 * SECOND)
    assert "stress-2" in drawn(63)
    good.passed_over_until_ns = bad.passed_over_until_ns = 99 * SECOND
    assert drawn(64), "somebody must be asked"


def test_unreachable_agent_is_dead_at_once_with_the_reason_given():
    registry = _registry()
    instance = _serving(registry)
    registry.unreachable("stress", "its process died")
    registry.unreachable("nobody", "ignored")
    registry.judge(10 * SECOND)
    assert (instance.state, instance.reason) == (AgentState.DEAD, "its process died")


def test_new_incarnation_counts_a_restart_and_the_same_one_does_not():
    registry = _registry()
    instance = _serving(registry)
    instance.in_flight = 2
    assert registry.register(_descriptor(incarnation="one"), "handle", SECOND)
    assert (instance.restarts, instance.in_flight) == (0, 2)
    assert registry.register(_descriptor(incarnation="two"), "handle", SECOND)
    assert (instance.restarts, instance.state, instance.report) == (1, AgentState.STARTING, None)
    assert instance.in_flight == 2  # each question of the old life ends by itself, with its error


def test_heartbeat_of_an_old_life_or_of_a_stranger_is_refused_and_changes_nothing():
    registry = _registry()
    instance = _serving(registry)
    registry.register(_descriptor(incarnation="two"), "handle", SECOND)
    assert not registry.heartbeat(_report(incarnation="one"), 9 * SECOND)
    assert not registry.heartbeat(_report("nobody"), 9 * SECOND)
    assert not registry.heartbeat(_report("hub"), 9 * SECOND)
    assert (instance.state, instance.last_seen_ns, instance.report) == (AgentState.STARTING, SECOND, None)


def _restart(registry, times_ns):
    """Register a new life at each time; what each registration answered."""
    _serving(registry)
    return [registry.register(_descriptor(incarnation=f"life {t}"), "handle", t) for t in times_ns]


def test_agent_is_parked_after_more_than_the_tolerated_restarts_and_stays_so():
    registry = _registry()
    assert _restart(registry, [SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]) == [True, True, True, False]
    instance = registry.find("stress")
    assert (instance.parked, instance.state, instance.restarts) == (True, AgentState.DEAD, 4)
    assert instance.reason.startswith("parked")
    assert registry.heartbeat(_report(incarnation=f"life {4 * SECOND}"), 5 * SECOND)
    registry.unreachable("stress", "gone")
    registry.judge(6 * SECOND)
    assert instance.state is AgentState.DEAD
    assert instance.reason.startswith("parked")
    assert registry.serving(Role.STRESS) == ()
    assert not registry.register(_descriptor(incarnation="much later"), "handle", 10_000 * SECOND)


def test_restarts_spread_over_more_than_the_window_do_not_park():
    registry = _registry()
    assert all(_restart(registry, [SECOND * 21 * step for step in range(1, 20)]))
    assert registry.find("stress").restarts == 19


def test_deregistered_agent_is_forgotten():
    registry = _registry()
    _serving(registry)
    registry.deregister("stress")
    registry.deregister("stress")
    assert registry.find("stress") is None
    assert not registry.heartbeat(_report(), SECOND)


def test_role_is_hopeless_only_without_instances_or_with_all_of_them_parked():
    registry = _registry(RosterEntry("stress-2", Role.STRESS, False))
    assert "no liquidity agent" in registry.hopeless(Role.LIQUIDITY)
    assert registry.hopeless(Role.STRESS) == ""
    _restart(registry, [SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND])
    assert registry.hopeless(Role.STRESS) == ""
    registry.deregister("stress-2")
    assert registry.hopeless(Role.STRESS).startswith("parked")


def _instances(count, node_ids=None):
    registry = Registry([], SETTINGS)
    nodes = node_ids or ["here"] * count
    return tuple(_serving(registry, f"stress-{i}", node_id=nodes[i]) for i in range(count))


def _draws(instances, times=6000, *, node_id="here", max_queue=64):
    rng = random.Random(5)
    chosen = [choose(instances, max_queue=max_queue, node_id=node_id, rng=rng) for _ in range(times)]
    return Counter(instances.index(instance) for instance in chosen)


def test_less_loaded_of_two_is_always_chosen():
    busy, idle = _instances(2)
    busy.latency_ms, busy.in_flight = 10.0, 1
    idle.latency_ms, idle.in_flight = 9.0, 1
    assert _draws((busy, idle), 50) == {1: 50}
    idle.in_flight = 2  # 9 ms x 3 is a longer wait than 10 ms x 2
    assert _draws((busy, idle), 50) == {0: 50}


def test_of_three_the_two_drawn_compete_so_the_middle_one_gets_a_third():
    instances = _instances(3)
    for instance, latency in zip(instances, (1.0, 2.0, 3.0), strict=True):
        instance.latency_ms = latency
    counts = _draws(instances)
    assert counts[0] / 6000 == pytest.approx(2 / 3, abs=0.03)
    assert counts[1] / 6000 == pytest.approx(1 / 3, abs=0.03)
    assert counts[2] == 0


def test_equal_instances_share_the_questions_evenly():
    counts = _draws(_instances(4))
    assert all(counts[index] / 6000 == pytest.approx(0.25, abs=0.03) for index in range(4))


def test_instances_on_the_own_node_come_first_and_far_ones_only_when_those_are_full():
    instances = _instances(4, ["here", "here", "there", "there"])
    for near in instances[:2]:
        near.latency_ms = 100.0
    counts = _draws(instances)
    assert counts[0] + counts[1] == 6000
    assert counts[0] / 6000 == pytest.approx(0.5, abs=0.03)
    for near in instances[:2]:
        near.in_flight = 64
    assert set(_draws(instances)) == {2, 3}
    assert set(_draws(instances, node_id="nowhere")) == {2, 3}


def test_full_queues_leave_nobody_to_choose():
    instances = _instances(2)
    for instance in instances:
        instance.in_flight = 3
    assert choose(instances, max_queue=3, node_id="here", rng=random.Random(0)) is None
    assert choose((), max_queue=3, node_id="here", rng=random.Random(0)) is None
    instances[1].in_flight = 2
    assert choose(instances, max_queue=3, node_id="here", rng=random.Random(0)) is instances[1]


def test_ended_question_frees_its_place_and_is_counted_once():
    registry = _registry()
    instance = _serving(registry)
    instance.in_flight = 3
    for status in (AnswerStatus.OK, AnswerStatus.LATE, AnswerStatus.FAILED, AnswerStatus.FAILED):
        registry.ended(instance, status, None)
    (row,) = registry.performance()
    assert instance.in_flight == 0
    assert (row.calls, row.ok, row.late, row.failed, row.latency_ms) == (4, 1, 1, 2, NEVER_MEASURED_MS)


def test_first_round_trip_replaces_the_assumed_latency_and_later_ones_weigh_a_fifth():
    registry = _registry()
    instance = _serving(registry)
    registry.ended(instance, AnswerStatus.OK, 50.0)
    assert instance.latency_ms == 50.0
    registry.ended(instance, AnswerStatus.OK, 100.0)
    assert instance.latency_ms == pytest.approx(60.0)


def test_failure_that_returns_at_once_does_not_make_a_slow_instance_look_fast():
    registry = _registry()
    instance = _serving(registry)
    registry.ended(instance, AnswerStatus.OK, 50.0)
    registry.ended(instance, AnswerStatus.FAILED, 0.0)
    assert instance.latency_ms >= 0.8 * 50.0


def _health(state, *, critical=False):
    return AgentHealth("agent", Role.STRESS, state, "", critical, 0, None)


@pytest.mark.parametrize(
    ("agents", "expected"),
    [
        ([_health(AgentState.HEALTHY), _health(AgentState.HEALTHY, critical=True)], SwarmState.HEALTHY),
        ([_health(AgentState.DEGRADED), _health(AgentState.HEALTHY, critical=True)], SwarmState.DEGRADED),
        ([_health(AgentState.DEAD), _health(AgentState.HEALTHY, critical=True)], SwarmState.DEGRADED),
        ([_health(AgentState.HEALTHY), _health(AgentState.DEGRADED, critical=True)], SwarmState.DEGRADED),
        ([_health(AgentState.HEALTHY), _health(AgentState.STARTING, critical=True)], SwarmState.DOWN),
        ([_health(AgentState.HEALTHY), _health(AgentState.SUSPECT, critical=True)], SwarmState.DOWN),
        ([_health(AgentState.DEAD), _health(AgentState.DEAD, critical=True)], SwarmState.DOWN),
    ],
)
def test_swarm_is_as_well_as_its_agents_and_down_without_a_critical_one(agents, expected):
    assert swarm_state(agents) is expected
    assert swarm_state(iter(agents)) is expected


def test_health_of_an_agent_gives_a_reason_unless_it_is_healthy():
    registry = _registry()
    assert registry.health(registry.find("stress"), None).reason == "has not registered yet"
    instance = _serving(registry)
    seen = registry.health(instance, 1.5)
    assert (seen.state, seen.reason, seen.ping_ms, seen.node_id) == (AgentState.HEALTHY, "", 1.5, "here")
    registry.judge(3 * SECOND)
    assert registry.health(instance, None).reason == "no heartbeat for 3.0 s"
