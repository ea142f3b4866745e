"""What keys of voters who have left can still sign, and what a client that knows of later epochs believes of it.

The voters are keys and no processes: :mod:`tests.consensus.seated`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest

from cluster.errors import InvalidInput
from consensus import ballots, decisions, epochs
from consensus.committee import CommitteeClient
from consensus.epochs import Known
from consensus.errors import BadCertificate, NoQuorum, StaleEpoch, Undecided, UnknownKind
from consensus.motions import MEMBERSHIP, membership, new_motion
from consensus.waiting import Answer
from tests.consensus.seated import Seat, seated
from tests.consensus.signed import Voters

SHORT_S = 1.0


@pytest.fixture
def house(monkeypatch):
    return seated(monkeypatch)


@pytest.fixture
def old():
    return Voters()


@pytest.fixture
def now(old):
    return old.renewed(seed=1, height=9).renewed(seed=2)


def client_of(old, folder=None, deadline_s=60.0):
    return CommitteeClient(old.first, "nowhere", folder=folder, deadline_s=deadline_s)


# What was just moved.


def test_seats_of_nobody_that_answer_first_hide_no_epoch(house, old, now):
    house.seats = {seat: Seat(seat, old) for seat in range(3)}
    house.sit(now, first=4)
    house.in_turn = True
    assert client_of(old).refresh() == now.committee


def test_what_was_just_moved_is_not_decided_by_keys_of_an_epoch_that_is_over(house, old, now):
    house.seats = {0: Seat(0, old, forges=True)}
    house.sit(now, first=4)
    client = client_of(old)
    motion = client.motion("raise_limit", b"var 0.03")
    epoch, given = client.vote(motion)
    decision = client.finalize(motion, epoch, given)
    assert (epoch, decision.epoch, decision.committee) == (2, 2, now.committee)
    assert client.propose("raise_limit", b"var 0.04").epoch == 2

    house.seats = {0: house.seats[0]}  # nobody else is left to answer
    client._reach.forget()
    motion = client.motion("raise_limit", b"var 0.03", deadline_s=SHORT_S)
    with pytest.raises(Undecided):
        client.finalize(motion, epoch, ballots.decode(now.moved(motion)).ballots)
    assert old.decided(motion).outcome  # and its certificate is good


def test_what_was_decided_before_the_committee_changed_counts_for_who_had_moved_it_by_then(house, old):
    """One of two motions is decided in the epoch's last blocks, and the other one in the next epoch."""
    now = old.renewed(seed=1, height=9)
    kept = {}

    class Changing(Seat):
        """Of the old epoch until it was asked to decide, then of the new one."""

        def _decide(self, bodies, patience_s):
            found = []
            for body in bodies:
                asked = ballots.decode(body)
                if asked.epoch == 1:
                    found.append(Answer(kept.get(asked.motion.id) or now.evidence(now.final(body)[1])))
                elif asked.motion.payload == b"early":
                    kept[asked.motion.id] = old.evidence(old.final(body)[1])
                    found.append(Answer())
                else:
                    found.append(Answer(refusal=StaleEpoch("the committee changed", "Ask for new ballots")))
            self.voters = now
            return found

    house.seats = {voter: Changing(voter, old) for voter in old.signers}
    decided = client_of(old).propose_all([("raise_limit", b"early"), ("raise_limit", b"late")])
    assert [one.epoch for one in decided] == [0, 1]


def test_a_number_is_agreed_on_though_the_committee_changes_after_its_voters_have_signed_theirs(house, old):
    now = old.renewed(seed=1, height=9)

    class Changing(Seat):
        """Of the old epoch until it was asked to decide; one voter after the other then is of the new one."""

        def _decide(self, bodies, patience_s):
            if self.voters is now:
                return super()._decide(bodies, patience_s)
            for seat in list(house.seats.values())[:2]:
                seat.voters = now
            return [Answer(refusal=StaleEpoch("the committee changed", "Ask for new ballots"))] * len(bodies)

        def _estimates(self, questions):
            found = super()._estimates(questions)
            if self.asked.count("estimates") > 1:
                self.voters = now
            return found

    house.seats = {voter: Changing(voter, old) for voter in old.signers}
    decision = client_of(old).estimate("how much?", 0.01)
    assert (decision.epoch, decision.number.median) == (1, 0.03)


# What is shown of the past.


def test_blocks_that_contradict_how_their_epoch_began_or_ended_are_refused(house, old):
    now = old.renewed(seed=1, height=9)
    client = client_of(old)
    house.sit(now)
    client.refresh()
    motion = new_motion("note", b"", expires_utc_ns=2**62)
    end = decisions.certified(old.first, now.evidence(now.final(now.moved(motion))[1])).known[1]
    assert (end.height, client.present.height) == (9, 9)
    somewhere = bytes([7] * 32)
    assert client._proved(old.decided(motion).evidence, motion.id).epoch == 0
    assert client._proved(old.decided(motion, height=8, parent=somewhere).evidence, motion.id).height == 8  # unproved
    for forged in (
        old.decided(motion, height=9, parent=somewhere),
        old.decided(motion, height=10, parent=somewhere),
        old.decided(motion, height=1, parent=somewhere),
        now.decided(motion, height=9, parent=now.committee.anchor),
        now.decided(motion, height=10, parent=somewhere),
    ):
        with pytest.raises(BadCertificate, match="contradict"):
            client._proved(forged.evidence, motion.id)
    assert client._proved(now.decided(motion).evidence, motion.id).epoch == 1


