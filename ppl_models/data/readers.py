"""`read`: anything that holds a table, as a `Dataset`."""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models.data.arrays import from_array, from_list, is_array, read_idx, read_npy, read_npz, to_numpy
from ppl_models.data.check import as_text, conform
from ppl_models.data.columnar import read_arrow, read_parquet
from ppl_models.data.dataset import Dataset
from ppl_models.data.describe import describe
from ppl_models.data.encoding import to_utf8
from ppl_models.data.files import checked, read_bytes, read_stdin
from ppl_models.data.frames import from_columns, from_frame
from ppl_models.data.jsonlines import read_json
from ppl_models.data.messages import clean, listed, quoted
from ppl_models.data.schema import Kind, Schema
from ppl_models.data.sequences import check_lengths, ordered_times, runs
from ppl_models.data.table import Table
from ppl_models.data.text import read_delimited
from ppl_models.errors import DataError, UsageError


@dataclass(frozen=True)
class _Options:
    """How to read a file."""

    wanted: frozenset[str] | None
    unwanted: frozenset[str]
    as_text: frozenset[str]
    missing: tuple[str, ...]
    delimiter: str | None
    decimal: str
    encoding: str


def read(
    data: Any,
    *,
    columns: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    types: Mapping[str, Kind | str] | None = None,
    sequence: str | None = None,
    time: str | None = None,
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
            also with `.gz`), `.parquet`, `.arrow`, `.feather`, `.npy` and `.npz`.
        columns: The only columns to model, as a list or with commas between them.
        ignore: Columns not to model.
        types: The kind of some columns, where the one inferred (see `ppl_models.data.types`) is not meant.
        sequence: The column whose runs of equal values are the sequences.
        time: The column that must increase within each sequence: numbers or ISO dates. It is not modelled.
        lengths: The number of rows of each sequence, instead of a column that says it.
        delimiter: What separates the cells of delimited text.
        decimal: The decimal mark of numbers in text, `.` or `,`.
        encoding: The encoding of text.
        missing: Further texts, or numbers, that mean a missing cell.
        schema: The schema of a fit that this data must conform to: columns are matched by name, those of
            an array by position.
        require_schema_columns: Whether a column of the schema that the data lacks is an error. Otherwise
            its cells are missing.
        unseen: What a label that the schema does not have is: an `error`, or `missing`.

    Raises:
        UsageError: An option cannot be meant.
        DataError: The data cannot be read, or is not what the schema says.

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
        selected, ignored, kinds = None, [], {}
    order = [name for name in (sequence, time) if name is not None]
    wanted = schema.names if schema is not None else selected
    labelled = {name for name, kind in kinds.items() if kind in (Kind.BINARY, Kind.CATEGORICAL)}
    options = _Options(
        wanted=None if wanted is None else frozenset([*wanted, *kinds, *order]),
        unwanted=frozenset(ignored) - set(order),
        as_text=frozenset([*labelled, *order, *(as_text(schema) if schema is not None else ())]),
        missing=tokens,
        delimiter=delimiter,
        decimal=decimal,
        encoding=encoding,
    )
    try:
        table = _load(data, options)
        if schema is None:
            _check_columns(table, [*(selected or []), *ignored, *kinds, *order])
        else:
            sequence, time = (name if name in table.columns else None for name in (sequence, time))
        sizes, ids = _sequences(table, sequence, lengths)
        times = None if time is None else ordered_times(table, time, sizes)
        if schema is None:
            names = [name for name in selected or table.columns if name not in ignored and name not in order]
            values, described, notes = describe(
                table,
                names,
                selected={*(selected or ()), *kinds},
                types=kinds,
                missing=tokens,
                decimal=decimal,
            )
            schema = Schema(described, sequence, time)
        else:
            values, notes = conform(
                table, schema, missing=tokens, decimal=decimal, unseen=unseen, required=require_schema_columns
            )
    except MemoryError:
        raise DataError(f"{_called(data)}: does not fit into memory") from None
    notes = tuple(clean(note, 400) for note in (*table.notes, *notes))
    return Dataset(values, schema, sizes, ids, times, clean(table.source), notes)


def _called(data: Any) -> str:
    return clean(os.fspath(data)) if isinstance(data, str | os.PathLike) else "data"


def _load(data: Any, options: _Options) -> Table:
    """The columns of whatever it is, as they are."""
    if isinstance(data, str | os.PathLike):
        return _from_stdin(options) if os.fspath(data) == "-" else _from_path(Path(os.fspath(data)), options)
    if is_array(data):
        return from_array(to_numpy(data))
    if isinstance(data, Mapping):
        return from_columns(data)
    if isinstance(data, list | tuple):
        if data and all(isinstance(item, Mapping) for item in data):
            names = dict.fromkeys(name for item in data for name in item)
            return from_columns({name: [item.get(name) for item in data] for name in names}, "rows")
        return from_list(data)
    return from_frame(data)


def _from_path(path: Path, options: _Options) -> Table:
    checked(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    ending = suffix[0] if suffix else ""
    if not packed and ending in _COLUMNAR:
        return _COLUMNAR[ending](path, options.wanted, options.unwanted)
    if not packed and ending in _ARRAYS:
        return _ARRAYS[ending](path)
    name = clean(path)
    if ending.startswith(".idx"):
        return read_idx(read_bytes(path), name)
    if ending in _TEXT:
        return _from_text(read_bytes(path), name, ending, options)
    raise DataError(
        f"{name}: files of this name are not known; the name must end in one of {', '.join(_KNOWN)}"
    )


def _from_stdin(options: _Options) -> Table:
    content = read_stdin()
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return _from_text(content, "stdin", ".json" if start in (b"{", b"[") else "", options)


def _from_text(content: bytes, name: str, suffix: str, options: _Options) -> Table:
    content = to_utf8(content, name, options.encoding)
    if not content.strip():
        raise DataError(f"{name}: is empty")
    if suffix in _JSON:
        return read_json(content, name)
    return read_delimited(
        content,
        name,
        suffix=suffix,
        delimiter=options.delimiter,
        decimal=options.decimal,
        missing=options.missing,
        wanted=options.wanted,
        unwanted=options.unwanted,
        as_text=options.as_text,
    )


_COLUMNAR = {".parquet": read_parquet, ".arrow": read_arrow, ".feather": read_arrow}
_ARRAYS = {".npy": read_npy, ".npz": read_npz}
_JSON = (".json", ".jsonl", ".ndjson")
_TEXT = (".csv", ".tsv", ".txt", *_JSON)
_KNOWN = (*_TEXT, *_COLUMNAR, *_ARRAYS, ".idx")


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


def _check_columns(table: Table, names: list[str]) -> None:
    known = table.names
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {listed(close)}?" if close else f"it has {listed(known, 12)}"
        raise UsageError(f"{clean(table.source)} has no column {quoted(name)}; {hint}")
