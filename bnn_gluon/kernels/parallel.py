"""Compiled loops that share their iterations out to threads.

numba's own `parallel=True` compiles each loop twice, in a function of its own and with a wrapper around, and infers the
types of both: 20 s for the loops of a convolutional network. Here a function is compiled once. Called to begin, it
has numba's pool of threads call it again with a part of the loop each:

    @parallel.loop
    def double(part, x, y):
        for i in parallel.share(part, x.size):
            y[i] = 2 * x[i]

    double(x, y)

What is before the loop is done by every thread, so it may allocate what a thread works in, and nothing may come behind.
No result may depend on which thread has which iterations. Arrays are not of bytes or bools.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, event, types
from numba.extending import intrinsic

from bnn_gluon.kernels.compiled import keep_compiled

# Logged as a warning: where nothing else is set up, Python writes it to the standard error stream as a plain line.
NOTICE = "compiling the engine's loops for this processor: once for this version of the code, up to a minute"

_WHOLE = 0  # the part of a call that is to share out; that of thread t of n is t * 2^16 + n
_BITS = 16
_BYTE_POINTER, _INT = ir.IntType(8).as_pointer(), ir.IntType(64)


class _Notice(event.Listener):
    """Says, once, that numba begins to compile, which it does only with what it does not find on the disk."""

    _said = False

    def on_start(self, event: event.Event) -> None:
        if not self._said:
            self._said = True
            logging.getLogger(__name__).warning(NOTICE)

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Notice())
numba.get_num_threads()  # starts the pool: what is read from the disk, compiled earlier, looks for its functions


def loop(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function of `part` and arguments; the result is called with the arguments alone."""
    compiled = keep_compiled(numba.njit(error_model="numpy", no_cfunc_wrapper=True)(function))
    return functools.update_wrapper(functools.partial(compiled, _WHOLE), function)


@intrinsic
def share(typing_context, part, count):
    """The range of those of `count` iterations that this call is for: of none, if it was there to share them out.

    `part` is the function's first parameter.
    """

    def generate(context, builder, signature, arguments):
        part, count = arguments
        begins = builder.icmp_signed("==", part, _INT(_WHOLE))
        with builder.if_then(begins):
            failed = _call_in_threads(builder, builder.function)
            with cgutils.if_unlikely(builder, failed):
                context.call_conv.return_user_exc(builder, MemoryError, ("of a thread of a compiled loop",))
        thread, threads = builder.lshr(part, _INT(_BITS)), builder.and_(part, _INT(2**_BITS - 1))
        threads = builder.select(begins, _INT(1), threads)
        state = cgutils.create_struct_proxy(signature.return_type)(context, builder)
        state.start = builder.udiv(builder.mul(thread, count), threads)
        stop = builder.udiv(builder.mul(builder.add(thread, _INT(1)), count), threads)
        state.stop = builder.select(begins, state.start, stop)
        state.step = _INT(1)
        return state._getvalue()

    return types.unsigned_range_state64_type(types.int64, types.int64), generate


def _call_in_threads(builder: Any, function: ir.Function) -> Any:
    """Have every thread call the function, with its own part and the arguments of the present call.

    Returns whether one of them failed.
    """
    get_threads = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_INT, []), "get_num_threads")
    threads = builder.call(get_threads, [])
    # Of numba's functions: where their result goes, where an exception, then their arguments, the part first.
    results, arguments = function.args[:2], function.args[3:]
    kept_types = [_INT, *(argument.type for argument in arguments)]
    kept = cgutils.alloca_once(builder, ir.LiteralStructType(kept_types))
    failures = cgutils.alloca_once(builder, ir.IntType(32))
    builder.store(ir.IntType(32)(0), failures)
    for place, value in enumerate((threads, *arguments)):
        # Pointers to bytes say who owns an array; without them slices are not counted, by all threads in one place.
        given = _BYTE_POINTER(None) if value.type == _BYTE_POINTER else value
        builder.store(given, cgutils.gep_inbounds(builder, kept, 0, place))
    # numba calls callee(places, dimensions, steps, data) for each thread t, places[k] moved on by t * steps[k].
    pointers = ir.ArrayType(_BYTE_POINTER, 2)
    places, steps = cgutils.alloca_once(builder, pointers), cgutils.alloca_once(builder, ir.ArrayType(_INT, 2))
    builder.store(ir.Constant(pointers, None), places)
    builder.store(ir.Constant(ir.ArrayType(_INT, 2), [1, 0]), steps)
    builder.store(builder.bitcast(failures, _BYTE_POINTER), cgutils.gep_inbounds(builder, places, 0, 1))
    dimensions = cgutils.alloca_once(builder, _INT)
    builder.store(threads, dimensions)
    callee = _callee(builder.module, function, results, kept.type)
    kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER] * 5 + [_INT] * 3)
    in_threads = cgutils.get_or_insert_function(builder.module, kind, "numba_parallel_for")
    passed = [builder.bitcast(value, _BYTE_POINTER) for value in (callee, places, dimensions, steps, kept)]
    builder.call(in_threads, [*passed, _INT(0), _INT(2), threads])
    return builder.icmp_signed("!=", builder.load(failures), ir.IntType(32)(0))


def _callee(module: ir.Module, function: ir.Function, results: Any, kept: ir.PointerType) -> ir.Function:
    """What a thread calls: it calls the function with its part, and notes a failure."""
    places_type = _BYTE_POINTER.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [places_type, _BYTE_POINTER, _BYTE_POINTER, _BYTE_POINTER])
    callee = ir.Function(module, kind, f"{function.name}.part")
    callee.linkage = "internal"
    builder = ir.IRBuilder(callee.append_basic_block())
    data = builder.bitcast(callee.args[3], kept)
    threads, *arguments = (
        builder.load(cgutils.gep_inbounds(builder, data, 0, place)) for place in range(len(kept.pointee.elements))
    )
    thread, failures = (builder.load(builder.gep(callee.args[0], [_INT(place)])) for place in range(2))
    part = builder.or_(builder.shl(builder.ptrtoint(thread, _INT), _INT(_BITS)), threads)
    own = [cgutils.alloca_once(builder, result.type.pointee) for result in results]
    code = builder.call(function, [*own, part, *arguments], attrs=("noinline",))
    failed = builder.icmp_signed("==", code, ir.IntType(32)(0))
    failed = builder.and_(builder.not_(failed), builder.icmp_signed("!=", code, ir.IntType(32)(-2)))  # None is no error
    with builder.if_then(failed):
        builder.store(ir.IntType(32)(1), builder.bitcast(failures, ir.IntType(32).as_pointer()))
    builder.ret_void()
    return callee
