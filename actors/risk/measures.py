"""Tail measures and their uncertainty, shared by the rooms that need them. Losses are positive numbers.

Convention (Rockafellar & Uryasev 2002, as skfolio and Riskfolio): with n losses and k = (1 - confidence) n, VaR is the
lower ``confidence``-quantile, the loss of rank floor(k) + 1 from the worst, and CVaR is the mean of the worst k
losses, the last of them counted by its fraction.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from cluster.errors import InvalidMarketData
from hive.messages.estimate import INTERVAL_LEVEL, Estimate

RANK_TOLERANCE = 1e-9  # absorbs the rounding of (1 - confidence) n where that is a whole number
SMALL_TAIL = 10  # observations beyond VaR below which an estimate is called thin
CONVENTION_VAR = "lower quantile of the empirical loss distribution"
CONVENTION_CVAR = "Rockafellar-Uryasev, fractional tail"
CONVENTION_EVAR = "least upper bound of Chernoff on the loss (Ahmadi-Javid 2012)"
NEWTON_STEPS = 100  # bound of the search for EVaR's exponent; some ten are taken
NORMAL = NormalDist()
Z_INTERVAL = NORMAL.inv_cdf(0.5 + INTERVAL_LEVEL / 2)


def book_returns(returns: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Daily returns of constant weights, rebalanced every day.

    Parameters
    ----------
    returns : ndarray of shape (n_observations, n_symbols)
    columns : ndarray of int, shape (n_positions,)
        Column of each position.
    weights : ndarray of shape (n_positions,)

    Returns
    -------
    ndarray of shape (n_observations,)

    Raises
    ------
    InvalidMarketData
        A return is not finite.
    """
    spread = np.zeros(returns.shape[1])
    spread[columns] = weights
    with np.errstate(invalid="ignore"):  # a value that is not finite is refused below
        result = returns @ spread
    if not np.isfinite(result).all():
        raise InvalidMarketData("the book's returns are not finite", "Validate the market data: `swarm data check`")
    return result


def horizon_returns(daily: np.ndarray, horizon_days: int) -> np.ndarray:
    """Compounded returns over every overlapping window of ``horizon_days`` days, shape (n - horizon + 1,).

    A book whose value has reached zero or less within a window stays where it then is: ruin does not compound.

    Raises
    ------
    InvalidMarketData
        The sample holds fewer than two such windows.
    """
    if horizon_days == 1:
        return daily
    if len(daily) < horizon_days + 1:
        raise InvalidMarketData(
            f"{len(daily)} days of history do not hold two windows of {horizon_days} days", "Shorten the horizon"
        )
    windows = np.lib.stride_tricks.sliding_window_view(1.0 + daily, horizon_days)
    if (daily <= -1).any():
        return np.array([compounded(window)[-1] - 1.0 for window in windows])
    return np.asarray(windows.prod(axis=1) - 1.0)


def compounded(growth: np.ndarray) -> np.ndarray:
    """Value after each day of a book worth 1, from factors of growth, shape (n,); once not positive it stays there."""
    value = np.cumprod(growth)
    ruined = np.flatnonzero(value <= 0)
    if ruined.size:
        value[ruined[0] :] = value[ruined[0]]
    return value


def tail(losses: np.ndarray, confidence: float) -> tuple[float, float]:
    """(VaR, CVaR) of losses of shape (n,), by the convention of this module.

    Raises
    ------
    InvalidMarketData
        The sample is empty or holds a value that is not finite.
    """
    _check(losses)
    size, whole = tail_size(len(losses), confidence)
    worst = -np.partition(-losses, min(whole, len(losses) - 1))[: whole + 1]
    worst.sort()
    var = float(worst[0])
    beyond = float(worst[1:].sum()) if whole else 0.0
    return var, (beyond + (size - whole) * var) / size


