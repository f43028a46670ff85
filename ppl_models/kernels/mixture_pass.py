"""The E step of a mixture over a run of rows, as one thread does it, compiled by Numba.

Rows go through in blocks of panels (see `ppl_models.kernels.register_tiles`) that stay in the second-level
cache: features are made and multiplied panel by panel, and their sums are taken over the block. So a pass
reads each row from memory once, and writes nothing of the rows' length unless γ is asked for.

With C = R·K components of all parameter sets next to each other, a block has the features T (panel, F, ROWS)
and log p, then γ, in G (panel, C, ROWS). Rows that pad the last panel have weight 0.
"""

# pyright: reportCallIssue=false
# An intrinsic is called without the typing context that it is defined with.

import numpy as np

from ppl_models.kernels.jit import jit
from ppl_models.kernels.register_tiles import (
    COMPONENTS,
    FEATURES,
    OUTPUTS,
    ROWS,
    TILE,
    add_sums,
    product,
    transpose,
)
from ppl_models.kernels.simd import WIDTH, exp, fma, load, maximum, splat, store
from ppl_models.kernels.simd_log import log

PLAIN, SQUARES, PAIRS = 0, 1, 2
"""What is a feature: the columns; and their squares; or, and the products of any two of them."""

IMPOSSIBLE = -1e300
"""Stands in for the log density −∞ of a row that no component allows."""

BLOCK, MOST = 75_000, 512
"""Numbers in T and G, 600 kB, and rows of a block."""


@jit(nogil=True, error_model="numpy")
def aligned(size):
    """An uninitialised array that begins with a cache line: a register that spans two takes twice as long."""
    array = np.empty(size + WIDTH)
    skip = (64 - array.ctypes.data % 64) % 64 // 8
    return array[skip : skip + size]


@jit(nogil=True, error_model="numpy")
def fill(x, D, first, last, form, centre, inverse, T, t):
    """Make the features of rows `first` … `last` of x (n D,) in the panel at T[t]."""
    whole = (last - first) // WIDTH * WIDTH if D >= WIDTH else 0
    for i in range(0, whole, WIDTH):
        for step in range(0, D, WIDTH):
            d = min(step, D - WIDTH)  # the last eight columns overlap those before
            transpose(x, (first + i) * D + d, D, centre, inverse, d, T, t + d * ROWS + i)
    for d in range(D):
        for i in range(whole, last - first):
            T[t + d * ROWS + i] = (x[(first + i) * D + d] - centre[d]) * inverse[d]
        for i in range(last - first, ROWS):
            T[t + d * ROWS + i] = 0.0
    o = t + D * ROWS
    if form == SQUARES:
        for d in range(0, D * ROWS, WIDTH):
            z = load(T, t + d)
            store(T, o + d, z * z)
    elif form == PAIRS:
        for d in range(D):
            for v in range(0, ROWS, WIDTH):
                z = load(T, t + d * ROWS + v)
                for j in range(d, D):
                    store(T, o + (j - d) * ROWS + v, z * load(T, t + j * ROWS + v))
            o += (D - d) * ROWS


@jit(nogil=True, error_model="numpy")
def posterior(G, g, R, K, weights, w_step, evidence, count, gamma, row, rows):
    """Turn log p of a panel at G[g] into w γ; add to evidence (8 R,) and count (8 R K,) in lanes.

    The weights of set r begin at `r w_step`, which is 0 where all sets weigh rows alike.
    `gamma` (R, n, K) gets γ of the first `rows` rows, from `row` on, unless it is empty.
    """
    held = np.empty(WIDTH)
    for r in range(R):
        for v in range(0, ROWS, WIDTH):
            at = g + r * K * ROWS + v
            top = splat(IMPOSSIBLE)
            for k in range(K):
                top = maximum(load(G, at + k * ROWS), top)
            s = splat(0.0)
            for k in range(K):
                e = exp(load(G, at + k * ROWS) - top)
                store(G, at + k * ROWS, e)
                s = s + e
            w = load(weights, r * w_step + v)
            store(evidence, r * WIDTH, fma(w, top + log(s), load(evidence, r * WIDTH)))
            inverse = splat(1.0) / s
            if gamma.size > 0:
                for k in range(K):
                    store(held, 0, load(G, at + k * ROWS) * inverse)
                    for i in range(min(WIDTH, rows - v)):
                        gamma[r, row + v + i, k] = held[i]
            inverse = inverse * w
            for k in range(K):
                y = load(G, at + k * ROWS) * inverse
                store(G, at + k * ROWS, y)
                c = (r * K + k) * WIDTH
                store(count, c, load(count, c) + y)


