"""How long a committee waits for a leader, in virtual time: until a view ends, or not at all where it is known dead."""

from __future__ import annotations

import random

import pytest

from consensus.simplex.core import Core, Timing, Turn
from consensus.simplex.types import NOTHING, Ask, Certificate, Kind, Message, Proposal, Request, Supply, Vote
from consensus.simulator.liars import forger, signed
from consensus.simulator.world import MS, Node, Weather, World

PROPOSAL_MS, VIEW_MS = Timing().proposal_ns / MS, Timing().view_ns / MS
ROUND_MS = 8.0  # four hops of the calm network, generously: the last is the leader's word that it is done


def decided_after(world: World, asked: list[int], body: bytes, within_ms: float = 1000.0) -> float:
    """Milliseconds until these nodes, all of whom are asked, have decided."""
    begun = world.now
    for number in asked:
        world.submit(number, body)
    assert world.run(begun / MS + within_ms, stop=lambda: world.all_decided([body], asked))
    return (world.now - begun) / MS


def test_a_leader_that_proposes_to_some_and_says_nothing_else_costs_little() -> None:
    a_leader_that_proposes_to_some(Core)


def a_leader_that_proposes_to_some(core: type[Core]) -> None:
    """Who was left out gives the view up, and hears then that it was notarised: the next one needs that voter."""

    def leaves_one_out(node: Node, turn: Turn) -> list[tuple[int | None, Message | bytes]]:
        said = [message for _, message in turn.messages if isinstance(message, Proposal)]
        return [(1 + (one.block.view + other) % 3, one) for one in said for other in range(2)]

    world = World(5, liars={0: leaves_one_out}, core=core)
    taken = [decided_after(world, [1, 2, 3], b"request %d" % number) for number in range(40)]
    assert sum(taken) / len(taken) < 2 * PROPOSAL_MS


@pytest.mark.parametrize("told", [True, False])
def test_a_leader_that_is_known_dead_is_not_waited_for(told: bool) -> None:
    a_leader_that_is_dead(Core, told=told)


def a_leader_that_is_dead(core: type[Core], *, told: bool) -> None:
    world = World(3, core=core)
    leader = world.committee.leader(1)
    others = [number for number in range(4) if number != leader]
    world.nodes[leader].alive = False
    if told:
        for number in others:
            world.tell_of_loss(number, leader)
    taken = decided_after(world, others, b"first")
    assert taken < 2 * ROUND_MS if told else taken >= PROPOSAL_MS


def test_a_leader_that_was_silent_in_its_turns_is_not_waited_for_until_it_is_heard() -> None:
    a_leader_that_nobody_hears(Core)


def a_leader_that_nobody_hears(core: type[Core]) -> None:
    """Nobody is told that it is dead; back again, it has its turns like everybody, once all have heard it."""
    world = World(3, core=core)
    silent, *others = range(4)
    world.nodes[silent].alive = False

    def longest(requests: range, asked: list[int]) -> float:
        return max(decided_after(world, asked, b"request %d" % number) for number in requests)

    skip = Timing().skip_views
    assert longest(range(skip), others) >= PROPOSAL_MS
    assert longest(range(skip, 2 * skip), others) < 2 * ROUND_MS
    world.restart(silent)
    heard = 2 * skip + 4
    longest(range(2 * skip, heard), [silent, *others])
    assert longest(range(heard, 3 * skip), [silent, *others]) < 2 * ROUND_MS
    led = [world.committee.leader(world.nodes[1].core.chain.block(height).view) for height in range(1, 3 * skip + 1)]
    assert silent not in led[: 2 * skip] and silent in led[heard:]


def test_a_leader_that_gives_its_own_view_up_is_not_waited_for() -> None:
    a_leader_that_gives_its_view_up(Core)


def a_leader_that_gives_its_view_up(core: type[Core]) -> None:
    """Where it would propose; it says nothing else."""

    def gives_up(node: Node, turn: Turn) -> list[tuple[int | None, Message | bytes]]:
        said = [message.block.view for _, message in turn.messages if isinstance(message, Proposal)]
        return [(None, signed(node.seal, world.committee, 1, Kind.NULLIFY, view, NOTHING)) for view in said]

    world = World(3, liars={1: gives_up}, core=core)
    assert world.committee.leader(1) == 1
    world.run(100)  # liars draw breath
    assert decided_after(world, [0, 2, 3], b"request") < 2 * ROUND_MS


@pytest.mark.parametrize("early", [False, True])
def test_a_leader_that_gives_its_view_up_before_others_are_in_it_is_not_waited_for_either(early: bool) -> None:
    world = World(3)
    core, leader = world.nodes[0].core, world.committee.leader(2)
    given_up = signed(world.nodes[leader].seal, world.committee, leader, Kind.NULLIFY, 2, NOTHING)
    said = [(leader, given_up), (3, Supply((), (), (nullification(world, 1),)))]
    core.submit([b"request"], 0)
    turns = [core.handle(sender, message, 1) for sender, message in (said if early else reversed(said))]
    assert [message.kind for _, message in turns[-1].messages if isinstance(message, Vote)] == [Kind.NULLIFY]


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


