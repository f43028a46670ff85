"""The states of a fit as a table for people."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.draws import Draws, Params, free
from ppl_models.latent.joint import Joint

if TYPE_CHECKING:
    import pandas as pd


def states_table(joint: Joint, params: Params, theta: Draws) -> "pd.DataFrame":
    """A row for each state or component: its share of the rows and its emissions (posterior means).

    Args:
        joint: the model over the columns.
        params: expected sufficient statistics, R = 1.
        theta: draws of θ.
    """
    import pandas as pd

    counts, schema = joint.occupied(params).numpy(), joint.schema
    own = {schema.target, *(c.name for c in schema.columns if c.labelled)}
    table: dict[str, Any] = {free(joint.structure.noun, own): np.array(joint.names())}
    if joint.classes > 1:
        labels = schema.columns[schema.names.index(str(schema.target))].levels
        table[str(schema.target)] = [labels[k * len(labels) // joint.states] for k in range(joint.states)]
    table[free("share", own)] = counts / counts.sum()
    described = joint.structure.describe(joint.structure_theta(theta))
    table |= {free(name, own): cells for name, cells in described.items()}
    for e in joint.emissions:
        columns = [schema.columns[i] for i in e.columns]
        for name, (value, dims) in joint.described(e, theta[e.name]).items():
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
