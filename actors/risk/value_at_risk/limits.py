"""Limits of a book: what is left of each, and what is beyond it (requirements E5 and risk 10.2).

A breach is the more urgent the further it goes: HIGH from 1.25 times the limit, CRITICAL from 1.5 times, else MEDIUM.
"""

from __future__ import annotations

import numpy as np

from actors.risk.measures import tail
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.messages.alert import Breach, Priority
from hive.messages.mandate import Limits
from hive.messages.portfolio import Book
from hive.messages.reports import LimitUse

LIMIT_CONFIDENCE = 0.95  # of the tail limits, over one day, whatever the calculation asks
WATCHED_POSITIONS = 4  # below which concentration says nothing: two positions are never less than half each
HIGH, CRITICAL = 1.25, 1.5  # multiples of the limit


def check_limits(
    book: Book, daily: np.ndarray, settings: ValueAtRiskSettings
) -> tuple[tuple[LimitUse, ...], tuple[Breach, ...]]:
    """Every limit against the book, ``daily`` its returns of shape (n,); the book's own limits go before the settings'.

    Tail limits hold for one-day 95 % historical VaR and CVaR. Leverage is gross exposure over value, concentration the
    largest position over gross exposure, drawdown the fall from ``book.peak_value``.
    """
    var, cvar = tail(-daily, LIMIT_CONFIDENCE)
    sizes = np.abs(book.weights)
    gross = float(sizes.sum())
    held = int((sizes > 0).sum())
    values: dict[str, tuple[float | None, str]] = {
        "var": (var, "one-day 95 % historical"),
        "cvar": (cvar, "one-day 95 % historical"),
        "drawdown": _drawdown(book),
        "leverage": (gross, "gross exposure over value"),
        "concentration": (
            (float(sizes.max()) / gross, "largest position over gross exposure")
            if held >= WATCHED_POSITIONS
            else (None, f"watched from {WATCHED_POSITIONS} positions on, and {held} are held")
        ),
    }
    uses, breaches = [], []
    for name, (value, note) in values.items():
        limit = limit_of(name, book.limits, settings)
        uses.append(LimitUse(name, limit, value, None if value is None else limit - value, note))
        if value is not None and value > limit:
            breaches.append(_breach(book, name, value, limit))
    return tuple(uses), tuple(breaches)


def limit_of(name: str, own: Limits | None, settings: ValueAtRiskSettings) -> float:
    """A limit of a book: its own where it states one, else that of the settings."""
    usual = {
        "var": settings.var_limit,
        "cvar": settings.cvar_limit,
        "drawdown": settings.drawdown_limit,
        "leverage": settings.leverage_limit,
        "concentration": settings.concentration_limit,
    }
    stated = getattr(own, name) if own is not None else None
    return float(usual[name] if stated is None else stated)


def priority_of(value: float, limit: float) -> Priority:
    """Priority of a value beyond its limit."""
    if value >= CRITICAL * limit:
        return Priority.CRITICAL
    return Priority.HIGH if value >= HIGH * limit else Priority.MEDIUM


def _breach(book: Book, name: str, value: float, limit: float) -> Breach:
    form = "{:.2f}" if name == "leverage" else "{:.2%}"
    message = f"{name} of {book.name} is {form.format(value)}, beyond its limit of {form.format(limit)}"
    return Breach(name, value, limit, priority_of(value, limit), message)


def _drawdown(book: Book) -> tuple[float | None, str]:
    if book.peak_value is None or book.value is None:
        return None, "no peak value is stated" if book.peak_value is None else "no value is stated"
    return max(0.0, 1 - book.value / book.peak_value), "fall from the peak value"
