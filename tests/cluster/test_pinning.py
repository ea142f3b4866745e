"""Processes bind themselves for real; what came of it is read from outside of them, in /proc."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from cluster import pinning
from cluster.topology import discover, format_cpulist, parse_cpulist

CORES = sorted(os.sched_getaffinity(0))
NOBODY = 65_534
ABSENT_CORE = 60_000
REPOSITORY = Path(__file__).parents[2]
ONE_NODE = len(discover().nodes) == 1

several_cores = pytest.mark.skipif(len(CORES) < 2, reason="binding to one of one core proves nothing")
numa_kernel = pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="this kernel has no NUMA policies")

PREAMBLE = """
import os, sys, threading, time
from cluster import pinning
stop = threading.Event()
def start(count):
    ready = threading.Barrier(count + 1)
    def live():
        ready.wait()
        stop.wait()
    for _ in range(count):
        threading.Thread(target=live, daemon=True).start()
    ready.wait()
def show(value):
    print(value, flush=True)
    sys.stdin.readline()
"""

DENY = """
import ctypes, struct
def deny(*numbers):  # a seccomp filter, as container runtimes use: these system calls give EPERM
    load, equal, answer = (0x20, 0, 0, 0), lambda k, jump: (0x15, 0, jump, k), lambda k: (0x06, 0, 0, k)
    steps = [load]
    for number in numbers:
        steps += [equal(number, 1), answer(0x00050000 | 1)]
    steps.append(answer(0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    word = ctypes.c_ulong
    if libc.prctl(38, word(1), word(0), word(0), word(0)) or libc.prctl(22, word(2), program):
        show("no seccomp")
        sys.exit()
"""
SYSTEM_CALLS = {
    "x86_64": {"sched_setaffinity": 203, "set_mempolicy": 238, "get_mempolicy": 239, "mbind": 237},
    "aarch64": {"sched_setaffinity": 122, "set_mempolicy": 237, "get_mempolicy": 236, "mbind": 235},
}.get(platform.machine(), {})
seccomp = pytest.mark.skipif(not SYSTEM_CALLS, reason="system call numbers of this processor are not known here")


class Subject:
    """A process that runs a script, and what the kernel says of its threads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def says(self) -> str:
        """Next line the script shows; it waits there until :meth:`go`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, "the script has ended"
        return line

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def tasks(self) -> list[Path]:
        return list(Path(f"/proc/{self.process.pid}/task").iterdir())

    def masks(self) -> list[tuple[int, ...]]:
        """Affinity of every thread, from its status."""
        lines = []
        for task in self.tasks():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                lines += (task / "status").read_text().splitlines()
        return [parse_cpulist(line.split(":")[1]) for line in lines if line.startswith("Cpus_allowed_list")]

    def niceness(self) -> set[int]:
        """Of all threads, from field 19 of their stat."""
        return {int((task / "stat").read_text().rpartition(")")[2].split()[16]) for task in self.tasks()}


@pytest.fixture
def run() -> Callable[[str], contextmanager[Subject]]:
    @contextmanager
    def running(script: str) -> Iterator[Subject]:
        command = [sys.executable, "-c", PREAMBLE + script]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield Subject(process)
            finally:
                process.kill()

    return running


@several_cores
def test_every_thread_is_bound_and_a_later_one_inherits(run):
    core = CORES[-1]
    script = f"""
start(6)
show("before")
binding = pinning.bind([{core}], node=None)
show(f"{{binding.cores}} {{binding.threads}} {{binding.notes}}")
start(2)
show("later")
"""
    with run(script) as subject:
        assert subject.says() == "before"
        assert subject.masks() == [tuple(CORES)] * 7
        subject.go()
        assert subject.says() == f"({core},) 7 ()"
        assert subject.masks() == [(core,)] * 7
        subject.go()
        assert subject.says() == "later"
        assert subject.masks() == [(core,)] * 9


@several_cores
def test_threads_that_start_their_successor_and_end_do_not_escape(run):
    script = f"""
def relay():
    time.sleep(0.0005)
    if not stop.is_set():
        threading.Thread(target=relay, daemon=True).start()
for _ in range(8):
    relay()
show("before")
pinning.bind([{CORES[0]}], node=None)
show("bound")
stop.set()
"""
    with run(script) as subject:
        assert subject.says() == "before"
        assert set(subject.masks()) == {tuple(CORES)}
        subject.go()
        assert subject.says() == "bound"
        for _ in range(20):
            assert set(subject.masks()) == {(CORES[0],)}


@several_cores
def test_a_thread_started_in_the_middle_of_a_pass_is_found_by_the_next(run):
    script = f"""
started = []
def change(thread):
    if not started:
        started.append(True)
        start(1)
    os.sched_setaffinity(thread, {{{CORES[0]}}})
pinning._every_thread(pinning.TASKS, os.sched_getaffinity, {{{CORES[0]}}}, change)
show("bound")
"""
    with run(script) as subject:
        assert subject.says() == "bound"
        assert subject.masks() == [(CORES[0],)] * 2


@several_cores
def test_a_thread_that_ends_in_the_middle_of_a_pass_does_not_hide_its_successor(run):
    script = f"""
hand_over = threading.Event()
def predecessor():
    hand_over.wait()
    start(1)
first = threading.Thread(target=predecessor)
first.start()
os.sched_setaffinity(0, {{{CORES[0]}}})
def current(thread):
    hand_over.set()
    while os.path.exists(f"/proc/self/task/{{first.native_id}}"):
        time.sleep(0.001)
    return os.sched_getaffinity(thread)
wanted = {{{CORES[0]}}}
pinning._every_thread(pinning.TASKS, current, wanted, lambda thread: os.sched_setaffinity(thread, wanted))
show("bound")
"""
    with run(script) as subject:
        assert subject.says() == "bound"
        assert subject.masks() == [(CORES[0],)] * 2


@several_cores
def test_a_binding_can_be_widened_again(run):
    script = f"""
start(2)
pinning.bind([{CORES[0]}], node=None)
show(pinning.bind({CORES}, node=None).cores)
"""
    with run(script) as subject:
        assert subject.says() == str(tuple(CORES))
        assert subject.masks() == [tuple(CORES)] * 3


@pytest.mark.parametrize(
    ("cores", "words"),
    [
        ([ABSENT_CORE], f"{ABSENT_CORE} do not exist or are not allowed here"),
        ([CORES[0], ABSENT_CORE], f"{ABSENT_CORE} of {CORES[0]},{ABSENT_CORE} do not exist"),
        ([], "no cores were named"),
        ([-1], "-1 are no core numbers"),
        ([10**30], "are no core numbers"),
    ],
)
def test_impossible_cores_give_a_note_and_change_nothing(run, cores, words):
    script = f"""
start(2)
binding = pinning.bind({cores}, node=0)
show(f"{{binding.cores}} {{binding.notes}}")
"""
    with run(script) as subject:
        said = subject.says()
        assert said.startswith(str(tuple(CORES)))
        assert f"cores not bound: {words}" in said or words in said
        assert subject.masks() == [tuple(CORES)] * 3


def test_a_thread_that_ended_meanwhile_is_skipped(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for name in (str(ended.pid), str(threading.get_native_id()), "no thread"):
        (tmp_path / name).mkdir()
    binding = pinning.bind(CORES, node=None, task_dir=tmp_path)
    assert (binding.threads, binding.cores) == (1, tuple(CORES))
    assert pinning.renice(os.getpriority(os.PRIO_PROCESS, 0), task_dir=tmp_path) == ""
    assert pinning.bind(CORES, node=None, task_dir=tmp_path / "missing").threads == 0


@several_cores
def test_threads_that_went_elsewhere_are_noticed(run):
    script = f"""
start(2)
os.sched_setaffinity(0, [{CORES[0]}])
binding = pinning.read_back()
show(f"{{binding.cores}} {{binding.notes}}")
"""
    with run(script) as subject:
        assert subject.says() == f"{tuple(CORES)} ('2 of 3 threads may run on other cores than this one',)"


@numa_kernel
def test_the_memory_policy_is_set_for_the_calling_thread_and_what_it_starts(run):
    script = f"""
def policy_of_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(pinning.read_back().memory_node))
    thread.start()
    thread.join()
    return found[0]
go, done, found = threading.Event(), threading.Event(), []
def early():
    go.wait()
    found.append(pinning.read_back().memory_node)
    found.append(pinning.prefer_node(0))
    found.append(pinning.read_back().memory_node)
    done.set()
threading.Thread(target=early, daemon=True).start()
before = pinning.read_back().memory_node
binding = pinning.bind({CORES}, node=0)
go.set()
done.wait()
show(f"{{before}} {{binding.memory_node}} {{binding.notes}} {{policy_of_a_thread()}} {{found}}")
"""
    with run(script) as subject:
        said = subject.says()
        if "not permitted" in said:
            pytest.skip("this container refuses memory policies")
        assert said == "None 0 () 0 [None, '', 0]"


@numa_kernel
def test_the_policy_is_what_the_kernel_shows_of_a_mapping(run):
    with run(f"pinning.bind({CORES}, node=0)\nshow(pinning.read_back().memory_node)\n") as subject:
        if subject.says() != "0":
            pytest.skip("this container refuses memory policies")
        policies = {line.split()[1] for line in Path(f"/proc/{subject.process.pid}/numa_maps").read_text().splitlines()}
        assert "prefer:0" in policies


@numa_kernel
@pytest.mark.parametrize("node", [1023, 5000, -1])
def test_a_node_that_does_not_exist_is_a_note(run, node):
    script = f"""
binding = pinning.bind({CORES}, node={node})
show(f"{{binding.memory_node}} {{binding.notes}}")
"""
    with run(script) as subject:
        said = subject.says()
        if "not permitted" in said:
            pytest.skip("this container refuses memory policies")
        assert said == f"None ('memory policy not set: node {node} does not exist or is not allowed here',)"


SHARED = """
from cluster.lanes.memory import SharedWords
memory = SharedWords.create("test", 4096)
refused = pinning.prefer_node_for(memory.words, {node})
pinning.prefault(memory.words)
policies = [line.split()[1] for line in open("/proc/self/numa_maps") if "memfd:test" in line]
show(f"{{refused}} {{policies}} {{pinning.read_back().memory_node}}")
"""


@numa_kernel
def test_shared_memory_has_a_policy_of_its_own(run):
    with run(SHARED.format(node=0)) as subject:
        said = subject.says()
        if "not permitted" in said or "not known" in said:
            pytest.skip("this container refuses memory policies")
        assert said == "['prefer:0'] None", "and that of the thread stays as it was"


@numa_kernel
def test_shared_memory_on_a_node_that_does_not_exist_is_a_note(run):
    with run(SHARED.format(node=1023)) as subject:
        said = subject.says()
        if "not permitted" in said:
            pytest.skip("this container refuses memory policies")
        assert said.startswith("policy of shared memory not set: node 1023 does not exist or is not allowed here")


@seccomp
def test_a_container_without_the_right_for_policies_of_shared_memory(run):
    with run(DENY + f"deny({SYSTEM_CALLS.get('mbind')})" + SHARED.format(node=0)) as subject:
        if (said := subject.says()) == "no seccomp":
            pytest.skip("this kernel takes no filters")
        assert said.startswith("policy of shared memory not set: not permitted in this container")


@seccomp
def test_a_container_without_the_right_for_memory_policies(run):
    script = f"""
deny({SYSTEM_CALLS.get("set_mempolicy")}, {SYSTEM_CALLS.get("get_mempolicy")})
binding = pinning.bind([{CORES[0]}], node=0)
show(f"{{binding.memory_node}} {{binding.notes}}")
"""
    with run(DENY + script) as subject:
        if (said := subject.says()) == "no seccomp":
            pytest.skip("this kernel takes no filters")
        reason = "not permitted in this container"
        assert said == f"None {(f'memory policy not set: {reason}', f'memory policy not readable: {reason}')}"
        assert subject.masks() == [(CORES[0],)]


@seccomp
def test_a_container_without_the_right_to_bind(run):
    script = f"""
start(1)
deny({SYSTEM_CALLS.get("sched_setaffinity")})
binding = pinning.bind([{CORES[0]}], node=0)
show(f"{{binding.cores}} {{binding.memory_node}} {{binding.notes}}")
"""
    with run(DENY + script) as subject:
        if (said := subject.says()) == "no seccomp":
            pytest.skip("this kernel takes no filters")
        assert said == f"{tuple(CORES)} None ('cores not bound: not permitted in this container',)"
        assert subject.masks() == [tuple(CORES)] * 2


def test_every_thread_gets_the_niceness(run):
    base = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = min(19, base + 4)
    script = f"""
start(3)
show("before")
show(repr(pinning.renice({wanted})))
start(1)
show("later")
show(repr(pinning.renice(99)))
"""
    with run(script) as subject:
        assert subject.says() == "before"
        assert subject.niceness() == {base}
        subject.go()
        assert subject.says() == "''"
        assert subject.niceness() == {wanted}
        subject.go()
        assert subject.says() == "later"
        assert subject.niceness() == {wanted}
        subject.go()
        assert subject.says() == "''"
        assert subject.niceness() == {19}


def test_without_rights_niceness_only_rises(run):
    base = min(15, os.getpriority(os.PRIO_PROCESS, 0) + 1)
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
pinning.renice({base})
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
start(2)
show(pinning.renice({base - 1}))
show(repr(pinning.renice({base + 2})))
"""
    with run(script) as subject:
        said = subject.says()
        assert said == f"niceness {base - 1} refused for 3 threads: it takes CAP_SYS_NICE or a higher RLIMIT_NICE"
        assert subject.niceness() == {base}
        subject.go()
        assert subject.says() == "''"
        assert subject.niceness() == {base + 2}


@several_cores
def test_binding_takes_no_rights(run):
    script = f"""
if os.getuid() == 0:
    os.setuid({NOBODY})
start(2)
show(pinning.bind([{CORES[-1]}], node=None).threads)
"""
    with run(script) as subject:
        assert subject.says() == "3"
        assert subject.masks() == [(CORES[-1],)] * 3


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a thread away")
def test_a_thread_of_another_user_is_refused_and_the_rest_is_bound(run):
    """setuid by system call concerns one thread alone; libc's would concern all of them."""
    script = f"""
import ctypes
start(2)
setresuid = {{"x86_64": 117, "aarch64": 147}}[os.uname().machine]
ctypes.CDLL(None).syscall(ctypes.c_long(setresuid), *[ctypes.c_long({NOBODY})] * 3)
binding = pinning.bind([{CORES[0]}], node=None)
show(f"{{binding.cores}} {{binding.notes[0]}}")
show(pinning.renice(7))
"""
    with run(script) as subject:
        assert subject.says() == f"{tuple(CORES)} 2 threads not bound: not permitted in this container"
        assert sorted(subject.masks()) == sorted([(CORES[0],), tuple(CORES), tuple(CORES)])
        subject.go()
        assert subject.says() == "niceness 7 refused for 2 threads: not permitted in this container"


def resident_pages(address: int) -> int:
    """Pages in memory of the mapping that starts there, from /proc/self/smaps."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = int(line.split("-")[0], 16) == address
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024 // mmap.PAGESIZE
    raise AssertionError("no such mapping")


def address_of(buffer: mmap.mmap) -> int:
    window = ctypes.c_ubyte.from_buffer(buffer)
    return ctypes.addressof(window)


@pytest.fixture
def ring(tmp_path) -> Iterator[mmap.mmap]:
    """A shared mapping of its own, of 64 pages and a bit of another one, not touched yet."""
    path = tmp_path / "ring"
    with path.open("w+b") as file:
        file.truncate(64 * mmap.PAGESIZE + 100)
        with mmap.mmap(file.fileno(), 0) as mapping:
            yield mapping


def test_prefault_brings_in_every_page_and_keeps_the_content(ring):
    ring[:3], ring[-3:], ring[mmap.PAGESIZE] = b"abc", b"xyz", 7
    view = memoryview(ring)
    assert pinning.prefault(view) == 65
    view.release()
    assert resident_pages(address_of(ring)) == 65
    assert (ring[:3], ring[-3:], ring[mmap.PAGESIZE], sum(ring[:])) == (b"abc", b"xyz", 7, sum(b"abcxyz") + 7)


def test_prefault_of_anonymous_memory():
    with mmap.mmap(-1, 32 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        array = np.frombuffer(memory, dtype=np.float64)
        assert pinning.prefault(array[: len(array) // 2]) == 16
        assert pinning.prefault(array) == 32
        assert not array.any()
        if counted := pinning.memory_node_of(array.ctypes.data, array.nbytes):
            assert sum(counted.values()) >= 32
        del array


def test_pages_are_counted_by_the_boundaries_inside_a_buffer():
    memory = np.zeros(4 * mmap.PAGESIZE, dtype=np.uint8)
    start = -memory.ctypes.data % mmap.PAGESIZE
    for first, length, pages in [(0, 1, 1), (1, mmap.PAGESIZE, 2), (mmap.PAGESIZE - 1, 2, 2), (5, 10, 1), (0, 0, 0)]:
        assert pinning.prefault(memory[start + first : start + first + length]) == pages
    records = np.zeros((3, 7), dtype=[("sequence", "u8"), ("price", "f4")])
    records["sequence"] = 2**63
    assert pinning.prefault(records) >= 1
    assert (records["sequence"] == 2**63).all()


@pytest.mark.parametrize("buffer", [memoryview(b"fixed"), np.zeros((8, 8))[:, ::2], memoryview(bytearray(8))[::2]])
def test_what_cannot_be_prefaulted(buffer):
    with pytest.raises(TypeError, match=r"writable|contiguous"):
        pinning.prefault(buffer)


@numa_kernel
def test_pages_of_a_mapping_by_node(ring):
    address = address_of(ring)
    assert pinning.memory_node_of(address, len(ring)) == {}
    pinning.prefault(memoryview(ring)[: 5 * mmap.PAGESIZE])
    counted = pinning.memory_node_of(address, len(ring))
    assert sum(counted.values()) >= 5
    assert set(counted) <= {node.number for node in discover().nodes}
    if ONE_NODE:
        assert list(counted) == [discover().nodes[0].number]
    assert pinning.memory_node_of(0, 1) == {}
    assert pinning.memory_node_of(address + 5, 1) == counted


def test_a_note_names_cores_as_the_kernel_does():
    notes = pinning.bind([*CORES, ABSENT_CORE], node=None).notes
    assert notes[0].startswith(f"cores not bound: {ABSENT_CORE} of {format_cpulist([*CORES, ABSENT_CORE])} do not")
