"""MLflow: a run in the form of a model of Python code that loads it, without a pickle.

    mlflow.pyfunc.load_model(path).predict(table, params={"verb": "score"})

(Models from code, https://mlflow.org/docs/latest/ml/model/models-from-code.)
"""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppl_models import registry, runs
from ppl_models.errors import OutputError, UsageError
from ppl_models.extras import needed
from ppl_models.record import Record

CODE = Path(__file__).with_name("served.py")
"""What MLflow executes."""


def to_mlflow(fit: Record, path: Path) -> None:
    """Write the folder `path`.

    Of a user-defined model its file goes with it, and is executed where the model is loaded.

    Raises:
        UsageError: MLflow is not installed.
        OutputError: there is something at `path` already, or it cannot be written.
    """
    mlflow = needed("mlflow.pyfunc", "mlflow", "models of MLflow are written by")
    types = needed("mlflow.types", "mlflow", "models of MLflow are written by")
    models = needed("mlflow.models", "mlflow", "models of MLflow are written by")
    if path.exists():
        raise OutputError(f"{path} exists; remove it, or give another folder")
    own, _, name = registry.reference(type(fit.model)).rpartition(":")
    verb = types.ParamSchema([types.ParamSpec("verb", "string", "predict")])
    with tempfile.TemporaryDirectory() as folder, _quiet():
        artifacts = {"run": str(_saved(fit, Path(folder) / "run"))}
        if own.endswith(".py"):
            artifacts["model"] = shutil.copy(own, folder)
        try:
            mlflow.save_model(
                path=path, python_model=str(CODE), artifacts=artifacts, pip_requirements=["ppl_models"],
                signature=models.ModelSignature(params=verb), model_config={"class": name},
            )  # fmt: skip
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def _saved(fit: Record, path: Path) -> Path:
    """A run without the rows of the fit, for which a model that is served has no use, where that can be."""
    try:
        return runs.save(fit, path, slim=True)
    except UsageError:
        return runs.save(fit, path, force=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without advice on schemas and requirements, and without a bar for a copy on the same disk."""
    logger, name = logging.getLogger("mlflow"), "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    level, bar = logger.level, os.environ.get(name)
    logger.setLevel(logging.ERROR)
    os.environ[name] = "false"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if bar is None:
            del os.environ[name]
        else:
            os.environ[name] = bar
