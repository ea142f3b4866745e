# mypy: disable-error-code="call-overload, untyped-decorator"
"""A caller's side of a lane, compiled: ask, wait by the strategy, take the answer that belongs to the question."""

from __future__ import annotations

import threading

import numpy as np
from numba import float64, int64, njit, types

from cluster.lanes.atomics import (
    add,
    fence,
    futex_wait,
    futex_wake,
    give_way,
    load_acquire,
    now_ns,
    pause,
    store_release,
)
from cluster.lanes.histogram import count_in
from cluster.lanes.layout import (
    ANSWER_HEAD,
    ANSWER_TAIL,
    ANSWERED,
    ASKED,
    FULL,
    LANE_BELL,
    LANE_COUNTERS,
    LANE_SLEEPING,
    LANE_TIMES,
    OK,
    PAGE,
    PARK,
    PORT_BELL,
    PORT_SLEEPING,
    PORT_STRATEGY,
    REQUEST_HEAD,
    REQUEST_TAIL,
    SLOT_CODE,
    SLOT_COUNT,
    SLOT_DEADLINE,
    SLOT_HEADER,
    SLOT_SENT,
    SLOT_SEQUENCE,
    SLOT_SNAPSHOT,
    SPIN,
    TIMED_OUT,
)
from cluster.lanes.ring import BAD, NONE, look, publish, release, reserve

# What a call answers beside the codes of an answer, which are not negative.
REFUSED, CORRUPTED, WAITING, TOO_SMALL = -1, -2, -4, -5
REFUSED_BY_AGENT = -1000

# A caller's own memory, int64 (HAND,): not shared, so nobody else can spoil it.
AT, SLOTS, SIZE, STRATEGY, SEQUENCE, WANTED, COUNT, SERVICE_NS = range(8)
REQUESTS, ANSWERS, SCRATCH = 8, 10, 12  # two words each: own side of a ring, and of the system's calls
SPINS = 14  # looks before the caller sleeps, where it parks
HAND = 15

_settling = threading.Lock()

