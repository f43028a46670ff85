"""Bayesian regressions on the features of a network: what a target is, its posterior, its predictive.

    class    y_n ~ Categorical(softmax(A φ_n)),  φ_n = α + Bᵀ z_n,  b_j ~ N(c_j, s² I)
    number   y_n ~ N(α + βᵀ z_n, σ²),  β_j ~ N(c_j, σ² s²),  σ² ~ InverseGamma(1, 0.05)

with z_n the standardised features, A the contrasts of `ppl_models.regression.priors`, and y_n of a number in
units of its standard deviation. The centre c is the network's own output layer. The scale s is that of the
best score of held-out rows, since features know the rows that they were trained on, and the evidence of these
would take them at their word; where no rows are held out it is that of the largest evidence: of classes the
Laplace approximation at the mode (MacKay 1992, Bayesian interpolation, Neural Computation 4,
https://doi.org/10.1162/neco.1992.4.3.415), of a number the evidence itself. The posterior of classes is the
Gaussian of `ppl_models.regression.newton` with full covariance, that of a number the normal-inverse-gamma
distribution itself.

Held-out rows set one number more, the temperature: predictions are softmax(A φ/T), or N(f, T² σ²) (Guo,
Pleiss, Sun & Weinberger 2017, On calibration of modern neural networks, ICML,
https://arxiv.org/abs/1706.04599). It is no part of the posterior.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.draws import Draws, groups
from ppl_models.regression.design import Block
from ppl_models.regression.glm import GLM
from ppl_models.regression.newton import fit_glm
from ppl_models.regression.priors import Expected, NormalPrior, WithIntercept, contrasts
from ppl_models.regression.responses import Categorical

_gamma: Any = torch._standard_gamma  # pyright: ignore[reportPrivateImportUsage]

NAME = "head"
"""The factor that the coefficients of a head are under."""

INTERCEPT = 10.0
"""Prior sd of an intercept."""

SHAPE, RATE = 1.0, 0.05
"""Of the prior of σ², in units of the target's variance."""

