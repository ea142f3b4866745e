"""Correlation of a book's symbols, its uncertainty, and whether it has lately changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.covariance import correlation_of, ewma, ledoit_wolf, mean_pair
from cluster.errors import InvalidMarketData
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters
from hive.messages.estimate import INTERVAL_LEVEL, Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import CorrelatedPair, CorrelationReport, RegimeChange

STILL = 1e-12  # share of a mean square below which its variance is rounding
EWMA_CUTOFF = 1e-9  # days that weigh less than this together are left out of the exponential window


@dataclass(frozen=True)
class Windows:
    """Resident state: returns of the windows, and covariances of every symbol of the snapshot."""

    columns: dict[str, int]
    window: np.ndarray
    """Shape (window_days, n_symbols)."""
    compared: np.ndarray
    """Returns of the previous and recent windows together."""
    exponential: np.ndarray
    """Exponentially weighted covariance, shape (n_symbols, n_symbols)."""


def rebuild(snapshot: MarketSnapshot, settings: CorrelationSettings) -> Windows:
    """Cut the windows and weigh the exponential covariance of every symbol."""
    days = math.ceil(math.log(EWMA_CUTOFF) / math.log(settings.ewma_decay))
    return Windows(
        columns={symbol: column for column, symbol in enumerate(snapshot.symbols)},
        window=snapshot.returns[-settings.window_days :],
        compared=snapshot.returns[-(settings.recent_days + settings.previous_days) :],
        exponential=ewma(snapshot.returns[-days:], settings.ewma_decay),
    )


def analyse(
    state: Windows, book: Book, parameters: Parameters, settings: CorrelationSettings
) -> tuple[CorrelationReport, tuple[str, ...]]:
    """Correlation picture of the book. Symbols that have not moved in the window are left out with a warning.

    Raises
    ------
    InvalidMarketData
        No symbol of the book has moved.
    """
    warnings = []
    moving = [symbol for symbol in book.symbols if _moves(state, state.columns[symbol])]
    still = [s for s in book.symbols if s not in moving]
    if still:
        warnings.append(f"{', '.join(still)} did not move in the window and is left out")
    if not moving:
        raise InvalidMarketData("no symbol of the book moves in the correlation window", "Check the market data")
    columns = np.array([state.columns[symbol] for symbol in moving])
    window = state.window[:, columns]
    covariance, shrinkage = ledoit_wolf(window)
    shrunk = correlation_of(covariance)
    weights = book.weights[[book.symbols.index(symbol) for symbol in moving]]
    # Seeded by the request alone, so that the same question on the same snapshot has the same answer.
    rng = np.random.default_rng(parameters.seed)
    estimates = [_risk_concentration(covariance, weights, len(window)), *_spectrum(shrunk, len(window))]
    regime = None
    if len(moving) > 1:
        estimates.insert(0, _mean_correlation(shrunk, window, rng, settings))
        regime = regime_change(state.compared[:, columns], rng, settings)
        if regime is None:
            warnings.append(
                f"{len(state.compared)} days are fewer than the "
                f"{settings.recent_days + settings.previous_days} of the regime comparison"
            )
    if len(window) < settings.window_days:
        warnings.append(f"the window holds {len(window)} of {settings.window_days} days")
    return (
        CorrelationReport(
            symbols=tuple(moving),
            shrunk=shrunk,
            ewma=correlation_of(state.exponential[np.ix_(columns, columns)]),
            shrinkage=shrinkage,
            estimates=tuple(estimates),
            pairs=_pairs(moving, shrunk, settings),
            regime=regime,
        ),
        tuple(warnings),
    )


def _moves(state: Windows, column: int) -> bool:
    """Whether a symbol moves in both windows; without that it has no correlation."""
    return bool(np.ptp(state.window[:, column]) > 0 and state.exponential[column, column] > 0)


def regime_change(returns: np.ndarray, rng: np.random.Generator, settings: CorrelationSettings) -> RegimeChange | None:
    """Mean pair correlation of the newest ``recent_days`` against the ``previous_days`` before them.

    The interval of the change is the percentile interval of independent circular block bootstraps of both windows.
    None where the sample is shorter than both, or a symbol stands still in one of them.
    """
    needed = settings.recent_days + settings.previous_days
    if len(returns) < needed:
        return None
    previous, recent = returns[-needed : -settings.recent_days], returns[-settings.recent_days :]
    if not (np.ptp(previous, axis=0) > 0).all() or not (np.ptp(recent, axis=0) > 0).all():
        return None
    before, now = mean_pair(np.corrcoef(previous.T)), mean_pair(np.corrcoef(recent.T))
    draws = bootstrap_mean_correlation(recent, rng, settings) - bootstrap_mean_correlation(previous, rng, settings)
    lower, upper = _percentiles(draws)
    change = now - before
    return RegimeChange(
        recent=now,
        previous=before,
        change=Estimate(
            measure="mean_correlation_change",
            value=change,
            unit="correlation",
            method_label="sample",
            convention=f"last {settings.recent_days} days less the {settings.previous_days} before",
            samples=needed,
            lower=lower,
            upper=upper,
            interval_method=f"circular block bootstrap, {settings.replications} replications",
        ),
        recent_days=settings.recent_days,
        previous_days=settings.previous_days,
        changed=abs(change) >= settings.regime_change and not lower <= 0 <= upper,
    )


def bootstrap_mean_correlation(
    returns: np.ndarray, rng: np.random.Generator, settings: CorrelationSettings
) -> np.ndarray:
    """Mean pair correlations of resampled windows, shape (replications,).

    A resample is a count of how often each day was drawn, so every moment is one matrix product, and the mean pair
    correlation follows from the variance of the sum of the standardised series: (var(sum z) - n) / (n (n - 1)).
    """
    days, n = returns.shape
    blocks = math.ceil(days / settings.block_days)
    starts = rng.integers(days, size=(settings.replications, blocks, 1))
    drawn = ((starts + np.arange(settings.block_days)) % days).reshape(settings.replications, -1)[:, :days]
    offsets = np.arange(settings.replications)[:, None] * days
    counts = np.bincount((drawn + offsets).ravel(), minlength=settings.replications * days).astype(float)
    share = counts.reshape(settings.replications, days) / days
    mean = share @ returns
    square = share @ returns**2
    variance = square - mean**2
    moving = variance > STILL * square  # a symbol may stand still on the days drawn: it then correlates with nothing
    scale = np.where(moving, 1.0 / np.sqrt(np.where(moving, variance, 1.0)), 0.0)
    total = scale @ returns.T - (mean * scale).sum(axis=1, keepdims=True)
    return np.asarray(((share * total**2).sum(axis=1) - moving.sum(axis=1)) / (n * (n - 1)))


def _mean_correlation(
    shrunk: np.ndarray, window: np.ndarray, rng: np.random.Generator, settings: CorrelationSettings
) -> Estimate:
    """Mean pair correlation; the bootstrap moves about the sample's, so its spread is laid about the shrunk mean."""
    value = mean_pair(shrunk)
    draws = bootstrap_mean_correlation(window, rng, settings)
    lower, upper = _percentiles(draws - mean_pair(np.corrcoef(window.T)))
    return Estimate(
        measure="mean_correlation",
        value=value,
        unit="correlation",
        method_label="ledoit_wolf",
        convention="mean over pairs, scaled-identity target",
        samples=len(window),
        lower=value + lower,
        upper=value + upper,
        interval_method=f"circular block bootstrap, {settings.replications} replications",
    )