@jit(nogil=True, error_model="numpy")
def expect(
    x, n, D, form, centre, inverse, W, c, R, K, F, weight, stride, evidence, count, packed, gamma, offset
):
    """Add the E step over rows of x to `evidence`, `count` and `packed`, all of them flat arrays.

    Args:
        x: columns, (n, D).
        n: rows.
        D: columns.
        form: PLAIN, SQUARES or PAIRS.
        centre: (D,) what is taken off each column.
        inverse: (D,) what it is multiplied by then.
        W: weights of the features, (R, K, F).
        c: constants, (R, K).
        R: parameter sets.
        K: components.
        F: features.
        weight: of all rows, (rows,) or (R, rows), of which these are those from `offset` on; empty for 1.
        stride: 0, or `rows` where each parameter set has weights of its own.
        evidence: (R, 8).
        count: (R, K, 8).
        packed: sums, tile by tile: see `places`.
        gamma: (R, at least offset + n, K), not flat, gets γ; or empty.
        offset: where in it these rows begin.
    """
    # A block at a time, of as many panels as fit the cache with T and G:
    #   1. `fill` makes a panel's features, `product` log densities, of all components of all sets;
    #   2. the rows' weights are put beside it, 0 for the rows that pad it;
    #   3. `posterior` turns log densities into w γ;
    # and when all panels of the block are there,
    #   4. `add_sums` adds Σ w γ T over them, tile by tile. It comes last, as it reads every panel's T and G:
    #      over many panels the loads and stores of the sums themselves cost little.
    # The number and order of panels follow from n, F and C alone, so that sums do not depend on threads.
    C = R * K
    steps = -(-F // FEATURES)
    t_step, g_step = steps * FEATURES * ROWS, C * ROWS
    panels = min(max(min(MOST, BLOCK // (F + C)) // ROWS, 1), -(-n // ROWS))
    T, G = aligned(panels * t_step), aligned(panels * g_step)
    sets = R if stride > 0 else 1
    weights, w_step = aligned(sets * ROWS), (ROWS if stride > 0 else 0)
    for p in range(panels):  # what pads the last tile is summed as well, though never read
        T[p * t_step + F * ROWS : (p + 1) * t_step] = 0.0
    outputs, groups = -(-C // OUTPUTS), -(-C // COMPONENTS)
    for begin in range(0, n, panels * ROWS):
        here = min(panels, -(-(n - begin) // ROWS))
        for p in range(here):
            first = begin + p * ROWS
            last = min(first + ROWS, n)
            t, g = p * t_step, p * g_step
            fill(x, D, first, last, form, centre, inverse, T, t)
            for tile in range(outputs):
                k, next_ = tile * C // outputs, (tile + 1) * C // outputs
                product(next_ - k, W, k * F, F, c, k, T, t, G, g + k * ROWS)
            for r in range(sets):
                w = r * stride + offset + first
                for i in range(ROWS):
                    inside = first + i < last
                    weights[r * ROWS + i] = (weight[w + i] if weight.size > 0 else 1.0) if inside else 0.0
            posterior(G, g, R, K, weights, w_step, evidence, count, gamma, offset + first, last - first)
        for tile in range(groups):
            k, next_ = tile * C // groups, (tile + 1) * C // groups
            for f in range(steps):
                s = (tile * steps + f) * TILE
                add_sums(next_ - k, G, k * ROWS, g_step, T, f * FEATURES * ROWS, t_step, here, packed, s)


def places(C: int, F: int) -> tuple[int, np.ndarray]:
    """How long `packed` is, and where in it the sum of each component and feature is, (C, F)."""
    steps, groups = -(-F // FEATURES), -(-C // COMPONENTS)
    begins = np.arange(groups + 1) * C // groups
    k, f = np.arange(C), np.arange(F)
    tile = np.searchsorted(begins, k, "right") - 1
    at = (tile[:, None] * steps + f // FEATURES) * TILE
    return groups * steps * TILE, at + (k - begins[tile])[:, None] * FEATURES + f % FEATURES
