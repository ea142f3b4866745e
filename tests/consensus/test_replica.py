"""Replicas without Ray: threads of one process that hand each other messages; real keys, real logs, real clocks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cluster import head
from cluster.errors import InvalidInput
from consensus import ballots, decisions
from consensus import replica as replicas
from consensus.ballots import Choice, Estimated, Moved, Quarantine
from consensus.errors import (
    BadBallot,
    BadCertificate,
    BadEvidence,
    DeadlinePast,
    NotCarried,
    StaleEpoch,
    TooLarge,
    UnknownKind,
)
from consensus.motions import Direction, in_time, membership, motion_fields, new_motion, question
from consensus.peers import NOBODY
from consensus.replica import MOST_PATIENCE_S, Replica
from consensus.rules import Agreed, Outcome, quarantine, unfit
from consensus.seats import Seat
from consensus.settings import ConsensusSettings
from consensus.simplex.crypto import KeyUnusable, load_key
from consensus.simplex.proofs import ConflictingVotes
from consensus.simplex.types import (
    Ask,
    Block,
    Committee,
    Finality,
    Kind,
    Malformed,
    Proposal,
    Request,
    Supply,
    Vote,
    decode,
    encode,
    finality_of,
    packed,
    unpacked,
    vote_bytes,
)
from consensus.simplex.wal import Log, LogUnusable
from tests.consensus.logs import GAP, torn, written

PATIENCE_S = 20.0
FAR_NS = 2**62
PATIENT = ConsensusSettings(voters=4, repeat_ms=50)


class Household:
    """Four voters in one process; letters between them are calls."""

    def __init__(self, place, voters=4):
        self.seats = [Seat(place / f"voter-{number}") for number in range(voters)]
        signers = [seat.signer(may_make=True) for seat in self.seats]
        salt = os.urandom(16)
        self.committee = Committee.founded(tuple(signer.public for signer in signers), salt)
        self.text = decisions.committee_text(self.committee, salt)
        for seat, signer in zip(self.seats, signers, strict=True):
            seat.found(self.text, signer)
        self.signers = signers
        self.replicas = {}
        self.overhear = lambda number, messages: None
        """Called with what a replica hands on, before anybody hears of it."""
        for number in range(voters):
            self.begin(number)

    def begin(self, number, **options):
        def send(peers, messages):
            self.overhear(number, messages)
            for peer in peers:
                with contextlib.suppress(KeyError):
                    self.replicas[peer].deliver(number, messages)
            return 0

        replica = self.replicas[number] = Replica(self.seats[number], PATIENT, send, number=number, **options)
        replica.start()
        return replica

    def join(self):
        """A fifth seat, which the others know and which observes."""
        number = len(self.seats)
        seat = Seat(self.seats[0].folder.parent / f"voter-{number}")
        signer = seat.signer(may_make=True)
        seat.found(self.text, signer, later=True)
        self.seats.append(seat)
        self.signers.append(signer)
        self.begin(number)
        for replica in self.replicas.values():
            replica.peers.meet(number, signer.public)
        return number

    def replaced(self, voter, seat, at=0):
        """The committee in which a seat has a founding voter's place, by agreement."""
        keys = [self.signers[seat].public if number == voter else key for number, key in enumerate(self.committee.keys)]
        change = motion("membership", membership(keys))
        decision = self.decide(self.moved(change), at)
        return decisions.certified(self.committee, decision.evidence).known[-1]

    def end(self, number):
        self.replicas.pop(number).close()

    def close(self):
        for number in list(self.replicas):
            self.end(number)

    def moved(self, motion, voters=(0, 1, 2), choice=Choice.APPROVE, committee=None):
        committee = committee or self.committee
        given = [ballots.ballot(self.signers[voter], committee, motion, choice) for voter in voters]
        return ballots.encode(Moved(committee.epoch, motion, tuple(given)))

    def decide(self, body, at=0):
        (answer,) = self.replicas[at].decide([body], PATIENCE_S)
        if answer.refusal is not None:
            raise answer.refusal
        assert answer.evidence
        return decisions.proved(self.committee, answer.evidence, ballots.identity(ballots.decode(body)))

    def refusal(self, body, at=0):
        (answer,) = self.replicas[at].decide([body], PATIENCE_S)
        return answer.refusal


def motion(kind="raise_limit", payload=b"var 0.03", expires=FAR_NS):
    return new_motion(kind, payload, expires_utc_ns=expires)


