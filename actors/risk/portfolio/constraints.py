"""The mandate as constraints on weights: built once, measured on every proposal, and explained where they conflict.

Weights are solved for in a space of their own. Without bounds that let a weight change its sign, positions keep theirs:
the unknowns are magnitudes, and they sum to the book's gross exposure. With such bounds the unknowns are the weights,
and they sum to the book's net exposure; positions whose own bounds do not reach over zero keep their sign there too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cluster.errors import InvalidPortfolio
from hive.messages.mandate import Mandate
from hive.messages.portfolio import Book
from hive.messages.reports import ConstraintUse

TOLERANCE = 1e-6  # by which a proposal may miss a constraint, fractions of value: what the convex solvers leave
BINDING = 1e-4  # distance from a bound within which it binds
TRADING_DAYS = 252


@dataclass(frozen=True)
class Group:
    """Bounds of the net weight of some positions: lower <= loads @ unknowns <= upper."""

    name: str
    loads: np.ndarray
    lower: float
    upper: float


@dataclass(frozen=True)
class Constraints:
    """What the unknowns must obey; arrays have shape (n,), n the positions that take part."""

    symbols: tuple[str, ...]
    signs: np.ndarray
    """Weight = sign x unknown."""
    current: np.ndarray
    """Unknowns of the book as it is."""
    lower: np.ndarray
    upper: np.ndarray
    total: float
    """Sum of the unknowns."""
    groups: tuple[Group, ...] = ()
    max_turnover: float | None = None
    max_positions: int | None = None
    max_gross: float | None = None
    target_return: float | None = None
    """A year, a fraction."""

    @property
    def plain(self) -> bool:
        """Whether there is nothing but the sum and signs kept."""
        extra = (self.max_turnover, self.max_positions, self.max_gross, self.target_return)
        return (
            not self.groups
            and all(limit is None for limit in extra)
            and bool((self.lower == 0).all() and (self.upper >= self.total).all())
        )

    def within(self, chosen: np.ndarray) -> Constraints:
        """The same with all but the ``chosen`` unknowns (a mask) held at zero."""
        return replace(
            self, lower=np.where(chosen, self.lower, 0.0), upper=np.where(chosen, self.upper, 0.0), max_positions=None
        )


def taking_part(book: Book) -> np.ndarray:
    """Places of the positions that have weight or that the mandate names in bounds, views or risk budgets."""
    mandate = book.mandate or Mandate()
    named = {symbol for symbol, span in (mandate.bounds or {}).items() if any(span)}
    named |= {symbol for view in mandate.views for symbol, load in view.weights.items() if load}
    named |= set(mandate.risk_budgets or {})
    return np.flatnonzero((book.weights != 0) | np.array([symbol in named for symbol in book.symbols]))


def constraints_of(book: Book, held: np.ndarray) -> Constraints:
    """Constraints of the book's mandate on the positions ``held`` (places).

    Raises
    ------
    InvalidPortfolio
        The mandate names a symbol or group that the book does not have, or its risk budgets leave a position out.
    """
    mandate = book.mandate or Mandate()
    symbols = tuple(book.symbols[place] for place in held)
    _refuse_strangers(mandate, book)
    weights = book.weights[held]
    own = {place: mandate.bounds[s] for place, s in enumerate(symbols) if mandate.bounds and s in mandate.bounds}
    kept = np.where(weights < 0, -1.0, 1.0)  # the sign of each weight, where it keeps one
    for place, (least, most) in own.items():
        if any((least, most)) and not least < 0 < most:
            kept[place] = 1.0 if most > 0 else -1.0
    free_signs = mandate.min_weight is not None or any(least < 0 < most for least, most in own.values())
    signs = np.ones(len(held)) if free_signs else kept
    gross = float(np.abs(weights).sum())
    total = float(weights.sum()) if free_signs else gross
    reach = max(gross, mandate.max_gross or 0.0)
    most_held = reach if mandate.max_weight is None else mandate.max_weight
    if mandate.min_weight is not None:
        low, high = np.full(len(held), mandate.min_weight), np.full(len(held), most_held)
    else:
        most_held = most_held if free_signs else min(most_held, reach)
        sides = signs * kept
        low, high = np.where(sides > 0, 0.0, -most_held), np.where(sides > 0, most_held, 0.0)
    for place, span in own.items():
        low[place], high[place] = sorted(signs[place] * bound for bound in span)
    for place, symbol in enumerate(symbols):
        if symbol in mandate.forbidden:
            low[place] = high[place] = 0.0
    _refuse_missing_budgets(mandate, symbols, (low != 0) | (high != 0))
    return Constraints(
        symbols=symbols,
        signs=signs,
        current=signs * weights,
        lower=low,
        upper=high,
        total=total,
        groups=tuple(
            Group(name, signs * np.array([book.groups[place] == name for place in held], float), *span)
            for name, span in (mandate.groups or {}).items()
        ),
        max_turnover=mandate.max_turnover,
        max_positions=mandate.max_positions,
        max_gross=mandate.max_gross,
        target_return=mandate.target_return,
    )


def measured(constraints: Constraints, unknowns: np.ndarray, annual_returns: np.ndarray) -> tuple[ConstraintUse, ...]:
    """Every constraint on these unknowns, met or not; bounds of single weights are summed up in their worst."""
    over = float(max((unknowns - constraints.upper).max(), (constraints.lower - unknowns).max()))
    uses = [
        _use("sum of weights", float(unknowns.sum()), constraints.total, constraints.total),
        ConstraintUse(
            name="weight bounds, worst excess",
            value=max(0.0, over),
            lower=None,
            upper=0.0,
            met=over <= TOLERANCE,
            binding=bool(((unknowns > constraints.upper - BINDING) & (constraints.upper > constraints.lower)).any()),
        ),
    ]
    uses += [_use(f"group {g.name}", float(g.loads @ unknowns), g.lower, g.upper) for g in constraints.groups]
    if constraints.max_turnover is not None:
        turnover = float(np.abs(unknowns - constraints.current).sum() / 2)
        uses.append(_use("turnover", turnover, None, constraints.max_turnover))
    if constraints.max_gross is not None:
        uses.append(_use("gross exposure", float(np.abs(unknowns).sum()), None, constraints.max_gross))
    if constraints.max_positions is not None:
        count = float((np.abs(unknowns) > TOLERANCE).sum())
        uses.append(_use("positions", count, None, float(constraints.max_positions)))
    if constraints.target_return is not None:
        expected = float((constraints.signs * annual_returns) @ unknowns)
        uses.append(_use("expected return", expected, constraints.target_return, None))
    return tuple(uses)


def refuse_infeasible(constraints: Constraints, annual_returns: np.ndarray) -> None:
    """Raise where no weights obey all constraints, naming a smallest set of them that conflict.

    Raises
    ------
    InvalidPortfolio
        With the constraints that cannot hold together.
    """
    parts = _parts(constraints)
    if _program(constraints, annual_returns, parts) is not None:
        return
    for part in tuple(parts):  # deletion filter: what can be dropped without making it feasible is not to blame
        rest = tuple(other for other in parts if other != part)
        if _program(constraints, annual_returns, rest) is None:
            parts = rest
    raise InvalidPortfolio(
        f"no portfolio obeys {' and '.join(parts)} together", "Loosen one of these constraints of the mandate"
    )


def best_support(constraints: Constraints, annual_returns: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mask of at most ``max_positions`` positions that can obey all constraints and keep most of ``wanted``.

    Raises
    ------
    InvalidPortfolio
        There are none.
    """
    found = _program(constraints, annual_returns, _parts(constraints), np.abs(wanted))
    if found is None:
        refuse_infeasible(constraints, annual_returns)
        raise InvalidPortfolio("no portfolio obeys the mandate", "Loosen it")
    return found


