"""The verbs of a mixture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.data.dataset import decode
from ppl_models.models.bound import groups, number_of, on_device, select_draws
from ppl_models.models.joint import all_rows
from ppl_models.tasks.common import frame_of, given_row, index_frame, resolve, seeded, some_draws, whole

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.fitting import Fit


def _responsibilities(fit: "Fit", data: "Dataset") -> np.ndarray:
    """p(z_n = k | x_n), averaged over draws of the parameters with their evidence of the row, (n, K)."""
    joint, rows = fit.bound, all_rows(data)
    batch = joint.dataset_batch(data, fit.settings.device)
    theta = some_draws(fit, data.rows * joint.states, budget=40_000_000, least=5)
    total = torch.zeros(data.rows, joint.states, dtype=torch.float64, device=batch.values.device)
    for at in groups(number_of(theta), 2 * data.rows * joint.states):
        natural = joint.natural(on_device(select_draws(theta, at), batch.values.device))
        total += joint.structure.marginals(joint.density(batch, natural), natural, rows).smoothed.sum(0)
    return (total / number_of(theta)).cpu().numpy()


def _unlabelled(fit: "Fit", data: "Dataset") -> "Dataset":
    """The data without its labels, which a prediction must not look at."""
    from dataclasses import replace

    values = data.values.copy()
    values[:, data.names.index(str(fit.data.schema.target))] = np.nan
    return replace(data, values=values)


def _by_class(fit: "Fit", gamma: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Probabilities of the classes (n, L), and their labels."""
    schema = fit.data.schema
    labels = schema.columns[schema.names.index(str(schema.target))].levels
    return gamma.reshape(len(gamma), len(labels), -1).sum(2), labels


def predict(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """The component of every row, or its class where the model has a target.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        **reading: options of `ppl_models.data.read`.

    Returns:
        `component`, the most probable one, and `probability_k` = p(z_n = k | x_n), averaged over the
        posterior of the parameters. With a target `class` and `probability_LABEL` = p(y_n | x_n), the row's
        own label, if it has one, not being looked at.
    """
    import pandas as pd

    dataset = resolve(fit, data, reading)
    if fit.data.schema.target is not None:
        p, labels = _by_class(fit, _responsibilities(fit, _unlabelled(fit, dataset)))
        cells: dict[str, Any] = {"class": decode(p.argmax(1).astype(float), labels)}
        cells |= {f"probability_{label}": p[:, i] for i, label in enumerate(labels)}
    else:
        p = _responsibilities(fit, dataset)
        cells = {"component": p.argmax(1)}
        cells |= {f"probability_{k}": p[:, k] for k in range(p.shape[1])}
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def transform(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """Each row as features: the probabilities of its components, `component_0` to `component_{K−1}`.

    Labels are not looked at.
    """
    import pandas as pd

    dataset = resolve(fit, data, reading)
    if fit.data.schema.target is not None:
        dataset = _unlabelled(fit, dataset)
    p = _responsibilities(fit, dataset)
    cells = {f"component_{k}": p[:, k] for k in range(p.shape[1])}
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def score(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """The log predictive density of every row, in nats and the user's units, parameters integrated out.

    log p(x_n) = log (1/S) Σ_s p(x_n | θ_s), missing cells left out; of the label as well where there is one.
    With a target also `log_probability`, log p(y_n | x_n), of rows that have a label.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        **reading: options of `ppl_models.data.read`.
    """
    dataset = resolve(fit, data, reading)
    table = index_frame(dataset)
    table["log_density"] = _log_density(fit, dataset)
    if fit.data.schema.target is not None:
        labelled = ~np.isnan(dataset.column(fit.data.schema.target))
        conditional = table["log_density"] - _log_density(fit, _unlabelled(fit, dataset))
        table["log_probability"] = np.where(labelled, conditional, np.nan)
    return table


def _log_density(fit: "Fit", data: "Dataset") -> np.ndarray:
    joint, rows = fit.bound, all_rows(data)
    batch = joint.dataset_batch(data, fit.settings.device)
    theta = some_draws(fit, data.rows * joint.states, budget=100_000_000, least=10)
    total = torch.full((data.rows,), -torch.inf, dtype=torch.float64, device=batch.values.device)
    for at in groups(number_of(theta), data.rows * joint.states):
        natural = joint.natural(on_device(select_draws(theta, at), batch.values.device))
        log_x, _ = joint.structure.log_predictive(joint.density(batch, natural), natural, rows)
        total = torch.logaddexp(total, log_x.logsumexp(0))
    return (total - np.log(number_of(theta)) + joint.log_base(batch.values)).cpu().numpy()


def sample(
    fit: "Fit", rows: int = 100, *, given: Mapping[str, Any] | None = None, seed: int | None = None
) -> "pd.DataFrame":
    """New rows, each from its own draw of the parameters: the posterior predictive distribution.

    Args:
        fit: the fit.
        rows: how many.
        given: values of some columns, by name: the others are drawn given these, exactly.
        seed: the fit's, if not given.
    """
    n = whole("rows", rows)
    joint, p = fit.bound, fit.posterior_draws
    cells = None if not given else given_row(fit, given)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 10))
        theta = select_draws(p.theta, torch.randint(p.draws, (n,)))
        if cells is None:
            state = joint.structure.simulate(joint.structure_theta(theta), 1)
        else:  # the draws of θ count as much as what they make of what is given
            batch = joint.dataset_batch(cells, "cpu")
            natural = joint.natural(theta)
            log_x, _ = joint.structure.log_predictive(joint.density(batch, natural), natural, batch.rows)
            theta = select_draws(theta, torch.multinomial(log_x[:, 0].softmax(0), n, replacement=True))
            natural = joint.natural(theta)
            state = joint.structure.draw_paths(joint.density(batch, natural), natural, batch.rows)
        drawn = joint.emit(theta, state, None if cells is None else torch.as_tensor(cells.values))
    table = frame_of(fit, drawn[:, 0].numpy())
    table.insert(0, "component", state[:, 0].numpy())
    return table
