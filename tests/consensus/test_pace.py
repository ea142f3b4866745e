"""Timers follow failures up and quick views down; f leaders change little of that."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from consensus.simplex.core import Timing
from consensus.simplex.pace import MOST_AT_ONCE, MOST_DOUBLINGS, MOST_PAUSES, SLACK, Pace
from consensus.simplex.types import Kind
from consensus.simulator.world import World

SIZES = st.sampled_from([4, 7, 10])
QUICK, SLOW = 1 / SLACK, 1.01 / SLACK


def pace(size: int, failures: int = 0) -> Pace:
    made = Pace(size, faults(size))
    for _ in range(failures):
        made.failed()
    return made


def faults(size: int) -> int:
    return (size - 1) // 3


@given(size=SIZES, order=st.randoms(use_true_random=False), rounds=st.integers(1, 5))
def test_f_leaders_that_fail_in_every_round_change_nothing(size: int, order: Random, rounds: int) -> None:
    faulty = order.sample(range(size), faults(size))
    made = pace(size)
    for view in range(rounds * size):
        if view % size in faulty:
            made.failed()
        else:
            made.passed(order.choice([QUICK, SLOW, 5.0]))
        assert made.factor == 1


@given(size=SIZES, order=st.randoms(use_true_random=False))
def test_one_failure_more_of_n_doubles(size: int, order: Random) -> None:
    views = [True] * (faults(size) + 1) + [False] * (size - faults(size) - 1)
    order.shuffle(views)
    made = pace(size)
    for failed in views:
        assert made.factor == 1 or not failed
        if failed:
            made.failed()
        else:
            made.passed(SLOW)
    assert made.factor == 2


@given(size=SIZES)
def test_who_led_a_view_that_failed_blames_nobody_else(size: int) -> None:
    made = pace(size)
    made.failed(own=True)
    assert made.factor == 2
    for _ in range(faults(size) + 1):
        made.passed(QUICK)
    assert made.factor == 1


@given(size=SIZES, failures=st.integers(0, 100), repeats=st.integers(0, 100))
def test_there_is_an_end_to_it(size: int, failures: int, repeats: int) -> None:
    made = pace(size, failures)
    assert made.factor == 1 << min(MOST_DOUBLINGS, failures // (faults(size) + 1))
    assert made.pause(repeats) == min(1 << MOST_PAUSES, made.factor << repeats)


@given(size=SIZES, doublings=st.integers(1, MOST_DOUBLINGS), order=st.randoms(use_true_random=False))
def test_more_than_f_quick_views_of_n_halve(size: int, doublings: int, order: Random) -> None:
    """So f leaders that spoil their own view and the next one keep nothing up."""
    made = pace(size, doublings * (faults(size) + 1))
    shares = [SLOW] * (size - faults(size) - 1) + [QUICK] * (faults(size) + 1)
    order.shuffle(shares)
    factors = {1 << doublings}
    for share in shares:
        made.passed(share)
        factors.add(made.factor)
    assert factors == {1 << doublings, 1 << doublings - 1}


@given(size=SIZES, doublings=st.integers(1, MOST_DOUBLINGS), views=st.integers(1, 100))
def test_f_quick_views_of_n_keep_the_pace(size: int, doublings: int, views: int) -> None:
    made = pace(size, doublings * (faults(size) + 1))
    for number in range(views):
        made.passed(QUICK if number % size < faults(size) else SLOW)
    assert made.factor == 1 << doublings


@given(size=SIZES, share=st.floats(1.0, 1e9))
def test_who_sees_that_the_others_waited_longer_waits_as_long(size: int, share: float) -> None:
    made = pace(size)
    made.failed(share)
    assert made.factor == min(1 << MOST_AT_ONCE, 1 << int(math.log2(share)))


@given(size=SIZES, doublings=st.integers(0, MOST_PAUSES))
def test_what_is_said_in_a_view_that_was_given_up_is_first_said_again_when_the_pace_allows(
    size: int, doublings: int
) -> None:
    world = World(1, nodes=size)
    leader = world.committee.leader(1)
    core = next(node.core for node in world.nodes if node.number != leader)
    world.cut = lambda _source, _target: True
    for _ in range(doublings * (faults(size) + 1)):
        core._pace.failed()
    world.submit(core.voter, b"request")
    view = core._at(1)
    assert world.run(10_000, stop=lambda: Kind.NULLIFY in view.own)
    assert view.retry is not None
    assert view.retry - core._now == Timing().repeat_ns << doublings
    assert not view.repeats
