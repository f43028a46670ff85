"""Data for a program that has none: columns as it asks for them, and what it observes as it draws it."""

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ppl_models.data import Dataset, read
from ppl_models.errors import UsageError
from ppl_models.models.program.execution import numerics
from ppl_models.models.program.failures import telling
from ppl_models.models.program.model import PyroModel


def from_prior(model: PyroModel, rows: int, seed: int) -> tuple[Dataset, dict]:
    """One execution of a program with draws of its prior; columns that it observes are what it draws.

    Args:
        model: the program.
        rows: of the columns that it asks for.
        seed: of the draws.

    Returns:
        The data, columns that are not observed being standard normal, and θ by site.

    Raises:
        UsageError: the program observes no column as it is, or needs to know something of its columns.
    """
    columns: Any = _Blank(rows)
    with torch.random.fork_rng(devices=[]), numerics(), pyro.validation_enabled(False), torch.no_grad():
        torch.manual_seed(seed)
        columns.fill()
        observing = _Observing(columns)
        with telling(model), poutine.trace() as tracer, observing:
            model.model(columns)
    drawn = {name: value.numpy() for name, value in columns.values.items()}
    if not observing.found:
        raise UsageError(f"{type(model).__name__} observes no column of its data as it is: give it data")
    nodes: Any = tracer.trace.nodes
    latent = [
        name
        for name, site in nodes.items()
        if site["type"] == "sample"
        and name not in observing.sites
        and not hasattr(site["fn"], "subsample_size")
    ]
    truth = {name: nodes[name]["value"].numpy() for name in latent}
    return read({name: drawn[name] for name in drawn}, types=observing.kinds), truth


class _Blank:
    """Columns of any name: standard normal, until a site observes one."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.values: dict[str, torch.Tensor] = {}
        self.lengths = (rows,)

    def fill(self) -> None:
        """Nothing is known of the names before they are asked for."""

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.values:
            self.values[name] = torch.randn(self._rows)
        return self.values[name]

    def __getattr__(self, name: str) -> torch.Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __contains__(self, name: object) -> bool:
        return True

    def __len__(self) -> int:
        return self._rows

    def levels(self, name: str) -> tuple[str, ...]:
        """Labels cannot be made up."""
        raise UsageError(f"the model asks for the labels of {name!r}: give it data that has them")


def _Observing(columns: _Blank) -> Any:
    """A handler that draws what is observed, and keeps it as the column."""

    class Observing(Messenger):
        found: dict[str, str] = {}
        sites: set[str] = set()
        kinds: dict[str, str] = {}

        def _pyro_sample(self, msg: Any) -> None:
            if not msg["is_observed"] or msg["infer"].get("_deterministic"):
                return
            self.sites.add(msg["name"])
            for name, value in columns.values.items():
                if value is msg["value"]:
                    drawn = msg["fn"].sample().double()
                    columns.values[name] = msg["value"] = drawn
                    self.found[name] = msg["name"]
                    support = msg["fn"].support
                    if "Boolean" in type(support).__name__ or "_Boolean" in repr(support):
                        self.kinds[name] = "binary"
                    elif not support.is_discrete:
                        self.kinds[name] = "continuous"

    handler = Observing()
    handler.found, handler.sites, handler.kinds = {}, set(), {}
    return handler
