"""Compiled searches over QUBOs, x'Qx over x in {0, 1}^n: Metropolis sweeps, tabu search, all energies in Gray order.

Every search keeps ``field`` = 2 Qx, so that the energy of a move is known without a product. Moves are flips of one
unknown and exchanges of one that is 1 with one that is 0: under a penalty on their number, flips alone would have to
climb over it to get from one choice to the next.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MASK = 2**64 - 1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _uniform(state):  # type: ignore[no-untyped-def]
    """(next state, a uniform in [0, 1)) of SplitMix64 (Steele, Lea & Flood 2014)."""
    state += GOLDEN
    x = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return state, np.float64(x >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def anneal(
    matrix: np.ndarray, runs: int, sweeps: int, hot: float, cold: float, seed: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """(best choices (runs, n), their energies (runs,)) of independent runs, cooled geometrically from hot to cold.

    A sweep tries one flip of, and one exchange with, every unknown.
    """
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
                    energy += change
                    _flip(matrix, x, field, i)
            for i in range(n):
                state, u = _uniform(state)
                j = int(u * n)
                state, u = _uniform(state)
                if x[i] == x[j]:
                    continue
                change = _exchange(matrix, x, field, i, j)
                if change <= 0.0 or u < np.exp(-change / temperature):
                    energy += change
                    _flip(matrix, x, field, i)
                    _flip(matrix, x, field, j)
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
    which falls linearly from ``strongest`` to nothing. A sweep tries a flip and an exchange of every unknown in every
    slice, then both on all slices together, which leaves the ties as they are.
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
                    change = (1.0 - 2.0 * x[s, i]) * field[s, i] + matrix[i, i]
                    # 2 tie s (s' + s'') of the spins 2x - 1.
                    torn = 4.0 * tie * (2.0 * x[s, i] - 1.0) * (above[i] + below[i] - 1.0)
                    state, u = _uniform(state)
                    if change + torn <= 0.0 or u < np.exp(-(change + torn) / effective):
                        energy[s] += change
                        _flip(matrix, x[s], field[s], i)
                for i in range(n):
                    state, u = _uniform(state)
                    j = int(u * n)
                    state, u = _uniform(state)
                    if x[s, i] == x[s, j]:
                        continue
                    change = _exchange(matrix, x[s], field[s], i, j)
                    torn = 4.0 * tie * (2.0 * x[s, i] - 1.0) * (above[i] + below[i] - above[j] - below[j])
                    if change + torn <= 0.0 or u < np.exp(-(change + torn) / effective):
                        energy[s] += change
                        _flip(matrix, x[s], field[s], i)
                        _flip(matrix, x[s], field[s], j)
            for i in range(n):
                change = 0.0
                for s in range(slices):
                    change += (1.0 - 2.0 * x[s, i]) * field[s, i] + matrix[i, i]
                state, u = _uniform(state)
                if change <= 0.0 or u < np.exp(-change / effective):
                    for s in range(slices):
                        energy[s] += (1.0 - 2.0 * x[s, i]) * field[s, i] + matrix[i, i]
                        _flip(matrix, x[s], field[s], i)
            for i in range(n):
                state, u = _uniform(state)
                j = int(u * n)
                state, u = _uniform(state)
                change = 0.0
                for s in range(slices):
                    if x[s, i] != x[s, j]:
                        change += _exchange(matrix, x[s], field[s], i, j)
                if change <= 0.0 or u < np.exp(-change / effective):
                    for s in range(slices):
                        if x[s, i] != x[s, j]:
                            energy[s] += _exchange(matrix, x[s], field[s], i, j)
                            _flip(matrix, x[s], field[s], i)
                            _flip(matrix, x[s], field[s], j)
            for s in range(slices):
                if energy[s] < energies[run]:
                    energies[run] = energy[s]
                    choices[run] = x[s]
        energies[run] = _fields(matrix, choices[run], field[0])
    return choices, energies


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def tabu(matrix: np.ndarray, runs: int, steps: int, tenure: int, seed: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """The same by tabu search (Glover 1989): the best move of all, what moved resting for ``tenure`` steps.

    A move onto less energy than any before is taken at once, resting or not.
    """
    n = matrix.shape[0]
    choices, energies = np.empty((runs, n)), np.empty(runs)
    x, field = np.empty(n), np.empty(n)
    rests = np.empty(n, np.int64)
    state = seed * GOLDEN + np.uint64(3)
    for run in range(runs):
        for i in range(n):
            state, u = _uniform(state)
            x[i] = 1.0 if u < 0.5 else 0.0
            rests[i] = 0
        energy = _fields(matrix, x, field)
        energies[run] = energy
        choices[run] = x
        for step in range(1, steps + 1):
            least, first, second = np.inf, -1, -1
            for i in range(n):
                change = (1.0 - 2.0 * x[i]) * field[i] + matrix[i, i]
                if change < least and (rests[i] < step or energy + change < energies[run]):
                    least, first, second = change, i, -1
                for j in range(i):
                    if x[i] != x[j]:
                        change = _exchange(matrix, x, field, i, j)
                        free = rests[i] < step and rests[j] < step
                        if change < least and (free or energy + change < energies[run]):
                            least, first, second = change, i, j
            if first < 0:
                continue
            energy += least
            _flip(matrix, x, field, first)
            rests[first] = step + tenure
            if second >= 0:
                _flip(matrix, x, field, second)
                rests[second] = step + tenure
            if energy < energies[run]:
                energies[run] = energy
                choices[run] = x
        energies[run] = _fields(matrix, choices[run], field)
    return choices, energies


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
        energy += (1.0 - 2.0 * x[i]) * field[i] + matrix[i, i]
        _flip(matrix, x, field, i)
        code ^= 1 << i
        if energy < lowest:
            lowest, best = energy, code
        highest = max(highest, energy)
    return best, lowest, highest


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _fields(matrix: np.ndarray, x: np.ndarray, field: np.ndarray) -> float:
    """Energy x'Qx; ``field`` receives 2 Qx, what a flip of each unknown is felt by."""
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
def _exchange(matrix: np.ndarray, x: np.ndarray, field: np.ndarray, i: int, j: int) -> float:
    """Change of energy when i and j, which differ, exchange their values."""
    step = 1.0 - 2.0 * x[i]
    change: float = step * (field[i] - field[j]) + matrix[i, i] + matrix[j, j] - 2.0 * matrix[i, j]
    return change


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _flip(matrix: np.ndarray, x: np.ndarray, field: np.ndarray, i: int) -> None:
    step = 1.0 - 2.0 * x[i]
    x[i] += step
    for j in range(x.size):
        field[j] += 2.0 * step * matrix[i, j]


