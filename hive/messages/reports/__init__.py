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
from hive.messages.reports.liquidity import (
    Conditions,
    FundingGap,
    LiquidityReport,
    PositionLiquidity,
    Schedule,
    StressIndex,
)
from hive.messages.reports.portfolio import (
    Allocation,
    ConstraintUse,
    DiscreteChoice,
    ParetoPoint,
    PortfolioReport,
    RebalanceAdvice,
    SizingAdvice,
    WholeLots,
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
    "Conditions",
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
    "FundingGap",
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
    "Schedule",
    "Sensitivity",
    "SizingAdvice",
    "StressIndex",
    "StressReport",
    "TrafficLight",
    "ValueAtRiskReport",
    "WholeLots",
]
