# mypy: disable-error-code="call-overload, untyped-decorator"
"""What the portfolio agent answers in microseconds: risk budgets, and least variance within boxes, both kept warm."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH
from actors.risk.portfolio.kernels import SLACK, minimum_variance, risk_budgets
from cluster.lanes.layout import BAD_INPUT, OK, SLOT_CODE, SLOT_HEADER, UNKNOWN_OPERATION
from cluster.lanes.serving import COUNT, REPLY, SIZE, finish, idle, next_request

RISK_BUDGETS, MINIMUM_VARIANCE = 1, 2
TOLERANCE, MAX_SWEEPS = 1e-8, 500


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def answer(
    operation: int,
    question: np.ndarray,
    reply: np.ndarray,
    covariance: np.ndarray,
    kept: np.ndarray,
    places: np.ndarray,
    work: np.ndarray,
) -> tuple[int, int]:
    """(code, numbers in ``reply``): n weights that sum to 1.

    RISK_BUDGETS takes n positive budgets that sum to 1; MINIMUM_VARIANCE n upper bounds, none below 0. ``kept`` holds
    the last weights of either, then bounds and rewards, shape (5, n); ``places`` (2, n) and ``work`` (n + 4, n) are the
    solver's own.
    """
    n = covariance.shape[0]
    if question.size != n:
        return BAD_INPUT, 0
    total = 0.0
    least = np.inf
    for i in range(n):
        total += question[i]
        least = min(least, question[i])
    if operation == RISK_BUDGETS:
        if not (least > 0.0) or not (abs(total - 1.0) < 1e-9):
            return BAD_INPUT, 0
        weights = kept[0]
        if risk_budgets(covariance, question, weights, TOLERANCE, MAX_SWEEPS) < 0:
            weights[:] = 1.0
            return BAD_INPUT, 0
    elif operation == MINIMUM_VARIANCE:
        if not (least >= 0.0) or not (1.0 - SLACK <= total < np.inf):
            return BAD_INPUT, 0
        weights, lower, upper = kept[1], kept[2], kept[3]
        same = True
        for i in range(n):
            same = same and upper[i] == question[i]
            upper[i] = question[i]
        if not same:  # other boxes: start from within them
            places[:] = 0
            for i in range(n):
                weights[i] = upper[i] / total
        if minimum_variance(covariance, kept[4], lower, upper, 1.0, weights, places, work, 20 * n + 20) < 0:
            upper[:] = np.nan
            return BAD_INPUT, 0
    else:
        return UNKNOWN_OPERATION, 0
    for i in range(n):
        reply[i] = weights[i]
    return OK, n


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def serve(
    words: np.ndarray,
    numbers: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    covariance: np.ndarray,
    kept: np.ndarray,
    places: np.ndarray,
    work: np.ndarray,
) -> int:
    """Answer every lane until the thread is wanted."""
    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return int(slot)
        question = numbers[slot + SLOT_HEADER : slot + SLOT_HEADER + hand[COUNT]]
        reply = numbers[hand[REPLY] + SLOT_HEADER : hand[REPLY] + hand[SIZE]]
        code, count = answer(words[slot + SLOT_CODE], question, reply, covariance, kept, places, work)
        finish(words, own, hand, code, count)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    state = np.eye(2), np.ones((5, 2)), np.zeros((2, 2), np.int64), np.empty((6, 2))
    answer(RISK_BUDGETS, np.full(2, 0.5), np.empty(6), *state)
    serve(*idle(), *state)
