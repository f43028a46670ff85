"""A VAE over the columns of a table: its networks, its rows, and what a run stores of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bound
from ppl_models.capabilities import NETWORKS, Completed, Fitted, Graph, Sampled
from ppl_models.checks import Check
from ppl_models.data import Dataset, Schema
from ppl_models.data.inside import Inside
from ppl_models.draws import Draws, Params, interval
from ppl_models.errors import UsageError
from ppl_models.families.choose import modelled
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.inference.stochastic import BATCH as STEP_ROWS
from ppl_models.inference.stochastic import train_gradient
from ppl_models.models.vae.checks import checks
from ppl_models.models.vae.completion import Block, cells_of, completed
from ppl_models.models.vae.fields import VAEFields
from ppl_models.models.vae.graph import graph
from ppl_models.models.vae.importance import BUDGET, Particles, particles
from ppl_models.models.vae.latents import ACTIVE, BLOCK, latents
from ppl_models.models.vae.networks import Networks
from ppl_models.models.vae.objective import VAETarget
from ppl_models.models.vae.posterior import groups
from ppl_models.networks.encode import Rows, encode
from ppl_models.networks.product import Product
from ppl_models.threads import PRODUCTS, threads_for

if TYPE_CHECKING:
    import xarray as xr

BATCH = 1_024
"""Rows a mini-batch for which working memory is counted."""

PARTICLES, GIVEN = 100, 5_000
"""Importance draws of each row if not given, and of the one row that others are drawn given, at least."""


@dataclass(frozen=True, eq=False)
class VAEDensity(Bound):
    """A VAE over the columns of a schema.

    What is learned are point estimates: θ of the decoder and φ of the encoder. The posterior is that of the
    latents of each row.

    Attributes:
        model: the hyperparameters.
        schema: the columns.
        particles: importance draws of the latents of each row; 100 if None.
    """

    model: VAEFields
    schema: Schema
    particles: int | None = None
    device: str = "cpu"
    exchangeable: bool = True

    def __post_init__(self) -> None:
        if not modelled(self.schema):
            raise UsageError("a VAE needs at least one column besides the target")
        _ = self._product, self.image  # refuse what cannot be described, before anything is done

    def to(self, device: str) -> Self:
        """The same, whose draws are made by networks on a device."""
        return replace(self, device=device)

    @property
    def describe(self) -> str:
        """Its size: `10 latents, mlp 400,400`."""
        kind, sizes = "mlp" if self.image is None else "conv", ",".join(map(str, self.model.hidden))
        return f"{self.model.latent} latent{'s' * (self.model.latent > 1)}, {kind} {sizes}"

    @property
    def target_index(self) -> int | None:
        """The position of the target in the schema, if there is one."""
        return None if self.schema.target is None else self.schema.names.index(self.schema.target)

    def labels(self) -> tuple[str, ...]:
        """Of the classes; none without a target."""
        at = self.target_index
        return () if at is None else self.schema.columns[at].levels

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Height, width and channels of a convolutional model.

        Raises:
            UsageError: if convolutions were asked for, and the rows are no images.
        """
        if self.model.network != "conv":
            return None
        shape, columns = self.schema.shape, [self.schema.columns[i] for i in modelled(self.schema)]
        if shape is None or any(c.labelled for c in columns) or np.prod(shape) != len(columns):
            raise UsageError(
                "network conv needs rows that are images, from an array of n × height × width (IDX, .npy, "
                ".npz) or a folder of PNG files; use --network mlp"
            )
        h, w, c = (*shape, 1)[:3]
        if min(h, w) < 4:
            raise UsageError(f"network conv needs images of at least 4 × 4 pixels, got {h} × {w}; use mlp")
        if len(Product(self.model.likelihood, self.schema).each) > 1:
            raise UsageError(
                "network conv needs one likelihood for all pixels; name one family in --likelihood"
            )
        return h, w, c

    def networks(self, params: Params | None = None, device: str | torch.device = "cpu") -> Networks:
        """New networks, by torch's global generator; or those with the weights that were learned.

        The latter leave the generator alone: weights that are known need no draws.
        """
        product = Product(self.model.likelihood, self.inside.schema)
        with torch.random.fork_rng(devices=[], enabled=params is not None):
            net = Networks(product, self.model.latent, self.model.hidden, len(self.labels()), self.image)
        if params is not None:
            net.load_state_dict({name: value[0] for name, value in params.items()})
            net.eval().requires_grad_(False)
        return net.to(device)

    def params(self, net: Networks) -> dict[str, Tensor]:
        """What `networks` restores: every weight with a leading dimension of 1."""
        return {name: value.detach().cpu().clone()[None] for name, value in net.named_parameters()}

    def rows(self, data: Dataset, device: str | torch.device = "cpu") -> Rows:
        """Rows of a data set as the networks take them."""
        return self._encoded(self.inside.dataset(data), device)

    def _encoded(self, inner: Dataset, device: str | torch.device = "cpu") -> Rows:
        """Rows that are inside already."""
        rows = encode(self._product, inner, self.target_index)
        if self.inside:
            rows = replace(rows, cells=torch.from_numpy(inner.values))
        return rows.to(device)

    @cached_property
    def inside(self) -> Inside:
        """Between the user's columns and those that the networks have."""
        return Inside(self.schema)

    @cached_property
    def _product(self) -> Product:
        return Product(self.model.likelihood, self.inside.schema)

    def target(self, data: Dataset, *, seed: int = 0, device: str | torch.device = "cpu") -> VAETarget:
        """The objective of a fit, with new networks: classes start at their frequencies (plus one)."""
        rows = self._encoded(self.inside.dataset(data, noise=True), device)
        net = self.networks(device=device)
        if rows.y is not None and net.class_logits is not None:
            counts = torch.bincount(rows.y[rows.y >= 0], minlength=net.classes) + 1.0
            net.class_logits.data.copy_((counts / counts.sum()).log())
        return VAETarget(self.model, self.inside.schema, net, rows, seed)

    def graph(self, draws: Draws) -> Graph:
        """Encoder and decoder: see `ppl_models.models.vae.graph`."""
        return graph(self, draws[NETWORKS])

    def net(self, draws: Draws, device: str | torch.device = "cpu") -> Networks:
        """The networks of a point estimate, S = 1."""
        return self.networks(draws[NETWORKS], device)

    def train(self, data: Dataset, settings: NetworkSettings, course: Course) -> Trained:
        """New networks by the gradient rule on mini-batches, stopped by held-out rows."""
        target = self.target(data, seed=settings.seed, device=settings.device)
        if settings.compile:
            target.loss = torch.compile(target.loss)
        with threads_for(target.products(settings.batch_size or STEP_ROWS), PRODUCTS):
            found = train_gradient(target, settings, course)
        if not self.inside:
            return found
        inner = self.inside.dataset(data, noise=True).values
        units = self.inside.log_slope(inner) + self.inside.entropy(inner)  # of the user's, by row
        elbo = found.elbo + float(units.sum() if data.weight is None else data.weight @ units)
        return replace(found, elbo=elbo, notes=(*found.notes, *self.inside.notes()))

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether latents are used, held-out rows fit as well, and the guide is close."""
        device, seed = fitted.settings.device, fitted.settings.seed
        net = self.networks(fitted.params, device)
        rows = self._encoded(self.inside.dataset(fitted.data, noise=True), device)
        return checks(VAETarget(self.model, self.inside.schema, net, rows, seed), seed)

    def groups(self, fitted: Fitted) -> "dict[str, xr.Dataset]":
        """The latents of the rows, for ArviZ."""
        return groups(fitted)

    def numbers(self, data: Dataset) -> int:
        """Of the latents and the cells of all rows."""
        return data.rows * (self.model.latent + len(self.schema.columns))

    def with_particles(self, number: int) -> Self:
        """The same with so many importance draws for each row."""
        return replace(self, particles=number)

    def _weighted(self, rows: Rows, draws: Draws) -> Iterator[Particles]:
        return particles(self.net(draws, rows.x.device), rows, self.particles or PARTICLES)

    def log_density(self, rows: Rows, draws: Draws) -> Tensor:
        """Log (1/K) Σ_k p(x_n, z_k)/q(z_k | x_n), (1, n), which closes in on log p(x_n) as K grows.

        Of a row with a label it is of the label as well.
        """
        return self.log_density_bounds(rows, draws)[1][None]

    def log_density_bounds(self, rows: Rows, draws: Draws) -> tuple[Tensor, Tensor]:
        """The bound by the guide, and the estimate by importance draws, of each row, (n,).

        Where rounded cells stand for bins, both are averages over these.
        """
        if rows.cells is None:
            return self._bounds(rows, draws)
        inner, each = rows.cells.cpu().numpy(), []
        for moved in self.inside.spread(inner):
            data = Dataset(moved, self.inside.schema, np.array([len(moved)]), ("",))
            own = replace(self._encoded(data, rows.x.device), y=rows.y, weight=rows.weight)
            units = torch.from_numpy(self.inside.log_slope(moved))
            each.append(torch.stack(self._bounds(own, draws)) + units)
        elbo, estimate = torch.stack(each, 1)  # (places, n) each
        return elbo.mean(0), estimate.logsumexp(0) - np.log(len(each))

    def _bounds(self, rows: Rows, draws: Draws) -> tuple[Tensor, Tensor]:
        """Of cells as they are inside."""
        found = torch.full((2, len(rows)), torch.nan, dtype=torch.float64)
        for p in self._weighted(rows, draws):
            found[:, p.index.cpu()] = torch.stack([p.elbo, p.log_density]).cpu()
        return found[0], found[1]

    def latents(self, rows: Rows, draws: Draws) -> dict[str, np.ndarray]:
        """Means `z_0` … and sds `z_0_sd` … of each latent given the row; labels are not looked at."""
        mean, sd, _ = latents(self.net(draws, rows.x.device), rows)
        cells = {f"z_{i}": mean[:, i] for i in range(mean.shape[1])}
        return cells | {f"z_{i}_sd": sd[:, i] for i in range(mean.shape[1])}

    def _cells(self, net: Networks, block: Block, drawn: np.ndarray) -> Completed:
        """A block's cells column by column of the schema, with expected values and their probabilities."""
        values = np.full((*drawn.shape[:2], len(self.inside.schema.columns)), np.nan)
        if drawn.size:
            values[:, :, net.likelihood.order] = drawn
        best: dict[int, np.ndarray] = {}
        sure: dict[int, np.ndarray] = {}
        for j, cells, probability in cells_of(net, block.expected, self.inside.schema):
            best[j] = cells
            if probability is not None:
                sure[j] = probability
        if self.inside:  # where it is transformed, an expected cell is not what is expected of the cell
            inner = np.full((len(block.index), values.shape[-1]), np.nan)
            for j, cells in best.items():
                inner[:, j] = cells
            own = range(self.inside.width)
            middle, changed = self.inside.decode(inner), self.inside.changed if drawn.size else ()
            best = {j: middle[:, j] for j in own if j in best and j not in changed}
            sure = {j: sure[j] for j in own if j in sure}
        return Completed(block.index, self.inside.decode(values), best, sure)

    def decode(self, rows: Rows, number: int, draws: Draws) -> Iterator[Completed]:
        """E_q[E[x_nj | z_n]] by draws of z from the guide; of a label the most probable one."""
        net = self.net(draws, rows.x.device)
        for block in completed(net, rows, number, number, weighted=False, sampled=False):
            yield self._cells(net, block, np.zeros((0, len(block.index), 0)))

    def complete(self, data: Dataset, holes: np.ndarray, number: int, draws: Draws) -> Iterator[Completed]:
        """Draws of z chosen by their importance weights, and cells given these."""
        net = self.net(draws, self.device)
        rows = self.rows(data).at(torch.from_numpy(holes)).to(self.device)
        for block in completed(net, rows, number, self.particles or PARTICLES) if len(holes) else ():
            found, t = self._cells(net, block, block.drawn), self.target_index
            own = holes[block.index]
            if t is not None:
                unknown = np.isnan(data.values[own, t])  # rows without their label are in blocks of their own
                found.drawn[:, :, t] = np.where(unknown, block.groups, np.nan_to_num(data.values[own, t]))
                if unknown.any():
                    best, sure = block.classes.argmax(1).astype(float), block.classes.max(1)
                    found = found._replace(best={**found.best, t: best}, sure={**found.sure, t: sure})
            yield found._replace(index=own)

    def sample(self, number: int, draws: Draws, given: Dataset | None) -> Sampled:
        """Z ~ N(0, I), with a target y ~ p(y), then x; those that are given by importance sampling."""
        net, at = self.net(draws, self.device), self.target_index
        values = np.full((number, len(self.inside.schema.columns)), np.nan)
        order = net.likelihood.order
        if given is not None:
            block = next(completed(net, self.rows(given, self.device), number, max(number, GIVEN)))
            values[:, order] = block.drawn[:, 0]
            if at is not None:
                values[:, at] = block.groups[:, 0] if len(block.classes[0]) > 1 else given.values[0, at]
            return Sampled(np.where(np.isnan(given.values), self.inside.decode(values), given.values), {})
        size = max(1, BUDGET // net.likelihood.outputs)
        with torch.no_grad():
            for lo in range(0, number, size):
                part = values[lo : lo + size]
                z, label = torch.randn(len(part), net.latent).to(self.device), None
                if at is not None:
                    y = torch.multinomial(net.log_prior_y().exp().cpu(), len(part), replacement=True)
                    part[:, at], label = y, net.one_hot(y.to(self.device))
                part[:, order] = net.likelihood.sample(net.decoder(z, label)).cpu()
        return Sampled(self.inside.decode(values), {})

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """The latents, and the noise of columns that have some.

        A row for each latent, `z_0` …: `kl`, its mean KL(q ‖ p) in nats; `mean`, `sd`, `hdi_5.5%` and
        `hdi_94.5%` of its posterior means over the rows; `width`, its mean posterior sd; `active`, whether
        `sd`² is over 0.01 (Burda et al. 2016); not of a run without its rows. And a row `noise[COLUMN]` for
        each Gaussian column that is not transformed, whose `sd` is that of the column given the latents, in
        the user's units.
        """
        net = self.networks(fitted.params, fitted.settings.device)
        found: dict[str, dict[str, Any]] = {}
        if fitted.data.rows:
            found |= self._latents_of(net, fitted, tails)
        start = 0
        for f in net.likelihood.each:
            noise = f.noise()
            for i, own in zip(net.likelihood.order[start : start + f.width], noise or (), strict=False):
                if i not in self.inside.changed:
                    found[f"noise[{self.schema.names[i]}]"] = {"sd": own}
            start += f.width
        return found

    def _latents_of(
        self, net: Networks, fitted: Fitted, tails: tuple[float, float]
    ) -> dict[str, dict[str, Any]]:
        mean, sd, kl = latents(net, self.rows(fitted.data, fitted.settings.device))
        found: dict[str, dict[str, Any]] = {}
        for i in range(net.latent):
            z = mean[:, i]
            found[f"z_{i}"] = {
                "kl": kl[:, i].mean(), "mean": z.mean(), "sd": z.std(), **interval(z, tails),
                "width": sd[:, i].mean(), "active": bool(z.var() > ACTIVE),
            }  # fmt: skip
        return found

    def working_bytes(self, settings: Training) -> int:
        """Weights, gradients and two moments; the activations of a mini-batch, and their gradients."""
        width = 2 * len(self.schema.columns) + 4 * sum(self.model.hidden) + 8 * self.model.latent
        if self.image is not None:
            width += 16 * int(np.prod(self.image))
        return 4 * (4 * self.parameters + 2 * BATCH * width * max(len(self.labels()), 1))

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the weights by name."""
        return self._shapes

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        with torch.random.fork_rng(devices=[]):
            return {name: tuple(value.shape) for name, value in self.networks().named_parameters()}


@final
class VAEBound(VAEDensity):
    """Without a target."""


@final
class LabelledVAEBound(VAEDensity):
    """With a target: a classifier q(y | x), and p(y | x) by importance draws where their number is given.

    The classifier, as in Kingma et al. (2014): on scikit-learn's digits it makes 2 % errors where
    p(y) p̂(x | y) makes 8 % and takes hundreds of times as long; with few labels on small tables the latter
    was often better.
    """

    def predictive(self, rows: Rows, draws: Draws) -> np.ndarray:
        """q(y | x), (n, C), labels not being looked at; with particles p(y | x) ∝ p(y) p̂(x | y)."""
        unknown = rows.unlabelled()
        share = np.full((len(rows), len(self.labels())), np.nan)
        if self.particles is not None:
            for p in self._weighted(unknown, draws):
                share[p.index.cpu()] = p.log_classes.softmax(0).T.cpu()
            return share
        net = self.net(draws, rows.x.device)
        with torch.no_grad():
            for lo in range(0, len(rows), BLOCK):
                part = unknown.part(slice(lo, lo + BLOCK))
                found = net.log_q_y(net.likelihood.features(part.x, part.seen)).exp()
                share[lo : lo + BLOCK] = found.cpu()
        return share

    def log_probability(self, rows: Rows, draws: Draws) -> np.ndarray:
        """Log p(y_n | x_n) by importance draws, (n,); NaN where there is no label."""
        found = np.full(len(rows), np.nan)
        if rows.y is None:
            return found
        for p in self._weighted(rows.unlabelled(), draws):
            y = rows.y[p.index].cpu()
            log_p = p.log_classes.log_softmax(0).cpu().gather(0, y.clamp(min=0)[None])[0]
            found[p.index.cpu()] = torch.where(y >= 0, log_p, torch.nan)
        return found
