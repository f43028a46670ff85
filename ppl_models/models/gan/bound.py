"""A GAN over the columns of a table: its networks, its rows, and what it can do with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bound, weights_fault
from ppl_models.capabilities import NETWORKS, Completed, Fitted, Sampled
from ppl_models.checks import Check
from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import quoted
from ppl_models.draws import Draws, Params
from ppl_models.errors import DataError, UsageError
from ppl_models.inference.adversarial import train_adversarial
from ppl_models.inference.loop import Course, Status, Trained
from ppl_models.inference.settings import AdversarialSettings, NetworkSettings, Training
from ppl_models.inference.stochastic import train_gradient
from ppl_models.models.gan import checks
from ppl_models.models.gan.coding import Coding, PixelCoding, Rows, TableCoding, rows_of
from ppl_models.models.gan.fields import GANFields
from ppl_models.models.gan.networks import Players
from ppl_models.models.gan.objective import BLOCK, EncoderTarget, GANTarget
from ppl_models.threads import PRODUCTS, threads_for

LEAST_SIDE = 4
"""Pixels of the shorter side that convolutions need."""

TABLES, IMAGES = 500, 64
"""Pairs of a mini-batch, if not given."""

BEGINNING = 2_000
"""Steps in which a score that does not rise says nothing: at first all samples are told from the data."""

ENCODING, WAIT = 3_000, 3
"""Steps of the encoder at most, never more than the generator had; looks without a gain before its step size
is cut."""


@final
@dataclass(eq=False)
class GANBound(Bound):
    """A GAN over the columns of a schema.

    What is learned are point estimates: weights of generator, critic and encoder. There is no density.

    Attributes:
        model: the hyperparameters.
        schema: the columns.
        coding: how cells are coded, which the rows of the fit say.
    """

    model: GANFields
    schema: Schema
    coding: Coding | None = None
    device: str = "cpu"
    exchangeable: bool = True

    def __post_init__(self) -> None:
        if not self.columns:
            raise UsageError("a GAN needs at least one column besides the target")
        at = self.target_index
        if at is not None and not self.schema.columns[at].labelled:
            raise UsageError(
                f"gan draws rows given a label, and {quoted(self.schema.names[at])} is a number; leave out "
                "--target, and it is drawn with the other columns"
            )
        _ = self.image  # refuse what cannot be described, before anything is done

    # What it is over

    @property
    def target_index(self) -> int | None:
        """The position of the target in the schema, if there is one."""
        return None if self.schema.target is None else self.schema.names.index(self.schema.target)

    @property
    def columns(self) -> list[int]:
        """The positions of all other columns."""
        return [j for j in range(len(self.schema.columns)) if j != self.target_index]

    @property
    def classes(self) -> int:
        """Of the target; 0 without one."""
        at = self.target_index
        return 0 if at is None else len(self.schema.columns[at].levels)

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Height, width and channels of a convolutional model.

        Raises:
            UsageError: if convolutions were asked for, and the rows are no images.
        """
        shape = self.schema.shape
        pixels = shape is not None and np.prod(shape) == len(self.columns)
        pixels = pixels and not any(self.schema.columns[j].labelled for j in self.columns)
        if self.model.network == "mlp" or (self.model.network == "auto" and not pixels):
            return None
        if shape is None or not pixels:
            raise UsageError(
                "network conv needs rows that are images, from an array of n × height × width (IDX, .npy, "
                ".npz) or a folder of PNG files; use --network mlp"
            )
        h, w, c = (*shape, 1)[:3]
        if min(h, w) < LEAST_SIDE:
            if self.model.network == "auto":
                return None
            raise UsageError(f"network conv needs images of at least 4 × 4 pixels, got {h} × {w}; use mlp")
        return h, w, c

    @property
    def describe(self) -> str:
        """Its size: `64 latents, mlp 256,256`."""
        kind, sizes = "mlp" if self.image is None else "conv", ",".join(map(str, self.model.hidden))
        return f"{self.model.latent} latent{'s' * (self.model.latent > 1)}, {kind} {sizes}"

    # What the rows of the fit say

    def prepare(self, data: Dataset) -> Self:
        """Fix the coding of cells by the rows of the fit; once done, further calls change nothing."""
        if self.coding is None:
            values = None if self._pixels else np.asarray(data.values)
            self.coding = self._coding(values, None)
        return self

    def essence(self) -> Mapping[str, np.ndarray]:
        """How cells are coded."""
        return self.coded.essence()

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """The same coding."""
        self.coding = self._coding(None, essence)
        return self

    @property
    def _pixels(self) -> bool:
        own = [self.schema.columns[j] for j in self.columns]
        return self.schema.shape is not None and not any(c.labelled for c in own)

    def _coding(self, values: np.ndarray | None, essence: Mapping[str, np.ndarray] | None) -> Any:
        if self._pixels:
            return PixelCoding(self.schema, self.columns)
        return TableCoding(self.schema, self.columns, self.model.distinct, values, essence)

    def to(self, device: str) -> Self:
        """The same, whose draws are made by networks on a device."""
        return replace(self, device=device)

    @property
    def coded(self) -> Any:
        """The coding.

        Raises:
            UsageError: the rows of the fit are not known.
        """
        if self.coding is None:
            raise UsageError("a GAN over columns needs their rows first: prepare(data)")
        return self.coding

    # Training

    def networks(self, params: Params | None = None, device: str | torch.device = "cpu") -> Players:
        """New networks, by torch's global generator; or those with the weights that were learned."""
        with torch.random.fork_rng(devices=[], enabled=params is not None):
            net = Players(self.coded, self.model.latent, self.model.hidden, self.classes, self.image)
        if params is not None:
            net.load_state_dict({name: value[0] for name, value in params.items()}, strict=False)
            net.eval().requires_grad_(False)
        return net.to(device)

    def net(self, draws: Draws, device: str | torch.device = "cpu") -> Players:
        """The networks of a point estimate, S = 1."""
        return self.networks(draws[NETWORKS], device)

    def rows(self, data: Dataset, device: str | torch.device = "cpu") -> Rows:
        """Rows of a data set as the networks take them."""
        return rows_of(self.coded, data, self.target_index).to(device)

    def target(
        self, data: Dataset, seed: int, device: str | torch.device = "cpu", net: Players | None = None
    ) -> GANTarget:
        """The objective of a fit on the rows that have their label, with new networks if none are given.

        Raises:
            DataError: there are fewer than two of them.
        """
        rows = rows_of(self.coded, data, self.target_index, np.random.default_rng([7, seed])).to(device)
        if rows.y is not None:
            rows = rows.at((rows.y >= 0).nonzero().squeeze(1))
        if len(rows) < 2:
            what = "rows" if rows.y is None else f"rows with their {quoted(str(self.schema.target))}"
            raise DataError(f"{data.source}: a GAN needs at least two {what}, got {len(rows)}")
        if net is None:
            net = self.networks(device=device)
            if net.class_logits is not None and rows.y is not None:
                weight = torch.ones(len(rows)) if rows.weight is None else rows.weight.cpu()
                counts = torch.bincount(rows.y.cpu(), weight, net.classes)
                net.class_logits.data.copy_((counts / counts.sum()).log().clamp(min=-1e4))
        return GANTarget(self.schema, self.coded, net, rows, self.model.penalty, seed)

    def train(self, data: Dataset, settings: AdversarialSettings, course: Course) -> Trained:
        """Generator against critic, stopped by the two-sample test; then the encoder on the generator."""
        target = self.target(data, settings.seed, settings.device)
        size = settings.batch_size or (TABLES if self.image is None else IMAGES)
        target.warm_up = BEGINNING * min(size, target.rows) / target.rows
        pixels = max(1, self.coded.width // 8) if self.image is not None else 1
        products = 12 * size * self.parameters * pixels
        missing = data.rows - len(target.data)
        notes = (f"{missing:,} rows without {self.schema.target} were left out",) if missing else ()
        with threads_for(products, PRODUCTS):
            found = train_adversarial(target, settings, course, batch_size=size)
            found = replace(found, notes=(*found.notes, *self.coded.notes(), *notes))
            if found.status in (Status.INTERRUPTED, Status.DIVERGED):
                return found
            return self._encoded(found, target, settings, course)

    def _encoded(
        self, found: Trained, target: GANTarget, settings: AdversarialSettings, course: Course
    ) -> Trained:
        """With the encoder of the best generator; what was interrupted goes on from the end of the game."""
        target.module.load_state_dict({n: v[0] for n, v in found.params.items()}, strict=False)

        def told(phase: str, step: int, elbo: float, left: float) -> None:
            if course.progress is not None:
                course.progress("encoder", step, float("nan"), float("inf"))

        own = NetworkSettings(
            seed=settings.seed,
            device=settings.device,
            steps=min(ENCODING, max(found.steps, 1)),
            patience=WAIT,
            tolerance=1e-2,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + 7)
            encoder = train_gradient(EncoderTarget(target), own, Course(told), batch_size=128)
        params = {**found.params, **{f"encoder.{n}": v for n, v in encoder.params.items()}}
        found = replace(found, params=params, seconds=found.seconds + encoder.seconds)
        if encoder.status is Status.INTERRUPTED:
            return replace(found, status=Status.INTERRUPTED, reason=encoder.reason)
        return found if found.status is Status.MAX_STEPS else replace(found, checkpoint=None)

    # What it can do

    def sample(self, number: int, draws: Draws, given: Dataset | None) -> Sampled:
        """Z ~ N(0, I), y by the shares of the classes or as given, x = G(z, y).

        Raises:
            UsageError: another column than the target is given.
        """
        net, at = self.net(draws, self.device), self.target_index
        values = np.full((number, len(self.schema.columns)), np.nan)
        y = net.labels(number)
        if given is not None:
            y = self._condition(given, number)
        for lo in range(0, number, BLOCK):
            part = slice(lo, min(lo + BLOCK, number))
            own = None if y is None else y[part]
            z, noise = net.draw(part.stop - lo, own)
            with torch.no_grad():
                there = None if own is None else own.to(self.device)
                values[part, self.coded.order] = self.coded.decode(net.generate(z, there, noise))
            if at is not None and own is not None:
                values[part, at] = own.cpu().numpy()
        return Sampled(values, {})

    def _condition(self, given: Dataset, number: int) -> Tensor:
        row, at = given.values[0], self.target_index
        others = [self.schema.names[j] for j in np.flatnonzero(~np.isnan(row)) if j != at]
        if at is None or others:
            asked = ", ".join(map(quoted, others))
            own = "fit it with --target" if at is None else f"it has {quoted(str(self.schema.target))}"
            raise UsageError(
                f"gan draws rows given its target alone, not given {asked}: {own}; a model with a density, "
                "such as gmm or vae, draws given any column"
            )
        return torch.full((number,), int(row[at]))

    def _posterior(self, net: Players, rows: Rows) -> Iterator[tuple[np.ndarray, Rows, Tensor, Tensor]]:
        """Positions of rows, some at a time, with themselves, μ and log σ²."""
        for some in torch.arange(len(rows)).split(BLOCK):
            part = rows.at(some.to(rows.x.device))
            with torch.no_grad():
                yield some.numpy(), part, *net.posterior(part.x, part.y, part.seen)

    def latents(self, rows: Rows, draws: Draws) -> dict[str, np.ndarray]:
        """Means `z_0` … and sds `z_0_sd` … of the latents that make rows like this, by the encoder."""
        net = self.net(draws, rows.x.device)
        found = [(m.double().cpu(), (0.5 * v).exp().double().cpu())
                 for _, _, m, v in self._posterior(net, rows)]  # fmt: skip
        mean, sd = (torch.cat(each).numpy() for each in zip(*found, strict=True))
        cells = {f"z_{i}": mean[:, i] for i in range(mean.shape[1])}
        return cells | {f"z_{i}_sd": sd[:, i] for i in range(mean.shape[1])}

    def decode(self, rows: Rows, number: int, draws: Draws) -> Iterator[Completed]:
        """E_q[G(z)] by draws of z from the encoder; of a label the most probable one."""
        net, at = self.net(draws, rows.x.device), self.target_index
        coded, none = self.coded, np.zeros((0, 0, 0))
        for index, part, mean, log_var in self._posterior(net, rows):
            y = None if part.y is None else torch.where(part.y < 0, net.likeliest(), part.y)
            x = torch.zeros_like(part.x)
            sd = (0.5 * log_var).exp()
            with torch.no_grad():
                for _ in range(number):
                    z = mean + sd * torch.randn(mean.shape).to(mean.device)
                    x += net.generate(z, y, None) / number
            cells, sure = coded.expected(x)
            best = {j: cells[:, i] for i, j in enumerate(coded.order)}
            if at is not None and y is not None:
                best[at] = y.double().cpu().numpy()
            yield Completed(index, none, best, sure)

    def criticise(self, rows: Rows, draws: Draws) -> np.ndarray:
        """D(x_n), (n,): the higher, the more a row looks like the data rather than like a generated one."""
        net, found = self.net(draws, rows.x.device), [np.zeros(0)]
        for some in torch.arange(len(rows)).split(BLOCK):
            part = rows.at(some.to(rows.x.device))
            with torch.no_grad():
                found.append(net.criticise(part.x, part.y, part.seen).double().cpu().numpy())
        return np.concatenate(found)

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether samples can be told from the data, cover it, copy it, and have its columns and modes."""
        net = self.networks(fitted.params, fitted.settings.device)
        target = self.target(fitted.data, fitted.settings.seed, fitted.settings.device, net)
        return checks.checks(target, fitted.settings.seed)

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Column by column, how samples differ from the data: see `ppl_models.models.gan.checks`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fitted.settings.seed + 23)
            number = min(max(fitted.data.rows, 1_000), checks.ROWS)
            drawn = self.sample(number, {NETWORKS: fitted.params}, None).values
        return checks.by_column(self.schema, np.asarray(fitted.data.values), drawn)

    # Sizes

    def numbers(self, data: Dataset) -> int:
        """Of the latents and the cells of all rows."""
        return data.rows * (self.model.latent + len(self.schema.columns))

    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Not known from the schema alone: numbers of few different values are one-hot."""
        return None

    def params_fault(self, params: Params) -> str:
        """The weights, of the encoder as far as it is there yet."""
        with torch.random.fork_rng(devices=[]):
            every = self.networks().named_parameters()
        shapes = {n: p.shape for n, p in every if n in params or not n.startswith("encoder.")}
        return weights_fault(params, shapes)

    @cached_property
    def parameters(self) -> int:
        """The number of weights of generator and critic."""
        with torch.random.fork_rng(devices=[]):
            net = self.networks()
        return sum(p.numel() for part in (net.generator, net.critic) for p in part.parameters())

    def working_bytes(self, settings: Training) -> int:
        """Weights, gradients, moments and averages; activations of a mini-batch for second derivatives."""
        width = self.coded.width + sum(self.model.hidden)
        if self.image is not None:
            width += 32 * int(np.prod(self.image))
        return 4 * (8 * self.parameters + 24 * (getattr(settings, "batch_size", None) or 500) * width)
