"""Compiled recursions of dynamic conditional correlation, each beside its plain twin.

    q_t = (1 - a - b) S + a d_{t-1} d_{t-1}' + b q_{t-1},  q_1 = S

S is the target, d the driver: the standardised shocks z (Engle 2002), or z times the deviations of q (Aielli 2013).
r_t is the correlation matrix of q_t. Matrices live in the upper triangle; no kernel allocates; where some q_t is not
positive definite the answer is NaN, which the caller refuses.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

FASTMATH = {"reassoc", "contract", "nsz", "arcp"}
CHUNK = 16  # factors multiplied before one logarithm is taken of them all; each is far above 1e-19


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def full_log_likelihood(shocks, driver, target, a, b, q, work, daily):  # type: ignore[no-untyped-def]
    """Gaussian log likelihood of the shocks beyond that of independent ones; see :func:`full_log_likelihood_plain`.

    One LDL' factorisation of q_t a day gives determinant and quadratic form; scaling z by the deviations of q_t saves
    forming r_t.

    Parameters
    ----------
    shocks, driver : ndarray of shape (n_days, n)
    target : ndarray of shape (n, n)
    a, b : float
    q : ndarray of shape (n, n)
        Overwritten; its upper triangle holds q of the last day afterwards.
    work : ndarray of shape (n, n + 1)
        Overwritten.
    daily : ndarray of shape (n_days,)
        Receives what each day adds.

    Returns
    -------
    float
        The sum of ``daily``.
    """
    days, n = shocks.shape
    total = 0.0
    for t in range(days):
        _advance(t, driver, target, a, b, q, n)
        log_det, quadratic, product = 0.0, 0.0, 1.0
        for i in range(n):
            for j in range(i, n):
                work[i, j] = q[i, j]
            work[i, n] = math.sqrt(q[i, i]) * shocks[t, i]
            quadratic -= shocks[t, i] ** 2
        for k in range(n):
            pivot = work[k, k]
            if not pivot > 0.0:
                return math.nan
            inverse = 1.0 / pivot
            product *= pivot / q[k, k]
            if k % CHUNK == CHUNK - 1 or k == n - 1:
                log_det += math.log(product)
                product = 1.0
            quadratic += work[k, n] ** 2 * inverse
            for i in range(k + 1, n):
                factor = work[k, i] * inverse
                for j in range(i, n + 1):
                    work[i, j] -= factor * work[k, j]
        daily[t] = -0.5 * (log_det + quadratic)
        total += daily[t]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def pair_log_likelihood(shocks, driver, target, a, b, reach, q, scale, daily):  # type: ignore[no-untyped-def]
    """Composite log likelihood: the mean over pairs (i, j), j - i <= ``reach``, of their own likelihoods.

    Shapes as in :func:`full_log_likelihood`; ``scale`` of shape (n,) is overwritten. ``reach`` 1 is the contiguous
    pairs, n - 1 all of them (Pakel, Shephard, Sheppard & Engle 2021).
    """
    days, n = shocks.shape
    constant = 1.0 - a - b
    pairs = reach * n - reach * (reach + 1) // 2
    total = 0.0
    for t in range(days):
        for i in range(n):
            if t == 0:
                for j in range(i, min(n, i + reach + 1)):
                    q[i, j] = target[i, j]
            else:
                q[i, i] = constant * target[i, i] + a * driver[t - 1, i] * driver[t - 1, i] + b * q[i, i]
            scale[i] = 1.0 / math.sqrt(q[i, i])
        added = 0.0
        for i in range(n):
            x = shocks[t, i]
            pull = 0.0 if t == 0 else a * driver[t - 1, i]
            last = min(n, i + reach + 1)
            for start in range(i + 1, last, CHUNK):
                product = 1.0
                for j in range(start, min(last, start + CHUNK)):
                    if t > 0:
                        q[i, j] = constant * target[i, j] + pull * driver[t - 1, j] + b * q[i, j]
                    y = shocks[t, j]
                    rho = q[i, j] * scale[i] * scale[j]
                    rest = 1.0 - rho * rho
                    product *= rest
                    added += rho * (rho * (x * x + y * y) - 2.0 * x * y) / rest
                if not product > 0.0:
                    return math.nan
                added += math.log(product)
        daily[t] = -0.5 * added / pairs
        total += daily[t]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def corrected_driver(shocks, a, b, driver):  # type: ignore[no-untyped-def]
    """Driver of the corrected model for a target of unit diagonal: shocks times the deviations of q.

    The diagonal of q depends on nothing but itself, so it can run ahead of the rest.
    """
    days, n = shocks.shape
    for i in range(n):
        variance = 1.0
        for t in range(days):
            driver[t, i] = math.sqrt(variance) * shocks[t, i]
            variance = (1.0 - a - b) + a * driver[t, i] ** 2 + b * variance


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def sensitivity(shocks, target, a, b, reach, q, work, slopes, to_shocks, to_target):  # type: ignore[no-untyped-def]
    """Derivatives of the log likelihood (driver = shocks) by every shock and by the target, in two sweeps.

    Forward: d ll_t / d q_t. Backward: what a change of q_t does to all later days, g_t = d ll_t / d q_t + b g_{t+1}.

    Parameters
    ----------
    reach : int
        0 for the full likelihood, else as in :func:`pair_log_likelihood`.
    q, work : ndarray of shape (n, n)
    slopes : ndarray of shape (n_days, n, n)
        Overwritten.
    to_shocks : ndarray of shape (n_days, n)
        Receives d ll / d z.
    to_target : ndarray of shape (n, n)
        Receives d ll / d S, symmetric: a small symmetric change dS changes ll by the sum of its products with dS.

    Returns
    -------
    float
        0, or NaN where a q_t is not positive definite.
    """
    days, n = shocks.shape
    for t in range(days):
        _advance(t, shocks, target, a, b, q, n)
        if reach == 0:
            if not _full_slope(shocks[t], q, work, slopes[t], to_shocks[t], n) > 0.0:
                return math.nan
        else:
            _pair_slope(shocks[t], q, reach, slopes[t], to_shocks[t], n)
    for i in range(n):
        for j in range(n):
            to_target[i, j] = 0.0
    for t in range(days - 1, -1, -1):
        share = 1.0 if t == 0 else 1.0 - a - b
        for i in range(n):
            moved = 0.0
            for j in range(n):
                if t < days - 1:
                    slopes[t, i, j] += b * slopes[t + 1, i, j]
                    moved += slopes[t + 1, i, j] * shocks[t, j]
                to_target[i, j] += share * slopes[t, i, j]
            to_shocks[t, i] += 2.0 * a * moved
    return 0.0


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _advance(t, driver, target, a, b, q, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        if t == 0:
            for j in range(i, n):
                q[i, j] = target[i, j]
        else:
            pull = a * driver[t - 1, i]
            for j in range(i, n):
                q[i, j] = (1.0 - a - b) * target[i, j] + pull * driver[t - 1, j] + b * q[i, j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _full_slope(z, q, inverse, slope, to_z, n):  # type: ignore[no-untyped-def]
    """Derivatives of one day's full log likelihood by q (symmetric) and by z; returns the least pivot of q."""
    for i in range(n):
        for j in range(i, n):
            inverse[i, j] = q[i, j]
            inverse[j, i] = q[i, j]
    least = math.inf
    for k in range(n):  # Gauss-Jordan in place; a positive definite matrix needs no exchange of rows
        pivot = inverse[k, k]
        least = min(least, pivot)
        inverse[k, k] = 1.0
        for j in range(n):
            inverse[k, j] /= pivot
        for i in range(n):
            if i != k:
                factor = inverse[i, k]
                inverse[i, k] = 0.0
                for j in range(n):
                    inverse[i, j] -= factor * inverse[k, j]
    for i in range(n):
        solved = 0.0
        for j in range(n):
            solved += inverse[i, j] * math.sqrt(q[j, j]) * z[j]
        to_z[i] = solved
    for i in range(n):
        for j in range(n):
            slope[i, j] = -0.5 * (inverse[i, j] - to_z[i] * to_z[j])
    for i in range(n):
        deviation = math.sqrt(q[i, i])
        slope[i, i] += 0.5 * (1.0 / q[i, i] - to_z[i] * z[i] / deviation)
        to_z[i] = z[i] - to_z[i] * deviation
    return least


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _pair_slope(z, q, reach, slope, to_z, n):  # type: ignore[no-untyped-def]
    """Derivatives of one day's composite log likelihood by q (symmetric) and by z."""
    pairs = reach * n - reach * (reach + 1) // 2
    for i in range(n):
        to_z[i] = 0.0
        for j in range(n):
            slope[i, j] = 0.0
    for i in range(n):
        for j in range(i + 1, min(n, i + reach + 1)):
            x, y = z[i], z[j]
            scale = 1.0 / math.sqrt(q[i, i] * q[j, j])
            rho = q[i, j] * scale
            inverse = 1.0 / (1.0 - rho * rho)
            squares = x * x + y * y
            form = rho * rho * squares - 2.0 * rho * x * y
            by_rho = (rho - rho * squares + x * y) * inverse - rho * form * inverse * inverse
            by_rho /= pairs
            slope[i, j] = 0.5 * by_rho * scale
            slope[j, i] = slope[i, j]
            slope[i, i] -= 0.5 * by_rho * rho / q[i, i]
            slope[j, j] -= 0.5 * by_rho * rho / q[j, j]
            to_z[i] -= (rho * rho * x - rho * y) * inverse / pairs
            to_z[j] -= (rho * rho * y - rho * x) * inverse / pairs


