"""Compiled Metropolis sweeps over QUBOs, and all energies of one in Gray order."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _uniform(state):  # type: ignore[no-untyped-def]
    """(next state, a uniform in [0, 1)) of SplitMix64."""
    state += GOLDEN
    x = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return state, np.float64(x >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def anneal(
    matrix: np.ndarray, runs: int, sweeps: int, hot: float, cold: float, seed: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """(best choices (runs, n), their energies (runs,)) of independent runs."""
    n = matrix.shape[0]
    choices, energies = np.empty((runs, n)), np.empty(runs)
    x, field = np.empty(n), np.empty(n)
    state = seed * GOLDEN + np.uint64(1)
    for run in range(runs):
        for i in range(n):
            state, u = _uniform(state)
            x[i] = 1.0 if u < 0.5 else 0.0
        energy = _fields(matrix, x, field)
        energies[run] = np.inf
        for sweep in range(sweeps):
            temperature = hot * (cold / hot) ** (sweep / max(1, sweeps - 1))
            for i in range(n):
                change = (1.0 - 2.0 * x[i]) * field[i] + matrix[i, i]
                state, u = _uniform(state)
                if change <= 0.0 or u < np.exp(-change / temperature):
                    step = 1.0 - 2.0 * x[i]
                    x[i] += step
                    energy += change
                    for j in range(n):
                        field[j] += 2.0 * step * matrix[i, j]
            if energy < energies[run]:
                energies[run] = energy
                choices[run] = x
        energies[run] = _fields(matrix, choices[run], field)
    return choices, energies


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def anneal_quantum(
    matrix: np.ndarray, runs: int, sweeps: int, slices: int, temperature: float, strongest: float, seed: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """The same by path-integral Monte Carlo: ``slices`` copies at ``temperature``, each tied to its neighbours.

    A tie of -T P / 2 ln tanh(field / (T P)) between the spins of neighbouring slices stands for the transverse field,
    which falls linearly from ``strongest`` to nothing; after local flips every spin is tried on all slices together.
    """
    n = matrix.shape[0]
    choices, energies = np.empty((runs, n)), np.empty(runs)
    x, field = np.empty((slices, n)), np.empty((slices, n))
    energy = np.empty(slices)
    state = seed * GOLDEN + np.uint64(7)
    effective = temperature * slices
    for run in range(runs):
        energies[run] = np.inf
        for s in range(slices):
            for i in range(n):
                state, u = _uniform(state)
                x[s, i] = 1.0 if u < 0.5 else 0.0
            energy[s] = _fields(matrix, x[s], field[s])
        for sweep in range(sweeps):
            transverse = strongest * (1.0 - (sweep + 0.5) / sweeps)
            tie = -0.5 * effective * np.log(np.tanh(transverse / effective))
            for s in range(slices):
                above, below = x[(s + 1) % slices], x[(s + slices - 1) % slices]
                for i in range(n):
                    step = 1.0 - 2.0 * x[s, i]
                    change = step * field[s, i] + matrix[i, i]
                    spin = 2.0 * x[s, i] - 1.0
                    tied = 2.0 * tie * spin * (2.0 * above[i] + 2.0 * below[i] - 2.0)
                    state, u = _uniform(state)
                    total = change + tied
                    if total <= 0.0 or u < np.exp(-total / effective):
                        energy[s] += change
                        _flip(matrix, x[s], field[s], i, step)
            for i in range(n):
                change = 0.0
                for s in range(slices):
                    change += (1.0 - 2.0 * x[s, i]) * field[s, i] + matrix[i, i]
                state, u = _uniform(state)
                if change <= 0.0 or u < np.exp(-change / effective):
                    for s in range(slices):
                        step = 1.0 - 2.0 * x[s, i]
                        energy[s] += step * field[s, i] + matrix[i, i]
                        _flip(matrix, x[s], field[s], i, step)
            for s in range(slices):
                if energy[s] < energies[run]:
                    energies[run] = energy[s]
                    choices[run] = x[s]
        energies[run] = _fields(matrix, choices[run], field[0])
    return choices, energies


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _fields(matrix: np.ndarray, x: np.ndarray, field: np.ndarray) -> float:
    """Energy x'Qx; ``field`` receives 2 (Qx), what a flip of each unknown is felt by."""
    n = x.size
    energy = 0.0
    for i in range(n):
        total = 0.0
        for j in range(n):
            total += matrix[i, j] * x[j]
        field[i] = 2.0 * total
        energy += x[i] * total
    return energy


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _flip(matrix: np.ndarray, x: np.ndarray, field: np.ndarray, i: int, step: float) -> None:
    x[i] += step
    for j in range(x.size):
        field[j] += 2.0 * step * matrix[i, j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def all_energies(matrix: np.ndarray) -> tuple[int, float, float]:
    """(best choice as bits, lowest, highest energy) over all 2^n choices, one flip apart (Gray's order)."""
    n = matrix.shape[0]
    x, field = np.zeros(n), np.zeros(n)
    energy, lowest, highest = 0.0, 0.0, 0.0
    code, best = 0, 0
    for step in range(1, 1 << n):
        i = 0
        while not (step >> i) & 1:
            i += 1
        sign = 1.0 - 2.0 * x[i]
        energy += sign * field[i] + matrix[i, i]
        _flip(matrix, x, field, i, sign)
        code ^= 1 << i
        if energy < lowest:
            lowest, best = energy, code
        highest = max(highest, energy)
    return best, lowest, highest


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    matrix = np.array([[-1.0, 0.3], [0.3, -0.5]])
    anneal(matrix, 2, 3, 1.0, 0.1, np.uint64(1))
    anneal_quantum(matrix, 2, 3, 2, 0.5, 2.0, np.uint64(1))
    all_energies(matrix)
    x, field = np.zeros(2), np.zeros(2)
    _fields(matrix, x, field)
    _flip(matrix, x, field, 0, 1.0)
