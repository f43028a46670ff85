"""A VAE over the columns of a table: its networks, its rows, and what a run stores of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.errors import UsageError
from ppl_models.models.bound import Bound, Params
from ppl_models.neural.encode import Rows, encode
from ppl_models.neural.families import modelled
from ppl_models.neural.networks import Networks
from ppl_models.neural.objective import VAETarget
from ppl_models.neural.product import Product

if TYPE_CHECKING:
    from ppl_models.models.vae import VAE

BATCH = 1_024
"""Rows a mini-batch for which working memory is counted."""


@dataclass(eq=False)
class VAEBound(Bound):
    """A `VAE` over the columns of a schema.

    What is learned are point estimates: θ of the decoder and φ of the encoder. The posterior is that of the
    latents of each row.
    """

    model: "VAE"
    schema: Schema
    kind: str = "vae"
    exchangeable: bool = True

    def __post_init__(self) -> None:
        if not modelled(self.schema):
            raise UsageError("a VAE needs at least one column besides the target")
        Product(
            self.model.likelihood, self.schema
        )  # refuses what it cannot describe, before anything is done
        _ = self.image

    @property
    def describe(self) -> str:
        """Its size: `10 latents, mlp 400,400`."""
        kind = "mlp" if self.image is None else "conv"
        return f"{self.model.latent} latent{'s' * (self.model.latent > 1)}, {kind} {self.model.hidden}"

    @property
    def target_index(self) -> int | None:
        """The position of the target in the schema, if there is one."""
        return None if self.schema.target is None else self.schema.names.index(self.schema.target)

    @property
    def levels(self) -> tuple[str, ...]:
        """The labels of the classes; none without a target."""
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
        """New networks, by torch's global generator; or those with the weights that were learned."""
        product = Product(self.model.likelihood, self.schema)
        net = Networks(product, self.model.latent, self.model.sizes, len(self.levels), self.image)
        if params is not None:
            net.load_state_dict({name: value[0] for name, value in params.items()})
            net.eval().requires_grad_(False)
        return net.to(device)

    def params(self, net: Networks) -> dict[str, Tensor]:
        """What `networks` restores: every weight with a leading dimension of 1."""
        return {name: value.detach().cpu().clone()[None] for name, value in net.named_parameters()}

    def rows(self, data: Dataset, device: str | torch.device = "cpu") -> Rows:
        """Rows of a data set as the networks take them."""
        return encode(self._product, data, self.target_index).to(device)

    dataset_batch = rows

    @cached_property
    def _product(self) -> Product:
        return Product(self.model.likelihood, self.schema)

    def target(self, data: Dataset, *, seed: int = 0, device: str | torch.device = "cpu") -> VAETarget:
        """The objective of a fit, with new networks: classes start at their frequencies (plus one)."""
        rows = self.rows(data, device)
        net = self.networks(device=device)
        if rows.y is not None and net.class_logits is not None:
            counts = torch.bincount(rows.y[rows.y >= 0], minlength=net.classes) + 1.0
            net.class_logits.data.copy_((counts / counts.sum()).log())
        return VAETarget(self.model, self.schema, net, rows, seed)

    def working_bytes(self, restarts: int) -> int:
        """Weights, gradients and two moments; the activations of a mini-batch, and their gradients."""
        width = 2 * len(self.schema.columns) + 4 * sum(self.model.sizes) + 8 * self.model.latent
        if self.image is not None:
            width += 16 * int(np.prod(self.image))
        return 4 * (4 * self.parameters + 2 * BATCH * width * max(len(self.levels), 1))

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
