"""Is the market as liquid as usual? A score of volume, spread and depth, and what to do about it (risk 5.6, corrected).

Ramps are continuous from where each factor begins to matter. What is not stated counts as worst, not as usual; a
position of which nothing at all is stated is not assessed.
"""

from __future__ import annotations

import math

import numpy as np

from hive.messages.portfolio import Book
from hive.messages.reports import Conditions

THIN_VOLUME = 0.5  # share of the usual volume below which it matters
DRY_VOLUME = 0.2  # share below which only limit orders are left
WIDE_SPREAD, WIDEST_SPREAD = 2.0, 4.0  # multiples of the usual spread between which it comes to matter in full
VOLUME_WEIGHT, SPREAD_WEIGHT, DEPTH_WEIGHT = 0.4, 0.4, 0.2
ADVICE = ((0.3, "NORMAL_TRADING"), (0.6, "REDUCE_SIZE"), (0.8, "LIMIT_ORDERS_ONLY"), (math.inf, "AVOID_TRADING"))


def assess_conditions(book: Book, full_depth: float) -> tuple[Conditions, ...]:
    """Conditions of every position of which at least one figure is stated."""
    volume_ratios = _ratio(book.recent_volumes, book.volumes)
    spread_ratios = _ratio(book.spreads, book.usual_spreads)
    found = []
    for place, symbol in enumerate(book.symbols):
        volume, spread, depth = (float(a[place]) for a in (volume_ratios, spread_ratios, book.depths))
        if math.isnan(volume) and math.isnan(spread) and math.isnan(depth):
            continue
        found.append(_conditions(symbol, volume, spread, depth, full_depth))
    return tuple(found)


def score_of(volume_ratio: float, spread_ratio: float, depth: float, full_depth: float) -> float:
    """Score from 0 (usual) to 1 (worst); NaN counts as worst."""
    volume = 1.0 if math.isnan(volume_ratio) else min(1.0, max(0.0, (THIN_VOLUME - volume_ratio) / THIN_VOLUME))
    spread = (
        1.0
        if math.isnan(spread_ratio)
        else min(1.0, max(0.0, (spread_ratio - WIDE_SPREAD) / (WIDEST_SPREAD - WIDE_SPREAD)))
    )
    thin = 1.0 if math.isnan(depth) else min(1.0, max(0.0, 1.0 - depth / full_depth))
    return VOLUME_WEIGHT * volume + SPREAD_WEIGHT * spread + DEPTH_WEIGHT * thin


def advice_of(score: float, volume_ratio: float, depth: float) -> str:
    """Advice by score, and its vetoes: no depth, no trading; a dried-up market, limit orders at most."""
    if depth == 0:
        return "AVOID_TRADING"
    advice = next(words for bound, words in ADVICE if score < bound)
    mild = advice in ("NORMAL_TRADING", "REDUCE_SIZE")
    return "LIMIT_ORDERS_ONLY" if mild and volume_ratio < DRY_VOLUME else advice


def _conditions(symbol: str, volume: float, spread: float, depth: float, full_depth: float) -> Conditions:
    score = score_of(volume, spread, depth, full_depth)
    factors = []
    if math.isnan(volume):
        factors.append("volume is not stated")
    elif volume < THIN_VOLUME:
        factors.append(f"volume at {volume:.0%} of its usual level")
    if math.isnan(spread):
        factors.append("spread or its usual level is not stated")
    elif spread > WIDE_SPREAD:
        factors.append(f"spread {spread:.1f} times its usual one")
    if math.isnan(depth):
        factors.append("depth is not stated")
    elif depth < full_depth:
        factors.append(f"depth of {depth:,.0f}")
    return Conditions(
        symbol=symbol,
        score=score,
        advice=advice_of(score, volume, depth),
        volume_ratio=None if math.isnan(volume) else volume,
        spread_ratio=None if math.isnan(spread) else spread,
        depth=None if math.isnan(depth) else depth,
        factors=tuple(factors),
    )


def _ratio(now: np.ndarray, usual: np.ndarray) -> np.ndarray:
    known = np.isfinite(now) & np.isfinite(usual) & (usual > 0)
    return np.where(known, now / np.where(known, usual, 1.0), np.nan)
