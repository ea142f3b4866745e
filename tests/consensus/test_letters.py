"""What waits to be read: a share for each sender, and nothing that takes long from one who has no business with it."""

from __future__ import annotations

import sys
import threading

import pytest

from consensus.letters import BYTES_A_TURN, LARGE_BYTES, LARGE_PAUSE_NS, WAITING_BYTES, Letters
from consensus.simplex.chain import SUPPLY_BYTES
from consensus.simplex.types import MOST_MESSAGE_BYTES, MOST_SUPPLY_BYTES, Malformed, decode, packed, unpacked

PEERS = 4
SUPPLY = 6  # as `decode` tags it
LARGE = bytes(LARGE_BYTES + 1)


def test_each_sender_has_its_share_of_the_room_and_of_every_turn() -> None:
    letters = Letters(400)
    assert letters.put(1, [b"a"] * 150, 0, known=True, peers=PEERS) == 50
    assert letters.put(2, [b"b"], 0, known=True, peers=PEERS) == 0
    taken = letters.take(20)
    assert (2, b"b") in taken
    assert taken.count((1, b"a")) == 10


def test_whether_anything_waits_can_be_asked_while_others_put_their_first_letter_down() -> None:
    """The owner of a core asks without a lock; what it raised there would end the replica."""
    letters, interval, raised = Letters(400), sys.getswitchinterval(), []
    begun, done = threading.Event(), threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                bool(letters)
                begun.set()
        except RuntimeError as error:
            raised.append(error)

    sys.setswitchinterval(1e-6)
    asking = threading.Thread(target=ask)
    try:
        asking.start()
        begun.wait()
        for sender in range(2000):
            letters.put(sender, [], 0, known=True, peers=PEERS)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        asking.join()
    assert not raised


def test_of_large_messages_a_peer_gets_in_one_at_a_time_and_a_stranger_none() -> None:
    letters = Letters(400)
    assert letters.put(1, [LARGE, b"small", LARGE], 0, known=True, peers=PEERS) == 1
    assert letters.put(1, [LARGE], LARGE_PAUSE_NS - 1, known=True, peers=PEERS) == 1
    assert letters.put(1, [LARGE], LARGE_PAUSE_NS, known=True, peers=PEERS) == 0
    assert letters.put(9, [LARGE, b"small"], 0, known=False, peers=PEERS) == 1
    assert [len(message) for sender, message in letters.take(400) if sender == 9] == [5]


def test_of_many_bytes_some_are_read_at_a_time_and_no_more_wait_than_there_is_room_for() -> None:
    letters, size = Letters(4000), BYTES_A_TURN // 4
    sent = 2 * WAITING_BYTES // size
    dropped = letters.put(1, [bytes(size)] * sent, 0, known=True, peers=PEERS)
    letters.put(2, [b"b"], 0, known=True, peers=PEERS)
    assert (sent - dropped) * size <= WAITING_BYTES
    read = 0
    while letters:
        taken = letters.take(4000)
        assert sum(sender == 1 for sender, _ in taken) <= 4
        read += len(taken)
    assert read == sent - dropped + 1
    assert letters.put(1, [bytes(size)], 0, known=True, peers=PEERS) == 0  # there is room again


def test_what_is_no_bytes_is_dropped() -> None:
    letters = Letters(400)
    assert letters.put(1, [None, "text", 7, b"word"], 0, known=True, peers=PEERS) == 3
    assert letters.take(400) == [(1, b"word")]


def test_what_everybody_needs_is_not_large() -> None:
    assert max(MOST_MESSAGE_BYTES, SUPPLY_BYTES) < LARGE_BYTES


@pytest.mark.parametrize("tag", range(9))
def test_only_a_supply_may_be_long(tag: int) -> None:
    read = []
    for size in (MOST_MESSAGE_BYTES, MOST_SUPPLY_BYTES):
        with pytest.raises(Malformed) as raised:
            decode(b"\x92" + bytes([tag]) + bytes(size))
        read.append("are read" not in str(raised.value))
    assert read == [tag == SUPPLY, False]


def test_lists_of_hardly_anything_are_refused_and_what_is_said_with_them_is_not() -> None:
    assert unpacked(packed([[number, bytes(16)] for number in range(10_000)]))[9_999] == [9_999, bytes(16)]
    with pytest.raises(Malformed):
        unpacked(packed([[]] * 10_000))
    with pytest.raises(Malformed):
        unpacked(packed([0] * 70_000))
