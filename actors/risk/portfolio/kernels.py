"""Compiled allocations on resident state: risk budgets by coordinate descent, box-constrained minimum variance exactly.

Both start from the weights they are given, so that a covariance that changed a little costs a little. Covariances are
symmetric, float64, C-contiguous, shape (n, n).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH

SLACK = 1e-12  # by which a weight may miss its bound, and a multiplier its sign, relative to their scale
LOWER, FREE, UPPER = -1, 0, 1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def risk_budgets(
    covariance: np.ndarray, budgets: np.ndarray, weights: np.ndarray, tolerance: float, max_sweeps: int
) -> int:
    """Sweeps taken until every risk contribution is within ``tolerance`` of its budget; -1 where that is not reached.

    Cyclical coordinate descent on w'Sw / 2 - sum b_i log w_i (Griveau-Billion, Richard & Roncalli 2013), whose only
    minimum over positive w has contributions w_i (Sw)_i in proportion to the budgets.

    Parameters
    ----------
    budgets : ndarray of shape (n,)
        Positive, summing to 1.
    weights : ndarray of shape (n,)
        Start, positive; receives the answer, scaled to sum to 1.
    """
    n = weights.size
    # At the minimum w'Sw = sum b = 1: starting at that scale, a start in the right direction is nearly there.
    scale = 0.0
    for i in range(n):
        row = 0.0
        for j in range(n):
            row += covariance[i, j] * weights[j]
        scale += row * weights[i]
    if not (scale > 0.0) or not (scale < np.inf):
        return -1
    factor = 1.0 / np.sqrt(scale)
    for i in range(n):
        weights[i] *= factor
    for sweep in range(1, max_sweeps + 1):
        total = 0.0
        worst = 0.0
        for i in range(n):
            row = covariance[i]
            product = 0.0
            for j in range(n):
                product += row[j] * weights[j]
            # Before its step, the contribution of i is that of the newest weights: the error costs nothing extra.
            error = abs(weights[i] * product - budgets[i])
            worst = error if error > worst else worst
            variance = row[i]
            others = product - variance * weights[i]
            root = np.sqrt(others * others + 4.0 * variance * budgets[i])
            # Of the two forms of the root the one that does not cancel.
            weights[i] = 2.0 * budgets[i] / (others + root) if others > 0.0 else (root - others) / (2.0 * variance)
        if sweep == max_sweeps or worst < 10.0 * tolerance:
            for i in range(n):
                product = 0.0
                for j in range(n):
                    product += covariance[i, j] * weights[j]
                total += weights[i] * product
            worst = 0.0
            for i in range(n):
                product = 0.0
                for j in range(n):
                    product += covariance[i, j] * weights[j]
                error = abs(weights[i] * product / total - budgets[i])
                worst = error if error > worst else worst
            if worst < tolerance:
                _scale_to_one(weights)
                return sweep
        if not (worst < np.inf):
            return -1
        if sweep % 4 == 0:  # nearly perfect hedges creep along one direction: put them back to scale
            total = 0.0
            for i in range(n):
                product = 0.0
                for j in range(n):
                    product += covariance[i, j] * weights[j]
                total += weights[i] * product
            factor = 1.0 / np.sqrt(total)
            for i in range(n):
                weights[i] *= factor
    return -1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _scale_to_one(weights: np.ndarray) -> None:
    total = 0.0
    for i in range(weights.size):
        total += weights[i]
    for i in range(weights.size):
        weights[i] /= total


def risk_budgets_plain(covariance: np.ndarray, budgets: np.ndarray, tolerance: float, max_sweeps: int) -> np.ndarray:
    """Plain twin of :func:`risk_budgets`: Newton's method on the same function, weights summing to 1 (Spinu 2013)."""
    weights = np.sqrt(budgets / np.diag(covariance))
    weights /= np.sqrt(weights @ covariance @ weights)
    for _ in range(max_sweeps):
        gradient = covariance @ weights - budgets / weights
        step = np.linalg.solve(covariance + np.diag(budgets / weights**2), gradient)
        decrement = float(np.sqrt(abs(float(gradient @ step))))
        damping = 1.0 if decrement < 0.25 else 1.0 / (1.0 + float(np.abs(step / weights).max()))
        weights = weights - damping * step
        product = weights * (covariance @ weights)
        if float(np.abs(product / product.sum() - budgets).max()) < tolerance:
            break
    return np.asarray(weights / weights.sum())


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def minimum_variance(
    covariance: np.ndarray,
    rewards: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    total: float,
    weights: np.ndarray,
    places: np.ndarray,
    work: np.ndarray,
    max_rounds: int,
) -> int:
    """Rounds to the exact minimum of w'Sw / 2 - r'w over lower <= w <= upper, sum w = total; -1 where it fails.

    A primal active-set method: on the free weights the equality-constrained minimum is one Cholesky solve; a step
    stops at the first bound it meets, and a bound whose multiplier has the wrong sign is left.

    Parameters
    ----------
    rewards : ndarray of shape (n,)
        r; zeros for least variance.
    weights : ndarray of shape (n,)
        Start, within the bounds and of the sum ``total``; receives the answer.
    places : int64 ndarray of shape (2, n)
        First row: -1, 0 or 1 for a weight at its lower bound, free, or at its upper bound; kept between calls.
    work : ndarray of shape (n + 4, n)
        Overwritten.
    """
    n = weights.size
    status, free = places[0], places[1]
    scale = 0.0
    for i in range(n):
        scale += covariance[i, i]
    scale /= n
    largest = 0.0
    for i in range(n):
        largest = max(largest, abs(rewards[i]))
        if np.isnan(rewards[i]):
            return -1
    if not (scale > 0.0) or not (scale + largest < np.inf):
        return -1
    for i in range(n):
        if status[i] == LOWER:
            if weights[i] > lower[i] + SLACK:
                status[i] = FREE
        elif status[i] == UPPER and weights[i] < upper[i] - SLACK:
            status[i] = FREE
    root, target, ones, fixed = work, work[n], work[n + 1], work[n + 2]
    for round_number in range(1, max_rounds + 1):
        m = np.int64(0)
        for i in range(n):
            if status[i] == FREE:
                free[m] = i
                m += 1
        multiplier = 0.0
        if m > 0:
            # From the bounds and not from the free weights, whose rounding would add up over a million warm calls.
            room = total
            for j in range(n):
                if status[j] != FREE:
                    room -= weights[j]
            for a in range(m):
                i = free[a]
                pull = -rewards[i]
                for j in range(n):
                    if status[j] != FREE:
                        pull += covariance[i, j] * weights[j]
                fixed[a] = pull
            if not _solve(covariance, free, m, fixed, target, ones, root, scale):
                return -1
            sum_target, sum_ones = 0.0, 0.0
            for a in range(m):
                sum_target += target[a]
                sum_ones += ones[a]
            multiplier = (room + sum_target) / sum_ones
            step, blocked, side = 1.0, -1, FREE
            for a in range(m):
                i = free[a]
                aim = multiplier * ones[a] - target[a]
                target[a] = aim
                move = aim - weights[i]
                if aim < lower[i] - SLACK and move < 0.0:
                    reach = (lower[i] - weights[i]) / move
                    if reach < step:
                        step, blocked, side = max(reach, 0.0), i, LOWER
                elif aim > upper[i] + SLACK and move > 0.0:
                    reach = (upper[i] - weights[i]) / move
                    if reach < step:
                        step, blocked, side = max(reach, 0.0), i, UPPER
            for a in range(m):
                i = free[a]
                moved = weights[i] + step * (target[a] - weights[i])
                if moved < lower[i]:  # by rounding; a NaN passes both and is refused below
                    moved = lower[i]
                elif moved > upper[i]:
                    moved = upper[i]
                weights[i] = moved
            if blocked >= 0:
                status[blocked] = side
                weights[blocked] = lower[blocked] if side == LOWER else upper[blocked]
                continue
        else:
            multiplier = np.nan
        released = _release(covariance, rewards, lower, upper, weights, status, multiplier, scale + largest)
        if released < 0:
            return -1
        if released == 0:
            for i in range(n):
                if not (abs(weights[i]) < np.inf):
                    return -1
            return round_number
    return -1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _release(
    covariance: np.ndarray,
    rewards: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    weights: np.ndarray,
    status: np.ndarray,
    multiplier: float,
    scale: float,
) -> int:
    """Free the bound that holds back most; 0 where none does, -1 on a NaN. With no free weight, the best pair."""
    n = weights.size
    lowest, highest = np.inf, -np.inf  # slopes of weights that may rise, and of those that may fall
    rising, falling = -1, -1
    for i in range(n):
        if status[i] == FREE or upper[i] - lower[i] <= SLACK:
            continue
        slope = -rewards[i]
        for j in range(n):
            slope += covariance[i, j] * weights[j]
        if np.isnan(slope):
            return -1
        if status[i] == LOWER and slope < lowest:
            lowest, rising = slope, i
        if status[i] == UPPER and slope > highest:
            highest, falling = slope, i
    tolerance = 1e-11 * scale
    if np.isnan(multiplier):
        if rising >= 0 and falling >= 0 and lowest < highest - tolerance:
            status[rising] = FREE
            status[falling] = FREE
            return 1
        return 0
    gain_up = multiplier - lowest if rising >= 0 else -np.inf
    gain_down = highest - multiplier if falling >= 0 else -np.inf
    if max(gain_up, gain_down) <= tolerance:
        return 0
    status[rising if gain_up >= gain_down else falling] = FREE
    return 1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _solve(
    covariance: np.ndarray,
    free: np.ndarray,
    m: np.int64,
    fixed: np.ndarray,
    target: np.ndarray,
    ones: np.ndarray,
    root: np.ndarray,
    scale: float,
) -> bool:
    """Solve S_ff target = fixed and S_ff ones = 1 by one Cholesky factor; whether S_ff is definite."""
    for a in range(m):
        line = covariance[free[a]]
        for b in range(a + 1):
            value = line[free[b]]
            for c in range(b):
                value -= root[a, c] * root[b, c]
            if a == b:
                if not (value > 1e-14 * scale):
                    return False
                root[a, a] = np.sqrt(value)
            else:
                root[a, b] = value / root[b, b]
    for a in range(m):
        x, y = fixed[a], 1.0
        for c in range(a):
            x -= root[a, c] * target[c]
            y -= root[a, c] * ones[c]
        target[a] = x / root[a, a]
        ones[a] = y / root[a, a]
    for a in range(m - 1, -1, -1):
        x, y = target[a], ones[a]
        for c in range(a + 1, m):
            x -= root[c, a] * target[c]
            y -= root[c, a] * ones[c]
        target[a] = x / root[a, a]
        ones[a] = y / root[a, a]
    return True


