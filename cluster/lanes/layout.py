"""Where everything lies in a port: the memory that an agent and its callers share, in words of eight bytes.

A port is one header page and a fixed number of lanes. A lane is a page of its own and two rings, one of requests, one
of answers, each written by one side and read by the other. Words that different sides write never share a pair of
cache lines (128 bytes: processors fetch lines in pairs). A change of any of this is a change of ``VERSION``.
"""

from __future__ import annotations

from dataclasses import dataclass

MAGIC = 0x4C414E4573776172
VERSION = 1
LINE = 16  # words between places that different sides write
PAGE = 512  # words

# Port header. Written once, before anybody else can see it.
PORT_MAGIC, PORT_VERSION, PORT_LANES, PORT_SLOTS, PORT_SLOT_WORDS, PORT_PID, PORT_STARTED, PORT_GENERATION = range(8)
PORT_STRATEGY = 8
PORT_SNAPSHOT = 9  # tag of the snapshot that answers are about; written by the agent before it serves
# Written by the agent's other threads, read by its loop.
PORT_CONTROL = 1 * LINE
# Bell of the agent: callers ring it. The loop alone writes SLEEPING.
PORT_BELL = 2 * LINE
PORT_SLEEPING = 3 * LINE
# Counters, written by the loop alone.
PORT_COUNTERS = 4 * LINE
SERVED, FAILED, LATE, REFUSED, CORRUPT, PARKED, STARVED = range(7)
COUNTERS = ("served", "failed", "late", "refused", "corrupt", "parked", "starved")
PORT_TIMES = 6 * LINE  # histogram of service times

# Lane page.
LANE_STATE = 0  # written by both sides, each only to what it may: see below
LANE_GENERATION = 1
LANE_PID, LANE_STARTED, LANE_STRATEGY = 2, 3, 4
LANE_BROKEN = 5  # written by the agent; a word of its own, so that it cannot overwrite HUNG_UP
REQUEST_TAIL = 1 * LINE  # caller
REQUEST_HEAD = 2 * LINE  # agent
ANSWER_TAIL = 3 * LINE  # agent
ANSWER_HEAD = 4 * LINE  # caller
LANE_BELL = 5 * LINE  # agent rings, caller sleeps
LANE_SLEEPING = 6 * LINE  # caller
LANE_COUNTERS = 7 * LINE  # caller
ASKED, ANSWERED, FULL, TIMED_OUT = range(4)
LANE_COUNTER_NAMES = ("asked", "answered", "full", "timed_out")
LANE_TIMES = 8 * LINE  # histogram of round trips, written by the caller

# States of a lane. The agent opens and frees; the caller hangs up.
FREE, OPEN, HUNG_UP = range(3)

# The most that a caller believes.
MOST_LANES, MOST_SLOTS, MOST_SLOT_WORDS = 2**14, 2**20, 2**16

# Slot: eight words of header, then the payload.
SLOT_SEQUENCE, SLOT_CODE, SLOT_SNAPSHOT, SLOT_DEADLINE, SLOT_COUNT, SLOT_SENT = range(6)
SLOT_HEADER = 8

# What a slot's code says in an answer; in a request it is the operation.
OK, LATE_ANSWER, UNKNOWN_OPERATION, WRONG_SNAPSHOT, BAD_INPUT, NO_STATE, TOO_LARGE = range(7)

# Wait strategies.
SPIN, YIELD, PARK = range(3)
STRATEGIES = ("spin", "yield", "park")

# Histogram: eight buckets an octave from 0 to 2^42 ns.
SUB_BITS = 3
BUCKETS = 320


@dataclass(frozen=True)
class Geometry:
    """Sizes of a port."""

    lanes: int
    """Callers at a time."""
    slots: int
    """Messages that fit into one ring, a power of two."""
    slot_words: int
    """Words of one slot, header included."""

    @property
    def payload_words(self) -> int:
        """Numbers that one message carries."""
        return self.slot_words - SLOT_HEADER

    @property
    def lane_words(self) -> int:
        """Words of one lane."""
        return PAGE + 2 * self.slots * self.slot_words

    @property
    def words(self) -> int:
        """Words of the whole port."""
        return PAGE + self.lanes * self.lane_words

    def lane_at(self, lane: int) -> int:
        """First word of a lane."""
        return PAGE + lane * self.lane_words
