"""How probable rows are."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack, cast

from ppl_models.annotations import count
from ppl_models.capabilities import (
    Bounded,
    Conditional,
    Importance,
    OfSequences,
    Regresses,
    Scores,
    Sequences,
    Sparing,
    Writes,
)
from ppl_models.data import Later
from ppl_models.errors import UsageError
from ppl_models.threads import threads_for
from ppl_models.verbs.base import Needs, Seed, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.draws import Draws
    from ppl_models.record import Record

BUDGET, LEAST = 100_000_000, 10
"""Draws × numbers a draw that densities are averaged over, about, and the least draws."""


@verb(
    "ppl score latest new.csv --by sequence",
    needs=(Scores, Conditional, Regresses),
    by_row=True,
    unless=("summary",),
)
def score(
    fit: "Record",
    data: Any = None,
    *,
    by: Annotated[
        Literal["step", "sequence"] | None,
        "A row for each of these; step if not given.",
        Needs((Sequences,)),
    ] = None,
    draws: Annotated[
        int | None,
        "Draws of the parameters to average over, as many as the answer needs if not given; of a VAE "
        "importance draws of each row, 100 if not given.",
    ] = None,
    summary: Annotated[bool, "The mean of the rows, its standard error, and how many were left out."] = False,
    seed: Annotated[Seed, Needs((Importance,))] = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """The log predictive density of each row or sequence, in nats.

    In the user's units, with the parameters integrated out:

        log p(x_n) = log (1/S) Σ_s p(x_n | θ_s)

    and within a sequence log p(x_t | x_{1:t−1}) = log Σ_s p(x_{1:t} | θ_s) − log Σ_s p(x_{1:t−1} | θ_s), so
    that the steps of a sequence add up to the log density of the whole. Missing cells are left out. Where
    there is a target, of the label as well.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        by: `step` for every row, `sequence` for totals.
        draws: of the parameters, as in `predict`; where there are latents that are integrated out by draws,
            of these, by which the density of a row is estimated: papers report 5,000.
        summary: a row for each score instead: its mean over rows (or sequences), the standard error of that,
            sd / √n, over how many, and how many were left out for want of a score, or of any cell. Within a
            sequence the steps are taken as uncorrelated, which errors of predictions one step ahead are where
            the model is right.
        draws: of the latents, by which the density of a row is estimated; papers report 5,000.
        seed: of these draws; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        `log_density` of every row; before it `elbo`, where the density is an estimate that this bounds from
        below. With a target `log_probability`, log p(y_n | x_n), where there is a label and every predictor;
        of a continuous target that is a log density, in its units. Of a target of whole sequences it is that
        of the sequence, in each of its rows, and counts once in a summary. Of texts rows are bytes, and
        totals and summaries have `bits_per_byte` beside the nats.
    """
    import numpy as np
    import pandas as pd

    from ppl_models.later import later
    from ppl_models.tables import by_row, by_sequence, seeded

    if by not in (None, "step", "sequence"):
        raise UsageError(f"by must be step or sequence, got {by!r}")
    dataset, bound = later(fit, data, reading), fit.bound
    found = log_scores(fit, dataset, draws, seeded(fit, seed, 14))
    if isinstance(bound, Writes) and (by == "sequence" or summary):
        found["bits_per_byte"] = -found["log_density"] / np.log(2)
    if by == "sequence":
        table = by_sequence(dataset)
        sums = np.add.reduceat(found["log_density"], dataset.offsets[:-1])
        table.add("log_density", sums)
        table.add("log_density_per_step", sums / dataset.lengths)
        own = {"log_density": sums}
        if "log_probability" in found:
            own["log_probability"] = found["log_probability"][dataset.offsets[:-1]]
            table.add("log_probability", own["log_probability"])
        if "bits_per_byte" in found:
            own["bits_per_byte"] = -sums / dataset.lengths / np.log(2)
            table.add("bits_per_byte", own["bits_per_byte"])
        return _summary(own) if summary else table.frame()
    if summary:
        if isinstance(bound, OfSequences):  # each counts once
            found["log_probability"] = found["log_probability"][dataset.offsets[:-1]]
        blank = np.isnan(dataset.values).all(axis=-1)
        whole = dataset.rows
        at = {name: np.where(blank, np.nan, v) if len(v) == whole else v for name, v in found.items()}
        return _summary(at)
    if dataset.rows != 1 and {len(values) for values in found.values()} == {1}:
        return pd.DataFrame(found)  # all rows together
    table = by_row(dataset)
    for name, values in found.items():
        table.add(name, values)
    return table.frame()


def log_scores(fit: "Record", dataset: "Dataset", draws: int | None, seed: int) -> "dict[str, np.ndarray]":
    """`elbo`, `log_density` and `log_probability` of rows, those of them that the model has, (n,) each.

    Args:
        fit: the fit.
        dataset: the rows.
        draws: as in `score`.
        seed: of the draws of latents.
    """
    import torch

    from ppl_models.tables import averaging, some_draws

    bound = cast(Any, fit.bound)
    if isinstance(bound, Importance) and draws is not None:
        bound, draws = bound.with_particles(count("draws", draws)), None
    if draws is None and isinstance(bound, Sequences):  # a draw counts by all that came before a row
        theta = some_draws(fit, dataset, BUDGET, LEAST)
    else:
        bound, theta = averaging(fit, dataset, BUDGET, LEAST, draws, bound)
    rows = bound.rows(dataset, fit.settings.device)
    found: dict[str, np.ndarray] = {}
    with torch.random.fork_rng(devices=[]), threads_for(bound.numbers(dataset)):
        torch.manual_seed(seed)
        if isinstance(bound, Bounded):
            elbo, density = bound.log_density_bounds(rows, theta)
            found |= {"elbo": elbo.numpy(), "log_density": density.numpy()}
        elif isinstance(bound, Scores):
            found["log_density"] = _integrated(bound, rows, dataset, theta)
        if isinstance(bound, Conditional):
            found["log_probability"] = bound.log_probability(rows, theta)
        elif isinstance(bound, Regresses):
            found["log_probability"] = _of_numbers(bound, rows, dataset, theta)
    return found


def _summary(found: "dict[str, np.ndarray]") -> "pd.DataFrame":
    """Mean, standard error and number of the scores that there are."""
    import numpy as np
    import pandas as pd

    rows = []
    for name, values in found.items():
        known = values[~np.isnan(values)]
        number = len(known)
        mean = known.mean() if number else np.nan
        error = known.std(ddof=1) / number**0.5 if number > 1 else np.nan
        left = len(values) - number
        rows.append({"score": name, "mean": mean, "standard_error": error, "rows": number, "left_out": left})
    return pd.DataFrame(rows)


def _integrated(bound: Any, rows: Any, data: "Dataset", theta: "Draws") -> "np.ndarray":
    """Log predictive densities of rows given those before in their sequence, blocks of draws at a time."""
    import numpy as np
    import torch

    from ppl_models.draws import groups, number_of, select_draws

    follows = isinstance(bound, Sequences)
    if isinstance(bound, Sparing) and not follows:
        return bound.log_mean_density(rows, theta).numpy()
    count, total = 0, torch.tensor(-torch.inf, dtype=torch.float64)
    for at in groups(number_of(theta), bound.numbers(data)):
        each = bound.log_density(rows, select_draws(theta, at))  # (s, n)
        if follows:
            each = torch.cat([part.cumsum(1) for part in each.split(data.lengths.tolist(), 1)], 1)
        count, total = count + len(each), torch.logaddexp(total, each.logsumexp(0))
    so_far = (total - np.log(count)).numpy()
    if not follows:
        return so_far
    first = data.offsets[:-1]
    density = np.diff(so_far, prepend=0.0)
    density[first] = so_far[first]
    return density


def _of_numbers(bound: Regresses, rows: Any, data: "Dataset", theta: "Draws") -> "np.ndarray":
    """Log (1/S) Σ_s p(y_n | x_n, θ_s), (n,); NaN where the target or a predictor is missing."""
    import numpy as np
    import torch

    found, target = np.full(data.rows, np.nan), np.array(data.column(str(data.schema.target)))
    for part in bound.predicted(rows, theta):
        y = torch.from_numpy(target[part.index])
        known = ~y.isnan()
        own = part.new.log_prob(torch.where(known, y, part.new.sample()[0].double())).double()
        each = own.logsumexp(0) - np.log(len(own))
        found[part.index] = torch.where(known, each, torch.nan).numpy()
    return found
