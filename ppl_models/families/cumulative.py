"""F(x) of cells under torch's distributions, from below and from above, so that both tails are accurate.

Closed forms by `scipy.special`. A distribution that is not here is asked for its own `cdf`.
"""

from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from scipy import special


class Cumulative(NamedTuple):
    """Of cells x: P(X < x), P(X ≤ x) and P(X > x)."""

    below: np.ndarray
    upto: np.ndarray
    above: np.ndarray


@singledispatch
def cumulative(d: Any, x: np.ndarray) -> Cumulative | None:
    """F of cells under a distribution whose parameters broadcast against them; None if it has no such form.

    Args:
        d: the distribution.
        x: cells in its units.
    """
    base = getattr(d, "base_dist", None)
    if base is not None and not getattr(d, "transforms", None):  # independent, masked or expanded
        return cumulative(base, x)
    try:
        upto = d.cdf(torch.as_tensor(x)).numpy()
    except (NotImplementedError, AttributeError, ValueError):
        return None
    if getattr(d.support, "is_discrete", True):
        return None
    return Cumulative(upto, upto, 1 - upto)


def _continuous(upto: Any, above: Any) -> Cumulative:
    upto = np.asarray(upto)
    return Cumulative(upto, upto, np.asarray(above))


def _numbers(*values: torch.Tensor) -> list[np.ndarray]:
    return [value.detach().double().cpu().numpy() for value in values]


@cumulative.register
def _normal(d: dist.Normal, x: np.ndarray) -> Cumulative:
    loc, scale = _numbers(d.loc, d.scale)
    z = (x - loc) / scale
    return _continuous(special.ndtr(z), special.ndtr(-z))


@cumulative.register
def _multivariate(d: dist.MultivariateNormal, x: np.ndarray) -> Cumulative:
    """Of each of its margins."""
    loc, variance = _numbers(d.loc, d.variance)
    z = (x - loc) / np.sqrt(variance)
    return _continuous(special.ndtr(z), special.ndtr(-z))


@cumulative.register
def _student(d: dist.StudentT, x: np.ndarray) -> Cumulative:
    df, loc, scale = _numbers(d.df, d.loc, d.scale)
    z = (x - loc) / scale
    return _continuous(special.stdtr(df, z), special.stdtr(df, -z))


@cumulative.register
def _gamma(d: dist.Gamma, x: np.ndarray) -> Cumulative:
    shape, rate = _numbers(d.concentration, d.rate)
    y = rate * np.maximum(x, 0.0)
    return _continuous(special.gammainc(shape, y), special.gammaincc(shape, y))


@cumulative.register
def _exponential(d: dist.Exponential, x: np.ndarray) -> Cumulative:
    (rate,) = _numbers(d.rate)
    y = rate * np.maximum(x, 0.0)
    return _continuous(-np.expm1(-y), np.exp(-y))


@cumulative.register
def _poisson(d: dist.Poisson, x: np.ndarray) -> Cumulative:
    (rate,) = _numbers(d.rate)
    below = np.where(x >= 1, special.gammaincc(np.maximum(x, 1), rate), 0.0)
    return Cumulative(below, special.gammaincc(x + 1, rate), special.gammainc(x + 1, rate))


def _negative_binomial(size: np.ndarray, p: np.ndarray, x: np.ndarray) -> Cumulative:
    below = np.where(x >= 1, special.betainc(size, np.maximum(x, 1), p), 0.0)
    return Cumulative(below, special.betainc(size, x + 1, p), special.betainc(x + 1, size, 1 - p))


@cumulative.register
def _gamma_poisson(d: dist.GammaPoisson, x: np.ndarray) -> Cumulative:
    size, rate = _numbers(d.concentration, d.rate)
    return _negative_binomial(size, rate / (1 + rate), x)


@cumulative.register
def _negative(d: dist.NegativeBinomial, x: np.ndarray) -> Cumulative:
    size, p = _numbers(d.total_count, d.probs)
    return _negative_binomial(size, 1 - p, x)


@cumulative.register
def _binomial(d: dist.Binomial, x: np.ndarray) -> Cumulative:
    n, p = _numbers(d.total_count, d.probs)

    def upto(k: np.ndarray) -> np.ndarray:
        inside = special.betainc(np.maximum(n - k, 1e-300), np.maximum(k + 1, 1e-300), 1 - p)
        return np.where(k < 0, 0.0, np.where(k >= n, 1.0, inside))

    return Cumulative(upto(x - 1), upto(x), 1 - upto(x))


@cumulative.register
def _bernoulli(d: dist.Bernoulli, x: np.ndarray) -> Cumulative:
    (p,) = _numbers(d.probs)
    return Cumulative(np.where(x < 1, 0.0, 1 - p), np.where(x < 1, 1 - p, 1.0), np.where(x < 1, p, 0.0))


@cumulative.register
def _categorical(d: dist.Categorical, x: np.ndarray) -> Cumulative:
    """Of codes."""
    (p,) = _numbers(d.probs)
    code = np.nan_to_num(np.broadcast_to(x, p.shape[:-1])).astype(int).clip(0, p.shape[-1] - 1)[..., None]
    upto = np.take_along_axis(p.cumsum(-1), code, -1)[..., 0]
    own = np.take_along_axis(p, code, -1)[..., 0]
    return Cumulative(upto - own, upto, 1 - upto)
