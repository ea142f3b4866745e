"""The liquidity agent."""

from __future__ import annotations

from actors.risk.agent import Finding, RiskAgent
from actors.risk.liquidity import impact
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book


class LiquidityAgent(RiskAgent[impact.Volatilities]):
    """Days to sell and what selling costs."""

    role = Role.LIQUIDITY

    def rebuild(self, snapshot: MarketSnapshot) -> impact.Volatilities:
        return impact.rebuild(snapshot, self.settings)

    def answer(self, state: impact.Volatilities, book: Book, parameters: Parameters) -> Finding:
        return Finding(*impact.assess(state, book, self.settings))
