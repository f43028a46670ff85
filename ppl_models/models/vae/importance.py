"""Importance sampling of each row's latents: its density, its missing cells, and how good its guide is.

    log p(x_n) ≈ log (1/K) Σ_k w_k,   w_k = p(x_n, z_k) / q(z_k | x_n),   z_k ~ q(z | x_n)

is a lower bound in expectation that rises with K and is tight in the limit (Burda, Grosse & Salakhutdinov
2016, Importance weighted autoencoders, ICLR, https://arxiv.org/abs/1509.00519). With observed cells only,
the same weights give E[h(x_mis) | x_obs] ≈ Σ_k w̄_k E[h(x_mis) | z_k], and z drawn again by w̄_k draws of
the missing cells (Mattei & Frellsen 2019, MIWAE, ICML, https://arxiv.org/abs/1812.02633). Where the label
is missing there are K draws for each class, weighted by p(y) p(x, z | y) / q(z | x, y): the sum over
classes is exact.

Everything is done in blocks of rows and of draws, so that memory does not grow with either.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ppl_models.inference.psis import smooth
from ppl_models.models.vae.elbo import drawn
from ppl_models.models.vae.networks import Networks
from ppl_models.networks.encode import Rows

BUDGET = 2**22
"""Numbers of one intermediate result."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted draws of the latents of some rows.

    Attributes:
        index: (B,) positions of the rows.
        log_weight: (G, K, B) float64, log w; G is 1, or the number of classes where the label is missing.
        z: (G, K, B, L).
        log_q_y: (G, B), log q(y | x) where the label is missing; else 0.
        label: one-hot labels that broadcast against z for the decoder; None without classes.
        rows: the rows.
    """

    index: Tensor
    log_weight: Tensor
    z: Tensor
    log_q_y: Tensor
    label: Tensor | None
    rows: Rows

    @property
    def log_density(self) -> Tensor:
        """The bound of log p(x_n), or of log p(x_n, y_n) for a row with a label, (B,)."""
        return self.log_classes.logsumexp(0)

    @property
    def log_classes(self) -> Tensor:
        """The same for each class, (G, B): log p(x_n, y)."""
        return self.log_weight.logsumexp(1) - np.log(self.log_weight.shape[1])

    @property
    def elbo(self) -> Tensor:
        """The bound with K = 1, averaged over the draws, (B,)."""
        return (self.log_q_y.exp() * (self.log_weight.mean(1) - self.log_q_y)).sum(0)

    def k_hat(self) -> np.ndarray:
        """Pareto k̂ of the weights of each row, (B,): below 0.7 its guide is close to its posterior."""
        flat = self.log_weight.flatten(0, 1).T.cpu().numpy()
        return np.array([smooth(row).k_hat for row in flat])

    def resample(self, draws: int) -> tuple[Tensor, Tensor]:
        """Draws of each row's latents by their weights, (M, B, L), and their groups g, (M, B).

        At even steps of the cumulative weights (Kitagawa 1996), so that means have little noise of it.
        """
        G, K, B = self.log_weight.shape
        weight = self.log_weight.flatten(0, 1).softmax(0).T.contiguous()  # (B, GK)
        steps = torch.arange(draws, dtype=torch.float64, device=weight.device)
        at = (steps + torch.rand(B, 1, dtype=torch.float64, device=weight.device)) / draws
        chosen = torch.searchsorted(weight.cumsum(1), at).clamp(max=G * K - 1)  # (B, M)
        order = torch.rand(B, draws, device=weight.device).argsort(1)
        chosen = chosen.gather(1, order).T  # (M, B)
        z = self.z.flatten(0, 1)[chosen, torch.arange(B, device=weight.device)]
        return z, chosen // K

    def decode(self, net: Networks, z: Tensor, group: Tensor) -> Tensor:
        """Outputs of the decoder for draws (M, B, L) of these rows.

        Args:
            net: the networks.
            z: latents, as `resample` gives them.
            group: g, (M, B), the class of each where there is no label.

        Returns:
            Outputs o of the likelihood, (M, B, outputs).
        """
        if self.label is None:
            return net.decoder(z)
        own = net.one_hot(group) if len(self.log_weight) > 1 else self.label.expand(*z.shape[:-1], -1)
        return net.decoder(z, own)


@torch.no_grad()
def particles(net: Networks, rows: Rows, draws: int) -> Iterator[Particles]:
    """All rows, some at a time, with K weighted draws each, by torch's global generator.

    Args:
        net: the networks.
        rows: cells that are observed, and labels, −1 where they are missing.
        draws: K of each row, and of each class where the label is missing.

    Yields:
        Blocks of rows, those with a label first.
    """
    width = max(net.likelihood.outputs, net.decoder.first.out_features, 1)
    for index, groups in _alike(net, rows):
        each = groups * max(width, draws * (net.latent + 2))
        size = max(1, BUDGET // each)
        for some in index.split(size):
            yield _weigh(net, rows.at(some), some, draws, max(1, BUDGET // (groups * len(some) * width)))


def _alike(net: Networks, rows: Rows) -> Iterator[tuple[Tensor, int]]:
    """Rows that have a label, and rows that have none, with the number of classes to sum over."""
    every = torch.arange(len(rows), device=rows.x.device)
    if rows.y is None:
        yield every, 1
        return
    for index, groups in ((every[rows.y >= 0], 1), (every[rows.y < 0], net.classes)):
        if len(index):
            yield index, groups


def _weigh(net: Networks, rows: Rows, index: Tensor, draws: int, step: int) -> Particles:
    features = net.likelihood.features(rows.x, rows.seen)
    B, unknown = len(rows), rows.y is not None and bool((rows.y < 0).all())
    label, log_y = None, torch.zeros(1, B, device=rows.x.device)
    log_q_y = log_y
    if unknown:
        label, log_q_y = net.every_class(), net.log_q_y(features).mT
        log_y = net.log_prior_y().unsqueeze(-1).expand_as(log_q_y)
    elif rows.y is not None:
        label, log_y = net.one_hot(rows.y), net.log_prior_y()[rows.y].unsqueeze(0)
    mean, log_var = (t if unknown else t.unsqueeze(0) for t in net.posterior(features, label))  # (G, B, L)
    wide = None if label is None else label.unsqueeze(1) if unknown else label
    zs, weights = [], []
    for lo in range(0, draws, step):
        k = min(step, draws - lo)
        noise = torch.randn(len(mean), k, *mean.shape[1:], device=mean.device)
        z = drawn(mean.unsqueeze(1), log_var.unsqueeze(1), noise)
        out = net.decoder(z, wide)
        ratio = 0.5 * (noise.square() - z.square() + log_var.unsqueeze(1)).sum(-1)
        found = net.likelihood.rows(out, rows.x, rows.seen) + ratio
        zs.append(z)
        weights.append((found + log_y.unsqueeze(1)).double())
    return Particles(index, torch.cat(weights, 1), torch.cat(zs, 1), log_q_y.double(), label, rows)
