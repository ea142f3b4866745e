"""Puts the agents' answers together: completeness, and the figures that need more than one agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from hive.messages.alert import Alert, AlertKind, Priority
from hive.messages.calculation import AgentAnswer, AnswerStatus, Role
from hive.messages.estimate import Estimate
from hive.messages.reports import CorrelationReport, LiquidityReport, StressReport, ValueAtRiskReport

R = TypeVar("R")


def completeness(answers: Mapping[Role, AgentAnswer]) -> float:
    """Share of the agents asked that answered in time."""
    return sum(answer.status is AnswerStatus.OK for answer in answers.values()) / len(answers)


def merge(answers: Mapping[Role, AgentAnswer]) -> tuple[Estimate, ...]:
    """Figures across agents, as far as their parts are there: liquidity-adjusted VaR and the worst stress over VaR."""
    tail = _report(answers, Role.VALUE_AT_RISK, ValueAtRiskReport)
    stress = _report(answers, Role.STRESS, StressReport)
    liquidity = _report(answers, Role.LIQUIDITY, LiquidityReport)
    merged: list[Estimate] = []
    if tail is None:
        return ()
    headline = [e for e in tail.estimates if e.measure == "var" and e.method_label.startswith("historical")]
    if liquidity is not None:
        cost = next((e for e in liquidity.estimates if e.measure == "liquidity_cost" and e.unit == "fraction"), None)
        if cost is not None:
            merged += [_liquidity_adjusted(var, cost, liquidity.covered) for var in headline]
    if stress is not None and stress.worst is not None and stress.worst.loss is not None and headline:
        largest = max(headline, key=lambda e: e.confidence or 0.0)
        if largest.value > 0:
            merged.append(_stress_over_var(stress.worst.loss, largest))
    return tuple(merged)


def alerts(answers: Mapping[Role, AgentAnswer], subject: str, ts_ns: int) -> tuple[Alert, ...]:
    """What the agents found that somebody must look at (requirements B11): breaches, stress, a changed regime."""
    found: list[Alert] = []

    def raise_(
        kind: AlertKind,
        priority: Priority,
        source: Role,
        what: str,
        message: str,
        *,
        value: float | None = None,
        limit: float | None = None,
    ) -> None:
        key = f"{kind}:{subject}:{what}"
        found.append(Alert(kind, priority, source.value, subject, message, key, ts_ns, value, limit))

    tail = _report(answers, Role.VALUE_AT_RISK, ValueAtRiskReport)
    for breach in tail.breaches if tail is not None else ():
        raise_(
            AlertKind.LIMIT_BREACH,
            Priority.CRITICAL,
            Role.VALUE_AT_RISK,
            breach.limit_name,
            breach.message,
            value=breach.value,
            limit=breach.limit,
        )
    liquidity = _report(answers, Role.LIQUIDITY, LiquidityReport)
    if liquidity is not None and liquidity.stress is not None and liquidity.stress.state == "STRESSED":
        words = f"liquidity stress index {liquidity.stress.value:.2f}"
        raise_(
            AlertKind.LIQUIDITY_STRESS,
            Priority.CRITICAL,
            Role.LIQUIDITY,
            "index",
            words,
            value=liquidity.stress.value,
        )
    correlation = _report(answers, Role.CORRELATION, CorrelationReport)
    if correlation is not None and correlation.regime is not None and correlation.regime.changed:
        regime = correlation.regime
        words = f"mean pair correlation went from {regime.previous:.2f} to {regime.recent:.2f}"
        raise_(
            AlertKind.CORRELATION_REGIME_CHANGE,
            Priority.MEDIUM,
            Role.CORRELATION,
            "mean",
            words,
            value=regime.change.value,
        )
    return tuple(found)


def _liquidity_adjusted(var: Estimate, cost: Estimate, covered: float) -> Estimate:
    bounded = None not in (var.lower, var.upper, cost.lower, cost.upper)
    return Estimate(
        measure="liquidity_adjusted_var",
        value=var.value + cost.value,
        unit="fraction",
        method_label=f"{var.method_label}+{cost.method_label}",
        convention="VaR plus the cost of selling the book (Bangia et al. 1999: the two are added)"
        + (f"; cost of {covered:.0%} of the exposure alone" if covered < 1 else ""),
        samples=var.samples,
        lower=(var.lower or 0.0) + (cost.lower or 0.0) if bounded else None,
        upper=(var.upper or 0.0) + (cost.upper or 0.0) if bounded else None,
        interval_method="sum of the bounds of both parts" if bounded else "none: a part has no interval",
        confidence=var.confidence,
        horizon_days=var.horizon_days,
    )


def _stress_over_var(loss: Estimate, var: Estimate) -> Estimate:
    return Estimate(
        measure="worst_stress_over_var",
        value=loss.value / var.value,
        unit="ratio",
        method_label=f"{loss.method_label}/{var.method_label}",
        convention="largest scenario loss over VaR at the highest confidence asked",
        samples=var.samples,
        interval_method="none: a scenario is stated, not estimated",
        confidence=var.confidence,
        horizon_days=var.horizon_days,
    )


def _report(answers: Mapping[Role, AgentAnswer], role: Role, kind: type[R]) -> R | None:
    answer = answers.get(role)
    return answer.report if answer is not None and isinstance(answer.report, kind) else None
