"""A portfolio as its owner states it, and the book it becomes at one market snapshot.

Policy on weights: they are fractions of the portfolio's value and, together with ``cash``, must sum to 1 within
1e-6. Nothing is normalised silently. Quantities are signed units; their exposure is quantity x price x multiplier.
"""

from __future__ import annotations

import csv
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cluster.errors import InvalidPortfolio
from hive.messages.codec import message
from hive.messages.mandate import FundingFlow, Limits, Mandate, View

WEIGHT_TOLERANCE = 1e-6  # how far the weights may miss 1, in fractions of value
DEFAULT_CURRENCY = "USD"
NUMBERS = (
    *("weight", "quantity", "price", "multiplier", "average_daily_volume", "spread", "gamma", "lot"),
    *("recent_volume", "usual_spread", "depth"),
)
SHOWN = 40  # characters of a bad value that an error repeats


@message
class Position:
    """One line of a portfolio. Give ``weight`` or ``quantity``, not both.

    Raises
    ------
    InvalidPortfolio
        A number is not finite, a price, multiplier, volume or spread is out of range, or both or neither of weight
        and quantity are given.
    """

    symbol: str
    weight: float | None = None
    """Signed fraction of the portfolio's value."""
    quantity: float | None = None
    """Signed number of units."""
    price: float | None = None
    """Price of one unit; the snapshot's last price where it is not given."""
    multiplier: float = 1.0
    """Currency units per point of price and unit held (50 for an E-mini S&P future)."""
    currency: str = ""
    """Of its price; empty is the market's own."""
    average_daily_volume: float | None = None
    """Units traded on an average day."""
    spread: float | None = None
    """Bid-ask spread as a fraction of price."""
    gamma: float = 0.0
    """Convexity: relative change of the position's exposure for a move of +100 % of its symbol (gamma x price / delta
    of an option, 0 for a share). A move r earns r + gamma r^2 / 2 on the exposure."""
    group: str = ""
    """Sector, desk or issuer that a mandate bounds together."""
    lot: float | None = None
    """Units that must be traded together."""
    recent_volume: float | None = None
    """Units traded on the latest day."""
    usual_spread: float | None = None
    """Mean spread of the last 20 days, a fraction of price."""
    depth: float | None = None
    """Money that can be traded at the touch."""

    def __post_init__(self) -> None:
        if not isinstance(self.symbol, str) or not self.symbol.strip():
            raise InvalidPortfolio(f"a position has the symbol {self.symbol!r}", "Give every position a symbol")
        for name in NUMBERS:
            if getattr(self, name) is not None or name in ("multiplier", "gamma"):
                object.__setattr__(self, name, _finite(getattr(self, name), f"{name} of {self.symbol}"))
        if not isinstance(self.group, str):
            raise InvalidPortfolio(f"group of {self.symbol} is {self.group!r}", "Give its name as text")
        if not isinstance(self.currency, str):
            raise InvalidPortfolio(f"currency of {self.symbol} is {self.currency!r}", "Give its code, such as USD")
        if (self.weight is None) == (self.quantity is None):
            raise InvalidPortfolio(
                f"{self.symbol} has {'neither weight nor' if self.weight is None else 'both weight and'} quantity",
                "Give exactly one of the two",
            )
        for name in ("price", "multiplier", "average_daily_volume", "lot", "usual_spread"):
            number = getattr(self, name)
            if number is not None and number <= 0:
                raise InvalidPortfolio(f"{name} of {self.symbol} is {number:g}", "Give a positive number")
        for name in ("recent_volume", "depth"):
            number = getattr(self, name)
            if number is not None and number < 0:
                raise InvalidPortfolio(f"{name} of {self.symbol} is {number:g}", "Give zero or more")
        if self.spread is not None and not 0 <= self.spread < 1:
            raise InvalidPortfolio(
                f"spread of {self.symbol} is {self.spread:g}", "Give a fraction of the price, 0.0005 for 5 basis points"
            )


