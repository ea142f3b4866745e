"""How long a committee waits for a leader, in virtual time: until a view ends, or not at all where it is known dead."""

from __future__ import annotations

import pytest

from consensus.simplex.core import Timing, Turn
from consensus.simplex.types import NOTHING, Certificate, Kind, Message, Supply, Vote
from consensus.simulator.world import MS, Node, World

PROPOSAL_MS = Timing().proposal_ns / MS
ROUND_MS = 5.0  # three hops of the calm network, generously


def decided_after(world: World, asked: list[int], body: bytes) -> float:
    """Milliseconds until these nodes, all of whom are asked, have decided."""
    begun = world.now
    for number in asked:
        world.submit(number, body)
    assert world.run(begun / MS + 1000, stop=lambda: world.all_decided([body], asked))
    return (world.now - begun) / MS


@pytest.mark.parametrize(("told", "waits"), [(True, False), (False, True)])
def test_a_leader_that_is_known_dead_is_not_waited_for(told: bool, waits: bool) -> None:
    world = World(3)
    leader = world.committee.leader(1)
    others = [number for number in range(4) if number != leader]
    world.nodes[leader].alive = False
    if told:
        for number in others:
            world.tell_of_loss(number, leader)
    taken = decided_after(world, others, b"first")
    assert taken >= PROPOSAL_MS if waits else taken < 2 * ROUND_MS


def test_a_leader_of_whom_it_is_said_wrongly_leads_again_once_it_is_heard() -> None:
    world = World(3)
    everybody = range(4)
    wronged = world.committee.leader(1)
    for number in everybody:
        if number != wronged:
            world.tell_of_loss(number, wronged)
    assert decided_after(world, [*everybody], b"first") < 3 * ROUND_MS
    assert world.nodes[0].core.nullified_views == 1
    for number in range(8):
        assert decided_after(world, [*everybody], b"request %d" % number) < ROUND_MS
    assert world.nodes[0].core.nullified_views == 1
    led = {world.committee.leader(world.nodes[0].core.chain.block(height).view) for height in range(1, 10)}
    assert led == set(everybody)


def forger(node: Node, turn: Turn) -> list[tuple[int | None, Message | bytes]]:
    """Gives every view up in everybody's name, its leader's first, with signatures that are none."""
    core = node.core
    c, leader = core.committee, core.committee.leader(core.view)
    named = sorted(range(len(c.keys)), key=lambda voter: voter != leader)
    forged = [Vote(Kind.NULLIFY, c.epoch, core.view, NOTHING, voter, bytes(64)) for voter in named]
    return [*((None, vote) for vote in forged), *turn.messages]


def test_nobody_ends_a_view_or_keeps_the_others_at_it_in_anothers_name() -> None:
    world = World(3, liars={3: forger})
    world.run(3000)
    assert all(node.core.passed_views == 0 for node in world.honest)
    assert decided_after(world, [0, 1, 2], b"at last") < PROPOSAL_MS + ROUND_MS
    world.run(world.now / MS + 1000)
    assert {node.core.nullified_views for node in world.honest} <= {0, 1}  # the forger's own turn, at most


def test_certificates_that_are_none_leave_nothing_behind() -> None:
    world = World(3)
    core = world.nodes[0].core
    for view in range(1, 1000):
        made = Certificate(Kind.NULLIFY, 0, view, NOTHING, tuple((voter, bytes(64)) for voter in range(3)))
        core.handle(1, Supply((), (), (made,)), view)
    assert len(core._views) == 1
