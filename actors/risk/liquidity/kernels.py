"""Compiled assessment of a whole book: days, cost, score and stress index from one resident table."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH

EXPOSURE, UNIT, VOLUME, VOLATILITY, SPREAD, VOLUME_RATIO, SPREAD_RATIO, DEPTH = range(8)
"""Rows of the table, as in :class:`hive.messages.portfolio.Book`; ratios and depth NaN where not stated."""
DAYS, COST, SCORE, INDEX = range(4)
"""Places of the answer: slowest days, cost in money, exposure-weighted score, stress index."""
SCORE_WEIGHT, DAYS_WEIGHT, COST_WEIGHT = 0.35, 0.30, 0.20
"""Weights of the parts of the stress index that are known of a book."""


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def assess_book(table: np.ndarray, limits: np.ndarray, answer: np.ndarray) -> int:
    """Positions assessed; -1 where an exposure or volatility is not finite.

    Parameters
    ----------
    table : ndarray of shape (8, n)
    limits : ndarray of shape (6,)
        Participation, impact coefficient, full depth, stressed days, stressed cost, value of the book.
    answer : ndarray of shape (4,)
    """
    n = table.shape[1]
    participation, coefficient, full_depth = limits[0], limits[1], limits[2]
    slowest, cost, score, gross, rated = 0.0, 0.0, 0.0, 0.0, 0.0
    known = 0
    for i in range(n):
        exposure = abs(table[EXPOSURE, i])
        volatility = table[VOLATILITY, i]
        if not (exposure < np.inf) or not (volatility < np.inf):
            return -1
        traded = table[UNIT, i] * table[VOLUME, i]
        if exposure > 0.0 and traded > 0.0:
            known += 1
            share = exposure / traded
            slowest = max(slowest, share / participation)
            half = table[SPREAD, i] * 0.5
            half = half if half >= 0.0 else 0.0
            cost += exposure * (half + coefficient * volatility * np.sqrt(share))
        volume, spread, depth = table[VOLUME_RATIO, i], table[SPREAD_RATIO, i], table[DEPTH, i]
        stated = not (np.isnan(volume) and np.isnan(spread) and np.isnan(depth))
        if stated:
            v = 1.0 if np.isnan(volume) else min(1.0, max(0.0, (0.5 - volume) * 2.0))
            s = 1.0 if np.isnan(spread) else min(1.0, max(0.0, (spread - 2.0) * 0.5))
            d = 1.0 if np.isnan(depth) else min(1.0, max(0.0, 1.0 - depth / full_depth))
            score += exposure * (0.4 * v + 0.4 * s + 0.2 * d)
            rated += exposure
        gross += exposure
    answer[DAYS] = slowest
    answer[COST] = cost
    answer[SCORE] = score / rated if rated > 0.0 else 0.0
    parts, weights = 0.0, 0.0
    if rated > 0.0:
        parts += SCORE_WEIGHT * answer[SCORE]
        weights += SCORE_WEIGHT
    if known > 0:
        parts += DAYS_WEIGHT * min(1.0, slowest / limits[3])
        parts += COST_WEIGHT * min(1.0, cost / limits[5] / limits[4])
        weights += DAYS_WEIGHT + COST_WEIGHT
    answer[INDEX] = parts / weights if weights > 0.0 else 0.0
    return known


def assess_book_plain(table: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Plain twin of :func:`assess_book`: the answer, shape (4,)."""
    from actors.risk.liquidity.conditions import score_of

    participation, coefficient, full_depth, stressed_days, stressed_cost, value = limits
    exposure = np.abs(table[EXPOSURE])
    traded = np.nan_to_num(table[UNIT] * table[VOLUME])
    known = (exposure > 0) & (traded > 0)
    share = exposure[known] / traded[known]
    half = np.nan_to_num(table[SPREAD, known]) / 2
    cost = float((exposure[known] * (half + coefficient * table[VOLATILITY, known] * np.sqrt(share))).sum())
    slowest = float((share / participation).max(initial=0.0))
    stated = ~np.isnan(table[VOLUME_RATIO : DEPTH + 1]).all(axis=0)
    scores = np.array([score_of(v, s, d, full_depth) for v, s, d in table[VOLUME_RATIO : DEPTH + 1, stated].T])
    rated = float(exposure[stated].sum())
    score = float(exposure[stated] @ scores) / rated if rated > 0 else 0.0
    parts = {"score": (0.35, score)} if rated > 0 else {}
    if known.any():
        parts |= {
            "days": (0.30, min(1.0, slowest / stressed_days)),
            "cost": (0.20, min(1.0, cost / value / stressed_cost)),
        }
    total = sum(weight for weight, _ in parts.values())
    index = sum(weight * part for weight, part in parts.values()) / total if total else 0.0
    return np.array([slowest, cost, score, index])


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    assess_book(np.ones((8, 3)), np.ones(6), np.empty(4))