@message
class Portfolio:
    """What a desk holds.

    ``Portfolio.from_weights({"AAPL": 0.6, "JPM": 0.4}, value=1e6)`` and
    ``Portfolio.from_quantities({"AAPL": 1000, "JPM": -200}, cash=5e4)`` make one in a line;
    :meth:`Portfolio.from_file` reads CSV, JSON or TOML.

    Raises
    ------
    InvalidPortfolio
        Empty, a symbol twice, weights mixed with quantities, weights that with cash do not sum to 1, a value that is
        not positive, or a peak below the value.
    """

    positions: tuple[Position, ...]
    name: str = "portfolio"
    currency: str = DEFAULT_CURRENCY
    value: float | None = None
    """Equity in ``currency``. With quantities it defaults to the sum of exposures and cash; with weights, money
    figures are left out where it is not given."""
    cash: float | None = None
    """With weights, a fraction of value; with quantities, money. Takes no risk."""
    peak_value: float | None = None
    """Highest value so far, for the drawdown limit."""
    limits: Limits | None = None
    mandate: Mandate | None = None
    funding: tuple[FundingFlow, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", tuple(self.positions))
        if not isinstance(self.name, str):
            raise InvalidPortfolio(f"a portfolio is named {self.name!r}", "Give its name as text")
        if not self.positions:
            raise InvalidPortfolio(f"portfolio {self.name!r} is empty", "Give at least one position")
        symbols = [position.symbol for position in self.positions]
        twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if twice:
            raise InvalidPortfolio(f"{', '.join(twice)} appears more than once", "Merge the positions of one symbol")
        object.__setattr__(self, "funding", tuple(self.funding))
        for name in ("value", "cash", "peak_value"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _finite(getattr(self, name), f"{name} of portfolio {self.name!r}"))
        if self.value is not None and self.value <= 0:
            raise InvalidPortfolio(
                f"portfolio {self.name!r} has the value {self.value:g}", "Give its equity as a positive amount"
            )
        if self.peak_value is not None and self.peak_value < (self.value or 0.0):
            raise InvalidPortfolio(
                f"portfolio {self.name!r} has the peak value {self.peak_value:g} below its value",
                "Give the highest value",
            )
        weighted = [position.weight is not None for position in self.positions]
        if any(weighted) and not all(weighted):
            raise InvalidPortfolio("some positions have weights and others quantities", "Use one of the two for all")
        if all(weighted):
            total = math.fsum(p.weight or 0.0 for p in self.positions) + (self.cash or 0.0)
            if abs(total - 1.0) > WEIGHT_TOLERANCE:
                raise InvalidPortfolio(
                    f"the weights{' and cash' if self.cash else ''} sum to {total:.6f}, not 1",
                    f"Declare the rest as cash = {1 - total + (self.cash or 0.0):.6f}, or correct the weights; "
                    "they are never rescaled silently",
                )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, float],
        *,
        value: float | None = None,
        cash: float | None = None,
        name: str = "portfolio",
        currency: str = DEFAULT_CURRENCY,
    ) -> Portfolio:
        """Portfolio of signed weights, fractions of ``value``."""
        positions = tuple(Position(symbol=s, weight=w) for s, w in weights.items())
        return cls(positions=positions, name=name, currency=currency, value=value, cash=cash)

    @classmethod
    def equal_weights(cls, symbols: Sequence[str], *, value: float | None = None, name: str = "equal") -> Portfolio:
        """Portfolio of equal long weights."""
        if not symbols:
            raise InvalidPortfolio(f"portfolio {name!r} is empty", "Give at least one symbol")
        return cls.from_weights(dict.fromkeys(symbols, 1.0 / len(symbols)), value=value, name=name)

    @classmethod
    def from_quantities(
        cls,
        quantities: Mapping[str, float],
        *,
        value: float | None = None,
        cash: float | None = None,
        name: str = "portfolio",
        currency: str = DEFAULT_CURRENCY,
    ) -> Portfolio:
        """Portfolio of signed units, priced at the snapshot's last prices."""
        positions = tuple(Position(symbol=s, quantity=q) for s, q in quantities.items())
        return cls(positions=positions, name=name, currency=currency, value=value, cash=cash)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Portfolio:
        """Portfolio from plain data as JSON and TOML give it; unknown keys are refused."""
        _refuse_unknown(fields, set(cls.__dataclass_fields__), "portfolio")
        currency = str(fields.get("currency", DEFAULT_CURRENCY))
        lines = fields.get("positions")
        if not isinstance(lines, Sequence) or isinstance(lines, str):
            raise InvalidPortfolio("the portfolio has no list of positions", "Give `positions`, one entry per symbol")
        positions = []
        for line in lines:
            if not isinstance(line, Mapping):
                raise InvalidPortfolio(f"a position is {line!r}", "Give a table with symbol and weight or quantity")
            _refuse_unknown(line, set(Position.__dataclass_fields__), "position")
            positions.append(Position(**{"symbol": "", **line}))
        header = {key: fields[key] for key in ("name", "value", "cash", "peak_value") if key in fields}
        for key, kind in (("limits", Limits), ("mandate", Mandate)):
            if fields.get(key) is not None:
                header[key] = _nested(kind, fields[key], key)
        flows = fields.get("funding", ())
        if not isinstance(flows, (list, tuple)):
            raise InvalidPortfolio(f"funding of the portfolio is {flows!r}", "Give a list of tables")
        header["funding"] = tuple(_nested(FundingFlow, line, "funding") for line in flows)
        return cls(positions=tuple(positions), currency=currency, **header)

    @classmethod
    def from_file(cls, path: str | Path) -> Portfolio:
        """Read a portfolio.

        ``.toml`` and ``.json`` hold the fields of this class; ``.csv`` holds one position a line under a header of
        the field names of :class:`Position`, and takes its name from the file.

        Raises
        ------
        InvalidPortfolio
            The file is missing, of another kind, or does not describe a portfolio.
        """
        path = Path(path)
        try:
            if path.suffix == ".toml":
                fields = tomllib.loads(path.read_text())
            elif path.suffix == ".json":
                fields = json.loads(path.read_text())
            elif path.suffix == ".csv":
                fields = {"name": path.stem, "positions": _csv_positions(path)}
            else:
                raise InvalidPortfolio(f"{path} is no portfolio file by its name", "Use .csv, .json or .toml")
        except OSError as error:
            raise InvalidPortfolio(f"{path} cannot be read ({error.strerror})", "Check the path") from error
        except (ValueError, csv.Error) as error:  # JSON, TOML and text that is not UTF-8
            raise InvalidPortfolio(f"{path} does not parse ({error})", "Correct the file") from error
        if not isinstance(fields, dict):
            raise InvalidPortfolio(f"{path} holds no portfolio", "Give an object with `positions`")
        return cls.from_dict({"name": path.stem, **fields})

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`from_dict` reads back."""
        fields = asdict(self)
        stated: dict[str, Any] = _without_none(fields)
        return stated


@message
class Book:
    """A portfolio priced at one snapshot: what the risk agents compute on.

    Arrays have shape (n_positions,). ``weights`` are signed exposures over value; ``volumes`` (units a day) and
    ``spreads`` (fractions) are NaN where nobody stated them.
    """

    name: str
    currency: str
    value: float | None
    symbols: tuple[str, ...]
    weights: np.ndarray
    unit_exposures: np.ndarray
    """Money per unit held (price x multiplier); NaN where no price is known."""
    volumes: np.ndarray
    spreads: np.ndarray
    gammas: np.ndarray
    """Convexity, 0 where a position is linear in its symbol."""
    exchange: tuple[str, ...]
    """Symbol of the exchange rate into the book's currency, by position; empty where it needs none."""
    exchange_powers: np.ndarray
    """+1 where that rate is quoted in the book's currency, -1 where it is quoted the other way round, else 0."""
    groups: tuple[str, ...]
    lots: np.ndarray
    """Units of one lot, NaN where units are divisible."""
    recent_volumes: np.ndarray
    usual_spreads: np.ndarray
    depths: np.ndarray
    """Money at the touch, in the book's currency."""
    peak_value: float | None = None
    limits: Limits | None = None
    mandate: Mandate | None = None
    funding: tuple[FundingFlow, ...] = ()

    @property
    def linear(self) -> bool:
        """Whether every position's return is its symbol's return: no convexity, no exchange rate."""
        return not (self.gammas.any() or any(self.exchange))


