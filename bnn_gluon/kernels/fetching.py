"""Lines of memory brought to the caches before they are used, where the processor does not see them coming."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnn_gluon.kernels import vectors


@intrinsic(prefer_literal=True)
def fetch(typing_context, values, at, written):
    """Have the line of values[at] brought to the first-level cache, to be `written`, a literal, or only read."""

    def generate(context, builder, signature, arguments):
        place = vectors.address(context, builder, signature, arguments, 0, 1)
        fetch_line(builder, place, written=bool(written.literal_value))
        return context.get_dummy_value()

    return types.void(values, types.int64, written), generate


def fetch_line(builder: ir.IRBuilder, pointer: ir.Value, *, written: bool) -> None:
    """Have the line that a pointer points into brought to the first-level cache."""
    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    # To be written: 1 or 0; in all caches: 3; no instructions: 1.
    builder.call(prefetch, [builder.bitcast(pointer, byte), word(int(written)), word(3), word(1)])
