"""Ticks and watched books: what travels about them. The ticks themselves lie in shared memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cluster.errors import InvalidMarketData, InvalidPortfolio
from cluster.lanes.addresses import BroadcastAddress, PageAddress
from hive.messages.calculation import Role
from hive.messages.codec import digest, message
from hive.messages.mandate import Limits
from hive.messages.portfolio import Book


class SourceKind(StrEnum):
    """Where ticks come from."""

    REPLAY = "replay"
    """Closes of the current snapshot, in the order of their days."""
    BURST = "burst"
    """Made-up moves from the last prices."""
    PUSH = "push"
    """Prices that a client hands in."""


@message
class TickRequest:
    """A source to start."""

    kind: SourceKind
    speed: float = math.inf
    """Seconds of the ticks' time for every second of the clock; infinite does not wait."""
    rate: float = 10_000.0
    """Ticks a second of a burst."""
    count: int = 100_000
    """Ticks of a burst."""
    seed: int = 0
    first: str | None = None
    """First day of a replay, ISO."""
    last: str | None = None


@message
class TickStatus:
    """What the market agent's ticks are doing."""

    running: bool
    """Whether a source is writing now."""
    source: SourceKind | None
    """The one that writes, or that wrote last."""
    written: int
    """Ticks since the ring was opened."""
    last_ns: int | None
    """Time of the last tick, UTC ns."""
    ended: str = ""
    """Why a source ended before it was through."""


@message
class TickStream:
    """The ring that carries ticks, and where the market stands."""

    address: BroadcastAddress
    boot_id: str
    """Of the machine that it is on."""
    symbols: tuple[str, ...]
    """Ticks name them by their places here."""
    prices: np.ndarray
    """Last of every symbol, shape (n,), NaN before its first tick."""
    number: int
    """Number of the first tick that is not in the prices."""


@message
class WatchedBook:
    """A book whose units stay as they are while prices move. Arrays have shape (n_positions,)."""

    name: str
    symbols: tuple[str, ...]
    units: np.ndarray
    """Signed, with multiplier."""
    multipliers: np.ndarray
    prices: np.ndarray
    """At which it was priced: profit counts from here."""
    value: float
    """At these prices, cash included."""
    peak_value: float
    volumes: np.ndarray
    """Units traded on an average day, NaN where not stated."""
    spreads: np.ndarray
    volume_ratios: np.ndarray
    spread_ratios: np.ndarray
    depths: np.ndarray
    limits: Limits
    """Those left None are as the settings say."""
    snapshot_id: str | None = None
    """Snapshot that the agents stay with; None follows the current one."""
    watch_id: str = ""
    """Made from everything else but the peak, so that the same book asked twice is one watch."""

    @classmethod
    def of(
        cls,
        book: Book,
        *,
        last_prices: np.ndarray | None,
        symbols: tuple[str, ...],
        limits: Limits | None,
        snapshot_id: str | None,
    ) -> WatchedBook:
        """A book to watch, from one priced at a snapshot of these symbols and last prices.

        Raises
        ------
        InvalidPortfolio
            It states no value, or is not linear and of one currency.
        InvalidMarketData
            The snapshot has no prices.
        """
        if not book.linear:
            raise InvalidPortfolio(
                "a watched book is linear and of one currency", "Use `calculate` for gamma and foreign positions"
            )
        if book.value is None:
            raise InvalidPortfolio(f"portfolio {book.name!r} states no value", "Give `value`: ticks move money")
        if last_prices is None:
            raise InvalidMarketData("the snapshot holds returns and no prices", "Load prices: ticks are prices")
        prices = last_prices[[symbols.index(symbol) for symbol in book.symbols]]
        multipliers = np.where(np.isfinite(book.unit_exposures), book.unit_exposures / prices, 1.0)
        fields = {
            "name": book.name,
            "symbols": book.symbols,
            "units": book.weights * book.value / prices,
            "multipliers": multipliers,
            "prices": prices,
            "value": book.value,
            "volumes": book.volumes,
            "spreads": book.spreads,
            "volume_ratios": book.recent_volumes / book.volumes,
            "spread_ratios": book.spreads / book.usual_spreads,
            "depths": book.depths,
            "limits": limits or book.limits or Limits(),
            "snapshot_id": snapshot_id,
        }
        return cls(**fields, peak_value=max(book.value, book.peak_value or 0.0), watch_id=digest(list(fields.items())))

    def placed(self, symbols: tuple[str, ...], last_prices: np.ndarray | None) -> PlacedBook:
        """The book over all symbols of a snapshot.

        Raises
        ------
        InvalidPortfolio
            The snapshot lacks one of its symbols.
        InvalidMarketData
            The snapshot has no prices.
        """
        gone = [symbol for symbol in self.symbols if symbol not in symbols]
        if gone:
            raise InvalidPortfolio(
                f"the market data has no {', '.join(gone[:5])} any more, which {self.name!r} holds",
                "Load prices of these symbols, or watch another book",
            )
        if last_prices is None:
            raise InvalidMarketData("the snapshot holds returns and no prices", "Load prices: ticks are prices")
        places = [symbols.index(symbol) for symbol in self.symbols]

        def spread(part: np.ndarray, elsewhere: float | np.ndarray = np.nan) -> np.ndarray:
            found = np.full(len(symbols), elsewhere, np.float64)
            found[places] = part
            return found

        return PlacedBook(
            book=self,
            symbols=symbols,
            units=spread(self.units, 0.0),
            multipliers=spread(self.multipliers, 1.0),
            prices=spread(self.prices, last_prices),
            volumes=spread(self.volumes),
            spreads=spread(self.spreads),
            volume_ratios=spread(self.volume_ratios),
            spread_ratios=spread(self.spread_ratios),
            depths=spread(self.depths),
        )


@dataclass(frozen=True)
class PlacedBook:
    """A watched book over the symbols of a snapshot: arrays of shape (n_symbols,), no units where nothing is held."""

    book: WatchedBook
    symbols: tuple[str, ...]
    units: np.ndarray
    multipliers: np.ndarray
    prices: np.ndarray
    """Those at which the book was given; the snapshot's last where nothing is held."""
    volumes: np.ndarray
    spreads: np.ndarray
    volume_ratios: np.ndarray
    spread_ratios: np.ndarray
    depths: np.ndarray

    @property
    def cash(self) -> float:
        """Money beside the positions."""
        return float(self.book.value - self.units @ self.prices)


@message
class Watching:
    """Where an agent tells about the watched book."""

    watch_id: str
    role: Role
    board: BroadcastAddress
    page: PageAddress
    subject: str
    symbols: tuple[str, ...]
    """Of the agent's snapshot, in its order."""
