"""Filtered historical simulation (Barone-Adesi, Giannopoulos & Vosper 1999): yesterday's shocks at today's volatility.

A GARCH(1,1) filters the book's daily returns; the standardised residuals are what history has to say, and the forecast
variance says how loud. Over more than one day, paths draw residuals with replacement and let the variance answer them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from actors.risk.garch import Garch, fit_garch
from actors.risk.kernels import tail
from actors.risk.measures import Z_INTERVAL, empirical, empirical_entropic, entropic
from actors.risk.value_at_risk.outcome import Interval, Outcome, figure
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData
from hive.messages.calculation import Parameters
from hive.messages.estimate import Estimate

EWMA_DECAY = 0.94  # RiskMetrics 1996, for a day
MIN_DAYS = 100  # below which a residual distribution is a guess
RESIDUAL_RESAMPLES = 100  # of the residuals, for intervals over more than one day
RESAMPLE_PATHS = 2000  # paths of each of them
LABEL = "filtered_historical"
CONVENTION = "residuals of a GARCH(1,1) at its forecast variance"


def filtered_historical(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR, CVaR and EVaR of the filtered residuals at the volatility to come; simulated over more than one day."""
    fit, fallbacks = filter_of(daily)
    if parameters.horizon_days == 1:
        losses = -(fit.mu + math.sqrt(fit.next_variance) * fit.residuals)
        return Outcome(tuple(_one_day(losses, parameters)), fallbacks=fallbacks)
    return Outcome(tuple(_simulated(fit, parameters, settings)), fallbacks=fallbacks)


def filter_of(daily: np.ndarray) -> tuple[Garch, tuple[str, ...]]:
    """The GARCH filter of daily returns of shape (n,), or the exponential one where that does not converge.

    Raises
    ------
    InvalidMarketData
        The series is too short, not finite, or does not move.
    """
    if len(daily) < MIN_DAYS:
        raise InvalidMarketData(
            f"{len(daily)} days are too few to filter volatility from", f"Give {MIN_DAYS} days of history"
        )
    if not np.isfinite(daily).all() or np.ptp(daily) <= 1e-12 * np.abs(daily).max():
        raise InvalidMarketData(
            "a series that does not move, or is not finite, has no volatility to filter", "Leave it"
        )
    try:
        fit = fit_garch(daily)
    except InvalidMarketData as error:
        return exponential_filter(daily), (f"{LABEL}: {error.problem}; EWMA({EWMA_DECAY:g}) variances stand in",)
    if not fit.converged:
        return exponential_filter(daily), (f"{LABEL}: GARCH did not converge; EWMA({EWMA_DECAY:g}) stands in",)
    return fit, ()


def exponential_filter(daily: np.ndarray) -> Garch:
    """The RiskMetrics filter in the shape of a GARCH: omega 0, alpha 1 - decay, beta decay."""
    mean = float(daily.mean())
    squares = (daily - mean) ** 2
    variances = np.empty(len(daily) + 1)
    variances[0] = squares.mean()
    for day, square in enumerate(squares.tolist()):
        variances[day + 1] = EWMA_DECAY * variances[day] + (1 - EWMA_DECAY) * square
    if not (variances > 0).all():
        raise InvalidMarketData("the book's returns are too small to have a variance", "Check the weights")
    residuals = (daily - mean) / np.sqrt(variances[:-1])
    likelihood = -0.5 * float((np.log(2 * math.pi * variances[:-1]) + residuals**2).sum())
    return Garch(
        mu=mean,
        omega=0.0,
        alpha=1 - EWMA_DECAY,
        beta=EWMA_DECAY,
        log_likelihood=likelihood,
        residuals=residuals,
        variances=variances[:-1],
        next_variance=float(variances[-1]),
        converged=True,
        degrees=None,
    )


def simulate(fit: Garch, residuals: np.ndarray, horizon_days: int, paths: int, rng: np.random.Generator) -> np.ndarray:
    """Compounded losses over the horizon, shape (paths,): residuals drawn with replacement, variance updated by each.

    A day is not allowed to lose more than everything.
    """
    variance = np.full(paths, fit.next_variance)
    wealth = np.ones(paths)
    for _ in range(horizon_days):
        shock = np.sqrt(variance) * residuals[rng.integers(0, len(residuals), paths)]
        wealth *= np.maximum(1 + fit.mu + shock, 0.0)
        variance = fit.omega + fit.alpha * shock**2 + fit.beta * variance
    return np.asarray(1 - wealth)


def _one_day(losses: np.ndarray, parameters: Parameters) -> Iterator[Estimate]:
    for confidence in parameters.confidences:
        shared = {
            "label": LABEL,
            "horizon_days": 1,
            "overlap": 1,
            "independent": "residuals, fit held",
        }
        yield from empirical(losses, confidence, **shared)  # type: ignore[arg-type]
        yield empirical_entropic(losses, confidence, **shared)  # type: ignore[arg-type]


def _simulated(fit: Garch, parameters: Parameters, settings: ValueAtRiskSettings) -> Iterator[Estimate]:
    horizon = parameters.horizon_days
    rng = np.random.default_rng(parameters.seed)
    losses = simulate(fit, fit.residuals, horizon, settings.paths, rng)
    n = len(fit.residuals)
    resampled = [
        simulate(fit, fit.residuals[rng.integers(0, n, n)], horizon, RESAMPLE_PATHS, rng)
        for _ in range(RESIDUAL_RESAMPLES)
    ]
    how = f"bootstrap of the residuals, {RESIDUAL_RESAMPLES} resamples of {RESAMPLE_PATHS} paths, fit held"
    for confidence in parameters.confidences:
        spread = np.array([(*tail(sample, confidence), entropic(sample, confidence)[0]) for sample in resampled])
        half = Z_INTERVAL * spread.std(axis=0, ddof=1)
        figures = (*tail(losses, confidence), entropic(losses, confidence)[0])
        for measure, value, width in zip(("var", "cvar", "evar"), figures, half.tolist(), strict=True):
            bounds: Interval = (value - width, value + width)
            yield figure(
                measure,
                value,
                label=f"{LABEL}_simulated",
                convention=f"{CONVENTION}, {settings.paths} paths",
                samples=n,
                confidence=confidence,
                horizon_days=horizon,
                bounds=bounds,
                how=how,
            )
