"""Can the book meet its cash flows, and how stressed is its liquidity as a whole?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.risk.liquidity.settings import LiquiditySettings
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import Conditions, FundingGap, LiquidityReport, StressIndex

TRADING_SHARE = 5 / 7  # trading days in a calendar day
WEIGHTS = {"conditions": 0.35, "days": 0.30, "cost": 0.20, "funding": 0.15}
"""Of the components of the stress index; over those that are known they are scaled to sum to 1."""


def funding_gaps(
    report: LiquidityReport, book: Book, settings: LiquiditySettings
) -> tuple[tuple[FundingGap, ...], int | None]:
    """(gap by tenor in rising order, tenor before the first gap).

    Up to each tenor the stated flows are summed, the book's cash is at hand, and the covered positions are sold evenly
    over the days that each of them takes. Cash is what long positions leave of the value; what short sales brought in
    is not counted, since it secures them. Short positions bring nothing: they cost cash to close, which is set
    against the proceeds.
    """
    cost = next((e for e in report.estimates if e.measure == "liquidity_cost" and e.unit == "fraction"), None)
    rates = (0.0, 0.0, 0.0) if cost is None else (cost.value, cost.lower or 0.0, cost.upper or 0.0)
    gross = sum(abs(p.exposure or 0.0) for p in report.positions if p.participation_days is not None)
    shares = [rate * (book.value or 0.0) / gross if gross > 0 else 0.0 for rate in rates]
    at_hand = max(0.0, 1.0 - float(np.maximum(book.weights, 0.0).sum())) * (book.value or 0.0)
    gaps: list[FundingGap] = []
    survival: int | None = None
    flows = sorted(book.funding, key=lambda flow: flow.tenor_days)
    last_safe = 0
    for tenor in dict.fromkeys(flow.tenor_days for flow in flows):
        net = sum(flow.inflow - flow.outflow for flow in flows if flow.tenor_days <= tenor)
        proceeds = [_proceeds(report, tenor * TRADING_SHARE, share, settings.haircut) for share in shares]
        value, least, most = (max(0.0, -(net + at_hand + cash)) for cash in proceeds)
        gaps.append(
            FundingGap(
                tenor_days=tenor,
                net_flow=net,
                proceeds=proceeds[0],
                gap=Estimate(
                    measure="funding_gap",
                    value=value,
                    unit="money",
                    method_label="funding",
                    convention=f"cash, stated flows and sales up to {tenor} days, haircut {settings.haircut:.0%}",
                    samples=0,
                    lower=min(least, value),
                    upper=max(most, value),
                    interval_method="range of the impact coefficient",
                ),
            )
        )
        if value > 0 and survival is None:
            survival = last_safe
        last_safe = tenor
    return tuple(gaps), survival


def _proceeds(report: LiquidityReport, trading_days: float, cost_share: float, haircut: float) -> float:
    total = 0.0
    for position in report.positions:
        if position.participation_days is None or position.exposure is None:
            continue
        sold = 1.0 if position.participation_days <= 0 else min(1.0, trading_days / position.participation_days)
        price = 1 - haircut if position.exposure > 0 else 1 + haircut
        total += sold * (position.exposure * price - abs(position.exposure) * cost_share)
    return total


def stress_index(
    report: LiquidityReport,
    conditions: Sequence[Conditions],
    funding: Sequence[FundingGap],
    book: Book,
    settings: LiquiditySettings,
) -> StressIndex | None:
    """Weighted mean of what is known, each component 0 to 1 and rising in what makes it worse; None where nothing is.

    conditions: exposure-weighted score; days: slowest position over ``stressed_days``; cost: of selling, over
    ``stressed_cost`` of value; funding: largest gap over the outflows up to it.
    """
    exposures = dict(zip(book.symbols, abs(book.weights).tolist(), strict=True))
    components: dict[str, float] = {}
    rated = sum(exposures[found.symbol] for found in conditions)
    if rated > 0:
        components["conditions"] = sum(exposures[found.symbol] * found.score for found in conditions) / rated
    days = next((e.value for e in report.estimates if e.unit == "days"), None)
    cost = next((e.value for e in report.estimates if e.measure == "liquidity_cost" and e.unit == "fraction"), None)
    if days is not None and cost is not None:
        components["days"] = min(1.0, days / settings.stressed_days)
        components["cost"] = min(1.0, cost / settings.stressed_cost)
    if funding:
        due = [sum(flow.outflow for flow in book.funding if flow.tenor_days <= gap.tenor_days) for gap in funding]
        components["funding"] = max(
            min(1.0, gap.gap.value / outflow) if outflow > 0 else 0.0 for gap, outflow in zip(funding, due, strict=True)
        )
    if not components:
        return None
    value = sum(WEIGHTS[name] * part for name, part in components.items()) / sum(WEIGHTS[name] for name in components)
    state = "STRESSED" if value >= settings.stressed_index else "NORMAL"
    if state == "NORMAL" and value >= settings.elevated_index:
        state = "ELEVATED"
    return StressIndex(value=value, state=state, components=components)