def _parts(constraints: Constraints) -> tuple[str, ...]:
    named = ["the weight bounds", f"the sum of weights {constraints.total:.4g}"]
    named += [f"group {group.name} in [{group.lower:g}, {group.upper:g}]" for group in constraints.groups]
    if constraints.max_turnover is not None:
        named.append(f"turnover up to {constraints.max_turnover:g}")
    if constraints.max_gross is not None:
        named.append(f"gross exposure up to {constraints.max_gross:g}")
    if constraints.max_positions is not None:
        named.append(f"at most {constraints.max_positions} positions")
    if constraints.target_return is not None:
        named.append(f"an expected return of {constraints.target_return:g} a year")
    return tuple(named)


def _program(
    constraints: Constraints, annual_returns: np.ndarray, parts: tuple[str, ...], wanted: np.ndarray | None = None
) -> np.ndarray | None:
    """Positions of a portfolio that obeys the named parts, as many of the ``wanted`` as can be; None without one.

    A mixed-integer program in the unknowns x, in sizes >= |x|, changes >= |x - current|, and in whether a position is.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    n = len(constraints.symbols)
    zeros, ones, none, one = np.zeros(n), np.ones(n), np.zeros((n, n)), np.eye(n)
    reach = float(max(np.abs(constraints.upper).max(), np.abs(constraints.lower).max(), abs(constraints.total), 1.0))
    blocks: list[tuple[np.ndarray, np.ndarray | float, np.ndarray | float]] = [
        (np.hstack([one, -one, none, none]), -np.inf, 0.0),
        (np.hstack([-one, -one, none, none]), -np.inf, 0.0),
        (np.hstack([one, none, -one, none]), -np.inf, constraints.current),
        (np.hstack([-one, none, -one, none]), -np.inf, -constraints.current),
        (np.hstack([none, one, none, -2 * reach * one]), -np.inf, 0.0),
    ]
    low, high = np.full(n, -2 * reach), np.full(n, 2 * reach)

    def row(x: np.ndarray, size: np.ndarray, change: np.ndarray, held: np.ndarray) -> np.ndarray:
        return np.concatenate([x, size, change, held])[None, :]

    for part in parts:
        if part == "the weight bounds":
            low, high = constraints.lower, constraints.upper
        elif part.startswith("the sum"):
            blocks.append((row(ones, zeros, zeros, zeros), constraints.total, constraints.total))
        elif part.startswith("turnover"):
            blocks.append((row(zeros, zeros, ones, zeros), -np.inf, 2 * (constraints.max_turnover or 0.0)))
        elif part.startswith("gross"):
            blocks.append((row(zeros, ones, zeros, zeros), -np.inf, constraints.max_gross or 0.0))
        elif part.startswith("at most"):
            blocks.append((row(zeros, zeros, zeros, ones), -np.inf, float(constraints.max_positions or n)))
        elif part.startswith("an expected"):
            gain = constraints.signs * annual_returns
            blocks.append((row(gain, zeros, zeros, zeros), constraints.target_return or 0.0, np.inf))
        else:
            group = next(g for g in constraints.groups if part.startswith(f"group {g.name} in "))
            blocks.append((row(group.loads, zeros, zeros, zeros), group.lower, group.upper))
    found = milp(
        np.concatenate([zeros, zeros, zeros, -wanted if wanted is not None else zeros]),
        constraints=[LinearConstraint(*block) for block in blocks],
        bounds=Bounds(np.concatenate([low, zeros, zeros, zeros]), np.concatenate([high, np.full(2 * n, np.inf), ones])),
        integrality=np.concatenate([zeros, zeros, zeros, ones]),
    )
    return None if found.x is None else np.asarray(found.x[3 * n :] > 0.5)


def _use(name: str, value: float, lower: float | None, upper: float | None) -> ConstraintUse:
    low, high = lower if lower is not None else -math.inf, upper if upper is not None else math.inf
    return ConstraintUse(
        name=name,
        value=value,
        lower=lower,
        upper=upper,
        met=low - TOLERANCE <= value <= high + TOLERANCE,
        binding=min(value - low, high - value) <= BINDING,
    )


def _refuse_strangers(mandate: Mandate, book: Book) -> None:
    named = {
        "bounds": set(mandate.bounds or {}),
        "forbidden": set(mandate.forbidden),
        "risk_budgets": set(mandate.risk_budgets or {}),
        "views": {symbol for view in mandate.views for symbol in view.weights},
    }
    for what, symbols in named.items():
        strangers = sorted(symbols - set(book.symbols))
        if strangers:
            raise InvalidPortfolio(
                f"{what} of the mandate name {strangers[0]}, which the book does not hold",
                "Add it as a position of weight 0, or name the book's symbols",
            )
    strangers = sorted(set(mandate.groups or {}) - set(book.groups))
    if strangers:
        raise InvalidPortfolio(
            f"the mandate bounds the group {strangers[0]!r}, which no position names", "Give positions a `group`"
        )


def _refuse_missing_budgets(mandate: Mandate, symbols: tuple[str, ...], allowed: np.ndarray) -> None:
    if mandate.risk_budgets is None:
        return
    missing = [s for s, may in zip(symbols, allowed.tolist(), strict=True) if may and s not in mandate.risk_budgets]
    if missing:
        raise InvalidPortfolio(
            f"risk_budgets of the mandate leave out {', '.join(missing[:5])}",
            "Give a share of risk to every position that the book or the mandate puts to choice",
        )
