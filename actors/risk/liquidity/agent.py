"""The liquidity agent."""

from __future__ import annotations

from actors.fast import FastService
from actors.risk.agent import Finding, RiskAgent
from actors.risk.liquidity import impact
from actors.risk.liquidity.state import Volatilities
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book


class LiquidityAgent(RiskAgent[Volatilities]):
    """How long the book takes to sell, what that costs, and whether its market and funding hold."""

    role = Role.LIQUIDITY

    def rebuild(self, snapshot: MarketSnapshot) -> Volatilities:
        return impact.rebuild(snapshot, self.settings)

    def answer(self, state: Volatilities, book: Book, parameters: Parameters) -> Finding:
        return Finding(*impact.answer(state, book, parameters, self.settings))

    def fast_service(self, state: Volatilities) -> FastService:
        from actors.risk.liquidity import fast

        return fast.service(state, self.settings)