def test_a_forged_decision_is_found_neither_by_its_id_nor_in_the_log(house, old):
    now = old.renewed(seed=1)  # in the first block of all
    forged = old.decide("raise_limit", b"var 0.3")

    class Forger(Seat):
        def _decided(self, identities):
            return [Answer(forged.evidence)]

        def _log(self, above, most):
            return [(forged.id, forged.height, forged.evidence)]

    house.seats = {9: Forger(0, now)}
    client = client_of(old)
    assert client.decision(forged.id) == forged and client.log() == [forged]  # nothing says that the epoch is over
    client.refresh()
    assert client.decision(forged.id) is None and client.log() == []


def test_however_many_epochs_old_keys_invent_they_take_no_place_of_those_that_are_known(house, old, now):
    fork = old
    for seed in range(20, 26):
        fork = fork.renewed(seed)
    client = client_of(old)
    house.sit(now)
    client.refresh()
    house.sit(fork)
    assert client.refresh() == now.committee
    with pytest.raises(BadCertificate, match="contradict"):
        client._proved((forged := fork.decide("raise_limit", b"")).evidence, forged.id)
    assert client.present == now.committee


@pytest.mark.parametrize(("liars", "known"), [(1, "now"), (2, "first"), (3, "fork")])
def test_of_two_ends_of_an_epoch_that_nobody_knew_the_one_that_most_prove_is_taken(house, old, now, liars, known):
    fork = old.renewed(seed=20).renewed(seed=21).renewed(seed=22)
    house.sit(now)
    for seat in range(liars):
        house.seats[seat] = Seat(0, fork)
    found = {"now": now.committee, "first": old.first, "fork": fork.committee}
    assert client_of(old).refresh() == found[known]


def test_one_who_proves_epochs_suffices_and_one_who_shows_a_decision_is_asked_about_with_the_others(house, old, now):
    house.sit(now)
    house.seats[0], house.seats[1], house.seats[2] = (Seat(voter, old) for voter in range(3))
    assert client_of(old).refresh() == now.committee
    fork = old.renewed(seed=20).renewed(seed=21).renewed(seed=22)
    house.sit(now)
    client = client_of(old)
    with pytest.raises(BadCertificate, match="contradict"):
        client._proved((forged := fork.decide("raise_limit", b"")).evidence, forged.id)
    assert client.present == now.committee


def test_a_replica_that_gives_anything_for_ends_is_a_delay(house, old, now):
    class Odd(Seat):
        def _ends(self, epoch):
            return lies[self.voter]

    lies = ["ends", {"a": 1}, [7], [b"\xc1"]]
    house.sit(now, first=4)
    house.seats |= {voter: Odd(voter, old) for voter in range(4)}
    assert client_of(old).refresh() == now.committee


def test_a_file_that_old_keys_have_signed_is_refused_off_line_by_who_knows_better(tmp_path, old, now):
    for number, (forged, holds) in enumerate(((old, True), (old.renewed(seed=20), False), (now, True))):
        file = tmp_path / f"{number}.json"
        file.write_text(decisions.decision_text(forged.decide("note", b"")))
        assert decisions.read_decision(file, old.first)
        with contextlib.nullcontext() if holds else pytest.raises(BadCertificate, match="have left"):
            assert decisions.read_decision(file, old.first, now.known.committees)


# What the home knows.


def test_what_was_proved_to_one_client_of_a_home_every_later_one_begins_with(house, tmp_path, old, now):
    house.sit(now)
    client = client_of(old, tmp_path)
    assert (client.present, client.propose("note").epoch, client.unkept) == (old.first, 2, "")
    house.seats.clear()
    later = client_of(old, tmp_path)
    assert (later.present, later.known.committees) == (now.committee, now.known.committees)
    with pytest.raises(NoQuorum):
        later.refresh()
    house.seats = {0: Seat(0, old, forges=True)}
    motion = later.motion("raise_limit", deadline_s=SHORT_S)
    with pytest.raises(NoQuorum):
        later.vote(motion)


def test_who_knows_less_takes_nothing_from_the_file_and_learns_what_it_has(tmp_path, old, now):
    less = old.renewed(seed=1)
    assert epochs.keep(tmp_path, now.known) == now.known
    before = (tmp_path / epochs.FILE).read_text()
    assert epochs.keep(tmp_path, Known(now.known.committees[:2], now.known.ends[:1])) == now.known
    with pytest.raises(InvalidInput, match=r"epochs\.json proves another end.*delete it"):
        epochs.keep(tmp_path, less.known)  # the same keys, and another block that ended the first epoch
    assert (tmp_path / epochs.FILE).read_text() == before


