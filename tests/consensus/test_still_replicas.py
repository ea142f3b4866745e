"""What a replica keeps for those who wait and against those who lied: real replicas, turned by hand in one thread."""

from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cluster import head
from cluster.errors import Overloaded, SwarmError
from consensus import ballots, decisions, replica
from consensus.ballots import Moved
from consensus.motions import membership
from consensus.replica import Replica
from consensus.simplex.proofs import ConflictingVotes, Proof
from consensus.simplex.types import Kind, Vote, vote_bytes
from consensus.waiting import Answer, Question
from tests.consensus.test_replica import PATIENCE_S, PATIENT, Household, motion

ROOM = 8
FAR_NS = 2**62
KEEN = settings(max_examples=20, stateful_step_count=20, phases=[Phase.generate])


class StillHousehold(Household):
    """Replicas that do nothing unless they are turned."""

    def begin(self, number: int, **options: Any) -> Replica:
        def send(peers: list[int], messages: list[bytes]) -> int:
            for peer in peers:
                if peer in self.replicas:
                    self.replicas[peer].deliver(number, messages)
            return 0

        made = self.replicas[number] = Replica(self.seats[number], PATIENT, send, number=number, **options)
        made._carry_out([made._core.begin()])
        return made

    def ask(self, bodies: list[bytes], at: int = 0, give_up_ns: int = FAR_NS) -> Future[list[Answer]]:
        """As a client does, without waiting."""
        asked = Question(bodies, time.monotonic_ns(), give_up_ns)
        refusal = self.replicas[at]._put(asked)
        if refusal is not None:
            asked.future.set_exception(refusal)
        return asked.future

    def turn(self, number: int) -> None:
        """Let one replica do what lies before it."""
        one = self.replicas[number]
        if one._inbox or one._letters or one._core.next_wake <= time.monotonic_ns():
            one._turn(one._taken())

    def settle(self, done: Any) -> bool:
        """Let all of them, until something is so."""

        def so() -> bool:
            for number in list(self.replicas):
                self.turn(number)
            return bool(done())

        return head.until(so, PATIENCE_S)

    def decide(self, body: bytes, at: int = 0) -> decisions.Decision:
        future = self.ask([body], at)
        assert self.settle(future.done)
        (answer,) = future.result()
        if answer.refusal is not None:
            raise answer.refusal
        return decisions.proved(self.committee, answer.evidence, ballots.identity(ballots.decode(body)))


@pytest.fixture
def still(tmp_path):
    household = StillHousehold(tmp_path)
    yield household
    household.close()


def contradiction(house: Household, seat: int, voter: int, committee: Any, view: int = 3) -> Proof:
    """Two votes of whoever sits there, as that voter of this epoch, that no honest voter signs both."""

    def vote(digest: bytes) -> Vote:
        words = vote_bytes(committee.chain, Kind.NOTARIZE, committee.epoch, view, digest)
        return Vote(Kind.NOTARIZE, committee.epoch, view, digest, voter, house.signers[seat].sign(words))

    return ConflictingVotes(vote(b"\x01" * 32), vote(b"\x02" * 32))


def test_one_liar_through_many_epochs_leaves_room_for_the_proof_against_another(still, monkeypatch):
    monkeypatch.setattr(replica, "MOST_KEPT", 4)
    committee, keeps = still.committee, still.replicas[0]
    for _ in range(6):  # the voters change places, and the same one lies in every epoch
        keys = (*committee.keys[1:], committee.keys[0])
        liar = committee.keys.index(still.signers[3].public)
        for view in range(3, 9):
            keeps._accuse(contradiction(still, 3, liar, committee, view))
        voters = [committee.keys.index(still.signers[seat].public) for seat in range(4)]
        ordered = sorted(range(4), key=voters.__getitem__)[:3]
        change = motion("membership", membership(keys))
        given = [ballots.ballot(still.signers[seat], committee, change, ballots.Choice.APPROVE) for seat in ordered]
        keeps._proofs, proofs = {}, keeps._proofs  # nobody presses the accusation meanwhile
        decision = still.decide(ballots.encode(Moved(committee.epoch, change, tuple(given))))
        keeps._proofs = proofs
        committee = decisions.certified(still.committee, decision.evidence).known[-1]
    other = committee.keys.index(still.signers[1].public)
    real = contradiction(still, 1, other, committee)
    keeps._accuse(real)
    assert (still.signers[1].public, real) in keeps.guilty
    assert {key for key, _ in keeps.guilty} == {still.signers[seat].public for seat in (1, 3)}
    assert len(keeps.evidence()) == 2


def test_proofs_against_who_votes_no_more_make_room_and_those_against_voters_stay(still, monkeypatch):
    monkeypatch.setattr(replica, "MOST_KEPT", 4)
    keeps = still.replicas[0]
    seat = still.join()
    committee = still.replaced(1, seat)
    for gone in (1, 0, 2, 3):
        keeps._accuse(contradiction(still, gone, gone, still.committee))
    assert len(keeps.evidence()) == 4
    keeps._accuse(contradiction(still, seat, 1, committee))
    assert {key for key, _ in keeps.guilty} == set(committee.keys)
    assert len(keeps.evidence()) == 4
    keeps._accuse(contradiction(still, 1, 1, still.committee))  # there is no room for it, and nobody needs it
    assert {key for key, _ in keeps.guilty} == set(committee.keys)


