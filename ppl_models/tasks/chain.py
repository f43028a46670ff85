"""The verbs of a hidden Markov model."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.errors import UsageError
from ppl_models.models.bound import groups, number_of, on_device, select_draws
from ppl_models.models.joint import all_rows
from ppl_models.tasks.common import (
    check_level,
    frame_of,
    index_frame,
    resolve,
    seeded,
    some_draws,
    spread,
    whole,
)

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.fitting import Fit


def _probabilities(fit: "Fit", data: "Dataset") -> tuple[np.ndarray, np.ndarray]:
    """Filtered and smoothed state probabilities (n, K), averaged over draws of the parameters."""
    joint, rows = fit.bound, all_rows(data)
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
    joint, rows = fit.bound, all_rows(dataset)
    batch = joint.dataset_batch(dataset, fit.settings.device)
    natural = joint.expected_natural({n: s.to(batch.values.device) for n, s in fit.params.items()})
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
    cells = {f"state_{k}": smoothed[:, k] for k in range(fit.bound.states)}
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
    joint, rows = fit.bound, all_rows(dataset)
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


def sample(fit: "Fit", steps: int = 100, *, sequences: int = 1, seed: int | None = None) -> "pd.DataFrame":
    """New sequences, each from its own draw of the parameters: the posterior predictive distribution.

    Args:
        fit: the fit.
        steps: rows of each sequence.
        sequences: how many.
        seed: the fit's, if not given.
    """
    steps, sequences = whole("steps", steps), whole("sequences", sequences)
    joint, p = fit.bound, fit.posterior_draws
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 10))
        theta = select_draws(p.theta, torch.randint(p.draws, (sequences,)))
        state = joint.structure.simulate(joint.structure_theta(theta), steps)
        rows = joint.emit(theta, state)
    table = frame_of(fit, rows.reshape(sequences * steps, -1).numpy())
    table.insert(0, "state", state.reshape(-1).numpy())
    if sequences > 1:
        name = fit.data.schema.sequence or "sequence"
        table.insert(0, name, np.repeat(np.arange(sequences), steps))
    return table


def forecast(
    fit: "Fit",
    steps: int = 10,
    data: Any = None,
    *,
    level: float = 0.9,
    seed: int | None = None,
    **reading: Any,
) -> "pd.DataFrame":
    """The rows that follow the last one of every sequence, with intervals.

    Each draw of the parameters filters the sequence to its end, then walks on from there: intervals hold
    the uncertainty of parameters, states and emissions (the full posterior predictive).

    Args:
        fit: the fit.
        steps: how far ahead.
        data: the sequences to go on from, or None for those of the fit.
        level: probability of the intervals.
        seed: the fit's, if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each sequence and step: for a number its mean, `_sd`, `_lower` and `_upper`; for a label
        the most probable one and its `_probability`; and `state_k`, the probabilities of the states.
    """
    import pandas as pd

    steps = whole("steps", steps)
    tails = check_level(level)
    dataset = resolve(fit, data, reading)
    joint, rows = fit.bound, all_rows(dataset)
    batch = joint.dataset_batch(dataset, fit.settings.device)
    theta = some_draws(fit, max(dataset.rows * joint.states, steps * len(rows.lengths)), budget=200_000_000)
    natural = joint.natural(on_device(theta, batch.values.device))
    ends = []
    for at in groups(number_of(theta), dataset.rows * joint.states):
        part = {name: value[at] for name, value in natural.items()}
        ends.append(joint.structure.log_predictive(joint.density(batch, part), part, rows)[1].cpu())
    now = torch.cat(ends)  # (S, sequences, K)
    tables = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 11))
        for i, name in enumerate(dataset.sequence_ids):
            repeat = max(1, 1000 // number_of(theta))
            many = select_draws(theta, torch.arange(number_of(theta)).repeat(repeat))
            state = joint.structure.simulate(joint.structure_theta(many), steps, now[:, i].repeat(repeat, 1))
            drawn = joint.emit(many, state).numpy()
            table = pd.DataFrame({"step": np.arange(1, steps + 1)})
            times = _times_after(dataset, i, steps)
            if times is not None:
                table.insert(0, str(dataset.schema.time), times)
            if len(dataset.lengths) > 1 or dataset.schema.sequence is not None:
                table.insert(0, dataset.schema.sequence or "sequence", name or str(i))
            cells: dict[str, np.ndarray] = {}
            for j, column in enumerate(dataset.schema.columns):
                cells |= spread(column, drawn[:, :, j], tails)
            for k in range(joint.states):
                cells[f"state_{k}"] = (state == k).double().mean(0).numpy()
            tables.append(pd.concat([table, pd.DataFrame(cells)], axis=1))
    return pd.concat(tables, ignore_index=True)


def _times_after(data: "Dataset", index: int, steps: int) -> np.ndarray | None:
    """The times that follow a sequence whose times are evenly spaced numbers."""
    if data.schema.time is None or not isinstance(data.times, np.ndarray):
        return None
    times = data.times[data.offsets[index] : data.offsets[index + 1]]
    if times.dtype.kind not in "iuf" or len(times) < 2:
        return None
    gaps = np.diff(times.astype(float))
    if not np.allclose(gaps, gaps[0]):
        return None
    ahead = times[-1] + gaps[0] * np.arange(1, steps + 1)
    return ahead.astype(np.int64) if (ahead == np.rint(ahead)).all() else ahead
