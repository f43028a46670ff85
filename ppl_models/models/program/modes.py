"""Several modes of one posterior: which there are, how much of it each has, and how to go between them.

    q(u) = Σ_k w_k N(u | m_k, P_k⁻¹)

takes the place of one Gaussian where searches ended at places that do not overlap. The weights w are those
that make q closest to the posterior, by importance draws of all its Gaussians together (Cappé, Douc, Guillin,
Marin & Robert 2008, Adaptive importance sampling in general mixture classes, Statistics and Computing 18,
https://arxiv.org/abs/0710.4242): the evidence of each mode, where they are apart. Stacking of such fits (Yao,
Vehtari & Gelman 2022, JMLR 23, https://jmlr.org/papers/v23/20-1426.html) is for what this cannot weigh.

Signs and names that the density does not tell apart are signed permutations g of u with p(g(u)) = p(u), which
is verified at random points. Images of a mode under them are modes, whether a search found them or not.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.draws import Params
from ppl_models.inference.gaussian import LogDensity, cholesky
from ppl_models.inference.psis import smooth

FEW = 16
"""Modes that are combined, at most."""

NUMBERS = 8_000_000
"""Numbers that their precisions may take."""

APART = 2.0
"""Mahalanobis' distance, by the mean of both covariances, from which two Gaussians are two modes."""

SHARE = 1e-3
"""Share of the probability below which a mode is left out."""

DRAWS = 1_000
"""Of each Gaussian, by which modes are weighed."""

SITES = 5
"""Sites up to which all sets of them are tried for a change of sign."""

SAME = 1e-9
"""Relative error up to which densities count as equal."""


Block = tuple[slice, tuple[int, ...], bool]
"""Where the numbers of a site lie in u, their shape there, and whether its support is all of ℝ."""


class Gaussians(NamedTuple):
    """A mixture: log weights (K,), means (K, d) and precisions (K, d, d)."""

    log_weight: Tensor
    loc: Tensor
    precision: Tensor

    def draw(self, draws: int, each: bool = False) -> Tensor:
        """U (S, d) by torch's global generator, in the shares of the weights; or so many of each."""
        K, d = self.loc.shape
        share = torch.full((K,), draws) if each else _counts(self.log_weight.exp(), draws)
        parts = []
        for k in range(K):
            x = torch.randn(int(share[k]), d, dtype=torch.float64)
            root = cholesky(self.precision[k])
            parts.append(self.loc[k] + torch.linalg.solve_triangular(root.T, x.T, upper=True).T)
        u = torch.cat(parts)
        return u if each or K == 1 else u[torch.randperm(len(u))]

    def each(self, u: Tensor) -> Tensor:
        """Log N(u | m_k, P_k⁻¹), (S, K)."""
        found = []
        for loc, precision in zip(self.loc, self.precision, strict=True):
            root = cholesky(precision)
            x = (u - loc) @ root
            half = root.diagonal().log().sum() - 0.5 * len(loc) * math.log(2 * math.pi)
            found.append(half - 0.5 * (x**2).sum(1))
        return torch.stack(found, 1)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log q(u), (S,)."""
        return torch.logsumexp(self.each(u) + self.log_weight, 1)

    def shares(self, u: Tensor) -> Tensor:
        """Log responsibilities, (S, K)."""
        return torch.log_softmax(self.each(u) + self.log_weight, 1)


def _counts(weight: Tensor, draws: int) -> Tensor:
    """How many draws of each, as even as whole numbers allow."""
    at = (torch.arange(draws, dtype=torch.float64) + torch.rand((), dtype=torch.float64)) / draws
    ends = (weight / weight.sum()).cumsum(0)
    return torch.bincount(torch.searchsorted(ends, at).clamp_max(len(weight) - 1), minlength=len(weight))


def gaussians(params: Params) -> Gaussians:
    """The guide that the Gaussian rule left: one Gaussian, or one for each of several modes."""
    if "modes.loc" in params:
        return Gaussians(params["modes.log_weight"][0], params["modes.loc"][0], params["modes.precision"][0])
    return Gaussians(torch.zeros(1, dtype=torch.float64), params["loc"], params["precision"])


def images(params: Params) -> Tensor | None:
    """The signed permutations that leave the density as it is, (M, d) as `applied` takes them, or None."""
    return params["modes.images"][0] if "modes.images" in params else None


def stored(q: Gaussians, group: Sequence[Tensor]) -> dict[str, Tensor]:
    """What is saved of several modes, and of the signed permutations beside the identity."""
    found: dict[str, Tensor] = {}
    if len(q.log_weight) > 1:
        found |= {
            "modes.log_weight": q.log_weight[None],
            "modes.loc": q.loc[None],
            "modes.precision": q.precision[None],
        }
    if len(group) > 1:
        found["modes.images"] = torch.stack(list(group))[None].double()
    return found


# Signed permutations: g (d,) with g(u)_i = sign(g_i) u_{|g_i| − 1}


def applied(g: Tensor, u: Tensor) -> Tensor:
    """g(u) of points (..., d)."""
    return u[..., g.abs().long() - 1] * g.sign()


def _identity(d: int) -> Tensor:
    return torch.arange(1.0, d + 1, dtype=torch.float64)


def distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    """Mahalanobis' distance of the means of two Gaussians (m, P) by the mean of their covariances."""
    spread = 0.5 * (torch.cholesky_inverse(cholesky(a[1])) + torch.cholesky_inverse(cholesky(b[1])))
    x = torch.linalg.solve_triangular(cholesky(spread), (a[0] - b[0])[:, None], upper=False)
    return float(x.norm())


