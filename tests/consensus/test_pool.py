"""Requests that wait: whoever brings many is in nobody's way."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from consensus.simplex.core import Core
from consensus.simplex.pool import OWN, Pool
from consensus.simplex.types import MOST_REQUEST_BYTES, Proposal, Request
from consensus.simulator.world import World, change_body

SOURCES = 4
SUBJECTS = st.integers(0, 20).map(lambda number: b"subject %d" % number)
FROM = st.sampled_from([OWN, *range(SOURCES)])


class PoolAgainstLists(RuleBasedStateMachine):
    """A pool beside one list of (subject, request) for each source."""

    @initialize(most=st.integers(1, 12))
    def begin(self, most: int) -> None:
        self.pool, self.most = Pool(most, SOURCES), most
        self.lists: dict[int, list[tuple[bytes, bytes]]] = {source: [] for source in (OWN, *range(SOURCES))}

    @rule(subject=SUBJECTS, source=FROM, number=st.integers(0, 3))
    def add(self, subject: bytes, source: int, number: int) -> None:
        body = subject + b" %d" % number
        held = next((other for other, pairs in self.lists.items() if subject in dict(pairs)), None)
        full = len(self.lists[source]) >= (self.most if source == OWN else max(1, self.most // SOURCES))
        stays = held is not None and (held == OWN or source != OWN)
        assert self.pool.add(subject, body, source) == (stays or not full)
        if not stays and not full:
            self.drop(subject)
            self.pool.add(subject, body, source)
            self.lists[source].append((subject, body))

    @rule(subject=SUBJECTS)
    def drop(self, subject: bytes) -> None:
        self.pool.drop(subject)
        self.lists = {source: [pair for pair in pairs if pair[0] != subject] for source, pairs in self.lists.items()}

    @rule(sources=st.integers(1, SOURCES))
    def keep(self, sources: int) -> None:
        later = self.pool.kept(lambda body: body.endswith(b"1"), sources)
        kept = {body for _, body in later.in_turn()}
        assert kept <= {body for pairs in self.lists.values() for _, body in pairs if body.endswith(b"1")}
        assert {body for _, body in self.lists[OWN] if body.endswith(b"1")} <= kept

    @invariant()
    def all_wait_in_turn(self) -> None:
        pairs = list(self.pool.in_turn())
        rounds = [
            self.lists[source][place]
            for place in range(self.most)
            for source in sorted(self.lists)
            if place < len(self.lists[source])
        ]
        assert pairs == rounds
        assert len(self.pool) == len(rounds)


TestPoolAgainstLists = PoolAgainstLists.TestCase


def flooded(most: int) -> tuple[World, Core, int]:
    """A core that leads, with as many requests as another voter gets in, and how many those are."""
    world = World(1)
    number = world.committee.leader(2)
    core = world.nodes[number].core
    flooder = (number + 1) % 4
    for each in range(most):
        core.handle(flooder, Request(b"flood %d" % each), 0)
    return world, core, len(core._pending)


def test_a_voter_that_brings_requests_without_end_fills_its_own_share_alone() -> None:
    world, core, brought = flooded(6000)
    assert 0 < brought <= world.timing.most_pending // 4
    honest = next(voter for voter in range(4) if voter not in {core.voter, (core.voter or 0) + 1})
    before = core.pending
    core.handle(honest, Request(b"honest"), 0)
    assert core.pending == before + 1
    assert core.submit([b"own %d" % each for each in range(world.timing.most_pending)], 0) is not None


def test_what_a_client_asks_for_is_in_the_next_block_however_much_others_bring() -> None:
    world = World(1)
    leader = world.committee.leader(1)
    core = world.nodes[leader].core
    flooder = (leader + 1) % 4
    core._pending.most = 4096
    for each in range(500):
        core._take(b"flood %d" % each, flooder)
    turn = core.submit([b"own"], 0)
    assert turn is not None
    (proposal,) = [message for _, message in turn.messages if isinstance(message, Proposal)]
    assert proposal.block.requests[0] == b"own"
    assert len(proposal.block.requests) > 1  # the others are not kept out either


def test_what_a_client_asks_for_waits_no_longer_because_somebody_brought_it_before() -> None:
    world = World(1)
    leader = world.committee.leader(1)
    core = world.nodes[leader].core
    for each in range(500):
        core._take(b"flood %d" % each, (leader + 1) % 4)
    core._take(b"own, in other words", (leader + 1) % 4)
    turn = core.submit([b"own"], 0)
    assert turn is not None
    (proposal,) = [message for _, message in turn.messages if isinstance(message, Proposal)]
    assert proposal.block.requests[0] == b"own"


def test_large_requests_of_one_voter_keep_no_small_one_waiting() -> None:
    """A veto needs one approval: with its own key one voter makes as many as it likes, as large as it likes."""
    world = World(1)
    leader = world.committee.leader(1)
    core = world.nodes[leader].core
    for each in range(100):
        core._take(b"%d" % each + bytes(MOST_REQUEST_BYTES - 100), (leader + 1) % 4)
    own = [b"own %d" % each for each in range(40)]
    turn = core.submit([bytes([1]) * MOST_REQUEST_BYTES, *own], 0)
    assert turn is not None
    (proposal,) = [message for _, message in turn.messages if isinstance(message, Proposal)]
    assert set(own) < set(proposal.block.requests)
    assert len(proposal.block.requests[0]) == MOST_REQUEST_BYTES  # what is large is not kept out for ever
    assert len(proposal.block.requests) > len(own) + 1


def test_a_change_of_the_committee_has_room_and_goes_first_however_much_waits() -> None:
    world = World(1, spare=1)
    leader = world.committee.leader(1)
    core = world.nodes[leader].core
    change = change_body((*world.committee.keys[:3], world.nodes[4].seal.public))
    for each in range(world.timing.most_pending):
        core._take(b"own %d" % each, OWN)
    assert core.submit([b"one more"], 0) is None
    with patch.object(core, "_propose"):  # it is not its turn yet
        assert core.submit([change], 0) is not None
        assert core.submit([change], 0) is not None
    turn = core.wake(0)
    (proposal,) = [message for _, message in turn.messages if isinstance(message, Proposal)]
    assert proposal.block.requests == (change,)


def test_a_change_of_the_committee_waits_for_no_turn() -> None:
    world = World(1, spare=1)
    leader = world.committee.leader(1)
    core = world.nodes[leader].core
    keys = (*world.committee.keys[:3], world.nodes[4].seal.public)
    for each in range(10):
        core._take(b"request %d" % each, leader)
    core._take(change_body(keys), (leader + 1) % 4)
    turn = core.submit([b"own"], 0)
    assert turn is not None
    (proposal,) = [message for _, message in turn.messages if isinstance(message, Proposal)]
    assert proposal.block.requests == (change_body(keys),)
