"""A gate that has a committee: only its decisions, each once and in time, let it permit more; nothing holds up less."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.agent import Identity
from actors.trading.gate import mandate
from actors.trading.gate.agent import GateAgent
from actors.trading.gate.client import GateClient
from actors.trading.gate.gate import Gate
from actors.trading.gate.history import DECIDED, JOURNAL, LAYOUT, JournalUnavailable, newest
from actors.trading.gate.settings import LIMITS
from cluster import runtime
from cluster.errors import InvalidInput, InvalidRequest
from cluster.lanes.lane import Lane
from cluster.lanes.peer import started
from consensus import ballots, decisions, epochs
from consensus.ballots import Choice
from consensus.errors import BadCertificate
from consensus.motions import new_motion
from consensus.simplex.types import Certificate, Finality, finality_fields, packed
from hive.messages.calculation import Role
from hive.messages.gate import Action, Instruction, Unmandated, Unwarranted, Warrant
from hive.messages.orders import Mode, Reason, Side
from tests.actors.test_gate_support import DESK, Orders, make_gate
from tests.conftest import eventually
from tests.consensus.signed import Voters

REFUSED = [
    (Action.MODE, {"mode": "SAFE_MODE"}),
    (Action.LIMITS, {"max_gross": 2e6}),
    (Action.LIMITS, {"confidence": 0.95}),
    (Action.LIMITS, {"max_gross": 2e6, "max_net": 1.0}),
    (Action.LIMITS, {}),
    (Action.RESUME, {"name": "AAA"}),
    (Action.PERMIT, {"name": "AAA"}),
    (Action.ENABLE, {"name": "desk"}),
    (Action.RELEASE_KILL, {"kills": 1}),
    (Action.RECONCILE, {"positions": {"desk": {"AAA": 1.5}}, "cash": {}}),
]
"""Everything that permits more than :func:`tightened` does; of limits one that also permits less."""


def about(gate: Gate, action, body, voters, **options):
    """The voters' decision about an instruction to a gate."""
    payload = mandate.payload(gate.facts.identity, action, body)
    return voters.decide(mandate.MOVED_AS[action], payload, **options)


def by(decision=None, identity=None):
    """The desk's warrant, with a decision."""
    if decision is None:
        return DESK
    return Warrant(DESK.operator, DESK.reason, identity or decision.id, decision.evidence)


def seen(gate: Gate):
    """All that instructions set, and how many of them were written."""
    found = gate.describe()
    marks = (found.halted, found.restricted, found.disabled, found.mode, found.killed, found.kills, found.unreconciled)
    (rows,) = gate.control._database.execute("SELECT count(*) FROM control").fetchone()
    return found.limits, marks, found.accounts, rows


@pytest.fixture
def voters():
    return Voters()


@pytest.fixture
def place(tmp_path, voters):
    """A gate's directory beside its committee."""
    (tmp_path / "committee.json").write_text(voters.text)
    (tmp_path / "gate").mkdir()
    return tmp_path / "gate"


def opened(place, **options):
    return make_gate(place, committee=place.parent / "committee.json", **options)


def tightened(gate: Gate):
    """The gate with everything tightened that can be, each by a bare word."""
    nobody = Warrant("", "")
    for action, body in (
        (Action.MODE, {"mode": "emergency_shutdown"}),
        (Action.LIMITS, {"max_gross": 1e6, "confidence": 0.999}),
        (Action.HALT, {"name": "AAA"}),
        (Action.RESTRICT, {"name": "AAA"}),
        (Action.DISABLE, {"name": "desk"}),
        (Action.KILL, {}),
    ):
        gate.control.obey(Instruction(action, body, nobody))
    return seen(gate)


def test_what_permits_more_needs_the_committee_and_what_permits_less_needs_nobody(place):
    with opened(place) as gate:
        before = tightened(gate)
        assert before[1] == (("AAA",), ("AAA",), ("desk",), "EMERGENCY_SHUTDOWN", True, 1, False)
        for action, body in REFUSED:
            with pytest.raises(Unmandated, match=r"committee has to decide.*swarm gate"):
                gate.control.obey(Instruction(action, body, DESK))
            with pytest.raises(Unwarranted):
                gate.control.obey(Instruction(action, body, Warrant("", "")))
        assert seen(gate) == before