def full_log_likelihood_plain(shocks: np.ndarray, driver: np.ndarray, target: np.ndarray, a: float, b: float) -> float:
    """The definition: -(log|r_t| + z_t' r_t^{-1} z_t - z_t' z_t) / 2, summed over days."""
    return float(sum(_density(z, r) for z, r in zip(shocks, correlations_plain(driver, target, a, b), strict=True)))


def pair_log_likelihood_plain(
    shocks: np.ndarray, driver: np.ndarray, target: np.ndarray, a: float, b: float, reach: int
) -> float:
    """The definition: the mean over pairs of the likelihoods of their two shocks."""
    n = shocks.shape[1]
    pairs = [[i, j] for i in range(n) for j in range(i + 1, min(n, i + reach + 1))]
    return float(
        np.mean([full_log_likelihood_plain(shocks[:, p], driver[:, p], target[np.ix_(p, p)], a, b) for p in pairs])
    )


def corrected_driver_plain(shocks: np.ndarray, a: float, b: float) -> np.ndarray:
    """The definition, every symbol at once."""
    variance = np.ones(shocks.shape[1])
    driver = np.empty_like(shocks)
    for t, z in enumerate(shocks):
        driver[t] = np.sqrt(variance) * z
        variance = (1 - a - b) + a * driver[t] ** 2 + b * variance
    return driver


