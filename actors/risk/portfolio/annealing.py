"""Discrete choices as QUBOs: simulated annealing, simulated quantum annealing, and the exact answer beside them.

The problem is to hold exactly k of n positions in equal parts (or k lots over positions) with least variance - reward.
Neither annealer is promised to be faster than going through all choices; the comparison says what each one did.
"quantum" here is path-integral Monte Carlo of a transverse-field Ising model on this processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.portfolio.annealing_kernels import all_energies, anneal, anneal_quantum
from cluster.errors import InvalidRequest

MAX_EXACT = 22  # binary unknowns whose 2^n choices are all gone through
SUCCESS = 1e-9  # energy above the optimum, over the spread of energies, up to which a run has found it


@dataclass(frozen=True)
class Qubo:
    """Minimise x'Qx + constant over x in {0, 1}^n; Q symmetric."""

    matrix: np.ndarray
    constant: float

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
    penalty = float(np.abs(matrix).sum(axis=1).max()) * 2
    matrix = matrix + penalty * (np.ones((n, n)) - 2 * count * np.eye(n))
    return Qubo(matrix, penalty * count**2)


def lots_qubo(covariance: np.ndarray, rewards: np.ndarray, bits: int, aversion: float) -> tuple[Qubo, np.ndarray]:
    """Weights in multiples of 1 / (2^bits - 1), in binary, summing to 1: (problem, weights of the bits (n, n bits))."""
    n = len(rewards)
    values = 2.0 ** np.arange(bits) / (2**bits - 1)
    spread = np.kron(np.eye(n), values)
    inner = aversion / 2 * spread.T @ covariance @ spread - np.diag(rewards @ spread)
    # One lot too many costs at least the penalty times a lot squared: more than any gain by it.
    penalty = (float(np.abs(inner).sum(axis=1).max()) + float(np.abs(inner).max())) / values[0]
    total = spread.sum(axis=0)
    matrix = inner + penalty * (np.outer(total, total) - 2 * np.diag(total))
    return Qubo(matrix, penalty), spread


@dataclass(frozen=True)
class Search:
    """What a method found over independent runs."""

    choice: np.ndarray
    energy: float
    energies: np.ndarray
    """Best energy of every run."""
    evaluations: int
    """Spin flips proposed, over all runs."""

    def success(self, optimum: float, spread: float) -> float:
        """Share of the runs that reached the optimum."""
        return float((self.energies <= optimum + SUCCESS * max(spread, 1e-300)).mean())


def simulated_annealing(problem: Qubo, *, runs: int, sweeps: int, seed: int) -> Search:
    """Metropolis single flips under a temperature that falls geometrically (Kirkpatrick, Gelatt & Vecchi 1983)."""
    hot, cold = _temperatures(problem)
    choices, energies = anneal(problem.matrix, runs, sweeps, hot, cold, np.uint64(seed))
    return _search(problem, choices, energies, runs * sweeps * len(problem.matrix))


def simulated_quantum_annealing(problem: Qubo, *, runs: int, sweeps: int, slices: int, seed: int) -> Search:
    """Path-integral Monte Carlo over Trotter slices, the transverse field falling to nothing (Martonak et al. 2002)."""
    if slices < 2:
        raise InvalidRequest(f"{slices} Trotter slices make no path", "Ask for at least two")
    hot, cold = _temperatures(problem)
    temperature = math.sqrt(hot * cold)
    choices, energies = anneal_quantum(problem.matrix, runs, sweeps, slices, temperature, 3.0 * hot, np.uint64(seed))
    return _search(problem, choices, energies, runs * sweeps * slices * len(problem.matrix))


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
    best, lowest, highest = all_energies(problem.matrix)
    choice = (np.int64(best) >> np.arange(n)) & 1
    return choice.astype(float), float(lowest) + problem.constant, float(highest - lowest)


def time_to_solution(seconds: float, success: float, runs: int) -> tuple[float, float, float]:
    """(TTS99, lower, upper) = t ln 0.01 / ln(1 - p), the interval from Wilson's of p; infinite without a success."""

    def at(p: float) -> float:
        if p >= 1:
            return seconds
        return seconds * max(1.0, math.log(0.01) / math.log1p(-p)) if p > 0 else math.inf

    z = 1.959964
    centre = (success + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z / (1 + z**2 / runs) * math.sqrt(success * (1 - success) / runs + z**2 / (4 * runs**2))
    return at(success), at(min(1.0, centre + half)), at(max(0.0, centre - half))


def _temperatures(problem: Qubo) -> tuple[float, float]:
    """From where the largest flip is a coin's toss to where the smallest coupling is frozen."""
    largest = float((np.abs(np.diag(problem.matrix)) + 2 * np.abs(problem.matrix).sum(axis=1)).max())
    sizes = np.abs(problem.matrix[np.abs(problem.matrix) > 0])
    if not largest > 0:
        raise InvalidRequest("every choice has the same energy", "Give a problem that has an optimum")
    return largest, max(float(sizes.min()) * 0.1, largest * 1e-7)


def _search(problem: Qubo, choices: np.ndarray, energies: np.ndarray, evaluations: int) -> Search:
    best = int(np.argmin(energies))
    return Search(choices[best], float(energies[best]) + problem.constant, energies + problem.constant, evaluations)
