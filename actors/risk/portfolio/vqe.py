"""A variational eigensolver on a simulated state vector, for small discrete choices and for comparison only.

The ansatz is layers of single-qubit rotations about y and a chain of controlled phase flips; real amplitudes suffice.
The energy is computed from the whole state, so every energy of the problem is looked at each time: enumeration, which
looks once, is always cheaper here, and the answer states both costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.risk.portfolio.annealing import Qubo
from cluster.errors import InvalidRequest

MAX_QUBITS = 14
RESTARTS = 3


@dataclass(frozen=True)
class Variational:
    """The likeliest choice of the best state found, and what it took."""

    choice: np.ndarray
    energy: float
    probability: float
    """Chance of measuring that choice."""
    circuits: int
    """States prepared."""


def solve(problem: Qubo, *, layers: int, seed: int, max_circuits: int = 4000) -> Variational:
    """Minimise the mean energy over the angles by parameter shifts and L-BFGS, from several random starts.

    Raises
    ------
    InvalidRequest
        More unknowns than ``MAX_QUBITS``.
    """
    from scipy.optimize import minimize

    n = len(problem.matrix)
    if n > MAX_QUBITS:
        raise InvalidRequest(f"{n} qubits are not simulated here", f"Ask for up to {MAX_QUBITS} positions")
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    energies = np.einsum("ki,ij,kj->k", bits, problem.matrix, bits, optimize=True) + problem.constant
    scale = float(np.ptp(energies)) or 1.0
    rng = np.random.default_rng(seed)
    neighbours = (bits[:, :-1] * bits[:, 1:]).sum(axis=1)
    flips = np.where(neighbours % 2 == 1, -1.0, 1.0)  # a controlled phase flip between every two neighbours
    circuits = 0

    def mean_energy(angles: np.ndarray) -> float:
        nonlocal circuits
        circuits += 1
        return float((_state(angles.reshape(layers + 1, n), flips) ** 2) @ energies) / scale

    def slopes(angles: np.ndarray) -> np.ndarray:
        shifted = np.empty(len(angles))
        for place in range(len(angles)):
            turned = angles.copy()
            turned[place] += np.pi / 2
            ahead = mean_energy(turned)
            turned[place] -= np.pi
            shifted[place] = (ahead - mean_energy(turned)) / 2
        return shifted

    best: tuple[float, np.ndarray] | None = None
    steps = max(1, max_circuits // (RESTARTS * (2 * n * (layers + 1) + 2)))
    for _ in range(RESTARTS):
        found = minimize(
            mean_energy,
            rng.uniform(0, np.pi, n * (layers + 1)),
            jac=slopes,
            method="L-BFGS-B",
            options={"maxiter": steps},
        )
        if best is None or found.fun < best[0]:
            best = (float(found.fun), np.asarray(found.x))
    assert best is not None
    chances = _state(best[1].reshape(layers + 1, n), flips) ** 2
    likeliest = int(np.argmax(chances))
    return Variational(bits[likeliest].astype(float), float(energies[likeliest]), float(chances[likeliest]), circuits)


def _state(angles: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Amplitudes, shape (2^n,), after the layers of rotations, shape (layers + 1, n)."""
    n = angles.shape[1]
    state = np.zeros(2**n)
    state[0] = 1.0
    for layer, row in enumerate(angles):
        for qubit in range(n):
            halves = state.reshape(-1, 2, 2**qubit)
            cosine, sine = np.cos(row[qubit] / 2), np.sin(row[qubit] / 2)
            low, high = halves[:, 0].copy(), halves[:, 1].copy()
            halves[:, 0], halves[:, 1] = cosine * low - sine * high, sine * low + cosine * high
        if layer < len(angles) - 1:
            state *= flips
    return state
