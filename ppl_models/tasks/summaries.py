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
    """A row for each state or component: its share of the rows and its emissions (posterior means)."""
    import pandas as pd

    joint, p = fit.bound, fit.posterior_draws
    counts = fit.bound.occupied(fit.params).numpy()
    table: dict[str, Any] = {joint.structure.noun: np.arange(joint.states)}
    schema = fit.data.schema
    if schema.target is not None:
        labels = schema.columns[schema.names.index(schema.target)].levels
        table[schema.target] = [labels[k * len(labels) // joint.states] for k in range(joint.states)]
    table["share"] = counts / counts.sum()
    table |= joint.structure.describe(joint.structure_theta(p.theta))
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
    shown = pd.DataFrame(table)
    return shown.loc[counts >= 1.0].reset_index(drop=True) if joint.prunes else shown
