"""All replicas end at once and come back with their disks, maybe without f of them: what was under way is decided."""

from __future__ import annotations

import random
from functools import partial

import pytest

from consensus.simplex.types import Kind
from consensus.simulator.world import MS, Weather, World

BATCHES = 4
CUTS = 48


def test_who_comes_back_with_a_vote_for_a_proposal_that_nobody_else_has_seen_gives_the_view_up() -> None:
    world = World(3)
    leader = world.committee.leader(1)
    first, *others = (number for number in range(4) if number != leader)
    world.cut = lambda source, target: source == leader and target in others
    world.submit(leader, b"under way")
    world.run(3)
    voted = {node.number for node in world.nodes if 1 in node.core._views and Kind.NOTARIZE in node.core._views[1].own}
    assert voted == {leader, first}
    for number in range(4):
        world.crash(number)
    world.cut = None
    for number in (first, *others):
        world.restart(number)
        world.submit(number, b"request")
    world.run(100)
    world.restart(leader)  # the others have given its view up by now
    assert world.run(world.now / MS + 1000, stop=lambda: world.all_decided([b"request"]))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_what_was_asked_is_decided_after_a_power_cut(batch: int) -> None:
    for seed in range(batch, CUTS, BATCHES):
        assert decided_after_a_cut(seed), f"seed {seed}"


def decided_after_a_cut(seed: int) -> bool:
    chance = random.Random(seed)
    size = chance.choice([4, 4, 7])
    weather = Weather(delay_ms=(0.1, chance.choice([2.0, 15.0])), disk_ms=(0.0, chance.choice([0.2, 3.0])))
    world = World(seed, nodes=size, weather=weather)
    asked = [b"request %d" % number for number in range(10)]
    for body in asked:
        world.at(chance.uniform(0, 60), partial(world.submit, chance.randrange(size), body))
    world.run(chance.uniform(1, 60))
    away = chance.sample(range(size), chance.choice([0, (size - 1) // 3]))
    back = [number for number in range(size) if number not in away]
    for number in range(size):
        world.crash(number)
    begun, spread = world.now / MS, chance.choice([5.0, 50.0, 300.0])
    for number in back:
        world.at(begun + 50 + chance.uniform(0, spread), partial(world.restart, number))
    world.run(begun + 50 + spread)
    for body in asked:
        for number in back:
            world.submit(number, body)
    return world.run(world.now / MS + 20_000, stop=lambda: world.all_decided(asked, back))
