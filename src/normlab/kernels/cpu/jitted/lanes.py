"""Sixteen numbers at once: the one type that the kernels compute with.

LLVM turns sixteen float32 into one register of AVX-512, two of AVX, or four of SSE or NEON. The numbers are the same on
each, as nothing here may be reordered. A 16-bit format is widened when it is loaded, and rounded to the nearest, ties
to even, when it is stored.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

WIDTH = 16
# NumPy has no bfloat16, and Numba no float16 on a processor: a uint16 stands for the one, an int16 for the other
_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_FLOAT, _DOUBLE, _HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
_STORED = {
    types.float32: (_FLOAT, 4),
    types.float64: (_DOUBLE, 8),
    types.uint16: (ir.IntType(16), 2),
    types.int16: (ir.IntType(16), 2),
}
_SUFFIX = {types.float32: "f32", types.float64: "f64", types.uint16: "i16", types.int16: "i16"}


class Lanes(types.Type):  # type: ignore[misc]
    """Sixteen float32 or float64."""

    def __init__(self, of: types.Float) -> None:
        self.of = of
        super().__init__(name=f"Lanes({of})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, of: Lanes) -> None:
        super().__init__(manager, of, _vector(_STORED[of.of][0]))


def _vector(element: Any, width: int = WIDTH) -> Any:
    return ir.VectorType(element, width)


LANES = {types.float32: Lanes(types.float32), types.float64: Lanes(types.float64)}


def _lanes_of(element: Any) -> Lanes:
    """In what an element is computed."""
    return LANES[types.float64 if element == types.float64 else types.float32]


# Memory


@intrinsic
def pointer(typing: Any, address: Any, like: Any) -> Any:
    """The numbers at an address, of the type of `like`."""
    of = types.CPointer(like)
    return of(address, like), lambda context, build, signature, given: build.inttoptr(
        given[0], context.get_value_type(of)
    )


@intrinsic
def offset(typing: Any, at: Any, index: Any) -> Any:
    """The numbers from `index` on."""
    return at(at, index), lambda context, build, signature, given: build.gep(given[0], [given[1]])


@intrinsic
def address(typing: Any, at: Any) -> Any:
    """Where the numbers are, in bytes."""
    return types.int64(at), lambda context, build, signature, given: build.ptrtoint(given[0], _I64)


@intrinsic
def get(typing: Any, at: Any, index: Any) -> Any:
    """One number, as it is stored."""
    return at.dtype(at, index), lambda context, build, signature, given: build.load(build.gep(given[0], [given[1]]))


@intrinsic
def put(typing: Any, at: Any, index: Any, value: Any) -> Any:
    """Stores one number, as it is."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        cast = context.cast(build, given[2], value, at.dtype)
        build.store(cast, build.gep(given[0], [given[1]]))
        return context.get_dummy_value()

    return types.void(at, index, value), generate


@intrinsic
def load(typing: Any, at: Any, index: Any) -> Any:
    """Sixteen numbers from `index` on."""
    element = at.dtype

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        stored, size = _STORED[element]
        place = build.bitcast(build.gep(given[0], [given[1]]), _vector(stored).as_pointer())
        return _widened(build, build.load(place, align=size), element)

    return _lanes_of(element)(at, index), generate


@intrinsic
def load_first(typing: Any, at: Any, index: Any, count: Any) -> Any:
    """The first `count` of sixteen numbers from `index` on, and 0 for the rest, which is not touched."""
    element = at.dtype

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        stored, size = _STORED[element]
        of = _vector(stored)
        place = build.bitcast(build.gep(given[0], [given[1]]), of.as_pointer())
        kind = ir.FunctionType(of, [of.as_pointer(), _I32, _vector(_I1), of])
        function = _llvm(build, f"llvm.masked.load.v{WIDTH}{_SUFFIX[element]}.p0", kind)
        value = build.call(function, [place, _I32(size), _first(build, given[2]), ir.Constant(of, None)])
        return _widened(build, value, element)

    return _lanes_of(element)(at, index, count), generate


