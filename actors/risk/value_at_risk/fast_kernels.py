# mypy: disable-error-code="call-overload, untyped-decorator"
"""What the value-at-risk agent answers in microseconds: the tail of weights over the snapshot's symbols."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH
from actors.risk.value_at_risk.kernels import historical_contributions, historical_tail, parametric_tail
from cluster.lanes.layout import BAD_INPUT, OK, SLOT_CODE, SLOT_HEADER, UNKNOWN_OPERATION
from cluster.lanes.serving import COUNT, REPLY, SIZE, finish, idle, next_request

PARAMETRIC, HISTORICAL, HISTORICAL_COMPONENTS = 1, 2, 3
MARGIN = 0.1  # of the distance from VaR to CVaR, by which the next guess lies below the last VaR


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def answer(
    operation: int,
    question: np.ndarray,
    reply: np.ndarray,
    moments: np.ndarray,
    by_symbol: np.ndarray,
    levels: np.ndarray,
    work: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, int]:
    """(code, numbers in ``reply``) for a question of a confidence and n weights.

    PARAMETRIC and HISTORICAL_COMPONENTS give VaR, CVaR and the components of both, 2 + 2 n numbers; HISTORICAL gives
    VaR and CVaR. ``levels`` has a row a confidence: itself, its normal quantile, the density there over 1 - confidence,
    and a loss a little below the last VaR or NaN.
    """
    n = by_symbol.shape[0]
    if question.size != n + 1:
        return BAD_INPUT, 0
    level = -1
    for i in range(levels.shape[0]):
        if levels[i, 0] == question[0]:
            level = i
    if level < 0:
        return BAD_INPUT, 0
    weights, found = question[1:], reply[: 2 + 2 * n]
    if operation == PARAMETRIC:
        var = parametric_tail(moments, weights, levels[level, 1], levels[level, 2], found)
        return (OK, 2 + 2 * n) if abs(var) < np.inf else (BAD_INPUT, 0)
    if operation == HISTORICAL:
        found[0], found[1] = historical_tail(by_symbol, weights, levels[level, 0], work, levels[level, 3])
        count = 2
    elif operation == HISTORICAL_COMPONENTS:
        historical_contributions(by_symbol, weights, levels[level, 0], work, rows, levels[level, 3], found)
        count = 2 + 2 * n
    else:
        return UNKNOWN_OPERATION, 0
    if not (abs(found[0]) < np.inf):
        return BAD_INPUT, 0
    levels[level, 3] = found[0] - MARGIN * (found[1] - found[0])
    return OK, count


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def serve(
    words: np.ndarray,
    numbers: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    moments: np.ndarray,
    by_symbol: np.ndarray,
    levels: np.ndarray,
    work: np.ndarray,
    rows: np.ndarray,
) -> int:
    """Answer every lane until the thread is wanted."""
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return int(slot)
        question = numbers[slot + SLOT_HEADER : slot + SLOT_HEADER + hand[COUNT]]
        reply = numbers[hand[REPLY] + SLOT_HEADER : hand[REPLY] + hand[SIZE]]
        code, count = answer(words[slot + SLOT_CODE], question, reply, moments, by_symbol, levels, work, rows)
        finish(words, own, hand, code, count)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    state = (
        np.zeros((3, 2)),
        np.zeros((2, 40)),
        np.array([[0.95, 1.6, 2.0, np.nan]]),
        np.empty((2, 40)),
        np.empty(40, np.int64),
    )
    answer(PARAMETRIC, np.ones(3), np.empty(6), *state)
    serve(*idle(), *state)
