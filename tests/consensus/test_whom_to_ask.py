"""Whom a client asks: as few as can decide, who leads alone, and nobody again who has just kept it waiting."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from consensus.asking import HEDGE_EACH_S, HEDGE_SHARE, MOST_HEDGE_S, USUAL
from consensus.committee import CommitteeClient
from consensus.errors import NoQuorum, Undecided
from tests.consensus.seated import Seat, Silence, seated
from tests.consensus.signed import Voters


@dataclass(eq=False)
class Rotating(Seat):
    """Of a committee: with every decision another one leads."""

    decided: list[Any] = field(default_factory=list)
    """One list of all seats."""
    silence: Silence | None = None

    def _ballots(self, questions):
        lead = len(self.decided)
        size = len(self.voters.signers)
        self.leads = lead % size, (lead + 1) % size
        return self.silence or super()._ballots(questions)

    def _decide(self, bodies, patience_s):
        if self.silence:
            return self.silence
        if bodies not in self.decided:
            self.decided.append(bodies)
        return super()._decide(bodies, patience_s)


@pytest.fixture
def voters():
    return Voters()


@pytest.fixture
def house(monkeypatch):
    return seated(monkeypatch)


@pytest.fixture
def seats(house, voters):
    decided = []
    house.seats = {voter: Rotating(voter, voters, decided=decided) for voter in voters.signers}
    return house.seats


@pytest.fixture
def mover(voters):
    return CommitteeClient(voters.first, "nowhere", deadline_s=60.0)


def asked_of(mover, seats):
    """Who is asked for a ballot, and who for the decision, of one motion."""
    for seat in seats.values():
        seat.asked.clear()
    assert mover.propose("raise_limit").outcome
    return tuple({number for number, seat in seats.items() if method in seat.asked} for method in ("ballots", "decide"))


def test_who_leads_is_asked_for_its_ballot_and_alone_for_the_decision(mover, seats):
    asked_of(mover, seats)
    for leader in (1, 2, 3, 0, 1):
        elected, deciding = asked_of(mover, seats)
        assert leader in elected
        assert len(elected) == 3
        assert deciding == {leader}


def test_who_owes_an_answer_is_asked_last_until_it_comes(mover, seats):
    asked_of(mover, seats)
    seats[1].silence = silence = Silence()
    assert asked_of(mover, seats) == ({0, 1, 2, 3}, {2})  # who leads next brings it about that this view fails
    for _ in range(6):
        assert asked_of(mover, seats)[0] == {0, 2, 3}
    seats[1].silence = None
    silence.over = True
    asked_of(mover, seats)
    assert [deciding for _, deciding in (asked_of(mover, seats) for _ in range(4))].count({1}) == 1


@dataclass(eq=False)
class Hung(Rotating):
    """Gives its ballot, and does not decide."""

    def _decide(self, bodies, patience_s):
        return Silence()


def hang_the_leader(mover, seats):
    leader = len(seats[0].decided) % len(seats)
    seats[leader] = Hung(leader, seats[0].voters, decided=seats[0].decided)
    mover._reach.forget()


def test_others_are_asked_when_the_leader_takes_longer_than_usual(mover, seats):
    for _ in range(4):
        asked_of(mover, seats)
    hang_the_leader(mover, seats)
    assert asked_of(mover, seats)[1] == {0, 1, 2, 3}


def test_others_are_asked_when_who_leads_after_a_silent_leader_decides_nothing_either(mover, seats):
    for _ in range(5):
        asked_of(mover, seats)
    assert len(seats[0].decided) % len(seats) == 1
    seats[1].silence = Silence()
    seats[2] = Hung(2, seats[2].voters, decided=seats[2].decided)
    mover._reach.forget()
    assert asked_of(mover, seats)[1] == {0, 1, 2, 3}


@pytest.mark.parametrize(("deadline_s", "longest_s"), [(30.0, MOST_HEDGE_S), (0.8, 0.8 * HEDGE_SHARE)])
def test_what_usually_takes_long_keeps_nobody_from_asking_the_others(mover, seats, house, deadline_s, longest_s):
    hang_the_leader(mover, seats)
    mover._reach._usual["decide", 1] = deque([100.0] * USUAL)
    with contextlib.suppress(Undecided, NoQuorum):  # on a machine that stands still for so long
        assert mover.propose("raise_limit", deadline_s=deadline_s).outcome
    _, waited_s, *_ = house.waits  # for ballots, for the leader, for everybody
    assert longest_s / 2 < waited_s <= longest_s
    assert all("decide" in seat.asked for seat in seats.values() if not isinstance(seat, Hung))


def test_a_batch_is_given_the_time_that_many_take_before_others_are_asked(mover, seats, house):
    hang_the_leader(mover, seats)
    mover._reach._usual["decide", 4] = deque([100.0] * USUAL)
    with contextlib.suppress(Undecided, NoQuorum):
        assert len(mover.propose_all([("raise_limit", b"")] * 10, deadline_s=30.0)) == 10
    _, waited_s, *_ = house.waits
    assert MOST_HEDGE_S < waited_s <= MOST_HEDGE_S + 9 * HEDGE_EACH_S


def test_a_motion_that_one_may_carry_is_put_to_more_than_may_be_faulty(mover, seats):
    """Else one seat would say alone how long others may take, and never that somebody else leads."""
    assert mover.propose("lower_limit").outcome
    assert sum("ballots" in seat.asked for seat in seats.values()) == 2
    assert asked_of(mover, seats)[1] == {1}


def test_two_of_seven_make_nobody_their_leader(monkeypatch):
    """They are the first to answer, and name one of them."""

    class Vain(Rotating):
        def _ballots(self, questions):
            epoch, _, given = super()._ballots(questions)
            return epoch, (0, 0), given

    house, voters, decided = seated(monkeypatch), Voters(size=7), []
    house.seats = {voter: (Vain if voter < 2 else Rotating)(voter, voters, decided=decided) for voter in voters.signers}
    mover = CommitteeClient(voters.first, "nowhere", deadline_s=60.0)
    decided.extend([b"some"] * 3)
    assert asked_of(mover, house.seats)[1] == {3}


@pytest.mark.parametrize("leads", [(9, 9), ("x", None), ([], {}), (True, 2.0), None, 3, (1, 2, 3)])
def test_what_one_seat_says_of_who_leads_keeps_nothing_from_being_decided(mover, seats, leads):
    class Odd(Seat):
        def _ballots(self, questions):
            epoch, _, given = super()._ballots(questions)
            return epoch, leads, given

    seats[0] = Odd(0, seats[0].voters)
    for _ in range(5):
        asked_of(mover, seats)