def minimum_variance_plain(
    covariance: np.ndarray, lower: np.ndarray, upper: np.ndarray, total: float, rewards: np.ndarray | None = None
) -> np.ndarray:
    """Plain twin of :func:`minimum_variance`: the same problem by SciPy's SLSQP, to about 1e-7."""
    from scipy.optimize import minimize

    start = lower + (upper - lower) * ((total - lower.sum()) / max(float((upper - lower).sum()), 1e-300))
    scale = float(np.trace(covariance)) / len(lower)
    pull = np.zeros(len(lower)) if rewards is None else rewards
    found = minimize(
        lambda w: (0.5 * float(w @ covariance @ w) - float(pull @ w)) / scale,
        start,
        jac=lambda w: (covariance @ w - pull) / scale,
        bounds=list(zip(lower, upper, strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - total, "jac": lambda w: np.ones(len(w))},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return np.asarray(found.x)


class BoxMinimumVariance:
    """Minimum variance, or variance less rewards, within boxes; kept warm between calls.

    Parameters
    ----------
    lower, upper : ndarray of shape (n,)
    total : float
        Sum of the weights.

    Raises
    ------
    ValueError
        No weights within the bounds have that sum.
    """

    def __init__(self, lower: np.ndarray, upper: np.ndarray, total: float = 1.0) -> None:
        lower, upper = np.array(lower, float), np.array(upper, float)
        if (lower > upper).any() or lower.sum() > total + SLACK or upper.sum() < total - SLACK:
            raise ValueError(f"no weights within the bounds sum to {total:g}")
        n = len(lower)
        self.lower, self.upper, self.total = lower, upper, float(total)
        self.weights = np.empty(n)
        self._no_rewards = np.zeros(n)
        self._places = np.zeros((2, n), np.int64)
        self._work = np.empty((n + 4, n))
        self._max_rounds = 20 * n + 20
        self._restart()

    def solve(self, covariance: np.ndarray, rewards: np.ndarray | None = None) -> np.ndarray:
        """The weights of least w'Sw / 2 - r'w, shape (n,): a buffer that the next call overwrites.

        Raises
        ------
        ValueError
            The covariance is not positive definite on the weights that are free, or something is not finite.
        """
        rounds = minimum_variance(
            covariance,
            self._no_rewards if rewards is None else rewards,
            self.lower,
            self.upper,
            self.total,
            self.weights,
            self._places,
            self._work,
            self._max_rounds,
        )
        if rounds < 0:
            self._restart()
            raise ValueError("the covariance is not positive definite")
        answer: np.ndarray = self.weights
        return answer

    def _restart(self) -> None:
        """Back to the start: what a failed call left is no portfolio."""
        room = float((self.upper - self.lower).sum())
        share = (self.total - float(self.lower.sum())) / room if room > 0 else 0.0
        self.weights[:] = self.lower + (self.upper - self.lower) * share
        self._places[:] = 0


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    covariance = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, 0.3], [0.5, 0.3, 3.0]])
    weights = np.full(3, 1 / 3)
    risk_budgets(covariance, np.full(3, 1 / 3), weights, 1e-8, 100)
    _scale_to_one(weights)
    solver = BoxMinimumVariance(np.zeros(3), np.full(3, 0.6))
    solver.solve(covariance)
    _release(covariance, np.zeros(3), solver.lower, solver.upper, solver.weights, solver._places[0], 1.0, 1.0)
    free, work = np.arange(3), np.empty((7, 3))
    _solve(covariance, free, np.int64(3), work[3], work[4], work[5], work, 1.0)
