"""The committee on real Ray: clients that believe nothing but signatures have motions decided by it."""

from __future__ import annotations

import pytest

from cluster import runtime
from cluster.errors import SwarmError
from consensus import decisions, replica
from consensus.ballots import Outcome
from consensus.errors import BadBallot, DeadlinePast, UnknownKind
from consensus.seats import Seat, replica_name
from consensus.settings import ConsensusSettings
from consensus.simplex.crypto import KeyUnusable
from swarm import boot
from swarm.settings import Settings
from tests.consensus.conftest import DEADLINE_S, committee_of

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


def test_whoever_can_call_a_voter_cannot_speak_as_another(committee, home):
    voter = runtime.find_actor(replica_name(0), "riskswarm")
    signer = Seat(home / "consensus" / replica_name(1)).signer(may_make=False)
    token = signer.sign(replica._token_bytes(committee.first, committee.first.keys[0]))
    elsewhere = signer.sign(replica._token_bytes(committee.first, committee.first.keys[2]))

    def ask(call):
        return runtime.wait_for(call, DEADLINE_S)

    before = ask(voter.status.remote())
    for shown in ((), (bytes(64),), (elsewhere,), (None,)):
        ask(voter.deliver.remote(1, [b"noise"] * 10, *shown))
        assert ask(voter.introduce.remote(1, before["node"], *shown)) is None
    assert ask(voter.status.remote())["strange"] - before["strange"] == 40
    ask(voter.deliver.remote(1, [b"noise"] * 10, token))
    assert ask(voter.introduce.remote(1, before["node"], token)) is not None
    assert ask(voter.status.remote())["strange"] - before["strange"] == 40
    assert committee.propose("note").outcome is Outcome.APPROVED
