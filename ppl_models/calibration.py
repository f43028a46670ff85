"""From the guide that training leaves to draws whose widths are right.

A mean-field guide is too narrow where components overlap, as it takes the latents of the rows to say
nothing of one another. What is done about it goes as far as it has to, and as the size of the model allows:

1. `mean field`: its draws, weighed against the exact joint density (Pareto-smoothed importance sampling),
   are good enough where k̂ is small and the weights are even.
2. `Gaussian`: the Gaussian rule in unconstrained space, on the exact log joint with the latents summed out;
   its draws weighed in the same way.
3. `moved`: where neither will do on small data, draws of the better one are moved by short Hamiltonian chains
   until they have forgotten where they came from.
4. `linear response`: where there are too many dimensions or rows for these, the posterior is close to a
   Gaussian, whose covariance follows from the mean-field one and from how much the latents are not known
   (Giordano, Broderick & Jordan 2018, Covariances, robustness, and variational Bayes, JMLR 19).

On data of every size the first that is good enough is taken.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.data.excerpt import excerpt
from ppl_models.inference.gaussian import GaussianRule, Sampled, covariance_factor, normal_points
from ppl_models.inference.moves import move
from ppl_models.inference.psis import smooth
from ppl_models.inference.threads import threads_for
from ppl_models.models.bound import Bound, Draws, Guide, Learned, Params
from ppl_models.models.identify import identify
from ppl_models.models.joint import Joint
from ppl_models.models.unconstrained import ExactPosterior, GaussianGuide
from ppl_models.regression.bound import Regression
from ppl_models.regression.density import LogJoint

GOOD_K, EVEN = 0.5, 0.6
"""k̂ and the share of effective draws from which weighted draws are good enough."""

ALIKE = 0.95
"""The share of effective draws from which weights are so alike that their tail does not matter."""

DRAWS = 4_000
"""Draws of the posterior."""

NUMBERS = 1_500_000
"""Draws × parameters, at most."""

DRAW_WORK = 400_000_000
"""Draws × rows × states that the exact densities may take; large data gets fewer draws, at least 100."""

CROSSING = 0.01
"""Share of draws that may be out of the order of their states."""

DIMENSIONS = 150
"""Up to which the Gaussian rule is used."""

RULE_WORK = 400_000_000
"""Rows × states × points × steps that the Gaussian rule may take."""

MOVE_WORK = 60_000_000
"""Rows × states × chains × gradients that moving may take."""

RESPONSE = 4_000
"""Dimensions up to which linear response is asked for."""

RESPONSE_WORK, LEAST = 20_000_000_000, 2_000
"""Multiplications that it may take, and the rows that it needs at least."""

WIDE = 1.1
"""Factor by which an sd may be off before it is corrected."""

STEPS, CHAINS, ROUNDS = 30, 500, 48


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Where draws of the posterior come from, and how that was chosen.

    Attributes:
        method: `mean field`, `Gaussian`, `moved`, `linear response`, or what the update rule itself is.
        guide: what is drawn from and weighed.
        params: what to save to have the same again.
        draws: draws of the posterior itself, which need no weights, or None.
        memory: how much these remember of the guide, and up to what they count as having forgotten.
        chains: how many Markov chains `draws` are of, one after another, where training has made them.
        ratio: sd by linear response over that of the mean-field guide, parameter by parameter, or None.
    """

    method: str
    guide: Guide
    params: dict[str, Tensor] = field(default_factory=dict)
    draws: Draws | None = None
    memory: tuple[float, float] | None = None
    ratio: Tensor | None = None
    chains: int = 0


class _Weighed(NamedTuple):
    k_hat: float
    even: float

    @property
    def good(self) -> bool:
        return self.even >= ALIKE or (self.k_hat <= GOOD_K and self.even >= EVEN)


def calibrate(bound: Bound, data: Dataset, params: Params, device: str, seed: int) -> Calibrated:
    """The first of the ways above that is good enough."""
    learned = Learned(bound, params)
    if isinstance(bound, Regression):
        return _regression(learned, data, device, seed)
    assert isinstance(bound, Joint)
    with torch.random.fork_rng(devices=[]), threads_for(data.rows * bound.states * CHAINS):
        torch.manual_seed(seed + 3)
        exact = ExactPosterior(bound, bound.dataset_batch(data, device))
        return _calibrated(learned, exact, data, device, seed)


