"""Replicas' shared memory: what is told is heard by those it is meant for, through deaths, and garbage by nobody."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cluster import head
from cluster.lanes import broadcast_kernels as kernels
from cluster.lanes.broadcast import Broadcaster
from cluster.lanes.layout import PAGE
from consensus import lanes
from consensus.lanes import Lanes
from consensus.simplex.types import packed

PATIENCE_S = 20.0


class Ear:
    """A thread that hears through lanes, as a replica's does."""

    def __init__(self, own):
        self.lanes, self.closing = own, False
        own.start()
        self.thread = threading.Thread(target=self.live)
        self.thread.start()

    def live(self):
        while not self.closing:
            seen = self.lanes.seen()
            self.lanes.hear()
            self.lanes.rest(PATIENCE_S, seen)

    def close(self):
        self.closing = True
        self.lanes.wake()
        self.thread.join()


class Room:
    """Three replicas' lanes in one process; introductions are calls."""

    def __init__(self):
        self.heard = {number: [] for number in range(3)}
        self.lost = {number: set() for number in range(3)}
        self.lanes, self.ears = {}, {}
        for number in range(3):
            self.begin(number)

    def begin(self, number):
        def introduce(peer):
            if peer not in self.lanes:
                return None
            self.lanes[peer].listening.add(number)
            return self.lanes[peer].address

        def hear(peer, messages):
            self.heard[number].append((peer, messages))

        others = [peer for peer in range(3) if peer != number]
        self.lanes[number] = Lanes(number, others, introduce, hear, self.lost[number].add)
        self.ears[number] = Ear(self.lanes[number])

    def end(self, number):
        self.ears.pop(number).close()
        self.lanes.pop(number).close()

    def acquainted(self):
        return all(len(own.listening) == 2 for own in self.lanes.values())

    def hears(self, number, what):
        return head.until(lambda: what in self.heard[number], PATIENCE_S)


@pytest.fixture
def room():
    made = Room()
    assert head.until(made.acquainted, PATIENCE_S)
    yield made
    for number in list(made.lanes):
        made.end(number)


def test_a_letter_is_heard_by_those_it_is_meant_for_and_only_by_them(room):
    assert room.lanes[0].tell([1, 2], [b"to both", b"twice"]) == []
    assert room.lanes[0].tell([2], [b"to one"]) == []
    assert room.lanes[0].tell([1], [b"last"]) == []
    assert room.hears(1, (0, [b"last"]))
    assert room.hears(2, (0, [b"to one"]))
    assert room.heard[1] == [(0, [b"to both", b"twice"]), (0, [b"last"])]
    assert (0, [b"to both", b"twice"]) in room.heard[2]


def test_what_is_too_large_or_for_a_stranger_is_left_to_others(room):
    assert room.lanes[0].tell([1, 2], [bytes(lanes.MOST_LETTER_BYTES)]) == [1, 2]
    assert room.lanes[0].tell([1, 7], [b"known and unknown"]) == [7]
    assert room.hears(1, (0, [b"known and unknown"]))


def test_a_replica_that_comes_back_is_heard_again_and_hears(room):
    assert not room.lost[0]
    room.end(2)
    assert head.until(lambda: room.lost[0] == room.lost[1] == {2}, PATIENCE_S)
    room.begin(2)

    def greeted():
        room.lanes[0].tell([2], [b"welcome"])
        room.lanes[2].tell([0], [b"thanks"])
        return (0, [b"welcome"]) in room.heard[2] and (2, [b"thanks"]) in room.heard[0]

    assert head.until(greeted, PATIENCE_S)


