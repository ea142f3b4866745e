"""Peaks over threshold: a generalised Pareto distribution for the losses beyond a high one (McNeil & Frey 2000).

With n losses, k of them beyond u, and Y = L - u ~ GPD(xi, beta):
VaR_c = u + beta / xi ((n (1 - c) / k)^-xi - 1) and ES_c = (VaR_c + beta - xi u) / (1 - xi) for xi < 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from actors.risk.measures import RANK_TOLERANCE, horizon_returns
from actors.risk.value_at_risk.outcome import Interval, Outcome, figure, over
from actors.risk.value_at_risk.parametric import WITHOUT_EVAR
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData
from hive.messages.calculation import Parameters
from hive.messages.estimate import Estimate

MIN_PEAKS = 30  # losses beyond the threshold below which two parameters are guesses
SHAPES = (-0.5, 2.0)  # range of xi; below -1/2 maximum likelihood is not regular
CHI_SQUARED_95 = 3.841458820694124  # 95 % quantile with one degree of freedom
NEARLY_ZERO = 1e-8  # |xi| below which the exponential limit is used
GRID = 24  # starting points of the one-dimensional likelihood search
GOLDEN = (math.sqrt(5) - 1) / 2
DOUBLINGS = 40  # steps outwards in search of the end of a profile


@dataclass(frozen=True)
class Pareto:
    """A generalised Pareto distribution fitted to the losses beyond a threshold."""

    threshold: float
    shape: float
    """xi: the tail index where positive, the lighter the smaller."""
    scale: float
    log_likelihood: float
    peaks: np.ndarray
    """Losses beyond the threshold less the threshold, shape (n_peaks,)."""
    share: float
    """Share of all losses that lie beyond it."""

    def tail(self, confidence: float) -> tuple[float, float]:
        """(VaR, CVaR); CVaR is infinite for a shape of 1 or more."""
        stretch = _stretch(self.shape, (1 - confidence) / self.share)
        var = self.threshold + self.scale * stretch
        if self.shape >= 1:
            return var, math.inf
        return var, (var + self.scale - self.shape * self.threshold) / (1 - self.shape)


def gpd(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR and CVaR beyond the threshold of ``tail_share``; intervals by profile likelihood.

    A confidence whose quantile lies below the threshold is refused with a warning, and so is the CVaR of a tail too
    heavy to have a mean. Over more than one day the overlapping windows are fitted and count as n / h.
    """
    horizon = parameters.horizon_days
    losses = -horizon_returns(daily, horizon)
    fit = fit_pareto(losses, settings.tail_share)
    found: list[Estimate] = []
    warnings = [WITHOUT_EVAR.format("gpd", "the fit says nothing below its threshold")]
    for confidence in parameters.confidences:
        if 1 - confidence >= fit.share - RANK_TOLERANCE:
            warnings.append(
                f"gpd: the {confidence:g} quantile lies below the threshold of the worst {fit.share:.0%}: no figure"
            )
            continue
        for measure, value in zip(("var", "cvar"), fit.tail(confidence), strict=True):
            if not math.isfinite(value):
                warnings.append(f"gpd: the tail index {fit.shape:.2f} is 1 or more: mean loss beyond VaR is infinite")
                continue
            found.append(
                figure(
                    measure,
                    value,
                    label=over("gpd", horizon, "overlapping"),
                    convention=f"McNeil-Frey, xi {fit.shape:.3f}, worst {fit.share:.0%} of losses",
                    samples=len(losses),
                    confidence=confidence,
                    horizon_days=horizon,
                    bounds=profile_interval(fit, measure, confidence, horizon),
                    how=f"profile likelihood of {len(fit.peaks)} peaks, independent days, threshold taken as known",
                )
            )
    return Outcome(tuple(found), tuple(warnings))


def fit_pareto(losses: np.ndarray, tail_share: float) -> Pareto:
    """Maximum-likelihood GPD of the losses beyond the (1 - tail_share) order statistic (Grimshaw 1993).

    The likelihood is searched in theta = xi / beta alone: for each theta the best xi is the mean of log(1 + theta y).

    Raises
    ------
    InvalidMarketData
        Fewer than ``MIN_PEAKS`` losses lie beyond the threshold, a loss is not finite, or the peaks are all alike.
    """
    n = len(losses)
    if not np.isfinite(losses).all():
        raise InvalidMarketData("a loss is not finite", "Correct the market data")
    count = int(tail_share * n)
    if count < MIN_PEAKS or count >= n:
        raise InvalidMarketData(
            f"{count} of {n} losses lie beyond the threshold", f"Give more history: {MIN_PEAKS} peaks are needed"
        )
    threshold = float(np.partition(losses, n - count - 1)[n - count - 1])
    peaks = losses[losses > threshold] - threshold
    if len(peaks) < MIN_PEAKS or np.ptp(peaks) <= 1e-12 * peaks.max():
        raise InvalidMarketData("the losses beyond the threshold are ties", "Choose another share, or leave it out")
    median = float(np.median(peaks))
    y = peaks / median
    shape, likelihood, theta = _best_shape(y)
    scale = _scale_of(shape, theta, y) * median
    return Pareto(threshold, shape, scale, likelihood - len(y) * math.log(median), peaks, len(peaks) / n)


