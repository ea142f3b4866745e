"""Limits of a book: which is breached, how urgently, what is left, and which is not watched."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.measures import tail
from actors.risk.value_at_risk.limits import check_limits, priority_of
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.messages.alert import Priority
from hive.messages.mandate import Limits

SETTINGS = ValueAtRiskSettings()
CALM = np.random.default_rng(0).normal(0, 0.005, 500)


def _checked(held, daily=CALM, settings=SETTINGS):
    uses, breaches = check_limits(held, daily, settings)
    return {use.limit_name: use for use in uses}, {breach.limit_name: breach for breach in breaches}


def test_calm_book_uses_its_limits_and_breaches_none(book):
    uses, breaches = _checked(book(dict.fromkeys("ABCD", 0.25), value=90.0, peak_value=100.0))
    assert breaches == {}
    var, cvar = tail(-CALM, 0.95)
    values = {"var": var, "cvar": cvar, "drawdown": 0.1, "leverage": 1.0, "concentration": 0.25}
    assert {name: use.value for name, use in uses.items()} == pytest.approx(values)
    assert {name: use.headroom for name, use in uses.items()} == pytest.approx(
        {"var": 0.02 - var, "cvar": 0.03 - cvar, "drawdown": 0.1, "leverage": 1.0, "concentration": 0.05}
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (1.0001, Priority.MEDIUM),
        (1.2499, Priority.MEDIUM),
        (1.25, Priority.HIGH),
        (1.4999, Priority.HIGH),
        (1.5, Priority.CRITICAL),
        (10.0, Priority.CRITICAL),
    ],
)
def test_breach_is_the_more_urgent_the_further_it_goes(times, expected):
    assert priority_of(times * 0.02, 0.02) is expected


def test_value_at_its_limit_is_no_breach(book):
    held = book(dict.fromkeys("ABCD", 0.5), limits=Limits(leverage=2.0))
    assert "leverage" not in _checked(held)[1]
    _, breaches = _checked(book(dict.fromkeys("ABCD", 0.625)))
    assert (breaches["leverage"].value, breaches["leverage"].limit) == (2.5, 2.0)
    assert breaches["leverage"].priority is Priority.HIGH
    assert "2.50" in breaches["leverage"].message


def test_own_limits_of_a_book_go_before_the_settings(book):
    held = book(dict.fromkeys("ABCD", 0.25), limits=Limits(var=0.001, drawdown=0.5))
    uses, breaches = _checked(held)
    assert (uses["var"].limit, uses["drawdown"].limit, uses["cvar"].limit) == (0.001, 0.5, 0.03)
    assert breaches["var"].priority is Priority.CRITICAL
    assert uses["var"].headroom < 0
    uses, _ = _checked(held, settings=ValueAtRiskSettings(cvar_limit=0.07))
    assert uses["cvar"].limit == 0.07


def test_short_positions_count_in_leverage_and_concentration(book):
    _, breaches = _checked(book({"A": 1.5, "B": -1.0, "C": 0.3, "D": 0.2}))
    assert breaches["leverage"].value == pytest.approx(3.0)
    assert breaches["concentration"].value == pytest.approx(0.5)


@pytest.mark.parametrize("weights", [{"A": 1.0}, {"A": 0.9, "B": 0.1}, {"A": 0.9, "B": 0.1, "C": 0.0, "D": 0.0}])
def test_concentration_is_watched_from_four_held_positions_on(book, weights):
    uses, breaches = _checked(book(weights))
    assert uses["concentration"].value is None
    assert "from 4 positions" in uses["concentration"].note
    assert "concentration" not in breaches


def test_drawdown_is_not_watched_without_a_peak_or_a_value(book):
    for held in (book({"A": 1.0}, value=90.0), book({"A": 1.0}, peak_value=100.0)):
        uses, breaches = _checked(held)
        assert (uses["drawdown"].value, uses["drawdown"].headroom) == (None, None)
        assert uses["drawdown"].note.startswith("no ")
        assert "drawdown" not in breaches


def test_deep_drawdown_and_wild_days_are_breaches(book):
    held = book(dict.fromkeys("ABCD", 0.25), value=60.0, peak_value=100.0)
    _, breaches = _checked(held, daily=5 * CALM)
    assert breaches["drawdown"].priority is Priority.CRITICAL
    assert {"var", "cvar", "drawdown"} <= set(breaches)


def test_empty_book_uses_nothing(book):
    uses, breaches = _checked(book({"A": 0.0}), daily=np.zeros(50))
    assert breaches == {}
    assert uses["leverage"].value == 0
