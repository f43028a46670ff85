"""Arrays in NumPy's archives, never pickles."""

import zipfile
from typing import TYPE_CHECKING

from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean, listed
from ppl_models.data.readers.base import File, Reader, Request
from ppl_models.data.table import Table
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import numpy as np


def _read(file: File, request: Request) -> Table:
    """The only array of an archive, or the one called X, with `lengths` beside it if there are sequences.

    The numbers y beside X are the last column if they are the target.
    """
    import numpy as np

    from ppl_models.data.arrays import from_array, why_not

    path, name, labels = file.path, file.name, request.target == "y"
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory(name, 2 * sum(item.file_size for item in archive.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            names = [key for key in arrays.files if key != "lengths"]
            if "X" not in names and len(names) != 1:
                raise DataError(f"{name}: holds {listed(names) or 'no array'}; call the one to be read X")
            array = arrays["X" if "X" in names else names[0]]
            table = from_array(array, name, arrays["lengths"] if "lengths" in arrays.files else None)
            return _labelled(table, arrays["y"]) if labels and "X" in names and "y" in names else table
    except DataError:
        raise
    except Exception as error:  # zipfile and zlib add their own
        raise DataError(f"{name}: {why_not(error)}") from None


def _labelled(table: Table, y: "np.ndarray") -> Table:
    """The table with y as its last column."""
    import numpy as np

    if y.shape != (table.rows,) or y.dtype.kind not in "fiub":
        shape = " × ".join(map(str, y.shape))
        raise table.error(
            f"y has shape {shape or '()'} and type {clean(y.dtype)}; it must be {table.rows} numbers"
        )
    matrix = np.column_stack([np.asarray(table.matrix, np.float64), y.astype(np.float64)])
    columns = {name: matrix[:, j] for j, name in enumerate([*table.columns, "y"])}
    return Table(
        table.source,
        columns,
        table.rows,
        matrix=matrix,
        lengths=table.lengths,
        kinds=table.kinds,
        shape=table.shape,
    )


READER = Reader(
    name="NumPy archive",
    description="NumPy arrays: the only one, or X and, where it is the target, y",
    suffixes=(".npz",),
    read=_read,
)
