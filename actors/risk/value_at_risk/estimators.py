"""What the value-at-risk agent answers: tail measures by the methods asked, who carries them, and the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from actors.risk.exposures import daily_returns, moved_columns
from actors.risk.measures import horizon_returns, thin_tail_warning
from actors.risk.value_at_risk import amplitude, empirical, filtered, monte_carlo, parametric, peaks
from actors.risk.value_at_risk.contributions import decompose
from actors.risk.value_at_risk.limits import check_limits
from actors.risk.value_at_risk.outcome import Outcome
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role, methods_for
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import DayLoss, ValueAtRiskReport

LOSS_BINS = 80  # of the histogram of daily losses
Method = Callable[[np.ndarray, Parameters, ValueAtRiskSettings], Outcome]
BY_DAYS: dict[str, Method] = {
    "historical": empirical.plain,
    "age_weighted": empirical.age_weighted,
    "filtered_historical": filtered.filtered_historical,
    "gaussian": parametric.gaussian,
    "cornish_fisher": parametric.cornish_fisher,
    "student_t": parametric.student_t,
    "gpd": peaks.gpd,
}
"""Methods that need nothing but the book's daily returns."""
OVERLAPPING = {"historical", "age_weighted", "gpd"}
"""Methods that look at overlapping windows over more than one day."""


@dataclass(frozen=True)
class Windows:
    """Resident state: the window of returns the estimates rest on."""

    columns: dict[str, int]
    dates: np.ndarray
    returns: np.ndarray


def rebuild(snapshot: MarketSnapshot, settings: ValueAtRiskSettings) -> Windows:
    """Cut the window; the arrays stay views of the snapshot."""
    start = -settings.window_days if settings.window_days else None
    return Windows(
        columns={symbol: column for column, symbol in enumerate(snapshot.symbols)},
        dates=snapshot.dates[start:],
        returns=snapshot.returns[start:],
    )


def estimate(
    state: Windows, book: Book, parameters: Parameters, settings: ValueAtRiskSettings
) -> tuple[ValueAtRiskReport, tuple[str, ...], tuple[str, ...]]:
    """(report, warnings, fallbacks) of one book.

    Every method asked answers, or says in a warning why it cannot on this data; the others answer all the same.

    Raises
    ------
    InvalidMarketData
        The book's returns are not finite, or no method has a figure to give.
    """
    daily = daily_returns(book, state.columns, state.returns)
    horizon = parameters.horizon_days
    observations = len(horizon_returns(daily, horizon))
    methods = methods_for(Role.VALUE_AT_RISK, parameters.methods, settings.methods)
    warnings = [thin_tail_warning(observations, confidence, horizon) for confidence in parameters.confidences]
    if horizon > 1 and OVERLAPPING & set(methods):
        warnings.append(f"the {horizon}-day windows overlap: intervals count one in {horizon} of them as independent")
    estimates: list[Estimate] = []
    fallbacks: list[str] = []
    for method in methods:
        try:
            with np.errstate(divide="raise", over="raise", invalid="raise"):
                if method in monte_carlo.METHODS:
                    moves = state.returns[:, moved_columns(book, state.columns)]
                    outcome = monte_carlo.estimate(book, moves, method, parameters, settings)
                elif method == "mlae_sim":
                    outcome = amplitude.estimate(daily, parameters, settings)
                else:
                    outcome = BY_DAYS[method](daily, parameters, settings)
        except (InvalidMarketData, InvalidRequest) as error:
            warnings.append(f"{method}: {error}")
            continue
        except (ArithmeticError, ValueError) as error:  # LinAlgError too: numbers so large or small that a method fails
            warnings.append(f"{method}: cannot be computed on these numbers ({error})")
            continue
        estimates += outcome.estimates
        warnings += outcome.warnings
        fallbacks += outcome.fallbacks
    if not estimates:
        raise InvalidMarketData(
            "no method has a figure to give: " + "; ".join(warning for warning in warnings if warning),
            "Give more history, or name other methods",
        )
    uses, breaches = check_limits(book, daily, settings)
    worst = np.argsort(daily)[: settings.worst_days]
    counts, edges = np.histogram(-daily, bins=LOSS_BINS)
    report = ValueAtRiskReport(
        estimates=tuple(estimates),
        worst_days=tuple(DayLoss(str(state.dates[day]), float(-daily[day])) for day in worst),
        symbols=book.symbols,
        decompositions=decompose(book, state.columns, state.returns, parameters.confidences, methods, settings),
        limits=uses,
        breaches=breaches,
        loss_edges=edges,
        loss_counts=counts,
    )
    return report, tuple(warning for warning in warnings if warning is not None), tuple(fallbacks)