def test_who_has_begun_to_live_is_looked_for_at_once(room, monkeypatch):
    for pause in ("SHORTEST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(lanes, pause, 1000.0)
    room.end(2)
    assert head.until(lambda: room.lost[0] == room.lost[1] == {2}, PATIENCE_S)
    room.begin(2)
    room.lanes[0].attend(2)

    def greeted():
        room.lanes[2].tell([0], [b"here"])
        return (2, [b"here"]) in room.heard[0]

    assert head.until(greeted, PATIENCE_S)
    assert room.lanes[2].listening == {0}


LOADED = """
from cluster.lanes import broadcast_kernels
from consensus.lanes import Lanes

def loads():
    kernels = [kernel for kernel in vars(broadcast_kernels).values() if hasattr(kernel, "stats")]
    return sum(sum(kernel.stats.cache_hits.values()) + sum(kernel.stats.cache_misses.values()) for kernel in kernels)

told, ears = [], {}

def hear(*heard):
    told.append(heard)

for number in (0, 1):
    ears[number] = Lanes(number, (1 - number,), lambda peer: ears[peer].address, hear, print)
before = loads()
assert before > 0
for own in ears.values():
    own.listening.update({0, 1})
    own.start()
while not told:
    ears[0].tell([1], [b"word"])
    seen = ears[1].seen()
    ears[1].hear()
    ears[1].rest(1.0, seen)
assert told[0] == (0, [b"word"])
print(loads() - before)
"""


def test_nothing_is_loaded_while_a_peer_speaks() -> None:
    """But for speaking itself, which loads in five milliseconds; hearing would take half a second."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["1"], done.stderr


def test_who_leaves_is_neither_told_nor_heard_until_it_is_attended_to_again(room):
    room.lanes[0].ignore(2)
    assert room.lanes[0].tell([1, 2], [b"not to who left"]) == [2]
    assert room.lanes[2].tell([0], [b"from who left"]) == []
    room.lanes[0].attend(2)

    def greeted():
        room.lanes[2].tell([0], [b"back"])
        return (2, [b"back"]) in room.heard[0]

    assert head.until(greeted, PATIENCE_S)
    assert (2, [b"from who left"]) not in room.heard[0]


def test_seats_beyond_the_bits_of_a_word_are_left_to_others(room):
    room.lanes[0].listening |= {62, 63}
    assert room.lanes[0].tell([1, 62, 63], [b"to many"]) == [63]
    assert room.hears(1, (0, [b"to many"]))


@pytest.mark.parametrize("wrong", ["length", "nobody", "no list", "no bytes", "torn"])
def test_garbage_in_a_slot_is_heard_by_nobody(wrong):
    slot = np.zeros(lanes.PAYLOAD_WORDS, np.int64)
    letter = packed({"no list": b"alone", "no bytes": [1]}.get(wrong, [b"sound"]))
    slot[0], slot[1] = len(letter), 1 << 1
    slot.view(np.uint8)[16 : 16 + len(letter)] = np.frombuffer(letter, np.uint8)
    if wrong == "length":
        slot[0] = lanes.MOST_LETTER_BYTES + 1
    elif wrong == "nobody":
        slot[1] = 1 << 2
    elif wrong == "torn":
        slot[0] -= 2
    assert lanes._letter(slot, 1) == []


@pytest.fixture
def listener(room):
    """Makes a fourth replica that hears the peers it is given, each through an introduction of the test's own."""
    made = []

    def make(introduce, heard):
        def hear(peer, messages):
            heard.append((peer, messages))

        made.append(Ear(Lanes(3, tuple(introduce), lambda peer: introduce[peer](), hear, lambda _: None)))
        return made[-1].lanes

    yield make
    for own in made:
        assert own.thread.is_alive()
        own.close()
        own.lanes.close()


def speaks(room, number):
    def introduce():
        room.lanes[number].listening.add(3)
        return room.lanes[number].address

    return introduce


@pytest.mark.parametrize("wrong", ["shape", "stuck", "no number"])
def test_a_peer_whose_ring_is_not_as_it_should_be_keeps_nobody_else_from_being_heard(room, listener, wrong):
    with Broadcaster(slots=16, payload_words=1 if wrong == "shape" else lanes.PAYLOAD_WORDS) as mouth:
        heard = []
        own = listener({0: speaks(room, 0), 1: lambda: mouth.address}, heard)
        if wrong != "shape":
            assert head.until(lambda: not own._found and not any(s.is_alive() for s in own._seekers), PATIENCE_S)
        if wrong == "stuck":
            mouth.words[kernels.RING_TAIL] += 1  # it says that there is a message, and there is none
        else:
            mouth.publish(np.full(mouth.payload_words, -1))

        def greeted():
            room.lanes[0].tell([3], [b"good day"])
            return (0, [b"good day"]) in heard

        for _ in range(3):
            heard.clear()
            assert head.until(greeted, PATIENCE_S)


def test_a_peer_that_stopped_in_the_middle_of_a_word_is_not_looked_at_without_end():
    with Broadcaster(slots=16, payload_words=lanes.PAYLOAD_WORDS) as mouth:
        own = Lanes(1, (0,), lambda peer: mouth.address, lambda peer, messages: None, lambda peer: None)
        own.start()
        assert head.until(lambda: bool(own._found), PATIENCE_S)
        mouth.words[PAGE + kernels.SLOT_SEQUENCE] = 1  # of the first message: it is being written
        begun_ns, rests = time.monotonic_ns(), 50
        for _ in range(rests):
            seen = own.seen()
            own.hear()
            own.rest(PATIENCE_S, seen)
        assert own._sleepless > lanes.MOST_SLEEPLESS  # they ended at once, by themselves
        assert time.monotonic_ns() - begun_ns >= (rests - lanes.MOST_SLEEPLESS) * lanes.LEAST_REST_NS
        own.close()


def test_who_is_woken_does_not_rest_and_hears_of_what_came_before_it_rang():
    own = Lanes(1, (), lambda peer: None, lambda peer, messages: None, lambda peer: None)
    for _ in range(2 * lanes.MOST_SLEEPLESS):
        seen = own.seen()
        own.wake()
        own.rest(PATIENCE_S, seen)
        assert own._sleepless == 0
    own.close()


def test_a_peer_that_speaks_without_end_is_heard_some_letters_at_a_time(room):
    heard = []
    own = Lanes(3, (0,), lambda peer: speaks(room, 0)(), lambda peer, messages: heard.extend(messages), lambda _: None)
    own.start()
    assert head.until(lambda: bool(own._found), PATIENCE_S)
    for number in range(lanes.MOST_AT_A_TIME + 5):
        room.lanes[0].tell([3], [b"%d" % number])
    counts = []
    for _ in range(3):
        own.hear()
        counts.append(len(heard))
    assert counts == [lanes.MOST_AT_A_TIME, *[lanes.MOST_AT_A_TIME + 5] * 2]
    assert heard == [b"%d" % number for number in range(counts[-1])]
    own.close()


def test_a_search_that_ends_after_its_peer_was_forgotten_does_not_displace_a_later_one(room, listener):
    late, calls, heard = threading.Event(), [], []

    def introduce():
        calls.append(None)
        if len(calls) == 1:
            assert late.wait(PATIENCE_S)
        return speaks(room, 0)()

    own = listener({0: introduce}, heard)
    assert head.until(lambda: len(calls) == 1, PATIENCE_S)
    first = own._seekers[0]
    own.ignore(0)
    own.attend(0)

    def greeted(word):
        room.lanes[0].tell([3], [word])
        return (0, [word]) in heard

    assert head.until(lambda: greeted(b"before"), PATIENCE_S)
    late.set()
    first.join()
    assert head.until(lambda: not own._found, PATIENCE_S)
    assert head.until(lambda: greeted(b"after"), PATIENCE_S)
    assert len(calls) == 2
