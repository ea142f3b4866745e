"""One lane, one port: what is asked, what is refused, what is lost, and who may have a lane.

Comments that begin with "Once" say what was wrong before.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvalidSettings,
    LaneLost,
    Overloaded,
    SwarmError,
    SwarmUnavailable,
    UnknownSnapshot,
)
from cluster.lanes import calls
from cluster.lanes.addresses import LaneAddress
from cluster.lanes.lane import Lane
from cluster.lanes.layout import (
    BAD_INPUT,
    CORRUPT,
    FREE,
    FULL,
    HUNG_UP,
    LANE_GENERATION,
    LANE_STATE,
    LANE_TIMES,
    LATE_ANSWER,
    NO_STATE,
    PAGE,
    PORT_COUNTERS,
    PORT_GENERATION,
    PORT_LANES,
    PORT_MAGIC,
    PORT_SLOT_WORDS,
    PORT_SLOTS,
    PORT_STRATEGY,
    PORT_TIMES,
    PORT_VERSION,
    REQUEST_HEAD,
    REQUEST_TAIL,
    STARVED,
    TOO_LARGE,
    WRONG_SNAPSHOT,
)
from cluster.lanes.memory import SharedWords
from cluster.lanes.peer import Peer, started
from cluster.lanes.port import Port
from tests.cluster.lanes.sides import (
    CODED,
    ECHO,
    GATE,
    HELD,
    HOLD,
    LOITER,
    ORDER,
    agent,
    counter,
    laned,
    mine,
    obliging,
    served,
    side,
)
from tests.conftest import eventually

SHORT_S = 0.02
STRATEGIES = ["spin", "yield", "park"]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def refusal(work: Callable[[], Any]) -> SwarmError:
    """The typed error of a call, without the frames that would keep its memory."""
    try:
        work()
    except SwarmError as error:
        return error.with_traceback(None)
    pytest.fail("nothing was refused")


def let_pass(port: Port, ticket: int) -> None:
    port.memory.words[GATE] = ticket


# Asking.


@pytest.mark.parametrize("serving", STRATEGIES)
@pytest.mark.parametrize("asking", STRATEGIES)
def test_answers_are_those_of_the_question(serving: str, asking: str) -> None:
    with served(strategy=serving) as port, laned(port, asking) as lane:
        for size in (0, 1, 2, 5, lane.geometry.payload_words):
            question = np.arange(size) + 0.25
            assert lane.ask(ECHO, question, patience_s=30.0).tolist() == question.tolist()
        assert lane.service_ns > 0


def test_nan_infinity_and_signed_zero_pass_unchanged() -> None:
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1.7976931348623157e308])
    odd = np.append(odd, np.array([0x7FF8DEADBEEF0001], np.int64).view(np.float64))
    with served() as port, laned(port) as lane:
        assert lane.ask(ECHO, odd).tobytes() == odd.tobytes()


def test_send_and_receive_keep_the_order() -> None:
    with served() as port, laned(port) as lane:
        for number in range(8):
            lane.send(ECHO, np.array([number]) * 1.0)
        assert [lane.receive()[0] for _ in range(8)] == list(range(8))


def test_receive_without_a_question_waits_until_its_deadline() -> None:
    with served() as port, laned(port) as lane:
        with pytest.raises(DeadlineExceeded):
            lane.receive(patience_s=SHORT_S)
        assert lane.ask(ECHO, np.array([2.0]))[0] == 2.0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (LATE_ANSWER, DeadlineExceeded),
        (WRONG_SNAPSHOT, UnknownSnapshot),
        (BAD_INPUT, InvalidRequest),
        (NO_STATE, SwarmUnavailable),
        (TOO_LARGE, InvalidRequest),
        (77, LaneLost),
    ],
)
def test_codes_of_answers_are_typed_errors(code: int, kind: type[SwarmError]) -> None:
    with served() as port, laned(port) as lane:
        with pytest.raises(kind):
            lane.ask(CODED, np.array([float(code)]))
        assert lane.ask(ECHO, np.array([2.0]))[0] == 2.0


def test_an_unknown_operation_is_an_invalid_request() -> None:
    with served() as port, laned(port) as lane:
        with pytest.raises(InvalidRequest, match="no such operation"):
            lane.ask(99, np.zeros(1))
        assert port.do(port.status).counters["failed"] == 1


# Once, in calls.py: a negative code, which no agent may answer, is taken for OK and its numbers for an answer.
def test_a_negative_code_is_no_answer() -> None:
    with served() as port, laned(port) as lane, pytest.raises(LaneLost):
        lane.ask(CODED, np.array([-7.0]))


def test_an_oversized_payload_is_refused_and_not_sent() -> None:
    with served() as port, laned(port) as lane:
        for ask in (lane.ask, lane.send):
            with pytest.raises(InvalidRequest, match="17 numbers"):
                ask(ECHO, np.zeros(17))
        assert port.memory.words[port.geometry.lane_at(0) + REQUEST_TAIL] == 0


# Once, in lane.py: only the size is looked at. Lists and None are AttributeErrors, a matrix or a string fails in the
# compiler, other kinds of numbers are compiled for inside the caller's deadline.
@pytest.mark.parametrize(
    "payload",
    [
        np.zeros(3, np.float32),
        np.zeros(3, np.int64),
        np.zeros(8)[::2],
        np.zeros((2, 2)),
        np.array(1.0),
        np.array(["a"]),
        np.zeros(2, ">f8"),
        [1.0, 2.0],
        None,
    ],
    ids=["float32", "int64", "strided", "matrix", "scalar", "text", "swapped", "list", "none"],
)
def test_a_payload_of_another_kind_is_one_invalid_request(payload: Any) -> None:
    with served() as port, laned(port) as lane:
        compiled = len(calls.ask.signatures)
        with pytest.raises(InvalidRequest):
            lane.ask(ECHO, payload)
        assert len(calls.ask.signatures) == compiled
        assert lane.ask(ECHO, np.array([2.0]))[0] == 2.0


def test_an_answer_goes_to_whom_it_belongs_in_whatever_order_they_are_taken() -> None:
    with served() as port, laned(port) as lane:
        numbers = [lane.send(ECHO, np.array([float(value)]), patience_s=60.0) for value in range(6)]
        for value in (3, 0, 5, 1, 4, 2):
            assert lane.receive(numbers[value], patience_s=60.0).tolist() == [value]
        late = lane.send(ECHO, np.array([7.0]), patience_s=60.0)
        assert lane.ask(ECHO, np.array([8.0]), patience_s=60.0).tolist() == [8.0]
        with pytest.raises(DeadlineExceeded):  # given up by the question after it, and never taken for another
            lane.receive(late, patience_s=SHORT_S)
        assert lane.ask(ECHO, np.array([9.0]), patience_s=60.0).tolist() == [9.0]


def test_threads_that_share_a_lane_never_take_each_others_answers() -> None:
    with served() as port, laned(port) as lane:

        def ask(first: int) -> int:
            right = 0
            for value in range(first, first + 200):
                number = lane.send(ECHO, np.array([float(value)]), patience_s=60.0)
                right += lane.receive(number, patience_s=60.0).tolist() == [value]
            return right

        with ThreadPoolExecutor(3) as threads:
            assert list(threads.map(ask, (0, 1000, 2000))) == [200] * 3


def test_threads_open_their_first_lanes_at_the_same_time() -> None:
    program = (
        "from concurrent.futures import ThreadPoolExecutor; from cluster.lanes import calls\n"
        "with ThreadPoolExecutor(4) as pool: list(pool.map(lambda _: calls.settle(), range(4)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_read_only_payload_is_taken() -> None:
    question = np.array([1.0, 2.0])
    question.flags.writeable = False
    with served() as port, laned(port) as lane:
        assert lane.ask(ECHO, question).tolist() == [1.0, 2.0]


# Giving up.


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_gave_up_gets_the_answer_to_the_new_question(strategy: str) -> None:
    with served(strategy="park") as port, laned(port, strategy) as lane:
        for ticket in range(1, 30):
            with pytest.raises(DeadlineExceeded):
                lane.ask(HOLD, np.array([ticket, -1.0]), patience_s=0.005)
            let_pass(port, ticket)
            assert lane.ask(ECHO, np.array([ticket, 7.0])).tolist() == [ticket, 7.0]


def test_giving_up_more_often_than_there_are_slots() -> None:
    with served(slots=4) as port, laned(port) as lane:
        for ticket in range(1, 4):
            outcomes = [refusal(lambda t=ticket: lane.ask(HOLD, np.array([t * 1.0]), patience_s=0.005))]
            outcomes += [refusal(lambda: lane.ask(ECHO, np.array([-1.0]), patience_s=0.005)) for _ in range(11)]
            assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 4 + [Overloaded] * 8
            let_pass(port, ticket)
            assert eventually(lambda t=ticket: answered(lane, 1000.0 + t))
            for number in range(20):
                assert lane.ask(ECHO, np.array([float(number)]))[0] == number


def answered(lane: Lane, number: float) -> bool:
    try:
        assert lane.ask(ECHO, np.array([number]))[0] == number
    except Overloaded:
        return False
    return True


def test_late_answers_by_the_dozen_are_all_thrown_away() -> None:
    with served(slots=4) as port, laned(port) as lane:
        for ticket in range(1, 40):
            with pytest.raises(DeadlineExceeded):
                lane.ask(HOLD, np.array([float(ticket)]), patience_s=0.001)
            let_pass(port, ticket)
            assert eventually(lambda: port.status().lanes[0].waiting == 0)
        assert lane.ask(ECHO, np.array([2.0]))[0] == 2.0


def test_a_question_that_is_too_late_is_not_computed() -> None:
    with served() as port, laned(port) as lane, laned(port) as other:
        lane.send(HOLD, np.array([1.0]))
        assert eventually(lambda: port.memory.words[HELD] == 1)
        with pytest.raises(DeadlineExceeded):
            other.ask(ECHO, np.array([1.0]), patience_s=0.001)
        let_pass(port, 1)
        assert lane.receive()[0] == 1.0
        assert eventually(lambda: port.status().counters["late"] == 1)


@pytest.mark.parametrize("patience_s", [-1.0, float("nan"), float("inf")])
def test_a_patience_that_is_no_span_is_refused(patience_s: float) -> None:
    with served() as port, laned(port) as lane:
        with pytest.raises(InvalidRequest, match="patience"):
            lane.ask(ECHO, np.zeros(1), patience_s=patience_s)
        assert lane.ask(ECHO, np.ones(1)).tolist() == [1.0]


@pytest.mark.parametrize("patience_s", [0.0, 0.001, 0.03, 0.15])
def test_deadlines_are_kept(patience_s: float) -> None:
    with served() as port, laned(port) as lane:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            lane.ask(HOLD, np.array([1.0]), patience_s=patience_s)
        taken = time.monotonic() - begun
        assert max(0.0, patience_s) - 0.001 <= taken < max(0.0, patience_s) + 0.1


class Interrupted(Exception):
    """What a signal's handler raises, like KeyboardInterrupt."""


