"""`read`: anything that holds a table, as a `Dataset`."""

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ppl_models.data.check import as_text, conform
from ppl_models.data.dataset import Dataset
from ppl_models.data.describe import describe
from ppl_models.data.loading import Options, load
from ppl_models.data.messages import clean, listed, quoted
from ppl_models.data.schema import LABELLED, Kind, Schema
from ppl_models.data.sequences import check_lengths, ordered_times, runs
from ppl_models.data.table import Table
from ppl_models.data.weights import weight_array, weight_column
from ppl_models.errors import DataError, UsageError


def read(
    data: Any,
    *,
    columns: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    types: Mapping[str, Kind | str] | None = None,
    sequence: str | None = None,
    time: str | None = None,
    target: str | None = None,
    weights: Any = None,
    lengths: Any = None,
    delimiter: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
    missing: str | Iterable[str] | None = None,
    schema: Schema | None = None,
    require_schema_columns: bool = True,
    unseen: str = "error",
) -> Dataset:
    r"""Read a table.

    Args:
        data: A path; `-` for standard input; a pandas, Polars or Arrow table; an array or tensor (n,) or
            (n, D); a list of arrays, one for each sequence; or a dictionary of columns. Files are known
            by their names: `.csv`, `.tsv`, `.txt`, `.json`, `.jsonl`, `.ndjson` and `.idx` (all of these
            also with `.gz`), `.parquet`, `.arrow`, `.feather`, `.npy` and `.npz`. Images are arrays of n ×
            height × width (× channels), IDX files, and folders of PNG files of one size, sorted by name; of
            an `.npz` with X and y, y is read where it is the target.
        columns: The only columns to model, as a list or with commas between them.
        ignore: Columns not to model.
        types: The kind of some columns, where the one inferred (see `ppl_models.data.types`) is not meant.
        sequence: The column whose runs of equal values are the sequences.
        time: The column that must increase within each sequence: numbers or ISO dates. It is not modelled.
        target: The column that is to be predicted, taken as labels: binary or categorical, also if its values
            are whole numbers. It becomes the last column; its cells may be missing.
        weights: How often each row counts, 0 or more: the name of a column, which is not modelled, or n
            numbers.
        lengths: The number of rows of each sequence, instead of a column that says it.
        delimiter: What separates the cells of delimited text.
        decimal: The decimal mark of numbers in text, `.` or `,`.
        encoding: The encoding of text.
        missing: Further texts, or numbers, that mean a missing cell.
        schema: The schema of a fit that this data must conform to: columns are matched by name, those of
            an array by position. Columns of the target, the weights, the sequences and the time need not be
            there; all others of the schema must.
        require_schema_columns: Whether a column of the schema that the data lacks is an error. Otherwise
            its cells are missing.
        unseen: What a label that the schema does not have is: an `error`, or `missing`.

    Returns:
        The data set. A Parquet, Arrow or .npy file or an array that would take more than 256 MB as float64,
        or a quarter of the free memory, stays on disk: see `ppl_models.data.spill`.

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
    selected, ignored, tokens = _names(columns), _names(ignore) or [], tuple(_names(missing, "missing") or ())
    kinds = {name: _kind(name, kind) for name, kind in (types or {}).items()}
    _check_options(delimiter, decimal, unseen)
    if schema is not None:
        sequence = schema.sequence if sequence is None and lengths is None else sequence
        time = schema.time if time is None else time
        weights = schema.weights if weights is None else weights
        selected, ignored, kinds, target = None, [], {}, None
    weighted_by = weights if isinstance(weights, str) else None
    order = [name for name in (sequence, time) if name is not None]
    beside = [*order, *([] if weighted_by is None else [weighted_by])]
    _check_target(target, kinds, [*beside, *ignored])
    targets = [] if target is None else [target]
    wanted = schema.names if schema is not None else selected
    labelled = {name for name, kind in kinds.items() if kind in LABELLED}
    options = Options(
        wanted=None if wanted is None else frozenset([*wanted, *kinds, *beside, *targets]),
        unwanted=frozenset(ignored) - set(beside),
        as_text=frozenset([*labelled, *order, *targets, *(as_text(schema) if schema is not None else ())]),
        missing=tokens,
        delimiter=delimiter,
        decimal=decimal,
        encoding=encoding,
    )
    try:
        table = load(data, options)
        if schema is None:
            _check_columns(table, [*(selected or []), *ignored, *kinds, *beside, *targets])
        else:
            sequence, time, weighted_by = (
                name if name in table.columns else None for name in (sequence, time, weighted_by)
            )
        sizes, ids = _sequences(table, sequence, lengths)
        times = None if time is None else ordered_times(table, time, sizes)
        weight = None
        if weighted_by is not None:
            weight = weight_column(table, weighted_by, missing=tokens, decimal=decimal)
        elif weights is not None and not isinstance(weights, str):
            weight = weight_array(table, weights)
        if schema is None and not table.rows and table.arrays:
            values, notes, schema = np.zeros((0, 0)), [], Schema(())
        elif schema is None:
            left = {*ignored, *beside, *targets}
            names = [name for name in selected or table.columns if name not in left]
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
            schema = Schema(described, sequence, time, target=target, weights=weighted_by, shape=shape)
        else:
            values, notes = conform(
                table, schema, missing=tokens, decimal=decimal, unseen=unseen, required=require_schema_columns
            )
    except MemoryError:
        raise DataError(f"{_called(data)}: does not fit into memory") from None
    notes = tuple(clean(note, 400) for note in (*table.notes, *notes))
    path = os.path.abspath(data) if isinstance(data, str | os.PathLike) and os.fspath(data) != "-" else None
    return Dataset(values, schema, sizes, ids, times, clean(table.source), notes, weight, path, table.arrays)


def _image(table: Table, names: list[str], target: str | None) -> tuple[int, ...] | None:
    """The shape of the images, if every pixel is modelled, in order."""
    return table.shape if names == [name for name in table.columns if name != target] else None


def _called(data: Any) -> str:
    return clean(os.fspath(data)) if isinstance(data, str | os.PathLike) else "data"


def _sequences(table: Table, sequence: str | None, lengths: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    given = table.lengths if lengths is None else lengths
    if sequence is not None and lengths is not None:
        raise UsageError("sequence and lengths both say where the sequences are; give one of them")
    if sequence is not None:
        return runs(table, sequence)
    if given is None:
        return np.array([table.rows], np.int64), ("",)
    sizes = check_lengths(table, given)
    return sizes, tuple(str(i) for i in range(len(sizes))) if len(sizes) > 1 else ("",)


def _names(names: str | Iterable[str] | None, option: str = "columns") -> list[str] | None:
    """A list of names, from one with commas between them or from any iterable."""
    if names is None:
        return None
    split = [name.strip() for name in names.split(",")] if isinstance(names, str) else [str(n) for n in names]
    if option == "columns" and not any(split):
        raise UsageError("columns must name at least one column")
    return list(dict.fromkeys(split))


def _kind(name: str, kind: Kind | str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        known = ", ".join(Kind)
        raise UsageError(f"the type of {quoted(name)} must be one of {known}, got {quoted(kind)}") from None


def _check_options(delimiter: str | None, decimal: str, unseen: str) -> None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"' or not delimiter.isascii()):
        raise UsageError(f"delimiter must be one character such as , or ; or a tab, got {quoted(delimiter)}")
    if decimal not in (".", ","):
        raise UsageError(f"decimal must be . or , got {quoted(decimal)}")
    if decimal == delimiter:
        raise UsageError(f"delimiter and decimal cannot both be {quoted(decimal)}")
    if unseen not in ("error", "missing"):
        raise UsageError(f"unseen must be error or missing, got {quoted(unseen)}")


def _check_target(target: str | None, kinds: Mapping[str, Kind], others: list[str]) -> None:
    if target is None:
        return
    if target in others:
        raise UsageError(
            f"{quoted(target)} is the target; it cannot be left out, or say how to take the rows"
        )
    kind = kinds.get(target)
    if kind is not None and kind not in LABELLED:
        raise UsageError(
            f"the target {quoted(target)} is predicted as labels; its type must be binary or categorical, "
            f"got {kind}"
        )


def _check_columns(table: Table, names: list[str]) -> None:
    known = table.names
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {listed(close)}?" if close else f"it has {listed(known, 12)}"
        raise UsageError(f"{clean(table.source)} has no column {quoted(name)}; {hint}")
