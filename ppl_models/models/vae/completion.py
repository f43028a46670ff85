"""Missing cells filled in by a variational autoencoder: self-normalised importance sampling of the latents.

    E[x_mis | x_obs] ≈ Σ_k w̄_k E[x_mis | z_k],   w̄_k ∝ p(x_obs, z_k)/q(z_k | x_obs)

and draws x_mis ~ p(x_mis | z_k) for z_k drawn by w̄_k (Mattei & Frellsen 2019, MIWAE, ICML,
https://arxiv.org/abs/1812.02633).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ppl_models.data import Schema
from ppl_models.models.vae.importance import BUDGET, Particles, particles
from ppl_models.models.vae.networks import Networks
from ppl_models.networks.encode import Rows

NONE = np.zeros((0, 0, 0))


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows with draws of all their cells, observed or not.

    Attributes:
        index: (b,) positions of the rows.
        expected: (b, W) expected values in the user's units, probabilities of labels.
        drawn: (M, b, C) cells in the user's units, family after family.
        classes: (b, G) probabilities of the classes of rows without their label; else ones.
        groups: (M, b) the class that each draw is of, where there is no label; else 0.
    """

    index: np.ndarray
    expected: np.ndarray
    drawn: np.ndarray
    classes: np.ndarray
    groups: np.ndarray


@torch.no_grad()
def completed(
    net: Networks, rows: Rows, draws: int, proposals: int, *, weighted: bool = True, sampled: bool = True
) -> Iterator[Block]:
    """All rows, some at a time, with draws of the latents and of the cells.

    Args:
        net: the networks.
        rows: the rows; cells that are observed shape the latents.
        draws: M of each row.
        proposals: K draws from the guide, of which these are chosen.
        weighted: whether by their weights; otherwise the draws are the guide's.
        sampled: whether cells are drawn, besides their expected values.
    """
    width = net.likelihood.outputs
    for p in particles(net, rows, proposals):
        z, group = (p if weighted else _even(p)).resample(draws)
        size = max(1, BUDGET // (draws * width))
        for at in torch.arange(len(p.index)).split(size):
            lo, hi = int(at[0]), int(at[-1]) + 1
            part = Particles(
                p.index[lo:hi], p.log_weight[..., lo:hi], p.z[:, :0], p.log_q_y[:, lo:hi],
                p.label if p.label is None or len(p.log_weight) > 1 else p.label[lo:hi],
                p.rows.part(slice(lo, hi)),
            )  # fmt: skip
            step = max(1, BUDGET // ((hi - lo) * width))  # draws at a time, where one row is many of them
            expected, drawn = torch.zeros(hi - lo, width, dtype=torch.float64), [NONE]
            for s in torch.arange(draws, device=z.device).split(step):
                out = part.decode(net, z[s, lo:hi], group[s, lo:hi])
                expected += net.likelihood.expect(out).sum(0).cpu() / draws
                if sampled:
                    drawn.append(net.likelihood.sample(out).cpu().numpy())
            yield Block(
                part.index.cpu().numpy(),
                expected.numpy(),
                np.concatenate(drawn[1:] or drawn),
                part.log_classes.softmax(0).T.cpu().numpy(),
                group[:, lo:hi].cpu().numpy(),
            )


def _even(p: Particles) -> Particles:
    """The same with the guide's own weights: each class by q(y | x), each draw alike."""
    log_weight = p.log_q_y.unsqueeze(1).expand_as(p.log_weight)
    return Particles(p.index, log_weight, p.z, p.log_q_y, p.label, p.rows)


def cells_of(
    net: Networks, expected: np.ndarray, schema: Schema
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Position of each column, its expected values or likeliest codes, and the probability of those.

    Args:
        net: the networks, whose likelihood orders the columns family after family.
        expected: (b, W) expected values in the user's units, probabilities of labels.
        schema: of the fit.

    Yields:
        j, then (b,) values or codes, then (b,) probabilities of these, or None for a number.
    """
    for j, slot in zip(net.likelihood.order, net.likelihood.slots(), strict=True):
        cells = expected[:, slot]
        if not schema.columns[j].labelled:
            yield j, cells[:, 0], None
            continue
        share = np.column_stack([1 - cells, cells]) if cells.shape[1] == 1 else cells
        yield j, share.argmax(1).astype(float), share.max(1)
