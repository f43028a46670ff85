"""An array in NumPy's own file format, never a pickle; a large one is mapped, not read."""

from ppl_models.data.readers.base import File, Reader, Request
from ppl_models.data.table import Table
from ppl_models.errors import DataError


def _read(file: File, request: Request) -> Table:
    import numpy as np

    from ppl_models.data.arrays import from_array, why_not
    from ppl_models.data.spill import stays_on_disk

    try:
        # Mapping, unlike reading, believes no header that promises more than the file holds.
        mapped = np.load(file.path, mmap_mode="r", allow_pickle=False)
        large = stays_on_disk(mapped.size) and not mapped.dtype.names
        return from_array(np.asarray(mapped) if large else np.array(mapped), file.name)
    except DataError:
        raise
    except Exception as error:  # NumPy parses the header with Python's tokenizer: any of a dozen types
        raise DataError(f"{file.name}: {why_not(error)}") from None


READER = Reader(name="NumPy", description="one NumPy array, never a pickle", suffixes=(".npy",), read=_read)
