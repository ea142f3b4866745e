"""A book's correlation by several estimators, and three figures of each: mean pair, largest share, effective bets.

Intervals are 1.96 spreads of a circular block bootstrap about the value, cut to what the figure can be. Resampling
repeats days, so its eigenvalues lie a little apart from the sample's; taking the spread alone leaves that out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.covariance import correlation_of, denoised, nearest_correlation
from actors.risk.measures import Z_INTERVAL
from hive.messages.estimate import Estimate
from hive.messages.reports import CorrelationMatrix

SINGULAR = 1e-6  # least eigenvalue below which a correlation matrix counts as singular
FIGURES = {
    "mean_correlation": ("correlation", "mean over pairs"),
    "largest_eigenvalue_share": ("ratio", "of the correlation matrix"),
    "effective_bets": ("ratio", "exponential of the eigenvalue entropy"),
}


@dataclass(frozen=True)
class Resamples:
    """Weights of the days in every bootstrap resample, shape (replications, n_days), rows summing to 1."""

    shares: np.ndarray
    centred: bool
    """Whether covariances are about the resample's mean; about zero where not."""

    @classmethod
    def drawn(
        cls, days: int, rng: np.random.Generator, settings: CorrelationSettings, decay: float | None = None
    ) -> Resamples:
        """Circular blocks; with a ``decay`` the places of the resample weigh as days do in an EWMA, about zero."""
        replications = settings.spectral_replications
        blocks = math.ceil(days / settings.block_days)
        starts = rng.integers(days, size=(replications, blocks, 1))
        drawn = ((starts + np.arange(settings.block_days)) % days).reshape(replications, -1)[:, :days]
        places = np.ones(days) if decay is None else decay ** np.arange(days - 1, -1, -1, dtype=float)
        offsets = np.arange(replications)[:, None] * days
        counts = np.bincount(
            (drawn + offsets).ravel(), weights=np.tile(places, replications), minlength=replications * days
        )
        return cls(counts.reshape(replications, days) / places.sum(), decay is None)

    def covariances(self, returns: np.ndarray) -> np.ndarray:
        """Covariance of every resample, shape (replications, n, n), in one matrix product."""
        n = returns.shape[1]
        first, second = np.triu_indices(n)
        moments = self.shares @ (returns[:, first] * returns[:, second])
        if self.centred:
            means = self.shares @ returns
            moments -= means[:, first] * means[:, second]
        found = np.empty((len(self.shares), n, n))
        found[:, first, second] = moments
        found[:, second, first] = moments
        return found


def correlations(covariances: np.ndarray) -> np.ndarray:
    """Correlations of a stack of covariances; a symbol that stands still in one correlates with nothing there."""
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    moving = variances > 1e-14 * variances.max(axis=0)
    scale = np.where(moving, 1.0 / np.sqrt(np.where(moving, variances, 1.0)), 0.0)
    found = covariances * scale[:, :, None] * scale[:, None, :]
    places = np.arange(covariances.shape[1])
    found[:, places, places] = 1.0
    return np.asarray(found)


def figures(correlation: np.ndarray) -> np.ndarray:
    """(mean pair, largest share, effective bets) of a stack of correlations, shape (..., 3).

    Effective bets are the exponential of the entropy of the eigenvalue shares (Roy & Vetterli 2007).
    """
    n = correlation.shape[-1]
    shares = np.clip(np.linalg.eigvalsh(correlation), 0.0, None) / n
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=-1)
    mean = (correlation.sum(axis=(-2, -1)) - n) / (n * (n - 1)) if n > 1 else np.zeros(correlation.shape[:-2])
    return np.stack([mean, shares[..., -1], np.exp(entropy)], axis=-1)


def estimates(
    method: str, correlation: np.ndarray, draws: np.ndarray | None, samples: int, measures: tuple[str, ...]
) -> list[Estimate]:
    """The figures of one matrix as estimates.

    Parameters
    ----------
    draws : ndarray of shape (replications, 3), or None
        :func:`figures` of the resamples; None for one symbol, which leaves nothing open.
    """
    n = len(correlation)
    limits = {"mean_correlation": (-1 / max(1, n - 1), 1.0), "largest_eigenvalue_share": (1 / n, 1.0)}
    found = []
    for place, (measure, (unit, convention)) in enumerate(FIGURES.items()):
        if measure not in measures:
            continue
        value = float(figures(correlation)[place])
        low, high = limits.get(measure, (1.0, float(n)))
        half = None if draws is None else Z_INTERVAL * float(draws[:, place].std(ddof=1))
        found.append(
            Estimate(
                measure=measure,
                value=value,
                unit=unit,
                method_label=method,
                convention=convention,
                samples=samples,
                lower=None if half is None else min(value, max(low, value - half)),
                upper=None if half is None else max(value, min(high, value + half)),
                interval_method=resampled_by(draws),
            )
        )
    return found


def resampled_by(draws: np.ndarray | None) -> str:
    """Name of the interval."""
    return "none: one symbol" if draws is None else f"circular block bootstrap, {len(draws)} replications, normal"


def more(
    methods: tuple[str, ...], window: np.ndarray, rng: np.random.Generator, settings: CorrelationSettings
) -> tuple[list[CorrelationMatrix], list[Estimate]]:
    """The sample matrix and the denoised one, where asked for, with their figures; ``window`` as the shrunk one's."""
    wanted = [method for method in ("sample", "rmt_denoised") if method in methods]
    if not wanted or window.shape[1] < 2:
        return [], []
    sample = correlation_of(np.cov(window.T))
    resampled = correlations(Resamples.drawn(len(window), rng, settings).covariances(window))
    matrices, found = [], []
    for method in wanted:
        if method == "sample":
            correlation, draws, note = sample, figures(resampled), _sample_note(sample, len(window))
        else:
            cleaned = denoised(sample, len(window))
            draws = figures(np.stack([denoised(one, len(window), cleaned.edge).correlation for one in resampled]))
            repair = nearest_correlation(cleaned.correlation)
            correlation, note = repair.correlation, f"{cleaned.factors} factors above the edge of {cleaned.edge:.2f}"
            note += f"; repaired by {repair.distance:.2g}: {repair.reason}" if repair.reason else ""
        matrices.append(CorrelationMatrix(method=method, correlation=correlation, note=note))
        found += estimates(method, correlation, draws, len(window), tuple(FIGURES))
    return matrices, found


def _sample_note(sample: np.ndarray, days: int) -> str:
    if np.linalg.eigvalsh(sample)[0] > SINGULAR:
        return ""
    why = f"{days} days do not span {len(sample)} symbols" if days <= len(sample) else "symbols repeat one another"
    return f"singular: {why}"
