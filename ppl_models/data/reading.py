"""`read`: anything that holds a table, as a `Dataset`."""

import difflib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ppl_models.data.came import as_text
from ppl_models.data.check import conform, read_as_text
from ppl_models.data.dataset import Dataset
from ppl_models.data.dates import check_format
from ppl_models.data.describe import describe
from ppl_models.data.given import (
    check_meaning,
    check_unseen,
    kinds_of,
    levels_of,
    name_of,
    names_of,
    own_options,
    text_options,
)
from ppl_models.data.loading import load
from ppl_models.data.messages import Change, clean, listed, quoted
from ppl_models.data.options import FormatOptions, Names
from ppl_models.data.pairs import Pair, as_pair, with_target
from ppl_models.data.partitions import cluster_of
from ppl_models.data.readers.base import Request
from ppl_models.data.rearranged import longer, periods, rearranged, sources, without_repeats
from ppl_models.data.schema import LABELLED, Kind, Meaning, Schema
from ppl_models.data.sequences import check_lengths, joined, ordered_times, runs, sorted_rows
from ppl_models.data.several import REMOTE
from ppl_models.data.table import MISSING, UNKNOWN, Table
from ppl_models.data.text import counts_of_words, of_column
from ppl_models.data.weights import meaning_of, unit_of, weight_array, weight_column, weight_note
from ppl_models.errors import DataError, UsageError, warn

if TYPE_CHECKING:
    import pandas


SIZES = (8, 16, 32, 64)
"""Bits of integers."""


