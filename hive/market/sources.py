"""Where market data comes from: the bundled S&P 20, and CSV or Parquet files in wide or long form.

A wide table has a date column and one column per symbol. A long table has the columns ``date``, ``symbol`` and
``price`` (or ``close``, ``return``), and optionally ``volume``. Values are prices unless the caller says returns.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.errors import InvalidMarketData
from hive.market.settings import MarketSettings
from hive.market.snapshot import FactorPanel, MarketSnapshot, mean_volumes, returns_of
from hive.market.validation import Kind, Table, refuse_unclean, validate

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = "bundled S&P 20 (skfolio, adjusted closes)"
VALUE_COLUMNS = ("price", "close", "adj_close", "return", "value")


def bundled(settings: MarketSettings) -> MarketSnapshot:
    """Twenty US stocks, 1990-01-02 to 2022-12-28, with the S&P 500 index and five factor ETFs from 2014.

    The data ships inside skfolio for examples and tests; all twenty survived to 2022, so tails are kind. It has no
    volumes.
    """
    stocks = _bundled_table("sp500_dataset")
    index = _bundled_table("sp500_index")
    factors = _bundled_table("factors_dataset")
    valid = validate(stocks, kind="prices", settings=settings)
    refuse_unclean(valid.report, BUNDLED)
    if list(index.dates) != list(stocks.dates):
        raise InvalidMarketData("the bundled index has other dates than the bundled stocks", "Reinstall skfolio")
    factor_dates = np.array(factors.dates, dtype="datetime64[D]")
    return _snapshot(
        valid_dates=valid.dates,
        symbols=valid.symbols,
        values=valid.values,
        kind="prices",
        source=BUNDLED,
        currency="USD",
        index_name="S&P 500",
        index_returns=returns_of(index.values)[:, 0],
        factors=FactorPanel(names=factors.symbols, dates=factor_dates[1:], returns=returns_of(factors.values)),
        volumes=None,
        quality=valid.report,
        settings=settings,
    )


def from_file(
    path: str | Path,
    *,
    kind: Kind = "prices",
    currency: str = "USD",
    index: str | None = None,
    accept_quarantine: bool = False,
    settings: MarketSettings,
) -> MarketSnapshot:
    """A snapshot from a CSV or Parquet file.

    Parameters
    ----------
    index : str, optional
        Symbol in the file that is the market index, not an asset.
    accept_quarantine : bool
        Build the snapshot without what validation quarantined; else a quarantine is an error.

    Raises
    ------
    InvalidMarketData
        The file is missing or unreadable, or its data does not pass validation.
    """
    table = read_table(path)
    valid = validate(table, kind=kind, settings=settings)
    if not accept_quarantine:
        refuse_unclean(valid.report, str(path))
    keep = list(range(len(valid.symbols)))
    index_returns = None
    if index is not None:
        if index not in valid.symbols:
            raise InvalidMarketData(f"{path} has no column {index} to serve as index", "Name one of its symbols")
        column = valid.symbols.index(index)
        keep.remove(column)
        if not keep:
            raise InvalidMarketData(f"{path} holds the index {index} alone", "Give at least one asset beside it")
        series = valid.values[:, column]
        index_returns = np.ascontiguousarray(returns_of(series) if kind == "prices" else series)
    return _snapshot(
        valid_dates=valid.dates,
        symbols=tuple(valid.symbols[column] for column in keep),
        values=np.ascontiguousarray(valid.values[:, keep]),
        kind=kind,
        source=Path(path).name,
        currency=currency,
        index_name=index or "",
        index_returns=index_returns,
        factors=None,
        volumes=None if valid.volumes is None else np.ascontiguousarray(valid.volumes[:, keep]),
        quality=valid.report,
        settings=settings,
    )


def read_table(path: str | Path) -> Table:
    """Read a CSV or Parquet file as it is, without judging it.

    Raises
    ------
    InvalidMarketData
        The file is missing, of another kind, empty, or has no date column.
    """
    import pandas as pd

    path = Path(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            if frame.index.name is not None or isinstance(frame.index, pd.DatetimeIndex):
                frame = frame.reset_index(names=frame.index.name or "date")
        elif path.suffix in (".csv", ".gz"):
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
            frame = frame.rename(columns={c: c[: -len(".1")] for c in frame.columns if _renamed_twin(c, frame)})
        else:
            raise InvalidMarketData(f"{path} is no market data by its name", "Use .csv, .csv.gz or .parquet")
    except OSError as error:
        raise InvalidMarketData(f"{path} cannot be read ({error.strerror or error})", "Check the path") from error
    except (ValueError, ImportError, EOFError) as error:
        raise InvalidMarketData(f"{path} does not parse ({error})", "Correct the file") from error
    if frame.shape[1] < 2 or frame.empty:
        raise InvalidMarketData(f"{path} holds no table", "Give a date column and at least one column of numbers")
    names = {str(column).strip().lower(): column for column in frame.columns}
    if "date" in names and "symbol" in names:
        return _long(frame, names, path)
    return _wide(frame, path)


def _wide(frame: pd.DataFrame, path: Path) -> Table:
    values, texts = _numbers(frame.iloc[:, 1:])
    return Table(
        dates=[str(date)[:10] for date in frame.iloc[:, 0]],
        symbols=tuple(str(column).strip() for column in frame.columns[1:]),
        values=values,
        texts=texts,
        source=str(path),
    )


def _long(frame: pd.DataFrame, names: dict[str, Any], path: Path) -> Table:
    """Spread a long table. A pair of date and symbol that appears twice becomes a second row of that date, which
    validation then finds."""
    import pandas as pd

    column = next((names[name] for name in VALUE_COLUMNS if name in names), None)
    if column is None:
        raise InvalidMarketData(f"{path} has no column of values", f"Name one of {', '.join(VALUE_COLUMNS)}")
    date, symbol = names["date"], names["symbol"]
    frame = frame.assign(**{str(date): [str(d)[:10] for d in frame[date]], str(symbol): frame[symbol].astype(str)})
    frame = frame.assign(_copy=frame.groupby([date, symbol]).cumcount())
    order = pd.Index(dict.fromkeys(frame[date]))
    rows = pd.MultiIndex.from_tuples(
        sorted(set(zip(frame[date], frame["_copy"], strict=True)), key=lambda key: (order.get_loc(key[0]), key[1]))
    )
    spread = frame.set_index([date, "_copy", symbol])
    symbols = list(dict.fromkeys(frame[symbol]))
    values, texts = _numbers(spread[column].unstack().reindex(index=rows, columns=symbols))
    volumes = None
    if "volume" in names:
        volumes, _ = _numbers(spread[names["volume"]].unstack().reindex(index=rows, columns=symbols))
    return Table(
        dates=[str(key[0]) for key in rows],
        symbols=tuple(name.strip() for name in symbols),
        values=values,
        texts=texts,
        volumes=volumes,
        source=str(path),
    )


def _numbers(frame: pd.DataFrame) -> tuple[np.ndarray, dict[tuple[int, int], str]]:
    """Cells as float64, NaN where they hold no number, and the texts of those that hold something else."""
    import pandas as pd

    values = np.empty(frame.shape, dtype=np.float64)
    texts: dict[tuple[int, int], str] = {}
    for column in range(frame.shape[1]):
        cells = frame.iloc[:, column]
        numbers = pd.to_numeric(cells.astype(object), errors="coerce").to_numpy(dtype=np.float64)
        values[:, column] = numbers
        for row in np.flatnonzero(np.isnan(numbers)).tolist():
            cell = cells.iloc[row]
            if isinstance(cell, str) and cell.strip() and cell.strip().lower() not in ("nan", "na", "n/a", "null"):
                texts[row, column] = cell
    return values, texts


def _renamed_twin(column: str, frame: pd.DataFrame) -> bool:
    """Whether pandas named ``column`` because an equal name stood before it."""
    return column.endswith(".1") and column[: -len(".1")] in frame.columns


def _snapshot(
    *,
    valid_dates: np.ndarray,
    symbols: tuple[str, ...],
    values: np.ndarray,
    kind: Kind,
    settings: MarketSettings,
    volumes: np.ndarray | None,
    **fields: Any,
) -> MarketSnapshot:
    prices = values if kind == "prices" else None
    dates = valid_dates[1:] if kind == "prices" else valid_dates
    if volumes is not None and kind == "prices":
        volumes = volumes[1:]
    return MarketSnapshot(
        symbols=symbols,
        base_date=str(valid_dates[0]),
        dates=dates,
        returns=returns_of(values) if kind == "prices" else values,
        prices=prices,
        last_prices=None if prices is None else prices[-1].copy(),
        volumes=volumes,
        average_volumes=None if volumes is None else mean_volumes(volumes, settings.volume_days),
        **fields,
    )


def _bundled_table(name: str) -> Table:
    """One of skfolio's data files, read without importing skfolio, which would cost seconds at boot."""
    package = importlib.util.find_spec("skfolio")
    if package is None or not package.submodule_search_locations:
        raise InvalidMarketData("skfolio, which carries the bundled prices, is not installed", "Install riskswarm anew")
    path = Path(next(iter(package.submodule_search_locations))) / "datasets" / "data" / f"{name}.csv.gz"
    with gzip.open(path, "rt", newline="") as lines:
        rows = list(csv.reader(lines))
    return Table(
        dates=[row[0] for row in rows[1:]],
        symbols=tuple(rows[0][1:]),
        values=np.array([row[1:] for row in rows[1:]], dtype=np.float64),
        texts={},
    )
