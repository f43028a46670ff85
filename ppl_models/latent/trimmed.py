"""Fits that leave out the least likely rows: trimmed likelihood for mixtures and chains.

    max over θ and a set H of (1 − α) n rows   of   log p(x_H | θ)

by concentration steps: fit, then take for H the rows with the largest

    log p(x_n | all other rows) = −log Σ_k p(z_n = k | x) / p(x_n | z_n = k),

which of independent rows is their density, and fit again, until H stays (Neykov, Filzmoser, Dimova & Neytchev
2007, Robust fitting of mixtures using the trimmed likelihood estimator, Computational Statistics & Data
Analysis 52, https://doi.org/10.1016/j.csda.2006.12.024; Rousseeuw & Van Driessen 1999, Technometrics 41, for
one Gaussian). A row that is left out is a row whose cells are missing: it stays in its place, so that chains
go on through it, and says nothing of the emissions.
"""

from dataclasses import replace

import numpy as np
import torch

from ppl_models.data import Dataset
from ppl_models.data.files import budget
from ppl_models.data.spill import lies_on_disk
from ppl_models.draws import Params
from ppl_models.errors import DataError
from ppl_models.inference.conjugate import ConjugateRule
from ppl_models.inference.convergence import Plateau
from ppl_models.inference.loop import STEPS, Course, Log, Status, Trained, loop, repeat
from ppl_models.inference.settings import ConjugateSettings
from ppl_models.latent import train as whole
from ppl_models.latent.joint import Joint

AFRESH, MOST = 2, 20
"""Concentration steps with starts of their own, so that rows now left out placed none; and steps at most."""


def train(joint: Joint, data: Dataset, settings: ConjugateSettings, course: Course) -> Trained:
    """Train on all rows, then on those that are not the least likely, until these stay the same.

    Args:
        joint: the model.
        data: the rows.
        settings: of which `robust` is the share of rows that are left out.
        course: whom to tell.

    Raises:
        DataError: the rows do not fit into memory, or those that are kept have no spread in some direction.
    """
    if lies_on_disk(data.values) and data.values.nbytes > budget():
        raise DataError(f"{data.source}: robust fits need all rows in memory; fit a part of them")
    try:
        return _concentrated(joint, data, settings, course)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        raise DataError(
            f"{data.source}: without the least likely {settings.robust:g} of the rows some columns of the "
            "others say the same, and no covariance can be learned; use less --robust or --covariance=diag"
        ) from None


def _concentrated(joint: Joint, data: Dataset, settings: ConjugateSettings, course: Course) -> Trained:
    """Concentration steps until the rows that are left out stay the same."""
    found = whole.train(joint, data, settings, course)
    log = Log(joint.parameters, course.progress)
    out, seen = least_likely(joint, data, found.params, settings.robust), set[bytes]()
    for step in range(MOST):
        if found.status is not Status.CONVERGED or out.tobytes() in seen:
            break
        seen.add(out.tobytes())
        some = blank(data, out)
        if step < AFRESH:
            found = whole.train(joint, some, settings, course)
        else:
            limit = settings.tolerance * max(joint.parameters, 1)
            batches = repeat(joint.dataset_batch(some, settings.device))
            ended = loop(
                ConjugateRule(), joint, found.params, batches, Plateau(limit), settings.most(STEPS),
                log.phase("trimmed"),
            )  # fmt: skip
            found = replace(
                found, params=joint.canonical(ended.params), elbo=float(ended.elbo[0]), status=ended.status,
                steps=found.steps + ended.steps, history=(*found.history, *log.history),
            )  # fmt: skip
        out = least_likely(joint, data, found.params, settings.robust)
    note = f"left out {int(out.sum())} of {data.rows} rows, the least likely"
    return replace(found, notes=(*found.notes, note))


def least_likely(joint: Joint, data: Dataset, params: Params, share: float) -> np.ndarray:
    """Which rows, a share of those that have any cell, are the least likely given all others, (n,) bool.

    Args:
        joint: the model.
        data: the rows.
        params: expected statistics of the guide, R = 1.
        share: of the rows.
    """
    natural = joint.expected_natural(params)
    batch = joint.dataset_batch(data, next(iter(params.values())).device, keep=False)
    f = torch.empty(1, data.rows, joint.states, dtype=torch.float64, device=batch.values.device)
    density = joint.density(batch, natural)
    density(slice(0, data.rows), f)
    shares = joint.structure.marginals(density, natural, batch.rows).smoothed
    log_p = -(shares.log() - f).logsumexp(-1)[0] + joint.log_base(batch.values)
    found = log_p.cpu().numpy()
    blank_rows = np.isnan(data.values).all(1)
    found[blank_rows] = np.inf
    number = int(share * (~blank_rows).sum())
    out = np.zeros(data.rows, dtype=bool)
    out[np.argsort(found, kind="stable")[:number]] = True
    return out


def blank(data: Dataset, out: np.ndarray) -> Dataset:
    """The data with all cells of some rows missing."""
    values = np.array(data.values)
    values[out] = np.nan
    return replace(data, values=values)