@intrinsic
def store(typing: Any, at: Any, index: Any, value: Any) -> Any:
    """Stores sixteen numbers from `index` on."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        stored, size = _STORED[at.dtype]
        place = build.bitcast(build.gep(given[0], [given[1]]), _vector(stored).as_pointer())
        build.store(_narrowed(build, given[2], at.dtype), place, align=size)
        return context.get_dummy_value()

    return types.void(at, index, value), generate


@intrinsic
def stream(typing: Any, at: Any, index: Any, value: Any) -> Any:
    """Stores sixteen numbers past the caches; the address must be a multiple of their size."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        stored, size = _STORED[at.dtype]
        place = build.bitcast(build.gep(given[0], [given[1]]), _vector(stored).as_pointer())
        done = build.store(_narrowed(build, given[2], at.dtype), place, align=size * WIDTH)
        done.set_metadata("nontemporal", build.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(at, index, value), generate


@intrinsic
def store_first(typing: Any, at: Any, index: Any, value: Any, count: Any) -> Any:
    """Stores the first `count` of sixteen numbers from `index` on."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        stored, size = _STORED[at.dtype]
        of = _vector(stored)
        place = build.bitcast(build.gep(given[0], [given[1]]), of.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [of, of.as_pointer(), _I32, _vector(_I1)])
        function = _llvm(build, f"llvm.masked.store.v{WIDTH}{_SUFFIX[at.dtype]}.p0", kind)
        build.call(function, [_narrowed(build, given[2], at.dtype), place, _I32(size), _first(build, given[3])])
        return context.get_dummy_value()

    return types.void(at, index, value, count), generate


@intrinsic
def prefetch(typing: Any, at: Any, index: Any) -> Any:
    """Asks for the line of memory that a number lies in."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        place = build.bitcast(build.gep(given[0], [given[1]]), ir.IntType(8).as_pointer())
        function = _llvm(build, "llvm.prefetch.p0", ir.FunctionType(ir.VoidType(), [place.type, _I32, _I32, _I32]))
        build.call(function, [place, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(at, index), generate


# Arithmetic, each step rounded once and in the order written


def _binary(name: str, operation: str) -> Any:
    def typed(typing: Any, one: Any, other: Any) -> Any:
        return one(one, other), lambda context, build, signature, given: getattr(build, operation)(*given)

    typed.__name__ = name
    return intrinsic(typed)


add, sub, mul, div = _binary("add", "fadd"), _binary("sub", "fsub"), _binary("mul", "fmul"), _binary("div", "fdiv")


@intrinsic
def fma(typing: Any, one: Any, other: Any, third: Any) -> Any:
    """one · other + third, rounded once."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        of = given[0].type
        function = _llvm(build, f"llvm.fma.v{WIDTH}{_SUFFIX[one.of]}", ir.FunctionType(of, [of, of, of]))
        return build.call(function, given)

    return one(one, other, third), generate


@intrinsic
def fill(typing: Any, value: Any) -> Any:
    """Sixteen times a number."""
    return LANES[value](value), lambda context, build, signature, given: _filled(build, given[0])


@intrinsic
def constant(typing: Any, like: Any, value: Any) -> Any:
    """Sixteen times a float64, in lanes like those of `like`."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return _filled(build, context.cast(build, given[1], value, like.of))

    return like(like, value), generate


@intrinsic
def zeros(typing: Any, at: Any) -> Any:
    """Sixteen zeros of the type in which the numbers there are computed."""
    of = _lanes_of(at.dtype)
    return of(at), lambda context, build, signature, given: ir.Constant(context.get_value_type(of), [0.0] * WIDTH)


@intrinsic
def first(typing: Any, value: Any, count: Any) -> Any:
    """The first `count` of sixteen, and 0 for the rest."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        nothing = ir.Constant(given[0].type, [0.0] * WIDTH)
        return build.select(_first(build, given[1]), given[0], nothing)

    return value(value, count), generate


@intrinsic
def where_positive(typing: Any, of: Any, then: Any, otherwise: Any) -> Any:
    """`then` where `of` is above 0 or NaN, otherwise the other."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        nothing = ir.Constant(given[0].type, [0.0] * WIDTH)
        return build.select(build.fcmp_ordered("<=", given[0], nothing), given[2], given[1])

    return of(of, then, otherwise), generate


@intrinsic
def clamped(typing: Any, value: Any, low: Any, high: Any) -> Any:
    """No less than one, no more than the other, which are lanes too; NaN stays NaN."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        floor = build.select(build.fcmp_ordered("<", given[0], given[1]), given[1], given[0])
        return build.select(build.fcmp_ordered(">", floor, given[2]), given[2], floor)

    return value(value, low, high), generate


@intrinsic
def nearest(typing: Any, value: Any) -> Any:
    """Rounded to whole numbers."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        of = given[0].type
        function = _llvm(build, f"llvm.nearbyint.v{WIDTH}{_SUFFIX[value.of]}", ir.FunctionType(of, [of]))
        return build.call(function, given)

    return value(value), generate


@intrinsic
def power_of_two(typing: Any, exponent: Any) -> Any:
    """2 to a whole number that is an exponent of the format; of NaN, any number."""
    whole, bias, place = (_I32, 127, 23) if exponent.of == types.float32 else (_I64, 1023, 52)

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        wide, of = _vector(whole), given[0].type
        known = build.select(build.fcmp_ordered("==", given[0], given[0]), given[0], ir.Constant(of, [0.0] * WIDTH))
        biased = build.add(build.fptosi(known, wide), ir.Constant(wide, [bias] * WIDTH))
        return build.bitcast(build.shl(biased, ir.Constant(wide, [place] * WIDTH)), of)

    return exponent(exponent), generate


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """The sum of sixteen, in pairs, in float64."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        left = given[0] if value.of == types.float64 else build.fpext(given[0], _vector(_DOUBLE))
        width = WIDTH
        while width > 1:
            width //= 2
            halves = [
                build.shuffle_vector(left, ir.Constant(left.type, ir.Undefined), _numbers(range(start, start + width)))
                for start in (0, width)
            ]
            left = build.fadd(*halves)
        return build.extract_element(left, _I32(0))

    return types.float64(value), generate


@intrinsic
def wide(typing: Any, value: Any) -> Any:
    """Sixteen numbers in float64."""
    of = LANES[types.float64]

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        return given[0] if value == of else build.fpext(given[0], _vector(_DOUBLE))

    return of(value), generate


@intrinsic
def rounded(typing: Any, value: Any, like: Any) -> Any:
    """A float64, or sixteen, as numbers like `like`."""
    if isinstance(value, Lanes):
        of = LANES[like]
        return (
            of(value, like),
            lambda context, build, signature, given: (
                given[0] if value == of else build.fptrunc(given[0], context.get_value_type(of))
            ),
        )
    return like(value, like), lambda context, build, signature, given: context.cast(build, given[0], value, like)


@intrinsic
def call_number(typing: Any, address: Any) -> Any:
    """What the C function at an address, which takes nothing, returns."""

    def generate(context: Any, build: Any, signature: Any, given: Any) -> Any:
        function = build.inttoptr(given[0], ir.FunctionType(_I32, []).as_pointer())
        return build.sext(build.call(function, []), _I64)

    return types.int64(address), generate


@intrinsic
def double(typing: Any, bits: Any) -> Any:
    """The float64 that these 64 bits are."""
    return types.float64(bits), lambda context, build, signature, given: build.bitcast(given[0], _DOUBLE)


# Of LLVM


def _llvm(build: Any, name: str, kind: Any) -> Any:
    return build.module.globals.get(name) or ir.Function(build.module, kind, name)


def _numbers(values: Any) -> Any:
    listed = list(values)
    return ir.Constant(_vector(_I32, len(listed)), listed)


def _filled(build: Any, value: Any) -> Any:
    of = _vector(value.type)
    one = build.insert_element(ir.Constant(of, ir.Undefined), value, _I32(0))
    return build.shuffle_vector(one, ir.Constant(of, ir.Undefined), _numbers([0] * WIDTH))


def _first(build: Any, count: Any) -> Any:
    """Which of sixteen lanes are among the first `count`."""
    return build.icmp_signed("<", _numbers(range(WIDTH)), _filled(build, build.trunc(count, _I32)))


def _widened(build: Any, value: Any, element: Any) -> Any:
    if element == types.uint16:  # a bfloat16 is the upper half of a float32
        wide = _vector(_I32)
        return build.bitcast(build.shl(build.zext(value, wide), ir.Constant(wide, [16] * WIDTH)), _vector(_FLOAT))
    return build.fpext(build.bitcast(value, _vector(_HALF)), _vector(_FLOAT)) if element == types.int16 else value


def _narrowed(build: Any, value: Any, element: Any) -> Any:
    if element == types.int16:
        return build.bitcast(build.fptrunc(value, _vector(_HALF)), _vector(ir.IntType(16)))
    if element != types.uint16:
        return value
    wide = _vector(_I32)

    def all_of(number: int) -> Any:
        return ir.Constant(wide, [number] * WIDTH)

    bits = build.bitcast(value, wide)
    odd = build.and_(build.lshr(bits, all_of(16)), all_of(1))
    to_even = build.add(odd, all_of(0x7FFF))
    # rounding could make an infinity of a NaN; cut off it stays one, as arithmetic leaves none whose upper bit is 0
    added = build.select(build.fcmp_unordered("uno", value, value), all_of(0), to_even)
    return build.trunc(build.lshr(build.add(bits, added), all_of(16)), _vector(ir.IntType(16)))
