"""Methods that let history speak for itself: historical simulation, plain and weighted by age."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from actors.risk.measures import (
    CONVENTION_EVAR,
    Z_INTERVAL,
    entropic,
    entropic_influence,
    historical,
    historical_entropic,
    horizon_returns,
)
from actors.risk.value_at_risk import blocks
from actors.risk.value_at_risk.outcome import UNKNOWN, Interval, Outcome, figure, over
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.messages.calculation import Parameters
from hive.messages.estimate import Estimate

SMALL_TAIL = 10  # effective observations beyond VaR below which an estimate is called thin
WEIGHT_TOLERANCE = 1e-12  # absorbs the rounding of cumulated weights


def plain(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR, CVaR and EVaR of the days as they were, of overlapping windows over more than one day."""
    horizon = parameters.horizon_days
    found = [
        estimate
        for confidence in parameters.confidences
        for estimate in (*historical(daily, confidence, horizon), historical_entropic(daily, confidence, horizon))
    ]
    if settings.interval == "block_bootstrap" and horizon == 1:  # of windows that overlap, blocks give too short ones
        return Outcome(tuple(_in_blocks(-horizon_returns(daily, horizon), found, parameters, settings)))
    return Outcome(tuple(found))


def age_weighted(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR, CVaR and EVaR of the days weighted by ``decay`` to the power of their age (Boudoukh et al. 1998).

    Intervals are normal, from the influence of each day times its weight: on the level of the quantile for VaR
    (Woodruff 1952), on the figure itself for CVaR and EVaR.
    """
    horizon = parameters.horizon_days
    losses = -horizon_returns(daily, horizon)
    weights = age_weights(len(losses), settings.decay)
    effective = 1 / float(weights @ weights) / horizon
    found: list[Estimate] = []
    warnings = []
    for confidence in parameters.confidences:
        found += _weighted_figures(losses, weights, confidence, effective, horizon)
        if effective * (1 - confidence) < SMALL_TAIL:
            left = effective * (1 - confidence)
            warnings.append(
                f"age_weighted: a decay of {settings.decay:g} leaves about {left:.1f} effective observations beyond "
                f"the {confidence:g} quantile"
            )
    return Outcome(tuple(found), tuple(warnings))


def age_weights(n: int, decay: float) -> np.ndarray:
    """Probabilities of n observations, oldest first, each ``decay`` times the next; shape (n,), sum 1."""
    weights = decay ** np.arange(n - 1, -1, -1, dtype=float)
    return np.asarray(weights / weights.sum())


def weighted_tail(losses: np.ndarray, weights: np.ndarray, confidence: float) -> tuple[float, float]:
    """(VaR, CVaR) of losses with probabilities, both of shape (n,): the convention of `measures.tail`.

    VaR is the smallest loss that losses of at most 1 - confidence of the weight exceed; CVaR averages the worst 1 -
    confidence of the weight, VaR by what is left of it.
    """
    order = np.argsort(-losses, kind="stable")
    ordered, heavier = losses[order], np.cumsum(weights[order])
    share = 1 - confidence
    place = min(int(np.searchsorted(heavier, share + WEIGHT_TOLERANCE, side="right")), len(losses) - 1)
    var = float(ordered[place])
    beyond = float(heavier[place - 1]) if place else 0.0
    return var, (float(ordered[:place] @ weights[order[:place]]) + (share - beyond) * var) / share


def _weighted_figures(
    losses: np.ndarray, weights: np.ndarray, confidence: float, effective: float, horizon: int
) -> list[Estimate]:
    var, cvar = weighted_tail(losses, weights, confidence)
    evar, exponent = entropic(losses, confidence, weights)

    def error(influence: np.ndarray) -> float:
        return Z_INTERVAL * math.sqrt(horizon * float((weights * influence) @ (weights * influence)))

    half = error((losses > var) - (1 - confidence))
    bounds: Interval = (
        weighted_tail(losses, weights, confidence - half)[0] if half < confidence else None,
        weighted_tail(losses, weights, confidence + half)[0] if confidence + half < 1 else None,
    )
    around: Interval = UNKNOWN
    if (losses >= var).sum() > 1:
        width = error(var + np.maximum(losses - var, 0) / (1 - confidence) - cvar)
        around = (cvar - width, cvar + width)
    tilt: Interval = UNKNOWN
    if math.isfinite(exponent):
        width = error(entropic_influence(losses, exponent, weights))
        tilt = (evar - width, evar + width)
    conventions = {
        "var": (var, "lower quantile of the age-weighted distribution", bounds, "normal error of the quantile's level"),
        "cvar": (cvar, "Rockafellar-Uryasev of the age-weighted distribution", around, "delta method"),
        "evar": (evar, CONVENTION_EVAR + ", age-weighted", tilt, "delta method"),
    }
    return [
        figure(
            measure,
            value,
            label=over("age_weighted", horizon, "overlapping"),
            convention=convention,
            samples=len(losses),
            confidence=confidence,
            horizon_days=horizon,
            bounds=interval,
            how=f"{how}, {effective:.0f} effective days"
            if interval != UNKNOWN
            else f"none: {effective:.0f} effective days are too few",
        )
        for measure, (value, convention, interval, how) in conventions.items()
    ]


def _in_blocks(
    losses: np.ndarray, found: list[Estimate], parameters: Parameters, settings: ValueAtRiskSettings
) -> list[Estimate]:
    """The figures with intervals of the block bootstrap; blocks are never shorter than the horizon."""
    renewed = []
    for confidence in parameters.confidences:
        mine = {estimate.measure: estimate for estimate in found if estimate.confidence == confidence}
        excess = np.maximum(losses - mine["var"].value, 0.0)
        length = min(max(settings.block_days or blocks.block_length(excess), parameters.horizon_days), len(losses))
        starts = blocks.block_starts(len(losses), length, settings.resamples, parameters.seed)
        resampled = blocks.bootstrap_tails(losses, confidence, starts, length)
        how = f"circular block bootstrap, {settings.resamples} resamples, blocks of {length} days"
        for column, measure in enumerate(("var", "cvar")):
            lower, upper = blocks.percentile_interval(resampled[:, column])
            renewed.append(replace(mine[measure], lower=lower, upper=upper, interval_method=how))
        _, exponent = entropic(losses, confidence)
        evar = mine["evar"]
        if math.isfinite(exponent):
            half = Z_INTERVAL * blocks.mean_error(entropic_influence(losses, exponent), length)
            evar = replace(
                evar,
                lower=evar.value - half,
                upper=evar.value + half,
                interval_method=f"delta method, circular blocks of {length} days",
            )
        renewed.append(evar)
    return renewed