@pytest.mark.parametrize("ended", [False, True])
def test_finalize_votes_that_their_leader_does_not_use_are_said_to_all_or_made_up_for(ended: bool) -> None:
    a_leader_that_hears_nothing(Core, ended=ended)


def a_leader_that_hears_nothing(core: type[Core], *, ended: bool) -> None:
    """Those who hear that its process has ended need no other block; the others make one."""
    world = World(3, core=core)
    leader = world.committee.leader(1)
    others = [number for number in range(4) if number != leader]
    world.cut = lambda _, target: target == leader
    world.submit(leader, b"request")
    assert not world.run(ROUND_MS, stop=lambda: any(world.all_decided([b"request"], [other]) for other in others))
    assert all(Kind.FINALIZE in world.nodes[other].core._views[1].own for other in others)
    for other in others if ended else ():
        world.tell_of_loss(other, leader)
    within_ms = ROUND_MS if ended else VIEW_MS  # a block that helps comes after half a view
    assert world.run(world.now / MS + within_ms, stop=lambda: world.all_decided([b"request"], others))
    assert [world.nodes[other].core.view for other in others] == [2 if ended else 3] * 3


def test_a_leader_that_has_enough_finalize_votes_says_so_at_once() -> None:
    four_decide_without_another_block(Core)


def four_decide_without_another_block(core: type[Core]) -> None:
    world = World(3, core=core)
    assert decided_after(world, [*range(4)], b"request") < ROUND_MS
    assert {node.core.view for node in world.nodes} == {2}


def test_a_network_slower_than_the_timers_costs_some_views_once_and_not_with_every_decision() -> None:
    a_network_slower_than_the_timers(Core)


def a_network_slower_than_the_timers(core: type[Core]) -> None:
    everybody = range(4)
    world = World(3, core=core, weather=Weather(delay_ms=(70.0, 75.0)))  # a view takes two of them, and may take 60

    def longest(requests: range) -> float:
        return max(decided_after(world, [*everybody], b"request %d" % number, 2000.0) for number in requests)

    assert longest(range(6)) > 500.0  # some views fail at first
    assert longest(range(6, 30)) < 450.0  # six delays, of which four are the protocol's
    world.heal()
    assert longest(range(30, 50)) < 300.0
    assert {node.core._pace.factor for node in world.nodes} == {1}


def test_a_block_that_takes_its_time_to_become_final_costs_no_view() -> None:
    a_network_a_little_slower_than_usual(Core)


def a_network_a_little_slower_than_usual(core: type[Core]) -> None:
    """Two delays until a block is final once it is notarised: longer than a proposal may take."""
    world = World(3, core=core, weather=Weather(delay_ms=(17.0, 19.0)))
    for number in range(20):
        decided_after(world, [0], b"request %d" % number)
    assert {node.core.nullified_views for node in world.nodes} == {0}


@pytest.mark.parametrize("behind", [False, True])
def test_a_leader_from_whom_a_request_is_kept_is_not_given_up_for_it(behind: bool) -> None:
    a_request_that_is_told_to_some(Core, behind=behind)


def a_request_that_is_told_to_some(core: type[Core], *, behind: bool) -> None:
    """A liar tells f+1 of it, and gives the view up with them; before it was ``behind`` it led, and kept to itself that
    its block is final: then the leader has something to wait for, and waits longer than others do for a proposal."""

    def keeps_to_itself(_node: Node, turn: Turn) -> list[tuple[int | None, Message | bytes]]:
        return [(to, said) for to, said in turn.messages if isinstance(said, (Proposal, Vote))]

    liar, view, leader = (1, 2, 2) if behind else (3, 1, 1)
    world = World(3, liars={liar: keeps_to_itself}, core=core)
    honest = [number for number in range(4) if number != liar]
    assert world.committee.leader(view) == leader
    world.run(100)  # liars draw breath
    if behind:
        world.submit(liar, b"first")
        assert world.run(120, stop=lambda: all(world.nodes[number].core.view == view for number in honest))
    given_up = signed(world.nodes[liar].seal, world.committee, liar, Kind.NULLIFY, view, NOTHING)
    for number in honest:
        world._transmit(liar, number, given_up)
        if number != leader:
            world._transmit(liar, number, Request(b"kept from its leader"))
    assert world.run(world.now / MS + 2 * VIEW_MS, stop=lambda: world.all_decided([b"kept from its leader"], honest))
    assert {world.nodes[number].core.nullified_views for number in honest} == {0}


