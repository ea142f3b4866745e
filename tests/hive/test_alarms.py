"""Alerts about the swarm itself: what opens and closes them, what is kept of them, and what is said when it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hive.hub.alarms import Alarms
from hive.hub.registry import Registry, RosterEntry
from hive.hub.settings import HubSettings
from hive.messages.alert import Alert, AlertKind, Priority
from hive.messages.calculation import Role
from hive.messages.codec import decode, encode
from hive.messages.health import AgentReport, AgentState, Descriptor

SECOND = 1_000_000_000
SETTINGS = HubSettings(heartbeat_s=1.0, suspect_misses=2, dead_misses=5, max_restarts=1, restart_window_s=60.0)
FAULT = Alert(
    AlertKind.BYZANTINE_FAULT, Priority.HIGH, "consensus-1", "consensus-4", "is proved faulty", "fault", 5, proof="ab"
)


class Swarm:
    """A registry and its alarms, on a clock that the test moves."""

    def __init__(self, *names, voters=0, kept=100):
        entries = [RosterEntry(name, Role.STRESS, False) for name in names]
        self.voters = [f"consensus-{number + 1}" for number in range(voters)]
        entries += [RosterEntry(name, Role.CONSENSUS, False) for name in self.voters]
        self.registry = Registry(entries, SETTINGS)
        self.alarms = Alarms(kept)
        self.now_ns = 0

    def say(self, name, state=AgentState.HEALTHY, *, life="one", alerts=(), reason="", observes=False):
        role = self.registry.find(name).entry.role
        known = self.registry.find(name).incarnation == life
        welcome = known or self.registry.register(
            Descriptor(name, role, (), "1", "here", 1, life, False), "handle", self.now_ns
        )
        if welcome:
            report = AgentReport(
                agent_id=name, incarnation=life, state=state, reason=reason, alerts=alerts, observes=observes
            )
            self.registry.heartbeat(report, self.now_ns)
        return self.look()

    def die(self, name):
        self.registry.died(name, self.registry.find(name).incarnation, "its process died")
        return self.look()

    def look(self, after_s=0.0):
        self.now_ns += int(after_s * SECOND)
        self.registry.judge(self.now_ns)
        self.alarms.look(self.registry.instances(), self.now_ns)
        return [str(alert.kind) for alert in self.alarms.open]


def test_an_agent_that_died_is_an_alert_until_it_serves_again():
    swarm = Swarm("stress")
    assert swarm.say("stress") == []
    assert swarm.die("stress") == ["agent_failure"]
    (alert,) = swarm.alarms.open
    assert (alert.priority, alert.subject, alert.source) == (Priority.HIGH, "stress", "hub")
    assert alert.message == "stress is DEAD: its process died"
    assert swarm.say("stress", AgentState.STARTING, life="two") == ["agent_failure"]
    assert swarm.say("stress", life="two") == []
    assert [alert.message for alert in swarm.alarms.told().raised] == ["stress is DEAD: its process died"]


def test_an_agent_that_is_parked_is_another_alert_than_one_that_died():
    swarm = Swarm("stress")
    for life in ("one", "two"):
        swarm.say("stress", life=life)
        swarm.die("stress")
    assert swarm.say("stress", life="three") == ["agent_failure"]
    assert "parked" in swarm.alarms.open[0].message
    keys = [alert.dedup_key for alert in swarm.alarms.told().raised]
    assert keys == ["agent_failure:stress:dead", "agent_failure:stress:parked"]


def test_an_agent_that_hangs_is_an_alert_only_when_it_counts_as_dead():
    swarm = Swarm("stress")
    swarm.say("stress")
    assert swarm.look(after_s=3) == []
    assert swarm.look(after_s=3) == ["agent_failure"]


@pytest.mark.parametrize(("voters", "may_lack"), [(4, 1), (7, 2), (10, 3)])
def test_a_committee_with_fewer_than_its_quorum_standing_is_critical(voters, may_lack):
    swarm = Swarm(voters=voters)
    for name in swarm.voters:
        assert swarm.say(name, AgentState.STARTING) == []  # what comes up has lost nothing
    for name in swarm.voters:
        assert swarm.say(name) == []
    for name in swarm.voters[:may_lack]:
        assert swarm.say(name, AgentState.DEGRADED, reason="votes no more") == []
    assert swarm.die(swarm.voters[-1]) == ["quorum_lost", "agent_failure"]
    alert = swarm.alarms.open[0]
    assert (alert.priority, alert.value, alert.limit) == (Priority.CRITICAL, voters - may_lack - 1, voters - may_lack)
    assert swarm.say(swarm.voters[-1], AgentState.STARTING, life="two") == ["quorum_lost", "agent_failure"]
    assert swarm.say(swarm.voters[-1], life="two") == []


def test_who_observes_is_no_voter_and_hides_no_lost_quorum():
    swarm = Swarm(voters=7)
    for name in swarm.voters:
        assert swarm.say(name, observes=name in swarm.voters[4:]) == []
    assert swarm.die(swarm.voters[0]) == ["agent_failure"]
    assert swarm.die(swarm.voters[1]) == ["quorum_lost", "agent_failure", "agent_failure"]
    assert (swarm.alarms.open[0].value, swarm.alarms.open[0].limit) == (2, 3)


def test_a_hub_that_was_restarted_over_a_lost_quorum_and_a_proof_says_both_again():
    swarm = Swarm(voters=4)
    swarm.say("consensus-1", alerts=(FAULT,))
    swarm.say("consensus-2")
    assert swarm.look(after_s=4) == ["byzantine_fault"]  # those that are yet to register may be fine
    swarm.say("consensus-3", AgentState.DEAD, reason="cannot initialise")
    assert swarm.say("consensus-4", AgentState.DEAD)[0] == "quorum_lost"
    assert {str(alert.kind) for alert in swarm.alarms.open} == {"quorum_lost", "byzantine_fault", "agent_failure"}


def test_what_several_agents_say_is_one_alert_until_none_says_it_any_more():
    swarm = Swarm(voters=4)
    for name, ts_ns in (("consensus-1", 5), ("consensus-2", 6)):
        swarm.say(name, alerts=(replace(FAULT, source=name, ts_ns=ts_ns),))
    assert [alert.ts_ns for alert in swarm.alarms.open] == [5]
    swarm.say("consensus-1")
    assert [(alert.source, alert.ts_ns) for alert in swarm.alarms.open] == [("consensus-2", 5)]
    assert swarm.say("consensus-2") == []
    assert swarm.alarms.told().raised == (FAULT,)


def test_the_same_alert_is_raised_once_a_minute():
    swarm = Swarm("stress")
    for life in range(3):
        swarm.now_ns = life * 40 * SECOND
        swarm.say("stress", life=str(life))
        swarm.die("stress")
        swarm.registry.find("stress").parked = False
    told = swarm.alarms.told()
    assert ([alert.ts_ns for alert in told.raised], told.withheld) == ([0, 80 * SECOND], 1)


def test_the_oldest_are_forgotten_and_critical_ones_are_counted():
    swarm = Swarm("stress", kept=2)
    kinds = [Priority.CRITICAL, Priority.HIGH, Priority.CRITICAL, Priority.LOW]
    for number, priority in enumerate(kinds):
        swarm.say("stress", alerts=(replace(FAULT, priority=priority, dedup_key=str(number)),))
    told = swarm.alarms.told()
    assert [alert.dedup_key for alert in told.raised] == ["2", "3"]
    assert (told.forgotten, told.critical_forgotten) == (2, 1)
    assert [alert.dedup_key for alert in told.open] == ["3"]


def test_the_most_urgent_is_first_and_all_of_it_survives_the_codec():
    swarm = Swarm("stress")
    said = [replace(FAULT, priority=priority, dedup_key=priority) for priority in reversed(Priority)]
    swarm.say("stress", alerts=tuple(said))
    assert [alert.priority for alert in swarm.alarms.open] == list(Priority)
    assert decode(encode(swarm.alarms.told())) == swarm.alarms.told()
