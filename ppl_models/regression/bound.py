"""A logistic regression over the columns of a table: its density, and draws from its posterior."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import plural
from ppl_models.draws import Draws, Params, Variables, groups
from ppl_models.errors import UsageError
from ppl_models.regression import design as designs
from ppl_models.regression.design import BLOCK, Design
from ppl_models.regression.ep import STEP
from ppl_models.regression.fields import RegressionFields
from ppl_models.regression.forms import CENTRE, DRAWS, MAP, Form, from_params
from ppl_models.regression.glm import GLM
from ppl_models.regression.horseshoe import Horseshoe, global_scale
from ppl_models.regression.priors import NormalPrior, StudentPrior, WithIntercept, contrasts
from ppl_models.regression.rows import Batch, all_rows
from ppl_models.regression.sandwich import Adjustment

NAME = "regression"
"""The factor that all parameters belong to."""


@dataclass(eq=False)
class Regression:
    """A regression over the columns of a schema.

    Which columns the matrix has, and their means and standard deviations, follow from the rows of the fit:
    `prepare` it with them before anything else. θ is
    `{"regression": {"intercept": (S, K), "coefficient": (S, p, K)}}`, differences from the first class, of
    standardised columns. Everything is computed on the CPU, whatever `device` says.
    """

    model: RegressionFields
    schema: Schema
    _design: Design | None = None
    adjust: Adjustment | None = None

    def learned(self, params: Params) -> dict[str, Any]:
        """What the likelihood was adjusted by, with weights that are not counts."""
        return {"adjust": Adjustment(params[CENTRE][0], params[MAP][0])} if MAP in params else {}

    def at(self, learned: Mapping[str, Any]) -> "Regression":
        """The same with that."""
        return replace(self, adjust=learned["adjust"]) if "adjust" in learned else self

    def prepare(self, data: Dataset) -> "Regression":
        """Fix the design by the rows of the fit; once done, further calls change nothing."""
        if self._design is None:
            m = self.model
            self._design = designs.build(
                self.schema, m.formula, data, m.missing_rows, mixed=m.prior != "horseshoe"
            )
        return self

    @property
    def design(self) -> Design:
        """The design that was learned.

        Raises:
            UsageError: if none was.
        """
        if self._design is None:
            raise UsageError(
                "the regression does not know its data yet: call prepare(data) with the rows of the fit"
            )
        return self._design

    @property
    def target(self) -> str:
        """The name of the target."""
        return self.schema.names[designs.target_index(self.schema)]

    @property
    def levels(self) -> tuple[str, ...]:
        """The labels of the classes; the first is the reference."""
        return self.schema.columns[designs.target_index(self.schema)].levels

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the p columns of the design."""
        return self.design.names

    @property
    def describe(self) -> str:
        """Its size: `2 classes, 20 predictors`."""
        return f"{len(self.levels)} classes, {plural(len(self.names), 'predictor')}"

    @cached_property
    def scale(self) -> Tensor:
        """(p,) what a prior scale is multiplied with, in standardised units: 1, or u_j without autoscale."""
        if self.model.autoscale:
            return torch.ones(len(self.names), dtype=torch.float64)
        return torch.from_numpy(self.design.unit.copy())

    @cached_property
    def horseshoe(self) -> Horseshoe:
        """The horseshoe prior of these columns."""
        tau = global_scale(len(self.names), self.design.weight, self.model.expected_nonzero)
        return Horseshoe(self.scale, tau, self.model.slab_scale)

    @cached_property
    def glm(self) -> GLM:
        """The density. Under a horseshoe its prior is that of the intercept, and of a normal slab."""
        m = self.model
        intercept = NormalPrior(torch.tensor([m.intercept_scale], dtype=torch.float64))
        if m.prior == "student_t":
            predictors = StudentPrior(m.prior_scale * self.scale, m.prior_df)
        else:
            scale = m.slab_scale if m.prior == "horseshoe" else m.prior_scale
            predictors = NormalPrior(scale * self.scale)
        return GLM(len(self.levels), len(self.names) + 1, WithIntercept(intercept, predictors), self.adjust)

    @property
    def parameters(self) -> int:
        """The number of coefficients, (p + 1)(C − 1)."""
        return self.glm.dimension

    def matrices(self) -> int:
        """Bytes of some d × d matrices, and of the rows of a few blocks."""
        p = len(self.names) if self._design is not None else self._columns_at_most
        d = (p + 1) * max(len(self.levels) - 1, 1)
        return 8 * (6 * min(d, 2_000) ** 2 + 8 * BLOCK * (p + 1))

    @property
    def _columns_at_most(self) -> int:
        return sum(max(len(c.levels) - 1, 1) for c in self.schema.columns)

    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Not known from the schema alone."""
        return None

    def dataset_batch(self, data: Dataset, device: str = "cpu") -> Batch:
        """The rows of the fit, in blocks."""
        return all_rows(self.prepare(data).design, data, self.model.class_weight == "balanced")

    # Between θ and Φ

    @cached_property
    def _differences(self) -> Tensor:
        """R, (K, K): differences from the reference class are R φ."""
        A = contrasts(len(self.levels))
        return A[1:] - A[0]

    def theta(self, phi: Tensor) -> Draws:
        """θ of Φ (S, d)."""
        B = phi.reshape(len(phi), -1, len(self.levels) - 1) @ self._differences.mT
        return {NAME: {"intercept": B[:, 0], "coefficient": B[:, 1:]}}

    def phi(self, theta: Draws) -> Tensor:
        """Φ (S, p + 1, K) of θ."""
        sites = theta[NAME]
        B = torch.cat([sites["intercept"].unsqueeze(1), sites["coefficient"]], 1).to(torch.float64)
        return torch.linalg.solve(self._differences, B.mT).mT

    @property
    def _log_volume(self) -> float:
        """Log |∂θ/∂Φ|."""
        return (len(self.names) + 1) * float(self._differences.det().abs().log())

    def form(self, params: Params) -> Form:
        """The posterior over Φ; `params` have a leading dimension of 1."""
        return from_params({name: value[0] for name, value in params.items()})

    def draw(self, params: Params, draws: int) -> Draws:
        """θ from the guide, by torch's global generator."""
        return self.theta(self.form(params).draw(draws))

    def exact(self, params: Params) -> Draws | None:
        """Draws from the posterior itself, where a fit under a horseshoe has made some."""
        return self.theta(params[DRAWS][0]) if DRAWS in params else None

    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log density of the guide, (S,)."""
        return self.form(params).log_prob(self.phi(theta).flatten(1)) - self._log_volume

    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of the prior, (S,); of a horseshoe with all its scales integrated out."""
        phi = self.phi(theta)
        if self.model.prior != "horseshoe":
            return self.glm.prior.log_prob(phi) - self._log_volume
        h = self.horseshoe
        slabs, shares = h.slabs()
        log_tau = math.log(h.global_scale) + STEP * torch.arange(-10.0, 6.0, dtype=torch.float64)
        log_weight = torch.tensor([h.log_tau_density(t) for t in log_tau.tolist()]).double()
        log_weight = (log_weight - log_weight.logsumexp(0)).repeat_interleave(len(slabs))
        log_weight = log_weight + torch.tensor(shares, dtype=torch.float64).repeat(len(log_tau))
        slab = torch.tensor(slabs, dtype=torch.float64).repeat(len(log_tau))
        found = h.log_prob(phi[:, 1:], log_tau.repeat_interleave(len(slabs)), slab, log_weight)
        return self.glm.prior.intercept.log_prob(phi[:, :1]) + found - self._log_volume

    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """w_n log p(y_n | x_n, θ), (S, n); 0 for rows that lack the target or a predictor.

        w_n are the weights of the rows, not those of `class_weight`, which are part of the fit only.
        """
        phi = self.phi(theta)
        out = torch.zeros(len(phi), data.rows, dtype=torch.float64)
        weight = getattr(data, "weight", None)
        for at, Z, known in self.blocks(data):
            codes = data.values[at, self.design.target]
            use = known & ~np.isnan(codes)
            index = torch.from_numpy(np.flatnonzero(use) + at.start)
            if not len(index):
                continue
            y = torch.from_numpy(codes[use].astype(np.int64))
            rows = torch.from_numpy(Z[use])
            found = torch.cat(
                [
                    self.glm.log_likelihood(phi[s], rows, y)
                    for s in groups(len(phi), rows.shape[0] * self.glm.classes)
                ]
            )
            out[:, index] = found if weight is None else found * torch.from_numpy(weight[at][use].copy())
        return out

    def log_evidence(self, batch: Batch, theta: Draws) -> Tensor:
        """Log p(y | x, θ) of all rows that are used, with all weights, (S,)."""
        return self.glm.log_evidence(batch, self.phi(theta))

    def blocks(self, data: Dataset, size: int = BLOCK):
        """(slice, [1, Z] (m, p + 1), known (m,) bool) of all rows: `known` where no predictor is missing."""
        for lo in range(0, data.rows, size):
            Z = self.design.standardised(data.values[lo : lo + size])
            yield slice(lo, lo + len(Z)), Z, np.isfinite(Z.sum(1))

    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """`intercept` and `coefficient` in the user's units: log odds against the reference class."""
        alpha, beta = self.user(theta)
        coords: dict[str, Any] = {"predictor": list(self.names)}
        if len(self.levels) == 2:
            return {"intercept": ((), alpha[:, 0]), "coefficient": (("predictor",), beta[..., 0])}, coords
        coords["class"] = list(self.levels[1:])
        return {"intercept": (("class",), alpha), "coefficient": (("predictor", "class"), beta)}, coords

    def user(self, theta: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Intercepts (S, K) and coefficients (S, p, K) in the user's units: β = b/u, α − Σ β x̄."""
        sites = theta[NAME]
        beta = self.design.in_units(np.asarray(sites["coefficient"]))
        return np.asarray(sites["intercept"]) - np.einsum("spk,p->sk", beta, self.design.mean), beta

    def logits(self, theta: Draws, Z: np.ndarray) -> Tensor:
        """Linear predictors of the classes beyond the first, (S, m, K), for [1, Z] (m, p + 1)."""
        sites = theta[NAME]
        B = torch.cat([sites["intercept"].unsqueeze(1), sites["coefficient"]], 1)
        return torch.stack([B[..., k] @ torch.from_numpy(Z).mT for k in range(B.shape[-1])], -1)

    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """The rows with the target drawn anew, once a draw, (S, n, C); NaN where a predictor is missing."""
        out = np.repeat(np.asarray(data.values)[None], len(theta[NAME]["intercept"]), 0)
        for at, Z, known in self.blocks(data, 1_024):
            f = self.logits(theta, np.nan_to_num(Z))
            gumbel = -torch.log(-torch.log(torch.rand(*f.shape[:2], f.shape[2] + 1, dtype=torch.float64)))
            y = (torch.cat([torch.zeros_like(f[..., :1]), f], -1) + gumbel).argmax(-1).double().numpy()
            y[:, ~known] = np.nan
            out[:, at, self.design.target] = y
        return out
