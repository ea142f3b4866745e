"""Who drives the book: delta and gamma bumps, factor betas, and Shapley shares of the loss variance."""

from __future__ import annotations

import itertools
import math

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.exposures import position_returns
from actors.risk.measures import Z_INTERVAL
from cluster.errors import InvalidMarketData
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import FactorSensitivity, Sensitivity

EXACT_UP_TO = 7  # positions whose orders are all gone through


def sensitivities(
    book: Book, n_moved: int, returns: np.ndarray, *, bump: float, orders: int, seed: int
) -> tuple[Sensitivity, ...]:
    """Delta, gamma and variance share of every position.

    Parameters
    ----------
    n_moved : int
        What moves the book: its symbols, then its exchange rates.
    returns : ndarray of shape (n_observations, n_positions)
        Daily returns of the positions (:func:`actors.risk.exposures.position_returns`).
    bump : float
        Move by which a symbol is shifted up and down.
    orders : int
        Random orders that Shapley shares are averaged over, where there are more than ``EXACT_UP_TO`` positions.

    Raises
    ------
    InvalidMarketData
        The book's loss does not vary.
    """
    deltas, gammas = bumps(book, n_moved, bump)
    # Shrunk before it is weighted: the other way round, positions that are not held would be given variance.
    covariance = ledoit_wolf(returns)[0] * np.outer(book.weights, book.weights)
    shares, errors, count = shapley_shares(covariance, orders, seed)
    exact = count == math.factorial(len(shares)) and len(shares) <= EXACT_UP_TO
    how = "none: exact given the covariance" if exact else f"normal, {count} random orders, covariance as known"
    return tuple(
        Sensitivity(
            symbol=symbol,
            delta=float(deltas[place]),
            gamma=float(gammas[place]),
            share=Estimate(
                measure="variance_share",
                value=float(shares[place]),
                unit="ratio",
                method_label="shapley",
                convention="Shapley share of loss variance, linear Gaussian dependence (Owen & Prieur 2017)",
                samples=len(returns),
                lower=None if exact else float(shares[place] - Z_INTERVAL * errors[place]),
                upper=None if exact else float(shares[place] + Z_INTERVAL * errors[place]),
                interval_method=how,
            ),
        )
        for place, symbol in enumerate(book.symbols)
    )


def bumps(book: Book, n_moved: int, bump: float) -> tuple[np.ndarray, np.ndarray]:
    """(delta, gamma) of the book's value by symbol, shapes (n_positions,), by central differences."""
    n = len(book.symbols)
    shifted = np.zeros((2 * n, n_moved))
    shifted[np.arange(n), np.arange(n)] = bump
    shifted[n + np.arange(n), np.arange(n)] = -bump
    gains = position_returns(book, shifted) @ book.weights
    up, down = gains[:n], gains[n:]
    return (up - down) / (2 * bump), (up + down) / bump**2


def shapley_shares(covariance: np.ndarray, orders: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Shapley shares of the variance of a sum of dependent parts, with standard errors and the orders used.

    A coalition is worth the variance of the sum that is explained by knowing its parts, E of the sum given them. Along
    one order of the parts, what each adds is the square of its entry in C'1, C the Cholesky factor of the parts so
    ordered: so the shares of every single order sum to 1 exactly.

    Parameters
    ----------
    covariance : ndarray of shape (n, n)
        Of the parts.
    """
    n = len(covariance)
    total = float(covariance.sum())
    if not total > 1e-14 * max(float(np.trace(covariance)), 1e-300):
        raise InvalidMarketData("the book's loss does not vary", "Hold at least one position that moves")
    if n <= EXACT_UP_TO:
        chosen = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        half = rng.permuted(np.tile(np.arange(n), (max(1, orders // 2), 1)), axis=1)
        chosen = np.concatenate([half, half[:, ::-1]])  # an order and its reverse: what is early here is late there
    jitter = 1e-13 * np.diag(covariance).max() * np.eye(n)
    ordered = (covariance + jitter)[chosen[:, :, None], chosen[:, None, :]]
    added = np.linalg.cholesky(ordered).sum(axis=1) ** 2
    each = np.empty_like(added)
    np.put_along_axis(each, chosen, added / added.sum(axis=1, keepdims=True), axis=1)
    pairs = each if n <= EXACT_UP_TO else (each[: len(each) // 2] + each[len(each) // 2 :]) / 2
    errors = pairs.std(axis=0, ddof=1) / math.sqrt(len(pairs)) if len(pairs) > 1 else np.zeros(n)
    return each.mean(axis=0), errors, len(chosen)


def factor_betas(names: tuple[str, ...], factors: np.ndarray, returns: np.ndarray) -> tuple[FactorSensitivity, ...]:
    """Betas of the book to all factors at once, by least squares with HC0 errors.

    Parameters
    ----------
    factors : ndarray of shape (n_observations, n_factors)
    returns : ndarray of shape (n_observations,)
        Of the book on the same days.
    """
    betas, covariance, explained = joint_regression(factors, returns)
    return tuple(
        FactorSensitivity(
            factor=name,
            beta=Estimate(
                measure="factor_beta",
                value=float(beta),
                unit="ratio",
                method_label="factor_ols_joint",
                convention=f"least squares on {len(names)} factors together, R2 {explained:.0%}",
                samples=len(returns),
                lower=float(beta - Z_INTERVAL * error),
                upper=float(beta + Z_INTERVAL * error),
                interval_method="normal, HC0 standard error",
            ),
        )
        for name, beta, error in zip(names, betas, np.sqrt(np.diag(covariance)), strict=True)
    )


def joint_regression(factors: np.ndarray, returns: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(betas, their HC0 covariance, R2) of returns on all factors, with an intercept.

    Raises
    ------
    InvalidMarketData
        The factors are collinear, or fewer days than factors.
    """
    n, k = factors.shape
    centred = factors - factors.mean(axis=0)
    if n < k + 2 or np.linalg.matrix_rank(centred) < k:
        raise InvalidMarketData("the factors cannot be told apart on these days", "Give more days, or fewer factors")
    inverse = np.linalg.inv(centred.T @ centred)
    response = returns - returns.mean()
    betas = inverse @ (centred.T @ response)
    residual = response - centred @ betas
    middle = (centred * residual[:, None] ** 2).T @ centred
    total = float(response @ response)
    return betas, inverse @ middle @ inverse, 1 - float(residual @ residual) / total if total > 0 else 0.0
