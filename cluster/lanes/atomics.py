# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, call-overload, untyped-decorator"
"""What two processes need to share memory without a lock: ordered loads and stores, fences, a pause, a futex, a clock.

Numba knows none of these; they are LLVM's own instructions, correct on every CPU that LLVM knows. The orders:

* ``load_acquire`` / ``store_release``: whatever the writer wrote before the release is seen by a reader that has seen
  the released value. On x86 both are plain moves that the compiler may not reorder; on Arm, ``ldar`` and ``stlr``.
* ``fence``: sequentially consistent. Needed in one place, where a side stores and then loads another word: a waiter
  announces that it sleeps and then looks for work, a publisher publishes and then looks for a sleeper. Without it both
  loads may pass both stores, and the waiter sleeps beside its work.
* ``add``: for bells, which many may ring at a time, and for nothing that is hot.

System calls go through the C library's symbols, which, unlike ``ctypes`` pointers, may be kept in Numba's cache.
"""

from __future__ import annotations

import ctypes
import errno
import platform
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FUTEX_WAIT, FUTEX_WAKE = 0, 1  # across processes: without the private flag
FUTEX_CALL = {"x86_64": 202, "aarch64": 98}[platform.machine()]
FUTEX_WAITV_CALL = 449  # on every architecture; Linux 5.16 and newer
FUTEX_32_SHARED = 2  # flags of one of its waiters: 32 bits, across processes
CLOCK_MONOTONIC = 1
EVERYBODY = 2**31 - 1
WORD_BYTES = 8
SEEN, ADDRESS, FLAGS = range(3)
"""A waiter of :func:`futex_wait_any`: the low half of the word as it was seen, where it is, and flags."""
UNABLE_NS = 100_000  # sleep of a system that cannot wait at several bells

_syscall: Any = types.ExternalFunction(
    "syscall",
    types.int64(types.int64, types.intp, types.int64, types.int64, types.intp, types.intp, types.int64),
)
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
_sched_yield: Any = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _load_acquire(typing, words, place):
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(builder.gep(array.data, [arguments[1]]), "acquire", WORD_BYTES)

    return types.int64(words, types.intp), generate


@intrinsic
def _store_release(typing, words, place, value):
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        builder.store_atomic(arguments[2], builder.gep(array.data, [arguments[1]]), "release", WORD_BYTES)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), generate


@intrinsic
def _add(typing, words, place, value):
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [arguments[1]]), arguments[2], "seq_cst")

    return types.int64(words, types.intp, types.int64), generate


@intrinsic
def _fence(typing):
    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _pause(typing):
    def generate(context, builder, signature, arguments):
        if platform.machine() == "x86_64":
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        else:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint")
            builder.call(hint, [ir.Constant(ir.IntType(32), 1)])  # YIELD
        return context.get_dummy_value()

    return types.void(), generate


load_acquire: Any = _load_acquire
store_release: Any = _store_release
add: Any = _add
fence: Any = _fence
pause: Any = _pause


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def now_ns(scratch: Any) -> int:
    """Nanoseconds of the monotonic clock, the same in all processes of one machine; ``scratch``: int64 (2,)."""
    _clock_gettime(CLOCK_MONOTONIC, scratch.ctypes.data)
    return int(scratch[0] * 1_000_000_000 + scratch[1])


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def give_way() -> None:
    """Let another thread have this core, if one wants it."""
    _sched_yield()


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def futex_wait(words: Any, place: int, seen: int, timeout_ns: int, scratch: Any) -> None:
    """Sleep until woken, at most ``timeout_ns``, unless the low half of ``words[place]`` no longer is ``seen``."""
    scratch[0] = timeout_ns // 1_000_000_000
    scratch[1] = timeout_ns % 1_000_000_000
    address = words.ctypes.data + place * WORD_BYTES
    _syscall(FUTEX_CALL, address, FUTEX_WAIT, seen, scratch.ctypes.data, 0, 0)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def futex_wake(words: Any, place: int) -> None:
    """Wake whoever sleeps on ``words[place]``."""
    _syscall(FUTEX_CALL, words.ctypes.data + place * WORD_BYTES, FUTEX_WAKE, EVERYBODY, 0, 0, 0)


@njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def futex_wait_any(bells: Any, timeout_ns: int, scratch: Any) -> None:
    """Sleep until woken at any of the bells, int64 (n, 3), at most ``timeout_ns``, unless one is no longer as seen.

    Where the system cannot do that, which the first bell's flags of 0 say (:func:`bells_at`), sleep at the first alone,
    and briefly.
    """
    if bells[0, FLAGS] == 0:
        scratch[0], scratch[1] = 0, UNABLE_NS
        _syscall(FUTEX_CALL, bells[0, ADDRESS], FUTEX_WAIT, bells[0, SEEN], scratch.ctypes.data, 0, 0)
        return
    until_ns = now_ns(scratch) + timeout_ns  # this call's time is a reading of the clock
    scratch[0], scratch[1] = until_ns // 1_000_000_000, until_ns % 1_000_000_000
    _syscall(FUTEX_WAITV_CALL, bells.ctypes.data, bells.shape[0], 0, scratch.ctypes.data, CLOCK_MONOTONIC, 0)


def bells_at(*places: tuple[np.ndarray, int]) -> np.ndarray:
    """What :func:`futex_wait_any` is given, int64 (n, 3), for bells that are (words, place); keep the words alive."""
    flags = FUTEX_32_SHARED if _can_wait_at_many() else 0
    return np.array([[0, words.ctypes.data + place * WORD_BYTES, flags] for words, place in places], np.int64)


@cache
def _can_wait_at_many() -> bool:
    """Whether the kernel, and whatever filters its calls, knows ``futex_waitv``: asked with a word that has changed."""
    waiter = np.zeros((1, 3), np.int64)
    word = np.zeros(1, np.int64)
    waiter[0] = 1, word.ctypes.data, FUTEX_32_SHARED
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(FUTEX_WAITV_CALL, ctypes.c_void_p(waiter.ctypes.data), 1, 0, None, CLOCK_MONOTONIC)
    return ctypes.get_errno() == errno.EAGAIN
