"""Judges a table of prices or returns. What is wrong is quarantined and listed; nothing is repaired or filled.

Rules, in order: a date that does not parse, repeats or runs backwards quarantines its row (rows that repeat a date
keep the first, unless they contradict each other: then all go). A cell that is missing, text, infinite,
not positive (prices) or a loss of 100 % and more (returns) is bad; so is one with a negative or infinite volume, and
so is a move beyond ``spike_return`` that is undone the next day. A symbol with more than ``max_bad_share`` bad cells
is quarantined whole; otherwise the days of its bad cells are. Large moves that stay and long gaps in the calendar are
kept and flagged.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cluster.errors import InvalidMarketData
from hive.market.settings import MarketSettings
from hive.market.snapshot import Defect, QualityReport
from hive.messages.dates import iso_date

Kind = Literal["prices", "returns"]

LISTED_DEFECTS = 200  # defects shown one by one; all are counted
LISTED_FLAGS = 50
TIME_OF_DAY = re.compile("[T ]")
REVERSAL = 0.2  # a spike counts as undone when less than this share of it is left after the next day


@dataclass(frozen=True)
class Table:
    """A table as read, before any judgement: texts beside the numbers they became.

    ``values`` has shape (n_rows, n_symbols) with NaN where a cell held no number; ``texts`` holds what such cells
    held, by (row, column).
    """

    dates: Sequence[str]
    symbols: tuple[str, ...]
    values: np.ndarray
    texts: dict[tuple[int, int], str]
    volumes: np.ndarray | None = None
    source: str = "the table"


@dataclass(frozen=True)
class Validated:
    """What passed: parallel arrays over the kept days and symbols, and the report over all."""

    dates: np.ndarray
    symbols: tuple[str, ...]
    values: np.ndarray
    volumes: np.ndarray | None
    report: QualityReport


def validate(table: Table, *, kind: Kind, settings: MarketSettings) -> Validated:
    """Judge ``table``.

    Raises
    ------
    InvalidMarketData
        Symbols repeat, there are too many, or fewer days pass than a snapshot needs.
    """
    _check_symbols(table, settings)
    needed = settings.min_observations + (kind == "prices")
    if len(table.dates) < needed:
        raise InvalidMarketData(
            f"{table.source} has {len(table.dates)} row{'s' * (len(table.dates) != 1)} of {kind}",
            f"Give at least {needed}",
        )
    defects: list[Defect] = []
    dates = _parsed(table.dates)
    rows = _good_rows(table, dates, defects)
    dates, values = dates[rows], table.values[rows]
    bad = _bad_cells(table, rows, dates, values, kind, settings, defects)

    share = bad.mean(axis=0) if len(rows) else np.zeros(len(table.symbols))
    condemned = share > settings.max_bad_share
    days = bad[:, ~condemned].any(axis=1)
    report = QualityReport(
        rows_read=len(table.dates),
        symbols_read=len(table.symbols),
        defects=tuple(defects[:LISTED_DEFECTS]),
        counts=dict(Counter(defect.kind for defect in defects)),
        rows_left_out=len(table.dates) - int((~days).sum()),
        quarantined_days=tuple(str(date) for date in dates[days]),
        quarantined_symbols=tuple(s for s, gone in zip(table.symbols, condemned, strict=True) if gone),
        flags=_flags(dates[~days], values[~days][:, ~condemned], table.symbols, condemned, kind, settings),
    )
    kept = dates[~days]
    if len(kept) < needed or condemned.all():
        passed = 0 if condemned.all() else len(kept)
        hint = ", or say --kind returns" if kind == "prices" and _looks_like_returns(values) else ""
        raise InvalidMarketData(
            f"of {table.source} {passed} of {len(table.dates)} rows pass validation ({_summary(report)})",
            f"Correct the data: at least {needed} clean rows are needed{hint}",
        )
    volumes = None if table.volumes is None else np.ascontiguousarray(table.volumes[rows][~days][:, ~condemned])
    return Validated(
        dates=kept,
        symbols=tuple(s for s, gone in zip(table.symbols, condemned, strict=True) if not gone),
        values=np.ascontiguousarray(values[~days][:, ~condemned]),
        volumes=volumes,
        report=report,
    )


def refuse_unclean(report: QualityReport, source: str) -> None:
    """Raise InvalidMarketData where anything was quarantined and nobody has accepted that."""
    if report.clean:
        return
    first = report.defects[0]
    where = f"{first.date} {first.symbol}".strip()
    raise InvalidMarketData(
        f"{source} has {_summary(report)}; the first is {first.kind} at {where}: {first.found}",
        "Correct it, see all with `swarm data check`, or leave the quarantined "
        f"{report.rows_left_out} rows and {len(report.quarantined_symbols)} symbols out with "
        "--accept-quarantine",
    )


def _summary(report: QualityReport) -> str:
    counts = report.counts or {}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no defect"


def _check_symbols(table: Table, settings: MarketSettings) -> None:
    symbols = table.symbols
    twice = sorted(symbol for symbol, count in Counter(symbols).items() if count > 1)
    if twice:
        raise InvalidMarketData(
            f"column {twice[0]} of {table.source} appears more than once", "Give each symbol one column"
        )
    if not symbols or any(not symbol.strip() for symbol in symbols):
        raise InvalidMarketData(
            f"a column of {table.source} has no symbol", "Give a date column and one named column per symbol"
        )
    if len(symbols) > settings.max_symbols:
        raise InvalidMarketData(
            f"the {len(symbols)} symbols of {table.source} are more than the {settings.max_symbols} allowed",
            "Split the table, or raise market.max_symbols",
        )


def _parsed(texts: Sequence[str]) -> np.ndarray:
    """Dates as datetime64[D], NaT where a text does not begin with an ISO date; a time of day after it is dropped."""
    dates = np.full(len(texts), np.datetime64("NaT"), dtype="datetime64[D]")
    for row, text in enumerate(texts):
        with contextlib.suppress(ValueError):
            dates[row] = iso_date(TIME_OF_DAY.split(text.strip(), maxsplit=1)[0])
    return dates


def _good_rows(table: Table, dates: np.ndarray, defects: list[Defect]) -> np.ndarray:
    """Indices of the rows whose date parses, is new, and is later than the row kept before it."""
    seen = Counter(dates[~np.isnat(dates)].tolist())
    first_row: dict[object, int] = {}
    contradicted: set[object] = set()
    for row, date in enumerate(dates.tolist()):
        if date is None or seen[date] == 1:
            continue
        first = first_row.setdefault(date, row)
        both = np.isfinite(table.values[row]) & np.isfinite(table.values[first])
        if (table.values[row][both] != table.values[first][both]).any():
            contradicted.add(date)
    kept: list[int] = []
    latest = None
    for row, date in enumerate(dates.tolist()):
        text = str(table.dates[row])
        if date is None:
            defects.append(Defect("unparsable_date", text, "", f"row {row + 1}: {text!r}"))
        elif date in contradicted:
            defects.append(Defect("duplicate", text, "", f"row {row + 1} contradicts another of this date"))
        elif first_row.get(date, row) != row:
            defects.append(Defect("duplicate", text, "", f"row {row + 1} repeats this date"))
        elif latest is not None and date < latest:
            defects.append(Defect("misordered", text, "", f"row {row + 1} comes after {latest}"))
        else:
            kept.append(row)
            latest = date
    return np.array(kept, dtype=np.intp)


def _bad_cells(
    table: Table,
    rows: np.ndarray,
    dates: np.ndarray,
    values: np.ndarray,
    kind: Kind,
    settings: MarketSettings,
    defects: list[Defect],
) -> np.ndarray:
    bad = ~np.isfinite(values)
    bad |= values <= 0 if kind == "prices" else values <= -1
    bad_volumes = np.zeros(values.shape, dtype=bool)
    if table.volumes is not None:
        volumes = table.volumes[rows]
        bad_volumes = np.isinf(volumes) | (volumes < 0)
        for row, column in np.argwhere(bad_volumes).tolist():
            found = f"{volumes[row, column]:g} units"
            defects.append(Defect("volume", str(dates[row]), table.symbols[column], found))
    spikes = _reverting_spikes(values, bad, kind, settings.spike_return)
    for row, column in np.argwhere(bad | spikes).tolist():
        value = values[row, column]
        text = table.texts.get((int(rows[row]), column))
        if spikes[row, column]:
            name, found = "spike", f"{value:g}, undone the next day"
        elif text is not None and text.strip():
            name, found = "text", repr(text)
        elif np.isnan(value):
            name, found = "missing", "no value"
        elif np.isinf(value):
            name, found = "infinite", f"{value}"
        else:
            name, found = ("non_positive" if kind == "prices" else "impossible_return"), f"{value:g}"
        defects.append(Defect(name, str(dates[row]), table.symbols[column], found))
    return np.asarray(bad | spikes | bad_volumes)


def _reverting_spikes(values: np.ndarray, bad: np.ndarray, kind: Kind, threshold: float) -> np.ndarray:
    """Cells that jump by more than ``threshold`` and are back the next day: the mark of a bad tick."""
    spikes = np.zeros(values.shape, dtype=bool)
    if len(values) < 3:
        return spikes
    clean = np.where(bad, np.nan, values)
    with np.errstate(invalid="ignore"):
        if kind == "prices":
            jump, left = clean[1:-1] / clean[:-2] - 1, clean[2:] / clean[:-2] - 1
            spikes[1:-1] = (np.abs(jump) > threshold) & (np.abs(left) < REVERSAL * np.abs(jump))
        else:
            jump, left = clean[:-1], (1 + clean[:-1]) * (1 + clean[1:]) - 1
            undone = (np.abs(jump) > threshold) & (np.abs(left) < REVERSAL * np.abs(jump))
            spikes[:-1] |= undone
            spikes[1:] |= undone  # the return that undoes it is as false as the one that made it
    return spikes


def _flags(
    dates: np.ndarray,
    values: np.ndarray,
    symbols: tuple[str, ...],
    condemned: np.ndarray,
    kind: Kind,
    settings: MarketSettings,
) -> tuple[str, ...]:
    names = [symbol for symbol, gone in zip(symbols, condemned, strict=True) if not gone]
    flags = []
    gaps = np.diff(dates).astype(int)
    for row in np.flatnonzero(gaps > settings.calendar_gap_days).tolist():
        flags.append(f"gap of {gaps[row]} calendar days before {dates[row + 1]}")
    moves, days = (values[1:] / values[:-1] - 1, dates[1:]) if kind == "prices" else (values, dates)
    for row, column in np.argwhere(np.abs(moves) > settings.spike_return).tolist():
        flags.append(f"{names[column]} moved {moves[row, column]:+.1%} on {days[row]}")
    return tuple(flags[:LISTED_FLAGS])


def _looks_like_returns(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size) and bool(np.abs(finite).max() < 1) and bool((finite < 0).any())
