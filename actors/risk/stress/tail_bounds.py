"""How bad it can be beyond what was seen: a bound that needs two moments only, and a fitted Pareto tail."""

from __future__ import annotations

import math

import numpy as np

from actors.risk.measures import empirical
from cluster.errors import InvalidMarketData
from hive.messages.estimate import INTERVAL_LEVEL, Estimate
from hive.messages.reports import Scenario

FAR = 0.999  # confidence at which the tail is looked into
TAIL_SHARE = 0.05  # share of the losses that the Pareto tail is fitted to
HEAVIEST = 0.5  # shape from which probability-weighted moments are no guide
FEWEST = 25  # losses that the fit takes


def tail_bounds(losses: np.ndarray, *, resamples: int, block_days: int, seed: int) -> list[Scenario]:
    """Cantelli's bound of the 99.9 % quantile, and the expected loss beyond it by a generalised Pareto tail.

    Intervals are percentiles of a circular block bootstrap. Where the tail is too heavy for its estimator (a shape of
    0.5, infinite variance), in the sample or in more than one resample in forty, the expected loss has no upper bound,
    and the scenario says so.

    Parameters
    ----------
    losses : ndarray of shape (n_observations,)
        Daily, positive for a loss.

    Raises
    ------
    InvalidMarketData
        Fewer losses than the fit takes, or losses that do not vary.
    """
    n = len(losses)
    if TAIL_SHARE * n < FEWEST or not np.ptp(losses) > 0:
        raise InvalidMarketData(
            f"{n} days do not hold the {FEWEST} losses that a fitted tail takes", "Give more history"
        )
    rng = np.random.default_rng(seed)
    starts = rng.integers(n, size=(resamples, math.ceil(n / block_days), 1))
    rows = ((starts + np.arange(block_days)) % n).reshape(resamples, -1)[:, :n]
    drawn = losses[rows]
    bound = _cantelli(losses[None, :])
    bounds = _cantelli(drawn)
    _, seen = empirical(losses, FAR, label="historical", horizon_days=1, overlap=1, independent="days")
    fitted, beyond = _pareto(losses[None, :])[0], _pareto(drawn)
    return [
        _scenario(
            "at most, whatever the distribution: 99.9 % of days",
            bound[0],
            bounds,
            n,
            "one-sided Chebyshev (Cantelli) bound of the 99.9 % quantile from mean and standard deviation",
            f"circular block bootstrap, {resamples} resamples, blocks of {block_days} days",
            "a bound, not a forecast",
        ),
        _scenario(
            "mean loss beyond 99.9 %, fitted tail",
            fitted if math.isfinite(fitted) else seen.value,
            beyond,
            n,
            f"generalised Pareto over the worst {TAIL_SHARE:.0%}, probability-weighted moments"
            if math.isfinite(fitted)
            else "mean of the losses seen: the tail is too heavy to be fitted",
            f"circular block bootstrap, {resamples} resamples, blocks of {block_days} days",
            f"seen in the sample: {seen.value:.2%}",
        ),
    ]


def _scenario(
    name: str, value: float, resampled: np.ndarray, samples: int, convention: str, how: str, note: str
) -> Scenario:
    miss = (1 - INTERVAL_LEVEL) / 2
    ordered = np.sort(resampled)
    low, high = ordered[int(miss * len(ordered))], ordered[math.ceil((1 - miss) * len(ordered)) - 1]
    endless = not math.isfinite(high)
    return Scenario(
        name=name,
        kind="tail",
        loss=Estimate(
            measure="loss",
            value=float(value),
            unit="fraction",
            method_label="tail_bound",
            convention=convention,
            samples=samples,
            lower=float(min(low, value)) if math.isfinite(low) else None,
            upper=None if endless else float(max(high, value)),
            interval_method=how
            + ("; no upper bound: tails too heavy to be fitted are among the resamples" if endless else ""),
        ),
        contributions={},
        note=note,
    )


def _cantelli(samples: np.ndarray) -> np.ndarray:
    """mean + s sqrt(p / (1 - p)) of every row."""
    return np.asarray(samples.mean(axis=1) + samples.std(axis=1, ddof=1) * math.sqrt(FAR / (1 - FAR)))


def _pareto(samples: np.ndarray) -> np.ndarray:
    """Expected loss beyond the far quantile of every row; infinite where the tail is too heavy.

    Probability-weighted moments of the excesses (Hosking & Wallis 1987), then McNeil & Frey (2000).
    """
    n = samples.shape[1]
    count = int(TAIL_SHARE * n)
    ordered = np.sort(np.partition(samples, n - count - 1, axis=1)[:, n - count - 1 :], axis=1)
    threshold, excess = ordered[:, 0], ordered[:, 1:] - ordered[:, :1]
    first = excess.mean(axis=1)
    ranks = (np.arange(count) + 0.65) / count
    second = (excess * (1 - ranks)).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shape = 2 - first / (first - 2 * second)
        scale = 2 * first * second / (first - 2 * second)
        far = threshold + scale / shape * (((1 - FAR) * n / count) ** -shape - 1)
        flat = np.abs(shape) < 1e-6
        far = np.where(flat, threshold + scale * math.log(count / n / (1 - FAR)), far)
        expected = far / (1 - shape) + (scale - shape * threshold) / (1 - shape)
    return np.where((shape < HEAVIEST) & np.isfinite(expected), expected, np.inf)
