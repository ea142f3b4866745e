"""Replicas' shared memory: what is told is heard by those it is meant for, through deaths, and garbage by nobody."""

from __future__ import annotations

import numpy as np
import pytest

from cluster import head
from consensus import lanes
from consensus.lanes import Lanes
from consensus.simplex.types import packed

PATIENCE_S = 20.0


class Room:
    """Three replicas' lanes in one process; introductions are calls."""

    def __init__(self):
        self.heard = {number: [] for number in range(3)}
        self.lost = {number: set() for number in range(3)}
        self.lanes = {}
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
        self.lanes[number].start()

    def end(self, number):
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


def test_who_leaves_is_neither_told_nor_heard_until_it_is_attended_to_again(room):
    ear = room.lanes[0]._ears[2]
    room.lanes[0].ignore(2)
    ear.join()
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