def entropic(losses: np.ndarray, confidence: float, weights: np.ndarray | None = None) -> tuple[float, float]:
    """(EVaR, exponent) of losses of shape (n,): min over t > 0 of (log E exp(t L) - log(1 - confidence)) / t.

    EVaR is the mean loss under the worst law within relative entropy -log(1 - confidence) of the sample's, so it lies
    between CVaR and the worst loss. The exponent t solves t K'(t) - K(t) = -log(1 - confidence) for the cumulant
    function K, by Newton's method inside a bracket; where the worst losses alone are heavy enough it is infinite, and
    EVaR is the worst loss. Source: Ahmadi-Javid 2012, Entropic value-at-risk.

    Parameters
    ----------
    weights : ndarray of shape (n,), optional
        Probabilities that sum to 1; equal ones without it.

    Raises
    ------
    InvalidMarketData
        The sample is empty or holds a value that is not finite.
    """
    _check(losses)
    probabilities = np.full(len(losses), 1 / len(losses)) if weights is None else weights
    entropy = -math.log1p(-confidence)
    worst = float(losses.max())
    below = losses - worst
    if probabilities[below == 0].sum() >= (1 - confidence) * (1 - RANK_TOLERANCE):
        return worst, math.inf
    low, high = 0.0, math.inf
    mean = float(probabilities @ below)
    t = math.sqrt(2 * entropy / float(probabilities @ (below - mean) ** 2))
    for _ in range(NEWTON_STEPS):
        tilted = probabilities * np.exp(t * below)
        total = float(tilted.sum())
        slope = float(tilted @ below) / total
        excess = t * slope - math.log(total) - entropy
        low, high = (t, high) if excess < 0 else (low, t)
        curvature = float(tilted @ (below - slope) ** 2) / total
        step = t - excess / (t * curvature) if curvature > 0 else math.inf
        following = step if low < step < high else (2 * t if high == math.inf else (low + high) / 2)
        if abs(following - t) <= 1e-10 * t:  # EVaR is flat about its minimum: its own error is of the square of this
            break
        t = following
    return worst + (math.log(float(probabilities @ np.exp(t * below))) + entropy) / t, t


def historical(daily: np.ndarray, confidence: float, horizon_days: int = 1) -> tuple[Estimate, Estimate]:
    """VaR and CVaR of the empirical distribution, with intervals; for h > 1, of its overlapping h-day windows.

    The windows overlap, so the intervals count n / h of them.
    """
    return empirical(
        -horizon_returns(daily, horizon_days),
        confidence,
        label="historical" if horizon_days == 1 else "historical_overlapping",
        horizon_days=horizon_days,
        overlap=horizon_days,
        independent="days",
    )


def empirical(
    losses: np.ndarray, confidence: float, *, label: str, horizon_days: int, overlap: int, independent: str
) -> tuple[Estimate, Estimate]:
    """VaR and CVaR of losses of shape (n,), every ``overlap``-th of which counts as independent.

    VaR: distribution-free interval from order statistics (binomial ranks). CVaR: asymptotic normal interval
    (Manistre & Hancock 2005). ``independent`` names in ``interval_method`` what both take as independent.
    """
    var, cvar = tail(losses, confidence)
    count = len(losses) / overlap
    lower, upper = _quantile_interval(losses, confidence, count)
    beyond = losses[losses >= var]
    spread = float(beyond.var(ddof=1)) if len(beyond) > 1 else 0.0
    error = math.sqrt((spread + confidence * (cvar - var) ** 2) / (count * (1 - confidence)))
    half = Z_INTERVAL * error if len(beyond) > 1 else None

    def estimate(
        measure: str, value: float, convention: str, bounds: tuple[float | None, float | None], how: str
    ) -> Estimate:
        return Estimate(
            measure=measure,
            value=value,
            unit="fraction",
            method_label=label,
            convention=convention,
            samples=len(losses),
            lower=bounds[0],
            upper=bounds[1],
            interval_method=how,
            confidence=confidence,
            horizon_days=horizon_days,
        )

    ranks = f"order statistics, independent {independent}" + ("" if upper is not None else "; no upper bound: too few")
    normal = f"asymptotic normal, independent {independent}" if half is not None else "none: too few observations"
    around = (None, None) if half is None else (cvar - half, cvar + half)
    return (
        estimate("var", var, CONVENTION_VAR, (lower, upper), ranks),
        estimate("cvar", cvar, CONVENTION_CVAR, around, normal),
    )


