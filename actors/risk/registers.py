# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def"
"""One instruction that the compiler does not find by itself: eight doubles compared, and those chosen packed together.

Where the CPU lacks it (no AVX-512), ``WIDE`` is false and callers choose one by one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8  # doubles of a 512-bit register
# Somebody who names another CPU to the compiler wants code that runs there.
NAMED = any(getattr(config, name, None) for name in ("CPU_NAME", "CPU_FEATURES"))
WIDE = bool(get_host_cpu_features().get("avx512f", False)) and not NAMED


@intrinsic
def _compress(typing, source, start, target, place, threshold):
    """Eight values of ``source`` from ``start``: those from ``threshold`` on packed to ``target`` at ``place``.

    Returns (how many they are, how many of the eight are finite). All eight places of the target are written, which
    never runs ahead of the source while ``place <= start``.
    """
    signature = types.UniTuple(types.int64, 2)(source, types.int64, target, types.int64, types.float64)

    def generate(context, builder, signature, arguments):
        source, start, target, place, threshold = arguments
        double, count = ir.DoubleType(), ir.IntType(64)
        vector, mask = ir.VectorType(double, LANES), ir.VectorType(ir.IntType(1), LANES)

        def address(array, kind, index):
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

        def spread(value):
            empty = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(first, empty, lanes)

        def counted(lanes):
            return builder.ctpop(builder.zext(builder.bitcast(lanes, ir.IntType(LANES)), count))

        def called(name, kind, values):
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)

        values = builder.load(address(source, signature.args[0], start), align=8)
        chosen = builder.fcmp_ordered(">=", values, spread(threshold))
        size = called("llvm.fabs.v8f64", ir.FunctionType(vector, [vector]), [values])
        sound = builder.fcmp_ordered("<", size, spread(ir.Constant(double, float("inf"))))
        kind = ir.FunctionType(vector, [vector, vector, mask])
        packed = called("llvm.x86.avx512.mask.compress.v8f64", kind, [values, values, chosen])
        builder.store(packed, address(target, signature.args[2], place), align=8)
        return context.make_tuple(builder, signature.return_type, [counted(chosen), counted(sound)])

    return signature, generate


compress: Any = _compress