@pytest.fixture
def house(tmp_path):
    household = Household(tmp_path)
    yield household
    household.close()


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A household that tests ask and leave as it was."""
    household = Household(tmp_path_factory.mktemp("calm"))
    yield household
    household.close()


def test_what_a_quorum_approves_is_decided_once_with_a_certificate_that_anyone_can_verify(calm, tmp_path):
    moved = motion()
    body = calm.moved(moved)
    decision = calm.decide(body)
    assert decision.outcome is Outcome.APPROVED
    assert decision.id == moved.id
    assert len(decision.signers) >= calm.committee.quorum
    assert decision.holds_at(time.time_ns())
    assert calm.replicas[0]._core.chain.block(decision.height).digest == decision.block
    again = calm.decide(calm.moved(moved, voters=(1, 2, 3)), at=3)
    assert (again.height, again.asked) == (decision.height, decision.asked)

    path = tmp_path / "decision.json"
    path.write_text(decisions.decision_text(decision))
    assert decisions.read_decision(path, calm.committee) == decision


def test_a_motion_is_decided_once_though_its_electors_change_their_word(calm):
    moved = motion()
    approved, rejected = calm.moved(moved), calm.moved(moved, (0, 1), Choice.REJECT)
    first = calm.decide(approved)
    for at in range(4):
        again = calm.decide(rejected, at)
        assert (again.outcome, again.height) == (Outcome.APPROVED, first.height)
    assert [entry[0] for entry in calm.replicas[1].log(first.height - 1, 10)] == [moved.id]


def test_of_two_requests_about_one_motion_that_wait_one_is_decided_for_both(calm):
    moved = [motion() for _ in range(20)]
    bodies = [[calm.moved(one) for one in moved], [calm.moved(one, (0, 1), Choice.REJECT) for one in moved]]
    with ThreadPoolExecutor() as both:
        answers = list(both.map(lambda at: calm.replicas[at].decide(bodies[at], PATIENCE_S), (0, 1)))
    for one, *found in zip(moved, *answers, strict=True):
        outcomes = {decisions.proved(calm.committee, answer.evidence, one.id).outcome for answer in found}
        assert len(outcomes) == 1
    listed = [entry[0] for entry in calm.replicas[2].log(0, 10**6)]
    assert all(listed.count(one.id) <= 1 for one in moved)


@pytest.mark.parametrize(
    ("kind", "voters", "choice", "outcome"),
    [
        ("kill", (2,), Choice.APPROVE, Outcome.APPROVED),
        ("note", (0, 3), Choice.APPROVE, Outcome.APPROVED),
        ("raise_limit", (0, 3), Choice.REJECT, Outcome.REJECTED),
    ],
)
def test_the_direction_of_a_motion_says_how_many_carry_or_defeat_it(calm, kind, voters, choice, outcome):
    assert calm.decide(calm.moved(motion(kind), voters, choice)).outcome is outcome


@pytest.mark.parametrize(
    ("kind", "voters", "choice"),
    [
        ("raise_limit", (0, 1), Choice.APPROVE),
        ("raise_limit", (0, 1, 2), Choice.ABSTAIN),
        ("note", (1,), Choice.APPROVE),
        ("kill", (0, 1, 2), Choice.REJECT),
        ("membership", (0, 1, 2), Choice.REJECT),
    ],
)
def test_what_is_neither_carried_nor_defeated_is_refused(calm, kind, voters, choice):
    payload = membership(calm.committee.keys) if kind == "membership" else b""
    assert isinstance(calm.refusal(calm.moved(motion(kind, payload), voters, choice)), NotCarried)


def test_ballots_that_are_none_are_refused_each_with_its_reason(calm):
    moved, other = motion(), motion()
    given = [ballots.ballot(calm.signers[voter], calm.committee, moved, Choice.APPROVE) for voter in range(3)]
    elsewhere = [ballots.ballot(calm.signers[voter], calm.committee, other, Choice.APPROVE) for voter in range(3)]

    def refused(*ballots_given, epoch=0):
        return calm.refusal(ballots.encode(Moved(epoch, moved, ballots_given)))

    assert "not signed by it for this motion" in str(refused(*given[:2], elsewhere[2]))
    assert "no member" in str(refused(*given[:2], ballots.Ballot(9, Choice.APPROVE, "", given[2].signature)))
    assert isinstance(refused(given[0], given[0], given[1]), BadBallot)
    assert refused(*given, epoch=1) is None  # who may only be behind does not refuse
    with pytest.raises(BadBallot, match="no member"):
        ballots.ballot(load_stranger(calm), calm.committee, moved, Choice.APPROVE)


def test_a_voter_signs_what_it_says_at_a_time_together_and_refuses_one_by_one(calm):
    asked = [motion() for _ in range(5)]
    questions = [packed(motion_fields(one)) for one in asked]
    questions[1:1] = [b"no motion", packed(["raise_limits", b"", FAR_NS, [], "", bytes(16)])]
    columns = [calm.replicas[number].ballots(questions)[2] for number in range(3)]
    for said in columns:
        assert isinstance(said[1], InvalidInput) and isinstance(said[2], UnknownKind)
        assert len({one.signature for place, one in enumerate(said) if place not in (1, 2)}) == 1
    bodies = [
        ballots.encode(Moved(0, one, tuple(own)))
        for one, *own in zip(asked, *([*said[:1], *said[3:]] for said in columns), strict=True)
    ]
    before = calm.replicas[3].status()["ballots_verified"]
    found = [decision.outcome for decision in map(calm.decide, bodies)]
    assert found == [Outcome.APPROVED] * 5
    assert head.until(lambda: calm.replicas[3].log(0, 10**6)[-1][0] == asked[-1].id, PATIENCE_S)
    assert calm.replicas[3].status()["ballots_verified"] == before + 3


def test_a_ballot_that_cannot_be_made_is_missing_alone(house):
    house.end(0)
    wordy = house.begin(0, judge=lambda moved, _: (Choice.REJECT, "no: " + moved.payload.decode()))
    asked = [packed(motion_fields(motion(payload=payload))) for payload in (b"a", b"x" * 300, b"c")]
    given = wordy.ballots(asked)[2]
    assert [type(one) for one in given] == [ballots.Ballot, TooLarge, ballots.Ballot]
    assert wordy.status()["noted"][-1]["words"] == str(given[1])


def load_stranger(household):
    seat = Seat(household.seats[0].folder.parent / "stranger")
    return seat.signer(may_make=True)


def test_motions_that_cannot_be_are_refused_where_they_are_made():
    with pytest.raises(UnknownKind, match="raise_limit"):
        motion("raise_limits")
    with pytest.raises(TooLarge, match="49153 bytes"):
        motion(payload=bytes(48 * 1024 + 1))
    with pytest.raises(DeadlinePast):
        in_time(motion(expires=1), time.time_ns())
    with pytest.raises(InvalidInput, match="no MessagePack"):
        motion("membership", b"")
    keys = [bytes([number]) * 32 for number in range(4)]
    for quarantined in ([0, 1], [4], [-1]):  # no committee can be so, and nobody should wait for it to be decided
        with pytest.raises(InvalidInput, match="names none that can be"):
            motion("membership", membership(keys, quarantined))
    assert motion("membership", membership(keys, [3]))


def test_requests_that_are_no_requests_are_refused_and_the_replica_lives(calm):
    body = calm.moved(motion())
    unhashable = packed([[], 0, [], []])
    for wrong in (b"", b"\x00", os.urandom(100), body[:-1], body + b"\x00", unhashable, bytearray(body), 7, None):
        assert calm.refusal(wrong) is not None
    calm.replicas[0].deliver(2, [encode(Request(unhashable)), 7, None, bytearray(b"\x91\x07")])
    calm.replicas[0].deliver(2, [os.urandom(50), b"", b"\x93\x01\x02\x03"])
    calm.replicas[0].deliver(-7, [encode(forged_vote(calm, 1, 50, b"\x01" * 32))])
    assert calm.decide(body).outcome is Outcome.APPROVED
    assert calm.replicas[0].status()["garbage"] >= 3


def test_a_late_decision_loosens_nothing(calm):
    soon = motion(expires=time.time_ns() + 10**10)
    decision = calm.decide(calm.moved(soon))
    assert decision.holds_at(soon.expires_utc_ns - 1)
    assert not decision.holds_at(soon.expires_utc_ns)
    tightened = calm.decide(calm.moved(motion("kill", expires=soon.expires_utc_ns), (0,)))
    assert tightened.asked.motion.direction is Direction.REDUCE
    assert tightened.holds_at(FAR_NS)


def test_a_number_is_the_median_whatever_one_estimator_signs_and_names_him(calm):
    asked = motion("number", question("VaR of book 1, 0.99", tolerance=0.01))
    values = (0.031, 0.032, 1e300, 0.033)
    given = tuple(
        ballots.estimate(signer, calm.committee, asked, value)
        for signer, value in zip(calm.signers, values, strict=True)
    )
    decision = calm.decide(ballots.encode(Estimated(0, asked, given)))
    assert decision.outcome is Outcome.AGREED
    assert decision.number == Agreed(median=pytest.approx(0.0325), trimmed_mean=0.0325, outliers=(2,))
    assert isinstance(calm.refusal(ballots.encode(Estimated(0, asked, given[:2]))), type(None))  # it is decided
    other = motion("number", question("another", tolerance=0.01))
    assert isinstance(calm.refusal(ballots.encode(Estimated(0, other, given))), BadBallot)


def test_voters_sign_their_own_numbers_and_say_why_they_have_none(house):
    """Each is asked as a client asks it; one lies, and one has no number."""

    def none(text, until):
        raise NotCarried(f"nothing is known of {text}", "Ask something else")

    until: list[int] = []
    estimators = [lambda _, until_ns: until.append(until_ns) or 0.031, lambda *_: 0.032, lambda *_: 1e300, none]
    for number, estimator in enumerate(estimators):
        house.end(number)
        house.begin(number, estimator=estimator)
    asked = motion("number", question("VaR of book 1, 0.99", tolerance=0.01))
    words = packed(motion_fields(asked))
    answers = [replica.estimates([words]) for replica in house.replicas.values()]
    assert {epoch for epoch, _ in answers} == {0}
    *given, refusal = (said for _, (said,) in answers)
    assert isinstance(refusal, NotCarried)
    decision = house.decide(ballots.encode(Estimated(0, asked, tuple(given))))
    assert decision.number == Agreed(median=0.032, trimmed_mean=0.032, outliers=(2,))
    assert max(until) < time.time_ns() + MOST_PATIENCE_S * 1e9  # though the motion never expires
    late = packed(motion_fields(motion("number", asked.payload, expires=1)))
    other = packed(motion_fields(motion()))
    assert [type(said) for said in house.replicas[0].estimates([late, other, b"garbage"])[1]] == [
        DeadlinePast,
        NotCarried,
        Malformed,
    ]


@pytest.mark.parametrize(
    ("value", "words"), [(lambda: None, "TypeError"), (lambda: 1 / 0, "division"), (lambda: float("nan"), "is nan")]
)
def test_a_calculation_that_fails_is_a_refusal_that_says_so(house, value, words):
    house.end(0)
    broken = house.begin(0, estimator=lambda *_: value())
    asked = packed(motion_fields(motion("number", question("how much?", tolerance=0.01))))
    (refusal,) = broken.estimates([asked])[1]
    assert isinstance(refusal, BadBallot) and words in str(refusal)
    house.end(0)
    whole = house.begin(0, estimator=lambda *_: np.float32(0.5))
    (given,) = whole.estimates([asked])[1]
    assert type(given.value) is float


def forged_vote(house, liar, view, digest, kind=Kind.NOTARIZE, epoch=0):
    signature = house.signers[liar].sign(vote_bytes(house.committee.chain, kind, epoch, view, digest))
    return Vote(kind, epoch, view, digest, liar, signature)


def test_whoever_votes_twice_is_quarantined_by_agreement_and_can_be_decided_without(house):
    first = house.decide(house.moved(motion()))
    for replica in house.replicas.values():
        view = replica.status()["view"] + 5
        break
    lies = [encode(forged_vote(house, 3, view, bytes([number]) * 32)) for number in (1, 2)]
    house.replicas[0].deliver(3, lies)
    assert head.until(lambda: all(r.status()["quarantined"] == [3] for r in house.replicas.values()), PATIENCE_S)
    assert "quarantined by agreement" in house.replicas[3].trouble
    assert not house.replicas[0].trouble
    _, _, (word,) = house.replicas[3].ballots([packed(motion_fields(motion()))])
    assert isinstance(word, BadBallot) and "quarantined" in str(word)

    stale = house.moved(motion())
    assert isinstance(house.refusal(stale), StaleEpoch)
    committee = house.replicas[1]._core.committee
    later = house.decide(house.moved(motion(), committee=committee), at=1)
    assert (later.epoch, later.committee.quarantined) == (1, frozenset({3}))
    assert later.height > first.height
    entries = house.replicas[2].log(0, 100)
    found = [decisions.proved(house.committee, evidence, identity) for identity, _, evidence in entries]
    assert [decision.outcome for decision in found] == [Outcome.APPROVED, Outcome.QUARANTINED, Outcome.APPROVED]
    assert isinstance(found[1].asked, Quarantine)
    assert found[1].summary()["quarantined"] == [3]
    with pytest.raises(BadCertificate):
        decisions.proved(house.committee, entries[0][2], later.id)


def test_a_proof_that_proves_nothing_quarantines_nobody(calm):
    honest = forged_vote(calm, 1, 7, b"\x01" * 32)
    with pytest.raises(BadEvidence, match="proves nothing"):
        quarantine(ConflictingVotes(honest, honest), [calm.committee])
    framed = Vote(Kind.NOTARIZE, 0, 7, b"\x02" * 32, 1, forged_vote(calm, 0, 7, b"\x02" * 32).signature)
    asked = Quarantine(ConflictingVotes(honest, framed), calm.committee.keys, frozenset({1}))
    assert isinstance(calm.refusal(ballots.encode(asked)), BadEvidence)


def test_a_decision_that_was_tampered_with_is_refused(calm, tmp_path):
    decision = calm.decide(calm.moved(motion()))
    text = decisions.decision_text(decision)
    path = tmp_path / "decision.json"
    for before, after in (("approved", "rejected"), ('"proof": "92', '"proof": "93'), ('"height"', '"weight"')):
        path.write_text(text.replace(before, after, 1))
        with pytest.raises(BadCertificate):
            decisions.read_decision(path, calm.committee)
    older = json.loads(text)
    del older["says"]["block"]  # which was not said before
    path.write_text(json.dumps(older))
    assert decisions.read_decision(path, calm.committee) == decision
    path.write_text(text)
    stranger = Committee.founded(tuple(reversed(calm.committee.keys)), bytes(16))
    with pytest.raises(BadCertificate, match="of committee"):
        decisions.read_decision(path, stranger)
    changed = calm.text.replace(calm.committee.keys[0].hex(), os.urandom(32).hex())
    with pytest.raises(InvalidInput, match="not that of its keys"):
        decisions.committee_of(changed, "a file")


def test_keys_and_logs_that_cannot_be_trusted_stop_their_voter_and_not_the_committee(house):
    for _ in range(3):  # so that the middle of its log is not in the last frame, which could only be torn
        house.decide(house.moved(motion()), at=3)
    with pytest.raises(LogUnusable, match="another process"):
        house.begin(3) if house.replicas.get(3) is None else Replica(house.seats[3], PATIENT, lambda *_: 0)
    house.end(3)
    seat = house.seats[3]
    seat.key.chmod(0o644)
    with pytest.raises(KeyUnusable, match="others may read"):
        house.begin(3)
    seat.key.chmod(0o600)
    seat.key.rename(seat.key.with_suffix(".away"))
    with pytest.raises(KeyUnusable, match="missing"):
        house.begin(3)
    seat.key.with_suffix(".away").rename(seat.key)
    data = bytearray(seat.log.read_bytes())
    data[len(written(seat)) // 2] ^= 0xFF
    seat.log.write_bytes(data)
    with pytest.raises(LogUnusable, match="damaged"):
        house.begin(3)
    assert house.decide(house.moved(motion())).outcome is Outcome.APPROVED


def test_a_voter_without_its_log_abstains_until_the_others_have_told_and_remembers_that_over_a_crash(house):
    for _ in range(3):
        house.decide(house.moved(motion()))
    height = house.replicas[0].status()["height"]
    house.end(3)
    house.seats[3].log.unlink()
    again = house.begin(3)
    assert house.seats[3].lost.exists()
    house.end(3)  # at once, with a log that looks whole
    again = house.begin(3)
    assert again.status()["abstaining"] or again.status()["height"] >= height

    def caught_up():
        house.decide(house.moved(motion()))
        return not again.status()["abstaining"]

    assert head.until(caught_up, PATIENCE_S)
    assert head.until(lambda: house.seats[3].lost.read_text() != "", PATIENCE_S)
    assert head.until(lambda: again.status()["height"] >= height, PATIENCE_S)
    house.end(3)
    assert not house.begin(3).status()["abstaining"]  # what the others told is noted
    house.replaced(1, house.join())
    assert head.until(lambda: not house.seats[3].lost.exists(), PATIENCE_S)


def test_a_torn_tail_is_cut_off_and_nothing_decided_is_lost(house):
    wanted = [house.decide(house.moved(motion())) for _ in range(5)]
    house.end(2)
    half = written(house.seats[2])[-40:-1]
    torn(house.seats[2], half)
    back = house.begin(2)
    assert back.status()["cut_bytes"] >= len(half.rstrip(b"\x00"))
    assert head.until(lambda: back.status()["height"] >= wanted[-1].height, PATIENCE_S)
    heights = {identity: height for identity, height, _ in back.log(0, 100)}
    assert heights.items() >= {decision.id: decision.height for decision in wanted}.items()


def test_power_that_goes_right_after_a_decision_takes_it_back_from_nobody_who_told_it(house, tmp_path):
    for _ in range(10):
        decision = house.decide(house.moved(motion()))
        images = [seat.log.read_bytes() for seat in house.seats]
        assert any(decision.height in finals(house, number, tmp_path, image) for number, image in enumerate(images))
    told = [replica.status()["height"] for replica in house.replicas.values()]
    images = [seat.log.read_bytes() for seat in house.seats]
    for number, (height, image) in enumerate(zip(told, images, strict=True)):
        assert height in finals(house, number, tmp_path, image)
    house.close()
    for seat, image in zip(house.seats, images, strict=True):
        seat.log.write_bytes(image)
    for number, height in enumerate(told):
        assert house.begin(number).status()["height"] >= height
    assert house.decide(ballots.encode(decision.asked)).height == decision.height


def kept(house, number, tmp_path, image):
    """The records that lay in a voter's log at a moment."""
    copy = tmp_path / f"image-{number}"
    copy.write_bytes(image)
    log = Log(copy, house.committee.chain, house.signers[number].public)
    log.close()
    return log.records


