"""The verbs of a variational autoencoder: features, reconstructions, densities, samples, classes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.data.dataset import decode
from ppl_models.errors import Unsupported
from ppl_models.neural.importance import BUDGET, particles
from ppl_models.neural.latents import ACTIVE, BLOCK, latents
from ppl_models.neural.likelihoods import Gaussian
from ppl_models.tasks.common import check_level, frame_of, given_row, index_frame, resolve, seeded, whole
from ppl_models.tasks.vae_impute import cells_of, completed, networks

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.fitting import Fit


def transform(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """Each row as features: the mean of each latent given the row, `z_0` …, and its sd, `z_0_sd` ….

    Missing cells are taken into account: they make the sds larger. Labels are not looked at.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        **reading: options of `ppl_models.data.read`.
    """
    import pandas as pd

    dataset = resolve(fit, data, reading)
    mean, sd, _ = latents(networks(fit), fit.bound.rows(dataset, fit.settings.device))
    cells = {f"z_{i}": mean[:, i] for i in range(mean.shape[1])}
    cells |= {f"z_{i}_sd": sd[:, i] for i in range(mean.shape[1])}
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def reconstruct(
    fit: "Fit", data: Any = None, *, draws: int = 50, seed: int | None = None, **reading: Any
) -> "pd.DataFrame":
    """The table as the latents of each row have it: E_q[E[x_nj | z_n]] in the user's units.

    Of a label the most probable one, with its `_probability`. Missing cells are reconstructed too; `impute`
    weighs its draws, and has intervals.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        draws: of z for each row, from the guide.
        seed: the fit's, if not given.
        **reading: options of `ppl_models.data.read`.
    """
    import pandas as pd

    number, dataset = whole("draws", draws), resolve(fit, data, reading)
    net, schema = networks(fit), fit.data.schema
    rows = fit.bound.rows(dataset, fit.settings.device)
    values = np.array(dataset.values)
    sure: dict[int, np.ndarray] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 13))
        for block in completed(net, rows, number, number, weighted=False, sampled=False):
            for j, cells, probability in cells_of(net, block.expected, schema):
                values[block.index, j] = cells
                if probability is not None:
                    sure.setdefault(j, np.full(dataset.rows, np.nan))[block.index] = probability
    table = dataset.frame(values)
    for j, probability in sure.items():
        table[f"{schema.names[j]}_probability"] = probability
    index = index_frame(dataset)
    return pd.concat([index[[n for n in index.columns if n not in table.columns]], table], axis=1)


def score(
    fit: "Fit", data: Any = None, *, draws: int = 100, seed: int | None = None, **reading: Any
) -> "pd.DataFrame":
    """How probable each row is, in nats and the user's units: `elbo` ≤ `log_density`, in expectation.

    `elbo` bounds log p(x_n) by the guide; `log_density` is log (1/K) Σ_k p(x_n, z_k)/q(z_k | x_n), which
    closes in on log p(x_n) from below as K grows: 5,000 is what papers report. Missing cells are left out.
    Of a row with a label both are of the label as well, and `log_probability` is log p(y_n | x_n).

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        draws: K.
        seed: the fit's, if not given.
        **reading: options of `ppl_models.data.read`.
    """
    K, dataset = whole("draws", draws), resolve(fit, data, reading)
    net, rows = networks(fit), fit.bound.rows(dataset, fit.settings.device)
    table = index_frame(dataset)
    found = np.full((3, dataset.rows), np.nan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 14))
        for p in particles(net, rows, K):
            found[0, p.index.cpu()] = p.elbo.cpu()
            found[1, p.index.cpu()] = p.log_density.cpu()
        if rows.y is not None:
            for p in particles(net, rows.unlabelled(), K):
                y, index = rows.y[p.index].cpu(), p.index.cpu()
                log_p = p.log_classes.log_softmax(0).cpu().gather(0, y.clamp(min=0)[None])[0]
                found[2, index] = torch.where(y >= 0, log_p, torch.nan)
    table["elbo"], table["log_density"] = found[0], found[1]
    if rows.y is not None:
        table["log_probability"] = found[2]
    return table


def predict(
    fit: "Fit", data: Any = None, *, draws: int | None = None, seed: int | None = None, **reading: Any
) -> "pd.DataFrame":
    """The class of each row by the classifier q(y | x), its own label not being looked at.

    The classifier, as in Kingma et al. (2014): on scikit-learn's digits it makes 2 % errors where
    p(y) p̂(x | y) makes 8 % and takes hundreds of times as long; with few labels on small tables the latter
    was often better. `draws` asks for it.

    Args:
        fit: a fit with a target.
        data: new data, or None for the data of the fit.
        draws: of z for each class, for p(y | x) ∝ p(y) p̂(x | y) by importance sampling; the classifier if not
            given.
        seed: the fit's, if not given; of `draws`.
        **reading: options of `ppl_models.data.read`.

    Returns:
        `class`, the most probable one, and `probability_LABEL`.

    Raises:
        Unsupported: if the model was fitted without a target.
    """
    import pandas as pd

    labels = fit.bound.levels
    if not labels:
        raise Unsupported("a vae predicts classes, and this one was fitted without; fit it with --target")
    dataset, net = resolve(fit, data, reading), networks(fit)
    rows = fit.bound.rows(dataset, fit.settings.device).unlabelled()
    share = np.full((dataset.rows, len(labels)), np.nan)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seeded(fit, seed, 15))
        for p in particles(net, rows, whole("draws", draws)) if draws is not None else ():
            share[p.index.cpu()] = p.log_classes.softmax(0).T.cpu()
        for lo in range(0, len(rows) if draws is None else 0, BLOCK):
            part = rows.part(slice(lo, lo + BLOCK))
            found = net.log_q_y(net.likelihood.features(part.x, part.seen)).exp()
            share[lo : lo + BLOCK] = found.cpu()
    cells: dict[str, Any] = {"class": decode(share.argmax(1).astype(float), labels)}
    cells |= {f"probability_{label}": share[:, i] for i, label in enumerate(labels)}
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def sample(
    fit: "Fit", rows: int = 100, *, given: Mapping[str, Any] | None = None, seed: int | None = None
) -> "pd.DataFrame":
    """New rows: z ~ N(0, I), with a target y ~ p(y), then x from the likelihood.

    Args:
        fit: the fit.
        rows: how many.
        given: values of some columns by name, the target's too: the others are drawn given these, by
            importance sampling.
        seed: the fit's, if not given.
    """
    n, net, at = whole("rows", rows), networks(fit), fit.bound.target_index
    values = np.full((n, len(fit.data.names)), np.nan)
    order = net.likelihood.order
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seeded(fit, seed, 10))
        if given:
            row = given_row(fit, given)
            encoded = fit.bound.rows(row, fit.settings.device)
            block = next(completed(net, encoded, n, max(n, 5_000)))
            values[:, order] = block.drawn[:, 0]
            if at is not None:
                values[:, at] = block.groups[:, 0] if len(block.classes[0]) > 1 else row.values[0, at]
            return frame_of(fit, np.where(np.isnan(row.values), values, row.values))
        for lo in range(0, n, max(1, BUDGET // net.likelihood.outputs)):
            part = values[lo : lo + max(1, BUDGET // net.likelihood.outputs)]
            z, label = torch.randn(len(part), net.latent), None
            if at is not None:
                y = torch.multinomial(net.log_prior_y().exp(), len(part), replacement=True)
                part[:, at], label = y.cpu(), net.one_hot(y)
            out = net.decoder(z.to(fit.settings.device), label)
            part[:, order] = net.likelihood.sample(out).cpu()
    return frame_of(fit, values)


def glance(fit: "Fit") -> "pd.DataFrame":
    """What is shown with a fit: `summary` with its index as a column."""
    return summary(fit).reset_index()


def summary(fit: "Fit", *, level: float = 0.89) -> "pd.DataFrame":
    """The latents, and the noise of Gaussian columns.

    Args:
        fit: the fit.
        level: probability of the intervals of the means of a latent over the rows.

    Returns:
        A row for each latent, `z_0` …: `kl`, its mean KL(q ‖ p) in nats; `mean`, `sd`, `lower` and `upper`
        of its posterior means over the rows; `width`, its mean posterior sd; `active`, whether `sd`² is
        over 0.01
        (Burda et al. 2016). And a row `noise[COLUMN]` for each Gaussian column, whose `sd` is that of the
        column given the latents, in the user's units.
    """
    import pandas as pd

    tails = check_level(level)
    net = networks(fit)
    mean, sd, kl = latents(net, fit.bound.rows(fit.data, fit.settings.device))
    lower, upper = np.quantile(mean, tails, axis=0)
    cells: dict[str, Any] = {
        "kl": kl.mean(0), "mean": mean.mean(0), "sd": mean.std(0), "lower": lower, "upper": upper,
        "width": sd.mean(0), "active": mean.var(0) > ACTIVE,
    }  # fmt: skip
    table = pd.DataFrame(cells, index=pd.Index([f"z_{i}" for i in range(net.latent)], name="parameter"))
    start = 0
    for f in net.likelihood.each:
        if isinstance(f, Gaussian):
            names = [fit.data.names[i] for i in net.likelihood.order[start : start + f.width]]
            noise = (f.sigma.detach().double() * f.scale).cpu().numpy()
            added = pd.DataFrame({"sd": noise}, index=[f"noise[{name}]" for name in names])
            table = pd.concat([table.astype({"active": object}), added])
        start += f.width
    table.index.name = "parameter"
    return table
