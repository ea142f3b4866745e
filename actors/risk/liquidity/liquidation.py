"""Selling a whole book: schedules over its covered positions, what they cost and risk, and VaR that counts both.

Each position has Almgren and Chriss's linear impact, set so that selling at the allowed participation concedes what the
square-root law says there; its permanent part is that of Almgren, Thum, Hauptmann & Li (2005). The risk of what is
still held takes the window's covariance, so that hedges stay hedges while both legs are sold.
"""

from __future__ import annotations

import math

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.exposures import moved_columns, position_returns
from actors.risk.liquidity.schedules import Market, almgren_chriss, twap, vwap
from actors.risk.liquidity.settings import LiquiditySettings
from actors.risk.liquidity.state import Volatilities
from actors.risk.measures import NORMAL, Z_INTERVAL
from cluster.errors import InvalidRequest
from hive.messages.calculation import Parameters
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import Schedule

LONGEST_DAYS = 250
Answer = tuple[tuple[Schedule, ...], tuple[Estimate, ...], tuple[str, ...]]


def book_schedules(state: Volatilities, book: Book, parameters: Parameters, settings: LiquiditySettings) -> Answer:
    """(schedules, liquidity-adjusted VaR by confidence, warnings); nothing where no position's volume is known."""
    if book.value is None:
        return (), (), ()
    exposures = book.weights * book.value
    traded = np.nan_to_num(book.unit_exposures * book.volumes)
    known = np.flatnonzero((np.abs(exposures) > 0) & (traded > 0))
    if len(known) == 0:
        return (), (), ()
    returns = position_returns(book, state.recent[:, moved_columns(book, state.columns)])
    covariance, _ = ledoit_wolf(returns)
    covariance = covariance[np.ix_(known, known)]
    sizes, daily = np.abs(exposures[known]), traded[known]
    slowest = float((sizes / daily).max()) / settings.participation
    if slowest > LONGEST_DAYS:  # a part of the sale would be priced as if it were the whole
        why = f"schedule: selling takes {slowest:.0f} days, more than the {LONGEST_DAYS} looked at: none is given"
        return (), (), (why,)
    days = max(settings.schedule_days, math.ceil(slowest))
    warnings: tuple[str, ...] = ()
    half = np.nan_to_num(book.spreads[known]) / 2
    deviations = np.sqrt(np.diag(covariance))
    signs, samples = np.sign(exposures[known]), len(returns)

    def markets(coefficient: float) -> list[Market]:
        concession = coefficient * deviations * math.sqrt(settings.participation)
        return [
            Market(
                float(s),
                float(h),
                float(settings.permanent_coefficient * s / v),
                float(c / (settings.participation * v)),
            )
            for s, h, c, v in zip(deviations, half, concession, daily, strict=True)
        ]

    def priced(name: str, label: str, held: np.ndarray) -> Schedule:
        costs = [
            sum(_expected(held[:, i], market) for i, market in enumerate(markets(y))) / (book.value or 1.0)
            for y in (settings.impact_coefficient, settings.impact_coefficient_low, settings.impact_coefficient_high)
        ]
        risk = math.sqrt(_variance(held * signs, covariance)) / (book.value or 1.0)
        spread = Z_INTERVAL / math.sqrt(2 * samples)
        return Schedule(
            name=name,
            method_label=label,
            remaining=held.sum(axis=1) / sizes.sum(),
            cost=_estimate(
                "schedule_cost",
                costs[0],
                label,
                samples,
                sorted(costs[1:]),
                f"impact coefficient {settings.impact_coefficient_low:g} to {settings.impact_coefficient_high:g}",
            ),
            deviation=_estimate(
                "schedule_deviation",
                risk,
                label,
                samples,
                [risk * (1 - spread), risk * (1 + spread)],
                "asymptotic normal, independent days",
            ),
        )

    def columns(trajectory: object) -> np.ndarray:
        return np.column_stack([trajectory(i) for i in range(len(known))])  # type: ignore[operator]

    base = markets(settings.impact_coefficient)
    at_limit = columns(lambda i: np.maximum(0.0, sizes[i] - settings.participation * daily[i] * np.arange(days + 1)))
    found = [
        priced(f"evenly over {days} days", "twap", columns(lambda i: twap(float(sizes[i]), days))),
        priced(f"at {settings.participation:.0%} of volume", "participation", at_limit),
    ]
    if state.weekdays is not None:
        profile = state.weekdays[_following_weekdays(state.as_of, days)]
        found.append(priced("by the volume of the weekdays", "vwap", columns(lambda i: vwap(float(sizes[i]), profile))))
    aversion = settings.schedule_risk_aversion
    try:
        optimal = columns(lambda i: almgren_chriss(float(sizes[i]), base[i], float(days), days, aversion))
        found.append(priced("least cost and risk", "almgren_chriss", optimal))
    except InvalidRequest as error:
        warnings = (f"almgren_chriss: {error}",)
    tails = _adjusted(at_limit * signs, covariance, found[1], parameters, float(book.value), samples)
    return tuple(found), tails, warnings


