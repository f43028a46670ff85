"""Likelihoods of cells given what a decoder puts out, one module for all columns of a family.

    gaussian               u_j = (x_j − x̄_j)/s_j ~ N(o_j, σ_j²),  σ_j² = σ_min² + exp(2 ρ_j), learned
    bernoulli              x_j ~ Bernoulli(sigmoid(o_j)); grey levels in [0, 1] are taken as probabilities
    continuous_bernoulli   p(u_j) = exp(o_j u_j − A(o_j)) on [0, 1],  A(o) = log((e^o − 1)/o)
    poisson                x_j ~ Poisson(x̄_j exp(o_j))
    categorical            x_j ~ Categorical(softmax(o_j1, …, o_jL))

Cells u are in the units of the network, float32; log densities are of cells in the user's units, by the
constant log |du/dx|. The continuous Bernoulli is the density for intensities whose cross-entropy has no
normaliser (Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli: fixing a pervasive error in variational
autoencoders, NeurIPS, https://arxiv.org/abs/1907.06845); their C(λ) e^{log λ …} is exp(o u − A(o)) for
λ = sigmoid(o). The scales σ_j never fall below σ_min = 0.01 sd of the column: a constant column, or one that
is reconstructed without error, would have unbounded density (Mattei & Frellsen 2018, Leveraging the exact
likelihood of deep latent variable models, NeurIPS, https://arxiv.org/abs/1802.04826).

Shapes: outputs (..., O), cells (B, D) or (..., B, D), where D columns take O outputs.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppl_models.data import Column
from ppl_models.families.likelihood_kinds import unit_intervals

FLOOR = 0.01
"""σ_min, in standard deviations of the column."""


class Family(nn.Module, ABC):
    """Columns of one family.

    Attributes:
        name: of the family.
        outputs: O, how many numbers of the decoder it takes.
        inputs: how many numbers its cells are to the encoder.
        shift, scale: u = (x − shift)/scale, (D,) float64.
        log_unit: log |du/dx| of each column, (D,); 0 where cells are discrete.
        limits: (D, 2) the values that it can describe, in the user's units, or None for all.
    """

    name: str
    shift: Tensor
    scale: Tensor
    log_unit: Tensor
    limits: Tensor | None

    def __init__(self, name: str, shift: Sequence[float], scale: Sequence[float], dense: bool) -> None:
        super().__init__()
        self.name, self.outputs, self.inputs = name, len(shift), len(shift)
        self.width = len(shift)
        self.register_buffer("limits", None, persistent=False)
        self._constant("shift", torch.tensor(shift, dtype=torch.float64))
        self._constant("scale", torch.tensor(scale, dtype=torch.float64))
        self._constant("log_unit", -self.scale.log().float() if dense else torch.zeros(self.width))

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """Cells in the units of the network, float32, from those of the user, float64."""
        return ((x - self.shift) / self.scale).float()

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """Cells as the encoder takes them; those that are missing are 0 in `u`, and must be 0 here."""
        return u

    def noise(self) -> list[float] | None:
        """The sd of each column given the latents, in the user's units, where one number says it."""
        return None

    @abstractmethod
    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Log density of each cell in the units of the network, (..., D)."""

    def total(self, out: Tensor, u: Tensor) -> Tensor:
        """The sum of `log_prob` over all cells: where one kernel does both, it says so here."""
        return self.log_prob(out, u).sum()

    @abstractmethod
    def expect(self, out: Tensor) -> Tensor:
        """Expected values in the user's units, probabilities of codes or of 1 for labels: (..., O)."""

    @abstractmethod
    def sample(self, out: Tensor) -> Tensor:
        """Cells in the user's units, codes for labels, by torch's global generator: (..., D) float64."""

    @abstractmethod
    def distribution(self, out: Tensor) -> Any:
        """The same density by Pyro, of cells in the user's units."""

    def observed(self, u: Tensor) -> Tensor:
        """Cells as `distribution` takes them."""
        return self.back(u)

    def back(self, u: Tensor) -> Tensor:
        """From the units of the network to those of the user, float64."""
        return u.double() * self.scale + self.shift


