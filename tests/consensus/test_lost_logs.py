"""A voter that lost its log: what it was told ends its silence, and in which epochs its new log can be trusted."""

from __future__ import annotations

import pytest

from consensus.simplex.core import Core
from consensus.simplex.types import NOTHING, Ask, Block, Certificate, Finality, Kind, Supply, Vote
from consensus.simulator.liars import signed
from consensus.simulator.world import MS, Machine, Node, World, change_body

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


def test_a_voter_keeps_silent_in_the_view_behind_the_last_that_it_is_told_of() -> None:
    a_view_that_only_the_lost_life_saw(Core)


def a_view_that_only_the_lost_life_saw(core: type[Core]) -> None:
    """It had collected the votes that ended a view, and led the next one, before anybody else knew of either."""
    world = World(3, core=core)
    loser = world.nodes[2]
    world.cut = lambda source, target: source == loser.number or 1 in (source, target)
    for number in (0, 3):
        world.submit(number, b"request")
    world.submit(loser.number, b"before the loss")
    assert world.run(100, stop=lambda: loser.core.view == 2)
    world.run(world.now / MS + 2)
    assert [record.view for record in loser.disk if isinstance(record, Block)] == [2]
    assert [world.nodes[number].core.view for number in (0, 1, 3)] == [1] * 3
    world.heal()
    loses_its_log(world, loser)
    all_is_decided_with_the_voter(world, loser, b"after the loss")


def test_a_voter_keeps_silent_until_a_quorum_has_told() -> None:
    some_who_know_nothing_and_one_who_lies(Core)


def some_who_know_nothing_and_one_who_lies(core: type[Core]) -> None:
    """Two of seven were cut off from the views that it voted in, and one who was there says that it was not, too.

    The liar lives twice, and is a stranger to those views in its second life. A lost log and a liar: f are faulty.
    """
    world = World(3, nodes=7, twins=[0], core=core)
    loser, apart = world.nodes[3], {1, 2, 7}
    world.cut = lambda a, b: (a in apart) != (b in apart) or (a == loser.number and loser.core.view == 3)
    for number in (3, 4, 5, 6):
        world.submit(number, b"request")
    assert world.run(200, stop=lambda: loser.core.view == 3)
    world.run(world.now / MS + 2)
    assert [record.view for record in loser.disk if isinstance(record, Block)] == [3]
    apart.add(loser.number)
    loses_its_log(world, loser)
    world.run(world.now / MS + 10)
    assert loser.core._loss.answers == {0: 1, 1: 1, 2: 1}  # f + 1
    world.heal()
    all_is_decided_with_the_voter(world, loser, b"after the loss")


def loses_its_log(world: World, loser: Node) -> None:
    """And begins anew at once, without a rumour of its death: others would give its view up."""
    loser.alive = False
    world.restart(loser.number, with_disk=False)


def all_is_decided_with_the_voter(world: World, loser: Node, body: bytes) -> None:
    """It leads the view of its last vote once more, and has another request now; later it votes again."""
    world.submit(loser.number, body)
    assert world.run(world.now / MS + 1000, stop=lambda: world.all_decided([b"request", body]))
    for number in range(8):
        world.submit(0, b"later %d" % number)
        world.run(world.now / MS + 500)
    assert any(isinstance(record, Vote) for record in loser.disk)
