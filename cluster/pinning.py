"""Binding this process: cores and niceness of all its threads, memory of the calling thread, and what came of it.

Linux keeps all three per thread, and a new thread inherits them from the one that starts it. Affinity and niceness of
other threads can be set from here; a memory policy cannot, so each thread that allocates has to ask by itself, or be
started by one that did. A right that is missing becomes a note, never an error: pinning is a matter of speed alone.
Numerics are not imported here, since an agent binds itself before it imports them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cluster.topology import format_cpulist

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

TASKS = Path("/proc/self/task")
MAPS = Path("/proc/self/maps")
NUMA_MAPS = Path("/proc/self/numa_maps")
PASSES = 8  # over all threads; the second one finds those that were started during the first
MPOL_PREFERRED = 1  # a full node sends pages elsewhere; MPOL_BIND would have the process killed
SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
MBIND = {"x86_64": 237, "aarch64": 235}
GET_MEMPOLICY = {"x86_64": 239, "aarch64": 236}
NODE_LIMIT = 1024  # MAX_NUMNODES of the largest kernels; get_mempolicy refuses a mask shorter than the kernel's
WORD_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)
NICEST, LEAST_NICE = 19, -20
NORMAL = 0  # the niceness of whatever nobody made nicer; Ray has its workers at 15, where they lose to any such process

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_NODE_PAGES = re.compile(r"N([0-9]+)=([0-9]+)")


@dataclass(frozen=True)
class Binding:
    """How this process is bound, as the kernel tells it."""

    cores: tuple[int, ...]
    """Cores on which any of its threads may run, ascending."""
    threads: int
    memory_node: int | None
    """Node that the calling thread's memory policy names; None where it names none or several, or cannot be read."""
    notes: tuple[str, ...]
    """What was refused or is not as it should be; sentences for people."""


def bind(cores: Sequence[int], *, node: int | None, task_dir: Path = TASKS) -> Binding:
    """Bind every thread of this process to ``cores``, and prefer ``node`` for what the calling thread allocates.

    Cores that the kernel does not grant in full change nothing at all. The memory policy holds for the calling thread
    and for threads that it starts later; see :func:`prefer_node` for others. Memory allocated before stays where it
    is. Does not raise for a missing right.

    Parameters
    ----------
    cores : sequence of int
        One or more cores by the kernel's number.
    node : int or None
        NUMA node; None leaves the memory policy as it is.
    task_dir : Path
        Where the kernel lists the threads of this process.
    """
    wanted = set(cores)
    refusal = _try_on_calling_thread(wanted)
    if refusal:
        return _read_back(task_dir, [f"cores not bound: {refusal}"])
    notes = []
    refused = _every_thread(task_dir, os.sched_getaffinity, wanted, lambda thread: os.sched_setaffinity(thread, wanted))
    if refused:
        notes.append(f"{len(refused)} threads not bound: {_why(refused[0])}")
    if node is not None and (refusal := prefer_node(node)):
        notes.append(refusal)
    return _read_back(task_dir, notes)


def prefer_node(node: int) -> str:
    """Prefer ``node`` for what the calling thread allocates from now on, and threads that it starts from now on.

    Returns
    -------
    str
        Empty when done, else why not.
    """
    mask = _mask_of(node)
    refusal = errno.EINVAL
    if mask is not None:
        refusal = _syscall(SET_MEMPOLICY, ctypes.c_long(MPOL_PREFERRED), mask, ctypes.c_ulong(NODE_LIMIT + 1))
    return _policy_refused("memory policy", node, refusal)


def prefer_node_for(buffer: np.ndarray[Any, Any], node: int) -> str:
    """Prefer ``node`` for the pages of ``buffer`` that nobody has touched yet, whoever touches them first.

    For memory that processes share and that each of them touches a part of: their own policies say nothing then. The
    buffer begins at a page.

    Returns
    -------
    str
        Empty when done, else why not.
    """
    mask = _mask_of(node)
    refusal = errno.EINVAL
    if mask is not None:
        refusal = _syscall(
            MBIND,
            ctypes.c_void_p(buffer.ctypes.data),
            ctypes.c_ulong(buffer.nbytes),
            ctypes.c_long(MPOL_PREFERRED),
            mask,
            ctypes.c_ulong(NODE_LIMIT + 1),
            ctypes.c_ulong(0),
        )
    return _policy_refused("policy of shared memory", node, refusal)


