"""Logistic regression, binary or with several classes.

    α_c ~ N(0, intercept_scale² M),   b_j ~ prior(scale² M),   j = 1 … p
    y_n | x_n ~ Categorical(softmax(0, f_n1, …, f_n,C−1)),   f_nc = α_c + z_nᵀ b_c,   z_nj = (x_nj − x̄_j)/u_j

Coefficients are differences from the first class, so that C = 2 is y_n ~ Bernoulli(σ(α + z_nᵀ b)). Their
prior covariance M = (I + 11ᵀ)/2 over the C − 1 differences is that of C symmetric coefficients: it does not
depend on which class is the reference, and is 1 for C = 2. Nothing is said about x.

Priors are of a standard deviation of a number (u_j = s_j), and of the difference between levels of a label
(u_j = 1; `ppl_models.regression.design`): normal with scale 2.5 is weakly informative (Gelman,
Jakulin, Pittau & Su 2008, A weakly informative default prior distribution for logistic and other regression
models, Annals of Applied Statistics 2, https://doi.org/10.1214/08-AOAS191). In the user's units
β_jc = b_jc / u_j (of numbers) and the intercept is α_c − Σ_j β_jc x̄_j.

The guide is a Gaussian with full covariance, by natural gradients and quadrature; under a horseshoe a mixture
of Gaussians over its scales, by expectation propagation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ppl_models.inference.settings import GaussianSettings, Training
from ppl_models.model import Model
from ppl_models.regression.fields import ClassFields, RegressionFields

if TYPE_CHECKING:
    from torch import Tensor

    from ppl_models.bound import Bound
    from ppl_models.data import Dataset, Schema
    from ppl_models.models.logistic.bound import LogisticBound
    from ppl_models.regression.bound import Regression


@dataclass(frozen=True)
class Logistic(ClassFields, RegressionFields, Model):
    """Bayesian logistic regression of a binary or categorical target.

    Example:
        >>> Logistic(prior="student_t").prior_scale
        2.5
        >>> Logistic(prior_scale=-1.0)
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: prior_scale must be positive and finite, got -1.0
    """

    name: ClassVar[str] = "logistic"
    summary: ClassVar[str] = "logistic regression: the class of a row given its other columns"
    example: ClassVar[str] = " --target y"
    settings: ClassVar[type[Training]] = GaussianSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_classes()

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The target is what the left side of the formula names, if it is not given; groups are labels."""
        from ppl_models.regression.groups import reading

        return reading(self.formula, options)

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """One."""
        from ppl_models.models.logistic.bound import LogisticBound

        return (LogisticBound,)

    def bind(self, schema: "Schema") -> "LogisticBound":
        """The regression of the schema's target on its other columns; it learns its design from the rows."""
        from ppl_models.models.logistic.bound import LogisticBound

        return LogisticBound(self, schema)

    def model(self, data: "Dataset") -> None:
        """Sites `intercept` (C−1), `coefficient` (p, C−1) in the units of the design, and `y`.

        Weights that are not counts have Kish's effective size in it, and not the sandwich of a fit.

        Under a horseshoe the scales are sites as well: `global_scale`, `slab` (c²) and `local_scale` (p).
        """
        import pyro
        import pyro.distributions as dist
        import torch

        bound = self.bind(data.schema).settled(data)
        K, p = len(bound.levels) - 1, len(bound.names)
        M = (torch.eye(K) + torch.ones(K, K)).double() / 2
        root = torch.linalg.cholesky(M)
        zero = torch.zeros(K, dtype=torch.float64)
        alpha = pyro.sample(
            "intercept", dist.MultivariateNormal(zero, scale_tril=self.intercept_scale * root)
        )
        scale = self._scale(bound)[:, None, None] * root
        if self.prior == "student_t":
            df = torch.full((p,), self.prior_df, dtype=torch.float64)
            prior = dist.MultivariateStudentT(df, zero.expand(p, K), scale)
        else:
            prior = dist.MultivariateNormal(zero.expand(p, K), scale_tril=scale)
        b = pyro.sample("coefficient", prior.to_event(1))
        batch = bound.dataset_batch(data)
        with pyro.plate("rows", len(batch)):
            rows = batch.whole()
            f = alpha + rows.Z[:, 1:] @ b
            logits = torch.cat([torch.zeros_like(f[:, :1]), f], -1)
            with pyro.poutine.scale(scale=1.0 if rows.weight is None else rows.weight):
                pyro.sample("y", dist.Categorical(logits=logits), obs=rows.y)

    def _scale(self, bound: "Regression") -> "Tensor":
        """The scale of each coefficient, (p,); drawn, under a horseshoe."""
        import pyro
        import pyro.distributions as dist
        import torch

        if self.prior != "horseshoe":
            return bound.prior_scale
        h = bound.horseshoe
        one = torch.ones((), dtype=torch.float64)
        tau = pyro.sample("global_scale", dist.HalfCauchy(h.global_scale * one))
        a = h.slab_df / 2
        slab = pyro.sample("slab", dist.InverseGamma(a * one, a * h.slab_scale**2 * one))
        local = pyro.sample("local_scale", dist.HalfCauchy(one.expand(len(bound.names))).to_event(1))
        return bound.scale * tau * local * (slab / (slab + tau**2 * local**2)).sqrt()

    def guide(self, data: "Dataset", fit: Any) -> None:
        """The posterior over all coefficients at once, at an auxiliary site, then each site as part of it.

        Under a horseshoe the scales follow, as log-normals: rough, and only there to complete the program.
        """
        import pyro
        import pyro.distributions as dist

        from ppl_models.regression.forms import Mixture
        from ppl_models.regression.guide import PosteriorOf, scales

        bound = self.bind(data.schema).settled(data)
        form = bound.form(fit.params)
        value = pyro.sample("parameters", PosteriorOf(bound, form), infer={"is_auxiliary": True})
        pyro.sample("intercept", dist.Delta(value[0], event_dim=1))
        pyro.sample("coefficient", dist.Delta(value[1:], event_dim=2))
        if isinstance(form, Mixture):
            theta = {"regression": {"intercept": value[None, 0], "coefficient": value[None, 1:]}}
            for site, approximation in scales(bound, form, bound.phi(theta)[0]).items():
                pyro.sample(site, approximation)
