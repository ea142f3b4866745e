# mypy: disable-error-code="call-overload, untyped-decorator"
"""What the stress agent answers in microseconds: the named windows, market moves and simulated scenarios."""

from __future__ import annotations

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH, weighted_rows
from actors.risk.stress.kernels import simulated_tail
from cluster.lanes.layout import BAD_INPUT, OK, SLOT_CODE, SLOT_HEADER, UNKNOWN_OPERATION
from cluster.lanes.serving import COUNT, REPLY, SIZE, finish, idle, next_request

SCENARIOS, SIMULATED = 1, 2


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def window_losses(
    weights: np.ndarray, by_symbol: np.ndarray, starts: np.ndarray, daily: np.ndarray, losses: np.ndarray
) -> None:
    """Loss of every window, weights held constant and compounded; a book that is wiped out stays so.

    Parameters
    ----------
    by_symbol : ndarray of shape (n, days)
        Returns of all windows, one behind the other.
    starts : int64 ndarray of shape (windows + 1,)
        First day of every window, and the end of the last.
    """
    weighted_rows(by_symbol, weights, 1.0, daily)
    for k in range(starts.size - 1):
        value = 1.0
        for t in range(starts[k], starts[k + 1]):
            if value > 0.0:
                value *= 1.0 + daily[t]
        losses[k] = 1.0 - value


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def answer(
    operation: int,
    question: np.ndarray,
    reply: np.ndarray,
    by_symbol: np.ndarray,
    starts: np.ndarray,
    market_moves: np.ndarray,
    daily: np.ndarray,
    simulated: np.ndarray,
    work: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, int]:
    """(code, numbers in ``reply``).

    SCENARIOS takes n weights and gives the place of the worst scenario, then the loss of each: windows, then moves of
    all symbols together. SIMULATED takes a confidence and n weights and gives VaR, CVaR and n parts of CVaR over the
    resident draws. ``work`` has shape (2, draws), ``rows`` (draws,).
    """
    n = by_symbol.shape[0]
    if operation == SCENARIOS:
        if question.size != n:
            return BAD_INPUT, 0
        windows = starts.size - 1
        losses = reply[1 : 1 + windows + market_moves.size]
        window_losses(question, by_symbol, starts, daily, losses[:windows])
        net = 0.0
        for i in range(n):
            net += question[i]
        for k in range(market_moves.size):
            losses[windows + k] = -net * market_moves[k]
        worst = 0
        for k in range(losses.size):
            if not (abs(losses[k]) < np.inf):
                return BAD_INPUT, 0
            if losses[k] > losses[worst]:
                worst = k
        reply[0] = worst
        return OK, 1 + losses.size
    if operation == SIMULATED:
        if question.size != n + 1 or not (0.5 < question[0] < 1.0):
            return BAD_INPUT, 0
        weights, parts = question[1:], reply[2 : 2 + n]
        reply[0], reply[1] = simulated_tail(weights, simulated, question[0], work[0], work[1], rows, parts)
        return (OK, 2 + n) if abs(reply[0]) < np.inf else (BAD_INPUT, 0)
    return UNKNOWN_OPERATION, 0


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, _nrt=False)
def serve(
    words: np.ndarray,
    numbers: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    by_symbol: np.ndarray,
    starts: np.ndarray,
    market_moves: np.ndarray,
    daily: np.ndarray,
    simulated: np.ndarray,
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
        operation = words[slot + SLOT_CODE]
        code, count = answer(operation, question, reply, by_symbol, starts, market_moves, daily, simulated, work, rows)
        finish(words, own, hand, code, count)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    state = (
        np.zeros((2, 3)),
        np.array([0, 3]),
        np.zeros(1),
        np.empty(3),
        np.zeros((2, 400)),
        np.empty((2, 400)),
        np.empty(400, np.int64),
    )
    answer(SCENARIOS, np.ones(2), np.empty(6), *state)
    window_losses(np.ones(2), *state[:2], state[3], np.empty(1))
    serve(*idle(), *state)
