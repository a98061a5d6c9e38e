"""Loops whose sums stay in vector registers, written in LLVM's language: numba's, over arrays, keep them in memory.

Memory: flat arrays of float32 or of words; a vector is REGISTER bytes that lie side by side, at any address::

    pointer -> | element 0 ... count - 1 | count ... 2 count - 1 | ...       count = REGISTER / bytes of an element
               | vector number 0         | vector number 1       |

What numba's intrinsics here are made of: how wide a register is, addresses in flat arrays, vectors and their loads.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

REGISTER = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f", False) else 32  # bytes
INDEX, _I32 = ir.IntType(64), ir.IntType(32)


def address(context: Any, builder: Any, signature: Any, arguments: Any, array: int, index: int) -> Any:
    """The address of an element of a flat array. Array and index are given by their places among the arguments."""
    data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
    return builder.gep(data, [arguments[index]])


def load(builder: Any, pointer: Any, vector: ir.VectorType, number: int) -> Any:
    """Vector `number` of those that begin at a pointer to an element."""
    return builder.load(_part(builder, pointer, vector, number), align=4)


def store(builder: Any, value: Any, pointer: Any, number: int) -> None:
    """Store what `load` would load."""
    builder.store(value, _part(builder, pointer, value.type, number), align=4)


def _part(builder: Any, pointer: Any, vector: ir.VectorType, number: int) -> Any:
    return builder.bitcast(builder.gep(pointer, [INDEX(vector.count * number)]), vector.as_pointer())


def load_some(builder: Any, pointer: Any, vector: ir.VectorType, count: Any, rest: float = 0) -> Any:
    """A vector of floats from a pointer to the first, of which those from `count` on are not read, but are `rest`."""
    masked = _masked(builder, "load", vector, [vector.as_pointer(), _I32, _bits(vector), vector], vector)
    first = builder.bitcast(pointer, vector.as_pointer())
    rests = ir.Constant(vector, [rest] * vector.count)
    return builder.call(masked, [first, _I32(4), _first(builder, vector, count), rests])


def store_some(builder: Any, value: Any, pointer: Any, number: int, count: Any) -> None:
    """Store only the first `count` elements."""
    vector = value.type
    masked = _masked(builder, "store", vector, [vector, vector.as_pointer(), _I32, _bits(vector)], ir.VoidType())
    mask = _first(builder, vector, builder.sub(count, INDEX(vector.count * number)))
    builder.call(masked, [value, _part(builder, pointer, vector, number), _I32(4), mask])


def _masked(builder: Any, name: str, vector: ir.VectorType, arguments: list[Any], result: Any) -> Any:
    floats = f"v{vector.count}f32"
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.{name}.{floats}.p0{floats}")


def _bits(vector: ir.VectorType) -> ir.VectorType:
    return ir.VectorType(ir.IntType(1), vector.count)


def _first(builder: Any, vector: ir.VectorType, count: Any) -> Any:
    """A mask that is true in the first `count` lanes of a vector."""
    lanes = ir.VectorType(INDEX, vector.count)
    return builder.icmp_signed("<", ir.Constant(lanes, list(range(vector.count))), everywhere(builder, count, lanes))


def everywhere(builder: Any, value: Any, vector: ir.VectorType) -> Any:
    """A vector of one value."""
    undefined = ir.Constant(vector, ir.Undefined)
    alone = builder.insert_element(undefined, value, _I32(0))
    return builder.shuffle_vector(alone, undefined, ir.Constant(ir.VectorType(_I32, vector.count), None))


def function(builder: Any, name: str, vector: ir.VectorType, arguments: int) -> Any:
    """LLVM's function of that name, as "ctpop", from so many vectors to one."""
    kind = "f" if isinstance(vector.element, ir.FloatType) else "i"
    bits = 32 if kind == "f" else vector.element.width
    full_name = f"llvm.{name}.v{vector.count}{kind}{bits}"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * arguments), full_name)