class Clients(RuleBasedStateMachine):
    """Clients of one replica that ask for all sorts, in any order, while the committee decides, changes and is busy.

    Whoever waits is counted, and nobody is who was answered, refused, given up or sent away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory()
        self.house = StillHousehold(Path(self.place.name))
        self.seat, self.committee, self.swapped = self.house.join(), self.house.committee, False
        self.known: list[bytes] = []
        self.asked: list[tuple[list[bytes], Future[list[Answer]]]] = []
        asked = self.house.replicas[0]
        asked._core._pending.most = ROOM

    @property
    def voters(self) -> list[int]:
        return [0, self.seat if self.swapped else 1, 2, 3]

    def body(self, kind: str) -> bytes:
        """A request, by what is to become of it."""
        if kind == "known" and self.known:
            return self.known[-1]
        if kind == "garbage":
            return b"garbage"
        members = self.voters
        moved = motion()
        given = [
            ballots.ballot(self.house.signers[seat], self.committee, moved, ballots.Choice.APPROVE)
            for seat in members[: 2 if kind == "too few" else 3]
        ]
        epoch = self.committee.epoch + {"ahead": 1, "behind": -1}.get(kind, 0)
        made = ballots.encode(Moved(max(0, epoch), moved, tuple(given)))
        if kind == "sound":
            self.known.append(made)
        return made

    @rule(
        kinds=st.lists(st.sampled_from(["sound", "sound", "sound", "known", "garbage", "too few", "ahead", "behind"])),
        gives_up=st.booleans(),
    )
    def ask(self, kinds: list[str], gives_up: bool) -> None:
        """A client asks; now and then it gives up before anybody looks."""
        bodies = [self.body(kind) for kind in kinds[: ROOM + 2]]
        if bodies:
            future = self.house.ask(bodies, give_up_ns=time.monotonic_ns() if gives_up else FAR_NS)
            self.asked.append((bodies, future))

    @rule()
    def look(self) -> None:
        """The replica takes what lies in its inbox; nobody hears what it says."""
        asked = self.house.replicas[0]
        if asked._inbox:
            asked._turn(asked._taken())

    @rule()
    def tend(self) -> None:
        """A second has passed."""
        asked = self.house.replicas[0]
        asked._tended_ns = 0
        asked._turn([])
        now_ns = time.monotonic_ns()
        assert all(one.give_up_ns > now_ns for entries in asked._waiting.places.values() for one, _ in entries)

    @rule()
    def decide(self) -> None:
        """All hear of everything, and decide what the replica was asked for."""
        asked = self.house.replicas[0]
        assert self.house.settle(lambda: not asked._inbox and not asked._core.pending)
        assert not asked._waiting.places and asked._waiting.count == 0

    @precondition(lambda self: not self.swapped)
    @rule()
    def change(self) -> None:
        """The committee changes while some wait; they are told."""
        asked = self.house.replicas[0]
        keys = [self.house.signers[seat].public for seat in (0, self.seat, 2, 3)]
        change = motion("membership", membership(keys))
        decision = self.house.decide(self.house.moved(change), at=3)
        self.committee, self.swapped = decisions.certified(self.house.committee, decision.evidence).known[-1], True
        assert self.house.settle(lambda: asked.status()["epoch"] == 1)
        assert asked._waiting.count == 0

    @invariant()
    def whoever_waits_is_counted(self) -> None:
        """And nobody else is kept."""
        asked = self.house.replicas[0]
        entries = [entry for waiting in asked._waiting.places.values() for entry in waiting]
        assert all(asked._waiting.places.values())
        assert asked._waiting.count == asked.status()["waiting"] == len(entries) <= replica.MOST_WAITERS
        assert all(one.said[place] is None and not one.future.done() for one, place in entries)
        waiting = {id(one.future) for one, _ in entries}
        for bodies, future in self.asked:
            if future.done():
                assert id(future) not in waiting and len(future.result()) == len(bodies)

    def teardown(self) -> None:
        """Whoever still waits for a replica that closes is told so at once."""
        asked = self.house.replicas[0]
        waiting = {id(one.future) for entries in asked._waiting.places.values() for one, _ in entries}
        waiting |= {id(event.future) for event in asked._inbox if isinstance(event, Question)}
        self.house.close()
        for _, future in self.asked:
            if id(future) in waiting:
                with pytest.raises(SwarmError, match="has been closed"):
                    future.result(0)
        assert not asked._waiting.places and asked._waiting.count == 0
        self.place.cleanup()


def test_clients_that_wait_are_counted_whatever_becomes_of_them(monkeypatch):
    monkeypatch.setattr(replica, "MOST_WAITERS", 2 * ROOM)
    run_state_machine_as_test(Clients, settings=KEEN)


@pytest.mark.parametrize("most", ["waiters", "pending"])
def test_who_is_refused_for_want_of_room_leaves_nothing_behind(still, monkeypatch, most):
    asked = still.replicas[0]
    if most == "waiters":
        monkeypatch.setattr(replica, "MOST_WAITERS", ROOM)
    else:
        asked._core._pending.most = ROOM
    for _ in range(3):
        refused = still.ask([still.moved(motion()) for _ in range(ROOM + 1)])
        asked._turn(asked._taken())
        assert all(isinstance(answer.refusal, Overloaded) for answer in refused.result(0))
        assert (asked._waiting.places, asked._waiting.count, asked._core.pending) == ({}, 0, 0)
    taken = still.ask([still.moved(motion()) for _ in range(ROOM)])
    assert still.settle(taken.done)
    assert all(answer.evidence for answer in taken.result(0))
    assert (asked._waiting.places, asked._waiting.count, asked._core.pending) == ({}, 0, 0)