def correlations_plain(driver: np.ndarray, target: np.ndarray, a: float, b: float) -> list[np.ndarray]:
    """r_t of every day."""
    q, found = target, []
    for t in range(len(driver)):
        if t:
            q = (1 - a - b) * target + a * np.outer(driver[t - 1], driver[t - 1]) + b * q
        deviations = np.sqrt(np.diag(q))
        found.append(q / np.outer(deviations, deviations))
    return found


def _density(z: np.ndarray, r: np.ndarray) -> float:
    return -0.5 * float(np.linalg.slogdet(r)[1] + z @ np.linalg.solve(r, z) - z @ z)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    shocks, target = np.array([[0.5, -1.0], [1.0, 0.5], [-0.5, 0.2]]), np.array([[1.0, 0.3], [0.3, 1.0]])
    q, daily, driver, slopes = np.empty((2, 2)), np.empty(3), np.empty((3, 2)), np.empty((3, 2, 2))
    full_log_likelihood(shocks, shocks, target, 0.05, 0.9, q, np.empty((2, 3)), daily)
    pair_log_likelihood(shocks, shocks, target, 0.05, 0.9, 1, q, np.empty(2), daily)
    corrected_driver(shocks, 0.05, 0.9, driver)
    for reach in (0, 1):
        sensitivity(shocks, target, 0.05, 0.9, reach, q, np.empty((2, 2)), slopes, driver, np.empty((2, 2)))