# Once, in lane.py: whatever else than the deadline ends the waiting (Ctrl-C, a signal's handler) leaves the question
# wanted; the next question is given its answer, and so is every one after it.
def test_a_question_after_an_interrupted_one_gets_its_own_answer() -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with served() as port, laned(port) as lane:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Interrupted):
                lane.ask(HOLD, np.array([1.0]), patience_s=5.0)
            let_pass(port, 1)
            assert lane.ask(ECHO, np.array([2.0]))[0] == 2.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


# Once, in calls.py: `ask` takes the oldest answer that is wanted, not that of its own question.
def test_ask_after_send_gets_its_own_answer() -> None:
    with served() as port, laned(port) as lane:
        lane.send(ECHO, np.array([1.0]))
        assert lane.ask(ECHO, np.array([2.0]))[0] == 2.0


# Full rings.


def test_a_full_ring_is_overloaded_and_loses_nothing() -> None:
    with served(slots=8) as port, laned(port) as lane:
        for ticket in range(1, 4):
            lane.send(HOLD, np.array([float(ticket)]), patience_s=60.0)
            for number in range(7):
                lane.send(ECHO, np.array([float(number)]), patience_s=60.0)
            for ask in (lane.send, lane.ask):
                with pytest.raises(Overloaded):
                    ask(ECHO, np.array([99.0]))
            let_pass(port, ticket)
            assert [lane.receive()[0] for _ in range(8)] == [ticket, *range(7)]
            assert lane.ask(ECHO, np.array([5.0]))[0] == 5.0
        assert counter(port.memory, port.geometry, 0, FULL) == 6


