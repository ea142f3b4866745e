"""Discrete choices: problems that say what they should, annealers held against enumeration, the QP and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk.portfolio import annealing, vqe
from actors.risk.portfolio import annealing_kernels as kernels
from actors.risk.portfolio.kernels import BoxMinimumVariance
from cluster.errors import InvalidRequest

FLAT = annealing.Qubo(np.zeros((2, 2)), 0.0)


def market(n, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, n + 4)) * 0.2
    return factors @ factors.T / n, rng.normal(0.05, 0.05, n)


def choices(n):
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)


@given(st.integers(1, 9), st.integers(0, 1000))
@settings(max_examples=40)
def test_exact_is_the_best_of_all_choices(n, seed):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    problem = annealing.Qubo(matrix + matrix.T, 0.7)
    energies = [problem.energy(choice) for choice in choices(n)]
    choice, energy, spread = annealing.exact(problem)
    assert energy == pytest.approx(min(energies))
    assert problem.energy(choice) == pytest.approx(energy)
    assert spread == pytest.approx(max(energies) - min(energies))


@pytest.mark.parametrize("seed", range(6))
def test_kernels_do_what_their_plain_twins_do(seed):
    rng = np.random.default_rng(seed)
    n = 2 + seed
    matrix = rng.normal(size=(n, n))
    matrix = matrix + matrix.T
    for compiled, plain, options in (
        (kernels.anneal, kernels.anneal_plain, (4, 12, 2.0, 0.1)),
        (kernels.anneal_quantum, kernels.anneal_quantum_plain, (3, 8, 4, 0.2, 3.0)),
    ):
        ours = compiled(matrix, *options, np.uint64(seed))
        theirs = plain(matrix, *options, seed)
        assert ours[0].tolist() == theirs[0].tolist()
        assert ours[1] == pytest.approx(theirs[1], abs=1e-12)
    assert kernels.all_energies(matrix) == pytest.approx(kernels.all_energies_plain(matrix))


def test_a_field_that_is_gone_and_slices_that_are_cold_leave_descent():
    """Path integrals at next to no temperature only go down: every run ends where no flip or exchange helps."""
    matrix = np.random.default_rng(4).normal(size=(9, 9))
    matrix = matrix + matrix.T
    choices_found, energies = kernels.anneal_quantum(matrix, 20, 60, 2, 1e-9, 1e-9, np.uint64(0))
    for x, energy in zip(choices_found, energies, strict=True):
        for i in range(9):
            flipped = x.copy()
            flipped[i] = 1 - flipped[i]
            assert flipped @ matrix @ flipped >= energy - 1e-9


@pytest.mark.parametrize("count", [1, 3, 6])
def test_cardinality_problem_is_the_utility_of_the_right_number_of_positions(count):
    covariance, rewards = market(6)
    problem = annealing.cardinality_qubo(covariance, rewards, count, 5.0)
    for choice in choices(6):
        if choice.sum() == count:
            weights = choice / count
            known = 2.5 * weights @ covariance @ weights - rewards @ weights
            assert problem.energy(choice) == pytest.approx(known, abs=1e-9)
    assert annealing.exact(problem)[0].sum() == count


def test_lots_sum_to_one_and_are_the_best_grid_portfolio():
    covariance, rewards = market(3)
    problem, spread = annealing.lots_qubo(covariance, rewards, 3, 5.0)
    weights = spread @ annealing.exact(problem)[0]
    assert weights.sum() == pytest.approx(1)
    grid = [np.array([a, b, 7 - a - b]) / 7 for a in range(8) for b in range(8 - a)]
    best = min(2.5 * w @ covariance @ w - rewards @ w for w in grid)
    assert 2.5 * weights @ covariance @ weights - rewards @ weights == pytest.approx(best)


@pytest.mark.parametrize("method", ["annealing", "sqa_sim", "tabu"])
def test_searches_find_the_optimum_of_a_small_problem_and_tell_the_truth_about_it(method):
    covariance, rewards = market(12, seed=3)
    problem = annealing.cardinality_qubo(covariance, rewards, 4, 5.0)
    _, optimum, spread = annealing.exact(problem)
    search = {
        "annealing": lambda: annealing.simulated_annealing(problem, runs=100, sweeps=400, seed=1),
        "sqa_sim": lambda: annealing.simulated_quantum_annealing(problem, runs=50, sweeps=200, slices=8, seed=1),
        "tabu": lambda: annealing.tabu_search(problem, runs=20, steps=100, seed=1),
    }[method]()
    assert search.energy == pytest.approx(optimum, abs=1e-9)
    assert search.energy == pytest.approx(problem.energy(search.choice))
    assert search.energies.min() >= optimum - 1e-9
    assert search.success(optimum, spread) > 0.9
    assert search.evaluations > 0


def test_annealing_ties_the_quadratic_program_within_the_grid():
    covariance, _ = market(4, seed=5)
    problem, spread = annealing.lots_qubo(covariance, np.zeros(4), 4, 2.0)
    weights = spread @ annealing.simulated_annealing(problem, runs=200, sweeps=1000, seed=0).choice
    solved = BoxMinimumVariance(np.zeros(4), np.ones(4)).solve(np.ascontiguousarray(covariance))
    least, ours = solved @ covariance @ solved, weights @ covariance @ weights
    assert weights.sum() == pytest.approx(1)
    assert least <= ours <= least + np.linalg.eigvalsh(covariance)[-1] * 4 * (1 / 15) ** 2


def test_same_seed_has_the_same_runs():
    problem = annealing.cardinality_qubo(*market(18), 6, 5.0)
    first, again, other = (annealing.simulated_annealing(problem, runs=9, sweeps=2, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.energies, again.energies)
    assert not np.array_equal(first.energies, other.energies)


def test_variational_state_finds_the_ground_state_that_enumeration_has():
    problem = annealing.cardinality_qubo(*market(6, seed=2), 3, 5.0)
    found = vqe.solve(problem, layers=2, seed=0)
    assert found.energy == pytest.approx(annealing.exact(problem)[1])
    assert found.probability > 0.5
    assert found.circuits > 2**6  # what enumeration would have looked at


def test_rotations_and_phases_keep_the_state_whole():
    angles = np.random.default_rng(0).uniform(0, math.pi, (3, 5))
    state = vqe._state(angles, np.where(np.arange(32) % 3 == 0, -1.0, 1.0))
    assert state @ state == pytest.approx(1)


def test_time_to_solution_is_its_formula_and_endless_without_success():
    whole, low, high = annealing.time_to_solution(2.0, 0.5, 100)
    assert whole == pytest.approx(2 * math.log(0.01) / math.log(0.5))
    assert low < whole < high
    assert annealing.time_to_solution(2.0, 0.0, 100)[0] == math.inf
    assert annealing.time_to_solution(2.0, 1.0, 100)[0] == 2.0


@pytest.mark.parametrize(
    "ask",
    [
        lambda: annealing.exact(annealing.Qubo(np.eye(40), 0.0)),
        lambda: vqe.solve(annealing.Qubo(np.eye(20), 0.0), layers=1, seed=0),
        lambda: annealing.cardinality_qubo(*market(4), 9, 1.0),
        lambda: annealing.simulated_quantum_annealing(
            annealing.Qubo(np.eye(2), 0.0), runs=1, sweeps=1, slices=1, seed=0
        ),
        lambda: annealing.simulated_annealing(FLAT, runs=1, sweeps=1, seed=0),
    ],
)
def test_problems_beyond_a_method_are_refused(ask):
    with pytest.raises(InvalidRequest):
        ask()
