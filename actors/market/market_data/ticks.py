"""Ticks: new prices as they come, from a snapshot's history or made up by seed, told to every agent of the machine.

A tick is three words of a broadcast ring: the symbol's place in the snapshot, its price as a float64, and UTC ns.
Sources are generators of chunks, int64 of shape (n, 3) in the order of time; they know no clock. :class:`TickWriter`
keeps time.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from cluster.errors import InvalidMarketData, InvalidRequest
from cluster.lanes.addresses import BroadcastAddress
from cluster.lanes.atomics import bells_at
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import CURSOR, LEAD, RING_BELL
from cluster.lanes.broadcast_kernels import MISSED as RING_MISSED
from cluster.lanes.layout import PORT_BELL
from cluster.lanes.page import Page, write
from cluster.lanes.serving import ASTRAY
from hive.alerts import ALERT_WORDS, record
from hive.figures import ALERTS, CROSSED, INCOMPLETE, LAST_NS, MARKS, MISSED, REFUSED, SHEET_WORDS, TICKS
from hive.market.snapshot import MarketSnapshot

SYMBOL, PRICE, AT_NS = range(3)
TICK_WORDS = 3

INBOX = 4  # words of a follower's inbox: a tick, and one for its kernel

CLOSE_NS = 21 * 3600 * 10**9  # 16:00 in New York in winter, after midnight UTC
DAY_NS = 86_400 * 10**9
CHUNK_TICKS = 1024
RELEASE = 0.98  # share of a limit that a figure must come down to before the limit can be crossed again
SLICE_S = 0.02  # longest stay away from the caller's signals


def ticks_of(places: np.ndarray, prices: np.ndarray, at_ns: np.ndarray) -> np.ndarray:
    """Ticks as a ring carries them, int64 of shape (n, 3).

    Raises
    ------
    InvalidMarketData
        The arrays, each of shape (n,), differ in length.
    """
    if not len(places) == len(prices) == len(at_ns):
        raise InvalidMarketData("places, prices and times differ in length", "Give one of each for every tick")
    ticks = np.empty((len(places), TICK_WORDS), np.int64)
    ticks[:, SYMBOL], ticks[:, AT_NS] = places, at_ns
    ticks[:, PRICE] = np.ascontiguousarray(prices, np.float64).view(np.int64)
    return ticks


def prices_of(ticks: np.ndarray) -> np.ndarray:
    """Prices of ticks of shape (n, 3), float64 of shape (n,)."""
    return np.ascontiguousarray(ticks[:, PRICE]).view(np.float64)


def replay(
    snapshot: MarketSnapshot, first: np.datetime64 | None = None, last: np.datetime64 | None = None
) -> Iterator[np.ndarray]:
    """Each day's close of every symbol, a chunk a day, at 21:00 UTC of its date, from ``first`` to ``last``.

    Raises
    ------
    InvalidMarketData
        The snapshot holds returns and no prices.
    InvalidRequest
        It has no day in that range.
    """
    if snapshot.prices is None:
        raise InvalidMarketData(f"{snapshot.source} holds no prices", "Replay a snapshot of prices")
    dates = np.concatenate([[np.datetime64(snapshot.base_date, "D")], snapshot.dates.astype("datetime64[D]")])
    begin = 0 if first is None else int(np.searchsorted(dates, first))
    end = len(dates) if last is None else int(np.searchsorted(dates, last, side="right"))
    if begin >= end:
        raise InvalidRequest(
            f"no day of {snapshot.source} lies from {first or dates[0]} to {last or dates[-1]}",
            f"Give dates from {dates[0]} to {dates[-1]}",
        )
    return _closes(dates[begin:end], snapshot.prices[begin:end])


def _closes(dates: np.ndarray, prices: np.ndarray) -> Iterator[np.ndarray]:
    places = np.arange(prices.shape[1])
    for date, row in zip(dates.astype(np.int64), prices, strict=True):
        yield ticks_of(places, row, np.full(len(places), int(date) * DAY_NS + CLOSE_NS))


def burst(
    prices: np.ndarray, volatilities: np.ndarray, *, rate: float, count: int, seed: int, start_ns: int = 0
) -> Iterator[np.ndarray]:
    """``count`` made-up ticks in chunks of ``CHUNK_TICKS``, the same for the same seed, bit for bit.

    Arrivals are Poisson, each of a symbol drawn evenly, whose price has made a geometric Brownian move without drift
    since its last one.

    Parameters
    ----------
    prices, volatilities : ndarray of shape (n,)
        Positive prices to start from, and daily volatilities, a day being 24 hours.
    rate : float
        Ticks of all symbols together per second.

    Raises
    ------
    InvalidMarketData
        Prices or volatilities do not fit or cannot be.
    InvalidRequest
        The rate or the count cannot be.
    """
    last = np.array(prices, np.float64)
    deviations = np.array(volatilities, np.float64)
    if last.ndim != 1 or not last.size or last.shape != deviations.shape:
        raise InvalidMarketData("prices and volatilities do not fit", "Give one of each for every symbol")
    if not ((last > 0) & (last < np.inf) & (deviations >= 0) & (deviations < np.inf)).all():
        raise InvalidMarketData("a price or a volatility cannot be", "Give positive prices and finite volatilities")
    if not 0 < rate <= 1e9 or count < 0:
        raise InvalidRequest(f"{count} ticks at {rate!r} a second", "Give a rate above 0, at most 1e9")
    return _moves(last, deviations, rate, count, np.random.Generator(np.random.PCG64(seed)), start_ns)


def _moves(
    last: np.ndarray, deviations: np.ndarray, rate: float, count: int, generator: np.random.Generator, start_ns: int
) -> Iterator[np.ndarray]:
    moved_ns, now_ns, left = np.full(last.size, start_ns), start_ns, count
    while left:
        size = min(left, CHUNK_TICKS)
        gaps = np.rint(generator.exponential(1e9 / rate, size)).astype(np.int64)
        at_ns = now_ns + np.cumsum(gaps)
        places, draws = generator.integers(last.size, size=size), generator.standard_normal(size)
        found = np.empty(size)
        for place in np.unique(places):
            mine = places == place
            days = np.diff(at_ns[mine], prepend=moved_ns[place]) / DAY_NS
            spread = deviations[place] * np.sqrt(days)
            found[mine] = last[place] * np.exp(np.cumsum(spread * draws[mine] - spread * spread / 2))
            last[place], moved_ns[place] = found[mine][-1], at_ns[mine][-1]
        now_ns, left = int(at_ns[-1]), left - size
        yield ticks_of(places, found, at_ns)


class TickWriter:
    """The one writer of a machine's ticks.

    Parameters
    ----------
    slots : int
        Ticks kept, a power of two: an agent that falls further behind misses some.
    symbols : int
        Symbols whose last prices are kept.
    clock_ns, sleep : callable
        Monotonic clock in ns, and a wait in seconds.
    """

    def __init__(
        self,
        *,
        slots: int = 1 << 16,
        symbols: int = 0,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.broadcast = Broadcaster(slots=slots, payload_words=TICK_WORDS)
        self.last_ns: int | None = None
        """Time of the last tick, UTC ns."""
        self._prices = np.full(symbols, np.nan)
        self._writing = threading.Lock()
        self._clock_ns, self._sleep = clock_ns, sleep

    @property
    def address(self) -> BroadcastAddress:
        """What followers attach to."""
        return self.broadcast.address

    def publish(self, ticks: np.ndarray, *, stamp: bool = False) -> None:
        """Tell ticks of shape (n, 3) of symbols that are kept, and keep their prices; ``stamp`` gives them the time."""
        with self._writing:
            if stamp:
                self.last_ns = self.broadcast.publish_now(ticks, AT_NS)
            else:
                self.broadcast.publish(ticks)
                self.last_ns = int(ticks[-1, AT_NS])
            if len(self._prices):
                self._prices[ticks[:, SYMBOL]] = prices_of(ticks)  # of several prices of a symbol the last one stays

    def standing(self) -> tuple[np.ndarray, int]:
        """(Last price of every symbol, NaN before its first tick; number of the first tick that is not in them)."""
        with self._writing:
            return self._prices.copy(), self.broadcast.written

    def forget(self) -> None:
        """Keep no price of the ticks so far."""
        with self._writing:
            self._prices[:] = np.nan

    def write(self, source: Iterable[np.ndarray], *, speed: float = math.inf) -> int:
        """Publish a source's ticks; how many they were.

        Parameters
        ----------
        speed : float
            Seconds of the ticks' time for every second of the clock, from the first tick on; infinite does not wait.
            Ticks that are due at the same look at the clock go out together.

        Raises
        ------
        InvalidRequest
            The speed is not positive.
        """
        if not speed > 0:
            raise InvalidRequest(f"a speed of {speed!r}", "Give a positive one; infinite does not wait")
        written, begun_ns, first_ns = 0, self._clock_ns(), None
        for chunk in source:
            if not len(chunk):
                continue
            first_ns = int(chunk[0, AT_NS]) if first_ns is None else first_ns
            self._paced(chunk, speed, begun_ns, first_ns)
            written += len(chunk)
        return written

    def close(self) -> None:
        """End the stream; followers find it lost."""
        self.broadcast.close()

    def _paced(self, chunk: np.ndarray, speed: float, begun_ns: int, first_ns: int) -> None:
        if speed == math.inf:
            self.publish(chunk)
            return
        due_ns, done = begun_ns + (chunk[:, AT_NS] - first_ns) / speed, 0
        while done < len(chunk):
            now = self._clock_ns()
            ready = int(np.searchsorted(due_ns, now, side="right"))
            if ready > done:
                self.publish(chunk[done:ready])
                done = ready
            else:
                self._sleep(min(SLICE_S, max(0.0, (due_ns[done] - now) / 1e9)))


class Follower(ABC):
    """Resident state that follows the ticks in a compiled loop. Its state belongs to the thread that calls it.

    Parameters
    ----------
    kernel : compiled function
        ``follow`` of a room's ``tick_kernels``.
    loop : compiled function
        ``serve`` of the same: lanes and ticks in turn.
    show : compiled function
        ``show`` of the same: puts figures on a sheet.
    state : tuple
        What the first two are given between the tick ring and the marks.
    shown : tuple
        What the last is given before the sheet.
    ticks : Listener
        Of a :class:`TickWriter`; nobody else may take from it.
    board : Broadcaster
        Where alerts go (:func:`hive.alerts.board`); nobody else may write there.
    release : float
        Share of a limit that a figure must come down to before the limit can be crossed again.
    """

    kind: ClassVar[int]
    """Of the alerts that it raises, a code of :mod:`hive.alerts`."""

    def __init__(
        self,
        kernel: Callable[..., int],
        loop: Callable[..., int],
        show: Callable[..., None],
        state: tuple[Any, ...],
        shown: tuple[Any, ...],
        ticks: Listener,
        board: Broadcaster,
        release: float,
    ) -> None:
        if ticks.payload_words != TICK_WORDS or board.payload_words != ALERT_WORDS:
            raise InvalidRequest("these rings carry no ticks, or no alerts", "Give a tick ring and an alert board")
        self.board, self.release = board, release
        self.marks = np.zeros(MARKS, np.int64)
        inbox, outbox = np.zeros(INBOX, np.int64), np.zeros(ALERT_WORDS, np.int64)
        self._kernel, self._loop, self._figure = kernel, loop, show
        self._state, self._shown = state, shown
        self._inbox = (inbox, inbox.view(np.float64))
        self._told = (self.marks, board.words, board.hand, outbox, outbox.view(np.float64))
        self._control = np.zeros(1, np.int64)
        self._sheet = np.zeros(SHEET_WORDS, np.int64)
        self._sheets = (self._sheet, self._sheet.view(np.float64))
        self.page = Page.create("riskswarm-figures", SHEET_WORDS)
        self.astray = False
        self.marks[MISSED] = ticks.missed
        self._take_up(ticks)

    def follow(self, until_ns: int = 0, control: np.ndarray | None = None) -> int:
        """Take ticks until the monotonic clock reads ``until_ns``, waiting as the listener does; 0 takes what is there.

        Parameters
        ----------
        control : ndarray of int64, shape (at least 1,)
            Calls the thread away when its first word is not 0.

        Returns
        -------
        int
            ``NONE``: the time is up, or at 0 there are no more ticks or the turn is over (64 ticks).
            ``WANTED``: called away. ``BAD``: the ring cannot be believed, follow no more.
        """
        called = self._control if control is None else control
        return self._kernel(self._ring, called, self._state, self._told, until_ns)

    def serve(
        self,
        state: tuple[np.ndarray, ...],
        words: np.ndarray,
        numbers: np.ndarray,
        active: np.ndarray,
        own: np.ndarray,
        hand: np.ndarray,
    ) -> int:
        """Answer lanes and take ticks in turn until the thread is wanted: a loop for :class:`cluster.lanes.port.Port`.

        ``state`` is that of the room's fast answers. A ring that cannot be believed leaves :attr:`astray` true.
        """
        bells = bells_at((words, PORT_BELL), (self.ticks.words, RING_BELL))
        reason = self._loop(
            words,
            numbers,
            active,
            own,
            hand,
            state,
            self._ring,
            self._state,
            self._told,
            self._shown,
            self.page.memory.words,
            *self._sheets,
            bells,
        )
        self.astray = self.astray or reason == ASTRAY
        return reason

    @property
    def incomplete(self) -> bool:
        """Whether ticks were missed since the last refresh."""
        return bool(self.marks[INCOMPLETE])

    @property
    def lost(self) -> bool:
        """Whether there is nothing more to follow on this ring."""
        return self.astray or self.ticks.lost

    @property
    def counts(self) -> dict[str, int]:
        """Ticks taken, missed and refused, and alerts raised."""
        return {
            name: int(self.marks[place])
            for name, place in (("ticks", TICKS), ("missed", MISSED), ("refused", REFUSED), ("alerts", ALERTS))
        }

    @property
    @abstractmethod
    def held(self) -> np.ndarray:
        """Prices that the state stands at, shape (n,)."""

    @property
    def peak_value(self) -> float:
        """Highest value of the book so far; 0 where the room does not follow it."""
        return 0.0

    @abstractmethod
    def refresh(self, prices: np.ndarray) -> None:
        """Make the state anew from prices of shape (n,); it is whole then."""

    def show(self) -> None:
        """Write the figures to the page."""
        self._figure(*self._shown, self._sheets[1])
        self._sheet[:MARKS] = self.marks
        write(self.page.memory.words, 0, self._sheet)

    @abstractmethod
    def _measured(self) -> list[tuple[float, float]]:
        """Figure and limit of everything that is judged, in the order of the limits' codes."""

    def stand_at(self, prices: np.ndarray, number: int) -> None:
        """Make the state anew from prices that hold every tick before ``number``, and go on with that one.

        Parameters
        ----------
        prices : ndarray of shape (n,)
            NaN where the state's own price stays.
        """
        self.refresh(np.where(np.isnan(prices), self.held, prices))
        hand = self.ticks.hand
        ahead = number - int(hand[CURSOR])
        hand[RING_MISSED] += max(0, ahead)  # nobody judged those one by one
        self.marks[TICKS] += min(0, ahead)  # these are taken again
        hand[CURSOR], hand[LEAD] = number, 0
        self.marks[MISSED] = hand[RING_MISSED]
        self.show()
        self.judge()

    def judge(self) -> None:
        """Tell of limits that the state lies beyond as it stands: no tick may come that would."""
        crossed = int(self.marks[CROSSED])
        for limit, (value, bound) in enumerate(self._measured()):
            bit = 1 << limit
            if value > bound and not crossed & bit:
                crossed |= bit
                at_ns = int(self.marks[LAST_NS]) or time.time_ns()
                self.board.publish(record(self.kind, limit, value=value, bound=bound, tick_ns=at_ns))
                self.marks[ALERTS] += 1
            elif crossed & bit and value <= self.release * bound:
                crossed ^= bit
        self.marks[CROSSED] = crossed

    def change_over(self, ticks: Listener) -> None:
        """Follow another ring from now on, on the state as it stands; the one before is closed."""
        self.ticks.close()
        self._take_up(ticks)
        self.ticks.hand[RING_MISSED] = self.marks[MISSED]
        self.astray = False

    def complete(self) -> None:
        """Say that the state is whole again. A room's ``refresh`` ends with this."""
        self.marks[INCOMPLETE] = 0

    def close(self) -> None:
        """Let go of the ring, the board and the page; who listens finds the board lost."""
        for part in (self.ticks, self.board, self.page):
            part.close()

    def _take_up(self, ticks: Listener) -> None:
        self.ticks = ticks
        self._ring = (ticks.words, ticks.hand, *self._inbox)


def crossings_plain(figures: np.ndarray, limits: np.ndarray, release: float) -> list[tuple[int, int]]:
    """(tick, limit) of every alert, by the definition that all followers share.

    A limit is crossed when its figure, a column of ``figures`` of shape (n_ticks, n_limits), comes to lie beyond it,
    and crossed again only after the figure was at or below ``release`` times it.
    """
    crossed, found = np.zeros(len(limits), bool), []
    for tick, row in enumerate(figures):
        for limit in range(len(limits)):
            if row[limit] > limits[limit] and not crossed[limit]:
                crossed[limit] = True
                found.append((tick, limit))
            elif crossed[limit] and row[limit] <= release * limits[limit]:
                crossed[limit] = False
    return found