class Gaussian(Family):
    """N(o, σ²) with a learned σ for each column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("gaussian", [c.mean for c in columns], [c.sd for c in columns], dense=True)
        self.log_scale = nn.Parameter(torch.full((self.width,), math.log(0.5)))

    @property
    def sigma(self) -> Tensor:
        """σ, (D,), in standard deviations of the column."""
        return (FLOOR**2 + (2 * self.log_scale).exp()).sqrt()

    def noise(self) -> list[float] | None:
        """σ in the user's units."""
        return (self.sigma.detach().double() * self.scale).tolist()

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """See the base class."""
        sigma = self.sigma
        return -0.5 * ((u - out) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)

    def expect(self, out: Tensor) -> Tensor:
        """See the base class."""
        return self.back(out)

    def sample(self, out: Tensor) -> Tensor:
        """See the base class."""
        return self.back(out + self.sigma * torch.randn_like(out))

    def distribution(self, out: Tensor) -> Any:
        """See the base class."""
        import pyro.distributions as dist

        return dist.Normal(self.back(out), self.sigma.double() * self.scale)


class Bernoulli(Family):
    """Bernoulli with logits o; cells between 0 and 1 are probabilities, whose cross-entropy it is."""

    def __init__(self, columns: Sequence[Column], image: bool) -> None:
        ends = unit_intervals(columns, image)
        super().__init__("bernoulli", [lo for lo, _ in ends], [hi - lo for lo, hi in ends], dense=False)
        self._constant("limits", torch.tensor(ends, dtype=torch.float64))

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """See the base class."""
        out, u = torch.broadcast_tensors(out, u)
        return -F.binary_cross_entropy_with_logits(out, u, reduction="none")

    def total(self, out: Tensor, u: Tensor) -> Tensor:
        """See the base class."""
        return -F.binary_cross_entropy_with_logits(out, u, reduction="sum")

    def expect(self, out: Tensor) -> Tensor:
        """See the base class."""
        return self.back(out.sigmoid())

    def sample(self, out: Tensor) -> Tensor:
        """See the base class."""
        return self.back(torch.bernoulli(out.sigmoid()))

    def distribution(self, out: Tensor) -> Any:
        """See the base class; of cells in the units of the network, as Pyro's has no other support."""
        import pyro.distributions as dist

        return dist.Bernoulli(logits=out, validate_args=False)

    def observed(self, u: Tensor) -> Tensor:
        """See the base class."""
        return u


STEEPEST = 20.0
"""|o| at most, of a continuous Bernoulli: a pixel that is always black would have an infinite density."""


class ContinuousBernoulli(Family):
    """exp(o u − A(o)) on [0, 1], with o between −20 and 20."""

    def __init__(self, columns: Sequence[Column], image: bool) -> None:
        ends = unit_intervals(columns, image)
        shift, scale = [lo for lo, _ in ends], [hi - lo for lo, hi in ends]
        super().__init__("continuous_bernoulli", shift, scale, dense=True)
        self._constant("limits", torch.tensor(ends, dtype=torch.float64))

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """See the base class."""
        out = out.clamp(-STEEPEST, STEEPEST)
        return u * out - log_normaliser(out)

    def expect(self, out: Tensor) -> Tensor:
        """See the base class: A′(o) = 1/2 + (coth(o/2) − 2/o)/2."""
        t = out.double().clamp(-STEEPEST, STEEPEST) / 2
        small = t.abs() < 0.02
        safe = torch.where(small, torch.ones_like(t), t)
        return self.back(0.5 + torch.where(small, t / 6, (1 / safe.tanh() - 1 / safe) / 2))

    def sample(self, out: Tensor) -> Tensor:
        """See the base class: the inverse of F(u) = (e^{ou} − 1)/(e^o − 1), from its steep end."""
        o = out.double().clamp(-STEEPEST, STEEPEST)
        a = -o.abs()
        p = torch.rand_like(a)
        small = a > -1e-5
        safe = torch.where(small, torch.full_like(a, -1.0), a)
        u = torch.where(small, p, torch.log1p(p * torch.expm1(safe)) / safe).clamp(0.0, 1.0)
        return self.back(torch.where(o > 0, 1 - u, u))

    def distribution(self, out: Tensor) -> Any:
        """See the base class."""
        import pyro.distributions as dist
        from pyro.distributions.transforms import AffineTransform

        inner = dist.ContinuousBernoulli(logits=out.double().clamp(-STEEPEST, STEEPEST), validate_args=False)
        return dist.TransformedDistribution(
            inner, AffineTransform(self.shift, self.scale), validate_args=False
        )