SPINS_BEFORE_SLEEP = 1600  # looks, about twenty microseconds: who waits longer on a crowded machine is in the way
SPINS_OF_A_CALLER = 4000  # about fifty, which is what a sleeper takes to wake: never more than twice the best
LOOKS_PER_CLOCK = 64
LONGEST_SLEEP_NS = 20_000_000
SLICE_NS = 20_000_000  # how long a caller waits before it looks whether the agent still lives


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def send(
    words: np.ndarray,
    numbers: np.ndarray,
    hand: np.ndarray,
    code: int,
    snapshot: int,
    give_up_ns: int,
    payload: np.ndarray,
) -> int:
    """Put one question into the ring; its sequence number, or ``REFUSED`` where the ring is full.

    ``give_up_ns`` is a reading of the monotonic clock after which no answer is wanted.
    """
    at, slots, size = hand[AT], hand[SLOTS], hand[SIZE]
    own = hand[REQUESTS : REQUESTS + 2]
    slot = reserve(words, at + REQUEST_HEAD, at + PAGE, slots, size, own)
    if slot == NONE:
        # An agent that has no room for answers takes no questions: throw away those that nobody waits for.
        _discard(words, hand)
        slot = reserve(words, at + REQUEST_HEAD, at + PAGE, slots, size, own)
    if slot == BAD:
        return CORRUPTED
    if slot == NONE:
        words[at + LANE_COUNTERS + FULL] += 1
        return REFUSED
    hand[SEQUENCE] += 1
    words[slot + SLOT_SEQUENCE] = hand[SEQUENCE]
    words[slot + SLOT_CODE] = code
    words[slot + SLOT_SNAPSHOT] = snapshot
    words[slot + SLOT_DEADLINE] = give_up_ns
    words[slot + SLOT_COUNT] = payload.size
    words[slot + SLOT_SENT] = now_ns(hand[SCRATCH : SCRATCH + 2])
    body = numbers[slot + SLOT_HEADER : slot + size]
    for i in range(payload.size):
        body[i] = payload[i]
    publish(words, at + REQUEST_TAIL, own)
    words[at + LANE_COUNTERS + ASKED] += 1
    if words[PORT_STRATEGY] == PARK:
        fence()
        if load_acquire(words, PORT_SLEEPING) != 0:
            ring(words, PORT_BELL)
    return int(hand[SEQUENCE])


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def receive(words: np.ndarray, numbers: np.ndarray, hand: np.ndarray, answer: np.ndarray, until_ns: int) -> int:
    """Wait for the answer to the oldest question that is still wanted; the answer's code.

    Its numbers go to ``answer``, how many they are to ``hand[COUNT]``. ``WAITING`` where none came until ``until_ns``;
    ``TOO_SMALL`` where ``answer`` has less room than ``hand[COUNT]``: it then lies there for the next call.
    """
    at, slots, size = hand[AT], hand[SLOTS], hand[SIZE]
    own = hand[ANSWERS : ANSWERS + 2]
    base = at + PAGE + slots * size
    looks = 0
    while True:
        slot = look(words, at + ANSWER_TAIL, base, slots, size, own)
        if slot == BAD:
            return CORRUPTED
        if slot != NONE:
            sequence = words[slot + SLOT_SEQUENCE]
            count = words[slot + SLOT_COUNT]
            if sequence > hand[SEQUENCE] or count < 0 or count > size - SLOT_HEADER:
                return CORRUPTED
            if sequence < hand[WANTED]:
                _make_room(words, hand)  # the answer to a question that was given up
                continue
            code = words[slot + SLOT_CODE]
            if code < 0:
                return CORRUPTED
            hand[COUNT] = count
            if count > answer.size:
                return TOO_SMALL
            body = numbers[slot + SLOT_HEADER : slot + size]
            for i in range(count):
                answer[i] = body[i]
            hand[SERVICE_NS] = words[slot + SLOT_DEADLINE]
            sent = words[slot + SLOT_SENT]
            hand[WANTED] = sequence + 1
            _make_room(words, hand)
            words[at + LANE_COUNTERS + ANSWERED] += 1
            count_in(words, at + LANE_TIMES, now_ns(hand[SCRATCH : SCRATCH + 2]) - sent)
            return int(code)
        looks += 1
        if not _waited(words, at, hand, looks, until_ns):
            return WAITING


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def ask(
    words: np.ndarray,
    hand: np.ndarray,
    code: int,
    snapshot: int,
    patience_ns: int,
    payload: np.ndarray,
    answer: np.ndarray,
) -> int:
    """:func:`send`, then :func:`receive`: how many numbers the answer has, or less than none where there is none.

    ``WAITING`` after ``SLICE_NS``, so that the caller can look around; ``REFUSED_BY_AGENT`` less the code of an answer
    that is an error. From Python every array argument costs some forty nanoseconds, so there are few.
    """
    numbers = words.view(np.float64)
    hand[SPINS] = SPINS_OF_A_CALLER
    now = now_ns(hand[SCRATCH : SCRATCH + 2])
    sent = send(words, numbers, hand, code, snapshot, now + patience_ns, payload)
    if sent < 0:
        return int(sent)
    hand[WANTED] = sent  # whatever was asked before and not received is not the answer to this
    found = receive(words, numbers, hand, answer, now + min(patience_ns, SLICE_NS))
    if found == OK:
        return int(hand[COUNT])
    return int(found if found < 0 else REFUSED_BY_AGENT - found)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def give_up(words: np.ndarray, hand: np.ndarray) -> None:
    """Want no answer any more to what was asked so far: whatever comes late is thrown away, never taken for another."""
    hand[WANTED] = hand[SEQUENCE] + 1
    words[hand[AT] + LANE_COUNTERS + TIMED_OUT] += 1


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def ring(words: np.ndarray, bell: int) -> None:
    """Wake whoever sleeps at a bell, or is about to: the word changes first, so that a sleep begun now ends at once."""
    add(words, bell, 1)
    futex_wake(words, bell)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _waited(words: np.ndarray, at: int, hand: np.ndarray, looks: int, until_ns: int) -> bool:
    """Wait a little, by the strategy; false when the time is up."""
    if hand[STRATEGY] == SPIN or looks < hand[SPINS]:
        pause()
        return looks % LOOKS_PER_CLOCK != 0 or now_ns(hand[SCRATCH : SCRATCH + 2]) < until_ns
    if now_ns(hand[SCRATCH : SCRATCH + 2]) >= until_ns:
        return False
    if hand[STRATEGY] == PARK:
        _sleep(words, at, hand, until_ns)
    else:
        give_way()
    return True


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _sleep(words: np.ndarray, at: int, hand: np.ndarray, until_ns: int) -> None:
    seen = load_acquire(words, at + LANE_BELL)
    store_release(words, at + LANE_SLEEPING, 1)
    fence()
    own = hand[ANSWERS : ANSWERS + 2]
    if load_acquire(words, at + ANSWER_TAIL) == own[0]:
        left = until_ns - now_ns(hand[SCRATCH : SCRATCH + 2])
        if left > 0:
            futex_wait(
                words, at + LANE_BELL, seen & 0xFFFFFFFF, min(left, LONGEST_SLEEP_NS), hand[SCRATCH : SCRATCH + 2]
            )
    store_release(words, at + LANE_SLEEPING, 0)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _discard(words: np.ndarray, hand: np.ndarray) -> None:
    at, slots, size = hand[AT], hand[SLOTS], hand[SIZE]
    own = hand[ANSWERS : ANSWERS + 2]
    while True:
        slot = look(words, at + ANSWER_TAIL, at + PAGE + slots * size, slots, size, own)
        if slot < 0 or words[slot + SLOT_SEQUENCE] >= hand[WANTED]:
            return
        _make_room(words, hand)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def _make_room(words: np.ndarray, hand: np.ndarray) -> None:
    """Take an answer off its ring; an agent that slept because there was no room for the next is woken."""
    own = hand[ANSWERS : ANSWERS + 2]
    crowded = hand[SEQUENCE] - own[0] > hand[SLOTS]  # every question gets one answer
    release(words, hand[AT] + ANSWER_HEAD, own)
    if crowded and words[PORT_STRATEGY] == PARK:
        fence()
        if load_acquire(words, PORT_SLEEPING) != 0:
            ring(words, PORT_BELL)


def settle() -> None:
    """Compile for the types that lanes are used with, and for no others: those are a caller's errors.

    Threads may open their first lanes at the same time.
    """
    with _settling:
        if receive.signatures:  # the last one
            return
        words, numbers = int64[::1], float64[::1]
        for payload in (numbers, types.Array(float64, 1, "C", readonly=True)):
            ask.compile((words, words, int64, int64, int64, payload, numbers))
            send.compile((words, numbers, words, int64, int64, int64, payload))
        receive.compile((words, numbers, words, numbers, int64))
        for compiled in (ask, send, receive):
            compiled.disable_compile()
