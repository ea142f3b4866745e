"""The committee on real Ray: clients that believe nothing but signatures have motions decided by it."""

from __future__ import annotations

import pytest
import ray

from cluster import runtime
from cluster.errors import InvalidRequest, SwarmError
from consensus import decisions, peers
from consensus.committee import CommitteeClient
from consensus.errors import BadBallot, DeadlinePast, UnknownKind
from consensus.motions import question_of
from consensus.rules import Agreed, Outcome
from consensus.seats import Seat, replica_name
from consensus.settings import ConsensusSettings
from consensus.simplex.crypto import KeyUnusable
from hive.messages import question
from hive.messages.calculation import Role
from hive.messages.portfolio import Portfolio
from swarm import boot
from swarm.bench import consensus as bench
from swarm.settings import Settings
from tests.conftest import eventually
from tests.consensus.conftest import DEADLINE_S, committee_of, healthy
from tests.swarm.commands import answer, swarm

VOTERS = 4
SETTINGS = Settings(consensus=ConsensusSettings(voters=VOTERS, deadline_s=DEADLINE_S))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("committee")


@pytest.fixture(scope="module")
def committee(client, home):
    with committee_of(client, home, SETTINGS):
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


def test_a_number_is_agreed_on_that_every_voter_has_had_calculated(committee, client):
    book = Portfolio.equal_weights(client.snapshot().symbols[:5], value=1e6, name="five")
    wanted = client.calculate(book, "var", confidences=(0.99,)).answers[Role.VALUE_AT_RISK].report
    var = next(each.value for each in wanted.all_estimates() if each.measure == "var")
    decision = client.agree(book, tolerance=1e-9, confidence=0.99, deadline_s=DEADLINE_S, committee=committee)
    assert decision.number == Agreed(median=var, trimmed_mean=pytest.approx(var), outliers=())
    assert len(decision.asked.estimates) >= committee.present.quorum
    text, tolerance = question_of(decision.asked.motion.payload)
    assert (question.read(text).task.books[0].name, tolerance) == ("five", 1e-9)
    with pytest.raises(InvalidRequest, match="has no wealth"):
        client.agree(book, "wealth", tolerance=1.0, deadline_s=DEADLINE_S, committee=committee)
    with pytest.raises(InvalidRequest, match="no question"):
        committee.estimate("How much?", 1.0)
    with pytest.raises(InvalidRequest, match="several agents"):
        client.agree(book, tolerance=1.0, calculation="comprehensive", committee=committee)


def test_letters_by_ray_leave_no_record_where_it_lists_what_was_asked(committee):
    def listed(method):
        return sum(event["name"] == method for event in ray.timeline())

    voter = runtime.find_actor(replica_name(0), "riskswarm")
    tell = runtime.teller(voter.deliver)
    letters, strange = listed("deliver"), runtime.wait_for(voter.status.remote(), DEADLINE_S)["strange"]
    assert all(tell(99, [b"from nobody"]) for _ in range(5))
    assert eventually(lambda: runtime.wait_for(voter.status.remote(), DEADLINE_S)["strange"] == strange + 5)
    calls = listed("nothing")
    runtime.wait_for(voter.nothing.remote(), DEADLINE_S)
    assert eventually(lambda: listed("nothing") > calls)
    assert listed("deliver") == letters


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
    token = signer.sign(peers.token_bytes(committee.first, committee.first.keys[0]))
    elsewhere = signer.sign(peers.token_bytes(committee.first, committee.first.keys[2]))

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


def test_what_the_log_exports_is_verified_off_line_and_is_what_was_decided(committee, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, decided = (committee.propose("raise_limit", payload) for payload in (b"var 0.03", b"var 0.04"))
    address = ray.get_runtime_context().gcs_address
    log = ("consensus", "log", "--address", address, "--above", str(first.height - 1))
    listed = {one["id"]: one for one in answer(home, *log)["decisions"]}
    assert list(listed) == [first.id.hex(), decided.id.hex()]
    exported = answer(home, *log, "--export", decided.id.hex()[:16])
    assert exported == {"path": f"{decided.id.hex()}.json"}
    verified, shown = answer(home, "consensus", "verify", exported["path"]), listed[decided.id.hex()]
    same = shown.keys() - {"certified_by"}  # replicas may have certificates of different voters
    assert verified["holds"] and {name: verified[name] for name in same} == {name: shown[name] for name in same}
    again = decisions.read_decision(tmp_path / exported["path"], committee.first)
    assert (again.asked, again.height, again.outcome) == (decided.asked, decided.height, decided.outcome)

    refused = swarm(home, *log, "--export", "")
    assert refused.returncode == 2 and "Give more of its id" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == [exported["path"]]


def test_a_number_is_agreed_on_by_command_and_what_is_no_text_is_not_proposed_as_one(committee, home, tmp_path):
    book = tmp_path / "book.csv"
    book.write_text("symbol,weight\nAAPL,0.5\nJPM,0.5\n")
    address = ray.get_runtime_context().gcs_address
    at = ("--address", address, "--deadline", str(DEADLINE_S))
    asked = ("consensus", "estimate", str(book), "--value", "1e6", "--confidence", "0.99", "--tolerance", "0.001")
    agreed = answer(home, *asked, *at, "--export", str(tmp_path / "number.json"))
    assert (agreed["kind"], agreed["outcome"], agreed["outliers"]) == ("number", "agreed", [])
    assert 0.0 < agreed["median"] < 0.2
    verified = answer(home, "consensus", "verify", str(tmp_path / "number.json"))
    assert (verified["holds"], verified["median"]) == (True, agreed["median"])
    for kind, instead in (("number", "swarm consensus estimate"), ("membership", "swarm consensus replace")):
        refused = swarm(home, "consensus", "propose", kind, "VaR", *at)
        assert refused.returncode == 2 and instead in refused.stderr
    refused = swarm(home, *asked, "--measure", "wealth", *at)
    assert refused.returncode == 2 and "has no wealth" in refused.stderr


def test_the_bench_measures_decisions_by_phase_batches_and_a_leader_that_dies(committee, client, monkeypatch):
    for name in ("WARM", "BATCHES", "CRASHES", "BETWEEN_CRASHES"):
        monkeypatch.setattr(bench, name, 1)
    own = CommitteeClient(committee.first, SETTINGS.namespace, deadline_s=DEADLINE_S)
    before = {agent.agent_id: agent.pid for agent in client.health().agents}
    rows = {row.name: row for row in bench._measured(own, SETTINGS, VOTERS, 3, lambda _: None)}
    assert {name: row.samples for name, row in rows.items()} == {
        "one Ray call to a replica": 3,
        "decision, ballots and all": 3,
        "decision, ballots and all, tail": 3,
        "of it, until the ballots are there": 3,
        "of it, until a certificate is verified": 3,
        "64 motions at a time": 1,
        "decision when the leader was just killed": 1,
    }
    phases = rows["decision, ballots and all"].params
    spent = {"thinking ms", "syncing ms", "sending ms", "syncs", "letters", "signatures"}
    assert phases.keys() == {"voters", "by"} | spent
    assert all(phases[name] > 0 for name in ("thinking ms", "syncs", "letters", "signatures"))
    assert rows["64 motions at a time"].params["decisions per second"] > 0
    assert eventually(lambda: before.keys() <= healthy(client)), client.health().problems
    after = {agent.agent_id: agent.pid for agent in client.health().agents}
    assert sum(after[name] != pid for name, pid in before.items()) == 1