def resolve(
    portfolio: Portfolio,
    *,
    symbols: Sequence[str],
    currency: str,
    last_prices: np.ndarray | None,
    average_volumes: np.ndarray | None = None,
) -> Book:
    """Price ``portfolio`` at a snapshot.

    Parameters
    ----------
    symbols : sequence of str
        Symbols the snapshot knows.
    last_prices, average_volumes : ndarray of shape (n_symbols,), optional
        Last price and average daily volume of each, where the snapshot has them.

    Raises
    ------
    InvalidPortfolio
        A symbol or price is unknown, the currency differs, or the value is zero or negative.
    """
    column = {symbol: index for index, symbol in enumerate(symbols)}
    unknown = [p.symbol for p in portfolio.positions if p.symbol not in column]
    if unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise InvalidPortfolio(
            f"the market snapshot has no {shown}", "Run `swarm data show` for the symbols it has, or load their prices"
        )
    if portfolio.currency != currency and not _rate(portfolio.currency, currency, column)[0]:
        raise InvalidPortfolio(
            f"the portfolio is in {portfolio.currency}, the market snapshot in {currency}",
            f"Use prices and portfolio of one currency, or load the rate {currency}{portfolio.currency} as a symbol",
        )
    quoted = [position.currency or currency for position in portfolio.positions]
    rates = [_rate(own, portfolio.currency, column) for own in quoted]
    for position, own, (rate, _) in zip(portfolio.positions, quoted, rates, strict=True):
        if own != portfolio.currency and not rate:
            raise InvalidPortfolio(
                f"{position.symbol} is in {own}, the portfolio in {portfolio.currency}",
                f"Load the rate {own}{portfolio.currency} with the prices, as one of their symbols",
            )
    order = [column[p.symbol] for p in portfolio.positions]
    known_prices = np.full(len(order), np.nan) if last_prices is None else np.asarray(last_prices)[order]
    prices = np.array([p.price if p.price is not None else known for p, known in _paired(portfolio, known_prices)])
    conversion = np.array([_conversion(rate, power, column, last_prices) for rate, power in rates])
    unit_exposures = prices * np.array([p.multiplier for p in portfolio.positions]) * conversion
    known_volumes = np.full(len(order), np.nan) if average_volumes is None else np.asarray(average_volumes)[order]
    volumes = [
        known if p.average_daily_volume is None else p.average_daily_volume
        for p, known in _paired(portfolio, known_volumes)
    ]
    weights, value = _weights_and_value(portfolio, unit_exposures)
    return Book(
        name=portfolio.name,
        currency=portfolio.currency,
        value=value,
        symbols=tuple(p.symbol for p in portfolio.positions),
        weights=weights,
        unit_exposures=unit_exposures,
        volumes=np.array(volumes, dtype=float),
        spreads=_stated(portfolio, "spread"),
        gammas=np.array([p.gamma for p in portfolio.positions]),
        exchange=tuple(rate for rate, _ in rates),
        exchange_powers=np.array([power for _, power in rates], dtype=float),
        groups=tuple(p.group for p in portfolio.positions),
        lots=_stated(portfolio, "lot"),
        recent_volumes=_stated(portfolio, "recent_volume"),
        usual_spreads=_stated(portfolio, "usual_spread"),
        depths=_stated(portfolio, "depth") * conversion,
        peak_value=portfolio.peak_value,
        limits=portfolio.limits,
        mandate=portfolio.mandate,
        funding=portfolio.funding,
    )


