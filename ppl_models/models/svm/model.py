"""Support vector machine: a pseudo-likelihood of the hinge, with a posterior.

    p(y, w ∣ x) ∝ Π_n exp(−2 max(0, 1 − y_n f_n)) N(w ∣ 0, a² I) N(b ∣ 0, intercept_scale²)
    f_n = b + wᵀ Φ(x_n),   y_n ∈ {−1, 1}

Φ are the features of a kernel over standardised predictors, through inducing points
(`ppl_models.regression.kernels`); 2a² is the C of a support vector machine. Of several classes each has such
an f against the rest. Probabilities are the normalised pair of pseudo-likelihoods, averaged over the
posterior,
with a slope and offset that were learned on rows left out in turn (Platt 1999); of several classes
normalised.

The guide is a Gaussian over (b, w) by natural gradients with expectations in closed form, ℓ and a those of
the largest evidence lower bound (Polson & Scott 2011; Henao et al. 2014; Wenzel et al. 2017: see `hinge`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ppl_models.inference.settings import GaussianSettings, Training
from ppl_models.model import Model
from ppl_models.models.svm.fields import SVMFields

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Dataset, Schema
    from ppl_models.models.svm.bound import SVMBound


@dataclass(frozen=True)
class SVM(SVMFields, Model):
    """Bayesian support vector machine for a binary or categorical target.

    Example:
        >>> SVM(kernel="matern52").inducing
        256
        >>> SVM(kernel="poly")
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: kernel must be linear, rbf, matern32 or matern52, got 'poly'
    """

    name: ClassVar[str] = "svm"
    summary: ClassVar[str] = "support vector machine: the class of a row given its other columns, by a kernel"
    example: ClassVar[str] = " --target y --kernel rbf"
    settings: ClassVar[type[Training]] = GaussianSettings

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The target is what the left side of the formula names, if it is not given; groups are labels."""
        from ppl_models.regression.groups import reading

        return reading(self.formula, options)

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """One."""
        from ppl_models.models.svm.bound import SVMBound

        return (SVMBound,)

    def bind(self, schema: "Schema") -> "SVMBound":
        """The machine over the schema's columns; it learns its design from the rows."""
        from ppl_models.models.svm.bound import SVMBound

        return SVMBound(self, schema)  # type: ignore[arg-type]

    def model(self, data: "Dataset") -> None:
        """Sites `intercept` (K), `coefficient` (M, K) of the features, and the factor `y`."""
        import pyro
        import pyro.distributions as dist
        import torch

        bound = self.bind(data.schema).settled(data)
        assert bound.tuned is not None
        K, p = bound.response.outputs, len(bound.names)
        zero = torch.zeros(K, dtype=torch.float64)
        alpha = pyro.sample("intercept", dist.Normal(zero, self.intercept_scale).to_event(1))
        w = pyro.sample("coefficient", dist.Normal(zero.expand(p, K), bound.tuned.amplitude).to_event(2))
        rows = bound.dataset_batch(data).whole()
        f = alpha + rows.Z[:, 1:] @ w
        with pyro.plate("rows", len(rows.y)):
            pyro.factor(
                "y", bound.response.log_prob(f, rows.y) * (1.0 if rows.weight is None else rows.weight)
            )

    def guide(self, data: "Dataset", fit: Any) -> None:
        """The posterior over all numbers at once, at an auxiliary site, then each site as part of it."""
        import pyro
        import pyro.distributions as dist

        from ppl_models.regression.guide import PointsOf

        bound = self.bind(data.schema).settled(data)
        value = pyro.sample(
            "parameters", PointsOf(bound, bound.form(fit.params)), infer={"is_auxiliary": True}
        )
        for name, site in bound.theta(value[None])["regression"].items():
            pyro.sample(name, dist.Delta(site[0], event_dim=site.dim() - 1))
