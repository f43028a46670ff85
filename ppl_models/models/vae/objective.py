"""What training raises: the mean ELBO of the rows of the fit, with some of them held out.

    loss(rows) = −(1/B) Σ_{n ∈ rows} [E_q[log p(x_n | z)] − β_t KL_n],   β_t = β min(1, epoch / warm_up)

is an unbiased estimate of the same mean over all training rows. β_t rises from 0, as a KL divergence that
weighs in before the decoder says anything switches latents off for good (Bowman et al. 2016, CoNLL,
https://arxiv.org/abs/1511.06349; Sønderby et al. 2016, Ladder variational autoencoders, NeurIPS,
https://arxiv.org/abs/1602.02282). With classes, a labelled row has α log q(y_n | x_n) besides, where
α = classification_weight · N / N_labelled (Kingma et al. 2014). Weighted rows count as often as they say.

A tenth of the rows, 10,000 at most, is held out for `evidence`; none of fewer than 20 rows, of which it is
then the evidence itself.
"""

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Schema
from ppl_models.inference.gradient import GradientTarget
from ppl_models.models.vae.elbo import Terms, log_q_labels, terms, unlabelled_sum
from ppl_models.models.vae.fields import VAEFields
from ppl_models.models.vae.networks import Networks
from ppl_models.networks.encode import Rows

HELD_OUT, MOST, FEW = 0.1, 10_000, 20
"""The share of rows that is held out, how many at most, and the number below which none are."""

BLOCK = 2_048
"""Rows of which the evidence is computed at a time."""


class VAETarget(GradientTarget):
    """The objective of a `VAE` on the rows of a fit.

    Args:
        model: β, warm-up and the weight of the classification.
        schema: the columns, for messages.
        module: the networks, on the device of the rows.
        rows: all rows of the fit.
        seed: of the rows that are held out, and of the noise of `evidence`.

    Attributes:
        train, held: positions of the training rows and of the others, (rows,) int64.
    """

    module: Networks

    def __init__(self, model: VAEFields, schema: Schema, module: Networks, rows: Rows, seed: int = 0) -> None:
        self.model, self.schema, self.module, self.data, self.seed = model, schema, module, rows, seed
        n = len(rows)
        held = 0 if n < FEW else min(max(1, round(HELD_OUT * n)), MOST)
        order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
        device = rows.x.device
        self.held = order[:held].sort().values.to(device)
        self.train = order[held:].sort().values.to(device)
        self.rows = n - held
        self._whole = held == 0
        self._mean_weight = 1.0 if rows.weight is None else float(rows.weight[self.train].mean())
        self._alpha = 0.0
        self._some_unlabelled = False
        if rows.y is not None:
            labelled = int((rows.y[self.train] >= 0).sum())
            self._alpha = model.classification_weight * self.rows / max(labelled, 1)

    def products(self, rows: int) -> int:
        """Multiplications of a step on so many rows, about: forward, and twice as many back.

        A weight of a layer meets every row, one of a convolution a quarter of the pixels of each.
        """
        pixels = max(1, self.data.x.shape[1] // 4)
        weights = sum(w.numel() * (pixels if w.dim() == 4 else 1) for w in self.module.parameters())
        return 3 * min(rows, self.rows) * weights * max(1, self.module.classes)

    def kl_weight(self, epoch: float) -> float:
        """β_t after so many passes over the data."""
        warm = self.model.warm_up
        return self.model.beta * (min(1.0, epoch / warm) if warm > 0 else 1.0)

    def batch(self, rows: Tensor) -> Rows:
        """The training rows at these indices."""
        rows = rows.to(self.data.x.device)
        return self.data.at(rows if self._whole else self.train.index_select(0, rows))

    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Minus the ELBO, nats a row: see the module."""
        batch = self.batch(rows)
        beta = self.kl_weight(epoch)
        if batch.y is None and batch.weight is None:
            fit, kl = unlabelled_sum(self.module, batch)
            return (beta * kl - fit) / len(batch)
        found = terms(self.module, batch)
        each = beta * found.divergence - found.fit
        if batch.y is not None:
            each = each - self._alpha * log_q_labels(self.module, batch)
        return (
            each.mean() if batch.weight is None else (each @ batch.weight) / (self._mean_weight * len(batch))
        )

    def evidence(self) -> float:
        """The ELBO a row of the held-out rows with the same noise every time."""
        return self.elbo(self.train if self._whole else self.held)

    @torch.no_grad()
    def elbo(self, index: Tensor, seed: int | None = None) -> float:
        """The ELBO a row of the rows at these positions, β = 1; noise by a generator of its own."""
        generator = torch.Generator().manual_seed(self.seed if seed is None else seed)
        total, count = 0.0, 0.0
        for some in index.split(BLOCK):
            rows = self.data.at(some)
            shape = (len(rows), self.module.latent)
            shape = shape if rows.y is None else (self.module.classes, *shape)
            noise = torch.randn(shape, generator=generator).to(rows.x.device)
            each = self._elbo(terms(self.module, rows, noise))
            weight = torch.ones_like(each) if rows.weight is None else rows.weight.double()
            total += float(each @ weight)
            count += float(weight.sum())
        return total / count if count else float("nan")

    @staticmethod
    def _elbo(found: Terms) -> Tensor:
        return (found.fit - found.divergence).double()

    @torch.no_grad()
    def where(self) -> str:
        """Which weights, or which cell of which row, are not finite."""
        for name, value in self.module.named_parameters():
            if not bool(value.isfinite().all()):
                return f"the weights {name} are not finite; lower the learning rate"
        for some in self.train.split(BLOCK):
            rows = self.data.at(some)
            found = terms(self.module, rows)
            bad = ~(found.fit - found.divergence).isfinite()
            if bool(bad.any()):
                i = int(bad.nonzero()[0])
                why = self._cell(rows.part(slice(i, i + 1)))
                return f"the ELBO of row {int(some[i]) + 1} is not finite: {why}"
        return "every row is finite now; a step in between was not"

    def _cell(self, row: Rows) -> str:
        """What is wrong with a row: its site z, or the column that is furthest out."""
        net, known = self.module, row.unlabelled()
        features = net.likelihood.features(row.x, row.seen)
        label = None if known.y is None else net.one_hot(torch.zeros_like(known.y))
        mean, log_var = net.posterior(features, label)
        names = [self.schema.names[i] for i in net.likelihood.order]
        far = int(row.x.abs().argmax())
        most = f"column {names[far]!r} is {float(row.x.flatten()[far]):.3g} in units of the network"
        if not bool((mean.isfinite() & log_var.exp().isfinite()).all()):
            return f"its latents z overflow; {most}"
        out = net.decoder(mean, label)
        for f, o, u, _ in net.likelihood.parts(out, row.x):
            cells = ~f.log_prob(o, u).isfinite()
            if bool(cells.any()):
                start = next(i for i, g in enumerate(net.likelihood.each) if g is f)
                before = sum(g.width for g in net.likelihood.each[:start])
                return f"column {names[before + int(cells.flatten().nonzero()[0])]!r}, {f.name}"
        return most
