"""The market data agent: the one writer of snapshots and of ticks.

It keeps the snapshots, and the book that is watched, on disk; it shares them, and names the current one.

Its state is the store on disk: after a restart it opens the store again and shares anew whatever it is asked for. Ticks
are not kept: they begin anew when somebody starts a source.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from actors.agent import Agent, Identity
from actors.market.market_data.feed import TickFeed
from actors.settings import ShellSettings
from cluster import runtime
from cluster.errors import InvalidMarketData, SwarmError, SwarmUnavailable
from hive.market.settings import MarketSettings
from hive.market.snapshot import MarketSnapshot, SnapshotHeader
from hive.market.sources import bundled
from hive.market.store import SnapshotStore
from hive.messages.calculation import Role
from hive.messages.ticks import SourceKind, TickRequest, TickStatus, TickStream, WatchedBook

ANNOUNCE_TIMEOUT_S = 5.0


class MarketDataAgent(Agent):
    """Serves immutable snapshots by id or date, and takes new ones."""

    role: ClassVar[Role] = Role.MARKET_DATA

    def __init__(self, identity: Identity, shell: ShellSettings, settings: MarketSettings, directory: str) -> None:
        self._settings = settings
        self._directory = Path(directory)
        self._store: SnapshotStore | None = None
        self._headers: OrderedDict[str, SnapshotHeader] = OrderedDict()
        self._shared: OrderedDict[str, Any] = OrderedDict()
        self._owner = threading.RLock()
        self._current = ""
        self._feed: TickFeed | None = None
        super().__init__(identity, shell)

    def initialise(self) -> None:
        """Open the store; the first time it is empty, so the bundled prices become the current snapshot."""
        with self._owner:
            store = SnapshotStore(self._directory, self._settings)
            current = store.current()
            if current is None:
                current = store.save(bundled(self._settings))
                store.use(current)
            self._store, self._current = store, current
            self._header_of(current)

    def resident_snapshot_id(self) -> str:
        """Id of the current snapshot."""
        return self._current

    @runtime.answered_in("control")
    def header(self, snapshot_id: str | None, as_of: str | None) -> SnapshotHeader:
        """Header of the snapshot that is meant: by id or its beginning, cut at a date, or the current one.

        Raises
        ------
        UnknownSnapshot
            No snapshot answers to that.
        """
        with self._owner:
            store = self._opened()
            identity = store.find(snapshot_id) if snapshot_id is not None else self._current
            return self._header_of(identity) if as_of is None else self._cut(identity, as_of)

    @runtime.answered_in("control")
    def share(self, snapshot_id: str) -> list[Any]:
        """Reference to a snapshot in the object store, in a list so that Ray hands on the reference itself."""
        with self._owner:
            return [self._reference(snapshot_id)]

    @runtime.answered_in("control")
    def add(self, snapshot: MarketSnapshot, make_current: bool) -> SnapshotHeader:
        """Save a snapshot and, where asked, make it the one that calculations use. Durable before it returns."""
        if len(snapshot.returns) < self._settings.min_observations:
            raise InvalidMarketData(
                f"the snapshot has {len(snapshot.returns)} observations",
                f"Give at least {self._settings.min_observations}",
            )
        with self._owner:
            identity = self._opened().save(snapshot)
            header = self._header_of(identity)
        return self._make_current(identity) if make_current else header

    @runtime.answered_in("control")
    def use(self, snapshot_id: str) -> SnapshotHeader:
        """Make a saved snapshot the current one."""
        with self._owner:
            identity = self._opened().find(snapshot_id)
        return self._make_current(identity)

    @runtime.answered_in("control")
    def headers(self) -> tuple[str, tuple[SnapshotHeader, ...]]:
        """Id of the current snapshot, and the headers of all saved ones, newest first."""
        with self._owner:
            store = self._opened()
            return self._current, tuple(self._header_of(identity) for identity in store.ids())

    @runtime.answered_in("control")
    def tick_stream(self) -> TickStream:
        """The ring that carries ticks, opened when first asked for, and where the market stands."""
        return self._ticking().stream()

    @runtime.answered_in("control")
    def start_ticks(self, request: TickRequest) -> TickStatus:
        """Start a source of ticks on the current snapshot.

        Raises
        ------
        InvalidRequest, InvalidMarketData, UnknownSnapshot
            As :meth:`.feed.TickFeed.start` says.
        """
        with self._owner:
            self._tell_gate(self._ticking())
            return self._ticking().start(request, self._load(self._current))

    @runtime.answered_in("control")
    def push_ticks(self, symbols: Sequence[str], prices: Sequence[float], at_ns: int | None) -> TickStatus:
        """Tell prices that a client has."""
        feed = self._ticking()
        if feed.status().source is not SourceKind.PUSH:
            self._tell_gate(feed)
        return feed.push(symbols, prices, at_ns)

    @runtime.answered_in("control")
    def stop_ticks(self, forget: bool) -> TickStatus:
        """End the source that is running."""
        return self.ticks() if self._feed is None else self._feed.stop(forget=forget)

    @runtime.answered_in("health")
    def ticks(self) -> TickStatus:
        """What the ticks are doing."""
        feed = self._feed
        return TickStatus(running=False, source=None, written=0, last_ns=None) if feed is None else feed.status()

    @runtime.answered_in("control")
    def watch(self, book: WatchedBook | None) -> None:
        """Remember the book that agents watch, instead of another; None watches none. Durable before it returns."""
        with self._owner:
            known = self._opened().watched()
            if book is None or known is None or known.watch_id != book.watch_id:  # a peak reached since stays
                self._opened().watch(book)

    @runtime.answered_in("control")
    def watched(self) -> WatchedBook | None:
        """The book that agents watch, if there is one."""
        with self._owner:
            return self._opened().watched()

    @runtime.answered_in("control")
    def keep_peak(self, watch_id: str, peak_value: float) -> None:
        """Remember how high the watched book has stood, so that its drawdown outlives who watches it."""
        with self._owner:
            book = self._opened().watched()
            if book is not None and book.watch_id == watch_id and peak_value > book.peak_value:
                self._opened().watch(replace(book, peak_value=peak_value))

    def _ticking(self) -> TickFeed:
        with self._owner:
            if self._feed is None:
                self._opened()
                self._feed = TickFeed(self._load(self._current), self._settings.tick_slots)
            return self._feed

    def _tell_gate(self, feed: TickFeed) -> None:
        """Say where ticks begin to flow. Nobody waits for the gate: one that is away asks when it is back."""
        with contextlib.suppress(SwarmError, runtime.ActorUnreachable):
            runtime.find_actor(Role.GATE, self.identity.namespace).follow_ticks.remote(feed.stream())

    def _make_current(self, identity: str) -> SnapshotHeader:
        with self._owner:
            self._opened().use(identity)
            self._current = identity
            header = self._header_of(identity)
            if self._feed is not None and self._feed.symbols != header.symbols:
                self._feed.close()  # its ticks name symbols by places that mean others now
                self._feed = None
        # Outside the lock: the hub may at this moment be waiting for a header itself.
        with contextlib.suppress(SwarmError, runtime.ActorUnreachable):
            self.ask(Role.HUB, lambda hub: hub.announce.remote(header), ANNOUNCE_TIMEOUT_S)
        return header  # a hub that is gone knows no current snapshot when it returns, and asks

    def _cut(self, identity: str, as_of: str) -> SnapshotHeader:
        snapshot = self._load(identity).until(
            as_of, min_observations=self._settings.min_observations, volume_days=self._settings.volume_days
        )
        cut_id = snapshot.content_id
        if cut_id != identity:
            self._opened().save_cut(identity, as_of, cut_id)
            self._remember(self._shared, cut_id, runtime.share(snapshot))
        header = SnapshotHeader.of(snapshot, cut_id)
        self._remember(self._headers, cut_id, header)
        return header

    def _header_of(self, identity: str) -> SnapshotHeader:
        if identity not in self._headers:
            self._remember(self._headers, identity, SnapshotHeader.of(self._load(identity), identity))
        return self._headers[identity]

    def _reference(self, identity: str) -> Any:
        if identity not in self._shared:
            self._remember(self._shared, identity, runtime.share(self._load(identity)))
        self._shared.move_to_end(identity)
        return self._shared[identity]

    def _load(self, identity: str) -> MarketSnapshot:
        return self._opened().load(identity)

    def _opened(self) -> SnapshotStore:
        if self._store is None:
            raise SwarmUnavailable("the market data agent is still opening its store", "Try again shortly")
        return self._store

    def _remember(self, cache: OrderedDict[str, Any], key: str, value: Any) -> None:
        cache[key] = value
        while len(cache) > self._settings.shared_snapshots:
            cache.popitem(last=False)
