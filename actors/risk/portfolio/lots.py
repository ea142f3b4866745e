"""Proposals in whole lots: the nearest that the mandate allows, by a mixed-integer program.

Nearest is by the sum of absolute differences of weight. Lots never take more money, nor more gross exposure, than the
proposal does: what does not fill a lot is left over in cash.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.portfolio.constraints import TOLERANCE, Constraints, measured
from actors.risk.portfolio.sizing import whole_lots
from hive.messages.portfolio import Book
from hive.messages.reports import ConstraintUse

NODES = 5_000  # of the branch and bound, beyond which its best answer is not proved
CLOSE = 1e-9  # of a lot, by which a count may miss a whole number


@dataclass(frozen=True)
class Nearest:
    """Unknowns in whole lots; arrays have shape (n,)."""

    unknowns: np.ndarray
    counts: np.ndarray
    """Lots held, 0 for a position without a lot."""
    method_label: str
    proved: bool
    uses: tuple[ConstraintUse, ...]


def weights_of_lots(book: Book, held: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(weight of one lot of each of the positions ``held``, NaN where there is none; warnings)."""
    sizes = book.lots[held] * book.unit_exposures[held] / (book.value or math.nan)
    sizes = np.where(sizes > 0, sizes, np.nan)
    notes = []
    for place, size in zip(held, sizes.tolist(), strict=True):
        symbol = book.symbols[place]
        if math.isfinite(book.lots[place]) and not math.isfinite(size):
            notes.append(f"whole lots: no price is known for {symbol}; it stays as proposed")
        if size > 1:
            notes.append(f"whole lots: one lot of {symbol} is {size:.4g} times the whole book")
    return sizes, notes


def nearest(
    aim: np.ndarray, constraints: Constraints, sizes: np.ndarray, annual_returns: np.ndarray, *, mandated: bool
) -> Nearest | None:
    """The whole lots nearest to ``aim`` that obey all constraints but the sum; None where there are none.

    Where their number is limited, only positions of the aim are held.

    Parameters
    ----------
    aim : ndarray of shape (n,)
        Unknowns that obey the constraints.
    sizes : ndarray of shape (n,)
        Unknown of one lot, some known; NaN where a position has no lot, which keeps its unknown.
    mandated : bool
        Whether the constraints come from a mandate; if not, signs, money and gross exposure are all there is to keep.
    """
    chosen = np.flatnonzero(np.isfinite(sizes))
    exact, proved = _program(aim, constraints, sizes, annual_returns, chosen)
    down = np.array([whole_lots(aim[place], sizes[place]) / sizes[place] for place in chosen])
    for label, found in (("milp", exact), ("towards_zero", down)):
        if found is None:
            if proved:
                return None
            continue
        counts = np.zeros(len(aim))
        counts[chosen] = np.rint(found)
        unknowns = aim.copy()
        unknowns[chosen] = counts[chosen] * sizes[chosen]
        uses = measured(constraints, unknowns, annual_returns)[1:]
        if all(use.met for use in uses):
            return Nearest(unknowns, counts, label, proved and label == "milp", uses if mandated else ())
    return None


def _program(
    aim: np.ndarray, constraints: Constraints, sizes: np.ndarray, annual_returns: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray | None, bool]:
    """(Lots of the ``chosen`` positions, None without an answer; whether that is proved).

    Unknowns are lots beyond the aim rounded down, z, distances, sizes of changes and of positions. Between whole
    numbers the distance is that on the line through both: the program without whole numbers is a tight bound.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    lot = sizes[chosen]
    unit, m = float(lot.min()), len(chosen)
    base = np.floor(aim[chosen] / lot + CLOSE)
    rest = np.maximum(aim[chosen] / lot - base, 0.0)
    steps = lot / unit
    fixed = aim.copy()
    fixed[chosen] = base * lot
    one, none, zeros = np.eye(m), np.zeros((m, m)), np.zeros(m)
    blocks: list[tuple[np.ndarray, np.ndarray | float, np.ndarray | float]] = [
        (np.hstack([one, one, none, none]), rest, np.inf),
        (np.hstack([-one, one, none, none]), -rest, np.inf),
        (np.hstack([-np.diag(1 - 2 * rest), one, none, none]), rest, np.inf),
    ]
    slack = TOLERANCE / 2

    def limit(loads: np.ndarray, lower: float, upper: float) -> None:
        """Bounds of loads @ unknowns, as bounds of the lots beyond the base."""
        row = np.concatenate([loads[chosen] * steps, zeros, zeros, zeros])[None, :]
        start = float(loads @ fixed)
        blocks.append((row, (lower - start) / unit, (upper - start) / unit))

    ones = np.ones(len(aim))
    limit(ones, -np.inf, max(constraints.total, float(aim.sum())))
    if (constraints.signs < 0).any():
        limit(constraints.signs, -np.inf, float(constraints.signs @ aim))
    for group in constraints.groups:
        limit(group.loads, group.lower - slack, group.upper + slack)
    if constraints.target_return is not None:
        limit(constraints.signs * annual_returns, constraints.target_return - slack, np.inf)
    divisible = np.setdiff1d(np.arange(len(aim)), chosen)
    for most, centre, place in (
        (None if constraints.max_turnover is None else 2 * constraints.max_turnover, constraints.current, 2),
        (constraints.max_gross, np.zeros(len(aim)), 3),
    ):
        if most is None:
            continue
        parts = [none, none]
        parts[place - 2] = one
        away = (centre - fixed)[chosen] / unit
        blocks.append((np.hstack([-np.diag(steps), none, *parts]), -away, np.inf))
        blocks.append((np.hstack([np.diag(steps), none, *parts]), away, np.inf))
        spent = float(np.abs(aim - centre)[divisible].sum())
        row = np.zeros((1, 4 * m))
        row[0, place * m : (place + 1) * m] = 1.0
        blocks.append((row, -np.inf, (most + slack - spent) / unit))
    low = np.ceil((constraints.lower[chosen] - CLOSE) / lot - CLOSE) - base
    high = np.floor((constraints.upper[chosen] + CLOSE) / lot + CLOSE) - base
    if constraints.max_positions is not None:
        out = np.abs(aim[chosen]) <= TOLERANCE
        low, high = np.where(out, np.maximum(low, -base), low), np.where(out, np.minimum(high, -base), high)
    if (low > high).any():
        return None, True
    found = milp(
        np.concatenate([zeros, steps, zeros, zeros]),
        constraints=[LinearConstraint(*block) for block in blocks],
        bounds=Bounds(np.concatenate([low, np.zeros(3 * m)]), np.concatenate([high, np.full(3 * m, np.inf)])),
        integrality=np.concatenate([np.ones(m), np.zeros(3 * m)]),
        options={"node_limit": NODES, "mip_rel_gap": 0.0},
    )
    return None if found.x is None else base + np.rint(found.x[:m]), found.status in (0, 2)
