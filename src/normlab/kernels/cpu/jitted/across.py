"""Sixteen rows at once: the sum of the lanes of each becomes a lane.

What is done once a row, a division, a root, is then done for sixteen: at rows of 64 it would cost more than all else.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from normlab.kernels.cpu.jitted.lanes import LANES, WIDTH

_I1, _I16, _I32, _I64 = ir.IntType(1), ir.IntType(WIDTH), ir.IntType(32), ir.IntType(64)
_SUFFIX = {types.float32: "f32", types.float64: "f64"}
_SIZE = {types.float32: 4, types.float64: 8}


@intrinsic
def square(typing: Any, like: Any) -> Any:
    """Memory for sixteen rows of sixteen numbers, until the kernel returns. Only a kernel itself may ask for it."""
    of = types.CPointer(like)

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        with build.goto_entry_block():
            place = build.alloca(context.get_value_type(like), _I32(WIDTH * WIDTH))
        place.align = WIDTH * _SIZE[like]
        return place

    return of(like), generate


@intrinsic
def across(typing: Any, at: Any) -> Any:
    """Of sixteen rows of sixteen numbers the sum of each row, in pairs; a row a lane."""
    of = LANES[at.dtype]

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        place = build.bitcast(given[0], context.get_value_type(of).as_pointer())
        left = [build.load(build.gep(place, [_I64(row)]), align=WIDTH * _SIZE[at.dtype]) for row in range(WIDTH)]
        while len(left) > 1:
            left = [_pairs(build, *two) for two in zip(left[::2], left[1::2], strict=True)]
        return left[0]

    return of(at), generate


def _pairs(build: Any, one: Any, other: Any) -> Any:
    """Neighbours added: eight sums of the one, then eight of the other."""
    even, odd = (
        build.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, WIDTH), list(range(start, 2 * WIDTH, 2))))
        for start in (0, 1)
    )
    return build.fadd(even, odd)


@intrinsic
def lowest(typing: Any, value: Any) -> Any:
    """Sixteen times the first lane."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        nowhere = ir.Constant(ir.VectorType(_I32, WIDTH), [0] * WIDTH)
        return build.shuffle_vector(given[0], ir.Constant(given[0].type, ir.Undefined), nowhere)

    return value(value), generate


@intrinsic
def square_root(typing: Any, value: Any) -> Any:
    """Of each lane, rounded once."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        of = given[0].type
        name = f"llvm.sqrt.v{WIDTH}{_SUFFIX[value.of]}"
        function = build.module.globals.get(name) or ir.Function(build.module, ir.FunctionType(of, [of]), name)
        return build.call(function, given)

    return value(value), generate


@intrinsic
def any_above(typing: Any, one: Any, other: Any, count: Any) -> Any:
    """Whether any of the first `count` lanes is above its like in the other."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        above = build.bitcast(build.fcmp_ordered(">", given[0], given[1]), _I16)
        wanted = build.trunc(build.sub(build.shl(_I64(1), given[2]), _I64(1)), _I16)
        return build.icmp_unsigned("!=", build.and_(above, wanted), _I16(0))

    return types.boolean(one, other, count), generate


@intrinsic
def arrived(typing: Any, at: Any, index: Any) -> Any:
    """How many threads were here before this one. What they wrote until then can be read."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return build.atomic_rmw("add", build.gep(given[0], [given[1]]), _I64(1), "acq_rel")

    return types.int64(at, index), generate
