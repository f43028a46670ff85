"""The latents of rows by the encoder: moments of q(z | x), and how far they are from the prior."""

import numpy as np
import torch

from ppl_models.models.vae.elbo import divergence
from ppl_models.models.vae.networks import Networks
from ppl_models.networks.encode import Rows

ACTIVE = 0.01
"""Variance of the posterior means beyond which a latent is active (Burda et al. 2016)."""

BLOCK = 4_096
"""Rows that are encoded at a time."""


@torch.no_grad()
def latents(net: Networks, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and sds of q(z | x), and KL(q ‖ p), of each latent, (n, L); a label is not looked at.

    With classes q(z | x) = Σ_y q(y | x) q(z | x, y), of which these are the moments; its KL divergence is
    bounded by the mean of those of its parts.
    """
    found = []
    for lo in range(0, len(rows), BLOCK):
        part = rows.part(slice(lo, lo + BLOCK))
        features = net.likelihood.features(part.x, part.seen)
        if not net.classes:
            mean, log_var = net.posterior(features)
            each = mean, log_var.exp(), divergence(mean, log_var)
        else:
            share = net.log_q_y(features).exp().mT.unsqueeze(-1)  # (C, B, 1)
            means, log_var = net.posterior(features, net.every_class())
            mean = (share * means).sum(0)
            variance = (share * (log_var.exp() + (means - mean).square())).sum(0)
            each = mean, variance, (share * divergence(means, log_var)).sum(0)
        found.append([t.double().cpu().numpy() for t in each])
    mean, variance, kl = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return mean, np.sqrt(variance), kl
