"""A committee on real Ray with a voter that cannot be trusted: its key, its log, its other life, and its two faces.

One committee, whose fourth voter suffers everything; the others decide all the while.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from cluster import runtime
from consensus import ballots
from consensus.ballots import Choice, Moved
from consensus.committee import CommitteeClient
from consensus.errors import StaleEpoch, TooLarge, UnknownKind
from consensus.motions import MOST_PAYLOAD_BYTES, motion_fields
from consensus.rules import Outcome
from consensus.seats import Seat, replica_name
from consensus.settings import ConsensusSettings
from consensus.simplex import proofs
from consensus.simplex.crypto import Checker
from consensus.simplex.types import Kind, Vote, encode, packed, vote_bytes
from consensus.waiting import Answer
from hive.messages.alert import AlertKind, Priority
from hive.messages.health import AgentState
from swarm import SwarmError, boot
from swarm.report.swarm import health as shown
from swarm.settings import Settings
from tests.conftest import agent, eventually, stopped
from tests.consensus.conftest import DEADLINE_S, committee_of
from tests.consensus.logs import written

VOTERS = 4
CULPRIT = 3
NAME = replica_name(CULPRIT)
SEVERAL_FRAMES = 10_000
FIRST_RECORD = 120  # a byte of it, behind the log's header
SECOND_LIFE = """
import sys, time
from pathlib import Path
from consensus.replica import Replica
from consensus.seats import Seat
from consensus.settings import ConsensusSettings
from consensus.simplex.wal import LogUnusable
while True:
    try:
        replica = Replica(Seat(Path(sys.argv[1])), ConsensusSettings(voters=4), lambda *_: 0)
    except LogUnusable as error:
        print(error, flush=True)
        time.sleep(0.01)
    else:
        print("in", flush=True)
        sys.stdin.read()
        replica.close()
        break
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("committee")


@pytest.fixture(scope="module")
def committee(client, home):
    settings = Settings(consensus=ConsensusSettings(voters=VOTERS, deadline_s=DEADLINE_S))
    with committee_of(client, home, settings):
        yield client.committee(keys=boot.committee_path(home))


@pytest.fixture
def seat(home):
    return Seat(home / "consensus" / NAME)


def is_healthy(client, name=NAME):
    return (name, AgentState.HEALTHY) in {(found.agent_id, found.state) for found in client.health().agents}


def restarted_with(client, damage):
    """Kill the voter, and do this to its files before Ray brings it back."""
    assert eventually(lambda: is_healthy(client))
    pid = agent(client, NAME).pid
    with stopped(pid):
        damage()
        os.kill(pid, signal.SIGKILL)


def is_refused(client, words):
    found = agent(client, NAME)
    return found.state is AgentState.DEAD and words in found.reason


def moved_on(committee):
    return committee.propose("raise_limit", b"var 0.03").outcome is Outcome.APPROVED


def said(client):
    return {(alert.kind, alert.subject): alert for alert in client.health().alerts}


def test_replicas_refuse_for_themselves_what_a_client_should_have_refused(committee, home):
    """Asked past the client, each with its reason; then the committee decides as before."""
    voter = runtime.find_actor(replica_name(0), "riskswarm")
    good = committee.motion("raise_limit", b"var 0.03", deadline_s=DEADLINE_S)
    other = committee.motion("raise_limit", b"var 0.04", deadline_s=DEADLINE_S)
    kind, payload, expires, *rest = motion_fields(good)

    def word_on(*fields):
        _, _, (word,) = runtime.wait_for(voter.ballots.remote([packed([*fields, *rest])]), DEADLINE_S)
        return word

    assert isinstance(word_on("abolish_limits", payload, expires), UnknownKind)
    assert isinstance(word_on(kind, bytes(MOST_PAYLOAD_BYTES + 1), expires), TooLarge)
    late = word_on(kind, payload, 1)
    assert (late.choice, late.reason) == (Choice.REJECT, "its deadline has passed")

    signers = [Seat(home / "consensus" / replica_name(number)).signer(may_make=False) for number in range(3)]
    given = [ballots.ballot(signer, committee.first, good, Choice.APPROVE) for signer in signers]
    strange = replace(given[2], voter=9)
    for_another = ballots.ballot(signers[2], committee.first, other, Choice.APPROVE)

    def refused(epoch, *found):
        body = ballots.encode(Moved(epoch, good, found))
        ((answer,),) = runtime.wait_for([voter.decide.remote([body], 5.0)], DEADLINE_S)
        return answer.refusal

    assert "is no member" in str(refused(0, *given[:2], strange))
    assert "not signed by it for this motion" in str(refused(0, *given[:2], for_another))
    noted = [one["words"] for one in committee.status()[0]["noted"] if one["what"] == "refused"]
    assert len(noted) >= 4 and any("abolish_limits" in words for words in noted)
    assert committee.finalize(good, 0, given).outcome is Outcome.APPROVED


