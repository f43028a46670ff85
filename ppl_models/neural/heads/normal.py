"""A continuous number as a normal, whose posterior is a normal-inverse-gamma distribution: see `heads`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_models.draws import Draws
from ppl_models.neural.heads.features import FeatureRows
from ppl_models.neural.heads.head import INTERCEPT, NAME, Fitted, Head

_gamma: Any = torch._standard_gamma  # pyright: ignore[reportPrivateImportUsage]

SHAPE, RATE = 1.0, 0.05
"""Of the prior of σ², in units of the target's variance."""


class _Scaled:
    """Exact posteriors of β and σ² at any scale of the prior, from sums over the rows."""

    def __init__(self, head: "NumberHead", rows: FeatureRows, centre: Tensor | None) -> None:
        Z, y = rows.Z, rows.y
        w = torch.ones(len(Z), dtype=torch.float64) if rows.weight is None else rows.weight
        c = torch.zeros(Z.shape[1], dtype=torch.float64) if centre is None else centre.clone()
        c[0] = 0.0
        y = y - Z @ c
        self.head, self.centre = head, c
        self.gram, self.cross = Z.mT @ (Z * w[:, None]), Z.mT @ (w * y)
        self.square, self.count = float(w @ y**2), float(w.sum())

    def posterior(self, scale: float) -> Fitted:
        """In closed form, of the deviations from the centre."""
        G, r, n = self.gram, self.cross, self.count
        prior = torch.cat([torch.tensor([INTERCEPT**-2]), torch.full((len(G) - 1,), scale**-2)]).double()
        U = torch.linalg.cholesky(G + torch.diag(prior))
        m = torch.cholesky_solve(r[:, None], U)[:, 0]
        a, b = SHAPE + n / 2, RATE + 0.5 * max(self.square - float(r @ m), 1e-9)
        evidence = (
            0.5 * float(prior.log().sum()) - float(U.diagonal().log().sum())
            + SHAPE * math.log(RATE) - a * math.log(b) + math.lgamma(a) - math.lgamma(SHAPE)
            - n / 2 * math.log(2 * math.pi)
        )  # fmt: skip
        root = torch.linalg.inv(U).mT  # root rootᵀ = P⁻¹
        found = {
            "loc": self.centre + m, "root": root, "shape": a, "rate": b,
            "scale": [scale], "centre": self.centre,
        }  # fmt: skip
        params = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in found.items()}
        return Fitted(params, evidence - n * math.log(self.head.sd), True)

    def worth(self, scale: float, judges: FeatureRows | None) -> float:
        """Minus the squared error of held-out rows; the evidence without any."""
        found = self.posterior(scale)
        if judges is None:
            return found.elbo
        return -judges.mean((judges.y - judges.Z @ found.params["loc"]) ** 2)


