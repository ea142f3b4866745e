"""One ring against a queue of Python, and the histogram against its own edges."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.lanes.histogram import bucket_of, count_in, edges, percentiles
from cluster.lanes.layout import BUCKETS
from cluster.lanes.ring import BAD, NONE, PLACE, SEEN, look, publish, release, reserve

TAIL_AT, HEAD_AT, BASE = 0, 16, 32
CAPACITIES = st.sampled_from([2, 4, 8, 16, 32, 64])
SIZES = st.integers(9, 13)
STARTS = st.one_of(
    st.integers(0, 3),
    st.integers(2**31 - 70, 2**31 + 70),
    st.integers(2**32 - 70, 2**32 + 70),
    st.integers(2**62 - 140, 2**62),
    st.integers(0, 2**62),
)
LEAST, MOST = -(2**63), 2**63 - 1
ANY_WORD = st.one_of(st.integers(LEAST, MOST), st.sampled_from([LEAST, LEAST + 1, -1, 0, 1, MOST - 1, MOST]))


def memory_of(slots: int, size: int, start: int) -> np.ndarray:
    words = np.full(BASE + slots * size, -7, np.int64)
    words[TAIL_AT] = words[HEAD_AT] = start
    return words


class RingAgainstQueue(RuleBasedStateMachine):
    """Whatever the order of calls, the ring is a bounded queue whose slots are where they should be."""

    @initialize(slots=CAPACITIES, size=SIZES, start=STARTS)
    def begin(self, slots: int, size: int, start: int) -> None:
        self.slots, self.size, self.written, self.read = slots, size, start, start
        self.words = memory_of(slots, size, start)
        self.writer, self.reader = np.full(2, start, np.int64), np.full(2, start, np.int64)
        self.queue: deque[list[int]] = deque()

    def expected(self, index: int) -> int:
        return BASE + index % self.slots * self.size

    @rule(published=st.booleans(), seed=st.integers(0, 2**40))
    def write(self, published: bool, seed: int) -> None:
        slot = reserve(self.words, HEAD_AT, BASE, self.slots, self.size, self.writer)
        if len(self.queue) == self.slots:
            assert slot == NONE
            return
        assert slot == self.expected(self.written)
        content = [seed + i for i in range(self.size)]
        self.words[slot : slot + self.size] = content
        if published:
            publish(self.words, TAIL_AT, self.writer)
            self.queue.append(content)
            self.written += 1

    @rule(released=st.booleans())
    def read_one(self, released: bool) -> None:
        slot = look(self.words, TAIL_AT, BASE, self.slots, self.size, self.reader)
        if not self.queue:
            assert slot == NONE
            return
        assert slot == self.expected(self.read)
        assert self.words[slot : slot + self.size].tolist() == self.queue[0]
        if released:
            release(self.words, HEAD_AT, self.reader)
            self.queue.popleft()
            self.read += 1

    @rule()
    def fill(self) -> None:
        while len(self.queue) < self.slots:
            self.write(published=True, seed=self.written % 1000)
        self.write(published=True, seed=0)

    @rule()
    def empty(self) -> None:
        while self.queue:
            self.read_one(released=True)
        self.read_one(released=True)

    @invariant()
    def words_say_how_far_either_side_is(self) -> None:
        if hasattr(self, "words"):
            assert (self.words[TAIL_AT], self.words[HEAD_AT]) == (self.written, self.read)


TestRingAgainstQueue = RingAgainstQueue.TestCase
TestRingAgainstQueue.settings = settings(max_examples=120, stateful_step_count=40, derandomize=True)


@settings(max_examples=400, derandomize=True)
@given(slots=CAPACITIES, size=SIZES, start=STARTS, ahead=st.integers(0, 64), word=ANY_WORD)
def test_garbage_indices_never_lead_out_of_the_ring(slots: int, size: int, start: int, ahead: int, word: int) -> None:
    inside = {BASE + i * size for i in range(slots)}
    words = memory_of(slots, size, start)
    words[TAIL_AT] = words[HEAD_AT] = word
    own = np.array([start + ahead % (slots + 1), start], np.int64)
    for _ in range(2 * slots):
        slot = reserve(words, HEAD_AT, BASE, slots, size, own)
        assert slot in inside | {NONE, BAD}
        own[PLACE] += slot >= 0
    own = np.array([start, start], np.int64)
    for _ in range(2 * slots):
        slot = look(words, TAIL_AT, BASE, slots, size, own)
        assert slot in inside | {NONE, BAD}
        own[PLACE] += slot >= 0


@settings(max_examples=400, derandomize=True)
@given(slots=CAPACITIES, start=STARTS, word=ANY_WORD)
def test_a_tail_that_cannot_be_is_bad(slots: int, start: int, word: int) -> None:
    words, own = memory_of(slots, 9, start), np.array([start, start], np.int64)
    words[TAIL_AT] = word
    slot = look(words, TAIL_AT, BASE, slots, 9, own)
    assert (slot == BAD) == (not start <= word <= start + slots)
    if slot == BAD:
        assert own.tolist() == [start, start]


# Once, in ring.py: `tail - head` wraps for a head below tail - 2**63, and a writer that has believed it never looks
# again: it overwrites slots that were not read.
@settings(max_examples=400, derandomize=True)
@given(slots=CAPACITIES, start=STARTS, word=ANY_WORD)
@example(slots=2, start=0, word=LEAST)
def test_a_head_that_cannot_be_is_bad(slots: int, start: int, word: int) -> None:
    words, own = memory_of(slots, 9, start), np.array([start + slots, start], np.int64)
    words[HEAD_AT] = word
    slot = reserve(words, HEAD_AT, BASE, slots, 9, own)
    assert (slot == BAD) == (not start <= word <= start + slots)
    if slot == BAD:
        assert own[SEEN] == start


@pytest.mark.parametrize("power", range(63))
def test_buckets_hold_the_powers_of_two(power: int) -> None:
    known = edges()
    for duration in {2**power - 1, 2**power, 2**power + 1}:
        holds_one(known, duration)


@settings(max_examples=500, derandomize=True)
@given(duration=st.integers(LEAST, MOST))
def test_buckets_hold_any_duration(duration: int) -> None:
    holds_one(edges(), duration)


def holds_one(known: np.ndarray, duration: int) -> None:
    place = bucket_of(duration)
    assert 0 <= place < BUCKETS
    if duration < 0:
        assert place == 0
    elif duration >= known[-1]:
        assert place == BUCKETS - 1
    else:
        assert known[place] <= duration < known[place + 1]


def test_edges_grow_by_at_most_an_eighth() -> None:
    known = edges()
    assert (np.diff(known) >= 1).all()
    assert (np.diff(known)[8:] * 8 <= known[8:-1]).all()


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_right_within_an_eighth(seed: int) -> None:
    generator = np.random.default_rng(seed)
    samples = np.sort(np.exp(generator.uniform(0.0, 25.0, 5000)).astype(np.int64))
    counts = np.zeros(BUCKETS, np.int64)
    for sample in samples.tolist():
        count_in(counts, 0, sample)
    for share in (0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0):
        (found,) = percentiles(counts, (share,))
        truth = samples[max(0, int(np.ceil(share * len(samples))) - 1)]
        assert found is not None
        assert abs(found - truth) <= truth / 8


def test_percentiles_of_nothing_are_none() -> None:
    assert percentiles(np.zeros(BUCKETS, np.int64), (0.5, 0.99)) == (None, None)
