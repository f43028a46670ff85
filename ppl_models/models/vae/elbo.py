"""The evidence lower bound of each row, in closed form wherever there is one.

    L(x)    = E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))                            (Kingma & Welling 2014)
    L(x, y) = E_q[log p(x | y, z)] + log p(y) − KL(q(z | x, y) ‖ p(z))           a labelled row
    U(x)    = Σ_y q(y | x) (L(x, y) − log q(y | x))                              a row without its label

Missing cells are left out of log p(x | z), which makes it a bound of the density of what is observed
(Mattei & Frellsen 2019, MIWAE, ICML, https://arxiv.org/abs/1812.02633). The expectation is estimated by one
reparameterised draw a row; KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² − 1 − log σ²). Kingma & Welling 2014,
Auto-encoding variational Bayes, ICLR, https://arxiv.org/abs/1312.6114; labels: Kingma, Rezende, Mohamed &
Welling 2014, Semi-supervised learning with deep generative models, NeurIPS,
https://arxiv.org/abs/1406.5298.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_models.models.vae.networks import Networks
from ppl_models.networks.encode import Rows


class Terms(NamedTuple):
    """The two terms of the bound of each row, (B,): L = fit − divergence; nats, in the user's units."""

    fit: Tensor
    divergence: Tensor


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(q ‖ p) in each dimension of z, (..., L)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def drawn(mean: Tensor, log_var: Tensor, noise: Tensor | None = None) -> Tensor:
    """Z = μ + σ ε, with ε from torch's global generator if none is given.

    Args:
        mean: μ, (..., L).
        log_var: log σ², of the same shape.
        noise: ε, of the same shape.
    """
    noise = torch.randn_like(mean) if noise is None else noise
    return torch.addcmul(mean, (0.5 * log_var).exp(), noise)


def unlabelled_sum(net: Networks, rows: Rows, noise: Tensor | None = None) -> Terms:
    """The sums of both terms over all rows of a model without classes: the fewest passes over the cells.

    Args:
        net: the networks, without classes.
        rows: B rows; missing cells are left out.
        noise: ε, (B, L); drawn from torch's global generator if none is given.

    Returns:
        Two scalars, in nats.
    """
    mean, log_var = net.posterior(net.likelihood.features(rows.x, rows.seen))
    out = net.decoder(drawn(mean, log_var, noise))
    kl = 0.5 * (mean.square().sum() + log_var.exp().sum() - log_var.sum() - mean.numel())
    return Terms(net.likelihood.total(out, rows.x, rows.seen), kl)


def terms(net: Networks, rows: Rows, noise: Tensor | None = None) -> Terms:
    """Both terms of each row.

    Args:
        net: the networks.
        rows: with labels, if the model has classes; −1 where they are missing.
        noise: ε, (B, L), or (C, B, L) with classes, of which a labelled row uses that of its class.
    """
    features = net.likelihood.features(rows.x, rows.seen)
    if rows.y is None:
        return _given(net, rows, features, None, noise)
    known = rows.y >= 0
    if bool(known.all()):
        return _labelled(net, rows, features, noise)
    a, b = known.nonzero().squeeze(-1), (~known).nonzero().squeeze(-1)
    parts = []
    if len(a):
        parts.append(_labelled(net, rows.at(a), features[a], None if noise is None else noise[:, a]))
    parts.append(_enumerated(net, rows.at(b), features[b], None if noise is None else noise[:, b]))
    back = torch.cat([a, b]).argsort()
    return Terms(*(torch.cat(t)[back] for t in zip(*parts, strict=True)))


def log_q_labels(net: Networks, rows: Rows) -> Tensor:
    """Log q(y_n | x_n) of the own label of each row, (B,); 0 where it is missing."""
    y = rows.y if rows.y is not None else torch.full((len(rows),), -1)
    log_q = net.log_q_y(net.likelihood.features(rows.x, rows.seen))
    own = log_q.gather(-1, y.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(y >= 0, own, 0.0)


def _given(net: Networks, rows: Rows, features: Tensor, label: Tensor | None, noise: Tensor | None) -> Terms:
    mean, log_var = net.posterior(features, label)
    out = net.decoder(drawn(mean, log_var, noise), label)
    return Terms(net.likelihood.rows(out, rows.x, rows.seen), divergence(mean, log_var).sum(-1))


def _labelled(net: Networks, rows: Rows, features: Tensor, noise: Tensor | None) -> Terms:
    y = rows.y if rows.y is not None else torch.zeros(len(rows), dtype=torch.int64)
    own = None if noise is None else noise[y, torch.arange(len(y), device=y.device)]
    found = _given(net, rows, features, net.one_hot(y), own)
    return Terms(found.fit + net.log_prior_y()[y], found.divergence)


def _enumerated(net: Networks, rows: Rows, features: Tensor, noise: Tensor | None) -> Terms:
    log_q = net.log_q_y(features).mT  # (C, B)
    found = _given(net, rows, features, net.every_class(), noise)
    fit = found.fit + net.log_prior_y().unsqueeze(-1) - log_q
    return Terms((log_q.exp() * fit).sum(0), (log_q.exp() * found.divergence).sum(0))
