"""Accounts and instruments from a TOML file.

::

    [accounts.main]
    cash = 1e7
    loan = 0.0
    positions = { AAPL = 100 }

    [instruments.AAPL]
    tick = 0.01
    lot = 1
    max_position = 50000

    [defaults]        # of instruments that are not named
    lot = 1
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cluster.errors import InvalidPortfolio

REMEDY = "Correct the file that `gate.book` names"


@dataclass(frozen=True)
class Instrument:
    """What the gate must know of a symbol."""

    symbol: str
    tick: float = 0.01
    """Limit prices are multiples of it, money."""
    lot: float = 1.0
    """Quantities are multiples of it, units."""
    max_position: float = math.inf
    """Largest position, long or short, units."""

    def __post_init__(self) -> None:
        if not (0 < self.tick < math.inf and 0 < self.lot < math.inf and self.max_position > 0):
            raise InvalidPortfolio(f"the instrument {self} has no positive tick, lot and limit", "Correct it")


@dataclass(frozen=True)
class Account:
    """What an account brings."""

    name: str
    cash: float
    loan: float = 0.0
    """What it may owe beyond its cash, money."""
    positions: Mapping[str, float] = field(default_factory=dict)
    """Signed units by symbol."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(x) for x in (self.cash, self.loan, *self.positions.values())) or self.loan < 0:
            raise InvalidPortfolio(f"the account {self.name} holds what is no number", "Give finite numbers")


DEFAULT = Account("main", 1e7)


@dataclass(frozen=True)
class Book:
    """Who may trade what."""

    accounts: tuple[Account, ...] = (DEFAULT,)
    named: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Fields of :class:`Instrument` by symbol."""
    defaults: Mapping[str, float] = field(default_factory=dict)

    def instruments(self, symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
        """One of each symbol of a market.

        Raises
        ------
        InvalidPortfolio
            The book names a symbol that the market lacks.
        """
        strange = sorted(set(self.named) - set(symbols))
        if strange:
            raise InvalidPortfolio(f"the gate's book names {strange[0]}, which the snapshot lacks", REMEDY)
        return tuple(Instrument(symbol, **{**self.defaults, **self.named.get(symbol, {})}) for symbol in symbols)


def read(path: str) -> Book:
    """The book of a file; the default one where no file is named.

    Raises
    ------
    InvalidPortfolio
        The file cannot be read, or says what no book says.
    """
    if not path:
        return Book()
    try:
        tree = tomllib.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError) as error:
        raise InvalidPortfolio(f"the gate's book {path} cannot be read ({error})", REMEDY) from error
    _known(tree, {"accounts", "instruments", "defaults"}, path)
    accounts = _table(tree, "accounts", path)
    if not accounts:
        raise InvalidPortfolio(f"the gate's book {path} has no account", "Add one as [accounts.main] with its cash")
    numbers = {item.name for item in fields(Instrument)} - {"symbol"}
    named = {
        symbol: _numbers(_table(tree["instruments"], symbol, path), numbers, path)
        for symbol in _table(tree, "instruments", path)
    }
    found = Book(
        tuple(_account(name, _table(accounts, name, path), path) for name in accounts),
        named,
        _numbers(_table(tree, "defaults", path), numbers, path),
    )
    found.instruments((*named, "any other"))  # refuses ticks and lots that are none
    return found


def _account(name: str, fields_: Mapping[str, Any], path: str) -> Account:
    _known(fields_, {"cash", "loan", "positions"}, path)
    if "cash" not in fields_:
        raise InvalidPortfolio(f"the account {name} of {path} has no cash", REMEDY)
    money = _numbers({k: v for k, v in fields_.items() if k != "positions"}, {"cash", "loan"}, path)
    positions = _table(fields_, "positions", path)
    return Account(name, positions=_numbers(positions, set(positions), path), **money)


def _table(tree: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    found = tree.get(key, {})
    if not isinstance(found, dict):
        raise InvalidPortfolio(f"{key} in {path} is {found!r}", "Make it a table")
    return found


def _numbers(found: Mapping[str, Any], names: set[str], path: str) -> dict[str, float]:
    _known(found, names, path)
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidPortfolio(f"{key} in {path} is {value!r}", "Give a number")
    return {key: float(value) for key, value in found.items()}


def _known(found: Mapping[str, Any], names: set[str], path: str) -> None:
    strange = sorted(set(found) - names)
    if strange:
        raise InvalidPortfolio(f"{strange[0]} in {path} is unknown", f"Known are: {', '.join(sorted(names))}")
