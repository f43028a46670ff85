"""The recursions over time of a hidden Markov chain, compiled for a CPU.

The rows of all sequences lie one after another. A *task* is a run of rows of one sequence,
`(batch, first row, last row + 1, kind)`, with `kind` 0 where the sequence begins there, 1 where a
piece of it is entered with the stationary distribution, 2 where it goes on from a message that an
earlier call has left in `carry`. Tasks are independent, so any split of them may run in parallel;
the kernels hold no lock (`nogil`).

Forward, in scaled space (Rabiner 1989, Proc. IEEE 77, https://doi.org/10.1109/5.18626):

    a_t(j) = b_t(j) Σ_i α_{t−1}(i) A_ij,    s_t = Σ_j a_t(j),    α_t = a_t / s_t

with b_t(j) = exp(log p(x_t | j) − max_k log p(x_t | k)), so that Σ_t log s_t + max is the log evidence.
Backward, with the same scales, γ_t = α_t ∘ β_t and the summed pair marginals Σ_t ξ_t = A ∘ U:

    v_t = b_t ∘ β_t / s_t,    β_{t−1} = A v_t,    U += w_t · α_{t−1} ⊗ v_t

where w_t weighs the transition into row t. Because every row of b has a 1 in it, s_t is at least the
smallest entry of A: it can only underflow where A itself has entries near zero. The kernels say so by
returning the row, and the log-space pair below takes over.

`kernels(K)` compiles for exactly K states, which lets the inner loops unroll (half the time an
iteration at K = 4); `kernels(None)` serves any K and is compiled once.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ppl_models.kernels.jit import jit

_TINY = 1e-280
"""Sums of scaled probabilities below it are not trusted: what they are made of may be denormal."""

_FAST: dict = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}


class Kernels(NamedTuple):
    """The compiled pair for one number of states."""

    forward: Callable
    backward: Callable


@lru_cache(maxsize=64)
def kernels(states: int | None) -> Kernels:
    """Scaled forward and backward kernels for `states` states, or for any number (`None`)."""
    fixed = states or 0

    @jit(**_FAST)
    def forward(b, enter, A, tasks, carry, alpha, s):
        """Fill `alpha` (R, n, K) and `s` (R, n); return the first row that underflowed, or −1."""
        K = fixed if fixed > 0 else b.shape[2]
        w = np.empty(K)
        for task in range(tasks.shape[0]):
            r, first, last, kind = tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3]
            Ar = A[r].copy()
            for t in range(first, last):
                if t == first and kind != 2:
                    for j in range(K):
                        w[j] = enter[r, kind, j]
                else:
                    for j in range(K):
                        w[j] = 0.0
                    for i in range(K):
                        a = carry[r, i] if t == first else alpha[r, t - 1, i]
                        for j in range(K):
                            w[j] += a * Ar[i, j]
                total = 0.0
                for j in range(K):
                    w[j] *= b[r, t, j]
                    total += w[j]
                if not total > _TINY:  # also when it is NaN
                    return t
                s[r, t] = total
                inverse = 1.0 / total
                for j in range(K):
                    alpha[r, t, j] = w[j] * inverse
        return -1

    @jit(**_FAST)
    def backward(b, A, tasks, weight, ends, message, alpha, s, U, left):
        """Turn `alpha` into γ in place, fill `U` (tasks, K, K) and leave messages for earlier rows.

        `ends[task]` is 0 where the rows after the task continue its sequence: β then starts from
        `message` (R, K + 1), their v with the weight of their first transition at the end. A task
        that continues earlier rows writes the same for them into `left`.
        """
        K = fixed if fixed > 0 else b.shape[2]
        v = np.empty(K)
        beta = np.empty(K)
        for task in range(tasks.shape[0]):
            r, first, last = tasks[task, 0], tasks[task, 1], tasks[task, 2]
            At = A[r].T.copy()
            Ut = np.zeros((K, K))
            if ends[task]:
                for j in range(K):
                    beta[j] = 1.0
            else:  # the pair of the last row with the first of the next chunk, whose v came as the message
                for j in range(K):
                    beta[j] = 0.0
                for j in range(K):
                    x = message[r, j]
                    for i in range(K):
                        beta[i] += x * At[j, i]
                for i in range(K):
                    a = alpha[r, last - 1, i] * message[r, K]
                    for j in range(K):
                        Ut[i, j] += a * message[r, j]
            # α_t becomes γ_t in place; α_{t−1}, which the pair needs, is still as it was.
            for t in range(last - 1, first, -1):
                inverse = 1.0 / s[r, t]
                wt = weight[t]
                for j in range(K):
                    v[j] = b[r, t, j] * beta[j] * inverse
                    alpha[r, t, j] *= beta[j]
                    beta[j] = 0.0
                for j in range(K):
                    x = v[j]
                    for i in range(K):
                        beta[i] += x * At[j, i]
                for i in range(K):
                    a = alpha[r, t - 1, i] * wt
                    for j in range(K):
                        Ut[i, j] += a * v[j]
            if tasks[task, 3] == 2:
                inverse = 1.0 / s[r, first]
                for j in range(K):
                    left[r, j] = b[r, first, j] * beta[j] * inverse
                left[r, K] = weight[first]
            for j in range(K):
                alpha[r, first, j] *= beta[j]
            for i in range(K):
                for j in range(K):
                    U[task, i, j] = Ut[i, j]

    return Kernels(forward, backward)


@jit(nogil=True, error_model="numpy")
def _log_step(previous, log_A, log_b, out):
    """out_j = log_b_j + log Σ_i exp(previous_i + log A_ij)."""
    K = previous.shape[0]
    for j in range(K):
        top = -np.inf
        for i in range(K):
            x = previous[i] + log_A[i, j]
            if x > top:
                top = x
        if top == -np.inf:
            out[j] = -np.inf
            continue
        total = 0.0
        for i in range(K):
            total += np.exp(previous[i] + log_A[i, j] - top)
        out[j] = log_b[j] + top + np.log(total)


@jit(nogil=True, error_model="numpy")
def log_forward(log_b, log_enter, log_A, tasks, carry, log_alpha, log_s):
    """The forward recursion in log space: slower, and safe with transition entries near zero.

    `log_alpha` is left normalised, row by row; `log_s` holds the log normalisers. Returns the first
    row that no path reaches with positive probability, or −1.
    """
    K = log_b.shape[2]
    row = np.empty(K)
    previous = np.empty(K)
    for task in range(tasks.shape[0]):
        r, first, last, kind = tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3]
        for t in range(first, last):
            if t == first and kind != 2:
                for j in range(K):
                    row[j] = log_enter[r, kind, j] + log_b[r, t, j]
            else:
                for j in range(K):
                    previous[j] = carry[r, j] if t == first else log_alpha[r, t - 1, j]
                _log_step(previous, log_A[r], log_b[r, t], row)
            top = row.max()
            if not top > -np.inf:
                return t
            total = 0.0
            for j in range(K):
                total += np.exp(row[j] - top)
            log_s[r, t] = top + np.log(total)
            for j in range(K):
                log_alpha[r, t, j] = row[j] - log_s[r, t]
    return -1


@jit(nogil=True, error_model="numpy")
def log_backward(log_b, log_A, tasks, weight, ends, message, log_alpha, log_s, xi, left):
    """The backward recursion in log space; `log_alpha` becomes log γ, `xi` (tasks, K, K) is Σ_t w_t ξ_t."""
    K = log_b.shape[2]
    v = np.empty(K)
    beta = np.empty(K)
    for task in range(tasks.shape[0]):
        r, first, last = tasks[task, 0], tasks[task, 1], tasks[task, 2]
        xi[task] = 0.0
        for t in range(last, first, -1):
            if t == last:
                if ends[task]:
                    beta[:] = 0.0
                    continue
                w = message[r, K]
                for j in range(K):
                    v[j] = message[r, j]
            else:
                w = weight[t]
                for j in range(K):
                    v[j] = log_b[r, t, j] + beta[j] - log_s[r, t]
                    log_alpha[r, t, j] += beta[j]
            if w != 0.0:  # 0 times a probability of 0 whose logarithm is −∞ would be NaN
                for i in range(K):
                    for j in range(K):
                        xi[task, i, j] += w * np.exp(log_alpha[r, t - 1, i] + log_A[r, i, j] + v[j])
            for i in range(K):
                top = -np.inf
                for j in range(K):
                    x = log_A[r, i, j] + v[j]
                    if x > top:
                        top = x
                beta[i] = top
                if top > -np.inf:
                    total = 0.0
                    for j in range(K):
                        total += np.exp(log_A[r, i, j] + v[j] - top)
                    beta[i] = top + np.log(total)
        if tasks[task, 3] == 2:
            for j in range(K):
                left[r, j] = log_b[r, first, j] + beta[j] - log_s[r, first]
            left[r, K] = weight[first]
        for j in range(K):
            log_alpha[r, first, j] += beta[j]


@jit(nogil=True, error_model="numpy")
def viterbi(log_b, log_enter, log_A, tasks, path):
    """The most probable path of every task: max-product forward, then back along the pointers."""
    K = log_b.shape[2]
    score = np.empty(K)
    best = np.empty(K)
    for task in range(tasks.shape[0]):
        r, first, last, kind = tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3]
        pointer = np.empty((last - first, K), np.int32)
        for j in range(K):
            score[j] = log_enter[r, kind, j] + log_b[r, first, j]
        for t in range(first + 1, last):
            for j in range(K):
                best[j] = -np.inf
                pointer[t - first, j] = 0
            for i in range(K):
                for j in range(K):
                    x = score[i] + log_A[r, i, j]
                    if x > best[j]:
                        best[j] = x
                        pointer[t - first, j] = i
            for j in range(K):
                score[j] = best[j] + log_b[r, t, j]
        state = np.argmax(score)
        for t in range(last - 1, first - 1, -1):
            path[r, t] = state
            state = pointer[t - first, state]


@jit(nogil=True, error_model="numpy")
def sample_paths(log_alpha, log_A, tasks, uniform, path):
    """Draw a path from the posterior by forward filtering, backward sampling.

    p(z_{t−1} | z_t, x_{1:t−1}) ∝ α_{t−1}(z_{t−1}) A_{z_{t−1} z_t}, by inversion of `uniform` (R, n).
    """
    K = log_alpha.shape[2]
    p = np.empty(K)
    for task in range(tasks.shape[0]):
        r, first, last = tasks[task, 0], tasks[task, 1], tasks[task, 2]
        state = -1
        for t in range(last - 1, first - 1, -1):
            top = -np.inf
            for i in range(K):
                p[i] = log_alpha[r, t, i] + (0.0 if state < 0 else log_A[r, i, state])
                top = max(top, p[i])
            total = 0.0
            for i in range(K):
                p[i] = np.exp(p[i] - top)
                total += p[i]
            target = uniform[r, t] * total
            reached = 0.0
            for i in range(K):
                if p[i] > 0.0:
                    state = i
                    reached += p[i]
                    if reached > target:
                        break
            path[r, t] = state