def test_a_request_that_its_leader_proposed_to_one_alone_waits_for_no_repetition() -> None:
    a_proposal_to_one_alone(Core)


def a_proposal_to_one_alone(core: type[Core]) -> None:
    """Who was asked for it said it to nobody, since it was under way; with its view that voter gives this up too."""

    def to_one(_node: Node, turn: Turn) -> list[tuple[int | None, Message | bytes]]:
        return [(3, said) for _, said in turn.messages if isinstance(said, Proposal)]

    world = World(3, liars={1: to_one}, core=core)
    world.run(100)  # liars draw breath
    world.submit(1, b"asked")
    assert world.run(120, stop=lambda: world.nodes[3].core._at(1).proposal is not None)
    assert decided_after(world, [3], b"asked") < VIEW_MS + PROPOSAL_MS + 2 * ROUND_MS


def test_what_is_under_way_is_not_said_again_by_everybody_who_is_asked_for_it() -> None:
    """A client asks all where its leader takes long: that must not be the moment at which all tell all."""
    world = World(3)
    leader, *others = (world.committee.leader(view) for view in range(1, 5))
    turn = world.nodes[leader].core.submit([b"asked"], 0)
    assert turn is not None
    (proposal,) = (message for _, message in turn.messages if isinstance(message, Proposal))
    for number in others:
        core = world.nodes[number].core
        core.handle(leader, proposal, 1)
        turn = core.submit([b"asked", b"more"], 2)
        assert turn is not None
        assert [message.body for _, message in turn.messages if isinstance(message, Request)] == [b"more"]


def test_what_is_said_again_is_so_at_longer_intervals_and_heard_within_a_second_all_the_same() -> None:
    ten_seconds_alone(Core)


def ten_seconds_alone(core: type[Core]) -> None:
    everybody = range(4)
    world = World(3, core=core)
    world.cut = lambda _source, _target: True
    for number in everybody:
        world.submit(number, b"request")
    world.run(10_000)
    assert {node.core.view for node in world.nodes} == {1}
    assert all(10 <= node.core._views[1].repeats <= 16 for node in world.nodes)  # 100 without a pause
    world.heal()
    assert decided_after(world, [*everybody], b"request") < 1000


def test_nobody_ends_a_view_or_keeps_the_others_at_it_in_anothers_name() -> None:
    world = World(3, liars={3: forger(random.Random(3))})
    world.run(3000)
    assert all(node.core.passed_views == 0 for node in world.honest)
    assert decided_after(world, [0, 1, 2], b"at last") < PROPOSAL_MS + ROUND_MS
    world.run(world.now / MS + 1000)
    assert {node.core.nullified_views for node in world.honest} <= {0, 1}  # the forger's own turn, at most


def test_a_leader_that_came_past_a_view_without_its_certificate_asks_for_it_and_leads() -> None:
    world = World(3)
    leader = world.nodes[world.committee.leader(3)]
    first, second = (nullification(world, view) for view in (1, 2))
    core = leader.core
    core.handle(0, Supply((), (), (second,)), 0)
    turn = core.submit([b"first"], 0)
    assert turn is not None and core.view == 3
    assert [message for to, message in turn.messages if to is None and isinstance(message, Ask)] == [
        Ask(0, (), 0, view=1)
    ]
    turn = core.handle(0, Supply((), (), (first,)), 1)
    assert [message.block.requests for _, message in turn.messages if isinstance(message, Proposal)] == [(b"first",)]


def test_who_knows_no_end_of_a_view_that_is_over_asks_all_for_it_when_nothing_goes_on() -> None:
    world = World(3)
    core = world.nodes[world.committee.leader(4)].core
    core.handle(0, Supply((), (), (nullification(world, 2),)), 0)
    core.submit([b"request"], 0)
    asked: list[Ask] = []
    while core.next_wake < 500 * MS:  # nobody answers, nobody proposes
        asked += [message for to, message in core.wake(core.next_wake).messages if to is None and type(message) is Ask]
    assert asked and set(asked) == {Ask(0, (), 0, view=1)}


def nullification(world: World, view: int) -> Certificate:
    votes = [signed(node.seal, world.committee, node.number, Kind.NULLIFY, view, NOTHING) for node in world.nodes[:3]]
    return Certificate(Kind.NULLIFY, 0, view, NOTHING, tuple((vote.voter, vote.signature) for vote in votes))


def test_certificates_that_are_none_leave_nothing_behind() -> None:
    world = World(3)
    core = world.nodes[0].core
    for view in range(1, 1000):
        made = Certificate(Kind.NULLIFY, 0, view, NOTHING, tuple((voter, bytes(64)) for voter in range(3)))
        core.handle(1, Supply((), (), (made,)), view)
    assert len(core._views) == 1
