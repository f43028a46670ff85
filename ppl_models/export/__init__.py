"""Fits for other programs: a graph of tensors in ONNX, or a model of MLflow, one file each.

A further target is a further file and a line here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppl_models.errors import UsageError
from ppl_models.export.mlflow import to_mlflow
from ppl_models.export.onnx import to_onnx
from ppl_models.record import Record

TARGETS: dict[str, Callable[[Record, Path], None]] = {"onnx": to_onnx, "mlflow": to_mlflow}
"""Name -> what writes it."""


def export(fit: Record, path: Any, to: str = "onnx") -> Path:
    """Write a fit for other programs, and return where.

    Args:
        fit: which.
        path: a file for `onnx`, a folder for `mlflow`.
        to: `onnx` or `mlflow`.

    Raises:
        UsageError: there is no such target, or a package that it needs is not installed.
        Unsupported: the fit cannot be written so.
        OutputError: the file cannot be written.
    """
    if to not in TARGETS:
        raise UsageError(f"there is no export to {to!r}; there are {', '.join(TARGETS)}")
    TARGETS[to](fit, Path(path))
    return Path(path)
