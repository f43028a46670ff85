"""From whatever holds a table to its columns, as they are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppl_models.data.arrays import from_array, from_list, is_array, read_idx, read_npy, read_npz, to_numpy
from ppl_models.data.columnar import read_arrow, read_parquet
from ppl_models.data.encoding import to_utf8
from ppl_models.data.files import checked, read_bytes, read_stdin
from ppl_models.data.folder import read_folder
from ppl_models.data.frames import from_columns, from_frame
from ppl_models.data.jsonlines import read_json
from ppl_models.data.messages import clean
from ppl_models.data.shaped import from_shapes, json_object, shaped
from ppl_models.data.table import Table
from ppl_models.data.text import read_delimited
from ppl_models.errors import DataError


@dataclass(frozen=True)
class Options:
    """How to read a file.

    Attributes:
        wanted: The only columns to read, or None for all.
        unwanted: Columns not to read.
        as_text: Columns whose cells are not to be taken for numbers.
        missing: Further texts that mean a missing cell.
        delimiter: What separates the cells of delimited text, if it is known.
        decimal: The decimal mark.
        encoding: Of text.
    """

    wanted: frozenset[str] | None
    unwanted: frozenset[str]
    as_text: frozenset[str]
    missing: tuple[str, ...]
    delimiter: str | None
    decimal: str
    encoding: str


def load(data: Any, options: Options) -> Table:
    """The columns of whatever it is, as they are.

    Raises:
        UsageError: It is nothing that holds a table.
        DataError: It cannot be read.
    """
    if isinstance(data, str | os.PathLike):
        return _from_stdin(options) if os.fspath(data) == "-" else _from_path(Path(os.fspath(data)), options)
    if is_array(data):
        return from_array(to_numpy(data))
    if isinstance(data, Mapping):
        return from_shapes(data, "columns") if shaped(data) else from_columns(data)
    if isinstance(data, list | tuple):
        if data and all(isinstance(item, Mapping) for item in data):
            names = dict.fromkeys(name for item in data for name in item)
            return from_columns({name: [item.get(name) for item in data] for name in names}, "rows")
        return from_list(data)
    return from_frame(data)


def _from_path(path: Path, options: Options) -> Table:
    if path.is_dir():
        return read_folder(path)
    checked(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    ending = suffix[0] if suffix else ""
    if not packed and ending in _COLUMNAR:
        return _COLUMNAR[ending](path, options.wanted, options.unwanted)
    if not packed and ending == ".npz":
        return read_npz(path, labels="y" in options.as_text)
    if not packed and ending == ".npy":
        return read_npy(path)
    name = clean(path)
    if ending.startswith(".idx"):
        return read_idx(read_bytes(path), name)
    if ending in _TEXT:
        return _from_text(read_bytes(path), name, ending, options)
    raise DataError(
        f"{name}: files of this name are not known; the name must end in one of {', '.join(_KNOWN)}"
    )


def _from_stdin(options: Options) -> Table:
    content = read_stdin()
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return _from_text(content, "stdin", ".json" if start in (b"{", b"[") else "", options)


def _from_text(content: bytes, name: str, suffix: str, options: Options) -> Table:
    content = to_utf8(content, name, options.encoding)
    if not content.strip():
        raise DataError(f"{name}: is empty")
    if suffix in _JSON:
        found = json_object(content)
        if found is None:
            return read_json(content, name)
        return from_shapes(found, name) if shaped(found) else from_columns(found, name)
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
_JSON = (".json", ".jsonl", ".ndjson")
_TEXT = (".csv", ".tsv", ".txt", *_JSON)
_KNOWN = (*_TEXT, *_COLUMNAR, ".npy", ".npz", ".idx")
