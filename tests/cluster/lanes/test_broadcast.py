"""A broadcast against a list of Python, under fire, and between processes that are killed.

``RISKSWARM_TORTURE_MESSAGES=100000000`` makes the streams as long as a campaign wants them.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from numba import njit

from cluster.errors import DeadlineExceeded, InvalidRequest, InvalidSettings, LaneLost
from cluster.lanes import broadcast_kernels as kernels
from cluster.lanes.addresses import BroadcastAddress
from cluster.lanes.atomics import give_way, now_ns, pause
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import BAD, NONE, TAKEN, announce, hear, publish, take
from cluster.lanes.layout import PAGE, STRATEGIES
from tests.cluster.lanes.sides import drawn, side, stall

MESSAGES = int(os.environ.get("RISKSWARM_TORTURE_MESSAGES", "1000000"))
CAMPAIGN = pytest.mark.timeout(180 if MESSAGES <= 10_000_000 else 0)
ROUNDS = 5
PATIENCE_S, GRACE_S = 0.4, 0.1
PATIENCE_NS = 60_000_000_000
PAYLOAD = 6
LEAST, MOST = -(2**63), 2**63 - 1
STARTS = st.one_of(
    st.integers(0, 3),
    st.integers(2**31 - 70, 2**31 + 70),
    st.integers(2**32 - 70, 2**32 + 70),
    st.integers(2**62 - 3000, 2**62 - 2000),
    st.integers(0, 2**62 - 2000),
)
SLOTS = st.sampled_from([2, 4, 8, 16])


@njit(cache=True, nogil=True, error_model="numpy")
def mixed(number, place):
    """What word ``place`` of a message is; no step overflows, which compiled signed numbers must not."""
    return (number % 1_000_003) * 1_000_000_007 + place * 65_537 + (number >> 40)


def content(number: int) -> list[int]:
    return [mixed(number, place) for place in range(PAYLOAD)]


def inbox() -> np.ndarray:
    return np.full(PAYLOAD, -1, np.int64)


class RingAgainstList(RuleBasedStateMachine):
    """Whatever the order of calls, a reader gets what was written in order, but for what it is told that it missed."""

    @initialize(slots=SLOTS, start=STARTS)
    def begin(self, slots: int, start: int) -> None:
        self.broadcast = Broadcaster(slots=slots, payload_words=PAYLOAD, first=start)
        self.slots, self.first, self.next, self.halfway = slots, start, start, False
        self.listeners = [Listener(self.broadcast.address, oldest=oldest) for oldest in (True, False, True)]
        self.cursors, self.missed, self.leads = [start] * 3, [0] * 3, [0] * 3

    def teardown(self) -> None:
        if hasattr(self, "broadcast"):
            for ear in self.listeners:
                ear.close()
            self.broadcast.close()

    @rule(count=st.integers(1, 40))
    def write(self, count: int) -> None:
        self.broadcast.publish(np.array([content(self.next + i) for i in range(count)]))
        self.next += count
        self.halfway = False

    @rule()
    def stop_halfway(self) -> None:
        slot = PAGE + self.next % self.slots * int(self.broadcast.hand[kernels.SIZE])
        self.broadcast.words[slot] = 2 * self.next + 1
        self.broadcast.words[slot + 2 : slot + 5] = 77
        self.halfway = True

    def catch_up(self, which: int) -> int:
        """Where a reader goes on: with the oldest message that is whole, further when it was overtaken before."""
        cursor, fresh = self.cursors[which], self.leads[which] == 0
        while self.next - cursor >= self.slots + (not self.halfway):
            cursor = max(self.next - self.slots + self.leads[which], cursor + 1)
            self.leads[which] = min(2 * self.leads[which] + 1, self.slots - 1)
        assert not fresh or cursor == max(self.cursors[which], self.next - self.slots + self.halfway)
        self.missed[which] += cursor - self.cursors[which]
        self.cursors[which] = cursor
        return cursor

    @rule(which=st.integers(0, 2), count=st.integers(1, 30))
    def read(self, which: int, count: int) -> None:
        box, hand = inbox(), self.listeners[which].hand
        for _ in range(count):
            cursor = self.catch_up(which)
            expected = NONE if cursor == self.next else TAKEN
            self.leads[which] *= expected == TAKEN
            assert take(self.broadcast.words, hand, box) == expected
            if expected == TAKEN:
                assert box.tolist() == content(cursor)
                cursor += 1
            self.cursors[which] = cursor
            assert (hand[kernels.CURSOR], hand[kernels.MISSED]) == (cursor, self.missed[which])
            assert not kernels.astray(self.broadcast.words, hand)

    @rule(which=st.integers(0, 2))
    def poll(self, which: int) -> None:
        heard = self.listeners[which].poll()
        cursor = self.catch_up(which)
        assert heard.numbers.tolist() == list(range(cursor, self.next))
        assert heard.messages.tolist() == [content(number) for number in heard.numbers.tolist()]
        assert self.listeners[which].missed == self.missed[which]
        self.cursors[which], self.leads[which] = self.next, 0

    @rule(which=st.integers(0, 2), oldest=st.booleans())
    def listen_anew(self, which: int, oldest: bool) -> None:
        self.listeners[which].close()
        self.listeners[which] = Listener(self.broadcast.address, oldest=oldest)
        kept = max(self.first, self.next - self.slots)
        self.cursors[which], self.missed[which], self.leads[which] = kept if oldest else self.next, 0, 0


TestRingAgainstList = RingAgainstList.TestCase
TestRingAgainstList.settings = settings(max_examples=100, stateful_step_count=30, derandomize=True)


@settings(max_examples=400, derandomize=True)
@given(slots=SLOTS, start=STARTS, before=st.integers(0, 40), after=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_garbage_never_becomes_a_message(slots: int, start: int, before: int, after: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with Broadcaster(slots=slots, payload_words=PAYLOAD, first=start) as broadcast:
        words, size = broadcast.words, int(broadcast.hand[kernels.SIZE])
        with Listener(broadcast.address) as listener:
            write(broadcast, before)
            for _ in range(rng.integers(1, 6)):
                scribble(words, size, slots, rng)
            assert_truthful(words, listener.hand, 3 * slots)
            write(broadcast, after)
            assert_truthful(words, listener.hand, 3 * slots)
        write(broadcast, slots)  # the writer heals what it writes
        words[kernels.RING_FIRST] = 0
        hand = listener.hand
        hand[kernels.CURSOR] = broadcast.written - slots
        assert_truthful(words, hand, slots, every=True)


def write(broadcast: Broadcaster, count: int) -> None:
    for _ in range(count):
        publish(broadcast.words, broadcast.hand, np.array(content(broadcast.written)))


def scribble(words: np.ndarray, size: int, slots: int, rng: np.random.Generator) -> None:
    slot, other = (PAGE + rng.integers(slots) * size for _ in range(2))
    match rng.integers(5):
        case 0:
            words[PAGE:] = rng.integers(LEAST, MOST, len(words) - PAGE)
        case 1:
            words[rng.choice([kernels.RING_TAIL, slot, slot + 1])] = rng.choice([LEAST, -1, 0, 1, MOST - 1, MOST])
        case 2:
            words[slot : slot + size] = words[other : other + size]
        case 3:
            words[rng.choice([kernels.RING_TAIL, slot, slot + rng.integers(2 + PAYLOAD)])] += rng.integers(-40, 40)
        case _:
            words[slot + 2 : slot + 2 + PAYLOAD] = words[other + 2 : other + 2 + PAYLOAD]


def assert_truthful(words: np.ndarray, hand: np.ndarray, count: int, every: bool = False) -> None:
    box = inbox()
    for _ in range(count):
        found = take(words, hand, box)
        assert found in {TAKEN, NONE, BAD}
        assert found == TAKEN or not every
        if found == TAKEN:
            assert box.tolist() == content(int(hand[kernels.CURSOR]) - 1)


@settings(max_examples=150, derandomize=True)
@given(place=st.integers(0, 8), word=st.one_of(st.integers(LEAST, MOST), st.integers(0, 64)))
def test_a_header_that_cannot_be_believed_is_no_broadcast(place: int, word: int) -> None:
    with Broadcaster(slots=4, payload_words=PAYLOAD) as broadcast:
        write(broadcast, 3)
        before, broadcast.words[place] = int(broadcast.words[place]), word
        try:
            with Listener(broadcast.address, oldest=True) as listener:
                assert_truthful(broadcast.words, listener.hand, 3)
        except LaneLost:
            assert word != before


def test_a_reader_that_would_wait_for_ever_is_told_so() -> None:
    with Broadcaster(slots=4, payload_words=PAYLOAD) as broadcast, Listener(broadcast.address) as listener:
        broadcast.words[kernels.RING_TAIL] = 3
        with pytest.raises(LaneLost):
            listener.wait(5.0)


def test_what_cannot_be_is_refused() -> None:
    for wrong in ({"slots": 3}, {"slots": 1}, {"payload_words": 0}, {"payload_words": 2**20}, {"first": -1}):
        with pytest.raises(InvalidSettings):
            Broadcaster(**wrong)
    with Broadcaster(slots=4, payload_words=3) as broadcast:
        for wrong in (np.zeros(3), np.zeros(2, np.int64), np.zeros((2, 3, 3), np.int64), np.zeros(6, np.int64)[::2]):
            with pytest.raises(InvalidRequest):
                broadcast.publish(wrong)
        assert broadcast.written == 0
        with pytest.raises(InvalidSettings):
            Listener(broadcast.address, "hurry")
        with pytest.raises(LaneLost):
            Listener(BroadcastAddress(os.getpid(), 1, broadcast.address.descriptor, 1))
        listener = Listener(broadcast.address)
        with pytest.raises(DeadlineExceeded):
            listener.wait(0.0)
    listener.close()
    with pytest.raises(LaneLost):
        listener.poll()
    with pytest.raises(LaneLost):
        broadcast.publish(np.zeros(3, np.int64))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_close_is_heard_after_the_last_message(strategy: str) -> None:
    broadcast = Broadcaster(slots=4, payload_words=PAYLOAD)
    with Listener(broadcast.address, strategy) as listener:
        write(broadcast, 3)
        broadcast.close()
        assert listener.wait(5.0).numbers.tolist() == [0, 1, 2]
        with pytest.raises(LaneLost):
            listener.wait(5.0)
        assert listener.lost


@njit(cache=True, nogil=True, error_model="numpy")
def pour(words, hand, messages, seed, polite):
    """Write messages with stalls; one in 512 gives way where ``polite``."""
    state, message = seed, np.zeros(PAYLOAD, np.int64)
    for number in range(messages):
        state = stall(state)
        if polite and state & 0x1FF == 7:
            give_way()
        for i in range(PAYLOAD):
            message[i] = mixed(number, i)
        if state & 1:
            publish(words, hand, message)
        else:
            announce(words, hand, message)
    kernels.wake(words)


@njit(cache=True, nogil=True, error_model="numpy")
def sip(words, hand, messages, seed, slow):
    """Read until the last message; (taken, first that was wrong or -1). ``slow`` pauses after every message."""
    state, message, control, taken = seed, np.zeros(PAYLOAD, np.int64), np.zeros(1, np.int64), 0
    while hand[kernels.CURSOR] < messages:
        before = hand[kernels.CURSOR]
        reason = hear(words, hand, message, control, now_ns(hand[kernels.SCRATCH :]) + PATIENCE_NS)
        number = hand[kernels.CURSOR] - 1
        if reason != TAKEN or number < before:
            return taken, before
        for i in range(PAYLOAD):
            if message[i] != mixed(number, i):
                return taken, number
        taken += 1
        state = stall(state)
        for _ in range(slow):
            pause()
    return taken, -1


def pourer(pipe: Connection, messages: int, slots: int, polite: bool) -> None:
    """Process that says where it writes and, when told, writes."""
    broadcast = Broadcaster(slots=slots, payload_words=PAYLOAD)
    pipe.send(broadcast.address)
    pipe.recv()
    pour(broadcast.words, broadcast.hand, messages, 9, polite)
    pipe.send(broadcast.written)
    pipe.recv()


@CAMPAIGN
@pytest.mark.parametrize(
    ("slots", "strategy", "polite"), [(8, "yield", False), (1024, "spin", True), (64, "park", True)]
)
def test_no_message_is_torn_doubled_or_lost_unsaid(slots: int, strategy: str, polite: bool) -> None:
    with side(pourer, MESSAGES, slots, polite) as writer:
        with Listener(writer.answer(), strategy) as listener:
            writer.pipe.send("go")
            taken, wrong = sip(listener.words, listener.hand, MESSAGES, 5, 0)
            assert wrong == -1
            assert taken + listener.missed == MESSAGES
            assert taken > 0
        assert writer.answer() == MESSAGES


@CAMPAIGN
def test_readers_of_different_speeds_do_not_mind_each_other() -> None:
    messages, found = MESSAGES // 10, {}
    with side(pourer, messages, 256, True) as writer:
        address = writer.answer()
        listeners = {slow: Listener(address, "park") for slow in (0, 30, 3000)}

        def read(slow: int) -> None:
            ear = listeners[slow]
            found[slow] = (*sip(ear.words, ear.hand, messages, 3 + slow, slow), ear.missed)

        threads = [threading.Thread(target=read, args=(slow,)) for slow in listeners]
        for thread in threads:
            thread.start()
        writer.pipe.send("go")
        for thread in threads:
            thread.join(90.0)
        assert writer.answer() == messages
    for taken, wrong, missed in found.values():
        assert wrong == -1
        assert taken + missed == messages
    assert found[3000][2] > 0
    for ear in listeners.values():
        ear.close()


@njit(cache=True, nogil=True, error_model="numpy")
def echo_all(words, hand, own, own_hand, trips):
    """Answer every message with itself; how many."""
    message, control = np.zeros(PAYLOAD, np.int64), np.zeros(1, np.int64)
    for trip in range(trips):
        if hear(words, hand, message, control, now_ns(hand[kernels.SCRATCH :]) + PATIENCE_NS) != TAKEN:
            return trip
        for _ in range(message[1]):
            pause()
        announce(own, own_hand, message)
    return trips


@njit(cache=True, nogil=True, error_model="numpy")
def shout_and_listen(words, hand, own, own_hand, trips, times):
    """One message at a time and its echo, with random pauses on both sides; ``times`` in ns."""
    state, control = 77, np.zeros(1, np.int64)
    message, answer = np.zeros(PAYLOAD, np.int64), np.zeros(PAYLOAD, np.int64)
    for trip in range(trips):
        state = drawn(state)
        for _ in range(state % 24576):
            pause()
        message[0], message[1] = trip, (state >> 20) % 12288
        begun = now_ns(hand[kernels.SCRATCH :])
        announce(own, own_hand, message)
        if hear(words, hand, answer, control, begun + 1_000_000_000) != TAKEN or answer[0] != trip:
            return trip
        times[trip] = now_ns(hand[kernels.SCRATCH :]) - begun
    return trips


def echoer(pipe: Connection, address: BroadcastAddress, trips: int) -> None:
    """Process that answers every message of a broadcast in one of its own."""
    with Broadcaster(slots=8, payload_words=PAYLOAD) as own, Listener(address, "park") as listener:
        pipe.send(own.address)
        pipe.send(echo_all(listener.words, listener.hand, own.words, own.hand, trips))
        pipe.recv()


def test_parked_readers_always_wake() -> None:
    trips, times = 5000, np.zeros(5000, np.int64)
    with Broadcaster(slots=8, payload_words=PAYLOAD) as own, side(echoer, own.address, trips) as other:
        with Listener(other.answer(), "park") as listener:
            done = shout_and_listen(listener.words, listener.hand, own.words, own.hand, trips, times)
        assert done == trips
        assert own.words[kernels.RING_BELL] > trips // 100
    # A wake-up that was lost ends with the longest sleep, after 20 ms. A busy machine delays a few as long.
    assert np.mean(times > 15_000_000) < 0.002


def chatterer(pipe: Connection) -> None:
    """Process that writes on and on, with pauses."""
    broadcast = Broadcaster(slots=64, payload_words=PAYLOAD)
    pipe.send(broadcast.address)
    while True:
        write(broadcast, 3)
        kernels.wake(broadcast.words)
        time.sleep(0.0005)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_writer_is_lost_within_the_deadline(strategy: str) -> None:
    late = []
    for number in range(ROUNDS):
        with side(chatterer) as writer, Listener(writer.answer(), strategy) as listener:
            executioner = threading.Timer(0.005 * number, writer.kill)
            executioner.start()
            expected = None
            while True:
                begun = time.monotonic()
                try:
                    heard = listener.wait(PATIENCE_S)
                except DeadlineExceeded:  # the writer lacked a core
                    continue
                except LaneLost:
                    late.append(time.monotonic() - begun - PATIENCE_S)
                    break
                expected = int(heard.numbers[0]) if expected is None else expected
                assert heard.numbers.tolist() == list(range(expected, expected + len(heard.numbers)))
                assert heard.messages.tolist() == [content(each) for each in heard.numbers.tolist()]
                expected += len(heard.numbers)
            assert listener.lost
            with pytest.raises(LaneLost):
                listener.poll()
            with pytest.raises(LaneLost):
                Listener(listener.address)
            executioner.join()
    assert sorted(late)[-2] < GRACE_S
    assert max(late) < 10 * GRACE_S


def eager(pipe: Connection, address: BroadcastAddress, strategy: str) -> None:
    """Process that listens for ever."""
    listener = Listener(address, strategy)
    pipe.send("listening")
    while True:
        listener.wait(60.0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_writer_never_notices_a_killed_reader(strategy: str) -> None:
    with Broadcaster(slots=64, payload_words=PAYLOAD) as broadcast, Listener(broadcast.address) as other:
        for _ in range(ROUNDS):
            with side(eager, broadcast.address, strategy) as reader:
                assert reader.answer() == "listening"
                time.sleep(0.02)
                reader.kill()
                reader.process.join(10.0)
            for _ in range(2):
                message = np.array(content(broadcast.written))
                broadcast.publish(message)
                assert other.wait(1.0).messages.tolist() == [message.tolist()]
            broadcast.publish(np.array(content(broadcast.written)))
            assert broadcast.words[kernels.RING_SLEEPERS] == 0  # what the dead left there cost one ring
            assert len(other.poll().numbers) == 1
        assert other.missed == 0


def test_a_listener_is_quiet_where_nothing_is_to_be_heard_and_the_writer_was_just_seen_alive() -> None:
    with Broadcaster(slots=64, payload_words=PAYLOAD) as broadcast, Listener(broadcast.address) as listener:
        assert not listener.quiet()  # the writer has never been looked for
        until = time.monotonic() + 10.0
        while not listener.quiet() and time.monotonic() < until:
            assert not len(listener.poll().numbers)
        assert listener.quiet()
        broadcast.publish(np.array(content(broadcast.written)))
        assert not listener.quiet()
        assert len(listener.poll().numbers) == 1
        while listener.quiet() and time.monotonic() < until:
            time.sleep(0.001)
        assert not listener.quiet()  # its end is due to be looked for


def test_a_thread_that_is_wanted_comes_back() -> None:
    with Broadcaster(slots=8, payload_words=PAYLOAD) as broadcast:
        for strategy in STRATEGIES:
            with Listener(broadcast.address, strategy) as listener:
                control = np.zeros(1, np.int64)
                until = time.monotonic_ns() + PATIENCE_NS
                arguments = (listener.words, listener.hand, inbox(), control, until)
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(hear, *arguments)
                    time.sleep(0.01)
                    control[0] = 1
                    assert answer.result(10.0) == kernels.WANTED
