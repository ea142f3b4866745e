"""The stress agent."""

from __future__ import annotations

from actors.fast import FastService
from actors.risk.agent import Finding, RiskAgent
from actors.risk.stress import scenarios
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book


class StressAgent(RiskAgent[scenarios.Library]):
    """Losses under history's worst stretches, stated moves and factor shocks."""

    role = Role.STRESS

    def rebuild(self, snapshot: MarketSnapshot) -> scenarios.Library:
        return scenarios.rebuild(snapshot, self.settings)

    def answer(self, state: scenarios.Library, book: Book, parameters: Parameters) -> Finding:
        return Finding(*scenarios.run(state, book, parameters, self.settings))

    def fast_service(self, state: scenarios.Library) -> FastService:
        from actors.risk.stress import fast

        return fast.service(state, self.settings)
