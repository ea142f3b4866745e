"""The bench for kernels: sides alternate, a step is a step, and its command refuses a room it does not have."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from swarm.bench import kernels
from swarm.cli.main import app


class Counted:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return sum(range(2000))


def test_every_side_is_timed_and_the_first_peer_is_compared_with(monkeypatch):
    ours, theirs, others = Counted(), Counted(), Counted()
    case = kernels.Case("sum", {"n": 2000}, ours, peers={"one": theirs, "two": others}, samples=6, goal=("p50", 1e9))
    rows = kernels._timed(case)
    assert [row.name for row in rows] == ["sum", "sum by one", "sum by two"]
    assert all(row.params == {"n": 2000} for row in rows)
    assert all(side.calls > 6 for side in (ours, theirs, others))
    assert rows[0].samples == 6
    assert rows[0].met
    assert rows[0].ratio == pytest.approx(rows[0].p50 / rows[1].p50)


def test_time_of_a_loop_is_given_per_step():
    whole = kernels._timed(kernels.Case("loop", {}, Counted(), samples=5))[0]
    step = kernels._timed(kernels.Case("loop", {}, Counted(), samples=5, calls_each=1000))[0]
    assert step.p50 < whole.p50 / 100


def test_an_unknown_room_is_refused_by_name():
    refused = CliRunner().invoke(app, ["bench", "kernels", "--room", "attic"])
    assert refused.exit_code != 0