def read(
    data: Any,
    *,
    columns: Names | None = None,
    ignore: Names | None = None,
    types: Mapping[str, Kind | str] | None = None,
    sequence: Names | None = None,
    time: str | None = None,
    date_format: str | None = None,
    sort: bool = False,
    long: str | None = None,
    target: Any = None,
    weights: Any = None,
    weights_are: Meaning | None = None,
    lengths: Any = None,
    text: Names | None = None,
    as_bytes: str | None = None,
    delimiter: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
    missing: Names | float | None = None,
    na_values: Names | float | None = None,
    levels: Mapping[str, Any] | None = None,
    positive: Any = None,
    keep: Names | None = None,
    schema: Schema | None = None,
    require_schema_columns: bool | Collection[str] = True,
    unseen: str = "error",
    refine: Callable[[Schema], Mapping[str, Kind | str]] | None = None,
    **options: Unpack[FormatOptions],
) -> Dataset:
    r"""Read a table.

    Args:
        data: A path; `-` for standard input; a pandas, Polars, Arrow or Dask table, or a DuckDB relation; an
            array or tensor (n,) or (n, D), or a sparse matrix, which is made dense; a list of arrays, one for
            each sequence; a dictionary of columns; or a tuple (X, y) of predictors and the target.
            What a file holds is known by its name: see `ppl_models.data.formats`.
        columns: The only columns to model, as a list or with commas between them, and their order. Those of
            a set are in the order of the data.
        ignore: Columns not to model.
        types: The kind of some columns, where the one inferred (see `ppl_models.data.types`) is not meant.
        sequence: The column whose runs of equal values are the sequences, or several of them.
        time: The column in which time passes within each sequence: numbers or dates, which may be written in
            many ways (see `ppl_models.data.dates`). It is not modelled.
        date_format: How its dates are written, where their cells do not tell: `dmy`, `mdy`, or a format of
            `strptime` such as `%d.%m.%Y`.
        sort: Whether to put the rows of a sequence together, in the order of their times. Of a few rows with
            one time, of which most others have one each, the last is kept.
        long: What to call the one column that is made of those called by years (`2020`, `2021`, …), with a
            row for each, and its year in `year`.
        target: The column that is to be predicted, or its values, one for each row. It becomes the last
            column; its cells may be missing. Text, truth values and whole numbers of at most 50 values are
            labels, binary or categorical; other numbers are continuous or counts: see
            `ppl_models.data.targets`.
        weights: How often each row counts, or how much it matters, 0 or more: the name of a column, which
            is not modelled, or n numbers.
        weights_are: `counts` of rows like each row, or `importance`, which adds no information: the weights
            are scaled to their effective sample size. If not given, whole numbers are counts, unless there
            are over 50 and none is 1: see `ppl_models.data.weights`.
        lengths: The number of rows of each sequence, instead of a column that says it.
        text: Columns whose cells are texts, in whose place are counts of their words (a bag of words), in
            columns `text[word]`: see `ppl_models.data.text.counts_of_words`.
        as_bytes: The column whose cells are texts, each of which becomes a sequence of rows, its bytes; or
            `auto`: a file whose name ends in .txt is one text.
        delimiter: What separates the cells of delimited text, one character; `tab` and `\t` are a tab.
        decimal: The decimal mark of numbers in text, `.` or `,`.
        encoding: The encoding of text.
        missing: Further texts, or numbers, that mean a missing cell.
        na_values: The texts, or numbers, that mean a missing cell, instead of the usual ones (see
            `ppl_models.data.cells`). An empty cell of a file without types is missing all the same.
        levels: The order of the levels of some columns, which are labels then: the first is the reference.
        positive: The label of a target of two classes that counts as yes: it becomes the second.
        keep: Columns to carry through to the results of verbs, or `all`.
        schema: The schema of a fit that this data must conform to: columns are matched by name, those of
            an array by position. Columns of the target, the weights, the sequences and the time need not be
            there; all others of the schema must.
        require_schema_columns: Whether a column of the schema that the data lacks is an error, or the names
            of
            those of which it is. Otherwise its cells are missing.
        unseen: What a label that the schema does not have is: an `error`, or `missing`.
        refine: Given the schema, further kinds of columns that are wanted, as a model's may be: these columns
            are described once more, from what was read.
        **options: Of one file format: `sheet`, the sheet of an Excel workbook (the first if not given);
            `query`, in SQL, to a DuckDB database (its only table if not given).

    Returns:
        The data set. A Parquet, Arrow or .npy file or an array that would take more than 256 MB as float64,
        or a quarter of the free memory, stays on disk: see `ppl_models.data.spill`. Its `path` is that of
        the file if reading that again needs no options but the schema.

    Raises:
        UsageError: An option cannot be meant.
        DataError: The data cannot be read, or is not what the schema says.
        OutputError: The temporary directory has no room for data that does not fit into memory.

    Example:
        >>> data = read({"x": [1.5, None, 2.5], "kind": ["a", "b", "a"]})
        >>> data.values
        array([[1.5, 0. ],
               [nan, 1. ],
               [2.5, 0. ]])
        >>> data.schema.columns[1].levels
        ('a', 'b')
    """
    pair = as_pair(data)
    if target is not None and not isinstance(target, str | int | np.integer):
        pair, target = Pair(data, target), None
    elif isinstance(pair, Pair) and target is not None:
        raise UsageError("the target was given twice, beside the predictors and by name")
    if isinstance(pair, Pair):
        if schema is not None and schema.target is None:
            raise UsageError("the model was fitted without a target; give the predictors alone")
        data = pair.X
    selected, ignored = names_of("columns", columns), names_of("ignore", ignore) or []
    if isinstance(sequence, list | tuple):
        sequence = ",".join(map(str, sequence))
    instead = None if na_values is None else tuple(names_of("na_values", na_values) or ())
    tokens = (*(names_of("missing", missing) or ()), *(instead or ()))
    kinds, order, kept = kinds_of(types), levels_of(levels), names_of("keep", keep) or []
    kinds = {name: Kind.CATEGORICAL for name in order if name != target} | kinds
    sequence, time, target = name_of("sequence", sequence), name_of("time", time), name_of("target", target)
    weights = str(weights) if isinstance(weights, str) else weights
    written = text_options(delimiter, decimal, encoding)
    own = own_options(options)
    check_unseen(unseen)
    check_format(date_format)
    check_meaning(weights_are, weights, schema)
    if schema is not None:
        as_bytes = schema.text or ("auto" if schema.text is not None else None)
        sequence = schema.sequence if sequence is None and lengths is None else sequence
        time = schema.time if time is None else time
        weights = schema.weights if weights is None else weights
        weights_are = weights_are or schema.weights_are
        selected, ignored, kinds, target = None, [], {}, None
    weighted_by = weights if isinstance(weights, str) else None
    parts = [] if sequence is None or "," not in sequence else [each.strip() for each in sequence.split(",")]
    rows_by = [name for name in (sequence, time, *parts) if name is not None]
    beside = [*rows_by, *([] if weighted_by is None else [weighted_by])]
    of_texts = [] if as_bytes in (None, "auto") else [str(as_bytes)]
    bags = list(schema.words) if schema is not None else names_of("text", text) or []
    _check_target(target, [*beside, *ignored, *bags])
    targets = [] if target is None else [target]
    if positive is not None and target is None and not isinstance(pair, Pair):
        raise UsageError("positive is a label of the target; name that with target")
    wanted = schema.names if schema is not None else selected
    labelled = {name for name, kind in kinds.items() if kind in LABELLED}
    as_written = [name for name in targets if kinds.get(name, Kind.CATEGORICAL) in LABELLED]
    request = Request(
        wanted=None
        if wanted is None or "all" in kept or long is not None or of_texts
        else frozenset([*wanted, *sources(wanted), *bags, *kinds, *beside, *targets, *kept]),
        unwanted=frozenset(ignored) - {*beside, *kept, *bags},
        as_text=frozenset(
            [
                *labelled,
                *rows_by,
                *of_texts,
                *bags,
                *as_written,
                *kept,
                *(read_as_text(schema) if schema is not None else ()),
            ]
        ),
        missing=tokens,
        usual=MISSING if instead is None else ("",),
        target=target if schema is None else schema.target,
        whole=as_bytes == "auto",
        options=written | own,
    )
    try:
        table = load(data, request)
        table.usual = () if table.typed else request.usual
        decimal = table.decimal if decimal == "." else decimal
        if long is not None:
            table = longer(table, str(long), decimal)
        loaded = table.rows
        if of_texts:
            _check_columns(table, of_texts)
            table = of_column(table, of_texts[0])
        if bags:
            if schema is None:
                _check_columns(table, bags)
            before = [name for name in table.columns if name not in bags]
            table = counts_of_words(table, bags, None if schema is None else schema.names)
            if selected is not None and schema is None:
                selected = [*selected, *(name for name in table.columns if name not in before)]
        plain = not (table.held or table.typed or table.parts is not None or table.matrix is not None)
        if plain and table.text is None:
            spoken = {*ignored, *kinds, *beside, *kept}
            table = rearranged(table, wanted, spoken, decimal=decimal)
            if schema is None:
                table = without_repeats(table)
        if parts and sequence not in table.columns and set(parts) <= {*table.columns}:
            table = joined(table, parts, str(sequence))
        elif parts and sequence not in table.columns and schema is None:
            _check_columns(table, parts)
        else:
            beside = [name for name in beside if name not in parts]
        if isinstance(pair, Pair):
            called = with_target(table, pair, None if schema is None else schema.target)
            if schema is None:
                target, targets = called, [called]
                _check_target(target, [*beside, *ignored])
        if schema is None:
            _check_columns(table, [*(selected or []), *ignored, *kinds, *beside, *targets])
            _order(table, order, target, positive)
            if selected is not None and isinstance(columns, set | frozenset):
                selected = [name for name in table.columns if name in selected]
        else:
            sequence, time, weighted_by = (
                name if name in table.columns else None for name in (sequence, time, weighted_by)
            )
        if sort:
            table = sorted_rows(table, sequence, time, date_format)
        carried = _carried(table, kept)
        sizes, ids = _sequences(table, sequence, lengths)
        times = None if time is None else ordered_times(table, time, sizes, date_format)
        weight = None
        if weighted_by is not None:
            weight = weight_column(table, weighted_by, missing=tokens, decimal=decimal)
        elif weights is not None and not isinstance(weights, str):
            weight = weight_array(table, weights)
        meaning, unit, said = weights_are, 1.0, []
        if weight is not None:
            meaning = weights_are or meaning_of(weight)
            unit, said = unit_of(weight, meaning), weight_note(weight, meaning)
            weight = weight if unit == 1 else weight / unit
        if schema is None and not table.rows and table.arrays:
            values, notes, schema = np.zeros((0, 0)), [], Schema(())
        elif schema is None:
            left = {*ignored, *beside, *targets}
            names = [name for name in selected or table.columns if name not in left]

            def first(kinds: dict[str, Kind]) -> tuple[np.ndarray, list[str], Schema]:
                values, described, notes = describe(
                    table,
                    [*names, *targets],
                    selected={*(selected or ()), *kinds},
                    types=kinds,
                    missing=tokens,
                    decimal=decimal,
                    target=target,
                )
                shape = _image(table, [c.name for c in described if c.name != target], target)
                found = Schema(
                    described,
                    sequence,
                    time,
                    target=target,
                    weights=weighted_by,
                    weights_are=meaning,
                    shape=shape,
                    text=table.text,
                    words=tuple(bags),
                )
                return values, [] if table.text is not None else notes, found  # bytes are what they are

            values, notes, schema = first(kinds)
            if len(wide := [name for name in periods(table) if name in schema.names]) > 2:
                notes.append(
                    f"the columns {quoted(wide[0])} to {quoted(wide[-1])} are called by years; "
                    "--long NAME makes one column of them, with a row for each year"
                )
            further = {} if refine is None else kinds_of(dict(refine(schema)))
            if further:
                values, notes, schema = first(further | kinds)
        else:
            values, notes = conform(
                table, schema, missing=tokens, decimal=decimal, unseen=unseen, required=require_schema_columns
            )
    except MemoryError:
        raise DataError(f"{_called(data)}: does not fit into memory") from None
    notes = tuple(_cleaned(note) for note in (*table.notes, *said, *notes))
    for note in notes:
        if isinstance(note, Change):
            warn(f"{clean(table.source)}: {note}")
    again = not (
        own
        or tokens
        or instead is not None
        or date_format
        or sort
        or parts
        or long
        or written != text_options()
    )
    path = _path(data) if again and (loaded == table.rows or of_texts) else None
    source = clean(table.source)
    return Dataset(
        values,
        schema,
        sizes,
        ids,
        times,
        source,
        notes,
        weight,
        path,
        table.arrays,
        unit,
        table.index,
        carried,
        cluster=cluster_of(data),
    )


