"""compare(): models on the same held-out rows, with differences that know what they are worth."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ppl_models.annotations import count
from ppl_models.comparison import harder
from ppl_models.comparison.contest import Contestant, Judge, made
from ppl_models.comparison.entries import OnFeatures, OnRows, Own
from ppl_models.comparison.finished import finished
from ppl_models.comparison.folds import Fold, folds_of
from ppl_models.comparison.leave_one_out import leave_one_out
from ppl_models.comparison.result import Comparison
from ppl_models.comparison.tabulate import by_fold, crossings, gains, headline, probabilities, summed
from ppl_models.comparison.words import parsed
from ppl_models.data import Dataset, read
from ppl_models.errors import DataError, PplError, UsageError
from ppl_models.record import Record
from ppl_models.threads import in_turn

Progress = Callable[[str], None]


@in_turn
def compare(
    data: Any,
    models: Any,
    target: Any = None,
    *,
    folds: int = 5,
    repeats: int = 1,
    curve: bool = False,
    missing_cells: bool = False,
    missing_labels: bool = False,
    loo: bool = False,
    checks: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
    **reading: Any,
) -> Comparison:
    """Fit models to the same parts of the rows and score them on the rest.

        L(model) = mean over folds of mean over rows of −log p(y_n | x_n, training part)

    Folds are stratified by the classes, of whole sequences where there are several, and forward in time
    where there is one sequence with a time. Everything is learned inside the fold: means and standard
    deviations by which columns are standardised, imputation, features and rows of one model for another.
    Kinds of columns and their levels are those of the whole table. Finished runs alone are not fitted again
    but scored on the data as they stand, with standard errors over rows; beside other models their model and
    settings are fitted anew.

    Args:
        data: as for `fit`.
        models: a word (see `ppl_models.comparison.entries`), a model, a fit, an estimator of scikit-learn; a
            list of these; or a dictionary of them by name.
        target: the column that is to be predicted. Without one, joint models are compared by the density of
            held-out rows.
        folds: parts of the rows.
        repeats: of the whole on other folds, which makes the standard errors steadier.
        curve: also by the number of rows to fit to, and where curves cross.
        missing_cells: also as 0 to 50 % of the test cells go missing.
        missing_labels: also as all but 5 % of the labels go missing.
        loo: also a fit to all rows, and ArviZ's comparison by PSIS-LOO where there is a posterior.
        checks: whether the first fit of each entry is checked, for the verdict.
        seed: of folds, fits and missing cells.
        progress: called with what is done next, in words.
        **reading: options of `ppl_models.data.read`.

    Returns:
        The tables. An entry that cannot be fitted stands in them with the reason.

    Raises:
        UsageError: an option cannot be meant, or there is nothing to compare.
        DataError: the data cannot be read, or no entry can be fitted to it.
    """
    say = progress or (lambda text: None)
    entries = _entries(models)
    count("folds", folds, 2)
    count("repeats", repeats)
    if isinstance(data, Dataset):
        base = data
    else:
        base = read(data, **({} if target is None else {"target": target}), **reading)
    if base.arrays:
        raise DataError(f"{base.source}: arrays of other shapes than the rows cannot be held out by rows")
    if base.schema.target is None and missing_labels:
        raise UsageError("labels go missing where there is a target; give one")
    if all(isinstance(each, Record) for _, each in entries):
        if curve or missing_labels or loo:
            raise UsageError("finished runs are scored as they stand; name models to fit them anew")
        return finished(data if not isinstance(data, Dataset) else base, entries, reading, base.schema.target)
    entries = [(name, _again(each) if isinstance(each, Record) else each) for name, each in entries]
    entries = _with_bases(entries)
    parts = folds_of(base, folds, repeats, seed)
    said = Judge(base)
    found: list[Contestant] = []
    for name, entry in entries:
        one = Contestant(name, entry, base)
        found.append(one)
        try:
            one.data = entry.sees(base)
            for j, fold in enumerate(parts):
                say(f"{name}: fold {j + 1} of {len(parts)}")
                one.folds.append(made(entry, one.data, fold, seed, said.figures))
            if checks:
                say(f"{name}: checks")
                one.verdict = one.folds[0].fitted.verdict
            _harder(one, parts, seed, said, curve, missing_cells, missing_labels, say)
        except PplError as error:
            one.failed, one.folds = str(error), []
    done = [one for one in found if one.folds]
    if not done:
        raise DataError(f"{base.source}: no model could be compared; {found[0].name}: {found[0].failed}")
    loss = said.deciding([one.folds[0].figures for one in done])
    ratio = float(np.mean([len(f.test) / len(f.train) for f in parts]))
    extra: dict[str, Any] = {}
    if any(isinstance(one.entry, OnFeatures | OnRows) for one in done):
        extra["gains"] = gains(done, loss, ratio)
    for name, over in (
        ("curve", ["size"]),
        ("missing_cells", ["missing"]),
        ("missing_labels", ["labelled", "by"]),
    ):
        if any(name in one.extra for one in done):
            extra[name] = summed([one for one in done if name in one.extra], name, over, loss, ratio)
    if curve and base.schema.target is not None:
        extra["crossings"] = crossings(done, parts)
    notes = []
    if loo:
        extra["loo"], said_of = leave_one_out(done, seed, say)
        notes += said_of
    if loss == "crps":
        notes.append(
            "not every entry has a density, so that the CRPS decides: of a point it is the absolute error"
        )
    return Comparison(
        base.source,
        base.schema.target,
        base.rows,
        _how(base, folds, repeats),
        loss,
        headline(found, loss, ratio),
        by_fold(done),
        probabilities=probabilities(done, said),
        labels=said.labels,
        notes=tuple(notes),
        **extra,
    )


def _entries(models: Any) -> list[tuple[str, Any]]:
    """Names and entries; equal names are numbered."""
    if isinstance(models, Mapping):
        found = [(str(name), each) for name, word in models.items() for _, each in parsed(word)]
    else:
        words = models if isinstance(models, list | tuple) else [models]
        found = [pair for word in words for pair in parsed(word)]
    if not found:
        raise UsageError("no models to compare; ppl models lists them")
    seen: dict[str, int] = {}
    named = []
    for name, entry in found:
        seen[name] = seen.get(name, 0) + 1
        named.append((name if seen[name] == 1 else f"{name} ({seen[name]})", entry))
    return named


def _again(record: Record) -> Own:
    """The model and settings of a finished run."""
    own = {each.name: getattr(record.settings, each.name) for each in fields(record.settings)}
    return Own(record.model, {name: value for name, value in own.items() if name != "seed"})


def _with_bases(entries: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """With the helped models by themselves, where they are not there, so that there is a gain."""
    found = list(entries)
    for name, entry in entries:
        if isinstance(entry, OnFeatures | OnRows) and not any(entry.first == each for _, each in found):
            found.insert(0, (name.replace("@", "+").partition("+")[0], entry.first))
    return found


def _harder(
    one: Contestant,
    parts: list[Fold],
    seed: int,
    said: Judge,
    curve: bool,
    cells: bool,
    labels: bool,
    say: Progress,
) -> None:
    if curve:
        say(f"{one.name}: learning curve")
        of_train = [harder.units(one.data.subset(fold.train)) for fold in parts]
        sizes = harder.sizes_of(of_train, len(said.labels))
        one.extra["curve"] = harder.curve(one.entry, one.data, parts, sizes, seed, said.judge)
    if cells:
        say(f"{one.name}: missing cells")
        fits = [made.fitted for made in one.folds]
        one.extra["missing_cells"] = harder.missing_cells(fits, one.data, parts, seed, said.judge)
    if labels:
        say(f"{one.name}: missing labels")
        one.extra["missing_labels"] = harder.missing_labels(one.entry, one.data, parts, seed, said.judge)


def _how(base: Dataset, folds: int, repeats: int) -> str:
    """How rows are held out, in words."""
    many = len(base.lengths) > 1
    if many:
        text = f"{folds} folds of whole sequences"
    elif base.schema.time is not None:
        return f"{folds} folds forward in time"
    else:
        labelled = base.schema.target is not None and base.schema.columns[-1].labelled
        text = f"{folds} {'stratified ' * labelled}folds"
    return text + (f", {repeats} times" if repeats > 1 else "")
