"""Tests and scores of VaR and CVaR forecasts, each a pure function of forecasts and losses of shape (n,)."""

from __future__ import annotations

import math

import numpy as np

from hive.messages.reports import BacktestTest, TrafficLight

BASEL_DAYS = 250
YELLOW, RED = 0.95, 0.9999  # cumulative probabilities at which the Basel zones begin
SIMULATIONS = 2000  # of the Acerbi-Szekely statistics under a right model
CHUNK = 2_000_000  # uniforms drawn at a time


def kupiec(exceptions: np.ndarray, confidence: float) -> BacktestTest:
    """Proportion of failures (Kupiec 1995): likelihood ratio of the observed share against 1 - confidence."""
    n, x = len(exceptions), int(exceptions.sum())
    statistic = 2 * (_bernoulli(x, n, x / n) - _bernoulli(x, n, 1 - confidence))
    return _chi_squared("kupiec", statistic, 1)


def christoffersen(exceptions: np.ndarray) -> BacktestTest:
    """Independence (Christoffersen 1998): exceptions after exceptions as often as after other days."""
    (n00, n01), (n10, n11) = _transitions(exceptions)
    if n01 + n11 == 0 or n10 + n11 == 0 or n00 + n01 == 0:
        why = "no exception to follow" if n10 + n11 == 0 or n01 + n11 == 0 else "every day is an exception"
        return BacktestTest("christoffersen_independence", None, None, "chi-squared, 1 degree of freedom", why)
    pooled = (n01 + n11) / (n00 + n01 + n10 + n11)
    apart = _bernoulli(n01, n00 + n01, n01 / (n00 + n01)) + _bernoulli(n11, n10 + n11, n11 / (n10 + n11))
    together = _bernoulli(n01 + n11, n00 + n01 + n10 + n11, pooled)
    return _chi_squared("christoffersen_independence", 2 * (apart - together), 1)


def conditional_coverage(exceptions: np.ndarray, confidence: float) -> BacktestTest:
    """Coverage and independence at once (Christoffersen 1998): the sum of both statistics, two degrees of freedom."""
    independence = christoffersen(exceptions)
    statistic = (kupiec(exceptions, confidence).statistic or 0.0) + (independence.statistic or 0.0)
    found = _chi_squared("conditional_coverage", statistic, 2)
    if independence.statistic is None:
        return BacktestTest(found.name, None, None, found.distribution, independence.note)
    return found


def acerbi_szekely(
    losses: np.ndarray, var: np.ndarray, cvar: np.ndarray, confidence: float, seed: int
) -> tuple[BacktestTest, BacktestTest]:
    """Z1 and Z2 of Acerbi & Szekely 2014: 0 in expectation under a right model, negative where CVaR is too small.

    Z1 = 1 - mean of L / CVaR over the exceptions; Z2 = 1 - sum of it over n (1 - confidence). One-sided p-values by
    simulation of a right model whose losses beyond VaR are exponential with the forecast's mean: any law of that mean
    is possible, and the statistics depend little on it.
    """
    how = f"simulation, {SIMULATIONS} samples, exponential beyond VaR"
    names = ("acerbi_szekely_z1", "acerbi_szekely_z2")
    if not (cvar > 0).all():
        first, second = (BacktestTest(name, None, None, how, "a CVaR forecast is not positive") for name in names)
        return first, second
    exceptions = losses > var
    observed = _z_statistics(
        float((losses[exceptions] / cvar[exceptions]).sum()), int(exceptions.sum()), confidence, len(losses)
    )
    simulated = _simulated_z(var, cvar, confidence, seed)
    found = []
    for name, value, draws in zip(names, observed, simulated, strict=True):
        if value is None:
            found.append(BacktestTest(name, None, None, how, "no exception"))
        else:
            known = draws[np.isfinite(draws)]
            found.append(BacktestTest(name, value, (1 + float((known <= value).sum())) / (1 + len(known)), how))
    return found[0], found[1]


