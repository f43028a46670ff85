"""Calibration of mixtures and hidden Markov models: what it takes until draws have the right widths."""

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import Params
from ppl_models.inference.calibration import (
    CHAINS,
    DIMENSIONS,
    MOVE_WORK,
    ROUNDS,
    Calibrated,
    Learned,
    number_of_draws,
    weigh,
)
from ppl_models.inference.gaussian import GaussianRule, Sampled, covariance_factor, normal_points
from ppl_models.inference.moves import move
from ppl_models.latent.identify import Reference, crosses, identify
from ppl_models.latent.joint import Joint
from ppl_models.latent.unconstrained import ExactPosterior, GaussianGuide, expected
from ppl_models.threads import threads_for

CROSSING = 0.01
"""Share of draws that may be out of the order of their states."""

RULE_WORK = 400_000_000
"""Rows × states × points × steps that the Gaussian rule may take."""

RESPONSE = 4_000
"""Dimensions up to which linear response is asked for."""

RESPONSE_WORK, LEAST = 20_000_000_000, 2_000
"""Multiplications that it may take, and the rows that it needs at least."""

MOVED, MOVING = 400, 100
"""Dimensions up to which draws of linear response are moved on, and how many of them."""

WIDE = 1.1
"""Factor by which an sd may be off before it is corrected."""

STEPS = 30
"""Steps of the Gaussian rule at most."""


