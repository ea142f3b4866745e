"""How long a committee waits for a leader, in virtual time: until a view ends, or not at all where it is known dead."""

from __future__ import annotations

import pytest

from consensus.simplex.core import Timing
from consensus.simulator.world import MS, World

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
