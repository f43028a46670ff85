"""Reading data: tables and sequences, the types of their columns, and the schema stored with a fit."""

from ppl_models.data.dataset import Dataset
from ppl_models.data.readers import read
from ppl_models.data.schema import Column, Kind, Schema
from ppl_models.data.writers import write_table

__all__ = ["Column", "Dataset", "Kind", "Schema", "read", "write_table"]