def calibrate(joint: Joint, learned: Learned, data: Dataset, device: str, seed: int) -> Calibrated:
    """The first of the ways that is good enough.

    Args:
        joint: the model.
        learned: the mean-field guide that training left.
        data: the rows of the fit.
        device: where densities are evaluated.
        seed: of the fit; torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), threads_for(data.rows * joint.states * CHAINS):
        torch.manual_seed(seed + 3)
        exact = ExactPosterior(joint, joint.dataset_batch(data, device))
        return _calibrated(learned, exact, data, device, seed)


def _calibrated(learned: Learned, exact: ExactPosterior, data: Dataset, device: str, seed: int) -> Calibrated:
    joint = exact.joint
    d, each = exact.dimension, data.rows * joint.states
    points = max(64, 4 * d)
    small = d <= DIMENSIONS and each * points * STEPS <= RULE_WORK
    draws = number_of_draws(joint, data)
    if d > RESPONSE and not small:  # whatever the weights, there is nothing else that is affordable
        return Calibrated("mean field", learned)
    if joint.rotates:  # weights would be of one rotation
        return moved_on(exact, respond(learned, exact, data, device, seed), data, seed, learned.params)
    weighed = weigh(joint, exact.batch, learned, draws, seed)
    if not small:
        if weighed.good:
            return Calibrated("mean field", learned)
        return moved_on(exact, respond(learned, exact, data, device, seed), data, seed, learned.params)
    u = exact.space.point(learned.draw(1_000))
    names = Reference(exact, data, u.mean(0), seed)
    if weighed.good and crosses(names, u[:CHAINS]) <= CROSSING:
        return Calibrated("mean field", learned)
    guide = refine(exact, u.mean(0), torch.cov(u.T).reshape(d, d), points, seed)
    found = weigh(joint, exact.batch, guide, draws, seed)
    apart = crosses(names, guide.points(CHAINS)) <= CROSSING
    if (found.good and apart) or each * CHAINS * 4 * 16 > MOVE_WORK:
        return restored(
            exact.joint, "Gaussian", learned.params, {"loc": guide.loc, "scale_tril": guide.scale_tril}
        )
    most = int(np.clip(MOVE_WORK // (each * CHAINS * 4), 8, ROUNDS))
    parts = {"loc": guide.loc, "scale_tril": guide.scale_tril}
    return _moved(exact, guide, names, CHAINS, most, learned.params, parts)


def _moved(
    exact: ExactPosterior,
    guide: GaussianGuide,
    names: Reference,
    chains: int,
    most: int,
    params: Params,
    parts: Params,
) -> Calibrated:
    """Draws of a guide, moved on the exact posterior."""
    moved = move(
        exact,
        guide.points(chains),
        guide.scale_tril,
        most=most,
        identify=lambda u: identify(names, u),
    )
    memory = torch.tensor([moved.memory, moved.limit], dtype=torch.float64)
    return restored(exact.joint, "moved", params, {**parts, "points": moved.points, "memory": memory})


def restored(joint: Joint, method: str, learned: Params, params: Params) -> Calibrated:
    """What `calibrate` gave, from its method and `Calibrated.params`.

    Args:
        joint: the model.
        method: `Calibrated.method`.
        learned: what training left.
        params: `Calibrated.params`: `loc` (d,) and `scale_tril` (d, d) of a Gaussian, `points` (S, d) and
            `memory` (2,) of moved draws, `ratio` (d,) of linear response, as far as there are any.
    """
    params, ratio = dict(params), params.get("ratio")
    if "loc" not in params:
        return Calibrated(method, Learned(joint, learned), params, ratio=ratio)
    points, memory = params.get("points"), params.get("memory")
    limits = None if memory is None else (float(memory[0]), float(memory[1]))
    guide = GaussianGuide(ExactPosterior.space_of(joint), params["loc"], params["scale_tril"])
    draws = None if points is None else guide.space.theta(points)[0]
    return Calibrated(method, guide, params, draws, limits, ratio)


def respond(learned: Learned, exact: ExactPosterior, data: Dataset, device: str, seed: int) -> Calibrated:
    """Linear response, from as many rows as are affordable; the mean-field guide where it changes little.

    The covariance is the inverse of the observed information at the mean of the guide.

    Args:
        learned: the mean-field guide.
        exact: the log joint density of all rows.
        data: the rows.
        device: where densities are evaluated.
        seed: of the rows that are taken.

    Returns:
        `linear response`, or `mean field`: where d > `RESPONSE`, where no sd changes by more than a factor of
        `WIDE` (`ratio` then says by how much), where the Gaussian's draws are less probable by more than d
        nats, twice what its width may cost, as where rare levels and transitions are far from normal, and
        where the information is not positive definite or the
        density not finite (`ratio` is then ∞).
    """
    joint, d = exact.joint, exact.dimension
    data = joint.inside.dataset(data) if joint.lagged else data  # before rows lose the one before them
    if d > RESPONSE:
        return Calibrated("mean field", learned)
    rows = int(RESPONSE_WORK // (d * joint.states * (joint.width + 8)))
    some = excerpt(data, max(rows, LEAST), ordered=not joint.exchangeable, seed=seed)
    part = exact if some is data else ExactPosterior(joint, joint.dataset_batch(some, device))
    u = exact.space.point(learned.draw(400))
    loc, sd = u.mean(0), u.std(0)
    precision = observed_information(part, learned.params, loc, 1e-3 * sd, data.rows / some.rows)
    precision = _held(exact, precision, loc, sd)
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
    if len(points) > 1 and bool(value.mean() < exact(u[: len(points)])[0].mean() - d):
        return restored(joint, "mean field", learned.params, {"ratio": ratio})
    parts = {"loc": loc, "scale_tril": scale_tril, "ratio": ratio}
    return restored(joint, "linear response", learned.params, parts)


def _held(exact: ExactPosterior, precision: Tensor, loc: Tensor, sd: Tensor) -> Tensor:
    """The precision (d, d), with that of the guide in directions along which the density does not change.

    Args:
        exact: the log joint density.
        precision: that of the observed information, which has none there.
        loc: u (d,).
        sd: those of the guide, (d,).
    """
    if not exact.joint.rotates:
        return precision
    theta, found = exact.space.theta(loc[None])[0], []
    along = {e.name: e.tangents(theta[e.name]) for e in exact.joint.emissions}
    for part in exact.space.parts:
        if part.site in along.get(part.factor, {}):
            directions = along[part.factor][part.site].flatten(1)
            found.append(directions.new_zeros(len(directions), len(loc)))
            found[-1][:, part.at] = directions
    T = torch.linalg.qr(torch.cat(found).T).Q
    rest = torch.eye(len(loc), dtype=loc.dtype) - T @ T.T
    return rest @ precision @ rest + T @ (T.T @ (T / sd.square()[:, None])) @ T.T


def moved_on(
    exact: ExactPosterior, found: Calibrated, data: Dataset, seed: int, params: Params
) -> Calibrated:
    """Draws of linear response moved on, where they are so few and so short that this is affordable.

    A Gaussian is not the shape of covariances that few rows speak of: its intervals are too narrow.

    Args:
        exact: the log joint density.
        found: what `respond` gave.
        data: the rows.
        seed: of the rows that states are compared on.
        params: what training left.
    """
    guide, work = found.guide, exact.batch.rows.steps * exact.joint.states * MOVING * 4 * 16
    if not isinstance(guide, GaussianGuide) or exact.dimension > MOVED or work > MOVE_WORK:
        return found
    names = Reference(exact, data, guide.loc, seed)
    return _moved(exact, guide, names, MOVING, ROUNDS, params, found.params)


def observed_information(
    exact: ExactPosterior, params: Params, loc: Tensor, step: Tensor, scale: float
) -> Tensor:
    """−∇² log p(x, θ(u)) at u = loc, (d, d): the complete information less what the latents take away.

    The complete information is −∇² (⟨S, η(u)⟩ + log p(u)), from the statistics S of all rows. What is
    missing, ∇² (log p(x | η(u)) − ⟨Ŝ, η(u)⟩) with Ŝ = E[t(x, z)] at loc, is that of the rows of `exact`,
    times `scale` (Louis 1982, J. R. Statist. Soc. B 44). Hessians are differences of gradients.

    Args:
        exact: the log joint density of the rows that are affordable.
        params: expected statistics S of all rows.
        loc: u (d,).
        step: of the differences in each direction, (d,).
        scale: how many rows of all a row of `exact` stands for.
    """
    d = len(loc)
    points = torch.cat([loc[None], loc + torch.diag(step)])
    complete = exact.complete(points, params)
    _, statistics = expected(exact.joint, exact.batch, exact.natural(loc[None]))
    part = exact(points)[1] - exact.complete(points, statistics)
    gradient = complete + scale * part
    hessian = (gradient[1:] - gradient[:1]) / step[:, None]
    return -0.5 * (hessian + hessian.T).reshape(d, d)


def refine(exact: ExactPosterior, loc: Tensor, covariance: Tensor, points: int, seed: int) -> GaussianGuide:
    """The Gaussian rule from a first guess, until the ELBO rises by less than a thousandth of a nat.

    Args:
        exact: the log joint density.
        loc: m of the first guess, (d,).
        covariance: of the first guess, (d, d).
        points: S that expectations are averaged over.
        seed: of the points.
    """
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
