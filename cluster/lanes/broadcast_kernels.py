# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, call-overload, untyped-decorator"
"""A broadcast ring, compiled: one writer that never waits, and readers that it never looks at.

``words`` is the shared memory as int64: a header page, then slots of a sequence word, a checksum and the message.
Message number i lies in slot i mod slots. The slot's sequence is 2 i + 1 while the message is written and 2 i + 2 when
it is whole, so a reader that knows which message it wants reads from the slot alone that it is not there yet, there, or
overwritten. The order follows Boehm (2012, "Can seqlocks get along with programming language memory models?"):

* the writer stores the odd sequence, fences (release), stores the message by relaxed stores, releases the even one;
* the reader acquires the sequence, loads the message by relaxed loads, fences (acquire), loads the sequence again.

The odd store releases too: who sees that a slot is being overwritten also sees the tail that says how far the writer
had come. None of this costs an instruction of its own on x86.

Nothing here believes the shared memory. A message counts when its checksum, over its words, its number and the ring's
generation, is right: whatever else is scribbled there, a reader gets what was written at that number, or ``BAD``.
Numbers go up to ``MOST_MESSAGES``: at one a nanosecond, a century.

Nothing here allocates, so Numba's reference counting is off (``_nrt=False``): it made a message cost six times as much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from cluster.lanes.atomics import (
    SEEN,
    WORD_BYTES,
    add,
    bells_at,
    fence,
    futex_wait,
    futex_wait_any,
    futex_wake,
    give_way,
    load_acquire,
    now_ns,
    pause,
    store_release,
)
from cluster.lanes.calls import LONGEST_SLEEP_NS, LOOKS_PER_CLOCK, SPINS_BEFORE_SLEEP
from cluster.lanes.layout import LINE, PAGE, PARK, SPIN
from cluster.lanes.ring import BAD, NONE

MAGIC = 0x42524F4153776172
VERSION = 1

# Header. The first line is written once, before anybody else can see it; only the generation is taken back at the end.
RING_MAGIC, RING_VERSION, RING_SLOTS, RING_SLOT_WORDS, RING_PAYLOAD, RING_PID, RING_STARTED = range(7)
RING_GENERATION, RING_FIRST = 7, 8
RING_TAIL = 1 * LINE  # messages written, by the writer alone
RING_BELL = 2 * LINE  # the writer rings, readers sleep
RING_SLEEPERS = 3 * LINE  # readers that announced a sleep since the bell last rang

# Slot.
SLOT_SEQUENCE, SLOT_CHECK = 0, 1
SLOT_HEADER = 2

MOST_MESSAGES = 2**62 - 2

# What the writer keeps, int64 (WRITER_HAND,).
NEXT, SLOTS, SIZE, PAYLOAD, GENERATION = range(5)
WRITER_HAND = 8
# What a reader keeps, int64 (READER_HAND,), beside slots, size, payload and generation at the same places.
CURSOR = 0  # number of the message it wants next
STRATEGY, MISSED, STREAK, SCRATCH = 5, 6, 7, 8  # messages missed since it began; messages since a look at the clock
LEAD = 10  # messages that it leaves a writer who overtakes it again, above the oldest
READER_HAND = 12

TAKEN, WANTED = 0, -3  # beside NONE and BAD

STREAK_PER_CLOCK = 64
SALT, WORD_SALT, NUMBER_SALT = 0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB


@intrinsic
def _load_relaxed(typing, words, place):
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(builder.gep(array.data, [arguments[1]]), "monotonic", WORD_BYTES)

    return types.int64(words, types.intp), generate


@intrinsic
def _store_relaxed(typing, words, place, value):
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        builder.store_atomic(arguments[2], builder.gep(array.data, [arguments[1]]), "monotonic", WORD_BYTES)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), generate


@intrinsic
def _fence_release(typing):
    def generate(context, builder, signature, arguments):
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _fence_acquire(typing):
    def generate(context, builder, signature, arguments):
        builder.fence("acquire")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _stirred(typing, check, word, salt):
    """``check + word * salt`` modulo 2**64. Numba's own arithmetic may assume that signed numbers never overflow."""

    def generate(context, builder, signature, arguments):
        return builder.add(arguments[0], builder.mul(arguments[1], arguments[2]))

    return types.int64(types.int64, types.int64, types.int64), generate