def profile_interval(fit: Pareto, measure: str, confidence: float, overlap: int = 1) -> Interval:
    """Values of VaR or CVaR whose profile likelihood lies within chi-squared of the maximum; None where it never falls.

    Each likelihood counts 1 / ``overlap``: overlapping windows repeat themselves.
    """
    ratio = (1 - confidence) / fit.share
    best = fit.tail(confidence)[0 if measure == "var" else 1]
    highest = SHAPES[1] if measure == "var" else 1 - 1e-6

    def scale_at(value: float, shape: float) -> float:
        stretch = _stretch(shape, ratio)
        if measure == "var":
            return (value - fit.threshold) / stretch
        return (value - fit.threshold) * (1 - shape) / (stretch + 1)

    def drop(value: float) -> float:
        profiled = _highest(
            lambda shape: _log_likelihood(fit.peaks, shape, scale_at(value, shape)), SHAPES[0], highest, near=fit.shape
        )
        return 2 * (fit.log_likelihood - profiled) / overlap - CHI_SQUARED_95

    excess = best - fit.threshold
    return (
        _crossing(drop, best, lambda step: fit.threshold + excess * 0.9**step),
        _crossing(drop, best, lambda step: fit.threshold + excess * 1.15**step),
    )


def _crossing(drop: Callable[[float], float], inside: float, outwards: Callable[[int], float]) -> float | None:
    from scipy.optimize import brentq

    previous = inside
    for step in range(1, DOUBLINGS):
        here = outwards(step)
        if drop(here) > 0:
            return float(brentq(drop, min(previous, here), max(previous, here), rtol=1e-6))
        previous = here
    return None


def _best_shape(y: np.ndarray) -> tuple[float, float, float]:
    """(xi, log likelihood, theta) of peaks with median 1, for which theta is about 2^xi - 1."""

    def likelihood(theta: float) -> float:
        shape = float(np.log1p(theta * y).mean())
        if not SHAPES[0] <= shape <= SHAPES[1]:
            return -math.inf
        return _log_likelihood(y, shape, _scale_of(shape, theta, y))

    lowest = -1 / float(y.max()) * (1 - 1e-9)
    # Theta runs from just above -1 / max to beyond what the largest xi asks: a grid, then a search beside its best.
    grid = np.concatenate([lowest * np.linspace(1, 0.02, GRID // 2), np.geomspace(1e-3, 2 * 2 ** SHAPES[1], GRID)])
    values = [likelihood(theta) for theta in grid]
    place = int(np.argmax(values))
    low, high = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
    theta = _peak(likelihood, float(low), float(high))
    if likelihood(theta) < values[place]:
        theta = float(grid[place])
    return float(np.log1p(theta * y).mean()), likelihood(theta), theta


def _scale_of(shape: float, theta: float, y: np.ndarray) -> float:
    """beta = xi / theta, and the mean of the peaks where both vanish."""
    return shape / theta if abs(shape) > NEARLY_ZERO else float(y.mean())


def _highest(function: Callable[[float], float], low: float, high: float, *, near: float) -> float:
    """The largest value of a function that rises and then falls, searched from a bracket about ``near``."""
    width = 0.25
    left, right = max(low, near - width), min(high, near + width)
    while True:
        place = _peak(function, left, right)
        at_left, at_right = place - left < 1e-3 and left > low, right - place < 1e-3 and right < high
        if not (at_left or at_right):
            return function(place)
        left, right = (
            (max(low, left - 2 * width), left + 1e-2) if at_left else (right - 1e-2, min(high, right + 2 * width))
        )


def _peak(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search for the maximum."""
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_a, at_b = function(a), function(b)
    while high - low > 1e-8 * max(1.0, abs(low) + abs(high)):
        if at_a > at_b:
            high, b, at_b = b, a, at_a
            a = high - GOLDEN * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + GOLDEN * (high - low)
            at_b = function(b)
    return (low + high) / 2


def _stretch(shape: float, ratio: float) -> float:
    """(ratio^-xi - 1) / xi, and its limit -log(ratio) for xi = 0."""
    if abs(shape) < NEARLY_ZERO:
        return -math.log(ratio)
    return math.expm1(-shape * math.log(ratio)) / shape


def _log_likelihood(peaks: np.ndarray, shape: float, scale: float) -> float:
    """Log density of the peaks, summed; -inf where one lies beyond the distribution's end."""
    if scale <= 0:
        return -math.inf
    if abs(shape) < NEARLY_ZERO:
        return -len(peaks) * math.log(scale) - float(peaks.sum()) / scale
    inner = shape * peaks / scale
    if float(inner.min()) <= -1:
        return -math.inf
    return -len(peaks) * math.log(scale) - (1 / shape + 1) * float(np.log1p(inner).sum())
