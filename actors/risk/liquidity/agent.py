"""The liquidity agent."""

from __future__ import annotations

from actors.fast import FastService
from actors.market.market_data.ticks import Follower
from actors.risk.agent import Finding, RiskAgent
from actors.risk.liquidity import impact
from actors.risk.liquidity.state import Volatilities
from cluster.lanes.broadcast import Broadcaster, Listener
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book
from hive.messages.ticks import PlacedBook


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

    def follower(self, state: Volatilities, placed: PlacedBook, ticks: Listener, board: Broadcaster) -> Follower:
        from actors.risk.liquidity import fast

        return fast.follower(state, placed, self.settings, ticks, board)
