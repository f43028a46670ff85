"""Where to start the Gaussian rule: several searches at once, from draws of the prior and from near zero.

Each search is a quasi-Newton ascent of log p(x, θ(u)) + log |∂θ/∂u| with a dense inverse Hessian (BFGS;
Nocedal & Wright 2006, ch. 6). Its line search looks at several lengths at once, and all searches go together:
one step of all of them is one execution of the model. At a mode the Hessian gives N(mode, (−∇²)⁻¹). Where
there is no mode, as in a funnel, whose density has no bound, a Gaussian from along the path has a higher ELBO
than where the path ends: the best one is a start as well (Zhang, Carpenter, Gelman & Vehtari 2022,
Pathfinder: parallel quasi-Newton variational inference, JMLR 23, https://jmlr.org/papers/v23/21-0889.html).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_models.inference.gaussian import LogDensity, cholesky, normal_points

LENGTHS = torch.tensor([1.0, 0.5, 0.2, 0.05, 0.01, 1e-3, 2.0, 5.0], dtype=torch.float64)
"""Of a step along the quasi-Newton direction, all of which are tried."""

STEPS = 200
"""Of a search, at most."""

PATH = 24
"""Points of each path whose Gaussian is looked at."""

DRAWS = 64
"""Points that an ELBO is estimated by."""

WIDE = 200
"""Dimensions up to which Gaussians along the path are kept."""


@dataclass
class Ascent:
    """Where the searches ended.

    Attributes:
        points: u (R, d).
        value: log density there (R,).
        slope: its gradient (R, d).
        inverse: the inverse Hessian as far as it was found out, (R, d, d).
        path: for some steps, points (R, d) and their inverse Hessians (R, d, d).
    """

    points: Tensor
    value: Tensor
    slope: Tensor
    inverse: Tensor
    path: list[tuple[Tensor, Tensor]]


@dataclass
class Start:
    """A Gaussian to start from.

    Attributes:
        loc: m (d,).
        precision: P (d, d).
        elbo: of it, estimated.
        search: which search it comes from.
        mode: whether it is at the end of the search, a mode, and not on the way to it.
    """

    loc: Tensor
    precision: Tensor
    elbo: float
    search: int
    mode: bool = False


def ascend(
    log_density: LogDensity,
    points: Tensor,
    steps: int = STEPS,
    late: Callable[[], bool] = lambda: False,
    report: Callable[[int], None] = lambda step: None,
) -> Ascent:
    """All searches, from points (R, d).

    Args:
        log_density: values and gradients at points (S, d).
        points: where they begin.
        steps: of each search at most; they end once none has risen for three steps.
        late: whether there is no time for a further step.
        report: called with the number of every step.
    """
    R, d = points.shape
    u, (value, slope) = points.clone(), log_density(points)
    eye = torch.eye(d, dtype=u.dtype).expand(R, d, d)
    inverse = eye * (1.0 / slope.norm(dim=1).clamp_min(1.0))[:, None, None]
    fresh, quiet = torch.ones(R, dtype=torch.bool), torch.zeros(R, dtype=torch.long)
    path: list[tuple[Tensor, Tensor]] = []
    for step in range(steps):
        if step and late():
            break
        report(step + 1)
        direction = torch.einsum("rij,rj->ri", inverse, slope)
        downhill = (direction * slope).sum(1) <= 0
        direction = torch.where(downhill[:, None], slope, direction)
        longest = direction.abs().amax(1, keepdim=True).clamp_min(1e-300)
        direction = direction * (10.0 / longest).clamp_max(1.0)
        tried = u[:, None] + LENGTHS[:, None] * direction[:, None]  # (R, L, d)
        values, slopes = log_density(tried.reshape(-1, d))
        values, slopes = values.reshape(R, -1), slopes.reshape(R, -1, d)
        best = values.argmax(1)
        every = torch.arange(R)
        gain = values[every, best] - value
        rises = gain > 0
        new = torch.where(rises[:, None], tried[every, best], u)
        new_slope = torch.where(rises[:, None], slopes[every, best], slope)
        inverse, fresh = _updated(inverse, new - u, slope - new_slope, fresh)
        inverse = torch.where((~rises & (quiet == 0))[:, None, None], eye * 1e-2, inverse)
        small = ~rises | (gain < 1e-9 * (1 + value.abs()))
        quiet = torch.where(small, quiet + 1, 0)
        u, slope = new, new_slope
        value = torch.where(rises, values[every, best], value)
        if d <= WIDE:
            path.append((u, inverse))
        if bool((quiet >= 3).all()):
            break
    every = max(1, math.ceil(len(path) / PATH))
    return Ascent(u, value, slope, inverse, path[::every])


def _updated(inverse: Tensor, s: Tensor, y: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """BFGS: the inverse Hessians after steps s (R, d) that changed the gradient by −y."""
    d = s.shape[1]
    sy = (s * y).sum(1)
    sound = sy > 1e-12 * s.norm(dim=1) * y.norm(dim=1)
    rho = torch.where(sound, 1 / sy.where(sound, torch.ones_like(sy)), 0.0)
    scale = (sy / (y**2).sum(1).clamp_min(1e-300)).clamp(1e-12, 1e12)
    eye = torch.eye(d, dtype=s.dtype)
    inverse = torch.where((fresh & sound)[:, None, None], eye * scale[:, None, None], inverse)
    left = eye - rho[:, None, None] * s[:, :, None] * y[:, None, :]
    new = left @ inverse @ left.mT + rho[:, None, None] * s[:, :, None] * s[:, None, :]
    return torch.where(sound[:, None, None], new, inverse), fresh & ~sound


def information(log_density: LogDensity, loc: Tensor, sd: Tensor) -> Tensor:
    """−∇² log p at loc (d, d), by central differences of gradients over steps of `sd` (d,).

    Args:
        log_density: values and gradients at points (S, d).
        loc: where, u (d,).
        sd: lengths of the steps.
    """
    steps = torch.diag(sd)
    _, slope = log_density(torch.cat([loc + steps, loc - steps]))
    up, down = slope.chunk(2)
    hessian = (down - up) / (2 * sd[:, None])
    return 0.5 * (hessian + hessian.T)


def elbos(log_density: LogDensity, locs: Tensor, covariances: Tensor, draws: int = DRAWS) -> Tensor:
    """The ELBO of Gaussians, (M,), by the same standard normal points; −∞ where it has none.

    Args:
        log_density: values and gradients at points (S, d).
        locs: means (M, d).
        covariances: (M, d, d).
        draws: how many points.

    Returns:
        Nats; −∞ where a covariance is not positive definite.
    """
    M, d = locs.shape
    factor, failed = torch.linalg.cholesky_ex(covariances)
    factor = torch.where((failed == 0)[:, None, None], factor, torch.eye(d, dtype=locs.dtype))
    x = normal_points(draws, d)
    points = locs[:, None] + torch.einsum("sj,mij->msi", x, factor)
    value, _ = log_density(points.reshape(-1, d))
    entropy = 0.5 * d * (1 + math.log(2 * math.pi)) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    found = value.reshape(M, -1).mean(1) + entropy
    return torch.where(failed == 0, found, -torch.inf)


def starts(
    log_density: LogDensity,
    points: Tensor,
    late: Callable[[], bool] = lambda: False,
    report: Callable[[int], None] = lambda step: None,
) -> tuple[list[Start], Ascent]:
    """Gaussians to start from, the best ELBO first: one at the mode of each search, and one on its path.

    Args:
        log_density: of points (S, d).
        points: where the searches begin, (R, d).
        late: whether time is up.
        report: is told each step.

    Returns:
        The starts, and where the searches ended.
    """
    end = ascend(log_density, points, late=late, report=report)
    d = points.shape[1]
    locs, covariances, search, modes = [], [], [], 0
    seen: list[tuple[Tensor, float]] = []
    for r in end.value.argsort(descending=True).tolist():
        loc = end.points[r]
        sd = end.inverse[r].diagonal().clamp_min(1e-12).sqrt()
        if any(float(((loc - other) / sd).abs().max()) < 0.1 for other, _ in seen):
            continue
        if locs and late():
            break
        seen.append((loc, float(end.value[r])))
        precision = information(log_density, loc, 1e-3 * sd.clamp(1e-6, 1e3))
        factor, failed = torch.linalg.cholesky_ex(precision)
        if not bool(failed) and bool(torch.isfinite(precision).all()):
            locs.append(loc)
            covariances.append(torch.cholesky_inverse(factor))
            search.append(r)
    modes = len(locs)
    for u, inverse in end.path:
        for r in range(len(u)):
            locs.append(u[r])
            covariances.append(inverse[r])
            search.append(r)
    if not locs:
        locs, search = list(end.points), list(range(len(points)))
        covariances = [torch.eye(d, dtype=points.dtype) * 1e-2] * len(locs)
    every, spread = torch.stack(locs), torch.stack(covariances)
    spread = 0.5 * (spread + spread.mT)
    first = elbos(log_density, every, spread, 16) if len(every) > 40 else elbos(log_density, every, spread)
    best: dict[int, int] = {}
    for i in first.argsort(descending=True).tolist():
        if math.isfinite(float(first[i])) and sum(search[i] == search[j] for j in best) < 2:
            best[i] = search[i]
    chosen = [i for i in range(modes) if i not in best and math.isfinite(float(first[i]))]
    chosen = [*best, *chosen]
    if not chosen:
        return [], end
    exact = elbos(log_density, every[chosen], spread[chosen])
    found = [
        Start(every[i], torch.cholesky_inverse(cholesky(spread[i])), float(e), search[i], i < modes)
        for i, e in zip(chosen, exact, strict=True)
        if math.isfinite(float(e))
    ]
    return sorted(found, key=lambda start: -start.elbo), end
