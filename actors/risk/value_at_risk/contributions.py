"""Who carries the risk: component, marginal and incremental VaR and CVaR of every position over one day (Euler).

Both measures are homogeneous in the positions, so each is the sum of weight x derivative (Tasche 1999): for the
historical measures the derivative is a position's mean loss on the days of VaR or of its tail.
"""

from __future__ import annotations

import numpy as np

from actors.risk.exposures import moved_columns, position_returns
from actors.risk.kernels import tail_rows_plain
from actors.risk.measures import NORMAL
from actors.risk.value_at_risk.resident import HistoricalTail
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData
from hive.messages.portfolio import Book
from hive.messages.reports import Decomposition


def decompose(
    book: Book,
    columns: dict[str, int],
    returns: np.ndarray,
    confidences: tuple[float, ...],
    methods: tuple[str, ...],
    settings: ValueAtRiskSettings,
) -> tuple[Decomposition, ...]:
    """Decompositions of those of ``methods`` that have one: ``historical`` and ``gaussian``.

    Parameters
    ----------
    returns : ndarray of shape (n_observations, n_symbols)
        Of the symbols in ``columns``.
    """
    known = [method for method in methods if method in ("historical", "gaussian")]
    if not known:
        return ()
    positions = np.asfortranarray(position_returns(book, returns[:, moved_columns(book, columns)]))
    found = []
    for method in known:
        for confidence in confidences:
            if method == "historical":
                found.append(historical_decomposition(book, positions, confidence, settings))
            else:
                found.append(gaussian_decomposition(book, positions, confidence))
    return tuple(found)


def historical_decomposition(
    book: Book, positions: np.ndarray, confidence: float, settings: ValueAtRiskSettings
) -> Decomposition:
    """Euler components of historical VaR and CVaR.

    Components of CVaR are the positions' losses averaged over the tail, so their sum is exact. Those of VaR are the
    losses of the day that is VaR (``scenario``): exact too, and as noisy as one day is; or of a triangular kernel about
    it, rescaled to VaR (``kernel``). Ties share their weight. Errors take the days of the tail as given.

    Parameters
    ----------
    positions : ndarray of shape (n_observations, n_positions)
        Returns of the positions.
    """
    weights = np.array(book.weights)
    state = HistoricalTail(positions, confidence)
    var, cvar = state.measure(weights)
    losses, apart = state.losses, state.without_each(weights)
    rows, shares = tail_rows_plain(losses, var, confidence)
    beyond = -positions[rows]
    marginal_cvar = shares @ beyond
    spread = np.sqrt(shares**2 @ ((beyond - marginal_cvar) * weights) ** 2)
    if settings.var_components == "kernel":
        marginal_var, convention = _around(losses, positions, weights, var, settings.bandwidth)
    else:
        at_var = losses == var
        marginal_var, convention = -positions[at_var].mean(axis=0), "losses of the day that is VaR"
    return _decomposition(
        book,
        "historical",
        confidence,
        f"VaR: {convention}; CVaR: mean loss over the tail",
        (var, cvar),
        (marginal_var, marginal_cvar),
        (var - apart[:, 0], cvar - apart[:, 1]),
        spread,
    )


def gaussian_decomposition(book: Book, positions: np.ndarray, confidence: float) -> Decomposition:
    """Euler components of Gaussian VaR and CVaR: weight x (factor x covariance with the book / deviation - mean).

    The measures are not floored at zero here: a floor is not homogeneous, and has no components.
    """
    weights, n = book.weights, len(positions)
    if n < 2:
        raise InvalidMarketData("one observation has no standard deviation", "Give more history")
    means = positions.mean(axis=0)
    daily = positions @ weights
    mean = float(daily.mean())
    centred = daily - mean
    with_book = centred @ positions / (n - 1)  # covariance of each position with the book
    variances = positions.var(axis=0, ddof=1)
    variance = float(with_book @ weights)
    deviation = float(np.sqrt(max(variance, 0.0)))
    beta = with_book / deviation if deviation > 0 else np.zeros_like(with_book)
    apart = np.sqrt(np.maximum(variance - 2 * weights * with_book + weights**2 * variances, 0.0))
    z = NORMAL.inv_cdf(confidence)
    factors = (z, NORMAL.pdf(z) / (1 - confidence))
    totals = [factor * deviation - mean for factor in factors]
    incremental = [
        total - (factor * apart - (mean - weights * means)) for total, factor in zip(totals, factors, strict=True)
    ]
    marginal = [factor * beta - means for factor in factors]
    # Component CVaR is a regression of the position on the book: delta method with normal returns.
    errors = np.abs(weights) * np.sqrt((variances + (factors[1] ** 2 / 2) * (2 * variances - beta**2)) / n)
    return _decomposition(
        book,
        "gaussian",
        confidence,
        "weight x derivative of the normal measure, not floored",
        (totals[0], totals[1]),
        (marginal[0], marginal[1]),
        (incremental[0], incremental[1]),
        errors,
    )


def _around(
    losses: np.ndarray, positions: np.ndarray, weights: np.ndarray, var: float, bandwidth: float
) -> tuple[np.ndarray, str]:
    """(marginal VaR, convention) from the days whose loss is within a bandwidth of VaR."""
    width = bandwidth * float(losses.std())
    near = np.abs(losses - var) < width if width > 0 else losses == var
    closeness = 1 - np.abs(losses[near] - var) / width if width > 0 else np.ones(int(near.sum()))
    mean = -(closeness @ positions[near]) / closeness.sum()
    total = float(mean @ weights)
    scale = var / total if total else 1.0
    return mean * scale, f"triangular kernel average of {int(near.sum())} days about VaR, rescaled to it"


def _decomposition(
    book: Book,
    label: str,
    confidence: float,
    convention: str,
    totals: tuple[float, float],
    marginal: tuple[np.ndarray, np.ndarray],
    incremental: tuple[np.ndarray, np.ndarray],
    errors: np.ndarray,
) -> Decomposition:
    components = [book.weights * slope for slope in marginal]
    shares = components[1] / totals[1] if totals[1] > 0 else None
    place = 0 if shares is None else int(np.argmax(shares))
    return Decomposition(
        method_label=label,
        confidence=confidence,
        convention=convention,
        var=totals[0],
        cvar=totals[1],
        component_var=components[0],
        component_cvar=components[1],
        component_cvar_error=errors,
        marginal_var=marginal[0],
        marginal_cvar=marginal[1],
        incremental_var=incremental[0],
        incremental_cvar=incremental[1],
        herfindahl=None if shares is None else float(shares @ shares),
        largest_share=None if shares is None else float(shares[place]),
        largest="" if shares is None else book.symbols[place],
    )
