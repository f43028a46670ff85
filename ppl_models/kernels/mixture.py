"""The E step of a mixture over complete rows on a CPU, as fast as it multiplies.

Where the log density of each component is linear in features T_n of the row, with the component's log weight
in the constant,

    log π_rk + log p(x_n | k, θ_r) = c_rk + Σ_f T_nf W_rkf =: l_rnk,

a pass over the data is two products with a softmax between them,

    γ_rnk = softmax_k l_rnk,    N_rk = Σ_n w_n γ_rnk,    S_rkf = Σ_n w_n γ_rnk T_nf,

and the log evidence Σ_n w_n log Σ_k exp l_rnk. The weights w may differ between parameter sets.
`ppl_models.kernels.mixture_pass` takes some hundred rows at a time through all of it, within the cache.
Features that are squares or products of columns are made on the way, once for all R parameter sets. All is
float64, and sums are taken in an order that does not depend on the number of threads.

Rows are cut into pieces that threads take one after the other, so that a busy core slows down only itself.
Values, features and weights of rows must be finite; a constant may be −∞.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from ppl_models.errors import UsageError
from ppl_models.kernels.pool import pool

PIECE = 20_000_000
"""Work of a piece in multiply–adds, about half a millisecond: from two of them on, threads pay."""

PIECES, RESULTS = 256, 2**23
"""At most how many pieces, and numbers in the results of all (64 MB)."""

READ = 2**18
"""Numbers read at a time where rows have to be copied or made (2 MB)."""


class Expected(NamedTuple):
    """What an E step finds, for R parameter sets of K components with F features.

    Attributes:
        evidence: Σ_n w_n log Σ_k exp l_rnk, (R,).
        count: Σ_n w_n γ_rnk, (R, K).
        sums: Σ_n w_n γ_rnk T_nf, (R, K, F).
        responsibilities: γ_rnk, (R, n, K), without the rows' weights, if they were asked for.
    """

    evidence: np.ndarray
    count: np.ndarray
    sums: np.ndarray
    responsibilities: np.ndarray | None = None


def expect_full(
    values: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    weights: np.ndarray,
    constant: np.ndarray,
    weight: np.ndarray | None = None,
    responsibilities: bool = False,
) -> Expected:
    """The E step where T_n is z_n and z_ni z_nj for i ≤ j, row by row of the triangle: full covariances.

    Args:
        values: x (n, D), complete; float64 in C order is not copied, so it may be mapped from a file.
        centre: (D,), and
        scale: (D,) of z = (x − centre) / scale.
        weights: W (R, K, D + D (D + 1)/2).
        constant: c (R, K).
        weight: w (n,) of the rows, or (R, n), at least 0; 1 if not given.
        responsibilities: whether to return γ as well.

    Raises:
        UsageError: if shapes do not fit.
    """
    n, D = values.shape
    _check("weights", weights, (*constant.shape, D + D * (D + 1) // 2))
    form = _kernels().PAIRS
    return _expect(values, n, form, centre, scale, weights, constant, weight, responsibilities)


def expect_squares(
    values: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    weights: np.ndarray,
    constant: np.ndarray,
    weight: np.ndarray | None = None,
    responsibilities: bool = False,
) -> Expected:
    """The same where T_n is z_n and then z_n², W (R, K, 2D): variances of single columns."""
    n, D = values.shape
    _check("weights", weights, (*constant.shape, 2 * D))
    form = _kernels().SQUARES
    return _expect(values, n, form, centre, scale, weights, constant, weight, responsibilities)


def expect_features(
    features: np.ndarray | Callable[[slice], np.ndarray],
    n: int,
    weights: np.ndarray,
    constant: np.ndarray,
    weight: np.ndarray | None = None,
    responsibilities: bool = False,
) -> Expected:
    """The same for any features.

    Args:
        features: T (n, F), or a function that gives T of some of the rows. It is called in several threads
            at a time, and what it gives must stay as it is until that thread calls again.
        n: rows.
        weights: W (R, K, F).
        constant: c (R, K).
        weight: w (n,) of the rows, or (R, n), at least 0; 1 if not given.
        responsibilities: whether to return γ as well.

    Raises:
        UsageError: if shapes do not fit.
    """
    F = weights.shape[-1]
    _check("weights", weights, (*constant.shape, F))
    form, zero, one = _kernels().PLAIN, np.zeros(F), np.ones(F)
    return _expect(features, n, form, zero, one, weights, constant, weight, responsibilities)


def _kernels():
    """The compiled part, imported where it is used: Numba takes a second to load."""
    from ppl_models.kernels import mixture_pass

    return mixture_pass


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise UsageError(f"{name} must have the shape {shape}, got {array.shape}")


def _plain(array: np.ndarray) -> np.ndarray:
    """As the contiguous float64 that kernels are compiled for, copied only if it is not."""
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not array.flags.writeable:  # to Numba that is another type; but nothing is written to it
        interface = {**array.__array_interface__, "data": (array.ctypes.data, False)}
        array = np.asarray(SimpleNamespace(__array_interface__=interface, of=array))
    return array


def _expect(
    source: np.ndarray | Callable[[slice], np.ndarray],
    n: int,
    form: int,
    centre: np.ndarray,
    scale: np.ndarray,
    weights: np.ndarray,
    constant: np.ndarray,
    weight: np.ndarray | None,
    responsibilities: bool,
) -> Expected:
    """Cut the rows into pieces, let threads work them off, and add up what they found."""
    (R, K, F), D = weights.shape, len(centre)
    if not weights.size:
        raise UsageError(f"parameter sets, components and features must be at least 1, got {weights.shape}")
    _check("centre", centre, (D,))
    _check("scale", scale, (D,))
    if weight is not None:
        _check("weight", weight, (n,) if weight.ndim == 1 else (R, n))
    W, c, m, inverse = (_plain(array).reshape(-1) for array in (weights, constant, centre, 1.0 / scale))

    kernels = _kernels()
    w = np.empty(0) if weight is None else _plain(weight).reshape(-1)
    stride = n if weight is not None and weight.ndim == 2 else 0
    size, places = kernels.places(R * K, F)
    work = n * (2 * R * K * (F + 16) + 2 * F + 64)
    pieces = int(max(1, min(work // PIECE, PIECES, max(8, RESULTS // size))))
    cuts = [i * n // pieces for i in range(pieces + 1)]
    lanes = kernels.WIDTH
    evidence, count = np.zeros((pieces, R * lanes)), np.zeros((pieces, R * K * lanes))
    sums, gamma = np.zeros((pieces, size)), np.empty((R, n if responsibilities else 0, K))
    ready = isinstance(source, np.ndarray) and source.dtype == np.float64 and source.flags.c_contiguous
    step = max(1, n) if ready else max(256, READ // D)

    def work_off(piece: int) -> None:
        last = cuts[piece + 1]
        found = evidence[piece], count[piece], sums[piece], gamma
        for first in range(cuts[piece], last, step):
            at = slice(first, min(first + step, last))
            x = _plain(source(at) if callable(source) else source[at])
            _check(f"what is given of rows {at.start} to {at.stop}", x, (at.stop - at.start, D))
            kernels.expect(
                x.reshape(-1), len(x), D, form, m, inverse, W, c, R, K, F, w, stride, *found, first
            )

    _each(work_off, pieces)
    total = evidence.sum(0).reshape(R, lanes).sum(1)
    total[total < 1e-10 * kernels.IMPOSSIBLE] = -np.inf
    return Expected(
        total,
        count.sum(0).reshape(R, K, lanes).sum(2),
        sums.sum(0)[places].reshape(R, K, F),
        gamma if responsibilities else None,
    )


def _each(task: Callable[[int], None], tasks: int) -> None:
    """Call `task(0)` … `task(tasks − 1)` in as many threads as torch may use, this one among them."""
    todo = iter(range(tasks))  # whose next() is atomic

    def work_off() -> None:
        for i in todo:
            task(i)

    others = []
    if (threads := min(tasks, torch.get_num_threads())) > 1:
        others = [pool().submit(work_off) for _ in range(threads - 1)]
    try:
        work_off()
    finally:
        for _ in todo:  # after an error nothing more is begun
            pass
        running = [other for other in others if not other.cancel()]
        for other in running:
            other.exception()
    for other in running:
        other.result()
