"""Variational autoencoder: continuous latents, and a likelihood of every column by a neural network.

    z_n ~ N(0, I_L),   x_n | z_n ~ Π_j likelihood_j(x_nj | decoder_θ(z_n))
    q_φ(z_n | x_n) = N(μ_φ(x_n), diag σ_φ²(x_n)),   μ, log σ² = encoder_φ(x_n)

θ and φ raise Σ_n E_q[log p_θ(x_n | z_n)] − KL(q_φ(z_n | x_n) ‖ p(z_n)) (Kingma & Welling 2014,
Auto-encoding variational Bayes, ICLR, https://arxiv.org/abs/1312.6114); they are point estimates, the
posterior is that of each row's latents. A missing cell is left out of its row's density, and the encoder is
told (Mattei & Frellsen 2019, MIWAE, ICML, https://arxiv.org/abs/1812.02633).

With a target y the model is M2 of Kingma, Rezende, Mohamed & Welling (2014, Semi-supervised learning with
deep generative models, NeurIPS, https://arxiv.org/abs/1406.5298):

    y_n ~ Categorical(π),   z_n ~ N(0, I),   x_n | y_n, z_n ~ likelihood(decoder_θ(y_n, z_n))
    q(z_n | x_n, y_n) = N(encoder_φ(x_n, y_n)),   q(y_n | x_n) = Categorical(classifier_φ(x_n))

Rows may lack their label: both its values count then, by q(y_n | x_n).

Sites: `z`, and `x_FAMILY` for the columns of a family; with a target `y`, `z` and `x` of labelled rows, and
of the others with `_unlabelled` appended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ppl_models.families.choose import explicit, kinds
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.model import Model
from ppl_models.models.vae.fields import VAEFields

if TYPE_CHECKING:
    from torch import Tensor

    from ppl_models.bound import Bound
    from ppl_models.data import Dataset, Schema
    from ppl_models.models.vae.bound import LabelledVAEBound, VAEBound
    from ppl_models.models.vae.networks import Networks
    from ppl_models.networks.encode import Rows


@dataclass(frozen=True)
class VAE(VAEFields, Model):
    """Variational autoencoder of the rows of a table, or of images; with `target`, a classifier.

    Example:
        >>> VAE(latent=20, hidden=[400, 200]).hidden
        (400, 200)
        >>> VAE(hidden="400,x")
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: hidden must be whole numbers such as 400,400, got '400,x'
    """

    name: ClassVar[str] = "vae"
    summary: ClassVar[str] = (
        "variational autoencoder: continuous features, densities and samples of any table or images"
    )
    settings: ClassVar[type[Training]] = NetworkSettings

    def types(self, schema: "Schema") -> Mapping[str, str]:
        """Label-like families want their columns as levels, Poisson as counts."""
        return kinds("likelihood", self.likelihood, schema)

    def refer(self, data: "Dataset") -> "Schema":
        """With what each column is to be inside; pixels stay as they are."""
        from ppl_models.data.inside import with_marginals

        schema = data.schema
        if schema.shape is not None:
            return schema
        return with_marginals(data, self.marginals, explicit(self.likelihood, schema))

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Without and with a target."""
        from ppl_models.models.vae.bound import LabelledVAEBound, VAEBound

        return VAEBound, LabelledVAEBound

    def bind(self, schema: "Schema") -> "VAEBound | LabelledVAEBound":
        """The networks over the columns of a schema."""
        from ppl_models.models.vae.bound import LabelledVAEBound, VAEBound

        return (VAEBound if schema.target is None else LabelledVAEBound)(self, schema)

    def model(self, data: "Dataset", fit: Any = None) -> None:
        """The joint density, with the decoder of a fit; else with a new decoder, which Pyro can train."""
        net, rows = self._networks(data, fit)
        import pyro
        import pyro.distributions as dist

        for suffix, some in _parts(rows):
            with pyro.plate(f"rows{suffix}", len(some)):
                label = None
                if some.y is not None:
                    known = None if suffix else some.y
                    y = pyro.sample(f"y{suffix}", dist.Categorical(logits=net.log_prior_y()), obs=known)
                    label = net.one_hot(y)
                zero = some.x.new_zeros(len(some), self.latent)
                z = pyro.sample(f"z{suffix}", dist.Normal(zero, zero + 1).to_event(1))
                out = net.decoder(z, label)
                for f, o, u, s in net.likelihood.parts(out, some.x, some.seen):
                    p = f.distribution(o)
                    p = (p if s is None else p.mask(s)).to_event(1)
                    pyro.sample(f"x_{f.name}{suffix}", p, obs=f.observed(u))

    def guide(self, data: "Dataset", fit: Any = None) -> None:
        """q(z | x) with the encoder of a fit; of rows without a label q(y | x) q(z | x, y), y enumerated."""
        net, rows = self._networks(data, fit)
        import pyro
        import pyro.distributions as dist

        for suffix, some in _parts(rows):
            features = net.likelihood.features(some.x, some.seen)
            with pyro.plate(f"rows{suffix}", len(some)):
                label = None
                if some.y is not None:
                    y = some.y
                    if suffix:
                        q = dist.Categorical(logits=net.log_q_y(features))
                        y = pyro.sample(f"y{suffix}", q, infer={"enumerate": "parallel"})
                    label = net.one_hot(y)
                mean, log_var = net.posterior(features, label)
                pyro.sample(f"z{suffix}", dist.Normal(mean, (0.5 * log_var).exp()).to_event(1))

    def _networks(self, data: "Dataset", fit: Any) -> "tuple[Networks, Rows]":
        """In double precision, as Pyro sums over labels in one type of number."""
        import pyro

        bound = self.bind(data.schema) if fit is None else fit.bound
        rows = bound.rows(data)
        rows = replace(rows, x=rows.x.double())
        if fit is not None:
            return bound.networks(fit.params).double(), rows
        net: Any = pyro.module("vae", bound.networks().double(), update_module_params=True)
        return net, rows


def _parts(rows: "Rows") -> "list[tuple[str, Rows]]":
    """Rows with a label and rows without, with what their sites end in; all rows without a target."""
    if rows.y is None:
        return [("", rows)]

    def those(which: "Tensor") -> "Rows":
        return rows.at(which.nonzero().squeeze(-1))

    found = [("", those(rows.y >= 0)), ("_unlabelled", those(rows.y < 0))]
    return [(suffix, some) for suffix, some in found if len(some)]
