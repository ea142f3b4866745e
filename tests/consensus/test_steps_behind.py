"""What a voter says to those who may be a step behind: what it alone knows at once, the rest when it is due."""

from __future__ import annotations

from typing import TypeVar

import pytest

from consensus.simplex.core import Core, Timing, Turn
from consensus.simplex.types import NOTHING, Ask, Certificate, Kind, Notice, Request, Standing, Supply
from consensus.simulator.liars import signed
from consensus.simulator.world import World
from tests.consensus.test_leaders import nullification

TIMING = Timing()
M = TypeVar("M")


def said(turn: Turn, kind: type[M]) -> list[tuple[int | None, M]]:
    return [(to, message) for to, message in turn.messages if isinstance(message, kind)]


def told(core: Core, *certificates: Certificate, now_ns: int) -> Turn:
    return core.handle(0, Supply((), (), certificates), now_ns)


def standing(view: int) -> Standing:
    return Standing(0, view, 0, NOTHING, None, 0, 0, bytes(64))


@pytest.mark.parametrize("ahead", range(1, 4))
def test_who_leads_next_says_at_once_that_a_view_has_failed_and_others_when_it_is_due(ahead: int) -> None:
    world = World(3)
    node = world.nodes[world.committee.leader(1 + ahead)]
    turn = told(node.core, nullification(world, 1), now_ns=1000)
    assert node.core.view == 2
    assert bool(said(turn, Notice)) == (ahead == 1)
    due = 1000 + TIMING.notice_ns
    later = [pair for now_ns in (due - 1, due) for pair in said(node.core.wake(now_ns), Notice)]
    assert [message.certificate for _, message in said(turn, Notice) + later] == [nullification(world, 1)]


@pytest.mark.parametrize(
    ("late", "ended", "readers"), [(None, None, [2, 6]), (6, None, [2]), (None, 2, [6]), (6, 6, [2])]
)
def test_who_may_not_have_the_votes_is_told_when_the_next_leader_is_half_late(
    late: int | None, ended: int | None, readers: list[int]
) -> None:
    """The leader itself, and who did not give the failed view up here; but not who led that, nor who has ended."""
    world = World(3, nodes=7)
    assert [world.committee.leader(view) for view in (1, 2)] == [1, 2]
    votes = {n: signed(world.nodes[n].seal, world.committee, n, Kind.NULLIFY, 1, NOTHING) for n in range(7)}
    failed = Certificate(Kind.NULLIFY, 0, 1, NOTHING, tuple((n, votes[n].signature) for n in (0, 2, 3, 4, 5)))
    core = world.nodes[3].core
    told(core, failed, now_ns=1000)
    if late is not None:
        core.handle(late, votes[late], 1000)
    if ended is not None:
        core.lost(ended, 1000)
    core.submit([b"request"], 1000)
    due = 1000 + TIMING.proposal_ns // 2
    assert said(core.wake(due - 1), Notice) == []
    turn = core.wake(due)
    assert [(to, notice.certificate) for to, notice in said(turn, Notice)] == [(to, failed) for to in readers]
    assert [to for to, _ in said(turn, Request)] == ([2] if ended != 2 else []), "what it is waited for with, if it is"
    assert said(core.wake(due + 1), Notice) == []
    assert [to for to, _ in said(core.wake(1000 + TIMING.notice_ns), Notice)] == [None], "all, as ever"


def test_they_are_told_too_where_a_block_behind_the_failed_view_is_notarised() -> None:
    """Votes for it may have been lent to the same few, and a leader of whom no proposal is due may lack both."""
    world = World(3, nodes=7)
    votes = [
        signed(world.nodes[n].seal, world.committee, n, kind, view, digest)
        for kind, view, digest in ((Kind.NULLIFY, 1, NOTHING), (Kind.NOTARIZE, 2, b"\x01" * 32))
        for n in (0, 1, 2, 4, 5)
    ]
    failed, passed = (
        Certificate(few[0].kind, 0, few[0].view, few[0].digest, tuple((vote.voter, vote.signature) for vote in few))
        for few in (votes[:5], votes[5:])
    )
    core = world.nodes[5].core
    told(core, failed, passed, now_ns=1000)
    assert (core.view, world.committee.leader(3)) == (3, 3)
    turn = core.wake(1000 + TIMING.proposal_ns // 2)
    assert [(to, notice.certificate) for to, notice in said(turn, Notice)] == [(3, failed), (6, failed), (3, passed)]


def test_a_late_vote_that_gives_a_failed_view_up_makes_nobody_say_again_that_it_has_failed() -> None:
    world = World(3)
    voter = world.committee.leader(3)
    core = world.nodes[voter].core
    told(core, nullification(world, 1), now_ns=1000)
    late = next(node for node in world.nodes if node.number not in {voter, world.committee.leader(1)})
    vote = signed(late.seal, world.committee, late.number, Kind.NULLIFY, 1, NOTHING)
    assert said(core.handle(late.number, vote, 1001), Notice) == []


@pytest.mark.parametrize(("theirs", "answer"), [(1, Supply), (3, Ask)])
@pytest.mark.parametrize(("doublings", "longest_ns"), [(0, TIMING.proposal_ns), (6, TIMING.notice_ns)])
def test_who_is_a_step_away_is_given_the_time_of_a_message_first(
    theirs: int, answer: type[Ask] | type[Supply], doublings: int, longest_ns: int
) -> None:
    """However slow the others have been: nothing else that is told later waits for longer."""
    world = World(3)
    core = world.nodes[1].core
    core._pace._doublings = doublings
    told(core, nullification(world, 1), now_ns=1000)
    assert core.view == 2
    arrived = 1000 + longest_ns
    assert said(core.handle(0, standing(theirs), arrived - 1), answer) == []
    assert [to for to, _ in said(core.handle(0, standing(theirs), arrived), answer)] == [0]


@pytest.mark.parametrize(("theirs", "answer"), [(1, Supply), (5, Ask)])
def test_who_is_two_steps_away_is_not(theirs: int, answer: type[Ask] | type[Supply]) -> None:
    world = World(3)
    core = world.nodes[1].core
    told(core, nullification(world, 1), nullification(world, 2), now_ns=1000)
    assert core.view == 3
    assert [to for to, _ in said(core.handle(0, standing(theirs), 1001), answer)] == [0]