@pytest.mark.parametrize(("action", "body"), REFUSED)
def test_what_the_committee_has_decided_is_obeyed_once_and_not_again_after_a_restart(place, voters, action, body):
    with opened(place) as gate:
        tightened(gate)
        decision = about(gate, action, body, voters)
        gate.control.obey(Instruction(action, body, by(decision)))
        after = seen(gate)
        row = newest(place / JOURNAL, 1)["control"][0]
        assert (row["action"], row["decision"], row["operator"]) == (action, decision.id.hex(), DESK.operator)
        assert decisions.proved(voters.first, bytes.fromhex(row["evidence"]), decision.id) == decision
        tightened(gate)
        before = seen(gate)
        with pytest.raises(Unmandated, match="was used before"):
            gate.control.obey(Instruction(action, body, by(decision)))
        assert seen(gate) == before != after
    with opened(place) as gate:
        before = seen(gate)
        with pytest.raises(Unmandated, match="was used before"):
            gate.control.obey(Instruction(action, body, by(decision)))
        assert seen(gate) == before


def test_of_many_who_show_the_same_decision_at_once_one_is_obeyed(place, voters):
    with opened(place) as gate, ThreadPoolExecutor(8) as pool:
        gate.control.mark(Action.RESTRICT, "AAA")
        warrant = by(about(gate, Action.PERMIT, {"name": "AAA"}, voters))
        told = [pool.submit(gate.control.mark, Action.PERMIT, "AAA", warrant) for _ in range(8)]
        faults = [done.exception() for done in told]
        assert [type(fault) for fault in faults if fault] == [Unmandated] * 7


def bent(gate, voters, how):
    """A warrant to raise a limit to 2e6, by a decision that is wrong in one way."""
    action, body = Action.LIMITS, {"max_gross": 2e6}
    right = about(gate, action, body, voters)
    match how:
        case "forged":
            broken = bytearray(right.evidence)
            broken[broken.index(b"20000") + 1] ^= 1
            return Warrant(*(DESK.operator, DESK.reason), right.id, bytes(broken))
        case "no proof":
            return Warrant(DESK.operator, DESK.reason, right.id, b"\xc1")
        case "no decision":
            return Warrant(DESK.operator, DESK.reason, right.id)
        case "another id":
            return by(right, identity=bytes(32))
        case "other committee":
            return by(about(gate, action, body, Voters(seed=9)))
        case "few signatures":
            motion = right.asked.motion
            _, final = voters.final(voters.moved(motion))
            c = final.certificate
            few = Finality(final.blocks, Certificate(c.kind, c.epoch, c.view, c.digest, c.signatures[:2]))
            return Warrant(DESK.operator, DESK.reason, right.id, packed([[], finality_fields(few)]))
        case "rejected":
            return by(about(gate, action, body, voters, choice=Choice.REJECT))
        case "wrong kind":
            return by(voters.decide("loosen_mode", mandate.payload(gate.facts.identity, action, body)))
        case "needs one approval":
            return by(voters.decide("lower_limit", mandate.payload(gate.facts.identity, action, body)))
        case "one digit":
            return by(about(gate, action, {"max_gross": 2000000.0000000002}, voters))
        case "other body":
            return by(about(gate, action, {}, voters))
        case "other action":
            return by(
                voters.decide("raise_limit", mandate.payload(gate.facts.identity, Action.MODE, {"mode": "safe_mode"}))
            )
        case "late":
            return by(about(gate, action, body, voters, in_ns=-1))
        case "other gate":
            return by(voters.decide("raise_limit", mandate.payload("another", action, body)))
        case "text":
            return by(voters.decide("raise_limit", b"max_gross 2e6"))
    raise ValueError(how)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("forged", "no decision of the committee"),
        ("no proof", "no decision of the committee"),
        ("no decision", "has to decide"),
        ("another id", "no decision of the committee"),
        ("other committee", "no decision of the committee"),
        ("few signatures", "no decision of the committee"),
        ("rejected", "is a rejection"),
        ("wrong kind", "not about raise_limit"),
        ("needs one approval", "not about raise_limit"),
        ("one digit", "another instruction"),
        ("other body", "another instruction"),
        ("other action", "another instruction"),
        ("late", "after its deadline"),
        ("other gate", "another gate"),
        ("text", "another instruction"),
    ],
)
def test_a_decision_that_is_wrong_in_one_way_leaves_the_gate_as_it_was(place, voters, how, said):
    with opened(place) as gate:
        before = tightened(gate)
        with pytest.raises(Unmandated, match=said):
            gate.control.obey(Instruction(Action.LIMITS, {"max_gross": 2e6}, bent(gate, voters, how)))
        assert seen(gate) == before
        right = about(gate, Action.LIMITS, {"max_gross": 2e6}, voters)
        gate.control.obey(Instruction(Action.LIMITS, {"max_gross": 2e6}, by(right)))
        assert gate.describe().limits["max_gross"] == 2e6


