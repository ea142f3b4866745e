"""The restart intensity is Erlang's: more than so many restarts inside the window parks the agent."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.supervision import RestartIntensity

SECOND_NS = 1_000_000_000


@settings(max_examples=100)
@given(
    max_restarts=st.integers(0, 4),
    within_s=st.integers(1, 5),
    pauses_ns=st.lists(
        st.sampled_from([0, 1, SECOND_NS // 2, SECOND_NS - 1, SECOND_NS, SECOND_NS + 1, 5 * SECOND_NS, 6 * SECOND_NS]),
        max_size=30,
    ),
)
def test_parking_agrees_with_counting_every_restart_of_the_window(max_restarts, within_s, pauses_ns):
    intensity = RestartIntensity(max_restarts=max_restarts, within_s=float(within_s))
    now, restarts = 17, []
    for pause in pauses_ns:
        now += pause
        restarts.append(now)
        inside = [restart for restart in restarts if now - restart <= within_s * SECOND_NS]
        assert intensity.record(now) == (len(inside) > max_restarts)


def test_no_restart_tolerated_parks_at_the_first():
    assert RestartIntensity(max_restarts=0, within_s=60.0).record(5)


def test_a_restart_at_the_very_edge_of_the_window_still_counts():
    at_edge, beyond = (RestartIntensity(max_restarts=1, within_s=1.5) for _ in range(2))
    assert not at_edge.record(0)
    assert at_edge.record(1_500_000_000)
    assert not beyond.record(0)
    assert not beyond.record(1_500_000_001)


def test_two_agents_do_not_share_their_counts():
    first, second = (RestartIntensity(max_restarts=1, within_s=60.0) for _ in range(2))
    assert [first.record(1), first.record(2), second.record(3)] == [False, True, False]
