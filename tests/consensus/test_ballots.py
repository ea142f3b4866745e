"""Ballots that a voter gives at a time: one signature for all, and each proves itself, alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import ballots
from consensus.ballots import MOST_TOGETHER, Ballot, Choice, Estimated, Moved, Place
from consensus.errors import BadBallot, TooLarge
from consensus.motions import Motion, question
from consensus.rules import Rules
from consensus.simplex import crypto
from consensus.simplex.types import SIGNATURE_BYTES, Malformed, packed, unpacked
from tests.consensus.signed import Voters

HOUSE = Voters()
OTHERS = Voters(seed=1)
COUNTS = (1, 2, 3, MOST_TOGETHER, MOST_TOGETHER + 1, 2 * MOST_TOGETHER + 3)


def motions(count: int) -> list[Motion]:
    return [Motion("raise_limit", b"var 0.03", 2**62, nonce=number.to_bytes(16, "big")) for number in range(count)]


def together(voter: int, asked: list[Motion], choice: Choice = Choice.APPROVE) -> list[Ballot]:
    return ballots.ballots_on([(motion, choice, "in time") for motion in asked], HOUSE.signers[voter], HOUSE.committee)


def holds(one: Ballot, motion: Motion, house: Voters = HOUSE) -> bool:
    return ballots.genuine(one, house.committee, motion.id)


@pytest.mark.parametrize("count", COUNTS)
def test_each_of_many_ballots_is_genuine_and_as_few_signatures_as_can_be_are_made(count: int) -> None:
    asked = motions(count)
    ours = together(2, asked)
    assert all(holds(one, motion) for one, motion in zip(ours, asked, strict=True))
    assert len({one.signature for one in ours}) == -(-count // MOST_TOGETHER)


@pytest.mark.parametrize("count", [2, 3, 7, 64])
def test_a_ballot_is_good_for_nothing_but_what_was_said_in_it(count: int) -> None:
    asked = motions(count)
    ours = together(2, asked)
    for number, one in enumerate(ours):
        assert one.place is not None
        assert not holds(one, asked[number - 1])
        assert not holds(one, asked[number], OTHERS)
        assert not holds(replace(one, choice=Choice.REJECT), asked[number])
        assert not holds(replace(one, reason="late"), asked[number])
        assert not holds(replace(one, voter=1), asked[number])
        assert not holds(replace(one, place=None), asked[number])
        assert not holds(replace(one, signature=bytes(SIGNATURE_BYTES)), asked[number])
        assert not holds(replace(one, place=ours[number - 1].place), asked[number])
        assert not holds(replace(one, place=replace(one.place, path=one.place.path + bytes(32))), asked[number])


@pytest.mark.parametrize("count", [2, 3, 5, 33, 64])
def test_a_ballot_has_one_place_and_nobody_can_give_it_another(count: int) -> None:
    """Otherwise whoever sees a request could write it in many ways, and logs would say what nobody has signed."""
    motion, *others = motions(count + 1)
    for index in (0, count // 2, count - 1):
        said = [(other, Choice.APPROVE, "") for other in others]
        said[index] = (motion, Choice.APPROVE, "")
        one = ballots.ballots_on(said, HOUSE.signers[0], HOUSE.committee)[index]
        assert one.place is not None
        found = [
            (at, size)
            for size in range(2, MOST_TOGETHER + 1)
            for at in range(size)
            if holds(replace(one, place=Place(at, size, one.place.path)), motion)
        ]
        assert found == [(index, count)]


def test_a_signature_for_one_ballot_is_none_for_many_nor_the_other_way_round() -> None:
    (motion,) = motions(1)
    (alone,) = together(0, [motion])
    assert alone.place is None
    assert not holds(replace(alone, place=Place(0, 2, bytes(32))), motion)
    with pytest.raises(Malformed):
        Place(0, 1, b"")


@pytest.mark.parametrize(
    "place", [(2, 2, b""), (-1, 2, b""), (0, 65, b""), (0, 2, bytes(225)), (False, 2, b""), (0, 2, "")]
)
def test_places_that_are_none_are_refused(place: tuple) -> None:
    with pytest.raises(Malformed, match="place"):
        Place(*place)


@given(
    st.lists(st.tuples(st.sampled_from(Choice), st.text(max_size=20)), min_size=1, max_size=5),
    st.sets(st.integers(0, 3), min_size=1),
    st.data(),
)
def test_requests_read_back_whole_and_there_is_one_way_to_write_them(
    said: list[tuple[Choice, str]], voters: set[int], draw: st.DataObject
) -> None:
    """Whoever says the same as the one before it has the same place, which is written once."""
    asked = motions(len(said))
    number = draw.draw(st.integers(0, len(said) - 1))
    given_by: list[Ballot] = []
    for voter in sorted(voters):
        words = said if draw.draw(st.booleans()) else said[number : number + 1]
        of = asked if words is said else asked[number : number + 1]
        whole = [(motion, choice, reason) for motion, (choice, reason) in zip(of, words, strict=True)]
        made = ballots.ballots_on(whole, HOUSE.signers[voter], HOUSE.committee)
        given_by.append(made[number] if words is said else made[0])
    body = ballots.encode(Moved(0, asked[number], tuple(given_by)))
    assert ballots.decode(body) == Moved(0, asked[number], tuple(given_by))
    fields = unpacked(body)
    repeated = [one for one in fields[3] if len(one) == 5]
    same = [b for a, b in pairwise(given_by) if b.place is not None and b.place == a.place]
    assert len(repeated) == len(same)
    for one, ballot in zip(fields[3], given_by, strict=True):
        if len(one) == 5 and ballot.place is not None:
            one[4:] = [ballot.place.index, ballot.place.size, ballot.place.path]
            with pytest.raises(Malformed, match="not written"):
                ballots.decode(packed(fields))


def test_nobody_stands_where_the_one_before_stands_if_there_is_none() -> None:
    (motion,) = motions(1)
    fields = unpacked(ballots.encode(Moved(0, motion, tuple(together(0, [motion])))))
    fields[3][0].append(None)
    with pytest.raises(Malformed, match="not written"):
        ballots.decode(packed(fields))


def test_a_ballot_given_alone_is_written_and_signed_as_it_always_was() -> None:
    """Logs and decisions of older versions are read as before: length and SHA-256 are those of commit 3df4e0c."""
    motion = Motion("raise_limit", b"var 0.03", 2**62, ("calculation 7",), "a desk", bytes(range(16)))
    words = ((0, Choice.APPROVE, "known kind, in time"), (1, Choice.REJECT, ""), (3, Choice.ABSTAIN, "no view"))
    own = tuple(ballots.ballot(HOUSE.signers[v], HOUSE.committee, motion, choice, why) for v, choice, why in words)
    body = ballots.encode(Moved(0, motion, own))
    assert len(body) == 312
    assert hashlib.sha256(body).hexdigest() == "0f4f48453ef4efcedcf4068e12aab918895d9b9c93673d481636d4dbe5c816ad"


@settings(max_examples=20)
@given(st.integers(1, 3 * MOST_TOGETHER))
def test_a_batch_costs_as_many_verifications_as_one_motion_for_each_64(count: int) -> None:
    checked = 0

    def counted(public: bytes, message: bytes, signature: bytes) -> bool:
        nonlocal checked
        checked += 1
        return crypto.verify(public, message, signature)

    asked = motions(count)
    columns = [together(voter, asked) for voter in range(3)]
    rules = Rules(lambda: [HOUSE.committee], counted)
    for motion, *own in zip(asked, *columns, strict=True):
        assert rules.fault(ballots.encode(Moved(0, motion, tuple(own)))) is None
    assert checked == 3 * -(-count // MOST_TOGETHER)


def test_one_forged_ballot_of_a_batch_spoils_its_own_motion_alone() -> None:
    asked = motions(5)
    columns = [together(voter, asked) for voter in range(3)]
    columns[1][2] = replace(columns[1][2], reason="as others would have it")
    rules = Rules(lambda: [HOUSE.committee])
    faults = [rules.fault(ballots.encode(Moved(0, m, tuple(own)))) for m, *own in zip(asked, *columns, strict=True)]
    assert [isinstance(fault, BadBallot) for fault in faults] == [False, False, True, False, False]
    assert [fault for fault in faults if not isinstance(fault, BadBallot)] == [None] * 4


def test_fields_are_what_they_are_and_nothing_that_passes_for_it() -> None:
    class Text(str):
        __slots__ = ()

    class Bytes(bytes):
        __slots__ = ()

    for reason, signature in (Text(""), bytes(64)), ("", Bytes(64)), ("", bytearray(64)), (b"", bytes(64)):
        with pytest.raises(Malformed, match="signature"):
            Ballot(0, Choice.APPROVE, reason, signature)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_a_number_below_or_above_zero_is_read_as_it_was_signed(value: float) -> None:
    """Logs of older versions may hold either: what was decided once must be read for ever."""
    asked = Motion("number", question("VaR", 0.1), 2**62)
    made = tuple(ballots.estimate(HOUSE.signers[voter], HOUSE.committee, asked, value) for voter in range(3))
    body = ballots.encode(Estimated(0, asked, made))
    read = ballots.decode(body)
    assert isinstance(read, Estimated) and str(read.estimates[0].value) == str(value)
    assert Rules(lambda: [HOUSE.committee]).fault(body) is None
    turned = ballots.encode(Estimated(0, asked, tuple(replace(one, value=-value) for one in made)))
    assert turned != body and isinstance(Rules(lambda: [HOUSE.committee]).fault(turned), BadBallot)


def test_nothing_counts_of_whom_the_committee_has_silenced_or_never_had() -> None:
    (motion,) = motions(1)
    asked = Motion("number", question("VaR", 0.1), 2**62)
    silenced = replace(HOUSE.committee, quarantined=frozenset({2}))
    said = ballots.ballot(HOUSE.signers[2], silenced, motion, Choice.APPROVE)
    number = ballots.estimate(HOUSE.signers[2], silenced, asked, 0.03)
    assert ballots.genuine(said, HOUSE.committee, motion.id) and ballots.estimated(number, HOUSE.committee, asked.id)
    assert not ballots.genuine(said, silenced, motion.id) and not ballots.estimated(number, silenced, asked.id)
    assert not ballots.genuine(replace(said, voter=9), HOUSE.committee, motion.id)
    assert not ballots.estimated(replace(number, voter=9), HOUSE.committee, asked.id)


def test_what_is_refused_is_remembered_by_its_reason_alone() -> None:
    """A traceback would keep the request: thousands of large ones that anybody may send."""
    rules = Rules(lambda: [HOUSE.committee])
    for body in (
        b"",
        b"\xc1",
        ballots.encode(Moved(0, motions(1)[0], ())),
        ballots.encode(Moved(7, motions(1)[0], ())),
    ):
        fault = rules.fault(body)
        assert fault is not None
        assert fault.__traceback__ is fault.__cause__ is fault.__context__ is None


def test_reasons_that_are_too_long_are_refused() -> None:
    (motion,) = motions(1)
    with pytest.raises(TooLarge, match="reason"):
        ballots.ballot(HOUSE.signers[0], HOUSE.committee, motion, Choice.REJECT, "x" * 257)