def test_a_release_is_for_the_kills_that_were_seen(place, voters):
    make = Orders()
    with opened(place) as gate:
        gate.control.kill()
        once = about(gate, Action.RELEASE_KILL, {"kills": 1}, voters)
        gate.control.kill()
        with pytest.raises(Unmandated, match="another instruction"):
            gate.control.release_kill(2, by(once))
        assert gate.control.release_kill(1, by(once)) is False
        assert gate.check(make(Side.SELL, 1.0)).reason is Reason.KILLED
        assert gate.control.release_kill(2, by(about(gate, Action.RELEASE_KILL, {"kills": 2}, voters))) is True
        assert gate.check(make(Side.SELL, 1.0)).reason is Reason.PASSED


def test_nobody_can_use_a_decision_up_on_something_that_needs_none(place, voters):
    with opened(place) as gate:
        gate.control.mark(Action.RESTRICT, "AAA")
        decision = about(gate, Action.PERMIT, {"name": "AAA"}, voters)
        gate.control.mark(Action.RESTRICT, "BBB", by(decision))
        gate.control.set_limits({"max_gross": 1.0}, Warrant("eve", "", decision.id, b"nonsense"))
        with pytest.raises(Unmandated):
            gate.control.mark(Action.PERMIT, "BBB", by(decision))
        gate.control.mark(Action.PERMIT, "AAA", by(decision))
        assert gate.describe().restricted == ("BBB",)


def test_the_committee_that_was_seen_first_stays_whatever_becomes_of_its_file(tmp_path, voters):
    file, other = tmp_path / "committee.json", Voters(seed=9)
    with make_gate(tmp_path, committee=file) as gate:
        gate.control.set_mode(Mode.SAFE_MODE, DESK)
        gate.control.set_mode(Mode.FULL_PERFORMANCE, DESK)  # there is no committee yet
        assert gate.describe().committee == ""
        file.write_text(voters.text)
        assert eventually(lambda: gate.describe().committee == voters.first.chain.hex())
        file.write_text(other.text)
        gate.control.mark(Action.HALT, "AAA")
        with pytest.raises(Unmandated, match="no decision"):
            gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, {"name": "AAA"}, other)))
        gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, {"name": "AAA"}, voters)))
        identity = gate.facts.identity
    for committee in (file, None):
        with make_gate(tmp_path, committee=committee) as gate:
            assert gate.facts.identity == identity
            assert gate.describe().committee == voters.first.chain.hex()
            gate.control.mark(Action.HALT, "AAA")
            with pytest.raises(Unmandated, match="has to decide"):
                gate.control.mark(Action.RESUME, "AAA", DESK)
    rows = newest(tmp_path / JOURNAL, 100)["control"]
    assert [row["action"] for row in rows].count("committee") == 1


def test_a_committee_that_cannot_be_read_permits_nothing_more_and_holds_up_nothing_less(tmp_path):
    file = tmp_path / "committee.json"
    file.write_text("{}")
    with make_gate(tmp_path, committee=file) as gate:
        gate.control.mark(Action.HALT, "AAA")
        with pytest.raises(InvalidInput, match="holds no committee"):
            gate.control.mark(Action.RESUME, "AAA", DESK)
        assert gate.describe().halted == ("AAA",)


