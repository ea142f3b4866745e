"""Covariance and correlation of daily returns, shared by the rooms that need them.

Returns have shape (n_observations, n_symbols) and are simple daily fractions; covariances are per day.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cluster.errors import InvalidMarketData

MEDIAN_GRID = 20_000  # points of an integral over the noise band
REPAIR_TOLERANCE = 1e-10  # entries and eigenvalues that far off are rounding
MAX_PROJECTIONS = 20_000


def ledoit_wolf(returns: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance shrunk towards a scaled identity by the optimal amount (Ledoit & Wolf 2004, section 3.3).

    Returns
    -------
    covariance : ndarray of shape (n_symbols, n_symbols)
    shrinkage : float
        Weight of the target, 0 to 1.

    Raises
    ------
    InvalidMarketData
        Fewer than two observations, or a value that is not finite.
    """
    _check(returns)
    n, p = returns.shape
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / n
    mean_variance = np.trace(sample) / p
    distance = ((sample - mean_variance * np.eye(p)) ** 2).sum() / p
    squares = centred**2
    noise = ((squares.T @ squares).sum() / n - (sample**2).sum()) / (n * p)
    shrinkage = float(min(max(noise, 0.0), distance) / distance) if distance > 0 else 0.0
    return (1 - shrinkage) * sample + shrinkage * mean_variance * np.eye(p), shrinkage


def ewma(returns: np.ndarray, decay: float) -> np.ndarray:
    """Exponentially weighted covariance about zero (RiskMetrics 1996): the newest day weighs most, weights sum to 1."""
    _check(returns)
    weights = decay ** np.arange(len(returns) - 1, -1, -1, dtype=float)
    weights /= weights.sum()
    return np.asarray((returns * weights[:, None]).T @ returns)


