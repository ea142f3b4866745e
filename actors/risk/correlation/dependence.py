"""Dependence of a book beyond correlation, for its report: copulas of its closest pairs, and of all of it."""

from __future__ import annotations

import numpy as np

from actors.risk.correlation.copulas import (
    FAMILIES,
    BookFit,
    PairFit,
    fit_book,
    fit_pair,
    kendall_tau,
    pseudo_observations,
    student_tail,
)
from actors.risk.correlation.settings import CorrelationSettings
from hive.messages.estimate import Estimate
from hive.messages.reports import BookDependence, CopulaFit, PairDependence


def dependence(
    symbols: list[str], returns: np.ndarray, correlation: np.ndarray, settings: CorrelationSettings
) -> BookDependence:
    """Copulas of the book and of its pairs of strongest ``correlation``, chosen by AIC.

    Raises
    ------
    InvalidMarketData
        Too few days, a symbol that does not move, or one that repeats others.
    """
    observations = pseudo_observations(returns)
    fits = sorted((fit_book(observations, family) for family in ("gaussian", "student_t")), key=lambda fit: fit.aic)
    first, second = np.triu_indices(len(symbols), 1)
    strongest = np.argsort(-np.abs(correlation[first, second]), kind="stable")[: settings.copula_pairs]
    return BookDependence(
        fits=tuple(
            _fit(f.family, {} if f.degrees is None else {"degrees": f.degrees}, f.log_likelihood, f.aic, f.bic)
            for f in fits
        ),
        degrees=_degrees(fits[0], len(returns)),
        mean_tail=_mean_tail(fits[0], len(returns)),
        pairs=tuple(_pair(symbols, observations, int(first[pair]), int(second[pair])) for pair in strongest),
    )


def _pair(symbols: list[str], observations: np.ndarray, i: int, j: int) -> PairDependence:
    u, v = observations[:, i].copy(), observations[:, j].copy()
    fitted = (fit_pair(u, v, family) for family in FAMILIES)
    fits = sorted((fit for fit in fitted if fit is not None), key=lambda fit: fit.aic)
    best = fits[0]
    return PairDependence(
        first=symbols[i],
        second=symbols[j],
        kendall_tau=kendall_tau(u, v),
        fits=tuple(_fit(f.family, f.parameters, f.log_likelihood, f.aic, f.bic) for f in fits),
        lower_tail=_tail("lower_tail_dependence", best, best.lower, best.lower_bounds, len(u)),
        upper_tail=_tail("upper_tail_dependence", best, best.upper, best.upper_bounds, len(u)),
    )


def _fit(family: str, parameters: dict[str, float], log_likelihood: float, aic: float, bic: float) -> CopulaFit:
    return CopulaFit(family=family, parameters=parameters, log_likelihood=log_likelihood, aic=aic, bic=bic)


def _tail(measure: str, fit: PairFit, value: float, bounds: tuple[float, float] | None, samples: int) -> Estimate:
    none = f"none: a {fit.family} copula has none" if value == 0 else "none: the likelihood is flat"
    return Estimate(
        measure=measure,
        value=value,
        unit="ratio",
        method_label=f"copula_{fit.family}",
        convention="limit of P(one beyond its q-quantile | the other beyond its own)",
        samples=samples,
        lower=None if bounds is None else bounds[0],
        upper=None if bounds is None else bounds[1],
        interval_method=none if bounds is None else "delta method of ranks, Newey-West",
    )


def _degrees(fit: BookFit, samples: int) -> Estimate | None:
    if fit.degrees is None or fit.degrees_bounds is None:
        return None
    return Estimate(
        measure="copula_degrees",
        value=fit.degrees,
        unit="ratio",
        method_label="copula_student_t",
        convention="degrees of freedom of the book's t copula",
        samples=samples,
        lower=fit.degrees_bounds[0],
        upper=fit.degrees_bounds[1],
        interval_method="profile likelihood, independent days",
    )


def _mean_tail(fit: BookFit, samples: int) -> Estimate:
    rho = fit.correlation[np.triu_indices(len(fit.correlation), 1)]
    bounds: tuple[float | None, float | None] = (None, None)
    value, how = 0.0, "none: a gaussian copula has none"
    if fit.degrees is not None and fit.degrees_bounds is not None:
        low, high = fit.degrees_bounds  # more degrees, less tail
        value, how = float(student_tail(rho, fit.degrees).mean()), "that of the degrees, correlations as fitted"
        bounds = float(student_tail(rho, high).mean()), float(student_tail(rho, low).mean())
    return Estimate(
        measure="mean_tail_dependence",
        value=value,
        unit="ratio",
        method_label=f"copula_{fit.family}",
        convention="mean over pairs, the same for falls and rises",
        samples=samples,
        lower=bounds[0],
        upper=bounds[1],
        interval_method=how,
    )
