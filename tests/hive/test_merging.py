"""Merging: the share that answered, and the figures that need more than one agent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hive.hub.merging import alerts, completeness, merge
from hive.messages.alert import Breach, Priority
from hive.messages.calculation import AgentAnswer, AnswerStatus, Role
from hive.messages.estimate import Estimate
from hive.messages.reports import (
    CorrelationReport,
    LiquidityReport,
    Scenario,
    StressReport,
    ValueAtRiskReport,
)
from hive.messages.reports.correlation import RegimeChange
from hive.messages.reports.liquidity import StressIndex


def _estimate(measure, value, method_label, *, lower=None, upper=None, unit="fraction", confidence=None):
    return Estimate(
        measure=measure,
        value=value,
        unit=unit,
        method_label=method_label,
        convention="",
        samples=100,
        lower=lower,
        upper=upper,
        confidence=confidence,
        horizon_days=1,
    )


def _var(value, confidence, *, label="historical", lower=None, upper=None):
    return _estimate("var", value, label, lower=lower, upper=upper, confidence=confidence)


TAIL = ValueAtRiskReport(
    estimates=(
        _var(0.02, 0.95, lower=0.018, upper=0.023),
        _estimate("cvar", 0.03, "historical", confidence=0.95),
        _var(0.04, 0.99, lower=0.035, upper=None),
        _var(0.09, 0.95, label="gaussian"),
    ),
    worst_days=(),
)
LIQUIDITY = LiquidityReport(
    positions=(),
    covered=1.0,
    estimates=(
        _estimate("days_to_liquidate", 3.0, "participation", unit="days"),
        _estimate("liquidity_cost", 5000.0, "square_root_impact", unit="money"),
        _estimate("liquidity_cost", 0.005, "square_root_impact", lower=0.003, upper=0.008),
    ),
    profile=(),
)
UNKNOWN_VOLUMES = LiquidityReport(positions=(), covered=0.0, estimates=(), profile=())


def _scenario(name, loss):
    estimate = None if loss is None else _estimate("loss", loss, "historical_window")
    return Scenario(name=name, kind="historical", loss=estimate, contributions={})


STRESS = StressReport(scenarios=(_scenario("mild", 0.1), _scenario("uncovered", None), _scenario("severe", 0.3)))


def _answers(**reports):
    """One answer per role; a role whose report is None has failed."""
    return {
        Role(role): AgentAnswer(
            role=Role(role),
            agent_id=role,
            status=AnswerStatus.FAILED if report is None else AnswerStatus.OK,
            report=report,
        )
        for role, report in reports.items()
    }


def _measures(merged):
    return [estimate.measure for estimate in merged]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(["ok"], 1.0), (["ok", "late"], 0.5), (["failed", "ok", "late", "ok"], 0.5), (["late", "failed"], 0.0)],
)
def test_completeness_is_the_share_that_answered_in_time(statuses, expected):
    answers = {
        role: AgentAnswer(role=role, agent_id=role.value, status=AnswerStatus(status))
        for role, status in zip(list(Role)[2:], statuses, strict=False)
    }
    assert completeness(answers) == expected


def test_liquidity_adjusted_var_adds_the_cost_to_every_historical_var():
    merged = merge(_answers(value_at_risk=TAIL, liquidity=LIQUIDITY))
    assert _measures(merged) == ["liquidity_adjusted_var"] * 2
    low, high = merged
    assert (low.value, low.lower, low.upper) == pytest.approx((0.025, 0.021, 0.031))
    assert (low.confidence, low.horizon_days, low.method_label) == (0.95, 1, "historical+square_root_impact")
    assert (high.value, high.confidence) == (pytest.approx(0.045), 0.99)


def test_liquidity_adjusted_var_has_no_interval_where_a_part_has_none():
    _, high = merge(_answers(value_at_risk=TAIL, liquidity=LIQUIDITY))
    assert (high.lower, high.upper) == (None, None)
    assert high.interval_method.startswith("none")


def test_bound_of_exactly_zero_still_is_a_bound():
    tail = ValueAtRiskReport(estimates=(_var(0.01, 0.95, lower=0.0, upper=0.02),), worst_days=())
    (merged,) = merge(_answers(value_at_risk=tail, liquidity=LIQUIDITY))
    assert (merged.lower, merged.upper) == pytest.approx((0.003, 0.028))


def test_worst_stress_is_set_against_var_at_the_highest_confidence():
    (merged,) = merge(_answers(value_at_risk=TAIL, stress=STRESS))
    assert (merged.measure, merged.unit, merged.confidence) == ("worst_stress_over_var", "ratio", 0.99)
    assert merged.value == pytest.approx(0.3 / 0.04)
    assert merged.method_label == "historical_window/historical"


def test_overlapping_historical_var_is_a_headline_too():
    tail = ValueAtRiskReport(estimates=(_var(0.05, 0.95, label="historical_overlapping"),), worst_days=())
    (merged,) = merge(_answers(value_at_risk=tail, stress=STRESS))
    assert merged.value == pytest.approx(6.0)


def test_everything_asked_gives_both_figures():
    merged = merge(_answers(value_at_risk=TAIL, stress=STRESS, liquidity=LIQUIDITY))
    assert _measures(merged) == ["liquidity_adjusted_var"] * 2 + ["worst_stress_over_var"]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ({"value_at_risk": TAIL}, []),
        ({"stress": STRESS, "liquidity": LIQUIDITY}, []),
        ({"value_at_risk": None, "stress": STRESS, "liquidity": LIQUIDITY}, []),
        ({"value_at_risk": TAIL, "stress": None, "liquidity": LIQUIDITY}, ["liquidity_adjusted_var"] * 2),
        ({"value_at_risk": TAIL, "stress": STRESS, "liquidity": None}, ["worst_stress_over_var"]),
        ({"value_at_risk": TAIL, "stress": STRESS, "liquidity": UNKNOWN_VOLUMES}, ["worst_stress_over_var"]),
        ({"value_at_risk": TAIL, "stress": StressReport((_scenario("uncovered", None),))}, []),
        ({"value_at_risk": ValueAtRiskReport((), ()), "stress": STRESS, "liquidity": LIQUIDITY}, []),
    ],
    ids=["alone", "no var", "var failed", "no stress", "no liquidity", "no volumes", "no scenario", "no estimates"],
)
def test_figure_with_a_missing_part_is_left_out_and_the_others_stay(reports, expected):
    assert _measures(merge(_answers(**reports))) == expected


def test_stress_of_a_book_without_var_is_not_put_over_it():
    tail = ValueAtRiskReport(estimates=(_var(0.0, 0.95),), worst_days=())
    assert merge(_answers(value_at_risk=tail, stress=STRESS)) == ()


def test_book_of_cash_that_neither_loses_nor_risks_anything_is_not_infinitely_stressed():
    tail = ValueAtRiskReport(estimates=(_var(0.0, 0.95),), worst_days=())
    merged = merge(_answers(value_at_risk=tail, stress=StressReport((_scenario("flat", 0.0),))))
    assert all(math.isfinite(estimate.value) for estimate in merged)


def _regime(*, changed):
    change = _estimate("mean_correlation_change", 0.3, "difference of windows")
    regime = RegimeChange(recent=0.6, previous=0.3, change=change, recent_days=60, previous_days=250, changed=changed)
    one = np.eye(2)
    return CorrelationReport(
        symbols=("A", "B"), shrunk=one, ewma=one, shrinkage=0.1, estimates=(), pairs=(), regime=regime
    )


def test_what_the_agents_found_is_raised_as_alerts_that_can_be_told_apart():
    breach = Breach("var", 0.03, 0.02, Priority.CRITICAL, "VaR 3.00 % is above its limit of 2.00 %")
    stress = StressIndex(value=0.8, state="STRESSED", components={})
    answers = _answers(
        value_at_risk=replace(TAIL, breaches=(breach, replace(breach, limit_name="cvar"))),
        liquidity=replace(LIQUIDITY, stress=stress),
        correlation=_regime(changed=True),
    )
    found = alerts(answers, "desk", 7)
    assert [(alert.kind.value, alert.priority.value) for alert in found] == [
        ("limit_breach", "critical"),
        ("limit_breach", "critical"),
        ("liquidity_stress", "critical"),
        ("correlation_regime_change", "medium"),
    ]
    assert (found[0].value, found[0].limit, found[0].subject, found[0].ts_ns) == (0.03, 0.02, "desk", 7)
    assert len({alert.dedup_key for alert in found}) == 4
    assert [a.dedup_key for a in alerts(answers, "desk", 8)] == [a.dedup_key for a in found]


def test_calm_agents_and_those_that_failed_raise_nothing():
    calm = replace(LIQUIDITY, stress=StressIndex(value=0.4, state="ELEVATED", components={}))
    assert alerts(_answers(value_at_risk=TAIL, liquidity=calm, correlation=_regime(changed=False)), "desk", 7) == ()
    assert alerts(_answers(value_at_risk=None, liquidity=None, correlation=None), "desk", 7) == ()
