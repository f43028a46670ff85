"""A number of one of the families of generalised linear models: see `heads`.

    y_n ~ p(· | f_n, ψ),  f_n = α + βᵀ z_n,  β_j ~ N(c_j, s²),  α ~ N(0, 10²),  ψ ~ p(ψ)

p and its prior are those of `ppl_models.regression.responses`: a Student t, a Poisson, a negative binomial, a
gamma. While the network is trained ψ is a weight beside its output layer. The temperature T makes the
distribution T times as wide, by its scale or dispersion; of a Poisson, which has none, it does nothing.
"""

from collections.abc import Mapping
from math import log

import numpy as np
import torch
from torch import Tensor

from ppl_models.draws import Draws
from ppl_models.neural.heads.glm import GLMHead
from ppl_models.neural.heads.head import NAME
from ppl_models.regression.new import NewNumbers
from ppl_models.regression.responses import NumberResponse


class FamilyHead(GLMHead):
    """A number.

    Args:
        features: d.
        response: its distribution, with ψ at a start.
        level: f (1,) that the network starts with.
    """

    outputs = 1

    def __init__(self, features: int, response: NumberResponse, level: Tensor) -> None:
        self.features = features
        self.response: NumberResponse = response
        self.level = level

    @classmethod
    def of(cls, features: int, family: type[NumberResponse], essence: np.ndarray) -> "FamilyHead":
        """From its `essence`."""
        shift, unit, level, *psi = (float(each) for each in essence)
        response = family(family.links[0], torch.tensor(psi, dtype=torch.float64), shift, unit)
        return cls(features, response, torch.tensor([level], dtype=torch.float64))

    def essence(self) -> np.ndarray:
        """Its units, and where it starts: shift, unit, f and ψ."""
        r = self.response
        return np.array([r.shift, r.unit, float(self.level), *r.psi.tolist()], np.float64)

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """Of counts."""
        return self.response.discrete

    @property
    def shared(self) -> Tensor:
        """ψ."""
        return self.response.psi

    def trained(self, shared: Tensor) -> "FamilyHead":
        """At another ψ."""
        return FamilyHead(self.features, self.response.at(shared.double()), self.level)

    def start(self) -> Tensor:
        """The f of the mean of the target."""
        return self.level

    @property
    def log_unit(self) -> float:
        """Of the target's unit."""
        return log(self.response.unit)

    def inside(self, y: Tensor) -> Tensor:
        """In units of the family."""
        return self.response.standardised(y)

    def outside(self, y: Tensor) -> Tensor:
        """The way back."""
        return y * self.response.unit + self.response.shift

    def _log_prob(self, out: Tensor, y: Tensor) -> Tensor:
        return self.response.density(out[..., 0], y, out[..., 1:].unbind(-1), None)

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Of outputs f and ψ, (B, M, 1 + q)."""
        return -self._log_prob(out, y.unsqueeze(1).expand(out.shape[:2]))

    def held(self, out: Tensor, y: Tensor, weight: Tensor) -> float:
        """By the mean of the members' f."""
        each = self._log_prob(out.mean(1).double(), y.double())
        return float((each @ weight) / weight.sum())

    def centre(self, weight: Tensor, bias: Tensor) -> Tensor:
        """(d + 1, 1)."""
        return torch.cat([bias, weight[0]])[:, None]

    def theta(self, points: Tensor) -> Draws:
        """`coefficient` (S, d + 1), and `shared`, ψ (S, q), where there is one."""
        d = self.features + 1
        shared = {"shared": points[:, d:]} if len(self.psi) else {}
        return {NAME: {"coefficient": points[:, :d], **shared}}

    def points(self, theta: Draws) -> Tensor:
        """(S, d + 1 + q)."""
        return torch.cat(list(theta[NAME].values()), 1)

    def outcomes(self, theta: Draws, Z: Tensor) -> Tensor:
        """F and ψ, (S, m, 1 + q)."""
        f = (theta[NAME]["coefficient"] @ Z.mT)[..., None]
        if not len(self.psi):
            return f
        return torch.cat([f, theta[NAME]["shared"][:, None].expand(-1, len(Z), -1)], -1)

    def from_outputs(self, out: Tensor, temperature: float) -> NewNumbers:
        """By f, and ψ of the first row: it is that of all."""
        out = out.double()
        psi = out[:, 0, 1:] if out.shape[1] else out.new_zeros(len(out), len(self.psi))
        return NewNumbers(self.response, out[..., 0], self.response.widened(psi, temperature))

    def hyper(self, theta: Draws) -> Mapping[str, Tensor]:
        """ψ as the user knows it."""
        return self.response.user(theta[NAME]["shared"]) if len(self.psi) else {}