def finals(house, number, tmp_path, image):
    """Heights of the blocks that are final by what lay in a voter's log at a moment."""
    records = kept(house, number, tmp_path, image)
    return {block.height for record in records if isinstance(record, Finality) for block in record.blocks}


def test_a_vote_lies_in_its_voters_log_before_it_is_handed_on_and_a_decision_before_anybody_is_told(
    house, tmp_path, monkeypatch
):
    """Looked at by the thread that hands on and tells: nothing is written meanwhile."""
    said, missing = Counter(), []

    def look(number, wanted):
        records = kept(house, number, tmp_path, written(house.seats[number]) + bytes(GAP))
        said.update(map(type, wanted))
        missing.extend((number, one) for one in wanted if one not in records)

    def overhear(number, messages):
        heard = list(map(decode, messages))
        proposals = [one for one in heard if isinstance(one, Proposal)]
        blocks, led = [one.block for one in proposals], [one.vote for one in proposals]
        look(number, [*blocks, *led, *(one for one in heard if isinstance(one, Vote))])

    class Told(Future):
        def set_result(self, answers):
            look(0, [finality_of(unpacked(answer.evidence)[1]) for answer in answers])
            super().set_result(answers)

    house.overhear = overhear
    monkeypatch.setattr("consensus.waiting.Future", Told)
    for _ in range(3):
        house.decide(house.moved(motion()), at=0)
    assert said[Finality] == 3 and said[Block] and said[Vote] > said[Block]
    assert not missing


