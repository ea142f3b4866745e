"""Circular block bootstrap: intervals of tail measures that keep the dependence of neighbouring days.

Blocks of consecutive days are drawn with replacement from the sample closed to a circle (Politis & Romano 1992), so
that clusters of losses stay clusters. The length of a block follows Politis & White 2004 with the correction of Patton,
Politis & White 2009.

What it gives, measured on 200 samples of log-normal volatility with an autocorrelation of 0.97, nominal 95 %: the
interval of 95 % CVaR holds the truth in 68 % of samples of 1000 days, 77 % of 2500 and 90 % of 8000; one that takes
days as independent in 48 %, 49 % and 52 %.
"""

from __future__ import annotations

import math

import numpy as np

from actors.risk.value_at_risk import kernels
from hive.messages.estimate import INTERVAL_LEVEL

MISS = (1 - INTERVAL_LEVEL) / 2
BOUND = 2.0  # autocorrelations count as zero below this many times sqrt(log10(n) / n)


def block_length(series: np.ndarray) -> int:
    """Block length that estimates the variance of the mean of ``series``, shape (n,), best; at least 1."""
    n = len(series)
    centred = series - series.mean()
    if n < 10 or not centred.any():
        return 1
    run = max(5, math.ceil(math.sqrt(math.log10(n))))
    lags = min(math.ceil(math.sqrt(n)) + run, n - 1)
    covariance = np.array([centred[: n - lag] @ centred[lag:] / n for lag in range(lags + 1)])
    small = np.abs(covariance[1:] / covariance[0]) < BOUND * math.sqrt(math.log10(n) / n)
    cutoff = next((lag for lag in range(len(small) - run + 1) if small[lag : lag + run].all()), None)
    if cutoff is None:  # still correlated far out: the last correlation that counts
        found = np.flatnonzero(~small)
        cutoff = int(found[-1]) + 1 if len(found) else 1
    width = min(2 * max(cutoff, 1), lags)
    k = np.arange(-width, width + 1)
    taper = np.minimum(1.0, 2 * (1 - np.abs(k) / width))
    weighted = taper * covariance[np.abs(k)]
    bias, spectrum = float(np.abs(k) @ weighted), float(weighted.sum())
    if spectrum <= 0:
        return 1
    length = (2 * bias**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * n ** (1 / 3)
    return int(min(max(1, round(length)), math.ceil(min(3 * math.sqrt(n), n / 3))))


def block_starts(n: int, length: int, resamples: int, seed: int) -> np.ndarray:
    """First days of the blocks of every resample, shape (resamples, blocks)."""
    return np.random.default_rng(seed).integers(0, n, (resamples, -(-n // length)), dtype=np.int64)


def bootstrap_tails(losses: np.ndarray, confidence: float, starts: np.ndarray, length: int) -> np.ndarray:
    """(VaR, CVaR) of every resample, shape (resamples, 2); losses of shape (n,) are finite."""
    n = len(losses)
    found = np.empty((len(starts), 2))
    kernels.bootstrap_tails(
        np.array(losses, dtype=float),
        starts,
        length,
        confidence,
        np.empty(n + length),
        np.empty(n + length + 1, np.int64),
        np.empty(n + length),
        found,
    )
    return found


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """Percentile interval of a measure over its resamples, shape (resamples,)."""
    lower, upper = np.quantile(resampled, [MISS, 1 - MISS])
    return float(lower), float(upper)


def mean_error(series: np.ndarray, length: int) -> float:
    """Standard error of the mean of ``series`` under the circular block bootstrap, in closed form."""
    n = len(series)
    centred = series - series.mean()
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([centred, centred[:length]]))])
    blocks = sums[length : length + n] - sums[:n]
    return math.sqrt(float(blocks @ blocks) / n / length / n)