def correlation_of(covariance: np.ndarray) -> np.ndarray:
    """Correlation matrix with an exact unit diagonal.

    Raises
    ------
    InvalidMarketData
        A variance is zero: the correlation of a series that does not move is not defined.
    """
    deviations = np.sqrt(np.diag(covariance))
    if not (deviations > 0).all():
        raise InvalidMarketData("a series does not move, so it has no correlation", "Leave it out")
    correlation = np.clip(covariance / np.outer(deviations, deviations), -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(correlation)


@dataclass(frozen=True)
class Denoised:
    """A correlation matrix without the noise that independent symbols would show."""

    correlation: np.ndarray
    """Shape (n_symbols, n_symbols), unit diagonal."""
    edge: float
    """Eigenvalue up to which the spectrum is noise."""
    factors: int
    """Eigenvalues above the edge, which are kept."""


def denoised(correlation: np.ndarray, observations: int, edge: float | None = None) -> Denoised:
    """Eigenvalues within the Marchenko-Pastur band replaced by their mean (Laloux, Cizeau, Bouchaud & Potters 1999).

    The band of noise of variance s ends at s (1 + sqrt(n / T))^2. The variance is fitted where factors do not reach:
    the median eigenvalue is that of the law (Gavish & Donoho 2014). Needs less than half of the eigenvalues to be
    factors. The result is positive definite also where symbols outnumber days.

    Parameters
    ----------
    correlation : ndarray of shape (n_symbols, n_symbols)
    observations : int
        Days that it rests on.
    edge : float, optional
        An edge that is known already, not to be fitted.

    Raises
    ------
    InvalidMarketData
        Fewer than two observations, or a value that is not finite.
    """
    n = len(correlation)
    if observations < 2 or not np.isfinite(correlation).all():
        raise InvalidMarketData("fewer than two observations, or a correlation that is not finite", "Correct the data")
    values, vectors = np.linalg.eigh(correlation)
    spanned = min(n, observations - 1)  # eigenvalues that are not zero by want of days
    ratio = n / observations
    if edge is None:
        variance = float(np.median(values[n - spanned :])) / marchenko_pastur_median(ratio)
        edge = variance * (1 + math.sqrt(ratio)) ** 2
    # One eigenvalue that is not zero is left to be noise: without it nothing would be under the factors.
    kept = min(int((values > edge).sum()), spanned - 1)
    cleaned = values.copy()
    cleaned[: n - kept] = values[: n - kept].mean()
    return Denoised(correlation_of((vectors * cleaned) @ vectors.T), edge, kept)


@lru_cache(maxsize=256)
def marchenko_pastur_median(ratio: float) -> float:
    """Median of the eigenvalues, zeros left out, of the covariance of independent unit-variance series.

    Parameters
    ----------
    ratio : float
        Symbols over days.
    """
    # x = 1 + ratio - 2 sqrt(ratio) cos(angle) runs through the band, and dx takes the density's roots away.
    angles = (np.arange(MEDIAN_GRID) + 0.5) * math.pi / MEDIAN_GRID
    places = 1 + ratio - 2 * math.sqrt(ratio) * np.cos(angles)
    mass = np.cumsum(np.sin(angles) ** 2 / places)
    return float(np.interp(0.5, mass / mass[-1], places))


@dataclass(frozen=True)
class Repair:
    """The nearest correlation matrix, and how far away it was."""

    correlation: np.ndarray
    """Symmetric, unit diagonal, positive semidefinite up to rounding."""
    distance: float
    """Frobenius norm of the change; 0 where nothing was repaired."""
    reason: str
    """What was wrong; empty where nothing was."""


def nearest_correlation(matrix: np.ndarray) -> Repair:
    """The correlation matrix nearest in the Frobenius norm (Higham 2002).

    Alternating projections onto positive semidefinite and unit-diagonal matrices, with Dykstra's correction of the
    first, which is what makes the limit the nearest one and not just some one. A matrix that is a correlation matrix
    comes back unchanged, so repairing twice changes nothing.

    Raises
    ------
    InvalidMarketData
        Not square, not finite, or the projections do not settle.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise InvalidMarketData(f"no square matrix of finite values: {matrix.shape}", "Correct the correlations")
    faults = []
    if not np.allclose(matrix, matrix.T, rtol=0, atol=REPAIR_TOLERANCE):
        faults.append("not symmetric")
    if not np.allclose(np.diag(matrix), 1.0, rtol=0, atol=REPAIR_TOLERANCE):
        faults.append("its diagonal is not 1")
    current = (matrix + matrix.T) / 2
    least = float(np.linalg.eigvalsh(current)[0])
    if least < -REPAIR_TOLERANCE * len(matrix):
        faults.append(f"its least eigenvalue is {least:.3g}")
    if not faults:
        return Repair(matrix, 0.0, "")
    correction = np.zeros_like(current)
    for _ in range(MAX_PROJECTIONS):
        shifted = current - correction
        values, vectors = np.linalg.eigh(shifted)
        semidefinite = (vectors * np.clip(values, 0.0, None)) @ vectors.T
        correction = semidefinite - shifted
        following = semidefinite.copy()
        np.fill_diagonal(following, 1.0)
        moved = float(np.abs(following - current).max())
        current = following
        if moved < REPAIR_TOLERANCE:
            break
    else:
        raise InvalidMarketData(
            f"the nearest correlation matrix was not reached in {MAX_PROJECTIONS} projections", "Correct the matrix"
        )
    # The last step may leave eigenvalues of minus a few roundings; scaling a semidefinite matrix cannot.
    values, vectors = np.linalg.eigh(current)
    repaired = correlation_of((vectors * np.clip(values, 0.0, None)) @ vectors.T)
    repaired = (repaired + repaired.T) / 2
    return Repair(repaired, float(np.linalg.norm(repaired - matrix)), ", ".join(faults))


def long_run_covariance(series: np.ndarray) -> np.ndarray:
    """Covariance of sqrt(n) times the mean of dependent series of shape (n, k), by Newey & West (1987).

    Bartlett weights over n^(1/3) lags; positive semidefinite.
    """
    n = len(series)
    lags = math.ceil(n ** (1 / 3))
    centred = series - series.mean(axis=0)
    total = centred.T @ centred / n
    for lag in range(1, min(lags, n - 1) + 1):
        product = centred[lag:].T @ centred[:-lag] / n
        total += (1 - lag / (lags + 1)) * (product + product.T)
    return np.asarray(total)


def mean_pair(correlation: np.ndarray) -> float:
    """Mean of the correlations off the diagonal, of at least two symbols."""
    n = len(correlation)
    return float((correlation.sum() - n) / (n * (n - 1)))


def _check(returns: np.ndarray) -> None:
    if len(returns) < 2 or not np.isfinite(returns).all():
        raise InvalidMarketData("fewer than two observations, or one that is not finite", "Correct the market data")