def test_a_key_lies_in_a_file_of_its_own_that_nobody_else_may_read(calm):
    for seat in calm.seats:
        assert seat.key.stat().st_mode & 0o777 == 0o600
        assert seat.folder.stat().st_mode & 0o777 == 0o700
        assert load_key(seat.key).public in calm.committee.keys


def test_the_figures_of_a_replica_are_of_what_it_did(house):
    bodies = [house.moved(motion()) for _ in range(5)]
    house.decide(bodies[0])
    answers = house.replicas[0].decide(bodies[1:], PATIENCE_S)
    assert all(answer.evidence for answer in answers)
    house.decide(bodies[0])  # said again, and decided no more
    assert head.until(lambda: all(r.status()["decisions"] == 5 for r in house.replicas.values()), PATIENCE_S)
    found = {number: replica.status() for number, replica in house.replicas.items()}
    assert {number: sum(one["latency_histogram_us"]) for number, one in found.items()} == {0: 5, 1: 0, 2: 0, 3: 0}
    for one in found.values():
        assert 2 <= one["height"] <= 5
        assert one["passed_views"] - one["nullified_views"] >= one["height"]
        assert one["ballots_verified"] == 15
        assert one["signatures_verified"] >= 2 * one["height"]  # those of others, for one certificate of each block

    leader = house.replicas[0].status()["leader"]
    house.end(leader)
    (left, *_) = house.replicas
    before = house.replicas[left].status()
    house.decide(house.moved(motion()), at=left)
    after = house.replicas[left].status()
    assert after["nullified_views"] > before["nullified_views"]
    assert after["passed_views"] - before["passed_views"] >= 2
    assert sum(after["latency_histogram_us"]) - sum(before["latency_histogram_us"]) == 1


