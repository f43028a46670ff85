"""Data frames of any library, and dictionaries of columns."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.data.arrays import is_array, to_numpy
from ppl_models.data.came import of_arrow, of_pandas
from ppl_models.data.columnar import by_name, from_stream
from ppl_models.data.messages import clean, quoted
from ppl_models.data.table import Table, check_names
from ppl_models.data.types import natural
from ppl_models.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow


def from_frame(data: Any, source: str = "data frame") -> Table:
    """A pandas, Polars or Arrow table, whatever else narwhals knows, or what gives Arrow batches.

    Args:
        data: The table, or a column as a table of its own.
        source: What messages call it.

    Raises:
        UsageError: It is none of these.
        DataError: It has no rows, or names that do not tell its columns apart.
    """
    import narwhals as nw

    data = _printable_categories(data)
    names = data.columns if hasattr(data, "iloc") and hasattr(data, "columns") else None
    if names is not None:
        check_names(source, [str(name) for name in names])
        if getattr(names, "nlevels", 1) > 1:
            raise DataError(f"{source}: the columns have several levels of names; give each one name")
    try:
        frame = nw.from_native(data, eager_only=True, allow_series=True)
    except TypeError:
        if hasattr(data, "__arrow_c_stream__"):
            return _from_stream(data, source)
        kind = type(data).__name__
        raise UsageError(
            f"data of type {quoted(kind)} cannot be read; give a path, an array or a data frame"
        ) from None
    except Exception as error:
        raise DataError(f"{source}: {quoted(error)}") from None
    if isinstance(frame, nw.Series):
        frame = frame.alias(frame.name or "x0").to_frame()
    check_names(source, [str(name) for name in frame.columns])
    table = _table(source, {str(series.name): _series(series) for series in frame.iter_columns()})
    if not hasattr(data, "iloc"):
        for series in frame.iter_columns():
            if series.dtype == nw.Categorical:  # has no order but that of its words, unlike an Enum
                came = table.came[str(series.name)]
                table.came[str(series.name)] = replace(
                    came, order=(), categories=tuple(sorted(came.categories, key=natural))
                )
    index = nw.maybe_get_index(frame)
    if index is not None and hasattr(data, "iloc"):
        for name, dtype in zip(table.columns, _dtypes(data), strict=True):
            table.came[name] = of_pandas(dtype, table.columns[name])  # pyright: ignore[reportArgumentType]
        table.index = None if _counted(index) else index
    return table


def _dtypes(data: Any) -> list[Any]:
    """The types of a pandas table, or of a column as a table of its own."""
    return list(data.dtypes) if hasattr(data, "columns") else [data.dtype]


def _counted(index: Any) -> bool:
    """Whether an index only counts the rows from 0, as every result does anyway."""
    import pandas as pd

    counted = isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1
    return counted and index.name is None


def _printable_categories(data: Any) -> Any:
    """A pandas table with text for categories that are neither text, numbers nor truth values.

    Periods are the times when they begin.
    """
    if not hasattr(data, "iloc") or not hasattr(data, "columns"):
        return data
    odd, periods = {}, []
    for position, dtype in enumerate(data.dtypes):
        if getattr(dtype, "name", "").startswith("period["):
            periods.append(position)
        categories = getattr(dtype, "categories", None)
        if getattr(dtype, "name", "") == "category" and categories is not None:
            if categories.inferred_type not in ("string", "integer", "floating", "boolean", "empty"):
                odd[position] = [str(each) for each in categories]
    if odd or periods:
        data = data.copy(deep=False)
        for position in periods:
            data.isetitem(position, data.iloc[:, position].dt.to_timestamp())
        for position, texts in odd.items():
            data.isetitem(position, data.iloc[:, position].cat.rename_categories(texts))
    return data


def _from_stream(data: Any, source: str) -> Table:
    """What gives Arrow batches and is no data frame: a DuckDB relation, which is only run now."""
    try:
        return _table(source, by_name(from_stream(data, source)))
    except DataError:
        raise
    except Exception as error:  # whatever it is that runs a query
        raise DataError(f"{source}: {clean(' '.join(str(error).split()))}") from None


def _series(series: Any) -> "pyarrow.ChunkedArray":
    import pyarrow as pa

    try:
        cells = series.to_arrow()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return column(series.to_list())
    return cells if isinstance(cells, pa.ChunkedArray) else pa.chunked_array([cells])


def from_columns(data: Mapping[str, Any], source: str = "columns") -> Table:
    """A dictionary of columns: arrays, tensors or lists.

    Args:
        data: n values for each name.
        source: What messages call it.

    Raises:
        DataError: The columns differ in length, have none, or have names that do not tell them apart.
    """
    names = [str(name) for name in data]
    check_names(source, names)
    columns: dict[str, Any] = {}
    for name, cells in zip(names, data.values(), strict=True):
        if is_array(cells) and (array := to_numpy(cells)).dtype.kind in "fiub":
            if array.ndim != 1:
                raise DataError(
                    f"{source}: column {quoted(name)} is an array of {array.ndim} dimensions, not one"
                )
            columns[name] = column(array)
        else:
            columns[name] = column(to_numpy(cells).tolist() if is_array(cells) else list(cells))
    return _table(source, columns)


def _table(source: str, columns: dict[str, Any]) -> Table:
    if not columns:
        raise DataError(f"{source}: has no columns")
    rows = {name: len(cells) for name, cells in columns.items()}
    if len({*rows.values()}) > 1:
        raise DataError(
            f"{source}: columns differ in length: " + ", ".join(f"{quoted(n)} {k}" for n, k in rows.items())
        )
    length = next(iter(rows.values()))
    if not length:
        raise DataError(f"{source}: has no rows")
    came = {name: of_arrow(cells) for name, cells in columns.items() if not isinstance(cells, np.ndarray)}
    return Table(source, columns, length, typed=True, held=True, came=came)


def column(values: Any) -> "pyarrow.ChunkedArray":
    """Python values as an Arrow column; a mixture of types becomes text, to be judged like a file's."""
    import pyarrow as pa

    try:
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.chunked_array([pa.array([_text(value) for value in values], pa.string())])


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, complex | np.complexfloating):
        raise DataError(f"data frame: {quoted(value)} is a complex number; give real numbers")
    if isinstance(value, list | dict | tuple | set | np.ndarray):
        return f"{type(value).__name__} {value}"
    return str(value).encode("utf-8", "replace").decode()