def historical_entropic(daily: np.ndarray, confidence: float, horizon_days: int = 1) -> Estimate:
    """EVaR of the empirical distribution, of overlapping windows for h > 1 (:func:`empirical_entropic`)."""
    return empirical_entropic(
        -horizon_returns(daily, horizon_days),
        confidence,
        label="historical" if horizon_days == 1 else "historical_overlapping",
        horizon_days=horizon_days,
        overlap=horizon_days,
        independent="days",
    )


def empirical_entropic(
    losses: np.ndarray, confidence: float, *, label: str, horizon_days: int, overlap: int, independent: str
) -> Estimate:
    """EVaR of losses of shape (n,), every ``overlap``-th independent; interval by the delta method.

    By the envelope theorem a loss L moves EVaR by (exp(t L) / E exp(t L) - 1) / t. A few losses carry most of that
    weight, so the interval is wide and still holds the truth less often than it says (of 1000 normal days:
    83 % of the time at 0.90, about half of it at 0.99), and none is given where the worst loss carries it all.
    """
    value, exponent = entropic(losses, confidence)
    half = None
    if math.isfinite(exponent):
        half = Z_INTERVAL * float(entropic_influence(losses, exponent).std()) / math.sqrt(len(losses) / overlap)
    return Estimate(
        measure="evar",
        value=value,
        unit="fraction",
        method_label=label,
        convention=CONVENTION_EVAR,
        samples=len(losses),
        lower=None if half is None else value - half,
        upper=None if half is None else value + half,
        interval_method="none: the worst loss alone" if half is None else f"delta method, independent {independent}",
        confidence=confidence,
        horizon_days=horizon_days,
    )


def entropic_influence(losses: np.ndarray, exponent: float, weights: np.ndarray | None = None) -> np.ndarray:
    """How far each loss moves EVaR, times the sample size: (exp(t L) / E exp(t L) - 1) / t, shape (n,)."""
    tilted = np.exp(exponent * (losses - losses.max()))
    mean = float(tilted.mean() if weights is None else weights @ tilted)
    return np.asarray((tilted / mean - 1) / exponent)


def gaussian(daily: np.ndarray, confidence: float, horizon_days: int = 1) -> tuple[Estimate, Estimate]:
    """VaR and CVaR of a normal distribution with the sample's mean and standard deviation.

    VaR = z s sqrt(h) - m h and CVaR = s sqrt(h) phi(z) / (1 - confidence) - m h, floored at zero; intervals by the
    delta method with var(m) = s^2 / n and var(s) = s^2 / 2n.
    """
    var, cvar, _ = gaussian_measures(daily, confidence, horizon_days)
    return var, cvar


def gaussian_measures(
    daily: np.ndarray, confidence: float, horizon_days: int = 1
) -> tuple[Estimate, Estimate, Estimate]:
    """VaR and CVaR as :func:`gaussian`, and EVaR = s sqrt(h) sqrt(-2 log(1 - confidence)) - m h."""
    deviation, mean, n = _standard_deviation(daily), float(daily.mean()), len(daily)
    z = NORMAL.inv_cdf(confidence)
    estimates = []
    factors = {"var": z, "cvar": NORMAL.pdf(z) / (1 - confidence), "evar": math.sqrt(-2 * math.log1p(-confidence))}
    for measure, factor in factors.items():
        unfloored = factor * deviation * math.sqrt(horizon_days) - mean * horizon_days
        error = deviation * math.sqrt(horizon_days**2 / n + factor**2 * horizon_days / (2 * n))
        estimates.append(
            Estimate(
                measure=measure,
                value=max(0.0, unfloored),
                unit="fraction",
                method_label="gaussian" if horizon_days == 1 else "gaussian_sqrt_time",
                convention="normal with sample mean and standard deviation",
                samples=n,
                lower=max(0.0, unfloored - Z_INTERVAL * error),
                upper=max(0.0, unfloored + Z_INTERVAL * error),
                interval_method="delta method, independent days",
                confidence=confidence,
                horizon_days=horizon_days,
            )
        )
    return estimates[0], estimates[1], estimates[2]


