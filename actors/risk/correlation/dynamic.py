"""Dynamic correlation of a book, for its report: margins, DCC, where it came from and where it goes."""

from __future__ import annotations

import math

import numpy as np

from actors.risk.correlation.dcc import Dcc, Likelihood, fit_dcc, forecast, mean_correlations
from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.covariance import mean_pair
from actors.risk.garch import fit_garch
from cluster.errors import InvalidMarketData
from hive.messages.estimate import Estimate
from hive.messages.reports import DynamicCorrelation

FORECAST_DAYS = 21


def dynamic_correlation(
    symbols: list[str], returns: np.ndarray, dates: np.ndarray, settings: CorrelationSettings
) -> tuple[DynamicCorrelation, list[str], list[str]]:
    """(What is reported, warnings, fallbacks). The full likelihood up to the symbols of the settings, pairs beyond.

    Raises
    ------
    InvalidMarketData
        No GARCH can be fitted to a symbol, or no DCC to their residuals.
    """
    margins = []
    for symbol, column in zip(symbols, returns.T, strict=True):
        try:
            margins.append(fit_garch(column.copy()))
        except InvalidMarketData as error:
            raise InvalidMarketData(f"{symbol}: {error.problem}", error.remedy) from error
    residuals = np.column_stack([margin.residuals for margin in margins])
    first: Likelihood = "full" if len(symbols) <= settings.dcc_full_symbols else "all_pairs"
    fallbacks = []
    try:
        fit = fit_dcc(residuals, margins, likelihood=first)
    except InvalidMarketData as error:
        if first == "all_pairs":
            raise
        fallbacks.append(f"dcc by the full likelihood: {error.problem}")
        fit = fit_dcc(residuals, margins, likelihood="all_pairs")
    unsure = [symbol for symbol, margin in zip(symbols, margins, strict=True) if not margin.converged]
    warnings = [f"the GARCH of {', '.join(unsure)} did not converge"] if unsure else []
    if fit.boundary:
        warnings.append(f"the DCC fit ended at a bound, {fit.boundary}")
    return _reported(fit, residuals, dates, settings), warnings, fallbacks


def _reported(fit: Dcc, residuals: np.ndarray, dates: np.ndarray, settings: CorrelationSettings) -> DynamicCorrelation:
    kept = fit.a + fit.b
    shown = min(settings.window_days, len(residuals))
    return DynamicCorrelation(
        a=_estimate("dcc_a", fit.a, "weight of yesterday's shocks", fit.a_bounds, fit),
        b=_estimate("dcc_b", fit.b, "weight kept from yesterday", fit.b_bounds, fit),
        mean_correlation=Estimate(
            measure="mean_correlation",
            value=mean_pair(fit.correlation),
            unit="correlation",
            method_label="dcc",
            convention="mean over pairs, forecast for the next day",
            samples=fit.samples,
            interval_method="none: the forecast's own error is not known",
            horizon_days=1,
        ),
        half_life_days=math.log(0.5) / math.log(kept) if fit.a > 0 and 0 < kept < 1 else None,
        correlation=fit.correlation,
        path=mean_correlations(fit, residuals)[-shown:],
        path_dates=dates[-shown:],
        forecast=np.array([mean_pair(forecast(fit, day)) for day in range(1, FORECAST_DAYS + 1)]),
        likelihood=fit.likelihood,
        log_likelihood=fit.log_likelihood,
        constant_log_likelihood=fit.constant_log_likelihood,
        boundary=fit.boundary,
    )


def _estimate(measure: str, value: float, convention: str, bounds: tuple[float, float] | None, fit: Dcc) -> Estimate:
    return Estimate(
        measure=measure,
        value=value,
        unit="ratio",
        method_label=f"dcc_{fit.likelihood}",
        convention=convention,
        samples=fit.samples,
        lower=None if bounds is None else bounds[0],
        upper=None if bounds is None else bounds[1],
        interval_method=fit.interval_method,
    )