@pytest.mark.parametrize("trouble", ["missing", "others may read"])
def test_a_key_that_is_missing_or_open_to_others_keeps_its_voter_out_until_it_is_mended(
    committee, client, seat, trouble
):
    away = seat.key.with_suffix(".away")
    if trouble == "missing":
        restarted_with(client, lambda: seat.key.rename(away))
    else:
        restarted_with(client, lambda: seat.key.chmod(0o640))
    assert eventually(lambda: is_refused(client, trouble)), agent(client, NAME)
    assert "KeyUnusable" in agent(client, NAME).reason and str(seat.key) in agent(client, NAME).reason
    assert said(client)[AlertKind.AGENT_FAILURE, NAME].priority is Priority.HIGH
    assert moved_on(committee)
    if trouble == "missing":
        away.rename(seat.key)
    else:
        seat.key.chmod(0o600)
    assert eventually(lambda: is_healthy(client)), agent(client, NAME)
    assert (AlertKind.AGENT_FAILURE, NAME) not in said(client)


def test_a_log_that_is_damaged_keeps_its_voter_out_and_without_it_the_voter_catches_up(committee, client, seat):
    begun = len(written(seat))

    def goes_on():  # a log whose last frame alone is damaged has a torn end
        return moved_on(committee) and len(written(seat)) > begun + SEVERAL_FRAMES

    assert eventually(goes_on)

    def damage():
        data = bytearray(seat.log.read_bytes())
        data[FIRST_RECORD] ^= 0xFF
        seat.log.write_bytes(data)

    restarted_with(client, damage)
    assert eventually(lambda: is_refused(client, "damaged")), agent(client, NAME)
    assert moved_on(committee)
    seat.log.unlink()

    def caught_up():
        return moved_on(committee) and is_healthy(client)

    assert eventually(caught_up), agent(client, NAME)