def volatility(daily: np.ndarray) -> Estimate:
    """Standard deviation of daily returns with its large-sample interval s (1 ± z / sqrt(2n))."""
    deviation, n = _standard_deviation(daily), len(daily)
    half = Z_INTERVAL * deviation / math.sqrt(2 * n)
    return Estimate(
        measure="volatility",
        value=deviation,
        unit="fraction",
        method_label="sample",
        convention="daily standard deviation, n - 1",
        samples=n,
        lower=deviation - half,
        upper=deviation + half,
        interval_method="asymptotic normal, independent days",
        horizon_days=1,
    )


def thin_tail_warning(n: int, confidence: float, horizon_days: int) -> str | None:
    """A warning where fewer than ``SMALL_TAIL`` independent observations lie beyond VaR."""
    beyond = n * (1 - confidence) / horizon_days
    if beyond >= SMALL_TAIL - RANK_TOLERANCE * max(1, n):
        return None
    return f"only about {beyond:.1f} independent observations lie beyond the {confidence:g} quantile"


def tail_size(n: int, confidence: float) -> tuple[float, int]:
    """(k, floor of k) for the worst k of n observations."""
    size = (1 - confidence) * n
    nearest = round(size)
    if abs(size - nearest) < RANK_TOLERANCE * max(1, n):
        size = float(nearest)
    if size < 1:  # less than one observation: the worst one stands for the tail
        return 1.0, 0
    return size, min(math.floor(size), n - 1)


def _quantile_interval(losses: np.ndarray, confidence: float, independent: float) -> tuple[float | None, float | None]:
    """Order-statistic interval of the ``confidence``-quantile; a bound beyond the sample is None."""
    lower_rank, upper_rank = binomial_ranks(max(1, round(independent)), confidence)
    n, scale = len(losses), len(losses) / max(1, round(independent))
    low, high = round(lower_rank * scale), round(upper_rank * scale)
    ordered = np.partition(losses, [min(max(low, 1), n) - 1, min(high, n) - 1])
    return (
        float(ordered[low - 1]) if low >= 1 else None,
        float(ordered[high - 1]) if high <= n else None,
    )


@lru_cache(maxsize=256)
def binomial_ranks(n: int, confidence: float) -> tuple[int, int]:
    """Ranks l < u, counted from 1, with P(L_(l) <= q < L_(u)) >= 95 % for the ``confidence``-quantile q of n losses.

    l may be 0 and u may be n + 1: the sample then has no such bound.
    """
    from scipy.special import bdtr

    cumulative = bdtr(np.arange(n + 1, dtype=float), n, confidence)
    miss = (1 - INTERVAL_LEVEL) / 2
    return int(np.searchsorted(cumulative, miss)), int(np.searchsorted(cumulative, 1 - miss)) + 1


def _standard_deviation(sample: np.ndarray) -> float:
    _check(sample)
    if len(sample) < 2:
        raise InvalidMarketData("one observation has no standard deviation", "Give more history")
    return float(sample.std(ddof=1))


def _check(sample: np.ndarray) -> None:
    if sample.size == 0 or not np.isfinite(sample).all():
        raise InvalidMarketData("the sample is empty or holds a value that is not finite", "Correct the market data")
