"""The posterior of a regression as a Pyro distribution, for the guide."""

import math

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ppl_models.regression.bound import Regression
from ppl_models.regression.forms import Form, Mixture
from ppl_models.regression.horseshoe import Cell, local_scales


class PosteriorOf(dist.TorchDistribution):
    """q over the coefficients (p + 1, K), intercept first, in the units of θ."""

    arg_constraints: dict = {}
    support = constraints.independent(constraints.real, 2)  # type: ignore[assignment]
    has_rsample = False

    def __init__(self, bound: Regression, form: Form) -> None:
        self.bound, self.form = bound, form
        super().__init__(event_shape=torch.Size((bound.glm.width, bound.glm.outputs)), validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, p + 1, K)."""
        sites = self.bound.theta(self.form.draw(max(sample_shape.numel(), 1)))["regression"]
        B = torch.cat([sites["intercept"].unsqueeze(1), sites["coefficient"]], 1)
        return B.reshape(*sample_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log q of one value."""
        B = value.reshape(-1, *self.event_shape)
        theta = {"regression": {"intercept": B[:, 0], "coefficient": B[:, 1:]}}
        found = self.form.log_prob(self.bound.phi(theta).flatten(1)) - self.bound._log_volume
        return found.reshape(value.shape[:-2])


class PointsOf(dist.TorchDistribution):
    """q over the coefficients and ψ of a number, (d + q,)."""

    arg_constraints: dict = {}
    support = constraints.real_vector  # type: ignore[assignment]
    has_rsample = False

    def __init__(self, bound: Regression, form: Form) -> None:
        self.form = form
        super().__init__(event_shape=torch.Size((bound.parameters,)), validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, d + q)."""
        return self.form.draw(max(sample_shape.numel(), 1)).reshape(*sample_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log q of one value."""
        return self.form.log_prob(value.reshape(-1, *self.event_shape)).reshape(value.shape[:-1])


class SharedPrior(dist.TorchDistribution):
    """p(ψ), (q,): a density; a draw is the start."""

    arg_constraints: dict = {}
    support = constraints.real_vector  # type: ignore[assignment]
    has_rsample = False

    def __init__(self, bound: Regression) -> None:
        self.bound = bound
        super().__init__(event_shape=torch.Size((bound.shared,)), validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """ψ to begin with."""
        return self.bound.start().expand(*sample_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(ψ)."""
        return self.bound.log_prior_shared(value.reshape(-1, *self.event_shape)).reshape(value.shape[:-1])


def scales(bound: Regression, form: Mixture, phi: Tensor) -> dict[str, dist.TorchDistribution]:
    """Log-normal approximations of the horseshoe's scales: τ, c², and λ given Φ (p + 1, K).

    Args:
        bound: the regression.
        form: the mixture over cells of (τ, c), labelled with them.
        phi: Φ, intercept first, in the units of the fit.

    Returns:
        By site: `global_scale`, `slab` and `local_scale` (p,).
    """
    w = form.weight
    found: dict[str, dist.TorchDistribution] = {}
    moments = {}
    for site, value in (("global_scale", form.labels["log_tau"]), ("slab", form.labels["slab"].log())):
        mean = (w * value).sum()
        sd = ((w * (value - mean) ** 2).sum() + 0.1).sqrt()
        moments[site] = float(mean)
        found[site] = dist.LogNormal(mean, sd)
    cell = Cell(math.exp(moments["global_scale"]), math.exp(moments["slab"]), bound.scale)
    log_lambda, log_weight = local_scales()
    variance = (cell.log_variance + 2 * bound.scale.log()[:, None]).exp()  # (p, nodes)
    square = (phi[1:] ** 2).sum(-1, keepdim=True)
    log_w = log_weight - 0.5 * (phi.shape[1] * variance.log() + square / variance)
    weight = log_w.softmax(-1)
    mean = weight @ log_lambda
    sd = ((weight * (log_lambda - mean[:, None]) ** 2).sum(-1) + 0.05).sqrt()
    found["local_scale"] = dist.LogNormal(mean, sd).to_event(1)
    return found
