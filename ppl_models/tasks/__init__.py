"""The verbs, as functions of a fit: each takes data, read against the fit's schema, and gives a table.

What a verb does depends on the kind of model: `ppl_models.kinds` says where it is.
"""

from importlib import import_module
from typing import Any

from ppl_models.errors import Unsupported
from ppl_models.kinds import KINDS


def verb(fit: Any, name: str) -> Any:
    """The function of a verb for the kind of model that was fitted.

    Raises:
        Unsupported: naming the verbs that there are.
    """
    known = KINDS[fit.bound.kind].verbs
    if name not in known:
        raise Unsupported(f"{fit.model.name} has no {name}; it has {', '.join(known)}")
    return getattr(import_module(f"ppl_models.tasks.{known[name]}"), name)


def predict(fit: Any, *args: Any, **options: Any) -> Any:
    """What a row is: see the module of the kind of model."""
    return verb(fit, "predict")(fit, *args, **options)


def score(fit: Any, *args: Any, **options: Any) -> Any:
    """How probable rows are."""
    return verb(fit, "score")(fit, *args, **options)


def sample(fit: Any, *args: Any, **options: Any) -> Any:
    """New rows."""
    return verb(fit, "sample")(fit, *args, **options)


def forecast(fit: Any, *args: Any, **options: Any) -> Any:
    """The rows that follow."""
    return verb(fit, "forecast")(fit, *args, **options)


def impute(fit: Any, *args: Any, **options: Any) -> Any:
    """Missing cells."""
    return verb(fit, "impute")(fit, *args, **options)


def transform(fit: Any, *args: Any, **options: Any) -> Any:
    """Rows as features."""
    return verb(fit, "transform")(fit, *args, **options)


def reconstruct(fit: Any, *args: Any, **options: Any) -> Any:
    """Rows as their latents have them."""
    return verb(fit, "reconstruct")(fit, *args, **options)


def summary(fit: Any, *args: Any, **options: Any) -> Any:
    """The posterior as a table."""
    return verb(fit, "summary")(fit, *args, **options)


def glance(fit: Any) -> Any:
    """The table that is shown with a fit: of its states, or of its largest coefficients."""
    module, _, function = KINDS[fit.bound.kind].glance.partition(":")
    return getattr(import_module(f"ppl_models.tasks.{module}"), function)(fit)


__all__ = [
    "forecast", "glance", "impute", "predict", "reconstruct", "sample", "score", "summary", "transform",
    "verb",
]  # fmt: skip
