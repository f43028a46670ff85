"""The recursions of `ppl_models.kernels.blocks`, for one group of eight blocks.

Arrays have the lane as their last dimension, so that a row of all blocks is one register for each entry.
`kernels(K, F)` compiles for exactly K states and F features, which unrolls the inner loops and halves the
time; `kernels(0, 0)` serves any and is compiled once.
"""

# pyright: reportCallIssue=false
# An intrinsic is called without the typing context that it is defined with.

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ppl_models.kernels.jit import jit
from ppl_models.kernels.simd import exp, fma, load, maximum, minimum, splat, store


class Kernels(NamedTuple):
    """The compiled recursions for one size."""

    forward: Callable
    backward: Callable
    approach: Callable


@lru_cache(maxsize=64)
def kernels(states: int, features: int, squares: bool = False) -> Kernels:
    """The recursions for `states` states and `features` features, or for any number where these are 0.

    With `squares`, the square of every feature is a feature as well, which follow all of the first in W
    and G but need not be stored.
    """
    # In all three: x or v holds a row's K registers between loops over states. `some[t]` says whether a
    # sequence begins at row t in any lane, which is seldom; only then are lanes where one does (`begins` = 1)
    # and lanes where none does (0) told apart, by arithmetic, as all take the same steps.

    @jit(nogil=True, error_model="numpy")
    def forward(T, begins, some, W, c, A, pi, alpha, b, evidence):
        """Filter `T` (n, F, 8) from the message in `alpha[0]`; fill `alpha` (n + 1, K, 8), `b`/s (n, K, 8).

        `evidence` (8,) gets Σ log s + max. Returns the smallest s, to tell an underflow.
        """
        n = T.shape[0]
        K = states if states > 0 else c.shape[0]
        F = features if features > 0 else T.shape[1]
        x = np.empty(K * 8)
        held = np.empty(8)
        total, product, low = splat(0.0), splat(1.0), splat(1.0)
        for t in range(n):
            # 1. Log densities, and the largest of them, which is taken off so that exp cannot overflow.
            top = splat(-np.inf)
            for k in range(K):
                value = splat(c[k])
                for f in range(F):
                    y = load(T, (t * F + f) * 8)
                    if squares:
                        value = fma(fma(splat(W[k, F + f]), y, splat(W[k, f])), y, value)
                    else:
                        value = fma(splat(W[k, f]), y, value)
                store(x, k * 8, value)
                top = maximum(value, top)
            total = total + top
            # 2. α A b, or π b where a sequence begins: p + begins (π − p).
            s = splat(0.0)
            now, next_ = t * K * 8, (t + 1) * K * 8
            for j in range(K):
                p = splat(0.0)
                for i in range(K):
                    p = fma(splat(A[i, j]), load(alpha, now + i * 8), p)
                if some[t]:
                    p = fma(load(begins, t * 8), splat(pi[j]) - p, p)
                e = exp(load(x, j * 8) - top)
                store(x, j * 8, e)
                p = p * e
                store(alpha, next_ + j * 8, p)
                s = s + p
            # 3. Scale; b is kept divided by s, as the way back needs it.
            inverse = splat(1.0) / s
            for k in range(K):
                store(alpha, next_ + k * 8, load(alpha, next_ + k * 8) * inverse)
                store(b, now + k * 8, load(x, k * 8) * inverse)
            product = product * s
            low = minimum(s, low)
            # A logarithm for eight rows: that of the product of their s, which does not vanish as long as no
            # s is below 1e-30. The caller looks at the smallest.
            if t % 8 == 7 or t == n - 1:
                store(held, 0, product)
                for lane in range(8):
                    held[lane] = np.log(held[lane])
                total = total + load(held, 0)
                product = splat(1.0)
        store(evidence, 0, total)
        store(held, 0, low)
        return held.min()

    @jit(nogil=True, error_model="numpy")
    def backward(T, begins, some, A, alpha, b, beta, G, count, start, U, first):
        """Smooth: from β after the last row (K, 8) to β before the first, adding up statistics by lane.

        `G` (K, F, 8) gets Σ γ T, `count` (K, 8) Σ γ, `start` the same where a sequence begins, `U` (K, K, 8)
        Σ α_{t−1} ⊗ v_t, `first` (K, 8) the β before the first row.
        """
        n = T.shape[0]
        K = states if states > 0 else A.shape[0]
        F = features if features > 0 else T.shape[1]
        v = np.empty(K * 8)
        # β comes with any scale, that of a neighbour or of a guess: Σ_k α_k β_k = 1 makes γ = α β.
        z = splat(0.0)
        for k in range(K):
            z = fma(load(alpha, (n * K + k) * 8), load(beta, k * 8), z)
        z = splat(1.0) / z
        for k in range(K):
            store(beta, k * 8, load(beta, k * 8) * z)
        for t in range(n - 1, -1, -1):
            now, next_ = t * K * 8, (t + 1) * K * 8
            flag = load(begins, t * 8)
            for k in range(K):
                at = load(beta, k * 8)
                g = load(alpha, next_ + k * 8) * at
                store(v, k * 8, load(b, now + k * 8) * at)
                store(count, k * 8, load(count, k * 8) + g)
                if some[t]:
                    store(start, k * 8, fma(flag, g, load(start, k * 8)))
                for f in range(F):
                    y = load(T, (t * F + f) * 8)
                    if squares:
                        to = (2 * k * F + f) * 8
                        y2 = to + F * 8
                        store(G, y2, fma(g * y, y, load(G, y2)))
                    else:
                        to = (k * F + f) * 8
                    store(G, to, fma(g, y, load(G, to)))
            # The pair with the row before, and β there: 1, and no pair, where a sequence begins at this row.
            for i in range(K):
                a = load(alpha, now + i * 8)
                if some[t]:
                    a = a - flag * a
                p = splat(0.0)
                for j in range(K):
                    u = load(v, j * 8)
                    to = (i * K + j) * 8
                    store(U, to, fma(a, u, load(U, to)))
                    p = fma(splat(A[i, j]), u, p)
                if some[t]:
                    p = fma(flag, splat(1.0) - p, p)
                store(beta, i * 8, p)
        for k in range(K):
            store(first, k * 8, load(beta, k * 8))

    @jit(nogil=True, error_model="numpy")
    def approach(T, begins, some, W, c, A, beta):
        """Run β alone (K, 8) back over rows `T`, normalising by its sum: the guess of a message."""
        n = T.shape[0]
        K = states if states > 0 else c.shape[0]
        F = features if features > 0 else T.shape[1]
        v = np.empty(K * 8)
        for t in range(n - 1, -1, -1):
            top = splat(-np.inf)
            for k in range(K):
                value = splat(c[k])
                for f in range(F):
                    y = load(T, (t * F + f) * 8)
                    if squares:
                        value = fma(fma(splat(W[k, F + f]), y, splat(W[k, f])), y, value)
                    else:
                        value = fma(splat(W[k, f]), y, value)
                store(v, k * 8, value)
                top = maximum(value, top)
            for k in range(K):
                store(v, k * 8, exp(load(v, k * 8) - top) * load(beta, k * 8))
            s = splat(0.0)
            for i in range(K):
                p = splat(0.0)
                for j in range(K):
                    p = fma(splat(A[i, j]), load(v, j * 8), p)
                store(beta, i * 8, p)
                s = s + p
            s = splat(1.0) / s
            flag = load(begins, t * 8)
            for i in range(K):
                p = load(beta, i * 8) * s
                if some[t]:
                    p = fma(flag, splat(1.0) - p, p)
                store(beta, i * 8, p)

    return Kernels(forward, backward, approach)
