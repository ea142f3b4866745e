"""The market's last prices for the gate: a thread hears the ticks, and brings the newest of every symbol to its loop.

Orders are judged on prices, not on ticks: of many ticks of a symbol only the last one goes in, at most every
millisecond, so that a burst cannot hold orders up. A price is as old as its hearing, whatever day a replay gives it.
"""

from __future__ import annotations

import threading
import time

from actors.market.market_data.ticks import SYMBOL, prices_of
from actors.trading.gate.gate import Gate
from cluster.errors import LaneLost, LanesUnavailable, SwarmError
from cluster.lanes.broadcast import Listener
from hive.messages.fast import boot_id
from hive.messages.ticks import TickStream

LOOK_S = 0.2  # longest wait for ticks before the thread looks whether it is to end
PAUSE_S = 0.001  # between two errands to the gate's loop


class TickIntake:
    """Keeps a gate's prices at those of a tick ring until it is closed, or the ring's writer dies.

    Raises
    ------
    LanesUnavailable
        The ring is on another machine.
    LaneLost
        Its writer has died or closed it.
    """

    def __init__(self, gate: Gate, stream: TickStream) -> None:
        if stream.boot_id != boot_id():
            raise LanesUnavailable("the ticks are on another machine", "Run the gate beside the market data agent")
        self._gate, self.stream = gate, stream
        self._listener = Listener(stream.address, oldest=True)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether ticks still come in."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Take no more ticks."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    heard = self._listener.wait(LOOK_S)
                except LaneLost:
                    return
                except SwarmError:
                    continue  # none came
                ticks = heard.messages
                newest = dict(zip(ticks[:, SYMBOL].tolist(), prices_of(ticks).tolist(), strict=True))
                symbols = self.stream.symbols
                known = {symbols[place]: price for place, price in newest.items() if 0 <= place < len(symbols)}
                try:
                    self._gate.take_prices(known, time.monotonic_ns())
                except (SwarmError, TimeoutError):
                    continue  # the gate is closing, or stuck: what it does not hear of grows stale, which is safe
                time.sleep(PAUSE_S)
        finally:
            self._listener.close()