@dataclass(eq=False)
class NumberHead(Head):
    """A continuous number.

    Attributes:
        features: d.
        mean: of the target, in the user's units.
        sd: of the target, which everything inside is in units of.
    """

    features: int
    mean: float = 0.0
    sd: float = 1.0
    outputs: int = 1

    @property
    def dimension(self) -> int:
        """D + 2: intercept, coefficients and σ."""
        return self.features + 2

    def inside(self, y: Tensor) -> Tensor:
        """In units of the target's sd."""
        return (y - self.mean) / self.sd

    def outside(self, y: Tensor) -> Tensor:
        """The way back."""
        return y * self.sd + self.mean

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Half the square of the error, in units of the target's sd."""
        return 0.5 * (out[..., 0] - y.unsqueeze(1)) ** 2

    def held(self, out: Tensor, y: Tensor, weight: Tensor) -> float:
        """By the mean of the members, at the σ that is best for these rows."""
        error = (out[..., 0].mean(1).double() - y) ** 2
        square = float((error @ weight) / weight.sum())
        return -0.5 * math.log(2 * math.pi * math.e * max(square, 1e-12))

    def centre(self, weight: Tensor, bias: Tensor) -> Tensor:
        """(d + 1,)."""
        return torch.cat([bias, weight[0]])

    def scaled(self, rows: FeatureRows, centre: Tensor | None) -> _Scaled:
        """Exactly."""
        return _Scaled(self, rows, centre)

    def draw(self, params: Mapping[str, Tensor], draws: int) -> Draws:
        """`coefficient` (S, d + 1), intercept first, and `log_sigma` (S,), in units of the target's sd."""
        shape = torch.full((draws,), float(params["shape"]), dtype=torch.float64)
        variance = params["rate"] / _gamma(shape)
        noise = torch.randn(draws, len(params["loc"]), dtype=torch.float64) @ params["root"].mT
        coefficient = params["loc"] + variance.sqrt()[:, None] * noise
        return {NAME: {"coefficient": coefficient, "log_sigma": 0.5 * variance.log()}}

    def log_q(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Of the normal-inverse-gamma, with respect to log σ."""
        B, log_sigma = theta[NAME]["coefficient"], theta[NAME]["log_sigma"]
        z = torch.linalg.solve(params["root"], (B - params["loc"]).mT)
        log_det = torch.linalg.slogdet(params["root"])[1]
        normal = -0.5 * (z**2).sum(0) * (-2 * log_sigma).exp() - B.shape[1] * log_sigma - log_det
        return (
            normal
            - 0.5 * B.shape[1] * math.log(2 * math.pi)
            + _log_inverse_gamma(log_sigma, float(params["shape"]), float(params["rate"]))
        )

    def log_prior(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Of coefficients given σ, and of log σ."""
        B, log_sigma = theta[NAME]["coefficient"], theta[NAME]["log_sigma"]
        sd = torch.cat([torch.tensor([INTERCEPT]), params["scale"].expand(B.shape[1] - 1).float()]).double()
        z2 = (((B - params["centre"]) / sd) ** 2).sum(1) * (-2 * log_sigma).exp()
        normal = -0.5 * z2 - B.shape[1] * (log_sigma + 0.5 * math.log(2 * math.pi)) - sd.log().sum()
        return normal + _log_inverse_gamma(log_sigma, SHAPE, RATE)

    def log_likelihood(self, theta: Draws, Z: Tensor, y: Tensor) -> Tensor:
        """In the user's units."""
        log_sigma = theta[NAME]["log_sigma"][:, None]
        z = (y - theta[NAME]["coefficient"] @ Z.mT) * (-log_sigma).exp()
        return -0.5 * z**2 - log_sigma - 0.5 * math.log(2 * math.pi) - math.log(self.sd)

    def predictive(self, theta: Draws, Z: Tensor, temperature: float) -> torch.distributions.Normal:
        """N(f, T² σ²) in the user's units."""
        f = theta[NAME]["coefficient"] @ Z.mT
        return self._normal(f, theta[NAME]["log_sigma"].exp()[:, None], temperature)

    def _normal(self, f: Tensor, sigma: Tensor, temperature: float) -> torch.distributions.Normal:
        scale = (temperature * self.sd * sigma).expand_as(f)
        return torch.distributions.Normal(self.mean + self.sd * f, scale, validate_args=False)

    def from_outputs(self, out: Tensor, temperature: float) -> torch.distributions.Normal:
        """Of means (S, m, 1), at σ = T."""
        return self._normal(out[..., 0].double(), torch.ones((), dtype=torch.float64), temperature)

    def hyper(self, theta: Draws) -> Mapping[str, Tensor]:
        """σ in the user's units."""
        return {"sigma": theta[NAME]["log_sigma"].exp() * self.sd}


def _log_inverse_gamma(log_sigma: Tensor, shape: float, rate: float) -> Tensor:
    """Log density of log σ where σ² ~ InverseGamma(shape, rate)."""
    constant = shape * math.log(rate) - math.lgamma(shape) + math.log(2.0)
    return constant - 2 * shape * log_sigma - rate * (-2 * log_sigma).exp()