def renice(value: int, *, task_dir: Path = TASKS) -> str:
    """Give every thread of this process the niceness ``value``, as far as the kernel's range of -20 to 19 goes.

    Returns
    -------
    str
        Empty when done, else why not; what could be changed has been.
    """
    wanted = max(LEAST_NICE, min(NICEST, value))
    refused = _every_thread(
        task_dir,
        lambda thread: os.getpriority(os.PRIO_PROCESS, thread),
        wanted,
        lambda thread: os.setpriority(os.PRIO_PROCESS, thread, wanted),
    )
    if not refused:
        return ""
    rights = "it takes CAP_SYS_NICE or a higher RLIMIT_NICE" if refused[0] == errno.EACCES else _why(refused[0])
    return f"niceness {wanted} refused for {len(refused)} threads: {rights}"


def read_back() -> Binding:
    """How this process is bound now. The memory policy is the calling thread's."""
    return _read_back(TASKS, [])


def prefault(buffer: memoryview | np.ndarray[Any, Any]) -> int:
    """Write to every page of ``buffer`` what it holds already, so that it lies where the calling thread's policy says.

    Nobody else may write to it meanwhile: a byte written between the reading and the writing would be lost.

    Returns
    -------
    int
        Number of pages touched, in units of the system's page size.

    Raises
    ------
    TypeError
        The buffer is read-only or not contiguous.
    """
    if not buffer.nbytes:
        return 0
    window = (ctypes.c_ubyte * buffer.nbytes).from_buffer(cast("Any", buffer))
    pages = range(-(ctypes.addressof(window) % mmap.PAGESIZE), buffer.nbytes, mmap.PAGESIZE)
    for page in pages:
        first = max(0, page)
        window[first] = window[first]
    return len(pages)


def memory_node_of(address: int, length: int) -> dict[int, int]:
    """Pages in memory per NUMA node, of the mappings of this process that hold any of these bytes.

    The kernel counts by whole mapping and in the mapping's page size. So it is exact for a file that was mapped by
    itself, and too much for an array inside a larger heap.

    Parameters
    ----------
    address, length : int
        In bytes.

    Returns
    -------
    dict of int to int
        Empty where the kernel does not say, or nothing there has been touched.
    """
    pages: dict[int, int] = {}
    try:
        spans = [line.split(maxsplit=1)[0].split("-") for line in MAPS.read_text(errors="replace").splitlines()]
        counted = [line.split() for line in NUMA_MAPS.read_text(errors="replace").splitlines()]
    except OSError:
        return pages
    holding = {int(start, 16) for start, end in spans if int(start, 16) < address + length and address < int(end, 16)}
    for start, *fields in counted:
        if int(start, 16) in holding:
            for node, count in (match.groups() for match in map(_NODE_PAGES.fullmatch, fields) if match):
                pages[int(node)] = pages.get(int(node), 0) + int(count)
    return pages


def _try_on_calling_thread(cores: set[int]) -> str:
    """Bind the calling thread, or leave it as it was and say why. The kernel drops cores that it cannot give."""
    if not cores:
        return "no cores were named"
    before = os.sched_getaffinity(0)
    listed = format_cpulist(cores)
    try:
        os.sched_setaffinity(0, cores)
    except (ValueError, OverflowError, MemoryError):
        return f"{listed} are no core numbers"
    except OSError as error:
        absent = error.errno == errno.EINVAL
        return f"{listed} do not exist or are not allowed here" if absent else _why(error.errno)
    missing = cores - os.sched_getaffinity(0)
    if not missing:
        return ""
    with contextlib.suppress(OSError):  # what is so after all is read back
        os.sched_setaffinity(0, before)
    return f"{format_cpulist(missing)} of {listed} do not exist or are not allowed here"


