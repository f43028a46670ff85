"""A VAE as a graph of tensors for other programs: encoder, and decoder at the middle of q(z | x)."""

from typing import Any

import torch
from torch import Tensor, nn

from ppl_models.capabilities import Graph
from ppl_models.errors import Unsupported
from ppl_models.models.vae.networks import Networks


class VAEGraph(nn.Module):
    """(n, P) cells ↦ means and sds of q(z | x), (n, L) each, and E p(x | z) at the means, (n, O).

    Of O a number has one, its expected value in the user's units, and a label the probabilities of its
    levels, in the order of the P columns.

    Args:
        net: the networks, without classes.
    """

    def __init__(self, net: Networks) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """NaN where a cell is missing, which counts as none."""
        product, at, encoded = self.net.likelihood, 0, []
        for f in product.each:
            encoded.append(f.encode(x[:, at : at + f.width]))
            at += f.width
        seen = ~x.isnan()
        u = torch.cat(encoded, 1).to(self.net.decoder.first.weight.dtype)
        features = product.features(torch.where(seen, u, torch.zeros_like(u)), seen)
        mean, log_var = self.net.posterior(features)
        expected = product.expect(self.net.decoder(mean))
        return mean.double(), (0.5 * log_var).exp().double(), expected


def graph(bound: Any, params: Any) -> Graph:
    """That of a VAE with what it learned.

    Raises:
        Unsupported: columns are transformed inside the model, or there are classes.
    """
    if bound.labels():
        raise Unsupported(
            "a vae with a target has no graph: its classes are averaged over draws of the latents; "
            "fit it without --target for its latents, or mlp for classes"
        )
    if bound.inside:
        raise Unsupported("an export has columns as they are: fit with --marginals plain")
    net = bound.networks(params)
    return Graph(VAEGraph(net), tuple(net.likelihood.order), ("latent", "latent_sd", "reconstruction"))
