"""Correlation of a book's symbols: the picture every report shows, and what was asked for beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.correlation import matrices
from actors.risk.correlation.clusters import clustered
from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.covariance import correlation_of, ewma, ledoit_wolf, mean_pair
from actors.risk.measures import Z_INTERVAL
from cluster.errors import InvalidMarketData
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role, methods_for
from hive.messages.estimate import INTERVAL_LEVEL, Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import (
    BookDependence,
    ChangeWatch,
    CorrelatedPair,
    CorrelationReport,
    DynamicCorrelation,
    RegimeChange,
)

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
    weighed: np.ndarray
    """Returns of the days that the exponential covariance looks back to."""
    exponential: np.ndarray
    """Exponentially weighted covariance, shape (n_symbols, n_symbols)."""
    history: np.ndarray
    """All returns, for the methods that ask for more than the windows."""
    dates: np.ndarray
    """Their days, datetime64[D]."""


def rebuild(snapshot: MarketSnapshot, settings: CorrelationSettings) -> Windows:
    """Cut the windows and weigh the exponential covariance of every symbol."""
    days = math.ceil(math.log(EWMA_CUTOFF) / math.log(settings.ewma_decay))
    return Windows(
        columns={symbol: column for column, symbol in enumerate(snapshot.symbols)},
        window=snapshot.returns[-settings.window_days :],
        compared=snapshot.returns[-(settings.recent_days + settings.previous_days) :],
        weighed=snapshot.returns[-days:],
        exponential=ewma(snapshot.returns[-days:], settings.ewma_decay),
        history=snapshot.returns,
        dates=snapshot.dates,
    )


def analyse(
    state: Windows, book: Book, parameters: Parameters, settings: CorrelationSettings
) -> tuple[CorrelationReport, tuple[str, ...], tuple[str, ...]]:
    """Correlation picture of the book, warnings, fallbacks. Symbols that have not moved in the window are left out.

    Raises
    ------
    InvalidMarketData
        No symbol of the book has moved.
    """
    methods = methods_for(Role.CORRELATION, parameters.methods, settings.methods)
    warnings: list[str] = []
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
    exponential = correlation_of(state.exponential[np.ix_(columns, columns)])
    weights = book.weights[[book.symbols.index(symbol) for symbol in moving]]
    # Seeded by the request alone, so that the same question on the same snapshot has the same answer; a stream to
    # each method, so that its answer does not depend on what else is asked.
    rng = np.random.default_rng(parameters.seed)
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(parameters.seed).spawn(3)]
    estimates = _shrunk_estimates(window, covariance, shrinkage, weights, rng, streams[0], settings)
    if "ewma" in methods:
        estimates += _ewma_estimates(state.weighed[:, columns], exponential, streams[1], settings)
    extra, found = matrices.more(methods, window, streams[2], settings)
    estimates += found
    regime = None
    if "window_change" in methods and len(moving) > 1:
        regime = regime_change(state.compared[:, columns], rng, settings)
        if regime is None:
            warnings.append(
                f"{len(state.compared)} days are fewer than the "
                f"{settings.recent_days + settings.previous_days} of the regime comparison"
            )
    if len(window) < settings.window_days:
        warnings.append(f"the window holds {len(window)} of {settings.window_days} days")
    warnings += [f"the {matrix.method} correlation is {matrix.note}" for matrix in extra if "singular" in matrix.note]
    order, groups = clustered(shrunk, settings.cluster_correlation)
    asked = _asked(methods, state, moving, columns, shrunk, settings)
    return (
        CorrelationReport(
            symbols=tuple(moving),
            shrunk=shrunk,
            ewma=exponential,
            shrinkage=shrinkage,
            estimates=tuple(estimates),
            pairs=_pairs(moving, shrunk, settings),
            regime=regime,
            order=tuple(order.tolist()),
            clusters=tuple(tuple(moving[place] for place in group) for group in groups),
            matrices=tuple(extra),
            watches=asked.watches,
            dynamic=asked.dynamic,
            dependence=asked.dependence,
        ),
        (*warnings, *asked.warnings),
        asked.fallbacks,
    )


@dataclass(frozen=True)
class _Asked:
    """What the methods that look at the whole history found."""

    watches: tuple[ChangeWatch, ...]
    dynamic: DynamicCorrelation | None
    dependence: BookDependence | None
    warnings: tuple[str, ...]
    fallbacks: tuple[str, ...]


def _asked(
    methods: tuple[str, ...],
    state: Windows,
    moving: list[str],
    columns: np.ndarray,
    shrunk: np.ndarray,
    settings: CorrelationSettings,
) -> _Asked:
    """Run the expensive methods that are asked for; one that cannot run on this data says why and spares the others."""
    wanted = [method for method in ("cusum", "bayesian_change_point", "dcc", "copula") if method in methods]
    watches: list[ChangeWatch] = []
    dynamic, together = None, None
    warnings: list[str] = []
    fallbacks: list[str] = []
    if wanted and len(moving) < 2:
        warnings.append(f"{', '.join(wanted)}: one symbol has no correlation")
        wanted = []
    history = state.history[:, columns] if wanted else np.zeros((0, 0))
    for method in wanted:
        try:
            # Imported here: compiled loops are for those who ask, an agent must start fast.
            if method == "dcc":
                from actors.risk.correlation.dynamic import dynamic_correlation

                days = slice(-settings.dcc_days, None)
                dynamic, noted, fallbacks = dynamic_correlation(moving, history[days], state.dates[days], settings)
                warnings += noted
            elif method == "copula":
                from actors.risk.correlation.dependence import dependence

                together = dependence(moving, history[-settings.copula_days :], shrunk, settings)
            else:
                from actors.risk.correlation.watch import watch

                watches += watch((method,), history, state.dates, settings)
        except InvalidMarketData as error:
            warnings.append(f"{method}: {error}")
    return _Asked(tuple(watches), dynamic, together, tuple(warnings), tuple(fallbacks))


def _shrunk_estimates(
    window: np.ndarray,
    covariance: np.ndarray,
    shrinkage: float,
    weights: np.ndarray,
    rng: np.random.Generator,
    stream: np.random.Generator,
    settings: CorrelationSettings,
) -> list[Estimate]:
    """Figures of the shrunk matrix; resamples are shrunk by the same amount."""
    shrunk = correlation_of(covariance)
    if len(shrunk) == 1:
        spectrum = matrices.estimates(
            "ledoit_wolf", shrunk, None, len(window), ("largest_eigenvalue_share", "effective_bets")
        )
        return [_risk_concentration(covariance, weights, len(window), None), *spectrum]
    resampled = matrices.Resamples.drawn(len(window), stream, settings).covariances(window)
    places = np.arange(len(shrunk))
    target = shrinkage * np.trace(resampled, axis1=1, axis2=2) / len(shrunk)
    resampled *= 1 - shrinkage
    resampled[:, places, places] += target[:, None]
    draws = matrices.figures(matrices.correlations(resampled))
    return [
        _mean_correlation(shrunk, window, rng, settings),
        _risk_concentration(covariance, weights, len(window), resampled),
        *matrices.estimates("ledoit_wolf", shrunk, draws, len(window), ("largest_eigenvalue_share", "effective_bets")),
    ]


def _ewma_estimates(
    weighed: np.ndarray, correlation: np.ndarray, rng: np.random.Generator, settings: CorrelationSettings
) -> list[Estimate]:
    draws = None
    if len(correlation) > 1:
        resampled = matrices.Resamples.drawn(len(weighed), rng, settings, settings.ewma_decay).covariances(weighed)
        draws = matrices.figures(matrices.correlations(resampled))
    measures = tuple(matrices.FIGURES) if len(correlation) > 1 else ("largest_eigenvalue_share", "effective_bets")
    return matrices.estimates("ewma", correlation, draws, len(weighed), measures)


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


def _risk_concentration(
    covariance: np.ndarray, weights: np.ndarray, samples: int, resampled: np.ndarray | None
) -> Estimate:
    """Volatility of the book over the sum of its positions' volatilities: 1 when nothing diversifies."""

    def ratio(covariances: np.ndarray) -> np.ndarray:
        alone = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1)) @ np.abs(weights)
        together = np.sqrt(np.maximum(0.0, np.einsum("i,...ij,j->...", weights, covariances, weights)))
        return np.asarray(np.divide(together, alone, out=np.zeros_like(together), where=alone > 0))

    value = float(ratio(covariance[None])[0])
    half = None if resampled is None else Z_INTERVAL * float(ratio(resampled).std(ddof=1))
    return Estimate(
        measure="correlation_risk",
        value=value,
        unit="ratio",
        method_label="ledoit_wolf",
        convention="sqrt(w'Sw) / sum(|w_i| s_i)",
        samples=samples,
        lower=None if half is None else max(0.0, value - half),
        upper=None if half is None else max(value, min(1.0, value + half)),
        interval_method=matrices.resampled_by(resampled),
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
