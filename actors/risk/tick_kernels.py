# mypy: disable-error-code="call-overload, untyped-decorator"
"""What every room does around a tick, whatever it makes of it: note what was missed, tell of a limit, show figures.

Rooms' kernels pass on two tuples. ``stream`` is the reader's end of the tick ring, its words and its hand, and a tick,
int64 (:data:`actors.market.market_data.ticks.INBOX`,), as int64 and as float64. ``told`` is the marks, the writer's end
of the alerts, and an alert, int64 (:data:`hive.alerts.ALERT_WORDS`,), as int64 and as float64.

``follow`` and ``serve`` stay each room's own. Numba keeps no code that closes over compiled functions or is called with
them, so that one loop for all rooms would be compiled anew in every process. Tuples are handed on whole: put together
anew, they cost a nanosecond a tick.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cluster.lanes import broadcast_kernels as ring
from cluster.lanes.atomics import now_ns
from cluster.lanes.broadcast_kernels import SCRATCH, announce
from cluster.lanes.page import write
from hive.alerts import ALERT_WORDS, BOUND, FLAGS, KIND, LIMIT, PLACE, RAISED_NS, TICK_NS, VALUE
from hive.figures import ALERTS, CROSSED, INCOMPLETE, MARKS, MISSED, SHEET_WORDS


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def note_missed(hand: np.ndarray, marks: np.ndarray) -> None:
    """Ticks that the reader of the ring has missed: the state is not whole any more."""
    if hand[ring.MISSED] != marks[MISSED]:
        marks[MISSED] = hand[ring.MISSED]
        marks[INCOMPLETE] = 1


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def judge(
    kind: int,
    limit: int,
    place: int,
    beyond: bool,
    measured: float,
    bound: float,
    release: float,
    at_ns: int,
    hand: np.ndarray,
    told: tuple[np.ndarray, ...],
) -> None:
    """Tell of a limit once when what is ``measured`` comes to lie ``beyond`` it; again only after it has come down to
    the share ``release`` of the ``bound``.

    ``kind`` and ``place`` are those of the alert, and ``hand`` is the reader's of the tick ring.
    """
    marks, board, desk, outbox, figures = told
    bit = 1 << limit
    crossed = marks[CROSSED] & bit != 0
    if beyond and not crossed:
        outbox[KIND], outbox[LIMIT], outbox[PLACE] = kind, limit, place
        figures[VALUE], figures[BOUND] = measured, bound
        outbox[TICK_NS], outbox[FLAGS] = at_ns, marks[INCOMPLETE]
        outbox[RAISED_NS] = now_ns(hand[SCRATCH : SCRATCH + 2])
        announce(board, desk, outbox)
        marks[ALERTS] += 1
        marks[CROSSED] ^= bit
    elif crossed and not beyond and measured <= release * bound:
        marks[CROSSED] ^= bit


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def post(marks: np.ndarray, page: np.ndarray, sheet: np.ndarray) -> None:
    """Write the sheet, its figures there already, to the page for whoever looks on."""
    for i in range(MARKS):
        sheet[i] = marks[i]
    write(page, 0, sheet)


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    words, reader, writer = ring.silent()
    outbox, marks = np.zeros(ALERT_WORDS, np.int64), np.zeros(MARKS, np.int64)
    note_missed(reader, marks)
    told = marks, words, writer, outbox, outbox.view(np.float64)
    judge(0, 0, 0, False, 0.0, 1.0, 1.0, 0, reader, told)
    post(marks, words, np.zeros(SHEET_WORDS, np.int64))
