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
    "CNN": "models.cnn.model",
    "DataError": "errors",
    "Fit": "api",
    "GAN": "models.gan.model",
    "GLM": "models.glm.model",
    "GMM": "models.gmm.model",
    "HMM": "models.hmm.model",
    "Logistic": "models.logistic.model",
    "MLP": "models.mlp.model",
    "Model": "model",
    "PplError": "errors",
    "PplWarning": "errors",
    "PyroModel": "models.program.model",
    "RNN": "models.rnn.model",
    "RunError": "errors",
    "SVM": "models.svm.model",
    "Transformer": "models.transformer.model",
    "UsageError": "errors",
    "VAE": "models.vae.model",
    "compare": "comparison.compare",
    "fit": "api",
    "load": "api",
    "pool": "pooling",
    "read": "data",
    "recommend": "comparison.advice",
    "resume": "api",
    "sbc": "validation.running",
    "select": "api",
    "set_threads": "threads",
}

__all__ = [
    "CNN",
    "DataError",
    "Fit",
    "GAN",
    "GLM",
    "GMM",
    "HMM",
    "Logistic",
    "MLP",
    "Model",
    "PplError",
    "PplWarning",
    "PyroModel",
    "RNN",
    "RunError",
    "SVM",
    "Transformer",
    "UsageError",
    "VAE",
    "compare",
    "fit",
    "load",
    "pool",
    "read",
    "recommend",
    "resume",
    "sbc",
    "select",
    "set_threads",
]

if TYPE_CHECKING:
    from ppl_models.api import Fit, fit, load, resume, select
    from ppl_models.comparison.advice import recommend
    from ppl_models.comparison.compare import compare
    from ppl_models.data import read
    from ppl_models.errors import DataError, PplError, PplWarning, RunError, UsageError
    from ppl_models.model import Model
    from ppl_models.models.cnn.model import CNN
    from ppl_models.models.gan.model import GAN
    from ppl_models.models.glm.model import GLM
    from ppl_models.models.gmm.model import GMM
    from ppl_models.models.hmm.model import HMM
    from ppl_models.models.logistic.model import Logistic
    from ppl_models.models.mlp.model import MLP
    from ppl_models.models.program.model import PyroModel
    from ppl_models.models.rnn.model import RNN
    from ppl_models.models.svm.model import SVM
    from ppl_models.models.transformer.model import Transformer
    from ppl_models.models.vae.model import VAE
    from ppl_models.pooling import pool
    from ppl_models.threads import set_threads
    from ppl_models.validation.running import sbc


def __getattr__(name: str) -> Any:
    if name in _HOME:
        with uncollected():
            return getattr(import_module(f"ppl_models.{_HOME[name]}"), name)
    raise AttributeError(f"module 'ppl_models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