def test_voters_of_an_epoch_that_has_ended_decide_nothing_any_more(place, voters):
    after, body = voters.renewed(seed=7), {"name": "AAA"}
    with opened(place) as gate:
        gate.control.mark(Action.HALT, "AAA")
        gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, voters)))
        gate.control.mark(Action.HALT, "AAA")
        gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, after)))
        for _ in range(2):
            gate.control.mark(Action.HALT, "AAA")
            for past in (voters, voters.renewed(seed=8)):
                with pytest.raises(Unmandated, match="epoch 1"):
                    gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, past)))
            gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, after)))
    with opened(place) as gate:
        gate.control.mark(Action.HALT, "AAA")
        with pytest.raises(Unmandated, match="epoch 1"):
            gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, voters)))
        gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, after.renewed(seed=5))))


def test_a_gate_that_learns_of_later_epochs_obeys_no_keys_of_those_before_in_this_life_and_the_next(place, voters):
    now, body = voters.renewed(seed=7).renewed(seed=8), {"name": "AAA"}
    with opened(place) as gate:
        gate.control.mark(Action.HALT, "AAA")
        forged = about(gate, Action.RESUME, body, voters)
        gate.control.mark(Action.RESUME, "AAA", by(forged))  # nothing here says that it is forged
        gate.control.mark(Action.HALT, "AAA")
        gate.control.learn(now.known.ends)
        assert gate.describe().epoch == 2
        _, _, _, rows = seen(gate)
        gate.control.learn(now.known.since(gate.control.trust.newest))
        assert seen(gate)[3] == rows
        for past in (voters, voters.renewed(seed=7), voters.renewed(seed=9).renewed(seed=8).renewed(seed=6)):
            with pytest.raises(Unmandated, match="epoch 2"):
                gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, past)))
    with opened(place) as gate:
        assert gate.describe().epoch == 2
        with pytest.raises(Unmandated, match="epoch 2"):
            gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, voters)))
        gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, now)))
        later = now.renewed(seed=5)
        gate.control.mark(Action.HALT, "AAA")
        gate.control.mark(Action.RESUME, "AAA", by(about(gate, Action.RESUME, body, later)))
    with opened(place) as gate:
        assert gate.describe().epoch == 3  # of what a decision proved and what was learnt, the later one


def test_a_gate_learns_nothing_from_ends_that_do_not_follow_what_it_knows(place, voters):
    now = voters.renewed(seed=7)
    with opened(place) as gate:
        gate.control.learn(now.known.ends)
        before = seen(gate), gate.describe().epoch
        for wrong in (now.known.ends, voters.renewed(seed=9).known.ends, [b""], [b"\xc1"], [packed([[], []])]):
            with pytest.raises(BadCertificate):
                gate.control.learn(wrong)
        gate.control.learn([])
        assert (seen(gate), gate.describe().epoch) == before


def test_epochs_that_could_not_be_written_are_learnt_when_they_can(place, voters):
    ends = voters.renewed(seed=7).known.ends
    with opened(place) as gate:
        gate.control._database.execute("PRAGMA busy_timeout=50")
        blocker = sqlite3.connect(place / JOURNAL, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable):
            gate.control.learn(ends)
        blocker.execute("ROLLBACK")
        blocker.close()
        gate.control.learn(ends)
        assert gate.describe().epoch == 1
    with opened(place) as gate:
        assert gate.describe().epoch == 1


@pytest.fixture
def shell(place, monkeypatch):
    """The gate's agent as far as it learns of epochs, where no replica lives."""
    monkeypatch.setattr(runtime, "named_actors", lambda _: [])
    agent = object.__new__(GateAgent)
    agent.identity = Identity("gate", Role.GATE, False, "nowhere", "0", 1.0)
    agent._committee, agent._electors, agent._last_error = place.parent / "committee.json", None, ""
    return agent


def test_a_gate_knows_what_its_home_knows_although_no_committee_lives(place, voters, shell):
    epochs.keep(place.parent, voters.renewed(seed=7).known)
    with opened(place) as gate:
        shell._learn(gate, ask=False)
        assert (gate.describe().epoch, shell._last_error) == (1, "")
        shell._learn(gate, ask=True)  # there is nobody to be asked
        assert gate.describe().epoch == 1


def test_neither_a_home_that_does_not_hold_nor_a_committee_that_fails_harms_the_gate(place, voters, shell, monkeypatch):
    epochs.keep(place.parent, voters.renewed(seed=7).known)
    file = place.parent / epochs.FILE
    file.write_text(file.read_text()[:-9])
    with opened(place) as gate:
        shell._learn(gate, ask=True)
        assert "epochs.json" in shell._last_error and gate.describe().epoch == 0
        monkeypatch.setattr(shell._electors, "refresh", lambda: 1 / 0)
        shell._learn(gate, ask=True)
        assert "ZeroDivisionError" in shell._last_error
        shell._electors.known = voters.renewed(seed=7).known  # what a committee proves counts without the home
        shell._learn(gate, ask=False)
        assert gate.describe().epoch == 1


