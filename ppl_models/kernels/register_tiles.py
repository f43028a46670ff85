"""Products of tall, thin matrices in the registers of a CPU: the inner loops of a mixture's E step.

Rows of data lie in *panels* of `ROWS`, as (F, ROWS), so that one feature of eight rows is one register of
`ppl_models.kernels.simd`. A *tile* is as many sums as fit the registers at once. None of them waits for
another, and whatever a step of the loop loads is used by several of them, so that the processor is kept busy
by multiply–adds alone. The sizes are those of AVX-512, 32 registers of eight doubles, or smaller ones for
every other processor.

All arrays are flat, contiguous float64, and places in them are offsets.
"""

from collections.abc import Callable

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from ppl_models.kernels.simd import WIDTH


def _has_avx512() -> bool:
    """Whether Numba compiles for AVX-512, on this processor or as its own environment variables say."""
    chosen = getattr(config, "CPU_FEATURES", None)
    if chosen is not None:
        return "+avx512f" in chosen
    return bool(binding.get_host_cpu_features().get("avx512f", False))


_WIDE = _has_avx512()
VECTORS, OUTPUTS = (4, 6) if _WIDE else (1, 5)
"""Registers of rows, and at most how many components, of a tile of `product`."""

FEATURES, COMPONENTS = (4, 6) if _WIDE else (2, 3)
"""Features, and at most how many components, of a tile of `add_sums`."""

ROWS = VECTORS * WIDTH
"""Rows of a panel."""

_DOUBLE, _INT = ir.DoubleType(), ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)
_NOTHING = ir.Constant(_VECTOR, ir.Undefined)
_ARRAY = types.Array(types.float64, 1, "C")


def _data(context, builder, arrays: list) -> list:
    return [context.make_array(_ARRAY)(context, builder, array).data for array in arrays]


def _where(builder, data, offset):
    return builder.gep(data, [offset], inbounds=True)


def _load(builder, data, offset):
    value = builder.load(builder.bitcast(_where(builder, data, offset), _VECTOR.as_pointer()))
    value.align = 8
    return value


def _store(builder, data, offset, value) -> None:
    builder.store(value, builder.bitcast(_where(builder, data, offset), _VECTOR.as_pointer())).align = 8


def _shuffle(builder, a, b, lanes: list[int]):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), lanes))


def _broadcast(builder, data, offset):
    """One number of the array in all lanes."""
    number = builder.load(_where(builder, data, offset))
    first = builder.insert_element(_NOTHING, number, ir.IntType(32)(0))
    return _shuffle(builder, first, _NOTHING, [0] * WIDTH)


def _fma(builder, a, b, c):
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{WIDTH}f64")
    return builder.call(function, [a, b, c])


def _switch(builder, size, most: int, emit: Callable[[int], None]) -> None:
    """The code of `emit(s)` for each size from 1 to `most`, of which `size` chooses one as it runs."""
    done = builder.append_basic_block("done")
    choice = builder.switch(size, done)
    for s in range(1, most + 1):
        block = builder.append_basic_block(f"size{s}")
        choice.add_case(_INT(s), block)
        builder.position_at_end(block)
        emit(s)
        builder.branch(done)
    builder.position_at_end(done)