def _stated(portfolio: Portfolio, name: str) -> np.ndarray:
    """A field of the positions as an array, NaN where a position leaves it out."""
    values = (getattr(position, name) for position in portfolio.positions)
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _rate(source: str, target: str, column: Mapping[str, int]) -> tuple[str, int]:
    """Symbol of the exchange rate from ``source`` to ``target``, and its power; ("", 0) where there is none."""
    if source == target:
        return "", 0
    if source + target in column:
        return source + target, 1
    return (target + source, -1) if target + source in column else ("", 0)


def _conversion(rate: str, power: int, column: Mapping[str, int], last_prices: np.ndarray | None) -> float:
    """Money in the book's currency for one unit of the position's; NaN where the rate has no last price."""
    if not rate:
        return 1.0
    return float("nan") if last_prices is None else float(last_prices[column[rate]]) ** power


def _weights_and_value(portfolio: Portfolio, unit_exposures: np.ndarray) -> tuple[np.ndarray, float | None]:
    if portfolio.positions[0].weight is not None:
        return np.array([p.weight for p in portfolio.positions], dtype=float), portfolio.value
    unpriced = [p.symbol for p, unit in _paired(portfolio, unit_exposures) if not np.isfinite(unit)]
    if unpriced:
        raise InvalidPortfolio(
            f"no price is known for {', '.join(unpriced[:5])}", "Give `price` with the position, or weights instead"
        )
    exposures = unit_exposures * np.array([p.quantity for p in portfolio.positions], dtype=float)
    value = portfolio.value if portfolio.value is not None else float(exposures.sum()) + (portfolio.cash or 0.0)
    if value <= 0:
        raise InvalidPortfolio(
            f"portfolio {portfolio.name!r} has the value {value:g}",
            "State its equity as `value`: risk is a fraction of it",
        )
    return exposures / value, value


