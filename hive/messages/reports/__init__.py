"""What each risk agent reports, a module an agent. Losses are positive, weights and returns are fractions, money is in
the book's currency. Every report lists all its estimates, so tables and checks need not know the agents one by one."""

from __future__ import annotations

from hive.messages.reports.correlation import CorrelatedPair, CorrelationReport, RegimeChange
from hive.messages.reports.liquidity import LiquidityReport, PositionLiquidity
from hive.messages.reports.portfolio import Allocation, PortfolioReport
from hive.messages.reports.stress import Scenario, StressReport
from hive.messages.reports.value_at_risk import (
    BacktestResult,
    BacktestTest,
    DayLoss,
    Decomposition,
    LimitUse,
    ModelBacktest,
    ModelComparison,
    TrafficLight,
    ValueAtRiskReport,
)

Report = ValueAtRiskReport | StressReport | CorrelationReport | LiquidityReport | PortfolioReport

__all__ = [
    "Allocation",
    "BacktestResult",
    "BacktestTest",
    "CorrelatedPair",
    "CorrelationReport",
    "DayLoss",
    "Decomposition",
    "LimitUse",
    "LiquidityReport",
    "ModelBacktest",
    "ModelComparison",
    "PortfolioReport",
    "PositionLiquidity",
    "RegimeChange",
    "Report",
    "Scenario",
    "StressReport",
    "TrafficLight",
    "ValueAtRiskReport",
]
