"""PSIS-LOO of fits to all rows, by ArviZ."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Scores
from ppl_models.comparison.contest import Contestant
from ppl_models.comparison.entries import FittedOwn, Own
from ppl_models.errors import PplError

if TYPE_CHECKING:
    import pandas as pd


def leave_one_out(
    done: Sequence[Contestant], seed: int, say: Callable[[str], None]
) -> "tuple[pd.DataFrame | None, list[str]]":
    """ArviZ's `compare` of expected log pointwise predictive densities, a fit to all rows for each entry.

    Only what is of the same thing is compared: joint models by log p(x, y), conditional ones by log p(y | x)
    (Vehtari, Gelman & Gabry 2017, Statistics and Computing 27, https://doi.org/10.1007/s11222-016-9696-4).

    Args:
        done: the entries that were fitted.
        seed: of the fits.
        say: told what is done.

    Returns:
        The table, with `of` and `model` in front, and a note for each entry that is left out.
    """
    import warnings

    import arviz
    import pandas as pd

    groups: dict[str, dict[str, Any]] = {}
    notes = []
    for one in done:
        if not isinstance(one.entry, Own):
            continue
        say(f"{one.name}: PSIS-LOO")
        try:
            fitted = one.entry.fit(one.data, seed)
            if not isinstance(fitted, FittedOwn) or not isinstance(fitted.record.bound, Bayesian):
                continue
            joint = isinstance(fitted.record.bound, Scores)
            posterior = fitted.record.posterior
        except PplError as error:
            notes.append(f"{one.name} has no PSIS-LOO: {error}")
            continue
        groups.setdefault("log p(x, y)" if joint else "log p(y | x)", {})[one.name] = posterior
    tables = []
    for of, posteriors in groups.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the table says so: `warning`
            if len(posteriors) > 1:
                table = arviz.compare(posteriors)
            else:
                ((name, posterior),) = posteriors.items()
                own = arviz.loo(posterior)
                table = pd.DataFrame(_one(own), index=[name])
        table = table.rename_axis("model").reset_index()
        table.insert(0, "of", of)
        tables.append(table)
    return (pd.concat(tables, ignore_index=True) if tables else None), notes


def _one(own: Any) -> dict[str, Any]:
    """The row of a single model, by whichever names this version of ArviZ has."""
    found: dict[str, Any] = {"rank": 0}
    for name, old in (("elpd", "elpd_loo"), ("p", "p_loo"), ("se", "se"), ("warning", "warning")):
        found[name] = getattr(own, name) if hasattr(own, name) else getattr(own, old, None)
    return found
