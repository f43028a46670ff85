"""The natural logarithm of eight doubles side by side."""

# pyright: reportCallIssue=false
# An intrinsic is called without the typing context that it is defined with.

import numba
from llvmlite import ir
from numba.extending import intrinsic

from ppl_models.kernels.simd import WIDTH, fma, lanes, splat

_INTS = ir.VectorType(ir.IntType(64), WIDTH)
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_LEAST = ir.Constant(_INTS, [0x3FE6A09E667F3BCD] * WIDTH)  # the bits of √½
_FRACTION = ir.Constant(_INTS, [2**52 - 1] * WIDTH)


@intrinsic
def exponent(typingctx, x):
    """The e of x = 2^e m with √½ ≤ m < √2, for positive, normal x."""

    def build(context, builder, signature, args):
        bits = builder.sub(builder.bitcast(args[0], _INTS), _LEAST)
        return builder.sitofp(builder.ashr(bits, ir.Constant(_INTS, [52] * WIDTH)), _VECTOR)

    return lanes(lanes), build


@intrinsic
def mantissa(typingctx, x):
    """The m of the same."""

    def build(context, builder, signature, args):
        bits = builder.sub(builder.bitcast(args[0], _INTS), _LEAST)
        return builder.bitcast(builder.add(builder.and_(bits, _FRACTION), _LEAST), _VECTOR)

    return lanes(lanes), build


@numba.njit(inline="always")
def log(x):
    """Log x for positive, normal x, to a few units in the last place.

    x = 2^e m, and log m = 2 artanh t = 2 t (1 + t²/3 + t⁴/5 + …) with t = (m − 1)/(m + 1), |t| < 0.172.
    """
    m = mantissa(x)
    t = (m - splat(1.0)) / (m + splat(1.0))
    u = t * t
    p = fma(splat(2 / 19), u, splat(2 / 17))
    p = fma(p, u, splat(2 / 15))
    p = fma(p, u, splat(2 / 13))
    p = fma(p, u, splat(2 / 11))
    p = fma(p, u, splat(2 / 9))
    p = fma(p, u, splat(2 / 7))
    p = fma(p, u, splat(2 / 5))
    p = fma(p, u, splat(2 / 3))
    p = fma(p, u, splat(2.0))
    return fma(exponent(x), splat(0.6931471805599453), p * t)