def _expected(held: np.ndarray, market: Market) -> float:
    """Expected cost of one position's schedule in daily trades, money."""
    sold = -np.diff(held)
    left = held[0] - sold.sum()
    permanent = 0.5 * market.permanent * (held[0] ** 2 - left**2)
    eta = max(0.0, market.temporary - market.permanent / 2)
    return float(permanent + market.spread_cost * np.abs(sold).sum() + eta * sold @ sold)


def _variance(held: np.ndarray, covariance: np.ndarray) -> float:
    """Variance of what is held through each following day, money squared."""
    return float(np.einsum("ki,ij,kj->", held[1:], covariance, held[1:]))


def _adjusted(
    held: np.ndarray, covariance: np.ndarray, schedule: Schedule, parameters: Parameters, value: float, samples: int
) -> tuple[Estimate, ...]:
    """VaR of selling from the next day on: the first day whole, what is left day by day, and the expected cost."""
    first = float(held[0] @ covariance @ held[0])
    deviation = math.sqrt(first * parameters.horizon_days + _variance(held, covariance)) / value
    spread = Z_INTERVAL / math.sqrt(2 * samples)
    low, high = schedule.cost.lower or 0.0, schedule.cost.upper or 0.0
    return tuple(
        Estimate(
            measure="liquidation_var",
            value=NORMAL.inv_cdf(confidence) * deviation + schedule.cost.value,
            unit="fraction",
            method_label="gaussian_liquidation",
            convention=f"horizon, then sale {schedule.name}; normal risk of what is held, plus the expected cost",
            samples=samples,
            lower=NORMAL.inv_cdf(confidence) * deviation * (1 - spread) + low,
            upper=NORMAL.inv_cdf(confidence) * deviation * (1 + spread) + high,
            interval_method="delta method of the deviation, and the range of the impact coefficient",
            confidence=confidence,
            horizon_days=parameters.horizon_days,
        )
        for confidence in parameters.confidences
    )


def _estimate(measure: str, value: float, label: str, samples: int, bounds: list[float], how: str) -> Estimate:
    return Estimate(
        measure=measure,
        value=value,
        unit="fraction",
        method_label=label,
        convention="covered positions, linear impact set at the allowed participation",
        samples=samples,
        lower=min(bounds[0], value),
        upper=max(bounds[1], value),
        interval_method=how,
    )


def _following_weekdays(as_of: np.datetime64, days: int) -> np.ndarray:
    """Weekdays (0 for Monday) of the next trading days, holidays apart."""
    following = np.busday_offset(as_of, np.arange(1, days + 1), roll="backward")
    return np.asarray((following.astype("datetime64[D]").astype(int) + 3) % 7)
