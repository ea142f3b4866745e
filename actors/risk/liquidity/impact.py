"""What it takes to sell a book: days at a share of daily volume, half the spread, and square-root impact.

Cost of selling Q units of a market that trades V a day: spread / 2 + Y s sqrt(Q / V), a fraction of the exposure, with
s the daily volatility (Barra 1997; Toth et al. 2011). Volumes are what the portfolio or the market data state;
positions without one are listed as unknown and nothing is assumed for them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from actors.risk.liquidity.conditions import assess_conditions
from actors.risk.liquidity.funding import funding_gaps, stress_index
from actors.risk.liquidity.liquidation import book_schedules
from actors.risk.liquidity.settings import LiquiditySettings
from actors.risk.liquidity.state import Volatilities
from cluster.errors import InvalidMarketData
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role, methods_for
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import FundingGap, LiquidityReport, PositionLiquidity

LISTED = 5  # symbols named in a warning


def rebuild(snapshot: MarketSnapshot, settings: LiquiditySettings) -> Volatilities:
    """Estimate the daily volatility of every symbol over the newest days.

    Raises
    ------
    InvalidMarketData
        Fewer than two days.
    """
    recent = snapshot.returns[-settings.volatility_days :]
    if len(recent) < 2:
        raise InvalidMarketData("one day has no volatility", "Give more history")
    daily = dict(zip(snapshot.symbols, recent.std(axis=0, ddof=1).tolist(), strict=True))
    return Volatilities(
        daily=daily,
        observations=len(recent),
        columns={symbol: column for column, symbol in enumerate(snapshot.symbols)},
        recent=recent,
        weekdays=_weekdays(snapshot, settings.volatility_days),
        as_of=np.datetime64(snapshot.as_of, "D"),
    )


def _weekdays(snapshot: MarketSnapshot, days: int) -> np.ndarray | None:
    if snapshot.volumes is None:
        return None
    totals = np.nansum(snapshot.volumes[-days:], axis=1)
    places = (snapshot.dates[-days:].astype("datetime64[D]").astype(int) + 3) % 7  # 1970-01-01 was a Thursday
    means = np.array([totals[places == day].mean() if (places == day).any() else 0.0 for day in range(5)])
    return means if (means > 0).all() else None


def answer(
    state: Volatilities, book: Book, parameters: Parameters, settings: LiquiditySettings
) -> tuple[LiquidityReport, tuple[str, ...]]:
    """Everything the room knows of selling this book, by the methods asked for."""
    methods = methods_for(Role.LIQUIDITY, parameters.methods, settings.methods)
    report, warnings = assess(state, book, settings)
    conditions = assess_conditions(book, settings.full_depth) if "conditions" in methods else ()
    schedules, tails, extra = (
        book_schedules(state, book, parameters, settings) if "schedule" in methods else ((), (), ())
    )
    funding: tuple[FundingGap, ...] = ()
    survival = None
    if "funding" in methods and book.funding:
        funding, survival = funding_gaps(report, book, settings)
    elif "funding" in parameters.methods:
        extra = (*extra, "funding: the portfolio states no flows; give `funding`")
    report = replace(
        report,
        estimates=(*report.estimates, *tails),
        schedules=schedules,
        conditions=conditions,
        funding=funding,
        survival_days=survival,
        stress=stress_index(report, conditions, funding, book, settings),
    )
    return report, (*warnings, *extra)


def assess(state: Volatilities, book: Book, settings: LiquiditySettings) -> tuple[LiquidityReport, tuple[str, ...]]:
    """Days and cost of selling the book whole, over the positions whose price and volume are known."""
    if book.value is None:
        positions = tuple(_unknown(symbol, None, "the portfolio states no value") for symbol in book.symbols)
        report = LiquidityReport(positions=positions, covered=0.0, estimates=(), profile=())
        return report, ("the portfolio states no value, so its positions have no size: give `value`",)
    exposures = book.weights * book.value
    held = np.abs(exposures) > 0
    known = held & np.isfinite(book.unit_exposures) & (np.nan_to_num(book.volumes) > 0)
    gross = float(np.abs(exposures).sum())
    covered = float(np.abs(exposures[known]).sum()) / gross if gross > 0 else 1.0

    share_of_day = np.full(len(exposures), np.nan)  # Q / V: the position in days of the market's whole volume
    share_of_day[known] = np.abs(exposures[known]) / book.unit_exposures[known] / book.volumes[known]
    days = share_of_day / settings.participation
    volatility = np.array([state.daily[symbol] for symbol in book.symbols])
    half_spread = np.where(np.isfinite(book.spreads), book.spreads / 2, 0.0)
    impact = volatility * np.sqrt(share_of_day)

    def cost(coefficient: float) -> np.ndarray:
        return np.asarray(np.abs(exposures) * (half_spread + coefficient * impact))

    costs = cost(settings.impact_coefficient)
    coefficients = (settings.impact_coefficient, settings.impact_coefficient_low, settings.impact_coefficient_high)
    report = LiquidityReport(
        positions=tuple(
            PositionLiquidity(symbol, float(exposure), float(span), float(price))
            if ok or not exposure
            else _unknown(symbol, float(exposure), "no volume or price is known")
            for symbol, exposure, span, price, ok in zip(
                book.symbols,
                exposures,
                np.where(held, days, 0.0),
                np.where(held, costs, 0.0),
                known,
                strict=True,
            )
        ),
        covered=covered,
        estimates=_estimates(
            float(days[known].max()),
            *(float(cost(y)[known].sum()) for y in coefficients),
            value=book.value,
            samples=state.observations,
            settings=settings,
        )
        if known.any()
        else (),
        profile=_profile(np.abs(exposures[known]), days[known], settings) if known.any() else (),
    )
    return report, _warnings(book, held, known)


def _estimates(
    slowest_days: float,
    total: float,
    low: float,
    high: float,
    *,
    value: float,
    samples: int,
    settings: LiquiditySettings,
) -> tuple[Estimate, ...]:
    span = f"impact coefficient {settings.impact_coefficient_low:g} to {settings.impact_coefficient_high:g}"

    def cost(unit: str, scale: float) -> Estimate:
        return Estimate(
            measure="liquidity_cost",
            value=total / scale,
            unit=unit,
            method_label="square_root_impact",
            convention="half spread and square-root impact, positions sold apart",
            samples=samples,
            lower=low / scale,
            upper=high / scale,
            interval_method=span,
        )

    slowest = Estimate(
        measure="days_to_liquidate",
        value=slowest_days,
        unit="days",
        method_label="participation",
        convention=f"slowest position at {settings.participation:.0%} of average daily volume",
        samples=0,
        interval_method="none: volumes are stated, not estimated",
    )
    return slowest, cost("money", 1.0), cost("fraction", value)


def _profile(exposures: np.ndarray, days: np.ndarray, settings: LiquiditySettings) -> tuple[tuple[int, float], ...]:
    """Share of the covered exposure sold after so many days, every position sold evenly over its days."""
    return tuple(
        (span, float((exposures * np.minimum(1.0, span / np.maximum(days, 1e-12))).sum() / exposures.sum()))
        for span in settings.profile_days
    )


def _warnings(book: Book, held: np.ndarray, known: np.ndarray) -> tuple[str, ...]:
    warnings = []
    unknown = [symbol for symbol, gap in zip(book.symbols, held & ~known, strict=True) if gap]
    if unknown:
        warnings.append(
            f"no volume or price is known for {_listed(unknown)}: state average_daily_volume in the portfolio "
            "or load market data with volumes"
        )
    large = [
        symbol
        for symbol, ok, exposure, unit, volume in zip(
            book.symbols, known, book.weights * (book.value or 0.0), book.unit_exposures, book.volumes, strict=True
        )
        if ok and abs(exposure) > unit * volume
    ]
    if large:
        warnings.append(f"{_listed(large)}: the position is larger than a whole day's volume; its cost is a guess")
    unspread = [s for s, gap in zip(book.symbols, known & ~np.isfinite(book.spreads), strict=True) if gap]
    if unspread:
        warnings.append(f"no spread is stated for {_listed(unspread)}: its cost is impact alone")
    return tuple(warnings)


def _listed(symbols: list[str]) -> str:
    more = len(symbols) - LISTED
    return ", ".join(symbols[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _unknown(symbol: str, exposure: float | None, note: str) -> PositionLiquidity:
    return PositionLiquidity(symbol=symbol, exposure=exposure, participation_days=None, cost=None, note=note)
