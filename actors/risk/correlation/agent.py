"""The correlation agent."""

from __future__ import annotations

from actors.fast import FastService
from actors.market.market_data.ticks import Follower
from actors.risk.agent import Finding, RiskAgent
from actors.risk.correlation import estimators
from cluster.lanes.broadcast import Broadcaster, Listener
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role
from hive.messages.portfolio import Book
from hive.messages.ticks import PlacedBook


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

    def follower(self, state: estimators.Windows, placed: PlacedBook, ticks: Listener, board: Broadcaster) -> Follower:
        from actors.risk.correlation import fast

        return fast.follower(state, placed, self.settings, ticks, board)
