"""New rows from the posterior predictive distribution."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Unpack, cast

from ppl_models.annotations import Metavar, count
from ppl_models.capabilities import Conditions, Priors, Redraws, Samples, Sequences, Tempered, Writes
from ppl_models.data import Later
from ppl_models.errors import Unsupported, UsageError
from ppl_models.verbs.base import Needs, Seed, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from ppl_models.record import Record


@verb("ppl sample latest --rows 250 --seed 1", needs=(Samples, Sequences, Redraws))
def sample(
    fit: "Record",
    rows: Annotated[
        int | None, "How many rows; of each sequence. 100 if not given.", Needs((Samples, Sequences))
    ] = None,
    data: Any = None,
    *,
    steps: Annotated[int | None, "Rows of each sequence: the same as --rows.", Needs((Sequences,))] = None,
    sequences: Annotated[int | None, "How many sequences; 1 if not given.", Needs((Sequences,))] = None,
    given: Annotated[
        Mapping[str, Any] | None,
        "Values of some columns, which the others are drawn given.",
        Metavar("COL=VALUE,..."),
        Needs((Samples, Conditions)),
    ] = None,
    draws: Annotated[
        int | None, "Tables that are drawn from DATA; 1 if not given.", Needs((Redraws,))
    ] = None,
    prompt: Annotated[str | None, "What each text begins with.", Metavar("TEXT"), Needs((Writes,))] = None,
    temperature: Annotated[
        float | None,
        "Draw from probabilities to the power of one over this; 0 draws the most probable. 1 if not given.",
        Needs((Tempered,)),
    ] = None,
    top_p: Annotated[
        float | None,
        "Draw only from the most probable values that together have so much. 1 if not given.",
        Needs((Tempered,)),
    ] = None,
    prior: Annotated[bool, "Draw from the prior, not the posterior.", Needs((Priors,))] = False,
    seed: Seed = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """New rows from the posterior predictive distribution.

    Joint models make up rows, each from its own draw of the parameters; chains sequences, each from its own
    draw. Conditional models and programs draw what is random in a table anew, given the rest.

    Args:
        fit: the fit.
        rows: how many, of joint models. A table in its place is taken as `data`.
        data: of conditional models and programs, rows with the other columns; None for those of the fit.
        steps: rows of each sequence.
        sequences: how many.
        given: values of some columns, by name: the others are drawn given these. Of sequences the class.
        prompt: what each text begins with. Of texts `rows` and `steps` are bytes, 500 if not given.
        temperature: T of p^(1/T), by which less (T < 1) or more probable values are drawn more rarely.
        top_p: share of the probability that the values have from which one is drawn, 0 to 1.
        draws: tables, numbered in a column `draw` if there are several.
        prior: whether parameters are drawn from the prior: the prior predictive distribution.
        seed: of the draws; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        Rows in the user's units, with `component` or `state` before them where the model has some. Sequences
        that can end by themselves have `rows` at most. Of texts a row for each, in the column `text` or as
        they were called.

    Raises:
        UsageError: a temperature below 0, or a share that is none.
        Unsupported: the observed sites of a program make no table.
    """
    import numpy as np
    import pandas as pd
    import torch

    from ppl_models.data import Dataset
    from ppl_models.later import later
    from ppl_models.tables import Result, given_row, in_users_terms, seeded

    if rows is not None and not isinstance(rows, int | np.integer):
        data, rows = rows, None
    schema = fit.data.schema
    bound: Any = fit.bound
    if data is not None and not isinstance(bound, Redraws):
        raise UsageError(f"{fit.name} makes up rows, and draws nothing given data; leave it out")
    if temperature is not None or top_p is not None:
        bound = cast(Any, bound).tempered(*_temper(temperature, top_p))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 10))
        if isinstance(bound, Writes):
            length = 500 if rows is None and steps is None else _length(rows, steps)
            number = count("sequences", 1 if sequences is None else sequences)
            texts = bound.write(number, length, prompt or "", fit.draws)
            return pd.DataFrame({schema.text or "text": texts})
        if isinstance(bound, Redraws):
            tables, dataset = count("draws", 1 if draws is None else draws), later(fit, data, reading)
            theta = bound.prior_draws(tables, seeded(fit, seed, 12)) if prior else fit.draws
            return _redrawn(dataset, bound.redraw(dataset, theta, tables))
        if isinstance(bound, Sequences):
            length = _length(rows, steps)
            number = count("sequences", 1 if sequences is None else sequences)
            if given:
                if not isinstance(bound, Conditions):
                    raise UsageError(f"{fit.name} makes up sequences, and draws none given cells of a row")
                found = bound.sample_given(number, length, fit.draws, given_row(fit, given))
            else:
                found = bound.sample_sequences(number, length, fit.draws)
        else:
            cells: Dataset | None = given_row(fit, given) if given else None
            found = bound.sample(count("rows", 100 if rows is None else rows), fit.draws, cells)
            number = 1
    own = [schema.sequence] if number > 1 and schema.sequence is not None else []
    table, total = Result([*own, *schema.names]), len(found.values)
    if number > 1:
        which = np.repeat(np.arange(number), total // number if found.lengths is None else found.lengths)
        (table.own if own else table.add)(schema.sequence or "sequence", which)
    for name, values in found.beside.items():
        table.add(name, values)
    for column, drawn in zip(schema.columns, found.values.T, strict=True):
        table.own(column.name, in_users_terms(column, drawn))
    return table.frame()


def _temper(temperature: float | None, top_p: float | None) -> tuple[float, float]:
    """Both, checked.

    Raises:
        UsageError: one is none.
    """
    T, p = 1.0 if temperature is None else temperature, 1.0 if top_p is None else top_p
    if not 0 <= T < float("inf"):
        raise UsageError(f"temperature must be at least 0 and finite, got {T:g}")
    if not 0 < p <= 1:
        raise UsageError(f"top_p must be above 0 and at most 1, got {p:g}")
    return T, p


def _length(rows: int | None, steps: int | None) -> int:
    """Rows of a sequence, by either name."""
    if rows is not None and steps is not None:
        raise UsageError("rows and steps are the same, of sequences; give one of them")
    return count("rows" if steps is None else "steps", next((n for n in (steps, rows) if n is not None), 100))


def _redrawn(data: Any, drawn: "np.ndarray | dict[str, Tensor]") -> "pd.DataFrame":
    """Tables one below the other; sites that are no column beside one another, if they are of one length."""
    import numpy as np
    import pandas as pd

    from ppl_models.draws import free

    if not isinstance(drawn, dict):
        tables = [data.frame(values) for values in drawn]
        for i, table in enumerate(tables if len(tables) > 1 else ()):
            table.insert(0, free("draw", table.columns), i)
        return pd.concat(tables, ignore_index=data.index is None)
    sizes = {name: value[0].numel() for name, value in drawn.items()}
    if len(set(sizes.values())) != 1:
        shapes = ", ".join(f"{name} {tuple(value.shape[1:])}" for name, value in drawn.items())
        raise Unsupported(f"sample makes a table, and the observed sites have the shapes {shapes}")
    table, number = (
        pd.DataFrame({n: v.reshape(-1).numpy() for n, v in drawn.items()}),
        len(next(iter(drawn.values()))),
    )
    if number > 1:
        table.insert(0, free("draw", table.columns), np.repeat(np.arange(number), next(iter(sizes.values()))))
    return table