def test_answers_that_nobody_takes_hold_no_other_lane_up() -> None:
    with served(slots=4) as port, laned(port) as slow, laned(port) as other:
        accepted = 0
        while accepted < 8:
            try:
                slow.send(ECHO, np.array([float(accepted)]), patience_s=60.0)
                accepted += 1
            except Overloaded:
                pass
            assert other.ask(ECHO, np.array([7.0]))[0] == 7.0
        assert [slow.receive()[0] for _ in range(8)] == list(range(8))


# Once, in serving.py: a question whose answer has no room counts as work, so one caller that takes no answers keeps
# a parking agent awake for good.
def test_an_agent_sleeps_beside_answers_that_nobody_takes() -> None:
    with served(slots=2) as port, laned(port) as slow:
        accepted = 0
        while accepted < 4:
            try:
                slow.send(ECHO, np.zeros(1), patience_s=60.0)
                accepted += 1
            except Overloaded:
                pass
        words = port.memory.words
        assert eventually(lambda: words[PORT_COUNTERS + STARVED] > 0)
        before = port.status().counters
        assert eventually(lambda: port.status().counters["parked"] > before["parked"])


def test_lanes_are_served_in_turn() -> None:
    port = Port(lanes=4, slots=8, slot_words=24, strategy="park")
    loud, quiet, third = (Lane(mine(port), "park") for _ in range(3))
    for _ in range(8):
        loud.send(ORDER, np.zeros(1), patience_s=60.0)
    for lane in (quiet, third, third):
        lane.send(ORDER, np.zeros(1), patience_s=60.0)
    serving = threading.Thread(target=port.serve, args=(lambda: obliging,), daemon=True)
    serving.start()
    assert quiet.receive()[0] <= 2
    assert third.receive()[0] <= 2
    assert third.receive()[0] <= 5
    assert sorted(loud.receive()[0] for _ in range(8))[-1] == 10
    for lane in (loud, quiet, third):
        lane.close()
    port.stop()
    serving.join()