def _every_thread(
    task_dir: Path, current: Callable[[int], T], wanted: T, change: Callable[[int], None]
) -> list[int | None]:
    """Apply ``change`` to every thread that is not as wanted, until a pass finds none; error numbers of the refused.

    After such a pass all threads are as wanted, and so is whatever they start. A thread that has ended is skipped, but
    the pass does not count: it may have started another one before.
    """
    refused: dict[int, int | None] = {}
    for _ in range(PASSES):
        settled = True
        for thread in _threads(task_dir):
            try:
                if thread not in refused and current(thread) != wanted:
                    settled = False
                    change(thread)
            except ProcessLookupError:
                settled = False
            except OSError as error:
                refused[thread] = error.errno
        if settled:
            break
    return list(refused.values())


def _read_back(task_dir: Path, notes: list[str]) -> Binding:
    """The binding as it is, with these notes and those of what strikes the eye."""
    own = os.sched_getaffinity(0)
    masks = []
    for thread in _threads(task_dir):
        with contextlib.suppress(OSError):
            masks.append(os.sched_getaffinity(thread))
    elsewhere = sum(mask != own for mask in masks)
    if elsewhere:
        notes.append(f"{elsewhere} of {len(masks)} threads may run on other cores than this one")
    nodes, refusal = _policy_nodes()
    if refusal:
        notes.append(f"memory policy not readable: {_why(refusal)}")
    elif len(nodes) > 1:
        notes.append(f"memory policy names several nodes: {format_cpulist(nodes)}")
    return Binding(
        cores=tuple(sorted(own.union(*masks))),
        threads=len(masks),
        memory_node=nodes[0] if len(nodes) == 1 else None,
        notes=tuple(notes),
    )


def _threads(task_dir: Path) -> Iterator[int]:
    try:
        names = sorted(os.listdir(task_dir))  # noqa: PTH208
    except OSError:
        names = []
    return (int(name) for name in names if name.isdecimal())


def _policy_nodes() -> tuple[list[int], int]:
    """Nodes that the calling thread's memory policy names, and the error number where it cannot be read."""
    mode, mask = ctypes.c_int(), _node_mask()
    refusal = _syscall(
        GET_MEMPOLICY, ctypes.byref(mode), mask, ctypes.c_ulong(NODE_LIMIT + 1), ctypes.c_void_p(), ctypes.c_ulong(0)
    )
    if refusal:
        return [], refusal
    return [node for node in range(NODE_LIMIT) if mask[node // WORD_BITS] >> node % WORD_BITS & 1], 0


def _mask_of(node: int) -> ctypes.Array[ctypes.c_ulong] | None:
    """The mask of one node; None for what is no node."""
    if not 0 <= node < NODE_LIMIT:
        return None
    mask = _node_mask()
    mask[node // WORD_BITS] = 1 << node % WORD_BITS
    return mask


def _policy_refused(what: str, node: int, refusal: int) -> str:
    if refusal == errno.EINVAL:
        return f"{what} not set: node {node} does not exist or is not allowed here"
    return f"{what} not set: {_why(refusal)}" if refusal else ""


def _node_mask() -> ctypes.Array[ctypes.c_ulong]:
    return (ctypes.c_ulong * (NODE_LIMIT // WORD_BITS))()


def _syscall(numbers: dict[str, int], *arguments: Any) -> int:
    """Make a system call that libc does not wrap; 0 or the error number."""
    number = numbers.get(platform.machine())
    if number is None:
        return errno.ENOSYS
    ctypes.set_errno(0)
    return 0 if _LIBC.syscall(ctypes.c_long(number), *arguments) == 0 else ctypes.get_errno()


def _why(number: int | None) -> str:
    if number == errno.EPERM:
        return "not permitted in this container"
    if number == errno.ENOSYS:
        return "not known to this kernel or processor"
    return os.strerror(number or 0)
