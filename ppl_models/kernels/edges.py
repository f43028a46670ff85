"""The recursions over time of a hidden Markov chain with few transitions, compiled, in log space.

Where only E of the K² transitions i → j are possible, a row costs 2 E exponentials rather than K². Tasks are
as in `forward_backward`, each a whole sequence, but for their kind, which is not looked at. Edges come
sorted by where they lead, edge e from `source[e]`, those into j being `into[j]` to `into[j + 1]`. With b_t(j)
the log density of row t,

    a_t(j) = b_t(j) + log Σ_{e: i → j} exp(α_{t−1}(i) + A_e),   c_t = log Σ_j exp a_t(j),   α_t = a_t − c_t
    v_e = A_e + b_t(j) + β_t(j) − c_t,   β_{t−1}(i) = log Σ_{e: i → j} exp v_e
    ξ_t(e) = exp(α_{t−1}(i) + v_e)

A state that cannot be at t has b, a or α of −∞ (or below `NEVER`), and is passed over.
"""

import numpy as np

from ppl_models.kernels.jit import jit

NEVER = -1e29
"""Log densities below it stand for impossible."""

_FAST: dict = {"nogil": True, "error_model": "numpy"}


@jit(**_FAST)
def filter_edges(b, start, A, source, into, tasks, alpha, c):
    """Fill `alpha` (R, n, K) and `c` (R, n); return the first row that no path reaches, or −1.

    Args:
        b: log densities, (R, n, K).
        start: log probabilities, (R, K).
        A: log transitions, (R, E).
        source: where each edge comes from, (E,).
        into: the edges into each state, (K + 1,).
        tasks: whole sequences.
        alpha: log filtered probabilities, written.
        c: log p(x_t | x_{1:t−1}), written.
    """
    K = b.shape[2]
    for task in range(tasks.shape[0]):
        r, first, last = tasks[task, 0], tasks[task, 1], tasks[task, 2]
        for t in range(first, last):
            top = -np.inf
            for j in range(K):
                value = -np.inf
                if b[r, t, j] > NEVER:
                    if t == first:
                        if start[r, j] > NEVER:
                            value = start[r, j] + b[r, t, j]
                    else:
                        best = -np.inf
                        for e in range(into[j], into[j + 1]):
                            best = max(best, alpha[r, t - 1, source[e]] + A[r, e])
                        if best > NEVER:
                            total = 0.0
                            for e in range(into[j], into[j + 1]):
                                total += np.exp(alpha[r, t - 1, source[e]] + A[r, e] - best)
                            value = best + np.log(total) + b[r, t, j]
                alpha[r, t, j] = value
                top = max(top, value)
            if not top > NEVER:
                return t
            total = 0.0
            for j in range(K):
                if alpha[r, t, j] > NEVER:
                    total += np.exp(alpha[r, t, j] - top)
            norm = top + np.log(total)
            c[r, t] = norm
            for j in range(K):
                alpha[r, t, j] -= norm
    return -1


@jit(**_FAST)
def smooth_edges(b, A, source, into, tasks, alpha, c, gamma, pairs):
    """Fill `gamma` (R, n, K), and `pairs` (tasks, E) with Σ_t ξ_t; `gamma` may be `b`.

    Args:
        b: log densities, (R, n, K).
        A: log transitions, (R, E).
        source: where each edge comes from, (E,).
        into: the edges into each state, (K + 1,).
        tasks: whole sequences.
        alpha: of `filter_edges`.
        c: of the same.
        gamma: p(z_t = k | x), written.
        pairs: expected transitions, written.
    """
    K = b.shape[2]
    beta, top, back = np.empty(K), np.empty(K), np.empty(K)
    v = np.empty(A.shape[1])
    for task in range(tasks.shape[0]):
        r, first, last = tasks[task, 0], tasks[task, 1], tasks[task, 2]
        for e in range(A.shape[1]):
            pairs[task, e] = 0.0
        for j in range(K):
            beta[j] = 0.0
        for t in range(last - 1, first - 1, -1):
            if t > first:
                for i in range(K):
                    top[i] = -np.inf
                for j in range(K):
                    w = b[r, t, j] + beta[j] - c[r, t]
                    possible = alpha[r, t, j] > NEVER and beta[j] > NEVER
                    for e in range(into[j], into[j + 1]):
                        v[e] = A[r, e] + w if possible else -np.inf
                        top[source[e]] = max(top[source[e]], v[e])
                for i in range(K):
                    back[i] = 0.0
                for e in range(A.shape[1]):
                    i = source[e]
                    if v[e] > NEVER:
                        share = np.exp(v[e] - top[i])
                        back[i] += share
                        if alpha[r, t - 1, i] > NEVER:
                            pairs[task, e] += share * np.exp(alpha[r, t - 1, i] + top[i])
            total = 0.0
            for j in range(K):
                value = 0.0
                if alpha[r, t, j] > NEVER and beta[j] > NEVER:
                    value = np.exp(alpha[r, t, j] + beta[j])
                gamma[r, t, j] = value
                total += value
            for j in range(K):
                gamma[r, t, j] /= total
            if t > first:
                for i in range(K):
                    beta[i] = top[i] + np.log(back[i]) if back[i] > 0.0 else -np.inf