def _cleaned(note: str) -> str:
    return type(note)(clean(note, 400))


def _carried(table: Table, names: list[str]) -> "pandas.DataFrame | None":
    """Columns as they are, for results; `all` of them, unless a column is called that.

    Raises:
        UsageError: There is no such column.
    """
    if not names:
        return None
    import pandas as pd

    if "all" in names and "all" not in table.names:
        names = list(table.columns)
    _check_columns(table, names)
    whole = {
        f"{sign}int{size}": f"{name}Int{size}" for sign, name in (("", ""), ("u", "U")) for size in SIZES
    }

    def plain(cells: Any) -> Any:
        if isinstance(cells, np.ndarray):
            return np.array(cells)
        found = (
            cells.to_pandas(
                types_mapper=lambda kind: (
                    pd.api.types.pandas_dtype(whole[str(kind)]) if str(kind) in whole else None
                )
            )
            if cells.null_count
            else cells.to_pandas()
        )
        return found.array

    return pd.DataFrame({name: plain(table.columns[name]) for name in names}, index=table.index)


def _order(table: Table, levels: Mapping[str, tuple[str, ...]], target: str | None, positive: Any) -> None:
    """Set the order of levels that the user gave.

    Raises:
        UsageError: A column has no such label.
    """
    _check_columns(table, list(levels))
    for name, order in levels.items():
        table.came[name] = replace(table.came.get(name, UNKNOWN), order=order, given=True)
    if positive is not None and target is not None:
        came = table.came.get(target, UNKNOWN)
        table.came[target] = replace(came, positive=as_text(positive))


