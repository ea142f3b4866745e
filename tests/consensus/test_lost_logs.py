"""A voter that lost its log: what it was told ends its silence, and in which epochs its new log can be trusted."""

from __future__ import annotations

import pytest

from consensus.simplex.core import Core
from consensus.simplex.types import NOTHING, Ask, Block, Certificate, Finality, Kind, Supply
from consensus.simulator.liars import signed
from consensus.simulator.world import Machine, World, change_body

MAY_SPEAK_FROM = 4
NONCE = 5


def after_the_end(view: int, recovered: tuple[int, int] | None) -> tuple[Core, list[Ask]]:
    """A voter that was told something after its loss, once its epoch has ended in a view; and what it asks then."""
    world = World(1)
    seals = [node.seal for node in world.nodes[:3]]
    core = Core(
        world.committee,
        world.nodes[3].seal,
        Machine(),
        world.timing,
        nonce=NONCE,
        recovered=recovered,
        check=world.ring.verify,
    )
    core.begin()
    end = Block(0, view, 1, 0, NOTHING, (change_body(world.committee.keys[::-1]),))
    votes = [signed(seal, world.committee, n, Kind.FINALIZE, view, end.digest) for n, seal in enumerate(seals)]
    proof = Certificate(Kind.FINALIZE, 0, view, end.digest, tuple((vote.voter, vote.signature) for vote in votes))
    core.handle(0, Supply((Finality((end,), proof),), (), ()), 1)
    turn = core.wake(core.next_wake)
    assert core.committee.epoch == 1
    return core, [message for _, message in turn.messages if isinstance(message, Ask) and message.nonce]


@pytest.mark.parametrize("view", [MAY_SPEAK_FROM, MAY_SPEAK_FROM + 3])
def test_an_epoch_that_ended_after_the_loss_leaves_the_log_whole(view: int) -> None:
    core, asked = after_the_end(view, (0, MAY_SPEAK_FROM))
    assert core.whole and not core.abstaining and core.recovered is None
    assert not asked


@pytest.mark.parametrize("recovered", [(0, MAY_SPEAK_FROM), None])
def test_an_epoch_whose_end_the_lost_life_may_have_seen_leaves_the_voter_silent_in_the_next(
    recovered: tuple[int, int] | None,
) -> None:
    core, asked = after_the_end(MAY_SPEAK_FROM - 1, recovered)
    assert not core.whole and core.abstaining
    assert [ask.nonce for ask in asked] == [NONCE]


def test_who_was_told_nothing_is_silent_whenever_the_epoch_ended() -> None:
    core, asked = after_the_end(MAY_SPEAK_FROM + 3, None)
    assert not core.whole and core.abstaining and asked
