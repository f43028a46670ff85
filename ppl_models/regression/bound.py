"""A logistic regression over the columns of a table: its density, and draws from its posterior."""

import math
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import plural
from ppl_models.distributed import Share
from ppl_models.draws import Draws, Params, Variables, groups
from ppl_models.errors import UsageError
from ppl_models.regression import design as designs
from ppl_models.regression.design import BLOCK, Beside, Block, Design
from ppl_models.regression.ep import STEP
from ppl_models.regression.fields import RegressionFields
from ppl_models.regression.forms import CENTRE, DRAWS, KERNEL, MAP, Form, from_params
from ppl_models.regression.glm import GLM, squares
from ppl_models.regression.groups import GroupCoding, GroupPrior, Term
from ppl_models.regression.horseshoe import Horseshoe, global_scale
from ppl_models.regression.kernels import Tuned, retuned, spanned, with_kernel
from ppl_models.regression.priors import NormalPrior, Prior, Stacked, StudentPrior, WithIntercept
from ppl_models.regression.responses import Categorical, NumberResponse, OneAgainstRest, Response
from ppl_models.regression.rows import Batch, all_rows, held
from ppl_models.regression.sandwich import Adjustment
from ppl_models.regression.spread import expected, share_of

NAME = "regression"
"""The factor that all parameters belong to."""


