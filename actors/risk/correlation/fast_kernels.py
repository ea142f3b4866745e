# mypy: disable-error-code="call-overload, untyped-decorator"
"""What the correlation agent answers in microseconds: the resident correlation, its watch, and a book under it."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH
from cluster.lanes.layout import BAD_INPUT, OK, SLOT_CODE, SLOT_HEADER, UNKNOWN_OPERATION
from cluster.lanes.serving import COUNT, REPLY, SIZE, finish, idle, next_request

BOOK = 1
MEAN_CORRELATION, RISEN, FALLEN, VOLATILITY, DIVERSIFICATION = range(5)
"""Places of the answer: mean pair correlation, the two change statistics, daily volatility, diversification ratio."""


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def answer(
    operation: int, question: np.ndarray, reply: np.ndarray, matrix: np.ndarray, state: np.ndarray
) -> tuple[int, int]:
    """(code, numbers in ``reply``) for n weights.

    ``matrix`` holds the exponentially weighted covariance in its upper triangle, ``state`` is that of
    :mod:`.kernels`. The diversification ratio is the weighted mean of deviations over the book's (Choueifaty &
    Coignard 2008); NaN for a book that does not move.
    """
    if operation != BOOK:
        return UNKNOWN_OPERATION, 0
    n = matrix.shape[0]
    if question.size != n:
        return BAD_INPUT, 0
    variance = 0.0
    alone = 0.0
    for i in range(n):
        row = 0.0
        for j in range(i + 1, n):
            row += matrix[i, j] * question[j]
        variance += question[i] * (matrix[i, i] * question[i] + 2.0 * row)
        alone += abs(question[i]) * np.sqrt(matrix[i, i])
    if not (abs(variance) < np.inf):
        return BAD_INPUT, 0
    deviation = np.sqrt(max(0.0, variance))
    reply[MEAN_CORRELATION], reply[RISEN], reply[FALLEN] = state[3], state[0], state[1]
    reply[VOLATILITY] = deviation
    reply[DIVERSIFICATION] = alone / deviation if deviation > 0.0 else np.nan
    return OK, 5


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def serve(
    words: np.ndarray,
    numbers: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    matrix: np.ndarray,
    state: np.ndarray,
) -> int:
    """Answer every lane until the thread is wanted."""
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return int(slot)
        question = numbers[slot + SLOT_HEADER : slot + SLOT_HEADER + hand[COUNT]]
        reply = numbers[hand[REPLY] + SLOT_HEADER : hand[REPLY] + hand[SIZE]]
        code, count = answer(words[slot + SLOT_CODE], question, reply, matrix, state)
        finish(words, own, hand, code, count)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    state = np.eye(2), np.zeros(7)
    answer(BOOK, np.ones(2), np.empty(6), *state)
    serve(*idle(), *state)
