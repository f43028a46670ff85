"""Eight doubles side by side: a register type for compiled kernels.

Numba leaves vectorising to LLVM, which gives up on recursions. `Lanes` is LLVM's `<8 x double>` as a
Numba type, so that a kernel says itself what runs side by side: one AVX-512 register, two of AVX, four
of NEON. Values are loaded from and stored to contiguous float64 arrays by flat offset; operators and the
functions below are elementwise.
"""

# pyright: reportCallIssue=false
# An intrinsic is called without the typing context that it is defined with.

import operator

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 8
_DOUBLE, _VECTOR = ir.DoubleType(), ir.VectorType(ir.DoubleType(), WIDTH)
_INTS = ir.VectorType(ir.IntType(64), WIDTH)


class LanesType(types.Type):
    """The type of eight doubles."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _VECTOR)


def _pointer(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(cgutils.gep_inbounds(builder, data, offset), _VECTOR.as_pointer())


@intrinsic
def load(typingctx, array, offset):
    """The eight doubles of a contiguous array from a flat offset on."""

    def build(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature.args[0], *args))
        value.align = 8
        return value

    return lanes(array, types.intp), build


@intrinsic
def store(typingctx, array, offset, value):
    """Write eight doubles."""

    def build(context, builder, signature, args):
        where = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], where).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), build


@intrinsic
def splat(typingctx, value):
    """The same number eight times."""

    def build(context, builder, signature, args):
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)

    return lanes(types.float64), build


@intrinsic
def fma(typingctx, a, b, c):
    """a·b + c, rounded once."""

    def build(context, builder, signature, args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{WIDTH}f64")
        return builder.call(function, args)

    return lanes(lanes, lanes, lanes), build


@intrinsic
def power_of_two(typingctx, shifted):
    """2ⁿ for n in the low bits of a double that 1.5·2⁵² has been added to."""

    def build(context, builder, signature, args):
        bits = builder.bitcast(args[0], _INTS)
        exponent = builder.shl(bits, ir.Constant(_INTS, [52] * WIDTH))
        one = builder.bitcast(ir.Constant(_VECTOR, [1.0] * WIDTH), _INTS)
        return builder.bitcast(builder.add(exponent, one), _VECTOR)

    return lanes(lanes), build


def _binary(instruction: str):
    @intrinsic
    def apply(typingctx, a, b):
        def build(context, builder, signature, args):
            return getattr(builder, instruction)(*args)

        return lanes(lanes, lanes), build

    return apply


def _choose(comparison: str):
    @intrinsic
    def apply(typingctx, a, b):
        def build(context, builder, signature, args):
            a, b = args
            return builder.select(builder.fcmp_ordered(comparison, a, b), a, b)

        return lanes(lanes, lanes), build

    return apply


_add, _subtract, _multiply, _divide = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))
maximum, minimum = _choose(">"), _choose("<")


def _operator(symbol, function) -> None:
    @overload(symbol)
    def resolve(a, b):
        if isinstance(a, LanesType) and isinstance(b, LanesType):
            return lambda a, b: function(a, b)
        return None


for _symbol, _function in (
    (operator.add, _add),
    (operator.sub, _subtract),
    (operator.mul, _multiply),
    (operator.truediv, _divide),
):
    _operator(_symbol, _function)

_MAGIC = 6755399441055744.0  # 1.5 · 2⁵²: adding it rounds to a whole number in the low bits
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723212e-6


@numba.njit(inline="always")
def exp(x):
    """e^x for x ≤ 0, to two units in the last place; below −700 it is e^−700.

    x = n ln 2 + r with |r| ≤ ½ ln 2, and e^r by its Taylor polynomial of degree 12.
    """
    x = maximum(x, splat(-700.0))
    shifted = fma(x, splat(_LOG2_E), splat(_MAGIC))
    n = shifted - splat(_MAGIC)
    r = fma(n, splat(-_LN2_HIGH), x)
    r = fma(n, splat(-_LN2_LOW), r)
    p = fma(splat(1 / 479001600), r, splat(1 / 39916800))
    p = fma(p, r, splat(1 / 3628800))
    p = fma(p, r, splat(1 / 362880))
    p = fma(p, r, splat(1 / 40320))
    p = fma(p, r, splat(1 / 5040))
    p = fma(p, r, splat(1 / 720))
    p = fma(p, r, splat(1 / 120))
    p = fma(p, r, splat(1 / 24))
    p = fma(p, r, splat(1 / 6))
    p = fma(p, r, splat(0.5))
    p = fma(p, r, splat(1.0))
    p = fma(p, r, splat(1.0))
    return p * power_of_two(shifted)