def traffic_light(exceptions: np.ndarray, confidence: float) -> TrafficLight:
    """Basel zone of the newest 250 days, or of all where there are fewer."""
    from scipy.special import bdtr

    recent = exceptions[-BASEL_DAYS:]
    count = int(recent.sum())
    probability = float(bdtr(count, len(recent), 1 - confidence))
    zone = "green" if probability < YELLOW else "yellow" if probability < RED else "red"
    return TrafficLight(len(recent), count, probability, zone)


def pinball(losses: np.ndarray, var: np.ndarray, confidence: float) -> np.ndarray:
    """Quantile loss of each day (Koenker & Bassett 1978): confidence per unit beyond VaR, 1 - confidence below it."""
    miss = losses - var
    return np.asarray(np.where(miss > 0, confidence * miss, (confidence - 1) * miss))


def fissler_ziegel(losses: np.ndarray, var: np.ndarray, cvar: np.ndarray, confidence: float) -> np.ndarray | None:
    """FZ0 loss of each day (Patton, Ziegel & Chen 2019): strictly consistent for (VaR, CVaR), of degree zero.

    None where a CVaR forecast is not positive.
    """
    if not (cvar > 0).all():
        return None
    beyond = np.maximum(losses - var, 0.0) / (1 - confidence)
    return np.asarray((beyond + var) / cvar + np.log(cvar) - 1)


def diebold_mariano(first: np.ndarray, second: np.ndarray) -> tuple[float, float | None, float | None, int]:
    """(mean difference, statistic, two-sided p-value, lags) of two series of losses (Diebold & Mariano 1995).

    The long-run variance is Newey and West's with floor(4 (n / 100)^(2/9)) lags. Statistic and p-value are None where
    the losses do not differ.
    """
    difference = first - second
    n = len(difference)
    lags = min(int(4 * (n / 100) ** (2 / 9)), n - 1)
    mean = float(difference.mean())
    centred = difference - mean
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    if not variance > 1e-300:
        return mean, None, None, lags
    statistic = mean / math.sqrt(variance / n)
    return mean, statistic, math.erfc(abs(statistic) / math.sqrt(2)), lags


def _chi_squared(name: str, statistic: float, degrees: int) -> BacktestTest:
    from scipy.special import chdtrc

    value = max(0.0, statistic)  # rounding below zero
    plural = "s" if degrees > 1 else ""
    return BacktestTest(name, value, float(chdtrc(degrees, value)), f"chi-squared, {degrees} degree{plural} of freedom")


def _bernoulli(successes: int, trials: int, probability: float) -> float:
    """Log likelihood, with 0 log 0 = 0."""
    from scipy.special import xlog1py, xlogy

    return float(xlogy(successes, probability) + xlog1py(trials - successes, -probability))


def _transitions(exceptions: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    before, after = exceptions[:-1], exceptions[1:]
    return (
        (int((~before & ~after).sum()), int((~before & after).sum())),
        (int((before & ~after).sum()), int((before & after).sum())),
    )


def _z_statistics(total: float, count: int, confidence: float, n: int) -> tuple[float | None, float]:
    return (1 - total / count if count else None), 1 - total / (n * (1 - confidence))


def _simulated_z(var: np.ndarray, cvar: np.ndarray, confidence: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(Z1, Z2) of ``SIMULATIONS`` right models; Z1 is NaN where a sample has no exception."""
    rng = np.random.default_rng(seed)
    n = len(var)
    base, slope = var / cvar, 1 - var / cvar
    totals, counts = np.empty(SIMULATIONS), np.empty(SIMULATIONS)
    rows = max(1, CHUNK // n)
    for start in range(0, SIMULATIONS, rows):
        taken = min(rows, SIMULATIONS - start)
        sample, day = np.nonzero(rng.random((taken, n)) < 1 - confidence)
        ratio = base[day] + slope[day] * rng.standard_exponential(len(day))
        totals[start : start + taken] = np.bincount(sample, ratio, taken)
        counts[start : start + taken] = np.bincount(sample, minlength=taken)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - totals / counts, 1 - totals / (n * (1 - confidence))
