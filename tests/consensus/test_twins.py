"""Twins (Bano et al., 2020): a voter lives twice with one key, and the network takes sides; and what more than f do.

Partitions are enumerated, not drawn: every way to split five nodes in two, one after the other.
"""

from __future__ import annotations

import random
from functools import partial
from itertools import product

import pytest

from consensus.simplex.core import Timing
from consensus.simulator.judge import Foul
from consensus.simulator.liars import LIARS
from consensus.simulator.world import MS, World

TIMING = Timing(standing_ns=100 * MS)
ROUND_MS = 130.0
SPLITS = [frozenset(node for node in range(1, 5) if bits >> (node - 1) & 1) for bits in range(16)]
"""Nodes on the other side than node 0, of 0 to 3 and 4, which is 0's twin."""
BATCHES = 8


def divided(world: World, side: frozenset[int]) -> None:
    """Let nothing through between those in ``side`` and the rest."""
    world.cut = lambda a, b: (a in side) != (b in side)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_two_splits_let_twins_divide_the_committee(batch: int) -> None:
    cases = list(product(SPLITS, repeat=2))
    assert len(cases) == 256
    for number, case in enumerate(cases[batch::BATCHES]):
        world = World(number, nodes=4, twins=[0], timing=TIMING)
        asked = []
        for turn, side in enumerate(case):
            world.at(turn * ROUND_MS, partial(divided, world, side))
            for node in range(5):
                body = b"%d asks %d" % (node, turn)
                world.at(turn * ROUND_MS + 5, partial(world.submit, node, body))
                if 0 < node < 4:
                    asked.append(body)
        world.run(2 * ROUND_MS)
        world.heal()
        assert world.run(20_000, stop=lambda w=world, a=asked: w.all_decided(a)), case


def test_longer_sequences_by_chance() -> None:
    chance = random.Random(5)
    for number in range(60):
        world = World(1000 + number, nodes=7, twins=[0, 1], timing=TIMING)
        asked = []
        for turn in range(6):
            side = frozenset(chance.sample(range(9), chance.randint(0, 8)))
            world.at(turn * ROUND_MS, partial(divided, world, side))
            body = b"asked in round %d" % turn
            world.at(turn * ROUND_MS + 5, partial(world.submit, 2 + turn % 5, body))
            asked.append(body)
        world.run(6 * ROUND_MS)
        world.heal()
        assert world.run(20_000, stop=lambda w=world, a=asked: w.all_decided(a)), number


def test_with_more_than_f_silent_nothing_is_certified_and_nobody_dies() -> None:
    for size in (4, 7):
        faults = (size - 1) // 3
        silent = {number: LIARS["silent"](random.Random(0)) for number in range(faults + 1)}
        world = World(3, nodes=size, liars=silent, timing=TIMING)
        world.submit(size - 1, b"in vain")
        world.run(10_000)
        for node in world.honest:
            assert node.core.chain.height == 0 and node.core.view == 1 and node.core.pending == 1
            assert not node.core.halted
        for number in silent:
            world.nodes[number].hands = None  # they come back to their senses
            world.judge._heights[number] = 0
        assert world.run(20_000, stop=lambda w=world: w.all_decided([b"in vain"]))


def test_with_more_than_f_lying_it_is_noticed_and_who_lied_is_named() -> None:
    """Nothing is promised then; but certificates that contradict each other are proof against all who signed both."""
    named = halted = fouls = 0
    for seed in range(12):
        world = World(seed, nodes=4, twins=[0, 1], timing=TIMING)
        world.judge.strict = False
        divided(world, frozenset({3, 4, 5}) if seed % 2 else frozenset({2, 4, 5}))
        for node in range(6):
            world.submit(node, b"%d says" % node)
        world.run(400)
        world.heal()
        for node in (2, 3):
            world.submit(node, b"%d says again" % node)
        try:
            world.run(5000)
        except Foul as foul:
            assert "decided" in str(foul)
            fouls += 1
        assert set(world.judge.accused) <= {0, 1, 4, 5}
        named += bool(world.judge.accused)
        halted += any(node.core.broken for node in world.honest)
    assert named == 12, (named, halted, fouls)
    assert halted == 12, (named, halted, fouls)