def test_a_gate_without_a_committee_learns_nothing(tmp_path, voters):
    with make_gate(tmp_path) as gate:
        gate.control.learn(voters.renewed(seed=7).known.ends)
        assert (gate.describe().committee, gate.describe().epoch) == ("", 0)


def test_a_decision_that_could_not_be_written_is_not_used(place, voters):
    with opened(place) as gate:
        gate.control.mark(Action.HALT, "AAA")
        decision = about(gate, Action.RESUME, {"name": "AAA"}, voters)
        gate.control._database.execute("PRAGMA busy_timeout=50")
        blocker = sqlite3.connect(place / JOURNAL, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable):
            gate.control.mark(Action.RESUME, "AAA", by(decision))
        blocker.execute("ROLLBACK")
        blocker.close()
        assert gate.describe().halted == ("AAA",)
        gate.control.mark(Action.RESUME, "AAA", by(decision))
        assert gate.describe().halted == ()


def test_a_journal_of_the_layout_before_is_continued(tmp_path):
    with make_gate(tmp_path) as gate:
        gate.control.mark(Action.HALT, "AAA")
    database = sqlite3.connect(tmp_path / JOURNAL, isolation_level=None)
    database.executescript(
        "DROP INDEX used; ALTER TABLE control DROP COLUMN decision; ALTER TABLE control DROP COLUMN evidence; "
        "UPDATE control SET body = json_remove(body, '$.gate'); PRAGMA user_version=1"
    )
    database.close()
    assert (LAYOUT, "used" in DECIDED) == (2, True)
    for _ in range(2):
        with make_gate(tmp_path) as gate:
            assert gate.describe().halted == ("AAA",)
            assert gate.facts.identity