def _paired(portfolio: Portfolio, array: np.ndarray) -> list[tuple[Position, float]]:
    return list(zip(portfolio.positions, array.tolist(), strict=True))


def _nested(kind: type[Any], fields: Any, what: str) -> Any:
    """One of the portfolio's parts from plain data; unknown keys are refused."""
    if not isinstance(fields, Mapping):
        raise InvalidPortfolio(f"{what} of the portfolio is {fields!r}", "Give a table")
    _refuse_unknown(fields, set(kind.__dataclass_fields__), what)
    values = dict(fields)
    if kind is Mandate and "views" in values:
        if not isinstance(values["views"], (list, tuple)):
            raise InvalidPortfolio(f"views of the mandate are {values['views']!r}", "Give a list of tables")
        values["views"] = tuple(_nested(View, view, "view") for view in values["views"])
    try:
        return kind(**values)
    except (TypeError, AttributeError, ValueError) as error:
        raise InvalidPortfolio(f"{what} of the portfolio does not parse ({error})", "Give all its fields") from error


def _without_none(value: Any) -> Any:
    """Plain data without the keys that hold nothing."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None and inner != ()}
    return [_without_none(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _csv_positions(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets write a byte order mark
        reader = csv.DictReader(lines, skipinitialspace=True)
        if "symbol" not in (reader.fieldnames or []):
            raise InvalidPortfolio(f"{path} has no column `symbol`", "Give a header: symbol,weight or symbol,quantity")
        names = list(reader.fieldnames or [])
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InvalidPortfolio(f"{path} has more than one column {twice[0]!r}", "Leave one of them")
        rows = []
        for row in reader:
            if None in row:
                raise InvalidPortfolio(f"line {reader.line_num} of {path} has too many fields", "Correct the line")
            rows.append({key: _cell(path, reader.line_num, key, text) for key, text in row.items() if text})
        return rows


def _cell(path: Path, line: int, column: str, text: str) -> Any:
    if column in ("symbol", "currency", "group"):
        return text.strip()
    try:
        return float(text)
    except ValueError as error:
        raise InvalidPortfolio(
            f"{column} in line {line} of {path} is {text!r}", "Give a number without separators"
        ) from error


def _refuse_unknown(fields: Mapping[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(set(fields) - known)
    if unknown:
        raise InvalidPortfolio(f"{what} has the unknown key {unknown[0]!r}", f"Known are: {', '.join(sorted(known))}")


def _finite(value: Any, what: str) -> float:
    """``value`` as a float; InvalidPortfolio where it is no finite number (a truth value is none)."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise InvalidPortfolio(f"{what} is {str(value)[:SHOWN]!r}", "Give a finite number")
