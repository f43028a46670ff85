"""From whatever holds a table to its columns, as they are."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ppl_models.data.arrays import from_array, from_list, is_array, to_numpy
from ppl_models.data.came import of_table
from ppl_models.data.files import checked, read_bytes, read_stdin
from ppl_models.data.frames import from_columns, from_frame
from ppl_models.data.messages import clean
from ppl_models.data.pairs import from_sparse, is_sparse
from ppl_models.data.partitions import from_partitions, is_partitioned
from ppl_models.data.readers import (
    format_options,
    formats,
    reader_of,
    reader_of_text,
    suffix_of,
    suffixes,
)
from ppl_models.data.readers.base import File, Reader, Request
from ppl_models.data.several import keep, one_below_another, paths_of
from ppl_models.data.shaped import from_shapes, shaped
from ppl_models.data.streaming import STREAMED
from ppl_models.data.table import Table
from ppl_models.errors import DataError, UsageError
from ppl_models.extras import needed


def load(data: Any, request: Request) -> Table:
    """The columns of whatever it is, as they are.

    Args:
        data: What `ppl_models.data.read` takes.
        request: What is wanted; its `options` are those that the user gave, of whatever format.

    Raises:
        UsageError: It is nothing that holds a table, or an option does not apply to it.
        DataError: It cannot be read.
    """
    if isinstance(data, str | os.PathLike):
        name = os.fsdecode(data)
        return _from_stdin(request) if name == "-" else _from_files(name, request)
    _own(None, request, "data that is not in a file")
    if is_partitioned(data):
        return from_partitions(data, request)
    if is_sparse(data):
        return from_sparse(data)
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


def _from_files(name: str, request: Request) -> Table:
    """All files that a name stands for, one below another."""
    paths, folder = paths_of(name)
    if len(paths) > 1:
        sizes = [checked(path).stat().st_size for path in paths]
        request = replace(request, large=sum(sizes) > STREAMED)
    return keep(one_below_another([_from_path(path, request) for path in paths], clean(name)), folder)


def _from_path(path: Path, request: Request) -> Table:
    name = clean(path)
    reader = reader_of(path, request.whole)
    if not path.is_dir():
        checked(path)
    if reader is None:
        known = ", ".join(suffix for each in formats() if not each.folder for suffix in suffixes(each))
        raise DataError(f"{name}: files of this name are not known; the name must end in one of {known}")
    request = _own(reader, request, name)
    _check_installed(reader, name)
    return _of_file(reader.read(File(name, suffix_of(path)[0], path, partial(read_bytes, path)), request))


def _of_file(table: Table) -> Table:
    """A table that was read from a file, with as what its columns came."""
    table.held, table.came = False, table.came or of_table(table)
    return table


def _from_stdin(request: Request) -> Table:
    content = read_stdin()
    reader = reader_of_text(content.removeprefix(b"\xef\xbb\xbf").lstrip()[:16])
    return _of_file(
        reader.read(File("stdin", "", Path("-"), lambda: content), _own(reader, request, "stdin"))
    )


def _own(reader: Reader | None, request: Request, source: str) -> Request:
    """The request with the options of one reader, each with a value.

    Raises:
        UsageError: The user gave an option that only other formats have.
    """
    own = {} if reader is None else {option.name: option for option in reader.options}
    for option in format_options():
        if option.strict and option.name in request.options and option.name not in own:
            names = [each for other in formats() if option in other.options for each in suffixes(other)]
            raise UsageError(f"{option.name} is for {', '.join(names)} files; leave it out for {source}")
    values = {name: request.options.get(name, option.default) for name, option in own.items()}
    return replace(request, options=values)


def _check_installed(reader: Reader, source: str) -> None:
    if reader.module is not None:
        needed(reader.module, str(reader.extra), f"{source}: {reader.name} is read by", DataError)
