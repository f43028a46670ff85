"""Verbs that look at the posterior: its summary, and a table of the states for people."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.fitting import Fit


def summary(fit: "Fit", *, level: float = 0.89) -> "pd.DataFrame":
    """Posterior mean, standard deviation and interval of every parameter (ArviZ's `summary`).

    R-hat and effective sample sizes are left out: draws from a guide are independent, and those figures
    would say nothing of how far the guide is from the posterior. `check` does.
    """
    from ppl_models.posterior import summarise
    from ppl_models.tasks.common import check_level

    check_level(level)
    return summarise(fit, level)


def states_table(fit: "Fit") -> "pd.DataFrame":
    """A row for each state: its share of the rows, how long it lasts, and its emissions (posterior means)."""
    import pandas as pd

    from ppl_models.fitting import occupied

    joint, p = fit.joint, fit.posterior_draws
    counts = occupied(fit.statistics).numpy()
    stay = p.theta["transition"]["transition"].diagonal(dim1=-1, dim2=-2).numpy()
    table: dict[str, Any] = {
        "state": np.arange(joint.states),
        "share": counts / counts.sum(),
        "stays": np.median(1 / np.maximum(1 - stay, 1e-12), 0),
    }
    for e in joint.emissions:
        columns = [fit.data.schema.columns[i] for i in e.columns]
        for name, (value, dims) in e.user(p.theta[e.name]).items():
            mean = value.mean(0).numpy()
            if dims == ("column",):
                for d, column in enumerate(columns):
                    level = f" = {column.levels[1]}" if column.labelled else ""
                    table[f"{column.name}{level} ({name})"] = mean[:, d]
            elif dims[0].startswith("level_"):
                column = columns[int(dims[0].removeprefix("level_"))]
                best = mean.argmax(1)
                table[column.name] = [f"{column.levels[b]} {mean[k, b]:.2f}" for k, b in enumerate(best)]
    return pd.DataFrame(table)