class _Dice:
    """SplitMix64 as the kernels roll it."""

    def __init__(self, seed: int, offset: int) -> None:
        self.state = (seed * int(GOLDEN) + offset) & MASK

    def __call__(self) -> float:
        self.state = (self.state + int(GOLDEN)) & MASK
        x = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return ((x ^ (x >> 31)) >> 11) * 2.0**-53


def _moved(x: np.ndarray, *places: int) -> np.ndarray:
    other = x.copy()
    other[list(places)] = 1.0 - other[list(places)]
    return other


def anneal_plain(
    matrix: np.ndarray, runs: int, sweeps: int, hot: float, cold: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Plain twin of :func:`anneal`: whole energies, no fields."""
    n, dice = len(matrix), _Dice(seed, 1)
    choices, energies = np.empty((runs, n)), np.full(runs, np.inf)
    for run in range(runs):
        x = np.array([1.0 if dice() < 0.5 else 0.0 for _ in range(n)])
        for sweep in range(sweeps):
            temperature = hot * (cold / hot) ** (sweep / max(1, sweeps - 1))
            for kind in ("flip", "exchange"):
                for i in range(n):
                    j = i if kind == "flip" else int(dice() * n)
                    u = dice()
                    if kind == "exchange" and x[i] == x[j]:
                        continue
                    other = _moved(x, *{i, j})
                    change = other @ matrix @ other - x @ matrix @ x
                    if change <= 0 or u < math.exp(-change / temperature):
                        x = other
            if x @ matrix @ x < energies[run] - 1e-12 * np.abs(matrix).sum():
                choices[run], energies[run] = x, x @ matrix @ x
    return choices, energies


def anneal_quantum_plain(
    matrix: np.ndarray, runs: int, sweeps: int, slices: int, temperature: float, strongest: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Plain twin of :func:`anneal_quantum`: the whole energy of all slices and ties, before and after every move."""
    n, dice, effective = len(matrix), _Dice(seed, 7), temperature * slices
    choices, energies = np.empty((runs, n)), np.full(runs, np.inf)

    def whole(x: np.ndarray, tie: float) -> float:
        spins = 2 * x - 1
        return float(np.einsum("si,ij,sj->", x, matrix, x) - tie * (spins * np.roll(spins, 1, axis=0)).sum())

    for run in range(runs):
        x = np.array([[1.0 if dice() < 0.5 else 0.0 for _ in range(n)] for _ in range(slices)])
        for sweep in range(sweeps):
            transverse = strongest * (1.0 - (sweep + 0.5) / sweeps)
            tie = -0.5 * effective * math.log(math.tanh(transverse / effective))
            moves = [(s, kind) for s in range(slices) for kind in ("flip", "exchange")]
            for s, kind in [*moves, (None, "flip"), (None, "exchange")]:
                for i in range(n):
                    j = i if kind == "flip" else int(dice() * n)
                    u = dice()
                    other = x.copy()
                    for place in range(slices) if s is None else (s,):
                        if kind == "flip" or x[place, i] != x[place, j]:
                            other[place] = _moved(x[place], *{i, j})
                    change = whole(other, tie) - whole(x, tie)
                    if change <= 0 or u < math.exp(-change / effective):
                        x = other
            for row in x:
                if row @ matrix @ row < energies[run] - 1e-12 * np.abs(matrix).sum():
                    choices[run], energies[run] = row, row @ matrix @ row
    return choices, energies


def all_energies_plain(matrix: np.ndarray) -> tuple[int, float, float]:
    """Plain twin of :func:`all_energies`: every choice as a row."""
    n = len(matrix)
    bits = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)
    energies = np.einsum("ki,ij,kj->k", bits, matrix, bits)
    best = int(np.argmin(energies))
    return best, float(energies[best]), float(energies.max())


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    matrix = np.array([[-1.0, 0.3], [0.3, -0.5]])
    anneal(matrix, 2, 3, 1.0, 0.1, np.uint64(1))
    anneal_quantum(matrix, 2, 3, 2, 0.5, 2.0, np.uint64(1))
    tabu(matrix, 2, 3, 1, np.uint64(1))
    all_energies(matrix)
    x, field = np.zeros(2), np.zeros(2)
    _fields(matrix, x, field)
    _flip(matrix, x, field, 0)
    _exchange(matrix, x, field, 0, 1)
