"""The most probable shape of the prior of Gaussian states: the search of `FullGaussian`, compiled.

It is some hundred operations on matrices of a few columns, a step, of which a fit of small data takes
thousands: nearly all of the time of such a fit was spent between them. For R parameter sets of K states
(one, where they share a covariance) with D columns,

    W_k⁻¹ = ν₀ P + scatter_k + κ₀ n_k/(κ₀ + n_k) · x̄_k x̄_kᵀ = F_k F_kᵀ,    P = L Lᵀ ≥ diag(least)

    search      steps for all sets until P and κ₀ stay where they are
    _turn       one step of P: the directions U in which the slope is diagonal, and a size along each
    _size       Newton's method for one size
    _directions eigenvectors, by cyclic Jacobi rotations
    _raised     P at least diag(least): one-sided Jacobi rotations (Hestenes 1958, J. SIAM 6)
    _lower      the triangular factor of A Aᵀ, by Givens rotations

The mathematics is that of `ppl_models.families.full_gaussian`, which does the same with torch where matrices
are large, on a GPU, or where derivatives are asked for. Memory is a few matrices of D × D.
"""

import math

import numpy as np

from ppl_models.kernels.jit import jit

SWEEPS = 30
"""Sweeps of rotations at most; six are enough for a dozen columns."""

EPSILON = 1e-15
"""Cosine between two columns that are orthogonal, as far as can be told."""


@jit()
def _factor(A, F):
    """The Cholesky factor of A into F; whether there is one."""
    D = len(A)
    for i in range(D):
        for j in range(i + 1):
            total = A[i, j]
            for m in range(j):
                total -= F[i, m] * F[j, m]
            if i == j:
                if not 0 < total < np.inf:
                    return False
                F[i, i] = math.sqrt(total)
            else:
                F[i, j] = total / F[j, j]
        for j in range(i + 1, D):
            F[i, j] = 0.0
    return True


@jit()
def _solve(L, B):
    """L⁻¹ B into B, for a lower triangular L."""
    for i in range(len(L)):
        for c in range(B.shape[1]):
            total = B[i, c]
            for m in range(i):
                total -= L[i, m] * B[m, c]
            B[i, c] = total / L[i, i]


@jit()
def _rotation(a, b, c):
    """Cosine and sine of the rotation that makes [[a, b], [b, c]] diagonal."""
    if b == 0.0:
        return 1.0, 0.0
    theta = 0.5 * (c - a) / b
    t = 1.0 / (abs(theta) + math.sqrt(theta * theta + 1.0))
    if theta < 0:
        t = -t
    cosine = 1.0 / math.sqrt(t * t + 1.0)
    return cosine, t * cosine


@jit()
def _turned(A, i, j, cosine, sine):
    """Columns i and j of A rotated."""
    for r in range(len(A)):
        x, y = A[r, i], A[r, j]
        A[r, i] = cosine * x - sine * y
        A[r, j] = sine * x + cosine * y


@jit()
def _directions(M, U, sweeps, epsilon):
    """Eigenvectors of a symmetric M, in any order, into U; M becomes diagonal."""
    D = len(M)
    for i in range(D):
        for j in range(D):
            U[i, j] = 1.0 if i == j else 0.0
    for _ in range(sweeps):
        done = True
        for i in range(D):
            for j in range(i + 1, D):
                if abs(M[i, j]) <= epsilon * math.sqrt(abs(M[i, i] * M[j, j])):
                    continue
                done = False
                cosine, sine = _rotation(M[i, i], M[i, j], M[j, j])
                _turned(M, i, j, cosine, sine)
                _turned(M.T, i, j, cosine, sine)
                M[i, j] = M[j, i] = 0.0
                _turned(U, i, j, cosine, sine)
        if done:
            break


@jit()
def _raised(A, sweeps, epsilon):
    """A V with columns that are orthogonal, those shorter than 1 made as long."""
    D = len(A)
    for _ in range(sweeps):
        done = True
        for i in range(D):
            for j in range(i + 1, D):
                a = b = c = 0.0
                for r in range(D):
                    a += A[r, i] * A[r, i]
                    b += A[r, i] * A[r, j]
                    c += A[r, j] * A[r, j]
                if abs(b) > epsilon * math.sqrt(a * c):
                    done = False
                    cosine, sine = _rotation(a, b, c)
                    _turned(A, i, j, cosine, sine)
        if done:
            break
    for j in range(D):
        square = 0.0
        for r in range(D):
            square += A[r, j] * A[r, j]
        if square < 1.0:
            for r in range(D):
                A[r, j] /= math.sqrt(square)


@jit()
def _lower(A):
    """A Q that is lower triangular with a positive diagonal."""
    D = len(A)
    for i in range(D):
        for j in range(i + 1, D):
            length = math.hypot(A[i, i], A[i, j])
            if length > 0.0:
                _turned(A, i, j, A[i, i] / length, -A[i, j] / length)
            A[i, j] = 0.0
        if A[i, i] < 0:
            for r in range(i, D):
                A[r, i] = -A[r, i]


@jit()
def _slope(size, share, dof, v0):
    """Of log Z in the logarithm of a size, which falls."""
    total = 0.0
    for k in range(len(share)):
        total += v0 - dof[k] * share[k] / (share[k] + (1.0 - share[k]) * math.exp(-size))
    return total