@pytest.mark.parametrize("voter", range(4))
def test_who_leads_soonest_is_told_first_and_everybody_once(house, voter):
    """A word by Ray takes its time: what a leader waits for must not wait behind words to others."""
    house.end(voter)
    told = []
    replica = Replica(house.seats[voter], PATIENT, lambda peers, _: told.append(peers) or 0, number=voter)
    house.replicas[voter] = replica
    replica._speak([(None, Request(b"a word"))])
    view, committee = replica.status()["view"], house.committee
    assert told == [[led for led in (committee.leader(view + ahead) for ahead in range(4)) if led != voter]]

    quarantined = next(number for number in range(4) if number != voter)
    replica._core.chain.committee = replace(committee, quarantined=frozenset({quarantined}))
    told.clear()
    replica._speak([(None, Request(b"a word"))])
    assert sorted(told[0]) == [number for number in range(4) if number != voter]
    assert told[0][-1] == quarantined


def test_what_nobody_can_be_told_is_not_written(calm, monkeypatch):
    """A stranger's question of a few bytes asks for half a megabyte, and no answer finds a stranger."""
    written = []
    monkeypatch.setattr(replicas, "encode", lambda message: written.append(message) or encode(message))
    before = calm.replicas[0].counters.received
    calm.replicas[0].deliver(NOBODY, [encode(Ask(0, (), 7))])
    assert head.until(lambda: calm.replicas[0].counters.received > before, PATIENCE_S)
    calm.replicas[0].found([])  # that turn is over
    assert not [message for message in written if isinstance(message, Supply) or getattr(message, "nonce", 0) == 7]


