"""Methods that assume a shape: normal, Cornish-Fisher and Student-t."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.risk.measures import NORMAL, Z_INTERVAL, gaussian_measures
from actors.risk.value_at_risk import blocks
from actors.risk.value_at_risk.outcome import UNKNOWN, Interval, Outcome, figure, over
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData
from hive.messages.calculation import Parameters
from hive.messages.estimate import Estimate

MIN_DAYS = 30  # below which third and fourth moments, or degrees of freedom, are noise
DEGREES = (1.05, 200.0)  # searched: below, the mean loss is next to infinite; above, a t is next to normal
WITHOUT_EVAR = "{}: EVaR is not defined, {}"
STILL = 1e-12  # range of a series over its size, up to which only rounding moves it
STEP = 1e-4  # of finite differences, in the logarithms of scale and degrees and in scales of location


def gaussian(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR, CVaR and EVaR of a normal distribution (:func:`actors.risk.measures.gaussian_measures`)."""
    return Outcome(
        tuple(
            estimate
            for confidence in parameters.confidences
            for estimate in gaussian_measures(daily, confidence, parameters.horizon_days)
        )
    )


def cornish_fisher(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR and CVaR of the Cornish-Fisher expansion to the fourth moment.

    Days are summed as independent: over h of them skewness shrinks by sqrt(h) and excess kurtosis by h. CVaR is the
    expansion integrated beyond VaR (Maillard 2012). Outside the domain in which the expansion is a quantile function
    the figures are given and flagged. Intervals: percentiles of a circular block bootstrap of the moments.
    """
    _enough(daily)
    horizon, n = parameters.horizon_days, len(daily)
    mean, deviation, skew, excess = moments(daily)
    length = settings.block_days or blocks.block_length((daily - mean) ** 4)
    resampled = _resampled_moments(daily, length, settings.resamples, parameters.seed)
    valid = in_domain(-skew / math.sqrt(horizon), excess / horizon)
    found: list[Estimate] = []
    for confidence in parameters.confidences:
        values = expansion(mean, deviation, skew, excess, confidence, horizon)
        first, second, third, fourth = resampled.T
        spread = expansion(first, second, third, fourth, confidence, horizon)
        for measure, value, over_resamples in zip(("var", "cvar"), values, spread, strict=True):
            found.append(
                figure(
                    measure,
                    float(value),
                    label=over("cornish_fisher", horizon, "sqrt_time"),
                    convention="fourth-moment expansion" + ("" if valid else ", outside its domain of validity"),
                    samples=n,
                    confidence=confidence,
                    horizon_days=horizon,
                    bounds=blocks.percentile_interval(np.asarray(over_resamples)),
                    how=f"circular block bootstrap, {settings.resamples} resamples, blocks of {length} days",
                )
            )
    warnings = [WITHOUT_EVAR.format("cornish_fisher", "the expansion is no distribution")]
    if not valid:
        warnings.append(
            f"cornish_fisher: skewness {skew:.2f} and excess kurtosis {excess:.2f} lie outside the expansion's domain "
            "of validity (Maillard 2012), where it is no quantile function; prefer student_t or gpd"
        )
    return Outcome(tuple(found), tuple(warnings))


def moments(daily: np.ndarray) -> tuple[float, float, float, float]:
    """(mean, standard deviation, skewness, excess kurtosis), with 1/n."""
    mean = float(daily.mean())
    centred = daily - mean
    squares = centred * centred
    second = float(squares.mean())
    third, fourth = float((squares * centred).mean()), float((squares * squares).mean())
    return mean, math.sqrt(second), third / second**1.5, fourth / second**2 - 3


def in_domain(skew: float, excess: float) -> bool:
    """Whether the Cornish-Fisher expansion rises everywhere (Maillard 2012): then it is a quantile function."""
    quadratic, linear, constant = excess / 8 - skew**2 / 6, skew / 3, 1 - excess / 8 + 5 * skew**2 / 36
    return quadratic >= 0 and constant > 0 and linear**2 <= 4 * quadratic * constant + 1e-15


def expansion(mean: Any, deviation: Any, skew: Any, excess: Any, confidence: float, horizon_days: int) -> Any:
    """(VaR, CVaR) of the expansion for the moments of a day, numbers or arrays of one shape."""
    z = NORMAL.inv_cdf(confidence)
    s, k = -skew / math.sqrt(horizon_days), excess / horizon_days  # of the loss, whose skewness has the other sign
    scale, drift = deviation * math.sqrt(horizon_days), mean * horizon_days
    quantile = z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36
    ratio = NORMAL.pdf(z) / (1 - confidence)
    beyond = ratio * (1 + z * s / 6 + (z**2 - 1) * k / 24 - (2 * z**2 - 1) * s**2 / 36)
    return scale * quantile - drift, scale * beyond - drift


@dataclass(frozen=True)
class StudentT:
    """A fitted location-scale Student-t of daily returns."""

    location: float
    scale: float
    degrees: float
    covariance: np.ndarray | None
    """Of (location, log scale, log degrees), shape (3, 3); None where the likelihood does not give one."""


def student_t(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR and CVaR of a Student-t fitted by maximum likelihood; intervals by the delta method.

    VaR = s sqrt(h) t_c - m h and CVaR = s sqrt(h) f(t_c) (v + t_c^2) / ((v - 1) (1 - c)) - m h, with the t quantile t_c
    and density f. A sum of t days is no t: over more than one day the square root of time is a convention.
    """
    horizon, n = parameters.horizon_days, len(daily)
    fit = fit_student_t(daily)
    found: list[Estimate] = []
    for confidence in parameters.confidences:
        values = t_tail(fit.location, fit.scale, fit.degrees, confidence, horizon)
        errors = _delta_errors(fit, confidence, horizon)
        for place, measure in enumerate(("var", "cvar")):
            bounds: Interval = UNKNOWN
            if errors is not None:
                bounds = (values[place] - Z_INTERVAL * errors[place], values[place] + Z_INTERVAL * errors[place])
            found.append(
                figure(
                    measure,
                    values[place],
                    label=over("student_t", horizon, "sqrt_time"),
                    convention=f"Student-t with {fit.degrees:.2f} degrees of freedom, maximum likelihood",
                    samples=n,
                    confidence=confidence,
                    horizon_days=horizon,
                    bounds=bounds,
                    how="delta method, independent days"
                    if errors is not None
                    else "none: the likelihood has no maximum inside the range of degrees searched",
                )
            )
    return Outcome(tuple(found), (WITHOUT_EVAR.format("student_t", "its exponential moments are infinite"),))


def fit_student_t(daily: np.ndarray) -> StudentT:
    """Maximum-likelihood Student-t of returns of shape (n,).

    Raises
    ------
    InvalidMarketData
        Too few days, or a series that does not move.
    """
    from scipy.optimize import minimize

    _enough(daily)
    centre, spread = float(np.median(daily)), float(daily.std())
    sample = (daily - centre) / spread  # of order one, for the optimiser
    first = np.array([0.0, math.log(0.7), math.log(4.0)])
    limits = [(-5.0, 5.0), (-12.0, 5.0), (math.log(DEGREES[0]), math.log(DEGREES[1]))]
    best = minimize(_t_likelihood, first, args=(sample,), jac=True, method="L-BFGS-B", bounds=limits)
    location, log_scale, log_degrees = best.x
    inside = limits[2][0] + 1e-6 < log_degrees < limits[2][1] - 1e-6
    covariance = _inverse_information(best.x, sample) if inside else None
    if covariance is not None:
        covariance = covariance * np.outer([spread, 1, 1], [spread, 1, 1])
    return StudentT(centre + spread * float(location), spread * math.exp(log_scale), math.exp(log_degrees), covariance)


def t_tail(location: float, scale: float, degrees: float, confidence: float, horizon_days: int) -> tuple[float, float]:
    """(VaR, CVaR) of a Student-t return by the square root of time; the degrees of freedom are above 1."""
    from scipy.special import gammaln, stdtrit

    quantile = float(stdtrit(degrees, confidence))
    density = math.exp(
        float(gammaln((degrees + 1) / 2) - gammaln(degrees / 2))
        - 0.5 * math.log(degrees * math.pi)
        - (degrees + 1) / 2 * math.log1p(quantile**2 / degrees)
    )
    beyond = density * (degrees + quantile**2) / ((degrees - 1) * (1 - confidence))
    stretch, drift = scale * math.sqrt(horizon_days), location * horizon_days
    return stretch * quantile - drift, stretch * beyond - drift


def _t_likelihood(theta: np.ndarray, sample: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean negative log likelihood and its gradient in (location, log scale, log degrees)."""
    from scipy.special import gammaln, psi

    location, log_scale, log_degrees = (float(value) for value in theta)
    degrees, scale = math.exp(log_degrees), math.exp(log_scale)
    z = (sample - location) / scale
    ratio = z * z / degrees
    logs = np.log1p(ratio)
    weight = (degrees + 1) / (degrees * (1 + ratio))
    constant = float(gammaln((degrees + 1) / 2) - gammaln(degrees / 2)) - 0.5 * math.log(degrees * math.pi) - log_scale
    value = -(constant - (degrees + 1) / 2 * float(logs.mean()))
    by_location = float((weight * z).mean()) / scale
    by_scale = float((weight * z * z).mean()) - 1
    by_degrees = 0.5 * (
        float(psi((degrees + 1) / 2) - psi(degrees / 2))
        - 1 / degrees
        - float(logs.mean())
        + float((weight * z * z).mean()) / degrees
    )
    return value, -np.array([by_location, by_scale, degrees * by_degrees])


def _inverse_information(theta: np.ndarray, sample: np.ndarray) -> np.ndarray | None:
    """Covariance of the estimates from the observed information; None where that is not positive definite."""
    steps = STEP * np.eye(3)
    information = np.array(
        [(_t_likelihood(theta + s, sample)[1] - _t_likelihood(theta - s, sample)[1]) / (2 * STEP) for s in steps]
    )
    information = (information + information.T) / 2
    if not np.linalg.eigvalsh(information)[0] > 0:
        return None
    return np.asarray(np.linalg.inv(information) / len(sample))


def _delta_errors(fit: StudentT, confidence: float, horizon_days: int) -> list[float] | None:
    """Standard errors of (VaR, CVaR) from the covariance of the fit, by central differences."""
    if fit.covariance is None:
        return None
    theta = np.array([fit.location, math.log(fit.scale), math.log(fit.degrees)])
    steps = np.diag([STEP * fit.scale, STEP, STEP])

    def at(point: np.ndarray) -> np.ndarray:
        return np.array(t_tail(point[0], math.exp(point[1]), math.exp(point[2]), confidence, horizon_days))

    slopes = np.array([(at(theta + s) - at(theta - s)) / (2 * s.sum()) for s in steps])
    return [math.sqrt(float(slope @ fit.covariance @ slope)) for slope in slopes.T]


def _resampled_moments(daily: np.ndarray, length: int, resamples: int, seed: int) -> np.ndarray:
    """(mean, deviation, skewness, excess kurtosis) of every resample, shape (resamples, 4).

    Blocks enter by sums of powers, which differences of cumulated powers give: no resample is ever laid out. Whole
    blocks are used, so a resample may be longer than the sample by less than a block.
    """
    n = len(daily)
    scale, centre = float(daily.std()), float(daily.mean())
    z = (np.concatenate([daily, daily[:length]]) - centre) / scale
    sums = [np.concatenate([[0.0], np.cumsum(z**power)]) for power in (1, 2, 3, 4)]
    starts = blocks.block_starts(n, length, resamples, seed)
    count = starts.shape[1] * length
    m1, m2, m3, m4 = ((cumulated[length:] - cumulated[:-length])[starts].sum(axis=1) / count for cumulated in sums)
    variance = m2 - m1**2
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return np.column_stack(
        [centre + scale * m1, scale * np.sqrt(variance), third / variance**1.5, fourth / variance**2 - 3]
    )


def _enough(daily: np.ndarray) -> None:
    if len(daily) < MIN_DAYS or not np.isfinite(daily).all():
        raise InvalidMarketData(
            f"{len(daily)} days, or days that are not finite, are not enough to fit a shape to",
            f"Give at least {MIN_DAYS} finite daily returns",
        )
    if np.ptp(daily) <= STILL * np.abs(daily).max():
        raise InvalidMarketData("a series that does not move has no shape to fit", "Leave it out")