SCALES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Of which the scale of the prior is one."""

MODE = 10_000
"""Rows at random by which the scale is chosen, of classes, at most."""


@dataclass(eq=False)
class FeatureRows:
    """Rows of features in blocks: what `fit_glm` asks of a batch.

    Attributes:
        Z: (n, d + 1), a first column of ones.
        y: (n,) int64.
        weight: (n,) or None.
        scale: what each row's log likelihood is multiplied with.
    """

    Z: Tensor
    y: Tensor
    weight: Tensor | None = None
    scale: float = 1.0
    size: int = field(default=4_096)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def count(self) -> int:
        """The number of blocks."""
        return -(-len(self.y) // self.size)

    def blocks(self, which: range | None = None) -> Iterator[Block]:
        """Some blocks, or all, in order."""
        for i in range(self.count) if which is None else which:
            at = slice(i * self.size, (i + 1) * self.size)
            yield Block(self.Z[at], self.y[at], None if self.weight is None else self.weight[at])

    def some(self, rows: int, seed: int = 0) -> "FeatureRows":
        """A random subset of the rows, scaled up to stand for all of them."""
        chosen = torch.from_numpy(np.sort(np.random.default_rng(seed).choice(len(self), rows, replace=False)))
        weight = None if self.weight is None else self.weight[chosen]
        if weight is None or self.weight is None:
            factor = len(self) / rows
        else:
            factor = float(self.weight.sum() / weight.sum().clamp_min(1e-300))
        return FeatureRows(self.Z[chosen], self.y[chosen], weight, self.scale * factor, self.size)


@dataclass(frozen=True, eq=False)
class Centred:
    """A prior around another point than 0.

    Attributes:
        prior: around 0.
        at: the point, (p, K).
    """

    prior: NormalPrior
    at: Tensor

    def expect(self, mean: Tensor, cov: Tensor) -> Expected:
        """That of the difference."""
        return self.prior.expect(mean - self.at, cov)

    def log_prob(self, b: Tensor) -> Tensor:
        """Log p(b)."""
        return self.prior.log_prob(b - self.at)

    def majoriser(self, b: Tensor) -> Tensor:
        """That of the difference."""
        return self.prior.majoriser(b - self.at)


SPAN = (1e-3, 10.0)
"""Within which a temperature is looked for."""


class Head(ABC):
    """A regression of a target on features, with a posterior that can be drawn from and scored.

    Attributes:
        outputs: numbers that the network gives in training for each row.
        features: d.
    """

    outputs: int
    features: int

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Free parameters."""

    @abstractmethod
    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Minus log p(y) of each row, what the network is trained by, (B, M) for outputs (B, M, O)."""

    @abstractmethod
    def held(self, out: Tensor, y: Tensor, weight: Tensor) -> float:
        """Mean log p(y) of rows by the mean of outputs (B, M, O), nats, by which training stops."""

    @abstractmethod
    def centre(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Coefficients of [1, z] by an output layer (O, d) and (O,) on z."""

    @abstractmethod
    def fit(
        self,
        Z: Tensor,
        y: Tensor,
        weight: Tensor | None,
        centre: Tensor | None = None,
        held: tuple[Tensor, Tensor, Tensor | None] | None = None,
    ) -> tuple[dict[str, Tensor], float, bool]:
        """The posterior given features: its parameters, the ELBO, whether it converged.

        Args:
            Z: [1, z], (n, d + 1).
            y: (n,) as the head takes them.
            weight: (n,), or None.
            centre: c, as `centre` gives it; 0 if not given.
            held: the same of held-out rows, by which the scale is chosen; by the evidence without any.
        """

    @abstractmethod
    def draw(self, params: Mapping[str, Tensor], draws: int) -> Draws:
        """θ from the posterior that was fitted."""

    @abstractmethod
    def log_q(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Its log density, (S,)."""

    @abstractmethod
    def log_prior(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Log density of the prior at the scale that was chosen, (S,)."""

    @abstractmethod
    def log_likelihood(self, theta: Draws, Z: Tensor, y: Tensor) -> Tensor:
        """Log p(y_n | θ_s), (S, m), at T = 1."""

    @abstractmethod
    def predictive(self, theta: Draws, Z: Tensor, temperature: float) -> Any:
        """Of new observations of rows under each draw: a torch distribution over (S, m)."""

    def from_outputs(self, out: Tensor, temperature: float) -> Any:
        """The same by outputs (S, m, O) of whole networks, one for each draw."""
        raise NotImplementedError

    def log_evidence(self, theta: Draws, batch: FeatureRows) -> Tensor:
        """Log p(y | θ_s) of all rows, with their weights, (S,)."""
        S = len(next(iter(theta[NAME].values())))
        total = torch.zeros(S, dtype=torch.float64)
        for block in batch.blocks():
            for at in groups(S, len(block.y) * max(self.outputs, 1), 2**22):
                some = {NAME: {site: v[at] for site, v in theta[NAME].items()}}
                each = self.log_likelihood(some, block.Z, block.y)
                total[at] += each.sum(1) if block.weight is None else each @ block.weight
        return total

    def temperature(self, log_score: Callable[[float], float]) -> float:
        """The T within `SPAN` of the best score of held-out rows, by golden sections in log T."""
        (low, high), golden = map(math.log, SPAN), (math.sqrt(5) - 1) / 2
        a, b = high - golden * (high - low), low + golden * (high - low)
        fa, fb = log_score(math.exp(a)), log_score(math.exp(b))
        for _ in range(20):
            if fa >= fb:
                high, b, fb = b, a, fa
                a = high - golden * (high - low)
                fa = log_score(math.exp(a))
            else:
                low, a, fa = a, b, fb
                b = low + golden * (high - low)
                fb = log_score(math.exp(b))
        return math.exp(a if fa >= fb else b)


class ClassHead(Head):
    """One of C classes."""

    def __init__(self, classes: int, features: int) -> None:
        self.classes = self.outputs = classes
        self.features = features
        self.A = contrasts(classes)

    @property
    def dimension(self) -> int:
        """(d + 1)(C − 1)."""
        return (self.features + 1) * (self.classes - 1)

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Cross entropy of every member."""
        B, M, C = out.shape
        target = y.unsqueeze(1).expand(B, M).reshape(-1)
        return torch.nn.functional.cross_entropy(out.reshape(-1, C), target, reduction="none").view(B, M)

    def held(self, out: Tensor, y: Tensor, weight: Tensor) -> float:
        """By the mean logits."""
        each = out.mean(1).double().log_softmax(-1).gather(1, y[:, None])[:, 0]
        return float((each @ weight) / weight.sum())

    def glm(self, scale: float, centre: Tensor | None = None) -> GLM:
        """The regression with a prior of this scale around a centre (d + 1, K), 0 if not given."""
        one = torch.ones(self.features, dtype=torch.float64)
        intercept: Any = NormalPrior(torch.tensor([INTERCEPT], dtype=torch.float64))
        predictors: Any = NormalPrior(scale * one)
        if centre is not None:
            predictors = Centred(predictors, centre[1:])
        return GLM(Categorical(self.classes), self.features + 1, WithIntercept(intercept, predictors))

    def centre(self, weight: Tensor, bias: Tensor) -> Tensor:
        """2 Aᵀ logits, as Aᵀ A = I/2: (d + 1, K)."""
        return 2 * torch.cat([bias[None], weight.mT]) @ self.A

    def fit(
        self,
        Z: Tensor,
        y: Tensor,
        weight: Tensor | None,
        centre: Tensor | None = None,
        held: tuple[Tensor, Tensor, Tensor | None] | None = None,
    ) -> tuple[dict[str, Tensor], float, bool]:
        """By natural gradients, at the scale that does best at the mode."""
        batch: Any = FeatureRows(Z, y, weight)
        some: Any = batch.some(MODE) if len(batch) > 2 * MODE else batch
        if centre is None:
            centre = torch.zeros(self.features + 1, self.classes - 1, dtype=torch.float64)

        def value(scale: float) -> float:
            glm = self.glm(scale, centre)
            loc, precision = glm.map_start(some)
            B = loc.reshape(1, -1, self.classes - 1)
            if held is not None:
                f, own, w = self.logits({NAME: {"coefficient": B}}, held[0]), held[1], held[2]

                def score(T: float) -> float:
                    each = self.from_outputs(f, T).log_prob(own)[0]
                    return float(each.mean() if w is None else (each @ w) / w.sum())

                return score(self.temperature(score))
            return float(glm.log_evidence(some, B) + glm.prior.log_prob(B)) - float(
                torch.linalg.cholesky(precision).diagonal().log().sum()
            )

        scale = max(SCALES, key=value)
        found = fit_glm(self.glm(scale, centre), batch)
        params = {
            "loc": found.loc,
            "scale_tril": found.scale_tril,
            "scale": torch.tensor([scale], dtype=torch.float64),
        }
        return params | {"centre": centre}, found.elbo, found.converged

    def _theta(self, phi: Tensor) -> Draws:
        return {NAME: {"coefficient": phi.reshape(len(phi), self.features + 1, self.classes - 1)}}

    def draw(self, params: Mapping[str, Tensor], draws: int) -> Draws:
        """Coefficients φ (S, d + 1, K), intercept first."""
        L = params["scale_tril"]
        return self._theta(params["loc"] + torch.randn(draws, len(L), dtype=torch.float64) @ L.mT)

    def log_q(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Of the Gaussian."""
        x, L = theta[NAME]["coefficient"].flatten(1), params["scale_tril"]
        z = torch.linalg.solve_triangular(L, (x - params["loc"]).mT, upper=False)
        return -0.5 * (z**2).sum(0) - L.diagonal().log().sum() - 0.5 * len(L) * math.log(2 * math.pi)

    def log_prior(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Independent normals."""
        return self.glm(float(params["scale"]), params["centre"]).prior.log_prob(theta[NAME]["coefficient"])

    def logits(self, theta: Draws, Z: Tensor) -> Tensor:
        """(S, m, C)."""
        B = theta[NAME]["coefficient"]
        return torch.stack([B[..., k] @ Z.mT for k in range(B.shape[-1])], -1) @ self.A.mT

    def log_likelihood(self, theta: Draws, Z: Tensor, y: Tensor) -> Tensor:
        """Of the observed classes."""
        return self.glm(1.0).log_likelihood(theta[NAME]["coefficient"], Block(Z, y, None))

    def predictive(self, theta: Draws, Z: Tensor, temperature: float) -> torch.distributions.Categorical:
        """Softmax of the logits over T."""
        return self.from_outputs(self.logits(theta, Z), temperature)

    def from_outputs(self, out: Tensor, temperature: float) -> torch.distributions.Categorical:
        """Of logits (S, m, C)."""
        return torch.distributions.Categorical(logits=out / temperature, validate_args=False)


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

    def fit(
        self,
        Z: Tensor,
        y: Tensor,
        weight: Tensor | None,
        centre: Tensor | None = None,
        held: tuple[Tensor, Tensor, Tensor | None] | None = None,
    ) -> tuple[dict[str, Tensor], float, bool]:
        """In closed form, of the deviations from the centre, at the scale that does best."""
        w = torch.ones(len(Z), dtype=torch.float64) if weight is None else weight
        c = torch.zeros(Z.shape[1], dtype=torch.float64) if centre is None else centre.clone()
        c[0] = 0.0
        y = y - Z @ c
        G, r, yy, n = Z.mT @ (Z * w[:, None]), Z.mT @ (w * y), float(w @ y**2), float(w.sum())

        def at(scale: float) -> tuple[float, dict[str, Tensor]]:
            prior = torch.cat([torch.tensor([INTERCEPT**-2]), torch.full((len(G) - 1,), scale**-2)]).double()
            P = G + torch.diag(prior)
            U = torch.linalg.cholesky(P)
            m = torch.cholesky_solve(r[:, None], U)[:, 0]
            a, b = SHAPE + n / 2, RATE + 0.5 * max(yy - float(r @ m), 1e-9)
            evidence = (
                0.5 * float(prior.log().sum()) - float(U.diagonal().log().sum())
                + SHAPE * math.log(RATE) - a * math.log(b) + math.lgamma(a) - math.lgamma(SHAPE)
                - n / 2 * math.log(2 * math.pi)
            )  # fmt: skip
            root = torch.linalg.inv(U).mT  # root rootᵀ = P⁻¹
            found = {"loc": c + m, "root": root, "shape": a, "rate": b, "scale": [scale], "centre": c}
            return evidence, {k: torch.as_tensor(v, dtype=torch.float64) for k, v in found.items()}

        def value(each: tuple[float, dict[str, Tensor]]) -> float:
            if held is None:
                return each[0]
            error = (held[1] - held[0] @ each[1]["loc"]) ** 2
            return -float(error.mean() if held[2] is None else (error @ held[2]) / held[2].sum())

        evidence, params = max((at(scale) for scale in SCALES), key=value)
        return params, evidence - n * math.log(self.sd), True

    def draw(self, params: Mapping[str, Tensor], draws: int) -> Draws:
        """`coefficient` (S, d + 1), intercept first, and `log_sigma` (S,), in units of the target's sd."""
        shape = torch.full((draws,), float(params["shape"]), dtype=torch.float64)
        variance = params["rate"] / _gamma(shape)
        noise = torch.randn(draws, len(params["loc"]), dtype=torch.float64) @ params["root"].mT
        return {
            NAME: {
                "coefficient": params["loc"] + variance.sqrt()[:, None] * noise,
                "log_sigma": 0.5 * variance.log(),
            }
        }

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


def _log_inverse_gamma(log_sigma: Tensor, shape: float, rate: float) -> Tensor:
    """Log density of log σ where σ² ~ InverseGamma(shape, rate)."""
    constant = shape * math.log(rate) - math.lgamma(shape) + math.log(2.0)
    return constant - 2 * shape * log_sigma - rate * (-2 * log_sigma).exp()