def test_one_identity_lives_in_one_process(committee, client, seat):
    second = subprocess.Popen(
        [sys.executable, "-c", SECOND_LIFE, str(seat.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert second.stdout is not None
    try:
        assert "another process has the log" in second.stdout.readline()  # the second is refused while the first lives
        os.kill(agent(client, NAME).pid, signal.SIGKILL)
        assert any(line == "in\n" for line in second.stdout)
        assert eventually(lambda: is_refused(client, "another process has the log")), agent(client, NAME)
        assert moved_on(committee)
    finally:
        second.communicate(timeout=DEADLINE_S)
    assert eventually(lambda: is_healthy(client)), agent(client, NAME)


def test_two_voters_that_are_lost_lose_the_quorum_and_that_is_critical(committee, client):
    assert eventually(lambda: is_healthy(client))
    pids = [agent(client, replica_name(number)).pid for number in (2, CULPRIT)]
    with stopped(pids[0]), stopped(pids[1]):
        assert eventually(lambda: (AlertKind.QUORUM_LOST, "consensus") in said(client))
        alert = client.health().alerts[0]
        assert (alert.kind, alert.priority) == (AlertKind.QUORUM_LOST, Priority.CRITICAL)
        with pytest.raises(SwarmError):
            committee.propose("raise_limit", b"var 0.03", deadline_s=2.0)
    assert eventually(lambda: (AlertKind.QUORUM_LOST, "consensus") not in said(client))
    assert moved_on(committee)
    assert AlertKind.QUORUM_LOST in [alert.kind for alert in client.alerts().raised]


def test_who_votes_twice_is_proved_quarantined_and_an_alert_and_the_others_go_on(committee, client, seat):
    """The last but one: quarantine is for ever in this committee."""
    assert eventually(lambda: is_healthy(client))
    assert committee.evidence() == []
    early = committee.motion("raise_limit", b"var 0.05", deadline_s=DEADLINE_S)
    epoch, given = committee.vote(early)
    signer = seat.signer(may_make=False)
    view = max(found["view"] for found in committee.status()) + 5

    def signed(digest):
        words = vote_bytes(committee.first.chain, Kind.NOTARIZE, 0, view, digest)
        return encode(Vote(Kind.NOTARIZE, 0, view, digest, CULPRIT, signer.sign(words)))

    honest = runtime.find_actor(replica_name(0), "riskswarm")
    runtime.wait_for(honest.deliver.remote(CULPRIT, [signed(b"\x01" * 32), signed(b"\x02" * 32)]), DEADLINE_S)
    assert eventually(lambda: all(found.get("quarantined") == [CULPRIT] for found in committee.status()))
    assert eventually(lambda: "quarantined by agreement" in agent(client, NAME).reason)
    assert agent(client, NAME).state is AgentState.DEGRADED

    (proof,) = committee.evidence()
    assert (proof.culprit, proof.epoch) == (CULPRIT, 0) and proof.holds(Checker(committee.first))
    wanted = {(AlertKind.BYZANTINE_FAULT, NAME), (AlertKind.VOTER_QUARANTINED, NAME)}
    assert eventually(lambda: wanted <= said(client).keys())
    alert = said(client)[AlertKind.BYZANTINE_FAULT, NAME]
    assert alert.proof == hashlib.sha256(proofs.encode(proof)).hexdigest()
    assert alert.message == "voter 3 of epoch 0, consensus-4, is proved faulty: ConflictingVotes"
    assert {found.subject for found in client.alerts().raised if found.kind is AlertKind.BYZANTINE_FAULT} == {NAME}
    console = Console(file=io.StringIO(), width=200)
    console.print(shown(client.health()))
    assert "HIGH  consensus-4 is quarantined by agreement" in console.file.getvalue()

    decision = committee.propose("raise_limit", b"var 0.03")
    assert (decision.outcome, decision.epoch, decision.committee.quarantined) == (Outcome.APPROVED, 1, {CULPRIT})
    with pytest.raises(StaleEpoch):
        committee.finalize(early, epoch, given)
    assert Outcome.QUARANTINED in [found.outcome for found in committee.log()]

    pids = [agent(client, name).pid for name in ("hub", replica_name(0))]
    for pid in pids:  # a new hub hears it from the voters, and a new voter knows it from its log
        os.kill(pid, signal.SIGKILL)

    def known_again():
        try:
            return wanted <= said(client).keys() and is_healthy(client, replica_name(0))
        except SwarmError:
            return False

    assert eventually(known_again)
    assert {alert.proof for alert in client.alerts().open} - {""} == {alert.proof}
    first = runtime.find_actor(replica_name(0), "riskswarm")
    assert runtime.wait_for(first.evidence.remote(), DEADLINE_S) == [proofs.encode(proof)]
    assert all(moved_on(committee) for _ in range(10))


def test_a_voter_that_lies_to_clients_keeps_nothing_from_being_decided(committee, client):
    """It gives the first voter's ballot in its stead, says it is far ahead, and accuses with what proves nothing."""
    honest = committee.evidence()
    framed = Vote(Kind.NOTARIZE, 0, 7, b"\x01" * 32, 0, bytes(64))
    false = proofs.encode(proofs.ConflictingVotes(framed, replace(framed, digest=b"\x02" * 32)))
    epoch = committee.status()[0]["epoch"]

    class Liar:
        def ballots(self, motions):
            return epoch, (3, 3), [ballots.Ballot(0, Choice.APPROVE, "", bytes(64)) for _ in motions]

        def decide(self, bodies, _patience_s):
            return [Answer(evidence=b"no certificate") for _ in bodies]

        def status(self):
            return {"name": NAME, "state": "HEALTHY", "epoch": 99, "height": 2**40}

        def log(self, _above, _most):
            return [(bytes(32), 2**40, b"no certificate")]

        def evidence(self):
            return [false, b"garbage", 7]

    boot.take_down((NAME,), "riskswarm")
    liar = runtime.spawn(Liar, name=NAME, namespace="riskswarm", concurrency_groups={})
    assert runtime.wait_for(liar.evidence.remote(), DEADLINE_S)[0] == false
    lied_to = CommitteeClient(committee.first, "riskswarm", deadline_s=DEADLINE_S)
    assert all(moved_on(lied_to) for _ in range(10))
    assert lied_to.evidence() == honest
    assert len(lied_to.log()) > 10
