"""Allocations of balanced and of least risk for the symbols of a book.

Both keep the sign of every position and the book's gross exposure: a short stays short. Covariances are shrunk
(Ledoit-Wolf) and daily; positions of zero weight take no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.measures import book_returns, historical, volatility
from actors.risk.portfolio.settings import PortfolioSettings
from cluster.errors import InvalidMarketData, InvalidPortfolio, SwarmError
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters
from hive.messages.portfolio import Book
from hive.messages.reports import Allocation, PortfolioReport


class NotConverged(SwarmError):
    """An iterative solver did not reach its tolerance."""


@dataclass(frozen=True)
class Window:
    """Resident state: the whole history, and the covariance of every symbol of the snapshot."""

    columns: dict[str, int]
    returns: np.ndarray
    recent: np.ndarray


def rebuild(snapshot: MarketSnapshot, settings: PortfolioSettings) -> Window:
    """Cut the covariance window; the arrays stay views of the snapshot."""
    return Window(
        columns={symbol: column for column, symbol in enumerate(snapshot.symbols)},
        returns=snapshot.returns,
        recent=snapshot.returns[-settings.covariance_days :],
    )


def propose(
    state: Window, book: Book, parameters: Parameters, settings: PortfolioSettings
) -> tuple[PortfolioReport, tuple[str, ...], tuple[str, ...]]:
    """The book's own risk and two proposals: equal risk contributions and minimum variance.

    Returns
    -------
    report, warnings, fallbacks

    Raises
    ------
    InvalidPortfolio
        Every weight of the book is zero.
    InvalidMarketData
        A position did not move in the covariance window.
    """
    held = np.flatnonzero(book.weights)
    if len(held) == 0:
        raise InvalidPortfolio("every weight of the book is zero", "Hold at least one position")
    columns = np.array([state.columns[symbol] for symbol in book.symbols])
    active, _ = ledoit_wolf(state.recent[:, columns[held]])
    still = [book.symbols[place] for place, variance in zip(held, np.diag(active), strict=True) if not variance > 0]
    if still:
        raise InvalidMarketData(f"{', '.join(still)} did not move in the covariance window", "Leave it out")
    covariance = np.zeros((len(columns), len(columns)))
    covariance[np.ix_(held, held)] = active
    signs = np.sign(book.weights[held])
    gross = float(np.abs(book.weights).sum())
    signed = active * np.outer(signs, signs)

    def whole(magnitudes: np.ndarray) -> np.ndarray:
        weights = np.zeros(len(book.weights))
        weights[held] = signs * magnitudes * gross
        return weights

    fallbacks: tuple[str, ...] = ()
    try:
        balanced, label = risk_parity(signed, settings), "risk_parity"
    except NotConverged as error:
        balanced, label = inverse_volatility(signed), "inverse_volatility"
        fallbacks = (f"risk_parity: {error}",)

    def allocation(name: str, method_label: str, weights: np.ndarray) -> Allocation:
        daily = book_returns(state.returns, columns, weights)
        tails = [e for c in parameters.confidences for e in historical(daily, c, parameters.horizon_days)]
        return Allocation(
            name=name,
            method_label=method_label,
            weights=weights,
            risk_contributions=risk_contributions(covariance, weights),
            turnover=float(np.abs(weights - book.weights).sum() / 2),
            estimates=(volatility(daily), *tails),
        )

    report = PortfolioReport(
        symbols=book.symbols,
        current=allocation("current", "as_given", book.weights),
        proposals=(
            allocation("risk-balanced", label, whole(balanced)),
            allocation("minimum variance", "minimum_variance", whole(minimum_variance(signed))),
        ),
    )
    warnings = []
    if len(state.recent) < settings.covariance_days:
        warnings.append(f"the covariance rests on {len(state.recent)} of {settings.covariance_days} days")
    if (book.weights < 0).any():
        warnings.append("the book holds shorts: the proposals keep signs and gross exposure, not net exposure")
    return report, tuple(warnings), fallbacks


def risk_contributions(covariance: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the variance by position, w_i (S w)_i / w'S w, shape (n,); zeros for a book without variance."""
    marginal = covariance @ weights
    variance = float(weights @ marginal)
    return weights * marginal / variance if variance > 0 else np.zeros(len(weights))


def risk_parity(covariance: np.ndarray, settings: PortfolioSettings) -> np.ndarray:
    """Positive weights, summing to 1, whose risk contributions are equal.

    Cyclical coordinate descent on w'Sw / 2 - sum(log w_i) / n (Griveau-Billion, Richard & Roncalli 2013), a strictly
    convex problem: the solution exists and is the only one where the covariance is positive definite.

    Raises
    ------
    NotConverged
        The contributions are not within ``contribution_tolerance`` of 1 / n after ``max_sweeps`` sweeps.
    """
    n = len(covariance)
    budget = 1.0 / n
    weights = budget / np.sqrt(np.diag(covariance))
    for _ in range(settings.max_sweeps):
        for i in range(n):
            others = float(covariance[i] @ weights) - covariance[i, i] * weights[i]
            weights[i] = (-others + np.sqrt(others**2 + 4 * covariance[i, i] * budget)) / (2 * covariance[i, i])
        # At the solution w'Sw = 1; scaling there after every sweep lets nearly perfect hedges converge too.
        weights /= np.sqrt(weights @ covariance @ weights)
        error = np.abs(risk_contributions(covariance, weights) - budget).max()
        if error < settings.contribution_tolerance:
            return np.asarray(weights / weights.sum())
    raise NotConverged(
        f"contributions deviate by {error:.1e} after {settings.max_sweeps} sweeps", "Raise portfolio.max_sweeps"
    )


def minimum_variance(covariance: np.ndarray) -> np.ndarray:
    """Non-negative weights, summing to 1, of least variance.

    The minimiser of x'Sx / 2 - sum(x) over x >= 0 is the answer up to scale, and with S = LL' that is the
    non-negative least-squares problem |L'x - L^-1 1|, solved exactly by active sets (Lawson & Hanson 1974).
    """
    from scipy.optimize import nnls

    root = np.linalg.cholesky(covariance / np.trace(covariance))
    solution, _ = nnls(root.T, np.linalg.solve(root, np.ones(len(covariance))))
    return np.asarray(solution / solution.sum())


def inverse_volatility(covariance: np.ndarray) -> np.ndarray:
    """Weights in proportion to 1 / volatility, summing to 1: risk parity where all correlations are equal."""
    weights = 1.0 / np.sqrt(np.diag(covariance))
    return np.asarray(weights / weights.sum())