def _risk_concentration(covariance: np.ndarray, weights: np.ndarray, samples: int) -> Estimate:
    """Volatility of the book over the sum of its positions' volatilities: 1 when nothing diversifies."""
    stand_alone = float(np.abs(weights) @ np.sqrt(np.diag(covariance)))
    together = math.sqrt(max(0.0, float(weights @ covariance @ weights)))
    return Estimate(
        measure="correlation_risk",
        value=together / stand_alone if stand_alone > 0 else 0.0,
        unit="ratio",
        method_label="ledoit_wolf",
        convention="sqrt(w'Sw) / sum(|w_i| s_i)",
        samples=samples,
        interval_method="none: not computed",
    )


def _spectrum(correlation: np.ndarray, samples: int) -> tuple[Estimate, Estimate]:
    """Share of the largest eigenvalue, and the effective rank exp(entropy of the shares) (Roy & Vetterli 2007)."""
    shares = np.clip(np.linalg.eigvalsh(correlation), 0.0, None) / len(correlation)
    positive = shares[shares > 0]

    def estimate(measure: str, value: float, convention: str) -> Estimate:
        return Estimate(
            measure=measure,
            value=value,
            unit="ratio",
            method_label="ledoit_wolf",
            convention=convention,
            samples=samples,
            interval_method="none: not computed",
        )

    entropy = -float((positive * np.log(positive)).sum())
    return (
        estimate("largest_eigenvalue_share", float(shares[-1]), "of the correlation matrix"),
        estimate("effective_bets", math.exp(entropy), "exponential of the eigenvalue entropy"),
    )


def _pairs(symbols: list[str], correlation: np.ndarray, settings: CorrelationSettings) -> tuple[CorrelatedPair, ...]:
    """Pairs beyond the alert threshold, the strongest first."""
    first, second = np.triu_indices(len(symbols), 1)
    strength = np.abs(correlation[first, second])
    order = [i for i in np.argsort(-strength).tolist() if strength[i] > settings.pair_medium]
    return tuple(
        CorrelatedPair(
            first=symbols[first[i]],
            second=symbols[second[i]],
            correlation=float(correlation[first[i], second[i]]),
            severity="HIGH" if strength[i] > settings.pair_high else "MEDIUM",
        )
        for i in order
    )


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    miss = (1 - INTERVAL_LEVEL) / 2
    lower, upper = np.quantile(draws, [miss, 1 - miss])
    return float(lower), float(upper)