@jit()
def _size(share, dof, v0, farthest, steps, close):
    """Where that slope is 0 within ± `farthest`, as `normal_prior.root` has it."""
    low, high, delta = -farthest, farthest, 1e-6
    if _slope(low, share, dof, v0) < 0:
        return low
    if _slope(high, share, dof, v0) >= 0:
        return high
    found = 0.0
    for _ in range(steps):
        value = _slope(found, share, dof, v0)
        if value > 0:
            low = found
        else:
            high = found
        step = found - value * delta / min(_slope(found + delta, share, dof, v0) - value, -1e-300)
        if not low <= step <= high:
            step = 0.5 * (low + high)
        change, found = abs(step - found), step
        if change < close:
            break
    return found


@jit()
def _turn(L, F, dof, v0, least, farthest, steps, close, sweeps, epsilon, out):
    """The factor of the next P into `out`, and how far it is from L Lᵀ; see `FullGaussian._turn`."""
    K, D = len(F), len(L)
    T, M, U = np.empty((K, D, D)), np.zeros((D, D)), np.empty((D, D))
    for k in range(K):
        T[k, :, :] = L
        _solve(F[k], T[k])
        for i in range(D):
            for j in range(D):
                for m in range(max(i, j), D):
                    M[i, j] += dof[k] * T[k, m, i] * T[k, m, j]
    _directions(M, U, sweeps, epsilon)
    share = np.empty(K)
    for d in range(D):
        for k in range(K):
            total = 0.0
            for i in range(D):
                along = 0.0
                for m in range(i + 1):
                    along += T[k, i, m] * U[m, d]
                total += along * along
            share[k] = min(v0 * total, 1.0)
        length = math.exp(0.5 * _size(share, dof, v0, farthest, steps, close))
        for i in range(D):
            total = 0.0
            for m in range(i + 1):
                total += L[i, m] * U[m, d]
            out[i, d] = total * length / least[i]
    for i in range(D):  # whether some direction is below the floor
        for j in range(D):
            total = -1.0 if i == j else 0.0
            for m in range(D):
                total += out[i, m] * out[j, m]
            M[i, j] = total
    if not _factor(M, U):
        _raised(out, sweeps, epsilon)
    for i in range(D):
        for j in range(D):
            out[i, j] *= least[i]
    _lower(out)
    for i in range(D):
        for j in range(D):
            M[i, j] = out[i, j]
    _solve(L, M)
    far = 0.0
    for i in range(D):
        for j in range(D):
            total = -1.0 if i == j else 0.0
            for m in range(D):
                total += M[i, m] * M[j, m]
            far = max(far, abs(total))
    return far


@jit()
def search(
    n,
    centre,
    dof,
    within,
    root,
    least,
    weight,
    v0,
    lightest,
    heaviest,
    learned,
    settled,
    alike,
    farthest,
    steps,
    close,
    sweeps,
    epsilon,
    mean,
    factor,
):
    """The most probable P and κ₀ of every parameter set.

    Args:
        n: rows of each state, (R, K).
        centre: their means, (R, K, D).
        dof: ν, (R, K), or (R, 1) where states share a covariance.
        within: scatter about the means, (R, K, D, D) or (R, 1, D, D).
        root: the factor of P to begin with, (R, D, D); that of the P that is found.
        least: square roots of the floor, (D,).
        weight: κ₀ to begin with, (R,); that which is found.
        v0: ν₀.
        lightest: of κ₀, and
        heaviest: the interval.
        learned: whether κ₀ is.
        settled: change of P from which κ₀ follows it.
        alike: change that ends the search.
        farthest: longest step in the logarithm of a size.
        steps: at most.
        close: change of a size that ends the search for it.
        sweeps: of rotations at most.
        epsilon: of rotations.
        mean: m of each state, (R, K, D), is written here.
        factor: F_k, of the shape of `within`, is written here.

    Returns:
        Whether all was found; else some matrix has no factor.
    """
    (R, K, D), shared = centre.shape, within.shape[1]
    turned, A, z = np.empty((R, D, D)), np.empty((D, D)), np.empty((D, 1))
    heavier, gain = weight.copy(), np.empty(K)
    for _ in range(steps):
        moved = 0.0
        for r in range(R):
            for k in range(K):
                gain[k] = n[r, k] / (weight[r] + n[r, k])
                for d in range(D):
                    mean[r, k, d] = gain[k] * centre[r, k, d]
            for s in range(shared):
                for i in range(D):
                    for j in range(i + 1):
                        total = within[r, s, i, j]
                        for m in range(j + 1):
                            total += v0 * root[r, i, m] * root[r, j, m]
                        for k in range(s, s + 1 if shared == K else K):
                            total += weight[r] * mean[r, k, i] * centre[r, k, j]
                        A[i, j] = total
                if not _factor(A, factor[r, s]):
                    return False
            far = _turn(
                root[r], factor[r], dof[r], v0, least, farthest, steps, close, sweeps, epsilon, turned[r]
            )
            moved = max(moved, far)
            if not far < np.inf:
                return False
        if learned and moved < settled:
            change = 0.0
            for r in range(R):
                top = square = 0.0
                for k in range(K):
                    s = k if shared == K else 0
                    top += D * n[r, k] / (weight[r] + n[r, k])
                    for d in range(D):
                        z[d, 0] = mean[r, k, d]
                    _solve(factor[r, s], z)
                    for d in range(D):
                        square += dof[r, s] * z[d, 0] * z[d, 0]
                found = heaviest
                if square > 0:
                    found = min(max(top / max(square, 1e-300), lightest), heaviest)
                heavier[r] = found
                change = max(change, abs(math.log(found / weight[r])))
            moved += change
        if moved < alike:
            break
        for r in range(R):
            weight[r] = heavier[r]
            for i in range(D):
                for j in range(D):
                    root[r, i, j] = turned[r, i, j]
    return True