# What cannot be believed.


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (PORT_MAGIC, 1, "not the port that was meant"),
        (PORT_VERSION, 2, "speaks layout 2"),
        (PORT_GENERATION, 5, "not the port that was meant"),
        (PORT_LANES, 0, "sizes"),
        (PORT_LANES, -1, "sizes"),
        (PORT_LANES, 2**14, "sizes"),
        (PORT_LANES, 2**62, "sizes"),
        (PORT_SLOTS, 0, "sizes"),
        (PORT_SLOTS, 3, "sizes"),
        (PORT_SLOTS, 2**20, "sizes"),
        (PORT_SLOTS, -(2**63), "sizes"),
        (PORT_SLOT_WORDS, 8, "sizes"),
        (PORT_SLOT_WORDS, 2**16, "sizes"),
        (PORT_SLOT_WORDS, 2**61, "sizes"),
    ],
)
def test_a_header_that_cannot_be_believed_is_a_lost_lane(place: int, value: int, reason: str) -> None:
    with served() as port:
        address = mine(port)
        sound, before = int(port.memory.words[place]), descriptors()
        port.memory.words[place] = value
        assert reason in str(refusal(lambda: Lane(address)))
        assert descriptors() == before
        port.memory.words[place] = sound
        Lane(address).close()


@pytest.mark.parametrize("change", [{"lane": -1}, {"lane": 4}, {"lane": 2**40}, {"lane": 1}, {"generation": 9}])
def test_an_address_of_no_lane_is_a_lost_lane(change: dict[str, int]) -> None:
    with served() as port:
        address, before = mine(port), descriptors()
        assert isinstance(refusal(lambda: Lane(replace(address, **change))), LaneLost)
        assert descriptors() == before


