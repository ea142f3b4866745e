"""The portfolio agent."""

from __future__ import annotations

from actors.fast import FastService
from actors.risk.agent import Finding, RiskAgent
from actors.risk.portfolio import allocation
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book


class PortfolioAgent(RiskAgent[allocation.Window]):
    """Proposes allocations; it never trades."""

    role = Role.PORTFOLIO

    def rebuild(self, snapshot: MarketSnapshot) -> allocation.Window:
        return allocation.rebuild(snapshot, self.settings)

    def answer(self, state: allocation.Window, book: Book, parameters: Parameters) -> Finding:
        return Finding(*allocation.propose(state, book, parameters, self.settings))

    def fast_service(self, state: allocation.Window) -> FastService:
        from actors.risk.portfolio import fast

        return fast.service(state)
