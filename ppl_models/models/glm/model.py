"""Generalised linear model: y_n ∣ x_n ~ family(link⁻¹(α + Σ_j β_j z_nj + offset_n), ψ).

    α ~ N(0, intercept_scale²),  β_j ~ prior_j,  ψ ~ its own prior,  u_tg ~ N(0, τ_t²),  τ_t ~ half-normal

    family              target                link                        ψ
    normal              a number              identity, log               σ
    student_t           with outliers         identity                    σ, ν
    poisson             a count               log, softplus               –
    negative_binomial   a spread-out count    log, softplus               dispersion α: variance μ + αμ²
    binomial            successes of trials   logit, probit, cloglog      –
    gamma               a positive number     log                         shape α: variance μ²/α
    ordinal             ordered levels        logit, probit               cutpoints

z are standardised predictors, and of the identity link the target is in units of its sd, so that
`prior_scale` 2.5 is weakly informative there too (Gelman, Hill & Vehtari 2020, Regression and Other Stories,
ch. 9; McCullagh & Nelder 1989, Generalized Linear Models). `(1 + x | g)` in the formula lets coefficients
vary by group. Nothing is said about x.

The guide is a Gaussian over the coefficients given ψ and τ, by natural gradients, with ψ and τ integrated out
on a grid (`ppl_models.regression.hyper`); under a horseshoe expectation propagation, at the best ψ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ppl_models.inference.settings import GaussianSettings, Training
from ppl_models.model import Model
from ppl_models.models.glm.fields import GLMFields

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Dataset, Schema
    from ppl_models.models.glm.bound import GLMBound


@dataclass(frozen=True)
class GLM(GLMFields, Model):
    """Bayesian regression of a number, a count, a share or an ordered label.

    Example:
        >>> GLM(family="poisson").prior_scale
        2.5
        >>> GLM(family="poison")
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: glm has no family 'poison'; did you mean poisson?
    """

    name: ClassVar[str] = "glm"
    summary: ClassVar[str] = "generalised linear model: a number, count or ordered label given other columns"
    example: ClassVar[str] = " --target y --family poisson"
    settings: ClassVar[type[Training]] = GaussianSettings

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The target is what the left side of the formula names, if it is not given; groups are labels."""
        from ppl_models.regression.groups import reading

        return reading(self.formula, options)

    def types(self, schema: "Schema") -> Mapping[str, str]:
        """A target is a number unless the family is of levels; so are offsets, exposures and trials."""
        target = getattr(schema, "target", None)
        numbers = [name for name in (self.offset, self.exposure, self.trials) if name in schema.names]
        found = dict.fromkeys(numbers, "continuous")
        if target is not None:
            found[target] = "categorical" if self.family == "ordinal" else "continuous"
        return found

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Numbers, and ordered labels."""
        from ppl_models.models.glm.bound import NumberBound, OrdinalBound

        return (NumberBound, OrdinalBound)

    def bind(self, schema: "Schema") -> "GLMBound":
        """The regression of the schema's target on its other columns; it learns its design from the rows."""
        from ppl_models.models.glm.bound import NumberBound, OrdinalBound

        return (OrdinalBound if self.family == "ordinal" else NumberBound)(self, schema)

    def model(self, data: "Dataset") -> None:
        """Sites `intercept`, `coefficient` (p), `shared` (ψ, unconstrained) and `y`."""
        import pyro
        import pyro.distributions as dist
        import torch

        from ppl_models.regression.guide import SharedPrior

        bound = self.bind(data.schema).settled(data)
        zero = torch.zeros(1, dtype=torch.float64)
        alpha = pyro.sample("intercept", dist.Normal(zero, self.intercept_scale).to_event(1))
        psi = zero[:0]
        if bound.shared:
            psi = pyro.sample("shared", SharedPrior(bound))
        scale = torch.cat(
            [bound.prior_scale, *(
                t.exp().expand(n) for t, n in zip(psi[bound.of_response :], bound.design.widths, strict=True)
            )]
        )[:, None]  # fmt: skip
        if self.prior == "student_t" and not bound.design.widths:
            b = pyro.sample("coefficient", dist.StudentT(self.prior_df, 0.0, scale).to_event(2))
        else:
            b = pyro.sample("coefficient", dist.Normal(torch.zeros_like(scale), scale).to_event(2))
        batch = bound.dataset_batch(data)
        rows = batch.whole()
        f = rows.predictor(alpha + rows.Z[:, 1:] @ b)[None]
        own = psi[None, : bound.of_response] if bound.of_response else None
        log_p = bound.response.log_prob(f, rows.y, own, rows.trials)[0]
        with pyro.plate("rows", len(batch)):
            weight = 1.0 if rows.weight is None else rows.weight
            pyro.factor("y", (log_p - bound.log_unit) * weight)

    def guide(self, data: "Dataset", fit: Any) -> None:
        """The posterior over all numbers at once, at an auxiliary site, then each site as part of it."""
        import pyro
        import pyro.distributions as dist

        from ppl_models.regression.guide import PointsOf

        bound = self.bind(data.schema).settled(data)
        value = pyro.sample(
            "parameters", PointsOf(bound, bound.form(fit.params)), infer={"is_auxiliary": True}
        )
        sites = bound.theta(value[None])["regression"]
        for name, site in sites.items():
            pyro.sample(name, dist.Delta(site[0], event_dim=site.dim() - 1))
