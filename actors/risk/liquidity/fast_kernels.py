# mypy: disable-error-code="call-overload, untyped-decorator"
"""What the liquidity agent answers in microseconds: days, cost, score and stress index of a book."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH
from actors.risk.liquidity.kernels import DEPTH, EXPOSURE, SPREAD, VOLUME, assess_book
from cluster.lanes.layout import BAD_INPUT, OK, SLOT_CODE, SLOT_HEADER, UNKNOWN_OPERATION
from cluster.lanes.serving import COUNT, REPLY, SIZE, finish, idle, next_request

BOOK = 1
VALUE = 5  # place of the book's value among the limits


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def answer(
    operation: int, question: np.ndarray, reply: np.ndarray, table: np.ndarray, limits: np.ndarray
) -> tuple[int, int]:
    """(code, numbers in ``reply``): slowest days, cost in money, score and stress index (:func:`.kernels.assess_book`).

    The question is the book's value, then by symbol its exposures, the money traded on an average day, spreads, and
    depths in money; NaN where one of the latter three is not known: 1 + 4 n numbers.
    """
    if operation != BOOK:
        return UNKNOWN_OPERATION, 0
    n = table.shape[1]
    if question.size != 1 + 4 * n or not (0.0 < question[0] < np.inf):
        return BAD_INPUT, 0
    limits[VALUE] = question[0]
    for i in range(n):
        table[EXPOSURE, i] = question[1 + i]
        table[VOLUME, i] = question[1 + n + i]
        table[SPREAD, i] = question[1 + 2 * n + i]
        table[DEPTH, i] = question[1 + 3 * n + i]
    known = assess_book(table, limits, reply[:4])
    return (OK, 4) if known >= 0 else (BAD_INPUT, 0)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def serve(
    words: np.ndarray,
    numbers: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    table: np.ndarray,
    limits: np.ndarray,
) -> int:
    """Answer every lane until the thread is wanted."""
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return int(slot)
        question = numbers[slot + SLOT_HEADER : slot + SLOT_HEADER + hand[COUNT]]
        reply = numbers[hand[REPLY] + SLOT_HEADER : hand[REPLY] + hand[SIZE]]
        code, count = answer(words[slot + SLOT_CODE], question, reply, table, limits)
        finish(words, own, hand, code, count)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    state = np.ones((8, 2)), np.ones(6)
    answer(BOOK, np.ones(9), np.empty(6), *state)
    serve(*idle(), *state)
