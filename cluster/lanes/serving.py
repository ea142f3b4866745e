# mypy: disable-error-code="call-overload, untyped-decorator"
"""The agent's side of its lanes, compiled: find the next question in any lane, wait by the strategy, answer it.

A room's loop is three calls long::

    while True:
        slot = next_request(words, active, own, hand)
        if slot < 0:
            return slot                        # somebody wants the thread back, or a lane cannot be believed
        ... compute from numbers[slot + SLOT_HEADER :], write to numbers[hand[REPLY] + SLOT_HEADER :] ...
        finish(words, own, hand, code, count)

A loop that has something else to do beside its lanes takes :func:`next_request` apart: :func:`look_around` goes over
every lane once and never waits, :func:`rest` waits once by the strategy, at the port's bell and at one more.

Nothing here allocates, so Numba's reference counting is off (``_nrt=False``).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cluster.lanes.atomics import (
    SEEN,
    fence,
    futex_wait,
    futex_wait_any,
    give_way,
    load_acquire,
    now_ns,
    pause,
    store_release,
)
from cluster.lanes.broadcast_kernels import announce_sleep, nothing_new
from cluster.lanes.calls import LONGEST_SLEEP_NS, ring
from cluster.lanes.histogram import count_in
from cluster.lanes.layout import (
    ANSWER_HEAD,
    ANSWER_TAIL,
    CORRUPT,
    FAILED,
    LANE_BELL,
    LANE_SLEEPING,
    LANE_STRATEGY,
    LATE,
    LATE_ANSWER,
    OK,
    PAGE,
    PARK,
    PARKED,
    PORT_BELL,
    PORT_CONTROL,
    PORT_COUNTERS,
    PORT_SLEEPING,
    PORT_TIMES,
    REFUSED,
    REQUEST_HEAD,
    REQUEST_TAIL,
    SERVED,
    SLOT_CODE,
    SLOT_COUNT,
    SLOT_DEADLINE,
    SLOT_HEADER,
    SLOT_SENT,
    SLOT_SEQUENCE,
    SLOT_SNAPSHOT,
    SPIN,
    STARVED,
    TOO_LARGE,
    WRONG_SNAPSHOT,
)
from cluster.lanes.ring import BAD, NONE, look, publish, release, reserve

# The loop's own memory, int64 (HAND,).
SLOTS, SIZE, LANE_WORDS, STRATEGY, SNAPSHOT, CURSOR, HOT, TURN = range(8)
LANE, SLOT, REPLY, COUNT, STARTED_NS, SCRATCH = range(8, 14)
SPINS, LOOKS = 15, 16  # looks in vain before the loop sleeps, where it parks, and since a question came
HAND = 17

ASTRAY = -4  # why a loop came back, beside NONE and BAD: the broadcast that it follows cannot be believed
HOT_EVERY = 4  # looks, of which one is at the lane that asked last

# What the loop keeps of every lane, int64 (lanes, 4): its side of the requests, then of the answers.
OWN = 4


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def next_request(words: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray) -> int:
    """First word of the next question's slot; ``NONE`` when the loop's thread is wanted, ``BAD`` with a broken lane."""
    hand[LOOKS] = 0
    while True:
        if load_acquire(words, PORT_CONTROL) != 0:
            return NONE
        slot = look_around(words, active, own, hand)
        if slot != NONE:
            return int(slot)
        hand[LOOKS] += 1
        if hand[STRATEGY] == SPIN or hand[LOOKS] < hand[SPINS]:
            pause()
        elif hand[STRATEGY] == PARK:
            _sleep(words, active, own, hand)
        else:
            give_way()


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def look_around(words: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray) -> int:
    """One round over the lanes: first word of a question's slot, ``NONE``, or ``BAD`` with a broken lane.

    ``active`` holds how many lanes are open, then which. ``hand[LANE]``, ``hand[COUNT]`` and ``hand[REPLY]`` say whose
    question it is, how many numbers it has and where the answer goes. Lanes are taken in turn, and between them, every
    few looks, the one that asked last: many idle lanes then cost a busy one nothing. A question that comes
    too late, is about another snapshot than ``hand[SNAPSHOT]`` or claims more than a slot holds is answered here.
    """
    open_lanes = active[0]
    for _ in range(open_lanes):
        hand[TURN] += 1
        if hand[TURN] % HOT_EVERY == 0 and hand[HOT] >= 0:
            lane = hand[HOT]
        else:
            hand[CURSOR] = hand[CURSOR] + 1 if hand[CURSOR] + 1 < open_lanes else 0
            lane = active[1 + hand[CURSOR]]
        slot = _question(words, own, hand, lane)
        if slot == NONE:
            continue
        if slot == BAD:
            words[PORT_COUNTERS + CORRUPT] += 1
            return BAD
        hand[LOOKS] = 0
        hand[HOT] = lane
        code = _refusal(words, hand, slot)
        if code == OK:
            return int(slot)
        finish(words, own, hand, code, 0)
    return NONE


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def rest(
    words: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    stream: np.ndarray,
    reader: np.ndarray,
    bells: np.ndarray,
) -> None:
    """Wait once, by the strategy, for a question or for a message of a broadcast.

    ``stream`` and ``reader`` are the reader's end of a broadcast ring, ``bells``, int64 (2, 3), what
    :func:`.atomics.futex_wait_any` is given: the port's bell, and the ring's. Who has just been busy, by
    ``hand[LOOKS]``, does not sleep yet.
    """
    hand[LOOKS] += 1
    if hand[STRATEGY] == SPIN or hand[LOOKS] < hand[SPINS]:
        pause()
    elif hand[STRATEGY] == PARK:
        _sleep_at_both(words, active, own, hand, stream, reader, bells)
    else:
        give_way()


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _question(words: np.ndarray, own: np.ndarray, hand: np.ndarray, lane: int) -> int:
    """First word of a lane's next question, if there is one and room for its answer."""
    slots, size = hand[SLOTS], hand[SIZE]
    at = PAGE + lane * hand[LANE_WORDS]
    mine = own[lane]
    slot = look(words, at + REQUEST_TAIL, at + PAGE, slots, size, mine[:2])
    if slot == NONE:
        return NONE
    hand[LANE] = lane
    if slot == BAD:
        return BAD
    reply = reserve(words, at + ANSWER_HEAD, at + PAGE + slots * size, slots, size, mine[2:])
    if reply == BAD:
        return BAD
    if reply == NONE:
        words[PORT_COUNTERS + STARVED] += 1
        return NONE
    hand[SLOT], hand[REPLY] = slot, reply
    hand[COUNT] = words[slot + SLOT_COUNT]
    hand[STARTED_NS] = now_ns(hand[SCRATCH : SCRATCH + 2])
    return int(slot)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _refusal(words: np.ndarray, hand: np.ndarray, slot: int) -> int:
    """Code of what is wrong with a question before anybody looks at its numbers."""
    if hand[COUNT] < 0 or hand[COUNT] > hand[SIZE] - SLOT_HEADER:
        words[PORT_COUNTERS + REFUSED] += 1
        return TOO_LARGE
    if hand[STARTED_NS] > words[slot + SLOT_DEADLINE]:
        words[PORT_COUNTERS + LATE] += 1
        return LATE_ANSWER
    asked_about = words[slot + SLOT_SNAPSHOT]
    if asked_about != 0 and asked_about != hand[SNAPSHOT]:
        words[PORT_COUNTERS + REFUSED] += 1
        return WRONG_SNAPSHOT
    return OK


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def finish(words: np.ndarray, own: np.ndarray, hand: np.ndarray, code: int, count: int) -> None:
    """Publish the answer that lies in the reply's slot, ``count`` numbers long, and take the question off its ring."""
    lane, slot, reply = hand[LANE], hand[SLOT], hand[REPLY]
    at = PAGE + lane * hand[LANE_WORDS]
    mine = own[lane]
    taken = now_ns(hand[SCRATCH : SCRATCH + 2]) - hand[STARTED_NS]
    words[reply + SLOT_SEQUENCE] = words[slot + SLOT_SEQUENCE]
    words[reply + SLOT_CODE] = code
    words[reply + SLOT_SNAPSHOT] = words[slot + SLOT_SNAPSHOT]
    words[reply + SLOT_DEADLINE] = taken
    words[reply + SLOT_COUNT] = count
    words[reply + SLOT_SENT] = words[slot + SLOT_SENT]
    publish(words, at + ANSWER_TAIL, mine[2:])
    release(words, at + REQUEST_HEAD, mine[:2])
    if words[at + LANE_STRATEGY] == PARK:
        fence()
        if load_acquire(words, at + LANE_SLEEPING) != 0:
            ring(words, at + LANE_BELL)
    if code == OK:
        words[PORT_COUNTERS + SERVED] += 1
    else:
        words[PORT_COUNTERS + FAILED] += 1
    count_in(words, PORT_TIMES, taken)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _sleep(words: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray) -> None:
    """Sleep at the port's bell, unless a question came between announcing it and looking again."""
    seen = load_acquire(words, PORT_BELL)
    store_release(words, PORT_SLEEPING, 1)
    fence()
    if _nobody_asks(words, active, own, hand):
        words[PORT_COUNTERS + PARKED] += 1
        futex_wait(words, PORT_BELL, seen & 0xFFFFFFFF, LONGEST_SLEEP_NS, hand[SCRATCH : SCRATCH + 2])
    store_release(words, PORT_SLEEPING, 0)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _sleep_at_both(
    words: np.ndarray,
    active: np.ndarray,
    own: np.ndarray,
    hand: np.ndarray,
    stream: np.ndarray,
    reader: np.ndarray,
    bells: np.ndarray,
) -> None:
    """Sleep at both bells, unless one of the two came between announcing it and looking again."""
    bells[0, SEEN] = load_acquire(words, PORT_BELL) & 0xFFFFFFFF
    bells[1, SEEN] = announce_sleep(stream)
    store_release(words, PORT_SLEEPING, 1)
    fence()
    if _nobody_asks(words, active, own, hand) and nothing_new(stream, reader):
        words[PORT_COUNTERS + PARKED] += 1
        futex_wait_any(bells, LONGEST_SLEEP_NS, hand[SCRATCH : SCRATCH + 2])
    store_release(words, PORT_SLEEPING, 0)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _nobody_asks(words: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray) -> bool:
    """Whether the thread is not wanted and no lane holds a question that there is room to answer."""
    if load_acquire(words, PORT_CONTROL) != 0:
        return False
    for i in range(active[0]):
        lane = active[1 + i]
        at = PAGE + lane * hand[LANE_WORDS]
        room = own[lane, 2] - load_acquire(words, at + ANSWER_HEAD) < hand[SLOTS]
        if room and load_acquire(words, at + REQUEST_TAIL) != own[lane, 0]:
            return False
    return True


def idle() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a loop is given, with nobody there and the thread wanted back: it compiles, and comes back at once."""
    words = np.zeros(PAGE, np.int64)
    words[PORT_CONTROL] = 1
    return words, words.view(np.float64), np.zeros(2, np.int64), np.zeros((1, OWN), np.int64), np.zeros(HAND, np.int64)
