"""What each risk agent reports, a module an agent. Losses are positive, weights and returns are fractions, money is in
the book's currency. Every report lists all its estimates, so tables and checks need not know the agents one by one."""

from __future__ import annotations

from hive.messages.reports.correlation import (
    BookDependence,
    ChangeCall,
    ChangeWatch,
    CopulaFit,
    CorrelatedPair,
    CorrelationMatrix,
    CorrelationReport,
    DynamicCorrelation,
    PairDependence,
    RegimeChange,
)
from hive.messages.reports.liquidity import LiquidityReport, PositionLiquidity
from hive.messages.reports.portfolio import (
    Allocation,
    ConstraintUse,
    DiscreteChoice,
    ParetoPoint,
    PortfolioReport,
    RebalanceAdvice,
    SizingAdvice,
)
from hive.messages.reports.stress import FactorSensitivity, ReverseStress, Scenario, Sensitivity, StressReport
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
    "BookDependence",
    "ChangeCall",
    "ChangeWatch",
    "ConstraintUse",
    "CopulaFit",
    "CorrelatedPair",
    "CorrelationMatrix",
    "CorrelationReport",
    "DayLoss",
    "Decomposition",
    "DiscreteChoice",
    "DynamicCorrelation",
    "FactorSensitivity",
    "LimitUse",
    "LiquidityReport",
    "ModelBacktest",
    "ModelComparison",
    "PairDependence",
    "ParetoPoint",
    "PortfolioReport",
    "PositionLiquidity",
    "RebalanceAdvice",
    "RegimeChange",
    "Report",
    "ReverseStress",
    "Scenario",
    "Sensitivity",
    "SizingAdvice",
    "StressReport",
    "TrafficLight",
    "ValueAtRiskReport",
]