def log_normaliser(out: Tensor) -> Tensor:
    """A(o) = log((e^o − 1)/o) = o/2 + log(sinh(t)/t), t = o/2, in any floating type, for any o.

    By its series near 0, where the quotient is 0/0, and without overflow far from it.
    """
    t = out.abs() / 2
    small = t < 0.3
    s = torch.where(small, t, torch.zeros_like(t)) ** 2
    far = torch.where(small, torch.ones_like(t), t)
    series = s / 6 - s**2 / 180 + s**3 / 2835
    return out / 2 + torch.where(small, series, far + torch.log(-torch.expm1(-2 * far) / (2 * far)))


class Poisson(Family):
    """Poisson with rate x̄ e^o: outputs are log rates relative to the mean of the column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("poisson", [0.0] * len(columns), [1.0] * len(columns), dense=False)
        mean = torch.tensor([c.mean for c in columns])
        self._constant("log_mean", mean.clamp(min=1e-3).log().float())
        sd = torch.tensor([c.sd for c in columns]).float()
        self._constant("centre", mean.log1p().float())
        self._constant("spread", (sd / (1 + mean)).clamp(min=1e-3).float())  # of log1p(x), to first order

    log_mean: Tensor
    centre: Tensor
    spread: Tensor

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """log(1 + x), about standardised."""
        f = (u.log1p() - self.centre) / self.spread
        return f if seen is None else f * seen

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """See the base class."""
        eta = out + self.log_mean
        return u * eta - eta.exp() - (u + 1).lgamma()

    def expect(self, out: Tensor) -> Tensor:
        """See the base class."""
        return (out.double() + self.log_mean).exp()

    def sample(self, out: Tensor) -> Tensor:
        """See the base class."""
        return torch.poisson((out.double() + self.log_mean).exp().clamp(max=1e15))

    def distribution(self, out: Tensor) -> Any:
        """See the base class."""
        import pyro.distributions as dist

        return dist.Poisson((out + self.log_mean).exp())


class Categorical(Family):
    """Softmax over the levels of each column, padded to the most levels, so that one op does all."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("categorical", [0.0] * len(columns), [1.0] * len(columns), dense=False)
        levels = [max(len(c.levels), 1) for c in columns]
        self.levels = tuple(levels)
        self.outputs = self.inputs = sum(levels)
        start = [sum(levels[:j]) for j in range(len(levels))]
        none = self.outputs  # the position of −∞
        index = [
            [a + k if k < n else none for k in range(max(levels))] for a, n in zip(start, levels, strict=True)
        ]
        self._constant("index", torch.tensor(index))
        self._constant("real", self.index.flatten() != none)

    index: Tensor
    real: Tensor

    def log_p(self, out: Tensor) -> Tensor:
        """Log probabilities (..., D, L), −∞ for levels that a column does not have."""
        padded = F.pad(out, (0, 1), value=-torch.inf)
        return padded[..., self.index].log_softmax(-1)

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """One-hot codes."""
        hot = F.one_hot(u.long(), self.index.shape[1]).to(u.dtype)
        hot = hot if seen is None else hot * seen.unsqueeze(-1)
        return hot.flatten(-2)[..., self.real]

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """See the base class."""
        log_p, code = self.log_p(out), u.long()
        if code.shape != log_p.shape[:-1]:
            shape = torch.broadcast_shapes(code.shape, log_p.shape[:-1])
            log_p, code = log_p.expand(*shape, -1), code.expand(shape)
        return log_p.gather(-1, code.unsqueeze(-1)).squeeze(-1)

    def expect(self, out: Tensor) -> Tensor:
        """Probabilities of the levels, column after column."""
        return self.log_p(out.double()).exp().flatten(-2)[..., self.real]

    def sample(self, out: Tensor) -> Tensor:
        """See the base class: the largest of log p plus Gumbel noise."""
        log_p = self.log_p(out.double())
        return (log_p - torch.log(-torch.log(torch.rand_like(log_p)))).argmax(-1).double()

    def distribution(self, out: Tensor) -> Any:
        """See the base class."""
        import pyro.distributions as dist

        return dist.Categorical(logits=self.log_p(out).clamp(min=-1e30))
