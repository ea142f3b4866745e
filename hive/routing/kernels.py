# mypy: disable-error-code="untyped-decorator"
"""The routing page, compiled: where everything lies in it, and how a caller chooses an instance from it.

The page's memory is three things. A head that the hub writes once. A body under a sequence lock, one row an instance,
that the hub alone writes (:mod:`cluster.lanes.page`). And a table of counts, a line of cells for every row and a column
for every process that asks: how many questions of that process the instance has not answered yet. An instance's load is
the sum of its cells.

Each cell is written by one process alone, and when that process ends, however, the hub clears its column. So a caller
that dies between counting and asking, or between asking and hearing, leaves nothing wrong behind it, which a counter
that all share could not promise. The instances themselves neither write nor read any of this: their loops stay as they
are. A choice reads the cells of two rows, eight callers to a cache line; the rings' own indices would be exact as well,
but lie on two lines and a page a lane. Questions over lanes that were opened by an instance's name are not counted.

A caller chooses from a copy of the body of its own, which it renews when the version has moved. A page that is being
written, or whose writer died inside a write, is left alone: the last whole one is believed meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cluster.lanes import page
from cluster.lanes.atomics import add, load_acquire
from cluster.lanes.layout import LINE

VERSION = 1
MOST_ROWS = 128
MOST_CALLERS = 64

# Head, written by the hub.
IDENTITY = 0  # random and positive
LAYOUT = 1  # version of this layout and of the roles' codes
COLUMNS = 2  # callers' columns that were ever given away; a word that readers load by itself
PAGE_AT = LINE

# Body: a line that says how many rows there are, then the rows.
ROW = 8  # words
ROLE, NUMBER, SERVING, PASSED_OVER, PLACE, PID, STARTED, LIFE = range(ROW)
BODY = ROW * (1 + MOST_ROWS)
ELSEWHERE, SOMEWHERE = -2, -1  # places that are no NUMA node: another machine; this one, but no node in particular

CELLS = PAGE_AT + LINE + BODY + LINE - BODY % LINE
WORDS = CELLS + MOST_ROWS * MOST_CALLERS

# A caller's own memory, int64 (STATE,), beside its copies of the body, int64 (2, BODY): the one it believes and the one
# it reads into.
RANDOM, SEEN, COLUMN, NODE = range(4)
CANDIDATES = 4
STATE = CANDIDATES + MOST_ROWS

# Nothing here allocates: Numba need count no references. And nothing here waits: with the interpreter held, threads of
# one process share a state and its copies, and none of them sees half of what another one does.
OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}

NOBODY = -1
OTHER_NODE, OTHER_MACHINE, WORSE = 1, 2, 3  # what a candidate is ranked by; the last is added to one that keeps failing


@njit(**OPTIONS)
def choose(words: np.ndarray, copies: np.ndarray, state: np.ndarray, role: int, avoided: int) -> int:
    """Row of the instance of ``role`` to ask next, ``NOBODY`` where none serves; never the row ``avoided``.

    Those that keep failing come last; then those of this node, of this machine, of others, in this order. Among equals
    two are drawn and the one with fewer questions before it is taken (Mitzenmacher, "The Power of Two Choices in
    Randomized Load Balancing", 2001).
    """
    renew(words, copies, state)
    best, found = 2 * WORSE, 0
    for row in range(min(copies[0, 0], MOST_ROWS)):
        at = ROW * (1 + row)
        if copies[0, at + ROLE] != role or copies[0, at + SERVING] == 0 or row == avoided:
            continue
        rank = 0
        if copies[0, at + PLACE] == ELSEWHERE:
            rank = OTHER_MACHINE
        elif copies[0, at + PLACE] != state[NODE]:
            rank = OTHER_NODE
        if copies[0, at + PASSED_OVER] != 0:
            rank += WORSE
        if rank < best:
            best, found = rank, 0
        if rank == best:
            state[CANDIDATES + found] = row
            found += 1
    if found == 0:
        return NOBODY
    if found == 1:
        return int(state[CANDIDATES])
    first = _drawn(state, found)
    second = _drawn(state, found - 1)
    second += 1 if second >= first else 0
    one, other = state[CANDIDATES + first], state[CANDIDATES + second]
    return int(other if load(words, other) < load(words, one) else one)


@njit(**OPTIONS)
def take(words: np.ndarray, copies: np.ndarray, state: np.ndarray, role: int, lives: np.ndarray) -> int:
    """:func:`choose` and :func:`count` one question more, where the way to the chosen life is open.

    ``lives`` holds, for every row, the life that the caller has a lane to. ``NOBODY`` where it has none to this one:
    then nothing is counted.
    """
    row = choose(words, copies, state, role, NOBODY)
    if row == NOBODY or lives[row] != copies[0, ROW * (1 + row) + LIFE]:
        return NOBODY
    count(words, state, row, 1)
    return int(row)


@njit(**OPTIONS)
def renew(words: np.ndarray, copies: np.ndarray, state: np.ndarray) -> None:
    """Take up a page that was written since; one that is not whole changes nothing."""
    version = load_acquire(words, PAGE_AT)
    if version == state[SEEN] or version & 1:
        return
    seen = page.read(words, PAGE_AT, copies[1])
    if seen != page.UNREADABLE:
        for i in range(BODY):
            copies[0, i] = copies[1, i]
        state[SEEN] = seen


@njit(**OPTIONS)
def load(words: np.ndarray, row: int) -> int:
    """Questions that an instance has before it, those of every caller together."""
    total = 0
    for column in range(min(load_acquire(words, COLUMNS), MOST_CALLERS)):
        total += load_acquire(words, CELLS + row * MOST_CALLERS + column)
    return total


@njit(**OPTIONS)
def count(words: np.ndarray, state: np.ndarray, row: int, change: int) -> None:
    """Add to this process's count of a row. Threads of one process share the cell, hence the atomic addition."""
    if state[COLUMN] >= 0:
        add(words, CELLS + row * MOST_CALLERS + state[COLUMN], change)


@njit(**OPTIONS)
def _drawn(state: np.ndarray, below: int) -> int:
    """A whole number from 0 to less than ``below``, by a xorshift of 32 bits (Marsaglia, 2003)."""
    number = state[RANDOM]
    number ^= (number << 13) & 0xFFFFFFFF
    number ^= number >> 17
    number ^= (number << 5) & 0xFFFFFFFF
    state[RANDOM] = number
    return int((number * below) >> 32)


def warm() -> None:
    """Compile everything above for what it is called with."""
    words, copies, state = np.zeros(WORDS, np.int64), np.zeros((2, BODY), np.int64), np.ones(STATE, np.int64)
    page.write(words, PAGE_AT, np.zeros(BODY, np.int64))
    choose(words, copies, state, 1, NOBODY)
    take(words, copies, state, 1, np.zeros(MOST_ROWS, np.int64))
    count(words, state, 0, 1)
    load(words, 0)
