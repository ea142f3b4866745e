"""Discrete choices as QUBOs: simulated annealing, simulated quantum annealing, and the exact answer beside them.

The problem is to hold exactly k of n positions in equal parts (or whole lots of positions) with least variance less
reward. No annealer is promised to be faster than tabu search or than going through all choices; `swarm bench discrete`
says what each one did. "quantum" here is path-integral Monte Carlo of a transverse-field Ising model on this processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.portfolio import annealing_kernels as kernels
from cluster.errors import InvalidRequest

MAX_EXACT = 22  # binary unknowns whose 2^n choices are all gone through
SUCCESS = 1e-9  # energy above the optimum, over the spread of energies, up to which a run has found it
HOT, COLD = 0.3, 0.003  # temperatures of annealing, over the largest change of the objective by one flip
QUANTUM_TEMPERATURE, TRANSVERSE = 0.001, 0.5  # of the path integral, and its strongest field, in the same unit
TENURE = 5  # steps a position rests in tabu search


@dataclass(frozen=True)
class Qubo:
    """Minimise x'Qx + constant over x in {0, 1}^n; Q symmetric."""

    matrix: np.ndarray
    constant: float
    objective: float | None = None
    """Largest change by one flip, penalties left out: the scale on which choices differ. None where there are none."""

    @property
    def scale(self) -> float:
        """Unit of temperatures and fields.

        Raises
        ------
        InvalidRequest
            Every choice has the same energy, or one is not finite.
        """
        size = float(np.abs(self.matrix).sum(axis=1).max()) if self.objective is None else self.objective
        if not 0 < size < math.inf:
            raise InvalidRequest("every choice has the same energy", "Give a problem that has an optimum")
        return size

    def energy(self, choice: np.ndarray) -> float:
        """x'Qx + constant."""
        return float(choice @ self.matrix @ choice) + self.constant


def cardinality_qubo(covariance: np.ndarray, rewards: np.ndarray, count: int, aversion: float) -> Qubo:
    """Hold ``count`` positions at 1 / count each: aversion / 2 variance - reward + penalty (sum x - count)^2.

    The penalty is the sum of the sizes of all terms that one position takes part in, at its largest: no choice of
    another number of positions has less energy than the best of the right number.

    Parameters
    ----------
    covariance : ndarray of shape (n, n)
    rewards : ndarray of shape (n,)
        Expected return by position, of the same period as the covariance.
    """
    n = len(rewards)
    if not 1 <= count <= n:
        raise InvalidRequest(f"{count} positions of {n} are asked for", f"Ask for 1 to {n}")
    matrix = aversion / 2 * covariance / count**2
    matrix = matrix - np.diag(rewards / count)
    objective = float(np.abs(matrix).sum(axis=1).max())
    penalty = 2 * objective
    matrix = matrix + penalty * (np.ones((n, n)) - 2 * count * np.eye(n))
    return Qubo(matrix, penalty * count**2, objective)


def lots_qubo(covariance: np.ndarray, rewards: np.ndarray, bits: int, aversion: float) -> tuple[Qubo, np.ndarray]:
    """Weights in multiples of 1 / (2^bits - 1), in binary, summing to 1: (problem, weights of the bits (n, n bits))."""
    n = len(rewards)
    values = 2.0 ** np.arange(bits) / (2**bits - 1)
    spread = np.kron(np.eye(n), values)
    inner = aversion / 2 * spread.T @ covariance @ spread - np.diag(rewards @ spread)
    # One lot too many costs at least the penalty times a lot squared: more than any gain by it.
    objective = float(np.abs(inner).sum(axis=1).max())
    penalty = (objective + float(np.abs(inner).max())) / values[0]
    total = spread.sum(axis=0)
    matrix = inner + penalty * (np.outer(total, total) - 2 * np.diag(total))
    return Qubo(matrix, penalty, objective), spread


@dataclass(frozen=True)
class Search:
    """What a method found over independent runs."""

    choice: np.ndarray
    energy: float
    energies: np.ndarray
    """Best energy of every run."""
    evaluations: int
    """Moves whose energy was computed, over all runs."""

    def success(self, optimum: float, spread: float) -> float:
        """Share of the runs that reached the optimum."""
        return float((self.energies <= optimum + SUCCESS * max(spread, 1e-300)).mean())


def simulated_annealing(problem: Qubo, *, runs: int, sweeps: int, seed: int) -> Search:
    """Metropolis flips and exchanges under a falling temperature (Kirkpatrick, Gelatt & Vecchi 1983)."""
    scale = problem.scale
    found = kernels.anneal(problem.matrix, runs, sweeps, HOT * scale, COLD * scale, np.uint64(seed))
    return _search(problem, *found, 2 * runs * sweeps * len(problem.matrix))


def simulated_quantum_annealing(problem: Qubo, *, runs: int, sweeps: int, slices: int, seed: int) -> Search:
    """Path-integral Monte Carlo over Trotter slices, the transverse field falling to nothing (Martonak et al. 2002)."""
    if slices < 2:
        raise InvalidRequest(f"{slices} Trotter slices make no path", "Ask for at least two")
    scale = problem.scale
    found = kernels.anneal_quantum(
        problem.matrix, runs, sweeps, slices, QUANTUM_TEMPERATURE * scale, TRANSVERSE * scale, np.uint64(seed)
    )
    return _search(problem, *found, 4 * runs * sweeps * slices * len(problem.matrix))


def tabu_search(problem: Qubo, *, runs: int, steps: int, seed: int) -> Search:
    """Steepest moves that do not undo each other (Glover 1989): the plain heuristic to compare with."""
    n = len(problem.matrix)
    found = kernels.tabu(problem.matrix, runs, steps, min(TENURE, n // 3), np.uint64(seed))
    return _search(problem, *found, runs * steps * n * (n + 1) // 2)


def exact(problem: Qubo) -> tuple[np.ndarray, float, float]:
    """(best choice, its energy, spread of all energies) by going through every choice.

    Raises
    ------
    InvalidRequest
        More than ``MAX_EXACT`` unknowns.
    """
    n = len(problem.matrix)
    if n > MAX_EXACT:
        raise InvalidRequest(f"{n} binary unknowns have too many choices to go through", f"Ask for up to {MAX_EXACT}")
    best, lowest, highest = kernels.all_energies(problem.matrix)
    choice = ((np.int64(best) >> np.arange(n)) & 1).astype(float)
    return choice, problem.energy(choice), float(highest - lowest)


def time_to_solution(seconds: float, success: float, runs: int) -> tuple[float, float, float]:
    """(TTS99, lower, upper): t ln 0.01 / ln(1 - p), at least t; infinite without a success.

    ``seconds`` is the time t of one run. The interval is that of Wilson (1927) for p over ``runs`` runs, carried over.
    """

    def at(p: float) -> float:
        if p >= 1:
            return seconds
        return seconds * max(1.0, math.log(0.01) / math.log1p(-p)) if p > 0 else math.inf

    z = 1.959964
    centre = (success + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z / (1 + z**2 / runs) * math.sqrt(success * (1 - success) / runs + z**2 / (4 * runs**2))
    return at(success), at(min(1.0, centre + half)), at(max(0.0, centre - half))


def _search(problem: Qubo, choices: np.ndarray, energies: np.ndarray, evaluations: int) -> Search:
    best = int(np.argmin(energies))
    return Search(choices[best], float(energies[best]) + problem.constant, energies + problem.constant, evaluations)
