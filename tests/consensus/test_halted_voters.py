"""After failed views: who missed how they ended takes part again, and who has seen too many votes no more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import pytest

from consensus.simplex import chain, types
from consensus.simplex import core as simplex
from consensus.simplex.core import Core
from consensus.simplex.types import Ask, Certificate, Kind, Message, Notice, Proposal, Request, Supply, Vote
from consensus.simulator.world import MS, Weather, World

MOST_VIEWS = 8
SLOW = Weather(delay_ms=(6000.0, 7000.0))  # slower than 64 times the timers: no view can end well


def test_a_committee_whose_views_fail_for_ever_stops_and_needs_a_person() -> None:
    a_network_too_slow_for_any_timer(Core)


def a_network_too_slow_for_any_timer(core: type[Core]) -> None:
    """What a replica keeps is bounded thereby; that the network is well again changes nothing."""
    everybody = range(4)
    with patch.object(simplex, "MOST_OPEN_VIEWS", MOST_VIEWS):
        world = World(3, core=core, weather=SLOW)
        for number in everybody:
            world.submit(number, b"request")
        assert world.run(200_000, stop=lambda: all(node.core.view == MOST_VIEWS + 1 for node in world.nodes))
        world.run(world.now / MS + 50_000)
        world.heal()
        assert not world.run(world.now / MS + 5000, stop=lambda: world.all_decided([b"request"], [0]))
        assert all(node.core.halted and not node.core.broken for node in world.nodes)
        assert {(node.core.view, node.core.open_views) for node in world.nodes} == {(MOST_VIEWS + 1, MOST_VIEWS + 1)}
        assert not any(node.core._views[MOST_VIEWS + 1].own for node in world.nodes)


@pytest.mark.parametrize("failed", [MOST_VIEWS - 1, 3 * MOST_VIEWS])
def test_who_missed_more_failed_views_than_one_supply_tells_of_takes_part_again(failed: int) -> None:
    with patch.object(simplex, "MOST_CERTIFICATES", MOST_VIEWS):
        world = World(3, weather=SLOW)
        world.cut = lambda a, b: 3 in (a, b)
        for number in range(3):
            world.submit(number, b"request")
        assert world.run(1_000_000, stop=lambda: all(node.core.view > failed for node in world.nodes[:3]))
        world.heal()
        world.crash(0)
        assert world.run(world.now / MS + 30_000, stop=lambda: world.all_decided([b"request"], [1, 2, 3]))


def test_who_missed_more_decisions_than_a_supply_may_hold_is_told_of_them_all() -> None:
    """However little each of them says: a supply of more is refused by whoever reads it."""
    most, bodies = 4, [b"%d" % number for number in range(12)]
    with patch.object(chain, "MOST_BLOCKS", most), patch.object(types, "MOST_BLOCKS", most):
        world = World(3, wire=True)
        world.cut = lambda a, b: 3 in (a, b)
        for body in bodies:
            world.submit(0, body)
            assert world.run(world.now / MS + 2000, stop=partial(world.all_decided, [body], [0, 1, 2]))
        assert len(world.nodes[0].core.chain.proofs_above(0)) > most
        world.heal()
        assert world.run(world.now / MS + 10_000, stop=partial(world.all_decided, bodies))


def test_who_is_helped_unasked_and_sees_that_it_lacks_more_is_answered_at_once() -> None:
    """Its question comes within a journey there and back of that help, always: it must not be refused as too soon."""
    world = World(3)
    world.cut = lambda a, b: 3 in (a, b)
    for number in range(3):
        world.submit(0, b"%d" % number)
        assert world.run(world.now / MS + 2000, stop=partial(world.all_decided, [b"%d" % number], [0, 1, 2]))
    (_, standing), *_ = world.nodes[3].core.wake(world.now + 10**9).messages
    core, now = world.nodes[0].core, world.now + 10**9

    def given(message: Message, after_ns: int) -> list[Supply]:
        return [said for _, said in core.handle(3, message, now + after_ns).messages if isinstance(said, Supply)]

    (unasked,) = given(standing, 0)
    assert len(unasked.final) == 1
    (answer,) = given(Ask(0, (), 0, 1), 1)
    assert len(answer.final) == 3
    assert not given(standing, 2) and not given(Ask(0, (), 0, 1), 2), "each not more often than is of use"


def test_who_know_different_ends_of_a_view_are_told_of_each_others() -> None:
    """One voter saw view 1 notarised, the others saw it given up, and all that passes either on was lost. Then one of
    the others ends: what is left can only decide together."""
    leader, ended = 1, 0
    world = World(3)
    transmit, storm = world._transmit, True

    def arrives(target: int, message: Message | bytes) -> bool:
        match message:
            case Request():
                return True
            case Proposal():
                return message.block.view == 1
            case Vote(kind=Kind.NOTARIZE, view=1):
                return target == leader
            case Vote(kind=Kind.NULLIFY, view=1):
                return target != leader
            case Vote(kind=Kind.NULLIFY, view=2):
                return True
        return False

    def lossy(source: int, target: int, message: Message | bytes) -> None:
        if not storm or arrives(target, message):
            transmit(source, target, message)

    with patch.object(world, "_transmit", lossy):
        world.submit(leader, b"request")
        assert world.run(2000, stop=lambda: all(node.core.view == 3 for node in world.nodes))
        ends = [set(node.core._views[1].certificates) for node in world.nodes]
        assert ends == [{Kind.NOTARIZE} if number == leader else {Kind.NULLIFY} for number in range(4)]
        world.crash(ended)
        storm = False
        assert world.run(world.now / MS + 5000, stop=lambda: world.all_decided([b"request"], [1, 2, 3]))


def test_who_lacks_a_block_is_given_it_however_large_the_last_proof_of_finality() -> None:
    """Voter 3 missed one proposal, whose block the others notarised. Then one of them ends: what is left needs 3."""
    world = World(3)
    transmit, unfinished, apart = world._transmit, True, False
    cores = [node.core for node in world.nodes]

    def lossy(source: int, target: int, message: Message | bytes) -> None:
        vote = message.certificate if isinstance(message, Notice) else message
        finalises = isinstance(vote, (Vote, Certificate)) and vote.kind is Kind.FINALIZE
        missed = target == 3 and isinstance(message, (Proposal, Supply))
        if not (unfinished and finalises) and not (apart and missed):
            transmit(source, target, message)

    def until(condition: Callable[[], bool]) -> bool:
        return world.run(world.now / MS + 5000, stop=condition)

    with patch.object(world, "_transmit", lossy), patch.object(chain, "SUPPLY_BYTES", 4096):
        for number in range(6):
            world.submit(0, b"%d" % number + bytes(1024))
            world.run(world.now / MS + 30)
        unfinished = False
        assert until(lambda: world.all_decided([b"%d" % number + bytes(1024) for number in range(6)]))
        assert len(cores[0].chain.proof(cores[0].chain.height).blocks) > 4
        assert world.committee.leader(cores[0].view) != 3

        unfinished = apart = True
        view = cores[0].view
        world.submit(world.committee.leader(view), b"missed")
        assert until(lambda: all(core.view > view for core in cores))
        assert cores[3]._wanted
        ended = next(number for number in range(3) if number != world.committee.leader(view))
        world.crash(ended)
        unfinished = apart = False
        assert until(lambda: world.all_decided([b"missed"], [number for number in range(4) if number != ended]))


def test_who_sees_that_certificates_contradict_each_other_decides_nothing_more() -> None:
    two_that_decide_apart(Core)


def two_that_decide_apart(core: type[Core]) -> None:
    """Both voters who live twice helped each of them; neither may lengthen a chain that it knows to be forked."""
    world = World(3, twins=[0, 1], core=core)
    world.judge.strict = False
    apart = [world.nodes[number] for number in (2, 3)]
    world.cut = lambda a, b: (a in (0, 1, 2)) != (b in (0, 1, 2))
    for node in apart:
        world.submit(node.number, b"first of %d" % node.number)
    assert world.run(2000, stop=lambda: all(node.core.chain.height for node in apart))
    assert len({node.core.chain.block(1) for node in apart}) == 2
    world.heal()
    assert world.run(world.now / MS + 2000, stop=lambda: all(node.core.broken for node in apart))
    heights = [node.core.chain.height for node in apart]
    for node in apart:
        world.submit(node.number, b"next")
    world.run(world.now / MS + 2000)
    assert [node.core.chain.height for node in apart] == heights
    assert all(node.core.halted for node in apart)
