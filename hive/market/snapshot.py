"""An immutable market snapshot: aligned returns, with the prices, volumes, index and factors that came along."""

from __future__ import annotations

import numpy as np

from cluster.errors import InvalidMarketData, UnknownSnapshot
from hive.messages.codec import digest, message
from hive.messages.dates import iso_date

SHORT_ID = 12  # characters of an id shown to people


@message
class Defect:
    """One thing found wrong with one observation."""

    kind: str
    """``duplicate``, ``misordered``, ``unparsable_date``, ``missing``, ``text``, ``non_positive``, ``infinite``,
    ``impossible_return``, ``spike`` or ``volume``."""
    date: str
    symbol: str
    """Empty where the whole row is meant."""
    found: str


@message
class QualityReport:
    """What validation found. Quarantined observations are not in the snapshot; flags are, and are worth a look."""

    rows_read: int = 0
    symbols_read: int = 0
    defects: tuple[Defect, ...] = ()
    """The first of them; ``counts`` has all."""
    counts: dict[str, int] | None = None
    rows_left_out: int = 0
    """Rows that are not in the snapshot, for their date or for a cell."""
    quarantined_days: tuple[str, ...] = ()
    """Days left out for a bad cell."""
    quarantined_symbols: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Kept but unusual: large moves that stayed, long gaps in the calendar."""

    @property
    def clean(self) -> bool:
        """Whether nothing was left out."""
        return not (self.defects or self.rows_left_out or self.quarantined_symbols)


@message
class FactorPanel:
    """Factor returns on dates of their own, shape (n_days, n_factors)."""

    names: tuple[str, ...]
    dates: np.ndarray
    returns: np.ndarray

    def __post_init__(self) -> None:
        _freeze(self.dates, self.returns)


@message
class MarketSnapshot:
    """Everything the agents know of the market for one calculation.

    ``returns`` are simple daily returns of shape (n_observations, n_symbols); ``dates`` are their dates, and
    ``base_date`` is the date they start from. Arrays are read-only.

    Raises
    ------
    InvalidMarketData
        A return is not finite: no agent ever meets one that is.
    """

    source: str
    currency: str
    symbols: tuple[str, ...]
    base_date: str
    dates: np.ndarray
    returns: np.ndarray
    last_prices: np.ndarray | None = None
    """Price of each symbol on the last date; None where the source held returns."""
    average_volumes: np.ndarray | None = None
    """Units traded on an average recent day, NaN where unknown; None where the source has no volumes."""
    index_name: str = ""
    index_returns: np.ndarray | None = None
    """Returns of the market index on the same dates."""
    factors: FactorPanel | None = None
    quality: QualityReport = QualityReport()
    prices: np.ndarray | None = None
    """Shape (n_observations + 1, n_symbols); None where the source held returns."""
    volumes: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not all(r is None or np.isfinite(r).all() for r in (self.returns, self.index_returns)):
            raise InvalidMarketData("a return is not finite", "Validate the market data: `swarm data check`")
        _freeze(self.dates, self.returns, self.prices, self.volumes, self.index_returns)
        _freeze(self.last_prices, self.average_volumes)

    @property
    def as_of(self) -> str:
        """Date of the last observation, ISO."""
        return str(self.dates[-1])

    @property
    def content_id(self) -> str:
        """SHA-256 over the data itself; the label of its source and its quality report do not take part."""
        return digest(
            [
                *(self.currency, self.symbols, str(self.base_date), self.dates, self.returns, self.prices),
                *(self.volumes, self.average_volumes, self.last_prices, self.index_name, self.index_returns),
                self.factors,
            ]
        )

    def until(self, date: str, *, min_observations: int, volume_days: int) -> MarketSnapshot:
        """The snapshot as it could have been known at the close of ``date``.

        Raises
        ------
        UnknownSnapshot
            ``date`` does not parse, lies outside the data, or leaves too few observations.
        """
        try:
            last = iso_date(date)
        except ValueError as error:
            raise UnknownSnapshot(f"{date!r} is no date", "Give it as YYYY-MM-DD") from error
        keep = int(np.searchsorted(self.dates, last, side="right"))
        if keep < min_observations or last > self.dates[-1]:
            raise UnknownSnapshot(
                f"the snapshot of {self.source} cannot be cut at {date}: it covers {self.dates[0]} to {self.dates[-1]}",
                f"Give a date inside, at least {min_observations} observations after the first",
            )
        if keep == len(self.dates):
            return self
        prices = None if self.prices is None else self.prices[: keep + 1]
        volumes = None if self.volumes is None else self.volumes[:keep]
        factors = self.factors
        if factors is not None:
            known = int(np.searchsorted(factors.dates, last, side="right"))
            factors = FactorPanel(factors.names, factors.dates[:known], factors.returns[:known]) if known else None
        return MarketSnapshot(
            source=f"{self.source}, as of {date}",
            currency=self.currency,
            symbols=self.symbols,
            base_date=self.base_date,
            dates=self.dates[:keep],
            returns=self.returns[:keep],
            prices=prices,
            volumes=volumes,
            last_prices=None if prices is None else prices[-1].copy(),
            average_volumes=None if volumes is None else mean_volumes(volumes, volume_days),
            index_name=self.index_name,
            index_returns=None if self.index_returns is None else self.index_returns[:keep],
            factors=factors,
            quality=self.quality,
        )


@message
class SnapshotHeader:
    """What the hub must know of a snapshot to freeze it and to price a portfolio on it."""

    snapshot_id: str
    source: str
    currency: str
    symbols: tuple[str, ...]
    first_date: str
    as_of: str
    observations: int
    last_prices: np.ndarray | None
    average_volumes: np.ndarray | None
    index_name: str
    factors: tuple[str, ...]
    rows_left_out: int
    quarantined_symbols: int
    flags: int

    @classmethod
    def of(cls, snapshot: MarketSnapshot, snapshot_id: str) -> SnapshotHeader:
        """Header of a snapshot whose id is known."""
        return cls(
            snapshot_id=snapshot_id,
            source=snapshot.source,
            currency=snapshot.currency,
            symbols=snapshot.symbols,
            first_date=str(snapshot.dates[0]),
            as_of=snapshot.as_of,
            observations=len(snapshot.dates),
            last_prices=snapshot.last_prices,
            average_volumes=snapshot.average_volumes,
            index_name=snapshot.index_name,
            factors=snapshot.factors.names if snapshot.factors else (),
            rows_left_out=snapshot.quality.rows_left_out,
            quarantined_symbols=len(snapshot.quality.quarantined_symbols),
            flags=len(snapshot.quality.flags),
        )


def _freeze(*arrays: np.ndarray | None) -> None:
    for array in arrays:
        if array is not None and array.flags.writeable:
            array.setflags(write=False)


def mean_volumes(volumes: np.ndarray, days: int) -> np.ndarray:
    """Mean of the last ``days`` rows of (n_observations, n_symbols); NaN where a symbol has none in them."""
    recent = volumes[-days:]
    known = np.isfinite(recent)
    count = known.sum(axis=0)
    total = np.where(known, recent, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def returns_of(prices: np.ndarray) -> np.ndarray:
    """Simple returns of shape (n_observations, n_symbols) from prices with one row more."""
    if len(prices) < 2:
        raise InvalidMarketData(f"{len(prices)} row of prices gives no return", "Give at least two dates")
    return np.asarray(prices[1:] / prices[:-1] - 1.0)