def _regression(learned: Learned, data: Dataset, device: str, seed: int) -> Calibrated:
    """The Gaussian that was trained, its draws moved where weights will not do and the data is small."""
    bound = learned.bound
    assert isinstance(bound, Regression)
    d, each = bound.parameters, data.rows * len(bound.levels)
    as_it_is = restored(bound, "Gaussian", learned.params, {})
    if as_it_is.draws is not None or d > DIMENSIONS or each * CHAINS * 4 * 16 > MOVE_WORK:
        return as_it_is
    with torch.random.fork_rng(devices=[]), threads_for(each * CHAINS):
        torch.manual_seed(seed + 3)
        batch = bound.dataset_batch(data)
        if _weigh(bound, batch, learned, number_of_draws(bound, data), seed).good:
            return as_it_is
        start = bound.form(learned.params).draw(20 * d + CHAINS)
        covariance = torch.cov(start.T).reshape(d, d)
        scale_tril = torch.linalg.cholesky(covariance)
        moved = move(LogJoint(bound, batch), start[:CHAINS], scale_tril, most=ROUNDS)
    memory = torch.tensor([moved.memory, moved.limit], dtype=torch.float64)
    return restored(bound, "moved", learned.params, {"points": moved.points, "memory": memory})


def _calibrated(learned: Learned, exact: ExactPosterior, data: Dataset, device: str, seed: int) -> Calibrated:
    joint = exact.joint
    d, each = exact.dimension, data.rows * joint.states
    points = max(64, 4 * d)
    small = d <= DIMENSIONS and each * points * STEPS <= RULE_WORK
    draws = number_of_draws(joint, data)
    weighed = _weigh(joint, exact.batch, learned, draws, seed)
    if not small:
        alike = weighed.good
        return Calibrated("mean field", learned) if alike else respond(learned, exact, data, device, seed)
    u = exact.space.point(learned.draw(1_000))
    if weighed.good and not _cross(joint, exact, u):
        return Calibrated("mean field", learned)
    guide = refine(exact, u.mean(0), torch.cov(u.T).reshape(d, d), points, seed)
    found = _weigh(joint, exact.batch, guide, draws, seed)
    apart = not _cross(joint, exact, guide.points(1_000))
    if (found.good and apart) or each * CHAINS * 4 * 16 > MOVE_WORK:
        return restored(
            exact.joint, "Gaussian", learned.params, {"loc": guide.loc, "scale_tril": guide.scale_tril}
        )
    most = int(np.clip(MOVE_WORK // (each * CHAINS * 4), 8, ROUNDS))
    moved = move(
        exact,
        guide.points(CHAINS),
        guide.scale_tril,
        most=most,
        identify=lambda u: identify(joint, guide, u),
    )
    memory = torch.tensor([moved.memory, moved.limit], dtype=torch.float64)
    parts = {"loc": guide.loc, "scale_tril": guide.scale_tril, "points": moved.points, "memory": memory}
    return restored(joint, "moved", learned.params, parts)


def _cross(joint: Joint, exact: ExactPosterior, points: Tensor) -> bool:
    """Whether draws go over into those of other names of the states: the posterior's modes then overlap."""
    u = points[:CHAINS]
    covariance = torch.cov(points.T).reshape(len(u.T), -1)
    nugget = 1e-9 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=u.dtype)
    around = GaussianGuide(exact.space, points.mean(0), torch.linalg.cholesky(covariance + nugget))
    named = identify(joint, around, u)
    return float(((named - u).abs() > 1e-6 * (1 + u.abs())).any(1).double().mean()) > CROSSING


def restored(bound: Bound, method: str, learned: Params, params: dict[str, Tensor]) -> Calibrated:
    """What `calibrate` gave, from its method and `Calibrated.params`."""
    points, memory = params.get("points"), params.get("memory")
    limits = None if memory is None else (float(memory[0]), float(memory[1]))
    if "loc" not in params:
        own = Learned(bound, learned)
        draws = bound.exact(own.params)
        if points is not None and isinstance(bound, Regression):
            draws = bound.theta(points)
        chains = bound.chains if draws is not None and points is None else 0
        method = "Markov chains" if chains else method
        return Calibrated(method, own, params, draws, limits, params.get("ratio"), chains)
    assert isinstance(bound, Joint)
    guide = GaussianGuide(ExactPosterior.space_of(bound), params["loc"], params["scale_tril"])
    draws = None if points is None else guide.space.theta(points)[0]
    return Calibrated(method, guide, params, draws, limits, params.get("ratio"))


def respond(learned: Learned, exact: ExactPosterior, data: Dataset, device: str, seed: int) -> Calibrated:
    """Linear response, from as many rows as are affordable; the mean-field guide where it changes little."""
    joint, d = exact.joint, exact.dimension
    if d > RESPONSE:
        return Calibrated("mean field", learned)
    rows = int(RESPONSE_WORK // (d * joint.states * (joint.width + 8)))
    some = excerpt(data, max(rows, LEAST), ordered=not joint.exchangeable, seed=seed)
    part = exact if some is data else ExactPosterior(joint, joint.dataset_batch(some, device))
    u = exact.space.point(learned.draw(400))
    loc, sd = u.mean(0), u.std(0)
    precision = observed_information(part, learned.params, loc, 1e-3 * sd, data.rows / some.rows)
    factor, failed = torch.linalg.cholesky_ex(precision)
    if bool(failed):
        return restored(joint, "mean field", learned.params, {"ratio": torch.full_like(sd, torch.inf)})
    covariance = torch.cholesky_inverse(factor)
    ratio = covariance.diagonal().sqrt() / sd
    if bool(((ratio > 1 / WIDE) & (ratio < WIDE)).all()):
        return restored(joint, "mean field", learned.params, {"ratio": ratio})
    scale_tril = torch.linalg.cholesky(covariance)
    each = exact.batch.rows.steps * joint.states * (joint.width + 8)
    points = normal_points(16, d, seed) if 48 * each <= RESPONSE_WORK else loc.new_zeros(1, d)
    value, gradient = exact(loc + points @ scale_tril.T)
    for _ in range(3):  # the mean's own update of the Gaussian rule, on all rows, where it goes up
        there = loc + covariance @ gradient.mean(0)
        new, slope = exact(there + points @ scale_tril.T)
        if not bool(new.mean() > value.mean()):
            break
        loc, value, gradient = there, new, slope
    if not bool(torch.isfinite(value).all()):
        return restored(joint, "mean field", learned.params, {"ratio": torch.full_like(sd, torch.inf)})
    parts = {"loc": loc, "scale_tril": scale_tril, "ratio": ratio}
    return restored(joint, "linear response", learned.params, parts)


def observed_information(
    exact: ExactPosterior, params: Params, loc: Tensor, step: Tensor, scale: float
) -> Tensor:
    """−∇² log p(x, θ(u)) at u = loc, (d, d): the complete information less what the latents take away.

    The complete information is −∇² (⟨S, η(u)⟩ + log p(u)), from the statistics S of all rows. What is
    missing, ∇² (log p(x | η(u)) − ⟨Ŝ, η(u)⟩) with Ŝ = E[t(x, z)] at loc, is that of the rows of `exact`,
    times `scale` (Louis 1982, J. R. Statist. Soc. B 44). Hessians are differences of gradients.
    """
    d = len(loc)
    points = torch.cat([loc[None], loc + torch.diag(step)])
    complete = exact.complete(points, params)
    _, statistics = exact.joint.local(exact.batch, exact.natural(loc[None]))
    part = exact(points)[1] - exact.complete(points, statistics)
    gradient = complete + scale * part
    hessian = (gradient[1:] - gradient[:1]) / step[:, None]
    return -0.5 * (hessian + hessian.T).reshape(d, d)


def refine(exact: ExactPosterior, loc: Tensor, covariance: Tensor, points: int, seed: int) -> GaussianGuide:
    """The Gaussian rule from a first guess, until the ELBO rises by less than a thousandth of a nat."""
    rule, target = GaussianRule(), Sampled(exact, exact.dimension, points, seed)
    nugget = 1e-9 * covariance.diagonal().mean() * torch.eye(len(loc), dtype=loc.dtype)
    precision = torch.cholesky_inverse(torch.linalg.cholesky(covariance + nugget))
    state = rule.init({"loc": loc[None], "precision": precision[None]})
    before = -np.inf
    for _ in range(STEPS):
        state, info = rule.step(target, state, None)
        if bool(info.accepted) and abs(float(info.elbo) - before) < 1e-3:
            break
        before = float(info.elbo)
    assert state.kept is not None
    return GaussianGuide(exact.space, state.kept[0], covariance_factor(state.kept[1]))


def number_of_draws(bound: Bound, data: Dataset) -> int:
    """How many draws of the posterior the size of the data allows."""
    by_rows = DRAW_WORK // max(data.rows * getattr(bound, "states", 1), 1)
    return int(np.clip(min(by_rows, NUMBERS // bound.parameters), 100, DRAWS))


def draw(guide: Guide, draws: int, seed: int) -> Draws:
    """The draws that stand for a guide: the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return guide.draw(draws)


def _weigh(bound: Bound, batch: Any, guide: Guide, draws: int, seed: int) -> _Weighed:
    theta = draw(guide, draws, seed)
    log_p = bound.log_evidence(batch, theta) + bound.log_prior(theta)
    smoothed = smooth((log_p - guide.log_prob(theta)).numpy())
    return _Weighed(smoothed.k_hat, evenness(smoothed.log_weight))


def evenness(log_weight: np.ndarray) -> float:
    """Effective draws as a share of all: 1 / (S Σ w²)."""
    return float(1 / np.exp(2 * log_weight).sum() / len(log_weight))