def apart(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    """Whether two Gaussians are two modes; means that were learned are off by some hundredths of an sd."""
    return distance(a, b) > APART + 0.1 * len(a[0]) ** 0.5


def symmetries(
    log_density: LogDensity, found: Sequence[tuple[Tensor, Tensor]], sites: Sequence[Block], most: int
) -> list[Tensor]:
    """Signed permutations of u that leave the density as it is, the identity first.

    Tried are changes of sign of sites whose support is all of ℝ, and what takes one mode to another.

    Args:
        log_density: values and gradients at points (S, d).
        found: modes (m, P), the best first.
        sites: where their numbers lie in u, in which shape, and whether their support is all of ℝ.
        most: elements of the group, at most; further ones are left out.
    """
    d = len(found[0][0])
    candidates = [*_flips(sites, d), *_matches(found, sites)]
    if not candidates:
        return [_identity(d)]
    loc, precision = found[0]
    sd = torch.cholesky_inverse(cholesky(precision)).diagonal().sqrt()
    noise = torch.randn(4, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = loc + 2 * sd.clamp_max(10.0) * noise
    tried = torch.stack([points, *(applied(g, points) for g in candidates)])
    value = log_density(tried.reshape(-1, d))[0].reshape(len(tried), -1)
    scale = SAME * (1 + value[0].abs())
    usable = torch.isfinite(value[0])
    if not bool(usable.any()):
        return [_identity(d)]
    verified = [
        g
        for g, own in zip(candidates, value[1:], strict=True)
        if bool(((own - value[0]).abs() <= scale)[usable].all())
    ]
    return _group(verified, d, most)


def _flips(sites: Sequence[Block], d: int) -> Iterator[Tensor]:
    """Changes of sign of sets of sites."""
    real = [at for at, _, real in sites if real]
    most = len(real) if len(real) <= SITES else 1
    for chosen in (s for n in range(1, most + 1) for s in combinations(real, n)):
        g = _identity(d)
        for at in chosen:
            g[at] *= -1
        yield g


def _matches(found: Sequence[tuple[Tensor, Tensor]], sites: Sequence[Block]) -> Iterator[Tensor]:
    """What takes the best mode to each other one: changes of sign, or another order.

    Of a number near zero the sign cannot be seen: those of a site, of its rows or of its columns change
    together, or each by itself.
    """
    from scipy.optimize import linear_sum_assignment

    loc, precision = found[0]
    d = len(loc)
    sd = torch.cholesky_inverse(cholesky(precision)).diagonal().sqrt()
    for other, _ in found[1:]:
        alike = other * loc / sd**2
        for axes in (lambda n: range(n), lambda n: range(n - 1), lambda n: range(1, n), lambda n: ()):
            g = _identity(d)
            for at, shape, _ in sites:
                own, over = alike[at].reshape(shape), tuple(axes(len(shape)))
                total = own.sum(over, keepdim=True) if over else own
                g[at] *= torch.where(total < 0, -1.0, 1.0).expand(shape).reshape(-1)
            yield g
        if d <= 500:
            cost = ((other[:, None] - loc) / sd).abs().clamp_max(1e6).numpy()
            _, order = linear_sum_assignment(cost)
            yield torch.from_numpy(order + 1.0)


def _group(generators: Sequence[Tensor], d: int, most: int) -> list[Tensor]:
    """All products of some signed permutations, up to `most` of them."""
    group = {tuple(_identity(d).tolist()): _identity(d)}
    waiting = list(group.values())
    while waiting and len(group) < most:
        g = waiting.pop()
        for h in generators:
            product = applied(h, g)
            key = tuple(product.tolist())
            if key not in group:
                group[key] = product
                waiting.append(product)
    return list(group.values())[:most]


def completed(
    found: Sequence[tuple[Tensor, Tensor]], group: Sequence[Tensor]
) -> tuple[list[tuple[Tensor, Tensor]], list[int]]:
    """Modes with their images under a group, and which are images of one another."""
    every: list[tuple[Tensor, Tensor]] = []
    orbit: list[int] = []
    for i, (loc, precision) in enumerate(found):
        for g in group:
            order, sign = g.abs().long() - 1, g.sign()
            image = (applied(g, loc), sign[:, None] * precision[order][:, order] * sign)
            if all(apart(image, other) for other in every):
                every.append(image)
                orbit.append(i)
    return every, orbit


def weighed(
    log_density: LogDensity, found: Sequence[tuple[Tensor, Tensor]], orbit: Sequence[int], draws: int = DRAWS
) -> tuple[Gaussians, float]:
    """The mixture closest to the posterior with these Gaussians, and its ELBO.

    Args:
        log_density: values and gradients at points (S, d).
        found: the Gaussians (m, P).
        orbit: which of them are images of one another, and have equal weights.
        draws: of each.
    """
    K = len(found)
    loc, precision = torch.stack([m for m, _ in found]), torch.stack([p for _, p in found])
    equal = torch.full((K,), -math.log(K), dtype=torch.float64)
    q = Gaussians(equal, loc, precision)
    u = q.draw(draws, each=True)
    log_p = log_density(u)[0]
    each = q.each(u)
    ratio = torch.from_numpy(smooth((log_p - torch.logsumexp(each + equal, 1)).numpy()).log_weight)
    weight, own, member = ratio.exp(), equal, torch.tensor(orbit)
    for _ in range(100):
        share = torch.softmax(each + own, 1)
        new = (weight[:, None] * share).sum(0).clamp_min(1e-12)
        for o in set(orbit):
            new[member == o] = new[member == o].mean()
        new = (new / new.sum()).log()
        if float((new - own).abs().max()) < 1e-6:
            break
        own = new
    kept = own.exp() > SHARE
    q = Gaussians(torch.log_softmax(own[kept], 0), loc[kept], precision[kept])
    log_q = torch.logsumexp(each[:, kept] + q.log_weight, 1)
    gain = (log_p - log_q).reshape(K, -1).mean(1)[kept]
    return q, float((q.log_weight.exp() * gain).sum())


def most_modes(d: int) -> int:
    """How many may be combined."""
    return max(1, min(FEW, NUMBERS // d**2))


# Between modes, for chains


class Jump:
    """Moves of chains from one mode to another that leave the posterior as it is.

    A signed permutation g with p(g(u)) = p(u) is applied as it is. From mode k, drawn with its responsibility
    r_k(u), to another one j by the linear map T that takes N(m_k, Σ_k) to N(m_j, Σ_j), accepted with
    probability min(1, p(Tu) r_j(Tu) |T| / (p(u) r_k(u))) (Tjelmeland & Hegstad 2001, Mode jumping proposals
    in MCMC, Scandinavian Journal of Statistics 28).

    Args:
        log_density: values and gradients at points (S, d).
        q: the modes.
        group: signed permutations, (M, d), or None.
    """

    TIMES = 3
    """Attempts a round."""

    def __init__(self, log_density: LogDensity, q: Gaussians, group: Tensor | None) -> None:
        self.log_density, self.q, self.group = log_density, q, group
        self._maps: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, u: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points (S, d), their log densities and gradients after some attempts."""
        if self.group is not None:
            at = torch.randint(len(self.group), (len(u),))
            g = self.group[at]
            new = u.gather(1, g.abs().long() - 1) * g.sign()
            u, value, slope = self._accepted(u, value, slope, new, torch.zeros(len(u), dtype=u.dtype))
        if len(self.q.log_weight) > 1:
            for _ in range(self.TIMES):
                new, log_extra = self._proposed(u)
                u, value, slope = self._accepted(u, value, slope, new, log_extra)
        return u, value, slope

    def _accepted(self, u: Tensor, value: Tensor, slope: Tensor, new: Tensor, extra: Tensor):
        new_value, new_slope = self.log_density(new)
        chance = (new_value - value + extra).clamp_max(0.0).exp().nan_to_num(0.0)
        yes = torch.rand(len(u), dtype=torch.float64) < chance
        return (
            torch.where(yes[:, None], new, u),
            torch.where(yes, new_value, value),
            torch.where(yes[:, None], new_slope, slope),
        )

    def _proposed(self, u: Tensor) -> tuple[Tensor, Tensor]:
        K = len(self.q.log_weight)
        before = self.q.shares(u)
        own = torch.multinomial(before.exp().clamp_min(1e-300), 1)[:, 0]
        to = (own + torch.randint(1, K, (len(u),))) % K
        new, log_det = u.clone(), torch.zeros(len(u), dtype=u.dtype)
        for pair in (own * K + to).unique().tolist():
            k, j = divmod(pair, K)
            at = (own == k) & (to == j)
            A, log_a = self._map(k, j)
            new[at] = self.q.loc[j] + (u[at] - self.q.loc[k]) @ A.T
            log_det[at] = log_a
        after = self.q.shares(new)
        extra = log_det + after.gather(1, to[:, None])[:, 0] - before.gather(1, own[:, None])[:, 0]
        return new, extra

    def _map(self, k: int, j: int) -> tuple[Tensor, Tensor]:
        """A with A Σ_k Aᵀ = Σ_j, symmetric, and log |A|; the inverse of the one back."""
        if (k, j) not in self._maps:
            if (j, k) in self._maps:
                A, log_a = self._maps[j, k]
                self._maps[k, j] = (torch.linalg.inv(A), -log_a)
            else:
                P, Q = self.q.precision[k], self.q.precision[j]
                root = _power(P, -0.5)
                middle = _power(root @ torch.cholesky_inverse(cholesky(Q)) @ root, 0.5)
                back = _power(P, 0.5)
                A = back @ middle @ back
                self._maps[k, j] = (A, torch.linalg.slogdet(A)[1])
        return self._maps[k, j]


def _power(x: Tensor, exponent: float) -> Tensor:
    """Of a symmetric positive definite matrix."""
    value, vector = torch.linalg.eigh(0.5 * (x + x.T))
    return (vector * value.clamp_min(1e-300) ** exponent) @ vector.T


def refreshed(q: Gaussians, points: Tensor) -> Gaussians:
    """The moments and shares of points by mode, where there are enough of them."""
    if len(q.log_weight) == 1:
        return q
    label = q.shares(points).argmax(1)
    d = points.shape[1]
    loc, precision, share = q.loc.clone(), q.precision.clone(), q.log_weight.exp().clone()
    for k in range(len(share)):
        own = points[label == k]
        share[k] = max(len(own), 1) / len(points)
        if len(own) > 4 * d + 10:
            covariance = torch.cov(own.T).reshape(d, d)
            factor, failed = torch.linalg.cholesky_ex(covariance)
            if not bool(failed):
                loc[k], precision[k] = own.mean(0), torch.cholesky_inverse(factor)
    return Gaussians((share / share.sum()).log(), loc, precision)


def within(q: Gaussians, points: Tensor) -> Tensor:
    """The covariance of points about the middle of their modes, (d, d)."""
    d = points.shape[1]
    if len(q.log_weight) == 1:
        return torch.cov(points.T).reshape(d, d)
    label = q.shares(points).argmax(1)
    centred = points.clone()
    for k in label.unique():
        centred[label == k] -= points[label == k].mean(0)
    return (centred.T @ centred / max(len(points) - len(label.unique()), 1)).reshape(d, d)


def described(q: Gaussians) -> str:
    """`2 modes, with 62 % and 38 % of the probability`."""
    share = np.sort(100 * q.log_weight.exp().numpy())[::-1]
    listed = ", ".join(f"{s:.0f}" for s in share[:5]) + (", …" if len(share) > 5 else "")
    return f"{len(share)} modes, with {listed} % of the probability"
