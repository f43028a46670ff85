"""Generative adversarial network: an implicit joint density, of which there are samples only.

    z_n ~ N(0, I_L),   y_n ~ Categorical(π),   x_n = G_θ(z_n, y_n, g_n)
    g_njk ~ Gumbel(0, 1),   a label x_nj = argmax_k (logits_jk(z_n, y_n) + g_njk)

so that labels are drawn from the softmax of their logits, and numbers are functions of z and y (Goodfellow
et al. 2014, Generative adversarial nets, NeurIPS, https://arxiv.org/abs/1406.2661). G is set against a critic
D by the relativistic pairing loss with zero-centred gradient penalties on real and generated rows (Huang,
Gokaslan, Kuleshov & Tompkin 2024, The GAN is dead; long live the GAN!, NeurIPS,
https://arxiv.org/abs/2501.05441): `ppl_models.inference.adversarial`. Neither loss says how good the samples
are, so that it stops by a two-sample test of rows that were held out.

x_n has no density that could be computed: there is no `score` and no `impute`. An encoder is trained
afterwards, on rows that G makes, to find the latents that make a row:

    q_φ(z_n | x_n, y_n) = N(μ_φ(x_n, y_n), diag σ_φ²(x_n, y_n))

Without a target there is no y; with one, rows are drawn given it.

Sites: `z`, `y`, `noise` (g), and the deterministic `x`, the row as the critic sees it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ppl_models.inference.settings import AdversarialSettings, Training
from ppl_models.model import Model
from ppl_models.models.gan.fields import GANFields

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Dataset, Schema
    from ppl_models.models.gan.bound import GANBound
    from ppl_models.models.gan.coding import Rows
    from ppl_models.models.gan.networks import Players


@dataclass(frozen=True)
class GAN(GANFields, Model):
    """Generative adversarial network: samples of any table or images, given a label with `target`.

    Example:
        >>> GAN(hidden="256,128").hidden
        (256, 128)
        >>> GAN(penalty=0)
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: penalty must be positive and finite, got 0
    """

    name: ClassVar[str] = "gan"
    summary: ClassVar[str] = "generative adversarial network: samples of any table or images, no density"
    settings: ClassVar[type[Training]] = AdversarialSettings

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """One form, with and without a target."""
        from ppl_models.models.gan.bound import GANBound

        return (GANBound,)

    def bind(self, schema: "Schema") -> "GANBound":
        """The networks over the columns of a schema."""
        from ppl_models.models.gan.bound import GANBound

        return GANBound(self, schema)

    def refer(self, data: "Dataset") -> "Schema":
        """The schema with the marginals of numbers; those of few different values are drawn among these."""
        from ppl_models.data.inside import with_marginals
        from ppl_models.models.gan.coding import few_values

        if data.schema.shape is not None:
            return data.schema
        numbers = [c.name for c in data.schema.columns if not c.labelled]
        few = [name for name in numbers if few_values(data.column(name), self.distinct) is not None]
        return with_marginals(data, self.marginals, frozenset(few))

    def model(self, data: "Dataset", fit: Any = None) -> None:
        """As many rows as the data has, with the generator of a fit; else with a new one."""
        net, rows = self._networks(data, fit)
        import pyro
        import pyro.distributions as dist

        with pyro.plate("rows", len(rows)):
            y = None
            if net.class_logits is not None:
                y = pyro.sample("y", dist.Categorical(logits=net.class_logits))
            zero = rows.x.new_zeros(len(rows), self.latent)
            z = pyro.sample("z", dist.Normal(zero, zero + 1).to_event(1))
            g = rows.x.new_zeros(len(rows), net.chosen)
            if net.chosen:
                g = pyro.sample("noise", dist.Gumbel(g, g + 1).to_event(1))
            pyro.deterministic("x", net.generate(z, y, g), event_dim=1)

    def guide(self, data: "Dataset", fit: Any = None) -> None:
        """q(z | x, y) by the encoder of a fit, for rows whose label is known; the rest as in the model."""
        net, rows = self._networks(data, fit)
        import pyro
        import pyro.distributions as dist

        with pyro.plate("rows", len(rows)):
            y = rows.y
            if y is not None and net.class_logits is not None:
                pyro.sample("y", dist.Delta(y.clamp(min=0)))
            mean, log_var = net.posterior(rows.x, y, rows.seen)
            pyro.sample("z", dist.Normal(mean, (0.5 * log_var).exp()).to_event(1))
            g = rows.x.new_zeros(len(rows), net.chosen)
            if net.chosen:
                pyro.sample("noise", dist.Gumbel(g, g + 1).to_event(1))

    def _networks(self, data: "Dataset", fit: Any) -> "tuple[Players, Rows]":
        bound = self.bind(data.schema).prepare(data) if fit is None else fit.bound
        return bound.networks(None if fit is None else fit.params), bound.rows(data)
