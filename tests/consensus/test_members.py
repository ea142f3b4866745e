"""Who votes changes on real Ray: by the committee's own decision, under load; who came later is a voter like any.

The tests follow each other: each finds the committee as the one before has left it.
"""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
from contextlib import contextmanager

import pytest
from rich.console import Console

from cluster import runtime
from cluster.errors import InvalidRequest, InvalidSettings, SwarmError
from consensus import ballots, decisions, seats
from consensus.ballots import Choice
from consensus.committee import CommitteeClient
from consensus.errors import BadBallot, DeadlinePast, Undecided
from consensus.rules import Outcome
from consensus.settings import ConsensusSettings
from consensus.simplex.crypto import load_key
from hive.messages.health import AgentState
from swarm import boot, members
from swarm.report.consensus import status
from swarm.settings import Settings
from tests.conftest import agent, eventually, stopped

DEADLINE_S = 90.0
BREATH_S = 0.03  # between motions of the load
SETTINGS = Settings(consensus=ConsensusSettings(voters=4, deadline_s=DEADLINE_S))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("members")


@pytest.fixture(scope="module")
def committee(client, home):
    up(client, home)
    yield client.committee(proposer="tests", keys=boot.committee_path(home))
    down(home)


@pytest.fixture(scope="module")
def decided():
    """Every decision of these tests, by id, as its certificate was first seen."""
    return {}


def up(client, home):
    voters = tuple(pair for pair in boot.roster(SETTINGS, home) if pair[0] is boot.VOTER)
    created = {}
    boot.create_agents(SETTINGS, home, voters, created)
    boot.found_committee(SETTINGS, home, created, give_up=time.monotonic() + DEADLINE_S)
    assert eventually(lambda: set(created) <= healthy(client))


def down(home):
    names = tuple(entry.agent_id for line, entry in boot.roster(SETTINGS, home) if line is boot.VOTER)
    assert boot.take_down(names, SETTINGS.namespace) == []
    hub = runtime.find_actor("hub", SETTINGS.namespace)
    runtime.wait_for([hub.deregister.remote(name) for name in names], DEADLINE_S)


def healthy(client):
    return {agent.agent_id for agent in client.health().agents if agent.state is AgentState.HEALTHY}


def seated(committee):
    """Voters' numbers by name, of all who live."""
    return {one["name"]: one["voter"] for one in committee.status()}


@contextmanager
def load(first, decided):
    """One motion after the other; none may fail, and some must be decided before the block, in it and after it."""
    stop, failures = threading.Event(), []

    def move():
        own = CommitteeClient(first, SETTINGS.namespace, deadline_s=DEADLINE_S)
        while not stop.wait(BREATH_S):
            try:
                decided.update((decision.id, decision) for decision in own.propose_all([("note", b"load")] * 4))
            except SwarmError as error:
                failures.append(error)

    def more():
        enough = len(decided) + 4
        return eventually(lambda: len(decided) >= enough)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        assert more()
        yield
        assert more()
    finally:
        stop.set()
        thread.join()
    assert not failures


def test_a_voter_is_replaced_under_load_and_the_committee_never_stops(committee, client, home, decided):
    with load(committee.first, decided):
        change, now = members.replace(committee, home, "consensus-2")
    decided[change.id] = change
    assert (change.outcome, change.epoch, committee.present.epoch) == (Outcome.APPROVED, 0, 1)
    assert now.names == ("consensus-1", "consensus-3", "consensus-4", "consensus-5")
    assert seated(committee) == {"consensus-1": 0, "consensus-5": 1, "consensus-3": 2, "consensus-4": 3}
    assert "consensus-2" not in {agent.agent_id for agent in client.health().agents}
    assert eventually(lambda: set(now.names) <= healthy(client))
    assert {decision.epoch for decision in decided.values()} == {0, 1}
    late = CommitteeClient(committee.first, SETTINGS.namespace, deadline_s=DEADLINE_S)  # knows the founding only
    found = late.propose("raise_limit", b"var 0.03")
    decided[found.id] = found
    assert (found.epoch, late.present) == (1, committee.present)


def test_status_says_who_votes_who_observes_and_that_they_share_a_node(committee):
    said = committee.status()
    said[0] = said[0] | {"voter": None}
    console = Console(file=io.StringIO(), width=220)
    console.print(status(said, {"consensus-3": "its reason"}))
    text = console.file.getvalue()
    assert re.search(r"consensus-1 +observer +HEALTHY", text)
    assert re.search(r"consensus-5 +1 +HEALTHY", text)
    assert "its reason" in text
    assert "3 voters share one node: its loss takes them all" in text