def test_a_full_disk_ends_the_replica_and_it_says_so(house):
    house.end(1)

    replica = house.begin(1)
    os.close(replica._log._descriptor)  # as if the disk had gone
    replica._log._descriptor = os.open("/dev/full", os.O_WRONLY)
    decision = house.decide(house.moved(motion()))
    assert decision.outcome is Outcome.APPROVED
    assert head.until(lambda: bool(replica.trouble), PATIENCE_S)
    assert "votes no more" in replica.trouble
    (answer,) = replica.decide([house.moved(motion())], PATIENCE_S)
    assert "votes no more" in str(answer.refusal)


def test_a_seat_that_came_later_observes_then_votes_in_the_place_it_was_given(house):
    before = house.decide(house.moved(motion()))
    seat = house.join()
    fifth = house.replicas[seat]
    assert head.until(lambda: fifth.status()["height"] >= before.height, PATIENCE_S)
    assert (fifth.peers.number, fifth.status()["voter"], fifth.trouble) == (seat, None, "")
    assert fifth.ballots([packed(motion_fields(motion()))])[::2] == (0, [])

    committee = house.replaced(1, seat)
    assert head.until(lambda: fifth.status()["voter"] == 1, PATIENCE_S)
    house.end(1)
    house.end(2)  # so that nothing is decided without the fifth's votes
    house.signers[1] = house.signers[seat]
    after = house.decide(house.moved(motion(), voters=(0, 1, 3), committee=committee), at=3)
    assert (after.epoch, set(after.signers)) == (1, {0, 1, 3})


