"""Verbs that draw: new sequences, what comes next, and cells that are missing."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.errors import UsageError
from ppl_models.latent.rows import Rows
from ppl_models.models.joint import Draws, on_device, select_draws
from ppl_models.tasks.common import (
    check_level,
    index_frame,
    number_of,
    resolve,
    seeded,
    some_draws,
)

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.data import Column, Dataset
    from ppl_models.fitting import Fit


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


def _chain(theta: Draws) -> dict[str, torch.Tensor]:
    return {**theta["start"], **theta["transition"]}


def sample(fit: "Fit", steps: int = 100, *, sequences: int = 1, seed: int | None = None) -> "pd.DataFrame":
    """New sequences, each from its own draw of the parameters: the posterior predictive distribution.

    Args:
        fit: the fit.
        steps: rows of each sequence.
        sequences: how many.
        seed: the fit's, if not given.
    """
    steps, sequences = _whole("steps", steps), _whole("sequences", sequences)
    joint, p = fit.joint, fit.posterior_draws
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 10))
        theta = select_draws(p.theta, torch.randint(p.draws, (sequences,)))
        state = joint.structure.simulate(_chain(theta), steps)
        rows = joint.emit(theta, state)
    table = _frame(fit, rows.reshape(sequences * steps, -1).numpy())
    table.insert(0, "state", state.reshape(-1).numpy())
    if sequences > 1:
        name = fit.data.schema.sequence or "sequence"
        table.insert(0, name, np.repeat(np.arange(sequences), steps))
    return table


def _frame(fit: "Fit", values: np.ndarray) -> "pd.DataFrame":
    """Rows in the user's terms: labels for codes, whole numbers for counts."""
    import pandas as pd

    from ppl_models.data.dataset import decode

    columns: dict[str, Any] = {}
    for column, cells in zip(fit.data.schema.columns, values.T, strict=True):
        if column.labelled:
            columns[column.name] = decode(cells, column.levels)
        else:
            columns[column.name] = cells.astype(np.int64) if column.kind == "count" else cells
    return pd.DataFrame(columns)


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

    steps = _whole("steps", steps)
    tails = check_level(level)
    dataset = resolve(fit, data, reading)
    joint, rows = fit.joint, Rows(np.asarray(dataset.lengths, np.int64))
    batch = joint.dataset_batch(dataset, fit.settings.device)
    theta = some_draws(fit, max(dataset.rows * joint.states, steps * len(rows.lengths)), budget=200_000_000)
    natural = joint.natural(on_device(theta, batch.values.device))
    ends = []
    for at in _blocks(number_of(theta), dataset.rows * joint.states):
        part = {name: value[at] for name, value in natural.items()}
        ends.append(joint.structure.log_predictive(joint.density(batch, part), part, rows)[1].cpu())
    now = torch.cat(ends)  # (S, sequences, K)
    tables = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 11))
        for i, name in enumerate(dataset.sequence_ids):
            repeat = max(1, 1000 // number_of(theta))
            many = select_draws(theta, torch.arange(number_of(theta)).repeat(repeat))
            state = joint.structure.simulate(_chain(many), steps, now[:, i].repeat(repeat, 1))
            drawn = joint.emit(many, state).numpy()
            table = pd.DataFrame({"step": np.arange(1, steps + 1)})
            times = _times_after(dataset, i, steps)
            if times is not None:
                table.insert(0, str(dataset.schema.time), times)
            if len(dataset.lengths) > 1 or dataset.schema.sequence is not None:
                table.insert(0, dataset.schema.sequence or "sequence", name or str(i))
            cells: dict[str, np.ndarray] = {}
            for j, column in enumerate(dataset.schema.columns):
                cells |= _spread(column, drawn[:, :, j], tails)
            for k in range(joint.states):
                cells[f"state_{k}"] = (state == k).double().mean(0).numpy()
            tables.append(pd.concat([table, pd.DataFrame(cells)], axis=1))
    return pd.concat(tables, ignore_index=True)


def _blocks(total: int, each: int) -> list[slice]:
    size = max(1, min(total, 8_000_000 // max(each, 1)))
    return [slice(lo, lo + size) for lo in range(0, total, size)]


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


def _spread(column: "Column", draws: np.ndarray, tails: tuple[float, float]) -> dict[str, np.ndarray]:
    """What draws (S, T) of one column say of each of the T cells."""
    if column.labelled:
        from ppl_models.data.dataset import decode

        share = np.stack([(draws == code).mean(0) for code in range(len(column.levels))])
        best = share.argmax(0)
        return {
            column.name: decode(best.astype(float), column.levels),
            f"{column.name}_probability": share.max(0),
        }
    lower, upper = np.quantile(draws, tails, axis=0)
    return {
        column.name: draws.mean(0),
        f"{column.name}_sd": draws.std(0),
        f"{column.name}_lower": lower,
        f"{column.name}_upper": upper,
    }


def impute(
    fit: "Fit",
    data: Any = None,
    *,
    level: float = 0.9,
    seed: int | None = None,
    draws: int = 400,
    **reading: Any,
) -> "pd.DataFrame":
    """The table with its missing cells filled in, and intervals for them.

    For each draw of the parameters a path of states is drawn given all observed cells, and the missing
    cells given the state and what else is observed in their row. A number is filled with the mean of its
    draws, a label with the most probable one.

    Args:
        fit: the fit.
        data: a table with missing cells, or None for the data of the fit.
        level: probability of the intervals.
        seed: the fit's, if not given.
        draws: how many, less where data is large.
        **reading: options of `ppl_models.data.read`.

    Returns:
        The table, followed for each column that had missing cells by `_lower` and `_upper`, or by
        `_probability` for labels, empty where the cell was observed.
    """
    import pandas as pd

    tails = check_level(level)
    dataset = resolve(fit, data, reading)
    joint, rows = fit.joint, Rows(np.asarray(dataset.lengths, np.int64))
    missing = np.isnan(dataset.values)
    holes = np.flatnonzero(missing.any(1))
    filled = dataset.values.copy()
    extra: dict[str, np.ndarray] = {}
    if len(holes):
        batch = joint.dataset_batch(dataset, fit.settings.device)
        number = int(np.clip(200_000_000 // (dataset.rows * joint.states), 50, draws))
        p = fit.posterior_draws
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded(fit, seed, 12))
            chosen = (
                torch.randperm(p.draws)[:number] if number <= p.draws else torch.randint(p.draws, (number,))
            )
            theta = select_draws(p.theta, chosen)
            given = torch.as_tensor(dataset.values[holes])
            parts = []
            for at in _blocks(number, dataset.rows * joint.states):
                some = select_draws(theta, at)
                natural = joint.natural(on_device(some, batch.values.device))
                path = joint.structure.draw_paths(joint.density(batch, natural), natural, rows).cpu()
                parts.append(joint.emit(some, path[:, holes], given).numpy())
        drawn = np.concatenate(parts)  # (S, holes, C)
        for j, column in enumerate(dataset.schema.columns):
            cells = missing[holes, j]
            if not cells.any():
                continue
            at = holes[cells]
            for label, values in _spread(column, drawn[:, cells, j], tails).items():
                if label == column.name:
                    codes = {name: code for code, name in enumerate(column.levels)}
                    filled[at, j] = [codes[v] for v in values] if column.labelled else values
                elif not label.endswith("_sd"):
                    extra[label] = np.full(dataset.rows, np.nan)
                    extra[label][at] = values
    table, index = dataset.frame(filled), index_frame(dataset)
    front = index[[name for name in index.columns if name not in table.columns]]
    return pd.concat([front, table, pd.DataFrame(extra, index=table.index)], axis=1)