def test_the_ballots_of_who_was_replaced_do_not_count(committee, home):
    gone = load_key(home / "consensus" / "consensus-2" / "key")
    moved = committee.motion("raise_limit", b"var 0.04")
    epoch, given = committee.vote(moved)
    old = ballots.ballot(gone, committee.first, moved, Choice.APPROVE)
    with pytest.raises(BadBallot):
        committee.finalize(moved, epoch, sorted([*given[:1], old, *given[2:]], key=lambda one: one.voter))
    assert gone.public not in committee.present.keys


def test_a_newcomer_that_is_killed_comes_back_and_votes(committee, client, decided):
    before = agent(client, "consensus-5")
    os.kill(before.pid, signal.SIGKILL)

    def back():
        now = agent(client, "consensus-5")
        return now.restarts > before.restarts and now.state is AgentState.HEALTHY

    assert eventually(back)
    with stopped(agent(client, "consensus-1").pid):  # nothing is decided without the newcomer now
        decision = committee.propose("raise_limit", b"var 0.05")
    decided[decision.id] = decision
    assert 1 in decision.signers


def test_what_is_not_decided_changes_nothing(committee, home):
    before, known = seated(committee), seats.read(home / "consensus", committee.first)
    with pytest.raises(InvalidRequest, match="consensus-2 is no voter"):
        members.replace(committee, home, "consensus-2")
    with pytest.raises(InvalidRequest, match="from 4 voters to 5"):
        members.resize(committee, home, 5)
    with pytest.raises(DeadlinePast):
        members.replace(committee, home, "consensus-1", deadline_s=-1.0)
    assert seated(committee) == before
    after = seats.read(home / "consensus", committee.first)
    assert (after.keys, after.fresh) == (known.keys, known.fresh + 1)  # a number that was used is not used again


class Blind(CommitteeClient):
    """A client that does not live to see what is decided."""

    def finalize(self, motion, epoch, given):
        super().finalize(motion, epoch, given)
        raise Undecided("no decision was seen", "Look again")


def test_a_change_that_was_not_seen_leaves_all_in_their_seats_and_the_next_one_ends_who_left(committee, home, decided):
    blind = Blind(committee.first, SETTINGS.namespace, deadline_s=DEADLINE_S)
    with pytest.raises(Undecided, match="consensus-7 stand by"):
        members.replace(blind, home, "consensus-1")
    assert {"consensus-1", "consensus-7"} < set(seats.read(home / "consensus", committee.first).names)
    assert eventually(lambda: [seated(committee).get(name) for name in ("consensus-1", "consensus-7")] == [None, 0])
    change, now = members.replace(committee, home, "consensus-3")
    decided[change.id] = change
    assert now.names == ("consensus-4", "consensus-5", "consensus-7", "consensus-8")
    assert set(seated(committee)) == set(now.names)


def test_the_committee_grows_and_shrinks_under_load_and_its_first_keys_prove_it_all(committee, home, decided):
    before, epoch = seated(committee), committee.present.epoch
    (home / "consensus" / "seats.json").unlink()  # it is a convenience: who lives and votes is known without it
    with load(committee.first, decided):
        grown, now = members.resize(committee, home, 7)
        assert (len(now.names), sorted(seated(committee).values())) == (7, list(range(7)))
        larger = committee.propose("raise_limit", b"var 0.06")
        assert len(larger.asked.ballots) >= 5
        shrunk, _ = members.resize(committee, home, 4)
    decided |= {decision.id: decision for decision in (grown, larger, shrunk)}
    assert seated(committee) == before
    assert [one.epoch - epoch for one in (grown, larger, shrunk, committee.present)] == [0, 1, 1, 2]
    assert {decision.epoch for decision in decided.values()} == set(range(epoch + 3))
    assert eventually(lambda: len({one["height"] for one in committee.status()}) == 1)
    for name in before:
        entries = runtime.wait_for(runtime.find_actor(name, SETTINGS.namespace).log.remote(0, 10**6), DEADLINE_S)
        proved = {found: decisions.proved(committee.first, evidence, found) for found, _, evidence in entries}
        for identity, decision in decided.items():
            assert (proved[identity].height, proved[identity].asked) == (decision.height, decision.asked)
    assert not committee.evidence()


def test_a_swarm_that_comes_up_again_starts_those_who_are_voters_now(committee, client, home, decided):
    before = seated(committee)
    down(home)
    up(client, home)
    again = CommitteeClient(committee.first, SETTINGS.namespace, deadline_s=DEADLINE_S)
    assert eventually(lambda: seated(again) == before)
    assert again.propose("raise_limit", b"var 0.07").epoch == committee.present.epoch
    assert again.decision(next(iter(decided))) is not None
    with pytest.raises(InvalidSettings, match="founded with 4 voters"):
        boot.roster(Settings(consensus=ConsensusSettings(voters=7)), home)