load_relaxed: Any = _load_relaxed
store_relaxed: Any = _store_relaxed
fence_release: Any = _fence_release
fence_acquire: Any = _fence_acquire
stirred: Any = _stirred


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def publish(words: np.ndarray, hand: np.ndarray, message: np.ndarray) -> None:
    """Write one message, int64 of shape (payload,); sleepers stay asleep until :func:`wake`."""
    number = hand[NEXT]
    slot = PAGE + (number & (hand[SLOTS] - 1)) * hand[SIZE]
    store_release(words, slot + SLOT_SEQUENCE, 2 * number + 1)
    fence_release()
    check = stirred(hand[GENERATION], number, NUMBER_SALT)
    for i in range(hand[PAYLOAD]):
        word = message[i]
        store_relaxed(words, slot + SLOT_HEADER + i, word)
        check = stirred(check, word ^ SALT, WORD_SALT + 2 * i)
    store_relaxed(words, slot + SLOT_CHECK, check)
    store_release(words, slot + SLOT_SEQUENCE, 2 * number + 2)
    hand[NEXT] = number + 1
    store_release(words, RING_TAIL, number + 1)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def wake(words: np.ndarray) -> None:
    """Wake readers that sleep, or are about to.

    The announcements seen are taken back before the bell rings: a reader that dies asleep, or whose time is up, costs
    one ring. One that announces itself later has its count left and looks at the ring once more before it sleeps.
    """
    fence()
    sleepers = load_acquire(words, RING_SLEEPERS)
    if sleepers != 0:
        add(words, RING_SLEEPERS, stirred(0, sleepers, -1))
        add(words, RING_BELL, 1)
        futex_wake(words, RING_BELL)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def announce(words: np.ndarray, hand: np.ndarray, message: np.ndarray) -> None:
    """:func:`publish`, then :func:`wake`."""
    publish(words, hand, message)
    wake(words)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def publish_all(words: np.ndarray, hand: np.ndarray, messages: np.ndarray) -> None:
    """Write messages, int64 of shape (n, payload), and wake sleepers once."""
    for i in range(messages.shape[0]):
        publish(words, hand, messages[i])
    wake(words)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def publish_now(
    words: np.ndarray, hand: np.ndarray, messages: np.ndarray, place: int, ahead_ns: int, scratch: np.ndarray
) -> int:
    """:func:`publish_all` of messages whose word ``place`` becomes the time, so far ahead of the monotonic clock."""
    at_ns = now_ns(scratch) + ahead_ns
    for i in range(messages.shape[0]):
        messages[i, place] = at_ns
        publish(words, hand, messages[i])
    wake(words)
    return int(at_ns)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def take(words: np.ndarray, hand: np.ndarray, inbox: np.ndarray) -> int:
    """Copy the next message to ``inbox``, int64 of shape (at least payload,).

    ``NONE`` where it is not written yet, ``BAD`` where the memory cannot be believed. A reader that was overtaken goes
    on with the oldest message that is whole; how many it missed is added to ``hand[MISSED]``. Overtaken again before it
    has caught up, it leaves the writer a lead that doubles: else one that is slower than the writer would fight for
    ever for the very lines that are being written, and get almost nothing.
    """
    slots, size, payload = hand[SLOTS], hand[SIZE], hand[PAYLOAD]
    while True:
        number = hand[CURSOR]
        slot = PAGE + (number & (slots - 1)) * size
        whole = 2 * number + 2
        sequence = load_acquire(words, slot + SLOT_SEQUENCE)
        if sequence < whole:
            hand[LEAD] = 0
            return NONE
        if sequence == whole:
            check = stirred(hand[GENERATION], number, NUMBER_SALT)
            for i in range(payload):
                word = load_relaxed(words, slot + SLOT_HEADER + i)
                inbox[i] = word
                check = stirred(check, word ^ SALT, WORD_SALT + 2 * i)
            stated = load_relaxed(words, slot + SLOT_CHECK)
            fence_acquire()
            sequence = load_acquire(words, slot + SLOT_SEQUENCE)
            if sequence == whole:
                if check != stated:
                    return BAD
                hand[CURSOR] = number + 1
                return TAKEN
        tail = load_acquire(words, RING_TAIL)
        if sequence < whole or tail > MOST_MESSAGES or tail < number + slots:
            return BAD
        further = max(tail - slots + hand[LEAD], number + 1)
        hand[MISSED] += further - number
        hand[CURSOR] = further
        hand[LEAD] = min(2 * hand[LEAD] + 1, slots - 1)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def astray(words: np.ndarray, hand: np.ndarray) -> bool:
    """Whether a reader that finds nothing would wait for ever: the tail says that its message is written, the slot not.

    The tail is read first: what it counts is in its slot already.
    """
    tail = load_acquire(words, RING_TAIL)
    number = hand[CURSOR]
    if tail > MOST_MESSAGES or tail < number - 1:
        return True
    slot = PAGE + (number & (hand[SLOTS] - 1)) * hand[SIZE]
    return bool(tail > number and load_acquire(words, slot + SLOT_SEQUENCE) < 2 * number + 2)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def hear(words: np.ndarray, hand: np.ndarray, inbox: np.ndarray, control: np.ndarray, until_ns: int) -> int:
    """:func:`take`, waiting by the reader's strategy; ``NONE`` where the time is up, ``WANTED`` where the thread is.

    ``until_ns`` is a reading of the monotonic clock; 0 or less waits for nothing. The clock and ``control[0]``, which
    calls the thread away when it is not 0, are looked at between every ``STREAK_PER_CLOCK`` messages too.
    """
    if hand[STREAK] >= STREAK_PER_CLOCK:
        hand[STREAK] = 0
        if load_acquire(control, 0) != 0:
            return WANTED
        if now_ns(hand[SCRATCH : SCRATCH + 2]) >= until_ns:
            return NONE
    looks = 0
    while True:
        found = take(words, hand, inbox)
        if found == TAKEN:
            hand[STREAK] += 1
            return TAKEN
        if found == BAD:
            return BAD
        if looks % LOOKS_PER_CLOCK == 0 or looks > SPINS_BEFORE_SLEEP:
            if load_acquire(control, 0) != 0:
                return WANTED
            if astray(words, hand):
                return BAD
            if until_ns <= 0 or now_ns(hand[SCRATCH : SCRATCH + 2]) >= until_ns:
                hand[STREAK] = 0
                return NONE
        looks += 1
        if hand[STRATEGY] == SPIN or looks <= SPINS_BEFORE_SLEEP:
            pause()
        elif hand[STRATEGY] == PARK:
            sleep(words, hand, until_ns)
        else:
            give_way()


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def sleep(words: np.ndarray, hand: np.ndarray, until_ns: int) -> None:
    """Sleep at the ring's bell, unless the message came between announcing it and looking again."""
    seen = announce_sleep(words)
    if nothing_new(words, hand):
        left = until_ns - now_ns(hand[SCRATCH : SCRATCH + 2])
        if left > 0:
            futex_wait(words, RING_BELL, seen, min(left, LONGEST_SLEEP_NS), hand[SCRATCH : SCRATCH + 2])


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def announce_sleep(words: np.ndarray) -> int:
    """Say that a reader is about to sleep; the low half of the bell as it was before. Look again before sleeping."""
    seen = load_acquire(words, RING_BELL)
    add(words, RING_SLEEPERS, 1)
    fence()
    return int(seen & 0xFFFFFFFF)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def nothing_new(words: np.ndarray, hand: np.ndarray) -> bool:
    """Whether the message that the reader wants next is not being written yet."""
    number = hand[CURSOR]
    slot = PAGE + (number & (hand[SLOTS] - 1)) * hand[SIZE]
    return bool(load_acquire(words, slot + SLOT_SEQUENCE) <= 2 * number)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def drain(
    words: np.ndarray,
    hand: np.ndarray,
    inbox: np.ndarray,
    numbers: np.ndarray,
    control: np.ndarray,
    until_ns: int,
) -> tuple[int, int]:
    """(messages, reason): wait for one message as :func:`hear` does, then take what else is there.

    Messages go to the rows of ``inbox``, int64 of shape (most, payload), their numbers to ``numbers``, int64 (most,).
    The reason is ``TAKEN``, or why there is not more.
    """
    reason = hear(words, hand, inbox[0], control, until_ns)
    if reason != TAKEN:
        return 0, reason
    numbers[0] = hand[CURSOR] - 1
    count = 1
    while count < inbox.shape[0]:
        reason = take(words, hand, inbox[count])
        if reason != TAKEN:
            return count, reason
        numbers[count] = hand[CURSOR] - 1
        count += 1
    return count, TAKEN


def silent() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words, a reader's and a writer's hand of a ring of one message of eight words that nobody ever wrote."""
    words = np.zeros(PAGE + 2 * 16, np.int64)
    reader, writer = np.zeros(READER_HAND, np.int64), np.zeros(WRITER_HAND, np.int64)
    for hand in (reader, writer):
        hand[SLOTS], hand[SIZE], hand[PAYLOAD] = 2, 16, 8
    return words, reader, writer


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    words, reader, writer = silent()
    message, control = np.arange(8), np.zeros(1, np.int64)
    announce(words, writer, message)
    publish_all(words, writer, np.zeros((3, 8), np.int64))
    publish_now(words, writer, np.zeros((3, 8), np.int64), 0, 0, np.zeros(2, np.int64))
    reader[STRATEGY] = PARK
    drain(words, reader, np.zeros((4, 8), np.int64), np.zeros(4, np.int64), control, 0)
    hear(words, reader, message, control, now_ns(np.zeros(2, np.int64)) + 1_000_000)
    bells = bells_at((words, RING_BELL))
    bells[0, SEEN] = announce_sleep(words)
    if nothing_new(words, reader):
        futex_wait_any(bells, 1000, np.zeros(2, np.int64))
