"""Verbs that look at rows as they are: their states, and how probable they are."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.errors import UsageError
from ppl_models.latent.rows import Rows
from ppl_models.models.joint import groups, on_device, select_draws
from ppl_models.tasks.common import index_frame, number_of, resolve, some_draws

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.fitting import Fit


def _probabilities(fit: "Fit", data: "Dataset") -> tuple[np.ndarray, np.ndarray]:
    """Filtered and smoothed state probabilities (n, K), averaged over draws of the parameters."""
    joint, rows = fit.joint, Rows(np.asarray(data.lengths, np.int64))
    batch = joint.dataset_batch(data, fit.settings.device)
    theta = some_draws(fit, data.rows * joint.states, budget=40_000_000, least=5)
    total = number_of(theta)
    filtered = torch.zeros(data.rows, joint.states, dtype=torch.float64, device=batch.values.device)
    smoothed = torch.zeros_like(filtered)
    for at in groups(total, 2 * data.rows * joint.states):
        natural = joint.natural(on_device(select_draws(theta, at), batch.values.device))
        m = joint.structure.marginals(joint.density(batch, natural), natural, rows)
        filtered += m.filtered.sum(0)
        smoothed += m.smoothed.sum(0)
    return (filtered / total).cpu().numpy(), (smoothed / total).cpu().numpy()


def predict(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """The hidden state of every row.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each row of the data: `state`, the most probable path (Viterbi, at the guide's expected
        log parameters); `smoothed_k` = p(z_t = k | all rows) and `filtered_k` = p(z_t = k | rows up to t),
        both averaged over the posterior of the parameters.
    """
    import pandas as pd

    dataset = resolve(fit, data, reading)
    joint, rows = fit.joint, Rows(np.asarray(dataset.lengths, np.int64))
    batch = joint.dataset_batch(dataset, fit.settings.device)
    natural = joint.expected_natural({n: s.to(batch.values.device) for n, s in fit.statistics.items()})
    path = joint.structure.path(joint.density(batch, natural), natural, rows)[0]
    filtered, smoothed = _probabilities(fit, dataset)
    cells = {"state": path.cpu().numpy()}
    cells |= {f"smoothed_{k}": smoothed[:, k] for k in range(joint.states)}
    cells |= {f"filtered_{k}": filtered[:, k] for k in range(joint.states)}
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def transform(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """Each row as features: the smoothed probabilities of its states, `state_0` to `state_{K−1}`."""
    import pandas as pd

    dataset = resolve(fit, data, reading)
    _, smoothed = _probabilities(fit, dataset)
    cells = {f"state_{k}": smoothed[:, k] for k in range(fit.joint.states)}
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def score(fit: "Fit", data: Any = None, by: str = "step", **reading: Any) -> "pd.DataFrame":
    """The log predictive density, in nats and the user's units, with the parameters integrated out.

    Within a sequence, log p(x_t | x_{1:t−1}) = log Σ_s p(x_{1:t} | θ_s) − log Σ_s p(x_{1:t−1} | θ_s), so
    that the steps of a sequence add up to the log density of the whole, log (1/S) Σ_s p(x_{1:T} | θ_s).

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        by: `step` for every row, `sequence` for totals.
        **reading: options of `ppl_models.data.read`.
    """
    if by not in ("step", "sequence"):
        raise UsageError(f"by must be step or sequence, got {by!r}")
    import pandas as pd

    dataset = resolve(fit, data, reading)
    joint, rows = fit.joint, Rows(np.asarray(dataset.lengths, np.int64))
    batch = joint.dataset_batch(dataset, fit.settings.device)
    theta = some_draws(fit, dataset.rows, budget=10_000_000, least=10)
    total = number_of(theta)
    log_c = np.empty((total, dataset.rows))
    for at in groups(total, dataset.rows * joint.states):
        natural = joint.natural(on_device(select_draws(theta, at), batch.values.device))
        part, _ = joint.structure.log_predictive(joint.density(batch, natural), natural, rows)
        log_c[at] = part.cpu().numpy()
    density = joint.log_base(batch.values).cpu().numpy()
    for lo, hi in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        so_far = log_c[:, lo:hi].cumsum(1)
        top = so_far.max(0)
        joint_density = np.log(np.exp(so_far - top).mean(0)) + top
        density[lo:hi] += np.diff(joint_density, prepend=0.0)
    table = index_frame(dataset)
    if by == "step":
        table["log_density"] = density
        return table
    ids = [s or str(i) for i, s in enumerate(dataset.sequence_ids)]
    sums = np.add.reduceat(density, rows.offsets[:-1])
    return pd.DataFrame(
        {
            dataset.schema.sequence or "sequence": ids,
            "steps": dataset.lengths,
            "log_density": sums,
            "log_density_per_step": sums / dataset.lengths,
        }
    )