@pytest.mark.parametrize("state", [FREE, HUNG_UP])
def test_a_lane_that_is_not_open_is_lost(state: int) -> None:
    with served() as port:
        address = mine(port)
        port.memory.words[port.geometry.lane_at(0) + LANE_STATE] = state
        assert "somebody else" in str(refusal(lambda: Lane(address)))


def other_descriptors() -> list[int]:
    unsealed = os.memfd_create("riskswarm-test")
    os.ftruncate(unsealed, 8 * PAGE)
    small = os.memfd_create("riskswarm-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(small, 100)
    fcntl.fcntl(small, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    frozen = os.memfd_create("riskswarm-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(frozen, 8 * PAGE)
    fcntl.fcntl(frozen, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    vast = os.memfd_create("riskswarm-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(vast, 2**62)
    fcntl.fcntl(vast, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with tempfile.NamedTemporaryFile() as regular:
        regular.write(bytes(8 * PAGE))
        regular.flush()
        kept = os.dup(regular.fileno())
    return [unsealed, small, frozen, vast, kept, *os.pipe(), os.open("/dev/null", os.O_RDWR), os.open("/", os.O_RDONLY)]


def test_a_descriptor_of_something_else_is_a_lost_lane() -> None:
    with served() as port:
        address, others = mine(port), other_descriptors()
        before = descriptors()
        for descriptor in [*others, 10**6, -1]:
            elsewhere = replace(address, port=replace(address.port, descriptor=descriptor))
            assert isinstance(refusal(lambda it=elsewhere: Lane(it)), LaneLost)
            assert descriptors() == before
        for descriptor in others:
            os.close(descriptor)


def test_a_process_that_ended_or_another_of_its_pid_is_a_lost_lane() -> None:
    with served() as port:
        with side(agent, "obliging", {}) as there:
            remote = there.answer()
            there.kill()
            assert eventually(lambda: gone(there.pid, remote.started))
        address, before = mine(port), descriptors()
        ended = LaneAddress(remote, 0, 1)
        reused = replace(address, port=replace(address.port, started=address.port.started + 1))
        for lost in (ended, reused):
            assert "has ended" in str(refusal(lambda it=lost: Lane(it)))
        for pid, ticks in [(remote.pid, remote.started), (os.getpid(), address.port.started + 1)]:
            assert "has ended" in str(refusal(lambda p=pid, t=ticks: port.open(p, t, "park")))
        assert descriptors() == before


def gone(pid: int, ticks: int) -> bool:
    try:
        peer = Peer(pid, ticks)
    except OSError:
        return True
    alive = peer.alive()
    peer.close()
    return not alive


def test_opening_and_closing_leaks_no_descriptor() -> None:
    with served() as port:
        with laned(port) as lane:
            lane.ask(ECHO, np.zeros(1))
        del lane
        port.sweep()
        before = descriptors()
        for _ in range(50):
            with laned(port) as lane:
                lane.ask(ECHO, np.zeros(1))
            del lane
            assert port.sweep() == 1
        assert descriptors() == before


# Once, in port.py: the strategy is looked up after the caller's handle was made, on the serving thread; the error is
# a ValueError and the handle stays open.
def test_an_unknown_strategy_is_refused_and_leaks_nothing() -> None:
    with served() as port:
        before = descriptors()
        with pytest.raises(InvalidSettings):
            port.open(os.getpid(), started(os.getpid()), "sleepy")
        assert descriptors() == before


def test_the_memory_can_be_neither_shrunk_nor_grown_and_is_private() -> None:
    with served() as port, laned(port) as lane:
        for descriptor in (port.memory.descriptor, lane._memory.descriptor):
            for size in (0, 8, 2**30):
                with pytest.raises(PermissionError):
                    os.ftruncate(descriptor, size)
            with pytest.raises(PermissionError):
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
            assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        assert not [name for name in Path("/dev/shm").iterdir() if "riskswarm" in name.name]


# Once, in port.py: the count of a lane's generations lies where callers write. One that leaves the largest number
# there makes `open` an OverflowError for everybody, for good: that lane stays the first free one.
def test_a_generation_at_its_end_does_not_bar_the_port() -> None:
    with served() as port:
        with laned(port) as lane:
            lane._memory.words[port.geometry.lane_at(0) + LANE_GENERATION] = 2**63 - 1
        port.sweep()
        for _ in range(3):
            with laned(port) as again:
                assert again.ask(ECHO, np.array([2.0]))[0] == 2.0


# Once, port.py: what callers can write is subtracted, added up and used as an index.
@pytest.mark.parametrize(
    ("place", "values"),
    [
        (PAGE + REQUEST_HEAD, [-(2**63)]),
        (PAGE + LANE_TIMES, [5, -10, 20, -40]),
        (PAGE + LANE_TIMES, [2**62, 2**62, 2**62]),
        (PORT_TIMES, [5, -10, 20, -40]),
        (PORT_STRATEGY, [7]),
    ],
    ids=["head", "times", "many", "service", "strategy"],
)
def test_status_survives_a_caller_that_scribbles(place: int, values: list[int]) -> None:
    with served() as port, laned(port) as lane:
        lane._memory.words[place : place + len(values)] = values
        assert len(port.status().lanes) == 1


# Who has a lane.


def test_sixty_four_lanes_swap_no_answers_and_the_next_is_overloaded() -> None:
    def work(number: int) -> int:
        lane = Lane(mine(port), "park")
        everyone.wait(60.0)
        generator = np.random.default_rng(number)
        for trip in range(60):
            question = generator.normal(size=1 + (number + trip) % 16)
            question[0] = number
            np.testing.assert_array_equal(lane.ask(ECHO, question, patience_s=30.0), question)
        kept.append(lane)
        return lane.address.lane

    everyone, kept = threading.Barrier(64), list[Lane]()
    with served(lanes=64) as port, ThreadPoolExecutor(64) as pool:
        assert sorted(pool.map(work, range(64))) == list(range(64))
        assert port.do(port.status).counters["served"] == 64 * 60
        before = descriptors()
        for _ in range(3):
            assert isinstance(refusal(lambda: mine(port)), Overloaded)
        assert descriptors() == before
        kept[17].close()
        assert mine(port).lane == kept[17].address.lane
        for lane in kept:
            lane.close()


def test_a_thousand_lanes_can_be_opened() -> None:
    with served(lanes=1000, slots=2, slot_words=16) as port:
        addresses = [mine(port) for _ in range(1000)]
        assert [address.lane for address in addresses] == list(range(1000))
        for address in (addresses[0], addresses[500], addresses[999]):
            lane = Lane(address, "park")
            assert lane.ask(ECHO, np.array([3.0]))[0] == 3.0
            lane.close()
        assert port.sweep() == 3


# Once, in port.py: LANE_BROKEN overwrites the HUNG_UP of the caller, and the lane stays taken while the process lives.
def test_a_broken_lane_that_hung_up_is_freed() -> None:
    port = Port(lanes=1, slots=2, slot_words=16)
    lane = Lane(mine(port), "park")
    port.memory.words[port.geometry.lane_at(0) + REQUEST_TAIL] = 10**9
    lane.close()
    serving = threading.Thread(target=port.serve, args=(lambda: obliging,), daemon=True)
    serving.start()
    try:
        assert eventually(lambda: port.memory.words[PORT_COUNTERS + CORRUPT] > 0)
        assert port.sweep() == 1
    finally:
        port.stop()
        serving.join(10.0)


# Once, in lane.py: `receive` does not look whether the lane was closed. It takes the answers of whoever has it now.
def test_receive_after_close_is_a_lost_lane() -> None:
    with served() as port:
        first = Lane(mine(port), "park")
        first.send(ECHO, np.array([1.0]))
        first.close()
        assert port.sweep() == 1
        with laned(port) as second:
            second.send(ECHO, np.array([2.0]))
            assert eventually(lambda: port.status().lanes[0].waiting == 0)
            with pytest.raises(LaneLost):
                first.receive()
            assert second.receive()[0] == 2.0


def test_a_closed_lane_is_lost_and_closes_twice() -> None:
    with served() as port:
        lane = Lane(mine(port), "park")
        lane.close()
        lane.close()
        assert lane.lost
        for ask in (lane.ask, lane.send):
            with pytest.raises(LaneLost, match="closed"):
                ask(ECHO, np.zeros(1))


def test_a_lane_closed_by_another_thread_ends_what_it_was_asked() -> None:
    with served() as port, laned(port) as lane, ThreadPoolExecutor(2) as pool:
        asked = pool.submit(lane.ask, HOLD, np.array([1.0]), patience_s=60.0)
        assert eventually(lambda: port.memory.words[HELD] == 1)
        closed = pool.submit(lane.close)
        let_pass(port, 1)
        assert asked.result(10.0)[0] == 1.0
        closed.result(10.0)
        assert lane.lost


# Once, in lane.py: the answer is one array for all threads and leaves the lock: the next thread overwrites it before
# the first has looked. "Threads take turns" needs an array a thread, or a copy.
def test_an_answer_is_not_overwritten_by_another_thread() -> None:
    with served() as port, laned(port) as lane, ThreadPoolExecutor(1) as pool:
        found = lane.ask(ECHO, np.array([1.0]))
        pool.submit(lane.ask, ECHO, np.array([2.0])).result(10.0)
        assert found[0] == 1.0


# Once, in peer.py: one poll object must not be used by two threads at a time; `lost` holds no lock.
def test_lost_may_be_asked_by_many_threads() -> None:
    def look(_: int) -> int:
        everyone.wait(10.0)
        return sum(lane.lost for _ in range(20_000))

    everyone = threading.Barrier(4)
    with served() as port, laned(port) as lane, ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(look, range(4))) == 0


# Once, port.py: the caller's strategy is given twice, to `open` and to `Lane`. A caller that parks in
# a lane opened for one that spins is never woken: every question takes a sleep of up to 20 ms.
def test_a_caller_that_parks_is_woken_whatever_it_was_opened_for() -> None:
    with served() as port:
        lane = Lane(mine(port, "spin"), "park")
        begun = time.monotonic()
        for _ in range(20):  # the agent takes longer than the caller spins
            lane.ask(LOITER, np.array([0.0, 20_000.0]))
        taken = time.monotonic() - begun
        lane.close()
        with laned(port) as woken:
            begun = time.monotonic()
            for _ in range(20):
                woken.ask(LOITER, np.array([0.0, 20_000.0]))
            assert taken < 5 * (time.monotonic() - begun)


# Errands, sweeping and stopping.


def test_errands_open_sweep_and_stop_beside_a_busy_loop() -> None:
    def ask(lane: Lane) -> int:
        for number in range(3000):
            assert lane.ask(ECHO, np.array([float(number)]), patience_s=30.0)[0] == number
        return 3000

    def come_and_go(number: int) -> int:
        for trip in range(30):
            with laned(port) as lane:
                assert lane.ask(ECHO, np.array([number, trip, 0.5]), patience_s=30.0).tolist() == [number, trip, 0.5]
            port.sweep()
            assert port.do(lambda t=trip: t) == trip
        return 30

    with served(lanes=16) as port, laned(port) as lane, ThreadPoolExecutor(5) as pool:
        asking = pool.submit(ask, lane)
        assert list(pool.map(come_and_go, range(4))) == [30] * 4
        assert asking.result(60.0) == 3000
        port.sweep()
        assert [found.lane for found in port.status().lanes] == [lane.address.lane]


def test_what_an_errand_raises_reaches_who_sent_it() -> None:
    with served() as port, laned(port) as lane:
        with pytest.raises(ZeroDivisionError):
            port.do(lambda: 1 // 0)
        assert lane.ask(ECHO, np.array([2.0]))[0] == 2.0


# Once, in port.py: before `serve` has begun, and beside its beginning, errands run on whatever thread sent them, at
# the same time: two opens find the same free lane.
def test_errands_before_serving_run_one_at_a_time() -> None:
    port, inside, overlaps = Port(lanes=2, slots=2, slot_words=16), threading.Event(), []

    def first() -> None:
        inside.set()
        overlaps.append(done.wait(0.3))

    done = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(port.do, first)
        assert inside.wait(10.0)
        pool.submit(port.do, done.set).result(10.0)
        running.result(10.0)
    port.stop()
    assert overlaps == [False]


# Once, in port.py: an errand whose sender gave up is done later all the same; `open` then gives away a lane that
# nobody knows of until the process ends.
def test_an_errand_that_timed_out_is_not_done() -> None:
    with served() as port, laned(port) as lane:
        done = []
        lane.send(HOLD, np.array([1.0]), patience_s=30.0)
        assert eventually(lambda: port.memory.words[HELD] == 1)
        with pytest.raises(TimeoutError):
            port.do(lambda: done.append(1), timeout_s=SHORT_S)
        let_pass(port, 1)
        assert lane.receive()[0] == 1.0
        assert port.do(lambda: 5) == 5
        assert not done


def test_stopping_twice_and_asking_after_it() -> None:
    with served() as port, laned(port) as lane:
        lane.ask(ECHO, np.zeros(1))
        port.stop()
        port.stop()
        assert lane.lost
        for _ in range(3 * 8):
            with pytest.raises(LaneLost):
                lane.ask(ECHO, np.zeros(1))
        address = lane.address
        assert isinstance(refusal(lambda: Lane(address)), LaneLost)


def test_stopping_while_asked_loses_the_lane() -> None:
    def ask() -> SwarmError:
        number = 0
        while True:
            number += 1
            try:
                assert lane.ask(ECHO, np.array([float(number)]), patience_s=5.0)[0] == number
            except SwarmError as error:
                return error

    for _ in range(10):
        with served() as port, laned(port) as lane, ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            assert eventually(lambda p=port: p.status().counters["served"] > 20)
            port.stop()
            assert isinstance(asking.result(10.0), LaneLost)


# Once, in port.py: two that stop at a time close the same handles twice, or what has been opened in their place.
def test_stopping_from_several_threads_at_a_time() -> None:
    def stop(_: int) -> None:
        everyone.wait(10.0)
        port.stop()

    everyone = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            with served(lanes=64, slots=2) as port:
                for _ in range(64):
                    mine(port)
                list(pool.map(stop, range(4)))


# Once, in port.py: a port that was stopped still gives lanes away, in memory that nobody can reach.
def test_opening_after_stop_is_a_lost_lane() -> None:
    with served() as port:
        port.stop()
        before = descriptors()
        with pytest.raises(LaneLost):
            mine(port)
        assert descriptors() == before


# Once, in port.py: only the slots are looked at.
@pytest.mark.parametrize("sizes", [{"lanes": 0}, {"slot_words": 8}, {"slot_words": 4}, {"lanes": 2**15}])
def test_sizes_that_no_caller_would_believe_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(InvalidSettings):
        Port(**{"lanes": 1, "slots": 2, "slot_words": 16, **sizes}).stop()


@pytest.mark.parametrize("slots", [0, 1, 3, 6, -2])
def test_rings_are_powers_of_two(slots: int) -> None:
    with pytest.raises(InvalidSettings):
        Port(slots=slots)


def test_memory_that_cannot_be_had_is_lanes_unavailable() -> None:
    from cluster.errors import LanesUnavailable

    before = descriptors()
    assert isinstance(refusal(lambda: SharedWords.create("riskswarm-test", 2**58)), LanesUnavailable)
    assert descriptors() == before
