"""IDX images, as MNIST comes: a column of intensities for each pixel."""

import math
import struct

from ppl_models.data.files import check_memory
from ppl_models.data.readers.base import File, Reader, Request
from ppl_models.data.table import Table
from ppl_models.errors import DataError


def _read(file: File, request: Request) -> Table:
    import numpy as np

    from ppl_models.data.arrays import from_array, images, is_images

    content, source = file.content(), file.name
    types = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    if (
        len(content) < 4
        or content[:2] != b"\0\0"
        or content[2] not in types
        or len(content) < 4 + 4 * content[3]
    ):
        raise DataError(f"{source}: is not an IDX file, or is damaged")
    shape = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
    dtype = np.dtype(types[content[2]])
    body = content[4 + 4 * content[3] :]
    if not shape or math.prod(shape) * dtype.itemsize != len(body):
        raise DataError(
            f"{source}: {len(body)} bytes where its header ({' × '.join(map(str, shape))}) wants others"
        )
    check_memory(source, 8 * math.prod(shape))
    array = np.frombuffer(body, dtype)
    table = from_array(array.reshape(shape[0], -1) if math.prod(shape) else array, source)
    if len(shape) > 1:
        table = images(table, shape[1:])
        table.shape = table.shape if is_images(shape) else None
    return table


READER = Reader(
    name="IDX",
    description="images, or other numbers, as MNIST comes",
    suffixes=(".idx*",),
    read=_read,
    packed=True,
)
