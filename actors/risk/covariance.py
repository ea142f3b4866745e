"""Covariance and correlation of daily returns, shared by the rooms that need them.

Returns have shape (n_observations, n_symbols) and are simple daily fractions; covariances are per day.
"""

from __future__ import annotations

import numpy as np

from cluster.errors import InvalidMarketData


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


def mean_pair(correlation: np.ndarray) -> float:
    """Mean of the correlations off the diagonal, of at least two symbols."""
    n = len(correlation)
    return float((correlation.sum() - n) / (n * (n - 1)))


def _check(returns: np.ndarray) -> None:
    if len(returns) < 2 or not np.isfinite(returns).all():
        raise InvalidMarketData("fewer than two observations, or one that is not finite", "Correct the market data")