@dataclass(eq=False)
class Regression:
    """A regression over the columns of a schema.

    Which columns the matrix has, and their means and standard deviations, follow from the rows of the fit:
    `prepare` it with them before anything else. θ is
    `{"regression": {"intercept": (S, K), "coefficient": (S, p, K)}}`, of classes differences from the first,
    of standardised columns; where the response has numbers of its own, or coefficients vary by group, ψ
    (S, q) as `shared` beside them. Everything is computed on the CPU: see `Bound.on_device`.
    """

    model: RegressionFields
    schema: Schema
    _design: Design | None = None
    adjust: Adjustment | None = None
    tuned: Tuned | None = None

    def learned(self, params: Params) -> dict[str, Any]:
        """What the likelihood was adjusted by, with weights that are not counts, and the kernel."""
        found: dict[str, Any] = {}
        if MAP in params:
            found["adjust"] = Adjustment(params[CENTRE][0], params[MAP][0])
        if KERNEL in params:
            tuned = found["tuned"] = Tuned.of(params[KERNEL][0].tolist())
            found |= {"length_scale": tuned.length_scale, "amplitude": tuned.amplitude}
        return found

    def at(self, learned: Mapping[str, Any]) -> Self:
        """The same with that."""
        if not learned:
            return self
        found = copy(self)
        found.adjust = learned.get("adjust", self.adjust)
        if (tuned := learned.get("tuned")) is not None:
            found.tuned = tuned
            found._design = retuned(self.design, tuned)
        for made in ("glm", "scale", "group_prior"):
            found.__dict__.pop(made, None)
        return found

    def prepare(self, data: Dataset) -> "Regression":
        """Fix the design by the rows of the fit; once done, further calls change nothing."""
        if self._design is None:
            m = self.model
            self._design = designs.build(
                self.schema, m.formula, data, m.missing_rows, mixed=m.prior != "horseshoe",
                beside=self.beside(), classes=self.of_classes,
            )  # fmt: skip
            self._design = self._with_kernel(self._design, data)
        return self

    def _with_kernel(self, design: Design, data: Dataset) -> Design:
        m = self.model
        if m.kernel == "linear":
            self.tuned = Tuned(1.0, m.amplitude or 1.0) if m.learns_amplitude else None
            return design
        if design.widths:
            raise UsageError("a kernel and coefficients that vary by group cannot be had together")
        self.tuned = Tuned(m.length_scale or 1.0, m.amplitude or 2.0)
        return with_kernel(design, data, m.kernel, m.inducing, self.tuned.length_scale)

    def settled(self, data: Dataset) -> Self:
        """Prepared, and with only those inducing points of a kernel that is known that add something."""
        self.prepare(data)
        m = self.model
        if self.tuned is None or m.length_scale is None or m.amplitude is None:
            return self
        return self.at({"tuned": spanned(self.design, self.tuned)})

    def essence(self) -> dict[str, np.ndarray] | None:
        """What the design is made from; None with a formula, which is coded by the rows of the fit."""
        if self.model.formula is not None or self.tuned is not None:
            return None
        return self.design.essence()

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """The design from these."""
        self._design = designs.recalled(self.schema, essence, self.beside(), self.of_classes)
        return self

    @property
    def balanced(self) -> bool:
        """Whether every class weighs the same in total."""
        return False

    @property
    def of_classes(self) -> bool:
        """Whether the target is one of some classes, rather than a number or an ordered label."""
        return True

    def beside(self) -> Beside:
        """Columns of the table that are no predictors."""
        return Beside()

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

    @cached_property
    def response(self) -> Response:
        """p(y | φ): classes, unless a subclass says otherwise."""
        return Categorical(len(self.levels))

    @property
    def terms(self) -> tuple[Term, ...]:
        """What varies by group."""
        return self.design.terms

    @cached_property
    def group_prior(self) -> GroupPrior:
        """The prior of what varies by group."""
        return GroupPrior(self.design.widths, self.model.group_scale)

    @property
    def population(self) -> int:
        """The number of columns of the design whose coefficients are the same for all groups."""
        return len(self.design.names) - sum(self.design.widths)

    @property
    def of_response(self) -> int:
        """Numbers of ψ that are the response's own; the others are log τ."""
        return self.response.parameters if isinstance(self.response, NumberResponse) else 0

    @property
    def shared(self) -> int:
        """q, the length of ψ."""
        return self.of_response + len(self.design.widths)

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
        """(p₀,) what a prior scale is multiplied with, in standardised units: 1, or u_j without autoscale."""
        if self.model.autoscale:
            return torch.ones(self.population, dtype=torch.float64)
        unit = self.response.unit if isinstance(self.response, NumberResponse) else 1.0
        return torch.from_numpy(self.design.unit[: self.population] / unit)

    @property
    def prior_scale(self) -> Tensor:
        """(p₀,) of the prior of coefficients: a kernel's amplitude; under a horseshoe that of the slab."""
        if self.tuned is not None:
            return self.tuned.amplitude * torch.ones(self.population, dtype=torch.float64)
        m = self.model
        return (m.slab_scale if m.prior == "horseshoe" else m.prior_scale) * self.scale

    @cached_property
    def horseshoe(self) -> Horseshoe:
        """The horseshoe prior of these columns."""
        tau = global_scale(len(self.names), self.design.weight, self.model.expected_nonzero)
        return Horseshoe(self.scale, tau, self.model.slab_scale)

    @cached_property
    def glm(self) -> GLM:
        """The density at ψ's start. Under a horseshoe its prior is that of the intercept, and of a slab."""
        prior = self._prior(torch.zeros(len(self.design.widths)))
        return GLM(self.response, len(self.names) + 1, prior, self.adjust)

    def _prior(self, log_tau: Tensor) -> WithIntercept:
        m = self.model
        intercept = NormalPrior(torch.tensor([m.intercept_scale], dtype=torch.float64))
        predictors: Prior
        if m.prior == "student_t":
            predictors = StudentPrior(self.prior_scale, m.prior_df)
        else:
            predictors = NormalPrior(self.prior_scale)
        if widths := self.design.widths:
            taus = [NormalPrior(t.exp().double().expand(n)) for t, n in zip(log_tau, widths, strict=True)]
            predictors = Stacked((predictors, *taus), (self.population, *widths))
        return WithIntercept(intercept, predictors)

    def glm_at(self, psi: Tensor) -> GLM:
        """The density given ψ (q,)."""
        response = self.response
        if isinstance(response, NumberResponse):
            response = response.at(psi[: self.of_response])
        return self.glm.at(response, self._prior(psi[self.of_response :]))

    def start(self) -> Tensor:
        """ψ (q,) to begin with."""
        own = self.response.psi if isinstance(self.response, NumberResponse) else torch.zeros(0)
        return torch.cat([own, torch.full((len(self.design.widths),), math.log(0.5))]).to(torch.float64)

    def log_prior_shared(self, psi: Tensor) -> Tensor:
        """Log p(ψ), (S,), for ψ (S, q)."""
        total = self.group_prior.log_prior(psi[:, self.of_response :])
        if isinstance(self.response, NumberResponse):
            total = total + self.response.log_prior(psi[:, : self.of_response])
        return total

    def expected(self, batch: Batch, loc: Tensor, covariance: Tensor, psi: Tensor) -> Tensor:
        """E_q[log p(y, Φ | ψ)], without what ψ does not change; differentiable in ψ.

        Args:
            batch: all rows.
            loc: of q = N(loc, covariance), (d,).
            covariance: (d, d).
            psi: (q,).
        """
        p1, K, response = len(self.names) + 1, self.response.outputs, self.response
        B, sigma = loc.reshape(p1, K), covariance.reshape(p1, K, p1, K)
        total = psi.new_zeros(())
        if isinstance(response, NumberResponse) and response.parameters:
            own = psi[: self.of_response]
            square = squares(batch, B[:, 0], sigma[:, 0, :, 0]) if response.linear_normal else None
            if square is not None:
                total = -batch.gram.count * psi[0] - 0.5 * (-2 * psi[0]).exp() * square
            if square is None and batch.shares is None:
                total = expected(self.glm, batch, B, sigma, own) * batch.scale
            elif square is None and batch.shares is not None:
                given = {"B": B, "sigma": sigma, "psi": psi.detach()[: self.of_response]}
                found = batch.shares.sum("expected", given)
                step = psi[: self.of_response] - given["psi"]  # 0, through which the gradient goes
                total = batch.scale * (found["value"] + found["gradient"] @ step)
        at = torch.arange(p1)
        square = (B**2).sum(1) + sigma[at, :, at, :].diagonal(dim1=-1, dim2=-2).sum(-1)
        for t, part in enumerate(square[1 + self.population :].split(self.design.widths)):
            log_tau = psi[self.of_response + t]
            total = total - 0.5 * part.sum() * (-2 * log_tau).exp() - len(part) * K * log_tau
        return total

    @property
    def parameters(self) -> int:
        """The number of coefficients, (p + 1) K, and of ψ."""
        return self.glm.dimension + self.shared

    def matrices(self) -> int:
        """Bytes of some d × d matrices, and of the rows of a few blocks."""
        p = len(self.names) if self._design is not None else self._columns_at_most
        d = (p + 1) * max(len(self.levels) - 1, 1)  # numbers have no levels
        return 8 * (6 * min(d, 2_000) ** 2 + 8 * BLOCK * (p + 1))

    @property
    def _columns_at_most(self) -> int:
        return sum(max(len(c.levels) - 1, 1) for c in self.schema.columns)

    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Not known from the schema alone."""
        return None

    def dataset_batch(self, data: Dataset, device: str = "cpu") -> Batch:
        """The rows of the fit, in blocks."""
        return all_rows(self.prepare(data).design, data, self.balanced)

    # Rows that lie with several processes

    def deal(self, data: Dataset, size: int) -> Iterator[dict[str, Tensor]]:
        """[1, Z], targets and the like of each rank in turn, about as many rows each.

        Raises:
            UsageError: there are fewer rows than ranks, or the likelihood is not that of rows alone.
        """
        batch = self.dataset_batch(data)
        if len(batch) < size:
            raise UsageError(f"{data.source}: {len(batch)} rows cannot be shared by {size} processes")
        if (
            self.model.prior == "horseshoe"
            or self.tuned is not None
            or isinstance(self.response, OneAgainstRest)
        ):
            raise UsageError(
                "horseshoes, kernels and support vector machines are fitted by one process; leave "
                "--workers out, and of Dask fit data.compute()"
            )
        response = {}
        if isinstance(own := self.response, NumberResponse):
            response["response"] = torch.cat(
                [torch.tensor([own.shift, own.unit], dtype=own.psi.dtype), own.psi]
            )
        for block in batch.parts(size):
            yield {n: v for n, v in block._asdict().items() if v is not None} | response

    def share(self, rows: Mapping[str, Tensor]) -> Share:
        """Log likelihood, gradient and Hessian of some rows, and what else is summed over them."""
        parts = dict(rows)
        response = self.response_of(parts.pop("response", torch.zeros(0)))
        block = Block(**{name: parts.get(name) for name in Block._fields})  # type: ignore[arg-type]
        return share_of(response, held(block))

    def response_of(self, numbers: Tensor) -> Response:
        """The response that another process has, from its `shift`, `unit` and ψ; classes have none."""
        return Categorical(len(self.levels))

    # Between θ and Φ

    @cached_property
    def _differences(self) -> Tensor:
        """R, (K, K): differences from the reference class are R φ; of a number, 1."""
        if not isinstance(self.response, Categorical):
            return torch.eye(self.response.outputs, dtype=torch.float64)
        A = self.response.A
        return A[1:] - A[0]

    def theta(self, phi: Tensor) -> Draws:
        """θ of points (S, d + q): Φ row by row, and ψ."""
        d = self.glm.dimension
        B = phi[:, :d].reshape(len(phi), -1, self.response.outputs) @ self._differences.mT
        shared = {"shared": phi[:, d:]} if self.shared else {}
        return {NAME: {"intercept": B[:, 0], "coefficient": B[:, 1:], **shared}}

    def phi(self, theta: Draws) -> Tensor:
        """Φ (S, p + 1, K) of θ."""
        sites = theta[NAME]
        B = torch.cat([sites["intercept"].unsqueeze(1), sites["coefficient"]], 1).to(torch.float64)
        return torch.linalg.solve(self._differences, B.mT).mT

    def psi(self, theta: Draws) -> Tensor | None:
        """ψ (S, q) of θ; None where there is none."""
        return theta[NAME].get("shared") if self.shared else None

    def points(self, theta: Draws) -> Tensor:
        """(S, d + q): the inverse of `theta`."""
        phi, psi = self.phi(theta).flatten(1), self.psi(theta)
        return phi if psi is None else torch.cat([phi, psi.to(phi)], 1)

    def response_psi(self, theta: Draws) -> Tensor:
        """ψ of the response alone, (S, q)."""
        psi = self.psi(theta)
        return (
            torch.zeros(len(theta[NAME]["intercept"]), 0).double()
            if psi is None
            else psi[:, : self.of_response]
        )

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
        return self.form(params).log_prob(self.points(theta)) - self._log_volume

    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of the prior, (S,); of a horseshoe with all its scales integrated out."""
        phi, psi = self.phi(theta), self.psi(theta)
        of_psi = phi.new_zeros(()) if psi is None else self.log_prior_shared(psi)
        if self.model.prior != "horseshoe":
            return self.log_prior_given(phi, psi) + of_psi - self._log_volume
        h = self.horseshoe
        slabs, shares = h.slabs()
        log_tau = math.log(h.global_scale) + STEP * torch.arange(-10.0, 6.0, dtype=torch.float64)
        log_weight = torch.tensor([h.log_tau_density(t) for t in log_tau.tolist()]).double()
        log_weight = (log_weight - log_weight.logsumexp(0)).repeat_interleave(len(slabs))
        log_weight = log_weight + torch.tensor(shares, dtype=torch.float64).repeat(len(log_tau))
        slab = torch.tensor(slabs, dtype=torch.float64).repeat(len(log_tau))
        found = h.log_prob(phi[:, 1:], log_tau.repeat_interleave(len(slabs)), slab, log_weight)
        return self.glm.prior.intercept.log_prob(phi[:, :1]) + found + of_psi - self._log_volume

    def log_prior_given(self, phi: Tensor, psi: Tensor | None) -> Tensor:
        """Log p(Φ | ψ), (S,), for Φ (S, p + 1, K) and ψ (S, q)."""
        if psi is None or not self.design.widths:
            return self.glm.prior.log_prob(phi)
        population = 1 + self.population
        predictors = self.glm.prior.predictors
        assert isinstance(predictors, Stacked)
        found = self.glm.prior.intercept.log_prob(phi[:, :1]) + predictors.parts[0].log_prob(
            phi[:, 1:population]
        )
        return found + self.group_prior.log_prob(phi[:, population:], psi[:, self.of_response :])

    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """w_n log p(y_n | x_n, θ), (S, n), in the target's units; NaN for rows that lack it or a predictor.

        w_n are the weights of the rows, not those of `class_weight`, which are part of the fit only.
        """
        phi, psi = self.phi(theta), self.response_psi(theta)
        out = torch.full((len(phi), data.rows), torch.nan, dtype=torch.float64)
        for at, block, index in self.observed(data):
            found = torch.cat(
                [
                    self.glm.log_likelihood(phi[s], block, psi[s] if psi.shape[1] else None)
                    for s in groups(len(phi), len(block.y) * self.response.width)
                ]
            )
            found = found - self.log_unit
            out[:, index + at.start] = found if block.weight is None else found * block.weight
        return out

    @property
    def log_unit(self) -> float:
        """Log of the unit that the target was divided by."""
        return math.log(self.response.unit) if isinstance(self.response, NumberResponse) else 0.0

    def observed(self, data: Dataset) -> Iterator[tuple[slice, Block, Tensor]]:
        """Rows that have the target and every predictor, in blocks: where, what, and which of these."""
        weight = getattr(data, "weight", None)
        for at, Z, known in self.blocks(data):
            cells = data.values[at]
            use = known & ~np.isnan(cells[:, self.design.target])
            if use.any():
                block = self.design.block(cells[use], Z[use], None if weight is None else weight[at][use])
                yield at, block, torch.from_numpy(np.flatnonzero(use))

    def log_evidence(self, batch: Batch, theta: Draws) -> Tensor:
        """Log p(y | x, θ) of all rows that are used, with all weights, (S,)."""
        psi = self.response_psi(theta)
        found = self.glm.log_evidence(batch, self.phi(theta), psi if psi.shape[1] else None)
        return found - self.log_unit * batch.weight_sum if self.log_unit else found

    def blocks(self, data: Dataset, size: int = BLOCK):
        """(slice, [1, Z] (m, p + 1), known (m,) bool) of all rows: `known` where no predictor is missing."""
        for lo in range(0, data.rows, size):
            Z = self.design.standardised(data.values[lo : lo + size])
            yield slice(lo, lo + len(Z)), Z, np.isfinite(Z.sum(1))

    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """`intercept` and `coefficient` in the user's units: log odds against the reference class.

        Where coefficients vary by group also `group_sd`, τ of each term, and those of each term, `1|school`.
        """
        alpha, beta = self.user(theta)
        p = self.population
        coords: dict[str, Any] = {"predictor": list(self.names[:p])}
        beyond: tuple[str, ...] = ()
        if len(self.levels) > 2 and isinstance(self.response, Categorical):
            coords["class"], beyond = list(self.levels[1:]), ("class",)
        else:
            alpha, beta = alpha[:, 0], beta[..., 0]
        found: Variables = {
            "intercept": (beyond, alpha),
            "coefficient": (("predictor", *beyond), beta[:, :p]),
        }
        if not p:
            del found["coefficient"], coords["predictor"]
        if self.design.widths:
            more, own = self._group_variables(theta, beta, beyond)
            found, coords = found | more, coords | own
        return found, coords

    def _group_variables(
        self, theta: Draws, beta: np.ndarray, beyond: tuple[str, ...]
    ) -> tuple[Variables, dict[str, Any]]:
        coding, psi = self.design.coding, self.psi(theta)
        assert isinstance(coding, GroupCoding)
        assert psi is not None
        tau = psi[:, self.of_response :].exp().numpy() * self.unit / [sd for _, sd in coding.moments]
        found: Variables = {"group_sd": (("term",), tau)}
        coords: dict[str, Any] = {"term": [term.name for term in self.terms]}
        at = self.population
        for term, levels, (_, sd) in zip(self.terms, coding.levels, coding.moments, strict=True):
            found[term.name] = ((term.group, *beyond), beta[:, at : at + len(levels)] / sd)
            coords[term.group] = [label for label, _ in levels]
            at += len(levels)
        return found, coords

    @property
    def unit(self) -> float:
        """What the target was divided by."""
        return self.response.unit if isinstance(self.response, NumberResponse) else 1.0

    def user(self, theta: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Intercepts (S, K) and coefficients (S, p, K) in the user's units: β = b/u, α − Σ β x̄."""
        sites = theta[NAME]
        beta = self.design.in_units(np.asarray(sites["coefficient"]))
        return np.asarray(sites["intercept"]) - np.einsum("spk,p->sk", beta, self.design.mean), beta

    def logits(self, theta: Draws, Z: np.ndarray, values: np.ndarray | None = None) -> Tensor:
        """Linear predictors (S, m, K): of the classes beyond the first, or of a number, standardised.

        Args:
            theta: draws of θ.
            Z: [1, Z] (m, p + 1).
            values: cells of the rows (m, C), which offsets and groups that were never seen follow from.
        """
        sites = theta[NAME]
        B = torch.cat([sites["intercept"].unsqueeze(1), sites["coefficient"]], 1)
        f = torch.stack([B[..., k] @ torch.from_numpy(Z).mT for k in range(B.shape[-1])], -1)
        if values is None:
            return f
        offset = self.design.beside.of(values)[0]
        f = f if offset is None else f + offset[:, None]
        return f + self._new_groups(theta, values, f) if self.design.widths else f

    def _new_groups(self, theta: Draws, values: np.ndarray, f: Tensor) -> Tensor:
        """Draws of what groups that were never seen add, each row's from the population: N(0, τ²)."""
        weights, psi = self.design.unknown(values), self.psi(theta)
        assert weights is not None
        assert psi is not None
        rows = np.flatnonzero(weights.any(1))
        added = torch.zeros_like(f)
        if len(rows):
            tau = psi[:, self.of_response :].exp()  # (S, T)
            u = torch.randn(len(f), len(rows), f.shape[-1], tau.shape[1], dtype=f.dtype)
            u = (u * tau[:, None, None] * torch.from_numpy(weights[rows])[:, None]).sum(-1)
            added[:, rows] = u @ self._differences.mT
        return added

    def outcomes(self, f: Tensor, theta: Draws) -> Tensor:
        """What is expected of linear predictors (S, m, K): probabilities of the classes, (S, m, C)."""
        return torch.cat([torch.zeros_like(f[..., :1]), f], -1).softmax(-1)
