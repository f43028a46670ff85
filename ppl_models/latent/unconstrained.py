"""The exact log joint of a model with its latents summed out, over unconstrained parameters.

    log p(x, θ(u)) + log |∂θ/∂u|,    ∇ by Fisher's identity: ∂ log p(x | η)/∂η = E[t(x, z) | x, η]

so that one E step at θ gives the density and its gradient.
"""

import math

import torch
from torch import Tensor

from ppl_models.draws import Draws, Params, groups
from ppl_models.errors import DataError
from ppl_models.inference.unconstrained import Unconstrained
from ppl_models.latent.joint import Batch, Joint

LOG_2PI = math.log(2 * math.pi)


def expected(joint: Joint, batch: Batch, natural: Params) -> tuple[Tensor, Params]:
    """The evidence and the expected statistics, on the CPU, of an E step on the device of the rows."""
    there = batch.values.device
    evidence, statistics = joint.local(batch, {name: value.to(there) for name, value in natural.items()})
    return evidence.cpu(), {name: value.cpu() for name, value in statistics.items()}


class _Evidence(torch.autograd.Function):
    """Log p(x | η) whose gradient is the expected statistics."""

    @staticmethod
    def forward(ctx, joint: Joint, batch: Batch, names: tuple[str, ...], *natural: Tensor) -> Tensor:
        """One E step, where the rows are; parameters and gradients are on the CPU."""
        evidence, statistics = expected(joint, batch, dict(zip(names, natural, strict=True)))
        ctx.save_for_backward(*(batch.scale * statistics[name] for name in names))
        return batch.scale * evidence

    @staticmethod
    def backward(ctx, *grads: Tensor):
        """Fisher's identity."""
        (grad,) = grads
        statistics = ctx.saved_tensors
        return None, None, None, *(grad.reshape(-1, *[1] * (s.dim() - 1)) * s for s in statistics)


class ExactPosterior:
    """Log p(x, θ) as a function of u ∈ ℝᵈ.

    Args:
        joint: the model.
        batch: the rows.
    """

    def __init__(self, joint: Joint, batch: Batch) -> None:
        self.joint, self.batch = joint, batch
        self.space = self.space_of(joint)

    @staticmethod
    def space_of(joint: Joint) -> Unconstrained:
        """The space of u."""
        return Unconstrained(joint.factors)

    @property
    def dimension(self) -> int:
        """How many numbers u has."""
        return self.space.dimension

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values (S,) and gradients (S, d), −∞ and 0 where a number overflowed."""
        each = self.batch.values.shape[0] * self.joint.states
        found = [self._possible(points[at]) for at in groups(len(points), each, 2**22)]
        return torch.cat([value for value, _ in found]), torch.cat([gradient for _, gradient in found])

    def _possible(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The same of a few points; −∞ at one where a row is impossible."""
        try:
            return self._some(points)
        except (DataError, torch.linalg.LinAlgError):  # pyright: ignore[reportPrivateImportUsage]
            if len(points) == 1:
                return points.new_full((1,), -torch.inf), torch.zeros_like(points)
            halves = [self._possible(half) for half in points.chunk(2)]
            return torch.cat([value for value, _ in halves]), torch.cat([slope for _, slope in halves])

    def natural(self, points: Tensor) -> dict[str, Tensor]:
        """η(θ(u)) of every factor."""
        return self.joint.natural(self.space.theta(points)[0])

    def complete(self, points: Tensor, statistics: Params) -> Tensor:
        """Gradients (S, d) of ⟨S, η(θ(u))⟩ + log p(u): as if the latents had been seen."""
        found = []
        for at in groups(len(points), 4 * self.dimension, 2**21):
            u = points[at].detach().requires_grad_()
            with torch.enable_grad():
                theta, log_det = self.space.theta(u)
                natural = self.joint.natural(theta)
                inner = [(natural[name] * S.detach()).flatten(1).sum(-1) for name, S in statistics.items()]
                value = torch.stack(inner).sum(0) + self.joint.log_prob(theta, None) + log_det
                found.append(torch.autograd.grad(value.sum(), u)[0])
        return torch.cat(found)

    def _some(self, points: Tensor) -> tuple[Tensor, Tensor]:
        u = points.detach().requires_grad_()
        with torch.enable_grad():
            theta, log_det = self.space.theta(u)
            natural = self.joint.natural(theta)
            names = tuple(natural)
            evidence = _Evidence.apply(self.joint, self.batch, names, *(natural[name] for name in names))
            value = evidence + self.joint.log_prob(theta, None) + log_det
            (gradient,) = torch.autograd.grad(value.sum(), u)
        value = torch.where(torch.isfinite(value), value.detach(), -torch.inf)
        return value, gradient.nan_to_num(0.0, 0.0, 0.0)


class GaussianGuide:
    """θ = T(u), u ~ N(m, Σ).

    Args:
        space: T.
        loc: m (d,).
        scale_tril: the factor of Σ (d, d).
    """

    def __init__(self, space: Unconstrained, loc: Tensor, scale_tril: Tensor) -> None:
        self.space, self.loc, self.scale_tril = space, loc, scale_tril

    def points(self, draws: int) -> Tensor:
        """U ~ q, (S, d)."""
        x = torch.randn(draws, len(self.loc), dtype=torch.float64)
        return self.loc + x @ self.scale_tril.T

    def log_point(self, u: Tensor) -> Tensor:
        """Log density of u, (S,)."""
        x = torch.linalg.solve_triangular(self.scale_tril, (u - self.loc).T, upper=False)
        log_det = self.scale_tril.diagonal().log().sum()
        return -0.5 * (x**2).sum(0) - log_det - 0.5 * len(self.loc) * LOG_2PI

    def draw(self, draws: int) -> Draws:
        """θ from q."""
        return self.space.theta(self.points(draws))[0]

    def log_prob(self, theta: Draws) -> Tensor:
        """Log q(θ) = log q(u) − log |∂θ/∂u|."""
        u = self.space.point(theta)
        return self.log_point(u) - self.space.theta(u)[1]