def test_many_who_keep_what_they_know_at_once_leave_the_most(tmp_path, old):
    voters = [old]
    for seed in range(1, 8):
        voters.append(voters[-1].renewed(seed))
    whole = voters[-1].known
    parts = [Known(whole.committees[: count + 1], whole.ends[:count]) for count in range(8)]

    def keep(part):
        done = False
        while not done:
            with contextlib.suppress(BlockingIOError):  # the others took their time
                done = bool(epochs.keep(tmp_path, part))

    threads = [threading.Thread(target=keep, args=(part,)) for part in parts[::-1] for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert epochs.read(tmp_path, old.first) == whole


def bent(text, how):
    fields = json.loads(text)
    match how:
        case "torn":
            return text[: len(text) // 2]
        case "empty":
            return ""
        case "no text":
            return b"\xff\xfe"
        case "other format":
            fields["format"] = "riskswarm/seats/1"
        case "a bit":
            end = bytearray.fromhex(fields["ends"][1])
            end[-1] ^= 1
            fields["ends"][1] = end.hex()
        case "not in order":
            fields["ends"].reverse()
        case "no ends":
            fields["ends"] = 7
        case "of others":
            fields["ends"] = [end.hex() for end in Voters(seed=9).renewed(1).known.ends]
        case "other chain":
            fields["chain"] = Voters(seed=9).first.chain.hex()
    return json.dumps(fields)


@pytest.mark.parametrize(
    "how", ["torn", "empty", "no text", "other format", "a bit", "not in order", "no ends", "of others", "other chain"]
)
def test_a_file_that_does_not_hold_is_an_error_that_names_it_and_stays_as_it_is(house, tmp_path, old, now, how):
    epochs.keep(tmp_path, now.known)
    file = tmp_path / epochs.FILE
    wrong = bent(file.read_text(), how)
    file.write_bytes(wrong if isinstance(wrong, bytes) else wrong.encode())
    with pytest.raises(InvalidInput, match=r"epochs\.json.*delete it"):
        client_of(old, tmp_path)
    file.unlink()  # the owner's right
    house.sit(now)
    client = client_of(old, tmp_path)
    file.write_bytes(before := wrong if isinstance(wrong, bytes) else wrong.encode())
    assert client.refresh() == now.committee
    assert "epoch 2 is not kept" in client.unkept and file.read_bytes() == before
    file.unlink()
    assert (client.refresh(), client.unkept) == (now.committee, "")
    assert client_of(old, tmp_path).present == now.committee


def test_who_may_not_write_in_the_home_decides_and_says_what_is_not_kept(house, tmp_path, old, now):
    house.sit(now)
    client = client_of(old, tmp_path / "gone")
    assert client.propose("note").epoch == 2
    assert "epoch 2 is not kept" in client.unkept


# Who is heard.


def test_refusals_of_seats_that_can_be_no_voters_do_not_count(house, old, now):
    house.seats = {seat: Seat(seat, now, refuses=True) for seat in range(4)}
    house.sit(now, first=4)
    client = client_of(old)
    assert client.propose("raise_limit").epoch == 2
    motion = client.motion("raise_limit")
    epoch, given = client.vote(motion)
    client._reach.carrier, client._reach._quick = None, []  # those who refuse are heard first
    assert client.finalize(motion, epoch, given).epoch == 2
    for seat in (4, 5):
        house.seats[seat].refuses = True
    with pytest.raises(UnknownKind):  # six of eight: two voters of the four at least
        client.propose("raise_limit")


def test_asking_for_later_epochs_takes_no_longer_than_the_motion(house, old):
    class Ahead(Seat):
        """Of an epoch that it does not prove."""

        def _ballots(self, questions):
            return 5, (0, 1), super()._ballots(questions)[2]

    house.seats = {voter: Ahead(voter, old) for voter in old.signers}
    client = client_of(old)
    began_ns = time.time_ns()
    with pytest.raises(NoQuorum):
        client.propose("raise_limit", deadline_s=SHORT_S)
    assert time.time_ns() - began_ns >= 0 and max(house.waits) <= SHORT_S


def test_packed_ends_are_read_as_they_were_given(old, now):
    forged = now.decide("note", b"")
    known = Known.of(decisions.certified(old.first, forged.evidence))
    assert known == now.known and Known((old.first,)).followed(known.ends) == known
    change = membership(Voters(9).committee.keys)
    body = now.moved(new_motion(MEMBERSHIP, change, expires_utc_ns=2**62))
    ended = decisions.certified(old.first, now.evidence(now.final(body)[1]))  # a decision that ends its own epoch
    assert len(Known.of(ended).ends) == len(ended.known) - 1 == 3
    assert Known((old.first,)).followed(Known.of(ended).ends).committees == ended.known
