"""The bench of discrete choices: every method on the same energies, gaps and chances that are true, failures said."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.portfolio import annealing
from swarm.bench import discrete


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(6, 9)) * 0.2
    return annealing.cardinality_qubo(factors @ factors.T / 6, rng.normal(0.05, 0.05, 6), 3, 5.0)


def test_every_method_has_its_time_its_gaps_and_its_time_to_solution(problem):
    rows = {row.name: row for row in discrete._contested("small", {"assets": 6}, problem, lambda _: None)}
    for method in ("tabu", "annealing", "sqa_sim"):
        gap, tts, each = (rows[f"small: {method}, {what}"] for what in ("gap to the optimum", "TTS99", "time a run"))
        assert gap.p50 == pytest.approx(0, abs=1e-9)
        assert gap.params["success"] > 0.9
        assert tts.p50 == pytest.approx(each.p50)  # one run is enough: the time to solution is a run's time
        low, high = map(float, tts.params["interval"].split(" to "))
        assert low <= tts.p50 * 1.01
        assert high >= tts.p50 * 0.99
        assert tts.peer == "small: enumeration, time"
    assert rows["small: vqe_sim, circuit executions"].p50 > 2**6


def test_a_method_that_never_finds_the_optimum_has_no_time_to_solution(problem):
    taken, spread = 1.0, 1.0
    exact = discrete.record.row("exact", [taken], unit="ms")
    contest = discrete.Contest("hard", {}, problem, -1e9, spread, exact)  # an optimum that no choice has
    rows = discrete._searched(contest, "tabu", lambda: annealing.tabu_search(problem, runs=200, steps=5, seed=0))
    assert "no run found the optimum" in rows[-1].name
    assert rows[-1].params["success"] == 0
    assert all(np.isfinite(row.p99) for row in rows)
