"""A watched book in one agent: its loop follows the ticks, and a thread beside it keeps the loop supplied.

The loop itself knows one ring and never asks. What needs the market data agent is done here: after missed ticks the
state is made anew from the last prices, a ring whose writer died is replaced, a new peak of the book is remembered.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from actors.lanes import LaneHost
from actors.market.market_data.ticks import Follower
from cluster import runtime
from cluster.errors import InvalidMarketData, LanesUnavailable, SwarmError
from cluster.lanes.broadcast import Broadcaster, Listener
from hive import alerts
from hive.messages.calculation import Role
from hive.messages.fast import boot_id
from hive.messages.ticks import PlacedBook, TickStream, Watching

LOOK_S = 0.05  # between two looks at the loop
RETRY_S = 0.25  # after the market data agent did not answer
RENEW_S = 60.0  # between two renewals of the sums
PEAK_S = 1.0  # between two writings of a peak


@dataclass(frozen=True)
class MarketDesk:
    """What the market data agent is asked for."""

    stream: Callable[[], TickStream]
    keep_peak: Callable[[str, float], None]


class Following:
    """One book that an agent follows.

    Parameters
    ----------
    make : callable
        The room's follower, from the placed book, a listener of ticks and a board.
    last_prices : ndarray of shape (n_symbols,)
        Of the agent's snapshot: the market stands there where no tick came.

    Raises
    ------
    LanesUnavailable
        The ticks are on another machine.
    LaneLost
        The market data agent died over this.
    InvalidMarketData
        The ticks are of other symbols than the book was placed on.
    """

    def __init__(
        self,
        role: Role,
        placed: PlacedBook,
        last_prices: np.ndarray,
        make: Callable[[PlacedBook, Listener, Broadcaster], Follower],
        host: LaneHost,
        market: MarketDesk,
    ) -> None:
        self.placed = placed
        self._host, self._market = host, market
        stream = market.stream()
        listener = self._listener(stream)
        board = alerts.board()
        try:
            self.follower = make(placed, listener, board)
            prices = np.where(np.isnan(stream.prices), last_prices, stream.prices)
            self.follower.stand_at(prices, stream.number)
        except BaseException:
            listener.close()
            board.close()
            raise
        page = self.follower.page.address(board.address.pid)
        book = placed.book
        self.address = Watching(book.watch_id, role, board.address, page, book.name, placed.symbols)
        self._peak = book.peak_value
        self._peak_kept = self._renewed = time.monotonic()
        self._ending = threading.Event()
        host.follow(self.follower)
        self._thread = threading.Thread(target=self._look_after, name="follow", daemon=True)
        self._thread.start()

    def close(self, last_words: np.ndarray | None = None) -> None:
        """Follow no more; ``last_words`` is an alert for those who listen, who find the board lost after it."""
        self._ending.set()
        self._thread.join()
        self._host.leave(self.follower)
        if last_words is not None:
            self.follower.board.publish(last_words)
        self.follower.close()

    def _look_after(self) -> None:
        pause_s = LOOK_S
        while not self._ending.wait(pause_s):
            try:
                if self.follower.lost or self.follower.incomplete:
                    self._supply()
                elif time.monotonic() - self._renewed > RENEW_S:
                    self._host.do(self._renew)
                self._remember_peak()
                pause_s = LOOK_S
            except (SwarmError, runtime.ActorUnreachable):  # the market data agent, which Ray is restarting
                pause_s = RETRY_S

    def _renew(self) -> None:
        """Make sums anew that many ticks have moved by differences: rounding gathers in them."""
        self._renewed = time.monotonic()
        if not self.follower.incomplete:
            self.follower.refresh(self.follower.held)

    def _supply(self) -> None:
        stream = self._market.stream()
        if stream.address == self.follower.ticks.address and not self.follower.astray:
            self._host.do(lambda: self.follower.stand_at(stream.prices, stream.number))
            return
        listener = self._listener(stream)

        def exchange() -> None:
            self.follower.change_over(listener)
            self.follower.stand_at(stream.prices, stream.number)

        try:
            self._host.do(exchange)
        except BaseException:
            if self.follower.ticks is not listener:
                listener.close()
            raise

    def _listener(self, stream: TickStream) -> Listener:
        if stream.boot_id != boot_id():
            raise LanesUnavailable("the market data agent is on another machine", "Run both on one machine to watch")
        if stream.symbols != self.placed.symbols:
            raise InvalidMarketData(
                "the ticks are of other symbols than the watched book was placed on", "Watch it on the current snapshot"
            )
        return Listener(stream.address)

    def _remember_peak(self) -> None:
        peak = self.follower.peak_value
        if peak > self._peak and time.monotonic() - self._peak_kept > PEAK_S:
            self._peak_kept = time.monotonic()
            with contextlib.suppress(SwarmError, runtime.ActorUnreachable):
                self._market.keep_peak(self.placed.book.watch_id, peak)
                self._peak = peak