def _path(data: Any) -> str | None:
    """The absolute path of the file that the data is, if it is one."""
    if not isinstance(data, str | os.PathLike) or os.fsdecode(data) == "-":
        return None
    name = os.fsdecode(data)
    return name if REMOTE.match(name) else os.path.abspath(name)


def _image(table: Table, names: list[str], target: str | None) -> tuple[int, ...] | None:
    """The shape of the images, if every pixel is modelled, in order."""
    return table.shape if names == [name for name in table.columns if name != target] else None


def _called(data: Any) -> str:
    return clean(os.fsdecode(data)) if isinstance(data, str | os.PathLike) else "data"


def _sequences(table: Table, sequence: str | None, lengths: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    given = table.lengths if lengths is None else lengths
    if sequence is not None and lengths is not None:
        raise UsageError("sequence and lengths both say where the sequences are; give one of them")
    if sequence is not None:
        return runs(table, sequence)
    if given is None:
        return np.array([table.rows], np.int64), ("",)
    try:
        sizes = check_lengths(table, given)
    except UsageError as error:
        if lengths is None:  # the data says so itself
            raise DataError(f"{clean(table.source)}: its {error}") from None
        raise
    return sizes, tuple(str(i) for i in range(len(sizes))) if len(sizes) > 1 else ("",)


def _check_target(target: str | None, others: list[str]) -> None:
    if target is None:
        return
    if target in others:
        raise UsageError(
            f"{quoted(target)} is the target; it cannot be left out, or say how to take the rows"
        )


def _check_columns(table: Table, names: list[str]) -> None:
    known = table.names
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {listed(close)}?" if close else f"it has {listed(known, 12)}"
        raise UsageError(f"{clean(table.source)} has no column {quoted(name)}; {hint}")
