"""Reading data: tables and sequences, the types of their columns, and the schema stored with a fit.

Everything is imported when it is first used, so that whoever only lists options of reading loads no numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppl_models.data.dataset import Dataset
    from ppl_models.data.options import Later, reading_options
    from ppl_models.data.readers import formats, known_formats
    from ppl_models.data.reading import read
    from ppl_models.data.schema import Column, Kind, Schema
    from ppl_models.data.writers import write_table

_HOME = {
    "Column": "schema",
    "Dataset": "dataset",
    "Kind": "schema",
    "Later": "options",
    "Schema": "schema",
    "formats": "readers",
    "known_formats": "readers",
    "read": "reading",
    "reading_options": "options",
    "write_table": "writers",
}

__all__ = [
    "Column",
    "Dataset",
    "Kind",
    "Later",
    "Schema",
    "formats",
    "known_formats",
    "read",
    "reading_options",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ppl_models.data' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"ppl_models.data.{_HOME[name]}"), name)
    return found