def test_voters_have_places_that_no_two_share_whatever_the_numbers_of_their_seats(house):
    """By which they ask different instances of an agent for their own numbers."""
    seat = house.join()
    house.replaced(0, seat)
    voters = [replica for number, replica in house.replicas.items() if number != 0]
    assert head.until(lambda: all(replica.status()["epoch"] == 1 for replica in voters), PATIENCE_S)
    assert sorted(replica.place for replica in voters) == [0, 1, 2, 3]


def test_who_was_replaced_gives_no_ballots_and_those_it_signs_do_not_count(house):
    seat, gone = house.join(), house.signers[1]
    committee = house.replaced(1, seat)
    assert head.until(lambda: house.replicas[1].status()["epoch"] == 1, PATIENCE_S)
    moved = motion()
    assert house.replicas[1].ballots([packed(motion_fields(moved))])[::2] == (1, [])
    old = ballots.ballot(gone, house.committee, moved, Choice.APPROVE)
    new = [ballots.ballot(house.signers[voter], committee, moved, Choice.APPROVE) for voter in (0, 2)]
    refused = house.refusal(ballots.encode(Moved(1, moved, (new[0], old, new[1]))))
    assert isinstance(refused, BadBallot)
    with pytest.raises(BadBallot):
        ballots.ballot(gone, committee, moved, Choice.APPROVE)


def test_a_newcomer_that_loses_its_log_is_silent_until_the_others_have_told(house):
    seat = house.join()
    committee = house.replaced(1, seat)
    house.signers[1] = house.signers[seat]
    assert head.until(lambda: house.replicas[seat].status()["epoch"] == 1, PATIENCE_S)
    house.end(seat)
    house.seats[seat].log.unlink()
    again = house.begin(seat)
    assert house.seats[seat].lost.exists()

    def votes():
        house.decide(house.moved(motion(), voters=(0, 2, 3), committee=committee))
        return again.status()["voter"] == 1 and not again.status()["abstaining"]

    assert head.until(votes, PATIENCE_S)
    assert house.seats[seat].lost.read_text().startswith("1 ")


def test_seats_that_come_later_have_numbers_and_keys_of_their_own(calm, tmp_path):
    seat = Seat(tmp_path / "later")
    signer = seat.signer(may_make=True)
    with pytest.raises(KeyUnusable, match="not in the committee"):
        seat.found(calm.text, signer)
    seat.found(calm.text, signer, later=True)
    for number in (None, 2):  # none, or a founding voter's
        with pytest.raises(KeyUnusable, match="no voter's"):
            Replica(seat, PATIENT, lambda *_: 0, number=number)
    with pytest.raises(KeyUnusable, match="founding voter's"):
        calm.seats[0].found(calm.text, calm.signers[0], later=True)


