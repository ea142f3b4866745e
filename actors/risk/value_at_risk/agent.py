"""The value-at-risk agent."""

from __future__ import annotations

from actors.fast import FastService
from actors.risk.agent import Finding, RiskAgent
from actors.risk.value_at_risk import estimators
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book


class ValueAtRiskAgent(RiskAgent[estimators.Windows]):
    """VaR and CVaR with their uncertainty."""

    role = Role.VALUE_AT_RISK

    def rebuild(self, snapshot: MarketSnapshot) -> estimators.Windows:
        return estimators.rebuild(snapshot, self.settings)

    def answer(self, state: estimators.Windows, book: Book, parameters: Parameters) -> Finding:
        return Finding(*estimators.estimate(state, book, parameters, self.settings))

    def fast_service(self, state: estimators.Windows) -> FastService:
        from actors.risk.value_at_risk import fast

        return fast.service(state)
