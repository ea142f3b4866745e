"""VaR and CVaR of a book, historical and Gaussian, by the measures of ``actors.risk.measures``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.risk.measures import book_returns, gaussian, historical, horizon_returns, thin_tail_warning
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters
from hive.messages.portfolio import Book
from hive.messages.reports import DayLoss, ValueAtRiskReport


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
) -> tuple[ValueAtRiskReport, tuple[str, ...]]:
    """VaR and CVaR by both methods at every confidence asked, and warnings where the tail is thin."""
    columns = np.array([state.columns[symbol] for symbol in book.symbols])
    daily = book_returns(state.returns, columns, book.weights)
    horizon = parameters.horizon_days
    estimates = tuple(
        found
        for method in (historical, gaussian)
        for confidence in parameters.confidences
        for found in method(daily, confidence, horizon)
    )
    observations = len(horizon_returns(daily, horizon))
    warnings = [thin_tail_warning(observations, confidence, horizon) for confidence in parameters.confidences]
    if horizon > 1:
        warnings.append(f"the {horizon}-day windows overlap: intervals count one in {horizon} of them as independent")
    worst = np.argsort(daily)[: settings.worst_days]
    report = ValueAtRiskReport(
        estimates=estimates,
        worst_days=tuple(DayLoss(str(state.dates[day]), float(-daily[day])) for day in worst),
    )
    return report, tuple(warning for warning in warnings if warning is not None)