def test_whoever_claims_a_known_seat_or_key_changes_nothing(calm):
    replica = calm.replicas[0]
    for seat, public in ((1, bytes(32)), (9, calm.signers[1].public)):
        replica.peers.meet(seat, public)
    assert replica.peers.directory == dict(enumerate(calm.committee.keys))
    replica.peers.meet(9, bytes(32))
    replica.peers.part(9)
    assert replica.peers.directory == dict(enumerate(calm.committee.keys))


def test_the_present_committee_is_proved_by_the_ends_of_the_epochs_before(house):
    seat = house.join()
    committee = house.replaced(3, seat)
    ends = house.replicas[0].ends(0)
    assert decisions.following([house.committee], ends) == [house.committee, committee]
    assert decisions.following([house.committee, committee], house.replicas[0].ends(1)) == [house.committee, committee]
    for wrong in ([ends[0], ends[0]], [ends[0][:-1]], [b""], [ends[0].replace(committee.keys[3], bytes(32))]):
        with pytest.raises(BadCertificate):
            decisions.following([house.committee], wrong)


def test_nobody_can_say_that_a_voter_has_left(house):
    assert not any(house.replicas[0].peers.part(seat) for seat in range(1, 4))
    assert house.decide(house.moved(motion())).outcome is Outcome.APPROVED
    stranger = house.join()
    assert house.replicas[0].peers.part(stranger)


def test_one_peer_that_says_much_fills_its_own_share_and_keeps_nobody_from_being_heard(house):
    share = PATIENT.inbox // 4
    before = house.replicas[0].counters.dropped
    for _ in range(20):
        house.replicas[0].deliver(3, [b"noise"] * PATIENT.inbox)
        house.replicas[0].deliver(77, [b"noise"] * PATIENT.inbox)
    assert house.replicas[0].counters.dropped - before >= 2 * (PATIENT.inbox - share)
    assert house.decide(house.moved(motion())).outcome is Outcome.APPROVED
    assert house.replicas[0].decide([], PATIENCE_S) == []


def test_a_token_shows_one_reader_who_its_writer_is_and_nobody_else_anything(house):
    token = house.replicas[1].peers.token(0)
    assert house.replicas[0].peers.vouched(1, bytes(64)) == NOBODY
    assert house.replicas[0].peers.vouched(1, token) == 1
    for wrong in (b"", bytes(64), house.replicas[2].peers.token(0), house.replicas[1].peers.token(2), None, [token]):
        assert house.replicas[0].peers.vouched(1, wrong) == NOBODY
    assert [house.replicas[0].peers.vouched(number, token) for number in (2, 0, 9, -1, None)] == [NOBODY] * 5
    assert [house.replicas[number].peers.vouched(1, token) for number in (2, 3)] == [NOBODY] * 2
    house.end(1)
    assert house.begin(1).peers.token(0) == token  # in every life
    seat = house.join()
    assert house.replicas[0].peers.vouched(seat, house.replicas[seat].peers.token(0)) == seat


def test_who_has_no_token_takes_no_room_from_the_peer_whose_name_is_used(tmp_path):
    household = Household(tmp_path)
    for replica in household.replicas.values():
        replica.close()  # so that what is put down stays there
    hears, share = household.replicas[0], PATIENT.inbox // 4
    hears._letters.clear()
    hears.counters.dropped = 0
    hears.deliver(hears.peers.vouched(1, b"no token"), [b"noise"] * (share + 5))
    assert (hears.counters.dropped, hears.counters.strange) == (5, share + 5)
    hears.deliver(hears.peers.vouched(1, household.replicas[1].peers.token(0)), [b"word"] * share)
    assert hears.counters.dropped == 5
    assert [message for sender, message in hears._letters.take(4 * PATIENT.inbox) if sender == 1] == [b"word"] * share


@pytest.mark.parametrize(
    ("silenced", "keys", "quarantined", "why"),
    [
        ([3], [0, 1, 2, 3], [], "vote again"),
        ([3], [0, 1, 2, 3, 4, 5, 6], [2], "vote again"),
        ([2], [3, 2, 1, 0], [1], "change nobody"),
        ([], [0, 1, 4, 5], [], "more than 1"),
        ([], [0, 1, 4, 5, 6, 7, 8], [], "more than 1"),
        ([], [0, 1, 2, 4], [], ""),
        ([3], [0, 1, 2, 4], [], ""),
        ([3], [0, 1, 2, 3, 4, 5, 6], [3], ""),
    ],
)
def test_members_reject_changes_that_free_a_liar_replace_too_many_or_nobody(silenced, keys, quarantined, why):
    names = [bytes([number]) * 32 for number in range(9)]
    committee = Committee(bytes(32), 3, tuple(names[:4]), quarantined=frozenset(silenced))
    asked = motion("membership", membership([names[number] for number in keys], quarantined))
    found = unfit(asked, committee)
    assert why in found
    assert bool(why) == bool(found)
