"""Fit probabilistic models to real data, and know whether to trust the answer.

    >>> import ppl_models as ppl
    >>> ppl.HMM(states=3).states
    3

Everything public is imported when it is first used, so that `import ppl_models` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ppl_models.importing import uncollected

_HOME = {
    "DataError": "errors",
    "Fit": "fitting",
    "GMM": "models.gmm",
    "HMM": "models.hmm",
    "Logistic": "models.logistic",
    "Model": "model",
    "PplError": "errors",
    "RunError": "errors",
    "UsageError": "errors",
    "VAE": "models.vae",
    "fit": "fitting",
    "load": "runs",
    "read": "data",
    "resume": "resuming",
    "select": "selection",
}

__all__ = [
    "DataError",
    "Fit",
    "GMM",
    "HMM",
    "Logistic",
    "Model",
    "PplError",
    "RunError",
    "UsageError",
    "VAE",
    "fit",
    "load",
    "read",
    "resume",
    "select",
]

if TYPE_CHECKING:
    from ppl_models.data import read
    from ppl_models.errors import DataError, PplError, RunError, UsageError
    from ppl_models.fitting import Fit, fit
    from ppl_models.model import Model
    from ppl_models.models.gmm import GMM
    from ppl_models.models.hmm import HMM
    from ppl_models.models.logistic import Logistic
    from ppl_models.models.vae import VAE
    from ppl_models.resuming import resume
    from ppl_models.runs import load
    from ppl_models.selection import select


def __getattr__(name: str) -> Any:
    if name in _HOME:
        with uncollected():
            return getattr(import_module(f"ppl_models.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ppl_models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
