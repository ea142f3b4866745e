"""The committee on real Ray: processes that are killed under load, and clients that believe nothing but signatures.

``RISKSWARM_TORTURE_KILLS`` sets how many replicas the storm kills (`make storm`).
"""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest

from cluster import runtime
from cluster.errors import SwarmError
from consensus import decisions
from consensus.ballots import Outcome
from consensus.committee import CommitteeClient
from consensus.errors import BadBallot, DeadlinePast, UnknownKind
from consensus.seats import Seat, replica_name
from consensus.settings import ConsensusSettings
from consensus.simplex.crypto import KeyUnusable
from hive.messages.health import AgentState
from swarm import boot
from swarm.settings import Settings
from tests.conftest import agent, eventually, stopped
from tests.consensus.conftest import DEADLINE_S, committee_of

KILLS = int(os.environ.get("RISKSWARM_TORTURE_KILLS", "3"))
VOTERS = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("committee")


@pytest.fixture(scope="module")
def committee(client, home):
    settings = Settings(consensus=ConsensusSettings(voters=VOTERS, deadline_s=DEADLINE_S))
    with committee_of(client, home, settings):
        yield client.committee(proposer="tests", keys=boot.committee_path(home))


def test_a_proposal_comes_back_decided_with_a_certificate_and_stands_in_the_log(committee):
    decision = committee.propose("raise_limit", b"var 0.03", evidence=("calculation 7",))
    assert decision.outcome is Outcome.APPROVED
    assert (decision.asked.motion.proposer, decision.asked.motion.evidence) == ("tests", ("calculation 7",))
    assert len(decision.asked.ballots) >= committee.first.quorum
    again = committee.decision(decision.id)  # maybe certified by other voters
    assert (again.asked, again.height, again.outcome) == (decision.asked, decision.height, decision.outcome)
    assert decision.id in [entry.id for entry in committee.log()]
    assert len(committee.propose("kill", b"").asked.ballots) >= 1


def test_many_at_once_share_slots(committee):
    before = committee.status()[0]["height"]
    decided = committee.propose_all([("raise_limit", bytes([number])) for number in range(32)])
    assert [decision.asked.motion.payload[0] for decision in decided] == list(range(32))
    assert max(decision.height for decision in decided) - before < 16


def test_voting_and_finalizing_are_steps_that_can_be_taken_apart(committee):
    moved = committee.motion("enable_strategy", b"trend", deadline_s=20.0)
    epoch, given = committee.vote(moved)
    assert committee.finalize(moved, epoch, given).outcome is Outcome.APPROVED
    other = committee.motion("enable_strategy", b"carry", deadline_s=20.0)
    with pytest.raises(BadBallot, match="not signed by it for this motion"):
        committee.finalize(other, epoch, given)


def test_what_cannot_be_moved_is_refused_with_its_reason(committee):
    with pytest.raises(UnknownKind):
        committee.propose("abolish_limits")
    with pytest.raises(DeadlinePast):
        committee.propose("kill", deadline_s=-1.0)


def test_a_second_founding_or_a_second_life_of_a_voter_is_refused(committee, home):
    voter = runtime.find_actor(replica_name(0), "riskswarm")
    stranger = decisions.committee_text(committee.first, bytes(16))
    with pytest.raises(SwarmError):
        runtime.wait_for(voter.found.remote(stranger), DEADLINE_S)
    with pytest.raises(KeyUnusable, match="is missing"):
        Seat(home / "elsewhere").signer(may_make=False)


def test_voters_killed_under_load_with_torn_logs_lose_and_contradict_nothing(committee, client, home):
    rng = random.Random(7)
    stop, decided, failures = threading.Event(), {}, []

    def load():
        own = CommitteeClient(committee.first, "riskswarm", deadline_s=DEADLINE_S)
        while not stop.is_set():
            try:
                for decision in own.propose_all([("note", b"load")] * 4):
                    decided[decision.id] = (decision.height, decision.asked)
            except SwarmError as error:
                failures.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for number in range(KILLS):
            victim = rng.randrange(VOTERS)
            before = agent(client, replica_name(victim))
            enough = len(decided) + 4
            assert eventually(lambda enough=enough: len(decided) >= enough)
            log = home / "consensus" / replica_name(victim) / "log"
            with stopped(before.pid):  # so that the log is still when its end is torn, before another life opens it
                if number % 2 == 0:  # half a record, as a write that the crash broke off
                    half = log.read_bytes()[-60:-20]
                    with log.open("ab") as file:
                        file.write(half)
                os.kill(before.pid, signal.SIGKILL)

            def back(victim=victim, restarts=before.restarts):
                now = agent(client, replica_name(victim))
                return now.restarts > restarts and now.state is AgentState.HEALTHY

            assert eventually(back), f"{before}\n{agent(client, replica_name(victim))}"
    finally:
        stop.set()
        thread.join()
    assert not failures
    last = max(height for height, _ in decided.values())
    assert eventually(lambda: all(said.get("height", 0) >= last for said in committee.status()))
    for number in range(VOTERS):
        voter = runtime.find_actor(replica_name(number), "riskswarm")
        entries = runtime.wait_for(voter.log.remote(0, 10**6), DEADLINE_S)
        proved = {found: decisions.proved(committee.first, evidence, found) for found, _, evidence in entries}
        for identity, (height, asked) in decided.items():
            assert (proved[identity].height, proved[identity].asked) == (height, asked)
    tips = {(said["height"], said["tip"]) for said in committee.status()}
    assert len({height for height, _ in tips}) == len(tips)
    assert not committee.evidence()
