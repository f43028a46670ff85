"""Arrays of numbers as tables.

An array of n × height × width, or of n × height × width × channels, is a table of images: a continuous column
of intensities for each pixel, row after row, the channels of a pixel side by side.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from ppl_models.data.cells import EXACT
from ppl_models.data.messages import clean, quoted
from ppl_models.data.schema import Kind
from ppl_models.data.spill import blocks, stays_on_disk
from ppl_models.data.table import Came, Table
from ppl_models.errors import DataError


def is_array(data: object) -> bool:
    """Whether it is a NumPy array, or a tensor that can become one."""
    return (
        isinstance(data, np.ndarray) or hasattr(data, "detach") or hasattr(data, "__cuda_array_interface__")
    )


def to_numpy(data: Any) -> np.ndarray:
    """A NumPy array of the same numbers; masked cells become NaN.

    Args:
        data: An array, a tensor on any device (bfloat16 becomes float32), or what NumPy makes an array of. It
            is not copied where that can be avoided.

    Returns:
        An array of the same shape and, but for masked arrays (float64) and bfloat16, the same type.
    """
    if hasattr(data, "detach"):
        data = data.detach().cpu()
        data = (data.float() if str(data.dtype) == "torch.bfloat16" else data).numpy()
    if isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(np.float64), np.nan)
    return np.asarray(data)


CHANNELS = 4
"""The most channels that the last dimension of an array of images can be: red, green, blue, opacity."""


MOST_COLUMNS = 250_000
"""More are refused: describing so many takes half a minute, and no model could be fitted to them."""


def check_width(columns: float, source: str) -> None:
    """Refuse rows of more numbers than there can be columns.

    Raises:
        DataError: A row is wider than `MOST_COLUMNS`.
    """
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{source}: a row of {columns:,.0f} numbers, each of which would be a column, of which there can "
            f"be {MOST_COLUMNS:,}; make it smaller"
        )


def from_array(array: np.ndarray, source: str = "array", lengths: np.ndarray | None = None) -> Table:
    """(n,) or (n, D) numbers, or images, as columns x0, x1, …; float64 in C order is not copied.

    A large array, which may be a map of a file, is looked at block after block.

    Args:
        array: The numbers, of any real type; or a structured array, whose fields are the columns; or images.
        source: What messages call it.
        lengths: (S,) the number of rows of each sequence, if the data says so itself.

    Raises:
        DataError: The array is empty, has another shape, or does not hold real numbers.
    """
    if array.dtype.names:
        columns = {name: array[name] for name in array.dtype.names}
        for name, cells in columns.items():
            _check_dtype(cells, f"{source}, column {quoted(name)}")
        came = {name: Came(cells.dtype.name) for name, cells in columns.items()}
        return Table(source, columns, len(array), lengths=lengths, held=True, came=came)
    _check_dtype(array, source)
    image = array.shape[1:] if is_images(array.shape) else None
    if array.ndim not in (1, 2) and image is None:
        shape = " × ".join(map(str, array.shape))
        raise DataError(
            f"{source}: an array of shape {shape or '()'}; give one row per observation (n × columns), or "
            f"images (n × height × width, or n × height × width × channels, at most {CHANNELS})"
        )
    if array.size == 0:
        raise DataError(f"{source}: is empty (shape {' × '.join(map(str, array.shape))})")
    matrix = array.reshape(len(array), -1)
    check_width(matrix.shape[1], source)
    names = [f"x{j}" for j in range(matrix.shape[1])]
    parts = _parts(matrix, names, source) if stays_on_disk(matrix.size) else None
    if parts is None:
        _check_exact(matrix, source)
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
    columns = {name: matrix[:, j] for j, name in enumerate(names)}
    table = Table(source, columns, len(matrix), matrix=matrix, lengths=lengths, parts=parts, held=True)
    table.came = dict.fromkeys(names, Came(array.dtype.name))
    return table if image is None else images(table, image)


def is_images(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is one of images: n × height × width, or with channels at the end."""
    return len(shape) == 3 or (len(shape) == 4 and shape[3] <= CHANNELS)


def images(table: Table, shape: tuple[int, ...]) -> Table:
    """The table, whose columns are the pixels of images: numbers, not counts or labels.

    Args:
        table: A column for each pixel. It is changed.
        shape: Of an image: height, width and perhaps channels.
    """
    table.shape = tuple(shape)
    table.kinds = dict.fromkeys(table.columns, Kind.CONTINUOUS)
    return table


def _parts(
    matrix: np.ndarray, names: list[str], source: str
) -> Callable[[Collection[str]], Iterator[Mapping[str, np.ndarray]]]:
    """A reader of some columns of a large array, block after block."""

    def parts(wanted: Collection[str]) -> Iterator[Mapping[str, np.ndarray]]:
        index = [(name, names.index(name)) for name in wanted]
        start = 0
        for block in blocks(matrix):
            _check_exact(block, source, start)
            start += len(block)
            yield {name: block[:, j] for name, j in index}

    return parts


def _check_dtype(array: np.ndarray, where: str) -> None:
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: an array of {clean(array.dtype)}; give real numbers, or a data frame for text"
        )


def _check_exact(array: np.ndarray, source: str, start: int = 0) -> None:
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8:
        return
    large = (array > EXACT) | (array < -EXACT)
    if large.any():
        row, column = np.argwhere(large)[0]
        where = f"{source}, row {start + row + 1}, column 'x{column}'"
        raise DataError(f"{where}: {array[row, column]} is too large to be exact as a number")


def from_list(data: list | tuple) -> Table:
    """One array per sequence; or the rows themselves, as lists.

    Args:
        data: Arrays or tensors, (T,) or (T, D), one for each sequence; numbers, or lists of D numbers.

    Raises:
        DataError: The sequences differ in their number of columns, or one is empty.
    """
    if data and all(is_array(item) for item in data):
        arrays = [to_numpy(item) for item in data]
        if not all(a.ndim == 0 for a in arrays):
            return _joined(arrays)
        data = [a.item() for a in arrays]
    try:
        return from_array(np.asarray(data))
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError("list: its rows differ in length; give one array for each sequence") from None


def _joined(arrays: list[np.ndarray]) -> Table:
    arrays = [a.reshape(-1, 1) if a.ndim == 1 else a for a in arrays]
    for i, array in enumerate(arrays):
        _check_dtype(array, f"sequence {i + 1}")
        if array.ndim != 2 or array.shape[1:] != arrays[0].shape[1:]:
            shapes = " × ".join(map(str, array.shape)), " × ".join(map(str, arrays[0].shape))
            raise DataError(f"sequence {i + 1}: has shape {shapes[0]}, where the first has {shapes[1]}")
        if array.size == 0:
            raise DataError(f"sequence {i + 1}: is empty")
    return from_array(np.concatenate(arrays), lengths=np.array([len(a) for a in arrays], np.int64))


def why_not(error: BaseException) -> str:
    """What is wrong with a file that NumPy cannot read."""
    if "pickle" in str(error).lower() or "Python objects" in str(error):
        return "holds Python objects, which are never loaded; save numbers"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"is not a NumPy file, or is damaged ({clean(error)})"
