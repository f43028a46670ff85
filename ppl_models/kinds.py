"""The kinds of model, and where what is particular to each of them is.

A kind is what `Bound.kind` says: it decides who trains a model, who calibrates its posterior, what is checked
and which verbs there are. Everything is named here and imported when it is asked for, so that a model never
waits for what only another needs; a further kind is a further line of `KINDS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Package = Literal["training", "calibration", "diagnostics"]


@dataclass(frozen=True)
class Kind:
    """Where a kind of model has its parts.

    Attributes:
        family: The module of that name in three packages: of `training`, with `train`; of `diagnostics`, with
            `checks`; and, where parameters have a posterior, of `calibration`, with `calibrate` and
            `restored`.
        verbs: Verb -> module of `tasks`, with a function of that name.
        glance: `module:function` of `tasks`, for the table that is shown with a fit.
        groups: `module:function` of the package, for the groups of `posterior.nc`.
    """

    family: str
    verbs: Mapping[str, str]
    glance: str
    groups: str = "posterior:groups_of_draws"

    def part(self, package: Package) -> Any:
        """The module of the family in a package."""
        return import_module(f"ppl_models.{package}.{self.family}")


KINDS = {
    "chain": Kind(
        "latent",
        {
            "predict": "chain", "score": "chain", "sample": "chain", "forecast": "chain",
            "impute": "imputation", "transform": "chain", "summary": "summaries",
        },
        "summaries:states_table",
    ),
    "mixture": Kind(
        "latent",
        {
            "predict": "mixture", "score": "mixture", "sample": "mixture",
            "impute": "imputation", "transform": "mixture", "summary": "summaries",
        },
        "summaries:states_table",
    ),
    "regression": Kind(
        "regression",
        {
            "predict": "regression", "score": "regression", "sample": "regression",
            "transform": "regression", "summary": "regression",
        },
        "regression:largest",
    ),
    "program": Kind(
        "program",
        {
            "predict": "program", "score": "program", "sample": "program",
            "impute": "program", "summary": "program",
        },
        "program:glance",
    ),
    "vae": Kind(
        "vae",
        {
            "predict": "vae", "score": "vae", "sample": "vae", "impute": "vae_impute",
            "transform": "vae", "reconstruct": "vae", "summary": "vae",
        },
        "vae:glance",
        "neural.posterior:groups",
    ),
}  # fmt: skip
"""What `Bound.kind` says -> the kind."""
