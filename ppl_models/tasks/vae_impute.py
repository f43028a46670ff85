"""Missing cells filled in by a variational autoencoder: self-normalised importance sampling of the latents.

    E[x_mis | x_obs] ≈ Σ_k w̄_k E[x_mis | z_k],   w̄_k ∝ p(x_obs, z_k)/q(z_k | x_obs)

and draws x_mis ~ p(x_mis | z_k) for z_k drawn by w̄_k (Mattei & Frellsen 2019, MIWAE, ICML,
https://arxiv.org/abs/1812.02633).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.data import Schema
from ppl_models.neural.encode import Rows
from ppl_models.neural.importance import BUDGET, Particles, particles
from ppl_models.neural.networks import Networks
from ppl_models.tasks.common import check_level, index_frame, resolve, seeded, whole

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.fitting import Fit

NONE = np.zeros((0, 0, 0))


@dataclass(frozen=True, eq=False)
class Completed:
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


def networks(fit: "Fit") -> Networks:
    """The networks of a fit, on its device."""
    return fit.bound.networks(fit.params, fit.settings.device)


@torch.no_grad()
def completed(
    net: Networks, rows: Rows, draws: int, proposals: int, *, weighted: bool = True, sampled: bool = True
) -> Iterator[Completed]:
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
            yield Completed(
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
    """Position of each column, its expected values or likeliest codes, and the probability of those."""
    for j, slot in zip(net.likelihood.order, net.likelihood.slots(), strict=True):
        cells = expected[:, slot]
        if not schema.columns[j].labelled:
            yield j, cells[:, 0], None
            continue
        share = np.column_stack([1 - cells, cells]) if cells.shape[1] == 1 else cells
        yield j, share.argmax(1).astype(float), share.max(1)


def impute(
    fit: "Fit",
    data: Any = None,
    *,
    level: float = 0.9,
    seed: int | None = None,
    draws: int = 400,
    proposals: int = 1_000,
    tables: int = 0,
    **reading: Any,
) -> "pd.DataFrame":
    """The table with its missing cells filled in, and intervals for them: see the module.

    A number is filled with its expected value, a label with the most probable one.

    Args:
        fit: the fit.
        data: a table with missing cells, or None for the data of the fit.
        level: probability of the intervals.
        seed: the fit's, if not given.
        draws: of each row, for intervals.
        proposals: K, draws from the guide by whose weights they are chosen.
        tables: how many completed tables to return instead, each with its missing cells drawn (multiple
            imputation); at most `draws`.
        **reading: options of `ppl_models.data.read`.

    Returns:
        The table, followed for each column that had missing cells by `_sd`, `_lower` and `_upper`, or by
        `_probability` for labels, empty where the cell was observed. With `tables` that many tables one below
        the other, numbered from 0 in the column `table`.
    """
    import pandas as pd

    tails, number = check_level(level), max(whole("draws", draws), tables)
    dataset, schema, net = resolve(fit, data, reading), fit.data.schema, networks(fit)
    missing = np.isnan(dataset.values)
    holes = np.flatnonzero(missing.any(1))
    filled = dataset.values.copy()
    copies = np.repeat(filled[None], tables, 0)
    extra: dict[str, np.ndarray] = {}

    def note(j: int, name: str, at: np.ndarray, values: np.ndarray) -> None:
        label = f"{schema.names[j]}_{name}"
        extra.setdefault(label, np.full(dataset.rows, np.nan))[at] = values

    rows = fit.bound.rows(dataset, fit.settings.device).at(torch.from_numpy(holes).to(fit.settings.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 12))
        for block in completed(net, rows, number, whole("proposals", proposals)) if len(holes) else ():
            own = holes[block.index]
            for i, (j, cells, probability) in enumerate(cells_of(net, block.expected, schema)):
                which = missing[own, j]
                if not which.any():
                    continue
                at, drawn = own[which], block.drawn[:, which, i]
                filled[at, j] = cells[which]
                copies[:, at, j] = drawn[:tables]
                if probability is not None:
                    note(j, "probability", at, probability[which])
                    continue
                lower, upper = np.quantile(drawn, tails, axis=0)
                for name, values in (("sd", drawn.std(0)), ("lower", lower), ("upper", upper)):
                    note(j, name, at, values)
            if (t := fit.bound.target_index) is not None and missing[own, t].any():
                at = own[missing[own, t]]  # rows without their label are in blocks of their own
                filled[at, t] = block.classes.argmax(1)
                copies[:, at, t] = block.groups[:tables]
                note(t, "probability", at, block.classes.max(1))
    if tables:
        frames = [dataset.frame(copy) for copy in copies]
        for number, frame in enumerate(frames):
            frame.insert(0, "table", number)
        return pd.concat(frames, ignore_index=True)
    ordered = {
        f"{c.name}{s}": None for c in schema.columns for s in ("_sd", "_lower", "_upper", "_probability")
    }
    table, index = dataset.frame(filled), index_frame(dataset)
    front = index[[name for name in index.columns if name not in table.columns]]
    found = {name: extra[name] for name in ordered if name in extra}
    return pd.concat([front, table, pd.DataFrame(found, index=table.index)], axis=1)
