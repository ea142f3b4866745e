"""The correlation agent."""

from __future__ import annotations

from actors.fast import FastService
from actors.risk.agent import Finding, RiskAgent
from actors.risk.correlation import estimators
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book


class CorrelationAgent(RiskAgent[estimators.Windows]):
    """Correlation, its uncertainty and its changes."""

    role = Role.CORRELATION

    def rebuild(self, snapshot: MarketSnapshot) -> estimators.Windows:
        return estimators.rebuild(snapshot, self.settings)

    def answer(self, state: estimators.Windows, book: Book, parameters: Parameters) -> Finding:
        return Finding(*estimators.analyse(state, book, parameters, self.settings))

    def fast_service(self, state: estimators.Windows) -> FastService:
        from actors.risk.correlation import fast

        return fast.service(state, self.settings)