class Nearby:
    """A way to a gate of this process, as Ray is one to a gate of another."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def open(self, patience_s):
        return Lane(self.gate.open(os.getpid(), started(os.getpid()))), self.gate.facts

    def instruct(self, instruction, patience_s):
        return self.gate.control.obey(instruction)


def test_a_client_has_the_committee_asked_only_where_the_gate_asks_for_it(place, voters):
    asked = []

    def decide(proposer, kind, payload):
        asked.append((proposer, kind))
        electors = mandate.judge(new_motion(kind, payload, expires_utc_ns=2**62), 0)
        assert electors[0] is Choice.APPROVE
        return voters.decide(kind, payload, choice=choices.pop())

    choices = [Choice.REJECT, Choice.APPROVE]
    with opened(place) as gate, GateClient(reach=Nearby(gate), decide=decide) as client:
        assert client.propose(Action.MODE, {"mode": "safe_mode"}, DESK).decision is None
        done = client.propose(Action.MODE, {"mode": "full_performance"}, DESK)
        assert done.decision is not None and gate.describe().mode == "FULL_PERFORMANCE"
        client.instruct(Action.HALT, {"name": "AAA"}, DESK)
        with pytest.raises(InvalidRequest):
            client.propose(Action.RESUME, {"name": "ZZZ"}, DESK)
        with pytest.raises(Unmandated, match=r"rejected it \(no\)"):
            client.propose(Action.RESUME, {"name": "AAA"}, DESK)
        assert gate.describe().halted == ("AAA",)
        assert asked == [("ada", "loosen_mode"), ("ada", "permit_trading")]
        alone = GateClient(reach=Nearby(gate))
        with pytest.raises(Unmandated, match="has to decide"):
            alone.propose(Action.RESUME, {"name": "AAA"}, DESK)
        by_hand = about(gate, Action.RESUME, {"name": "AAA"}, voters)
        alone.instruct(Action.RESUME, {"name": "AAA"}, DESK, decision=by_hand)
        assert gate.describe().halted == ()


def written(action, body, **more):
    """A payload by hand."""
    rest = "".join(f',"{name}":"{value}"' for name, value in {**more, "gate": "g"}.items())
    return mandate.TAG + f'{{"action":"{action}","body":{body}{rest}}}'.encode()


@pytest.mark.parametrize(
    ("kind", "payload", "choice", "said"),
    [
        ("raise_limit", b"var 0.03", Choice.APPROVE, "known kind"),
        ("raise_limit", mandate.payload("g", Action.LIMITS, {"max_gross": 1}), Choice.APPROVE, "limits"),
        ("release_kill", mandate.payload("g", Action.RELEASE_KILL, {"kills": 3}), Choice.APPROVE, "release_kill"),
        ("reconcile_gate", mandate.payload("g", Action.RECONCILE, {}), Choice.APPROVE, "reconcile"),
        ("permit_trading", b"AAA", Choice.REJECT, "no instruction"),
        ("loosen_mode", mandate.payload("g", Action.LIMITS, {}), Choice.REJECT, "moved as raise_limit"),
        ("note", mandate.payload("g", Action.LIMITS, {}), Choice.REJECT, "moved as raise_limit"),
        ("raise_limit", mandate.TAG + b"{}", Choice.REJECT, "no instruction"),
        ("raise_limit", mandate.TAG + b"[" * 40_000, Choice.REJECT, "no instruction"),
        ("raise_limit", written("limits", '{"max_gros":1.0}'), Choice.REJECT, "field"),
        ("raise_limit", written("limits", '{"\\ud800":1.0}'), Choice.REJECT, "? is no field"),
        ("raise_limit", written("limits", '{"max_var":1e999}'), Choice.REJECT, "finite"),
        ("raise_limit", written("limits", '{"max_var":NaN}'), Choice.REJECT, "finite"),
        ("raise_limit", written("limits", '{"max_var":"1"}'), Choice.REJECT, "number"),
        ("raise_limit", written("limits", '{"max_var":1}'), Choice.REJECT, "written"),
        ("raise_limit", written("limits", "{}", by="x"), Choice.REJECT, "written"),
        ("kill", written("kill", "{}"), Choice.REJECT, "permits nothing"),
        ("loosen_mode", written("mode", '{"mode":0}'), Choice.REJECT, "mode"),
        ("release_kill", written("release_kill", '{"kills":-1}'), Choice.REJECT, "seen"),
        ("release_kill", written("release_kill", "{}"), Choice.REJECT, "seen"),
        ("permit_trading", written("permit", '{"name":1}'), Choice.REJECT, "named"),
        ("reconcile_gate", written("reconcile", '{"cash":1}'), Choice.REJECT, "none"),
    ],
)  # fmt: skip
def test_electors_reject_instructions_that_are_none_and_leave_free_texts_alone(kind, payload, choice, said):
    motion = new_motion(kind, payload, expires_utc_ns=100)
    found, reason = mandate.judge(motion, 99)
    assert found is choice and said in reason
    assert len(reason.encode()) <= ballots.MOST_REASON_BYTES
    assert mandate.judge(motion, 100) == (Choice.REJECT, "its deadline has passed")


numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=8)
instructions = st.one_of(
    st.tuples(st.just(Action.LIMITS), st.dictionaries(st.sampled_from(LIMITS), numbers)),
    st.tuples(st.just(Action.RELEASE_KILL), st.fixed_dictionaries({"kills": st.integers(0, 2**62)})),
    st.tuples(st.sampled_from([Action.PERMIT, Action.RESUME, Action.ENABLE]), st.fixed_dictionaries({"name": names})),
    st.tuples(
        st.just(Action.RECONCILE),
        st.fixed_dictionaries(
            {
                "positions": st.dictionaries(names, st.dictionaries(names, numbers, max_size=3), max_size=3),
                "cash": st.dictionaries(names, numbers, max_size=3),
            }
        ),
    ),
)


@given(instructions, instructions, names, names)
def test_equal_payloads_are_equal_instructions_to_the_same_gate(one, other, gate, another):
    first, second = mandate.payload(gate, *one), mandate.payload(another, *other)
    assert mandate.instruction_of(first) == (gate, *one)
    assert (first == second) is ((gate, *one) == (another, *other)) or 0.0 in _numbers(one[1])


def _numbers(body):
    found = [body] if isinstance(body, float) else []
    return found + [n for value in (body.values() if isinstance(body, dict) else ()) for n in _numbers(value)]