def _loop(builder, times, initial: list, body: Callable) -> list:
    """`values = body(i, values)` for i in 0 … times − 1, at least once; the last values, all in registers."""
    before, block = builder.block, builder.append_basic_block("loop")
    builder.branch(block)
    builder.position_at_end(block)
    index = builder.phi(_INT)
    held = [builder.phi(_VECTOR) for _ in initial]
    values = body(index, held)
    following = builder.add(index, _INT(1))
    end, after = builder.block, builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed("<", following, times), block, after)
    for phi, first, last in zip([index, *held], [_INT(0), *initial], [following, *values], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(last, end)
    builder.position_at_end(after)
    return values


def _across(builder, vectors: list) -> list:
    """The sums over the lanes of each vector, eight to a register; the last is padded with nonsense."""
    vectors = vectors + vectors[:1] * (-len(vectors) % WIDTH)
    span = 1
    while span < WIDTH:
        # Neighbours merge: lanes with this bit in their number go on with the second of them.
        take = [(i & ~span) + (WIDTH if i & span else 0) for i in range(WIDTH)]
        merged = []
        for a, b in zip(vectors[::2], vectors[1::2], strict=True):
            low = _shuffle(builder, a, b, take)
            high = _shuffle(builder, a, b, [i + span for i in take])
            merged.append(builder.fadd(low, high))
        vectors, span = merged, 2 * span
    return vectors


@intrinsic
def product(typingctx, size, W, w, F, c, k, T, t, out, o):
    """out[o + j ROWS …] = c[k + j] + Σ_f W[w + j F + f] T[t + f ROWS …] of one panel, for j < `size`.

    `size` is 1 … OUTPUTS, and F at least 1.
    """
    signature = types.void(types.intp, _ARRAY, types.intp, types.intp, *[_ARRAY, types.intp] * 3)

    def build(context, builder, signature, args):
        size, W, w, F, c, k, T, t, out, o = args
        W, c, T, out = _data(context, builder, [W, c, T, out])
        plus, times = builder.add, builder.mul

        def emit(components: int) -> None:
            start = [_broadcast(builder, c, plus(k, _INT(j))) for j in range(components)]
            rows = [plus(w, times(F, _INT(j))) for j in range(components)]

            def step(f, held):
                at = plus(t, times(f, _INT(ROWS)))
                x = [_load(builder, T, plus(at, _INT(v * WIDTH))) for v in range(VECTORS)]
                found = []
                for j, row in enumerate(rows):
                    weight = _broadcast(builder, W, plus(row, f))
                    found += [_fma(builder, weight, x[v], held[j * VECTORS + v]) for v in range(VECTORS)]
                return found

            sums = _loop(builder, F, [value for value in start for _ in range(VECTORS)], step)
            for i, value in enumerate(sums):
                _store(builder, out, plus(o, _INT(i * WIDTH)), value)

        _switch(builder, size, OUTPUTS, emit)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def add_sums(typingctx, size, G, g, g_step, T, t, t_step, panels, sums, s):
    """sums[s + j FEATURES + i] += Σ_n G[g + j ROWS + n] T[t + i ROWS + n], j < `size`, i < FEATURES.

    The sum is over the rows n of `panels` panels, at least one, which are `g_step` and `t_step` apart.
    `size` is 1 … COMPONENTS. What is written is rounded up to whole registers: up to TILE numbers.
    """
    signature = types.void(types.intp, *[_ARRAY, types.intp, types.intp] * 2, types.intp, _ARRAY, types.intp)

    def build(context, builder, signature, args):
        size, G, g, g_step, T, t, t_step, panels, sums, s = args
        G, T, sums = _data(context, builder, [G, T, sums])
        plus, times = builder.add, builder.mul

        def emit(components: int) -> None:
            def step(panel, held):
                at_g, at_t = plus(g, times(panel, g_step)), plus(t, times(panel, t_step))
                for v in range(0, ROWS, WIDTH):
                    x = [_load(builder, T, plus(at_t, _INT(i * ROWS + v))) for i in range(FEATURES)]
                    found = []
                    for j in range(components):
                        y = _load(builder, G, plus(at_g, _INT(j * ROWS + v)))
                        found += [_fma(builder, y, x[i], held[j * FEATURES + i]) for i in range(FEATURES)]
                    held = found
                return held

            zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
            totals = _loop(builder, panels, [zero] * (components * FEATURES), step)
            for i, value in enumerate(_across(builder, totals)):
                at = plus(s, _INT(i * WIDTH))
                _store(builder, sums, at, builder.fadd(value, _load(builder, sums, at)))

        _switch(builder, size, COMPONENTS, emit)
        return context.get_dummy_value()

    return signature, build


TILE = -(-COMPONENTS * FEATURES // WIDTH) * WIDTH
"""Numbers that a tile of `add_sums` takes in memory."""


@intrinsic
def transpose(typingctx, x, at, stride, centre, inverse, d, out, o):
    """Eight rows of eight columns: out[o + j ROWS + i] = (x[at + i stride + j] − centre_j) inverse_j.

    The columns are d … d + 7 of `centre` and `inverse`.
    """
    signature = types.void(_ARRAY, *[types.intp] * 2, *[_ARRAY] * 2, types.intp, _ARRAY, types.intp)

    def build(context, builder, signature, args):
        x, at, stride, centre, inverse, d, out, o = args
        x, centre, inverse, out = _data(context, builder, [x, centre, inverse, out])
        plus, times = builder.add, builder.mul
        rows = [_load(builder, x, plus(at, times(stride, _INT(i)))) for i in range(WIDTH)]
        span = WIDTH // 2
        while span:
            # Blocks of `span` rows and columns change places across the diagonal.
            take = [(j & ~span) + (WIDTH if j & span else 0) for j in range(WIDTH)]
            moved = list(rows)
            for i in range(WIDTH):
                if not i & span:
                    a, b = rows[i], rows[i + span]
                    moved[i] = _shuffle(builder, a, b, take)
                    moved[i + span] = _shuffle(builder, a, b, [j + span for j in take])
            rows, span = moved, span // 2
        for j, value in enumerate(rows):
            column = plus(d, _INT(j))
            value = builder.fsub(value, _broadcast(builder, centre, column))
            value = builder.fmul(value, _broadcast(builder, inverse, column))
            _store(builder, out, plus(o, _INT(j * ROWS)), value)
        return context.get_dummy_value()

    return signature, build
