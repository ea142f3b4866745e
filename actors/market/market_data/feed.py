"""The market's ticks as one agent keeps them: one ring, one source at a time on its own thread, the last prices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from actors.market.market_data.ticks import AT_NS, TickWriter, burst, replay, ticks_of
from cluster.errors import InvalidMarketData, InvalidRequest, SwarmError, UnknownSnapshot
from hive.market.snapshot import MarketSnapshot
from hive.messages.dates import iso_date
from hive.messages.fast import boot_id
from hive.messages.ticks import SourceKind, TickRequest, TickStatus, TickStream

STOP_S = 5.0  # how long a source may take to end once told
VOLATILITY_DAYS = 63  # newest days that a burst takes its volatilities from
MOST_PUSHED = 4096  # ticks that are handed in at a time


class _Stopped(Exception):
    """The source was told to stop."""


class TickFeed:
    """A tick ring over the symbols of one snapshot, and whoever writes to it.

    Parameters
    ----------
    slots : int
        Ticks that the ring keeps.
    """

    def __init__(self, snapshot: MarketSnapshot, slots: int) -> None:
        self._snapshot = snapshot
        self._places = {symbol: place for place, symbol in enumerate(snapshot.symbols)}
        self._stop = threading.Event()
        self._writer = TickWriter(slots=slots, symbols=len(snapshot.symbols), sleep=self._sleep)
        self._owner = threading.Lock()
        self._thread: threading.Thread | None = None
        self._kind: SourceKind | None = None
        self._ended = ""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Ticks name them by their places here."""
        return self._snapshot.symbols

    def stream(self) -> TickStream:
        """Where the ring is, and where the market stands."""
        prices, number = self._writer.standing()
        return TickStream(self._writer.address, boot_id(), self.symbols, prices, number)

    def start(self, request: TickRequest, snapshot: MarketSnapshot) -> TickStatus:
        """Start a source on a snapshot of the same symbols. Prices of the source before are forgotten.

        Raises
        ------
        InvalidRequest
            A source is running, or this one cannot be.
        InvalidMarketData
            The snapshot has no prices.
        """
        with self._owner:
            self._refuse_second()
            if not request.speed > 0:
                raise InvalidRequest(f"a speed of {request.speed!r}", "Give a positive one; infinite does not wait")
            source = self._source(request, snapshot)
            self._stop.clear()
            self._writer.forget()
            self._kind, self._ended = request.kind, ""
            self._thread = threading.Thread(target=self._run, args=(source, request.speed), name="ticks", daemon=True)
            self._thread.start()
            return self.status()

    def push(self, symbols: Sequence[str], prices: Sequence[float], at_ns: int | None) -> TickStatus:
        """Tell these prices now; their time is ``at_ns``, UTC, or that of the clock.

        Raises
        ------
        InvalidRequest
            A source is running, or there are too many at once.
        InvalidMarketData
            A symbol is unknown, a price is not positive and finite, or they differ in number. Nothing was told.
        """
        stranger = next((symbol for symbol in symbols if symbol not in self._places), None)
        if stranger is not None:
            raise InvalidMarketData(f"the ticks' snapshot has no {stranger}", "See `swarm data show` for its symbols")
        if not 0 < len(symbols) <= MOST_PUSHED:
            raise InvalidRequest(f"{len(symbols)} ticks at a time", f"Give 1 to {MOST_PUSHED}")
        try:
            numbers = np.array(prices, np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidMarketData("a price is no number", "Give positive prices") from error
        if numbers.shape != (len(symbols),) or not ((numbers > 0) & (numbers < np.inf)).all():
            raise InvalidMarketData(
                "a price is not positive and finite, or one is missing", "Give one for every symbol"
            )
        if at_ns is not None and not 0 <= at_ns < 2**62:
            raise InvalidMarketData(f"a time of {at_ns} ns cannot be", "Give UTC nanoseconds since 1970")
        ticks = ticks_of(np.array([self._places[symbol] for symbol in symbols]), numbers, np.zeros(len(symbols)))
        with self._owner:
            self._refuse_second()
            self._kind, self._ended = SourceKind.PUSH, ""
            ticks[:, AT_NS] = at_ns or 0
            self._writer.publish(ticks, stamp=at_ns is None)
            return self.status()

    def stop(self, *, forget: bool = False) -> TickStatus:
        """End the source that is running, if one is; the ring stays. With ``forget`` no last price is kept.

        Raises
        ------
        InvalidRequest
            It does not end in time.
        """
        with self._owner:
            self._stop.set()
            if self._thread is not None:
                self._thread.join(STOP_S)
                if self._thread.is_alive():
                    raise InvalidRequest("the tick source does not end", "Ask again")
            if forget:
                self._writer.forget()
            return self.status()

    def status(self) -> TickStatus:
        """What the ticks are doing."""
        running = self._thread is not None and self._thread.is_alive()
        written = self._writer.broadcast.written
        return TickStatus(running, self._kind, written, self._writer.last_ns, self._ended)

    def close(self) -> None:
        """End the source and the ring; followers find it lost."""
        self.stop()
        self._writer.close()

    def _refuse_second(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            raise InvalidRequest(f"a {self._kind} is running", "Stop it first: `swarm ticks stop`")

    def _source(self, request: TickRequest, snapshot: MarketSnapshot) -> Iterator[np.ndarray]:
        if request.kind is SourceKind.REPLAY:
            try:
                days = [None if day is None else iso_date(day) for day in (request.first, request.last)]
            except ValueError as error:
                raise UnknownSnapshot(str(error), "Give dates as YYYY-MM-DD") from error
            return replay(snapshot, *days)
        if request.kind is not SourceKind.BURST:
            raise InvalidRequest(f"{request.kind} is no source to start", "Give replay or burst")
        if snapshot.last_prices is None:
            raise InvalidMarketData(f"{snapshot.source} holds no prices", "Load prices: a burst moves from them")
        prices = self._writer.standing()[0]
        return burst(
            np.where(np.isnan(prices), snapshot.last_prices, prices),
            snapshot.returns[-VOLATILITY_DAYS:].std(axis=0),
            rate=request.rate,
            count=request.count,
            seed=request.seed,
            start_ns=time.time_ns(),
        )

    def _run(self, source: Iterator[np.ndarray], speed: float) -> None:
        try:
            self._writer.write(self._watched(source), speed=speed)
        except _Stopped:
            self._ended = "stopped"
        except SwarmError as error:
            self._ended = str(error)

    def _watched(self, source: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for chunk in source:
            if self._stop.is_set():
                raise _Stopped
            yield chunk

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped
