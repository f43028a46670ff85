"""As what labels and numbers came, and how results come back as the same.

Inside, a label is a text and a column of labels is codes. A result has the type that the column had when the
model was fitted: integers, truth values, floats, nullable types, categoricals with their categories. Whole
numbers and truth values among which a result is missing become pandas' nullable types.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.data.cells import label
from ppl_models.data.schema import Column, Kind
from ppl_models.data.table import Came, Table

if TYPE_CHECKING:
    import pyarrow

_TRUE = "true"
_NUMPY = re.compile(r"(u?int|float)(8|16|32|64)|bool")
"""Types that are NumPy's own."""


def of_arrow(cells: "pyarrow.ChunkedArray", *, typed: bool = True) -> Came:
    """As what the cells of an Arrow column came; the categories of a dictionary are in its order.

    Args:
        cells: the column.
        typed: whether its text is text; else it may be numbers that a file has as text.
    """
    import pyarrow as pa

    kind = cells.type
    if pa.types.is_dictionary(kind):
        values = kind.value_type
        whole = cells.unify_dictionaries()
        words = whole.chunk(0).dictionary.to_pylist() if whole.num_chunks else []
        texts = tuple(as_text(word) for word in words if word is not None)
        return Came(_name(values), texts, texts, kind.ordered)
    name = _name(kind)
    return Came(name if typed or name else None)


def _name(kind: "pyarrow.DataType") -> str:
    """The pandas name of an Arrow type; "" for text and whatever else has no numbers."""
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return "float64"
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype()).name
    return ""


def of_table(table: Table) -> dict[str, Came]:
    """As what the columns of a file came; of one that stays on disk, by the first of its rows."""
    if not table.columns:
        return {}
    first = next(table.blocks(list(table.columns)))
    return {
        name: Came(cells.dtype.name) if isinstance(cells, np.ndarray) else of_arrow(cells, typed=table.typed)
        for name, cells in first.columns.items()
    }


def of_pandas(dtype: Any, cells: "pyarrow.ChunkedArray") -> Came:
    """As what a pandas column came: by its own type where Arrow knows less."""
    found = of_arrow(cells)
    if found.categories or str(dtype) == "object":
        return found
    return Came(str(dtype)) if found.dtype or str(dtype).startswith(("str", "large_str")) else found


def as_text(value: Any) -> str:
    """A value as the label that stands for it: `true`, `3`, `2.5`, or the text itself."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    return label(float(value)) if isinstance(value, float | np.floating) else str(value)


def of_texts(texts: Sequence[str]) -> str:
    """The type of labels in a source without types: whole numbers, truth values, or text as it is written."""
    from ppl_models.data.types import is_number

    if texts and {text.lower() for text in texts} <= {"true", "false"}:
        return "bool"
    if texts and all(is_number(text) and label(float(text)) == text for text in texts):
        return "int64" if all(float(text).is_integer() for text in texts) else "float64"
    return ""


def values(texts: Sequence[str], dtype: str) -> list[Any]:
    """What labels stand for.

    Args:
        texts: the labels.
        dtype: the type that they came as.
    """
    kind = dtype.lower().partition("[")[0]
    try:
        if kind.startswith("bool"):
            return [text.lower() == _TRUE for text in texts]
        if kind.startswith(("int", "uint")):
            return [int(text) for text in texts]
        if kind.startswith(("float", "double", "halffloat")):
            return [float(text) for text in texts]
    except ValueError:  # levels of another spelling, which stay text
        pass
    return list(texts)


def decode(codes: np.ndarray, column: Column) -> Any:
    """Labels for codes, as they came: an array of n, with missing values where a code is NaN.

    Args:
        codes: (n,) float64; one that is not a whole number is rounded to the nearest.
        column: whose labels they are.
    """
    import pandas as pd

    unknown = np.isnan(codes)
    last = len(column.levels) - 1
    index = np.where(unknown, -1, np.rint(np.clip(np.nan_to_num(codes), 0, max(last, 0)))).astype(np.int64)
    if column.categories:
        every = values(column.categories, column.dtype)
        place = {text: i for i, text in enumerate(column.categories)}
        at = np.array([*(place.get(level, -1) for level in column.levels), -1])
        categories = pd.Index(every, dtype=_index_type(column.dtype))
        return pd.Categorical.from_codes(at[index], categories=categories, ordered=column.ordered)
    found = values(column.levels, column.dtype)
    if column.dtype and not isinstance(next(iter(found), ""), str):
        return _taken(found, column.dtype, index, bool(unknown.any()))
    if column.dtype:
        return _text(np.array([*found, None], dtype=object)[index], column.dtype)
    return np.array([*found, None], dtype=object)[index]


def _index_type(dtype: str) -> Any:
    """The type of an index of categories; pandas infers that of text."""
    return dtype if _NUMPY.fullmatch(dtype) else None


def nullable(dtype: str) -> str:
    """The type that can miss values: `Int64` for `int64`; floats can already."""
    if dtype == "bool":
        return "boolean"
    if dtype.startswith("uint"):
        return "UInt" + dtype[4:]
    return "Int" + dtype[3:] if dtype.startswith("int") and "[" not in dtype else dtype


def _taken(found: list[Any], dtype: str, index: np.ndarray, missing: bool) -> Any:
    """Some of the values, as an array of a type, which is made once for each level."""
    import pandas as pd

    if not missing and _NUMPY.fullmatch(dtype):
        return np.array(found, dtype=dtype)[index]
    if dtype.startswith("float") and "[" not in dtype:
        return np.array([*found, np.nan], dtype=dtype)[index]
    return pd.array(found, dtype=nullable(dtype)).take(index, allow_fill=True)  # pyright: ignore[reportArgumentType]


def _text(found: np.ndarray, dtype: str) -> Any:
    """Text of one of pandas' types, of which not every version has all."""
    import pandas as pd

    try:
        return pd.array(found, dtype=dtype)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, ImportError):
        return found


def numbers(cells: np.ndarray, column: Column) -> Any:
    """Numbers as they came: whole ones as integers, if all are.

    Args:
        cells: (n,) float64, NaN where missing.
        column: whose cells they are.
    """
    import pandas as pd

    kind = column.dtype.lower()
    known = cells[~np.isnan(cells)]
    whole = (
        column.integer and bool((known == np.rint(known)).all()) and np.abs(known).max(initial=0.0) < 2**53
    )
    integer, fractions = kind.startswith(("int", "uint")), kind.startswith(("float", "double", "halffloat"))
    if fractions and column.dtype != "float64":
        return _cast(pd, cells, column.dtype)
    if not whole or (fractions and column.kind is not Kind.COUNT):
        return cells
    if not integer:
        return cells.astype(np.int64) if len(known) == len(cells) else cells
    if len(known) == len(cells):
        return _cast(pd, cells.astype(np.int64), column.dtype)
    return cells if _NUMPY.fullmatch(column.dtype) else _cast(pd, cells, column.dtype)


def _cast(pd: Any, cells: np.ndarray, dtype: str) -> Any:
    """Numbers of a type, or as they are where they do not fit into it."""
    try:
        if _NUMPY.fullmatch(dtype):
            with np.errstate(over="raise", invalid="raise"):
                found = cells.astype(dtype)
            return found if dtype.startswith("float") or (found == cells).all() else cells
        return pd.array(cells, dtype=dtype)
    except (TypeError, ValueError, FloatingPointError, OverflowError, ImportError):
        return cells
