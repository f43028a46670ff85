"""Fits of a VAE by a short loop, for tests of what comes after training."""

from typing import Any

import numpy as np
import torch
from fits import by_hand

from ppl_models.api import Fit
from ppl_models.data import Dataset, Kind, read
from ppl_models.families.registry import having
from ppl_models.models.vae.model import VAE
from ppl_models.models.vae.objective import VAETarget


def adam(target: VAETarget, epochs: int, batch: int = 128, lr: float = 3e-3) -> None:
    """Some passes of Adam over the training rows."""
    optimiser = torch.optim.Adam(target.module.parameters(), lr=lr, fused=True)
    for epoch in range(epochs):
        for rows in torch.randperm(target.rows).split(batch):
            optimiser.zero_grad()
            target.loss(rows, float(epoch)).backward()
            optimiser.step()


def fit_of(model: VAE, data: Dataset, target: VAETarget) -> Fit:
    """A fit with the weights that the target has now."""
    params = model.bind(data.schema).params(target.module)
    elbo = target.evidence() * data.rows
    return by_hand(model, data, params, elbo, rule="gradient")


def fitted(
    model: VAE, table: Any, *, epochs: int = 30, batch: int = 128, lr: float = 3e-3, **reading: Any
) -> Fit:
    """Read, train, and wrap."""
    torch.manual_seed(0)
    data = table if isinstance(table, Dataset) else read(table, **reading)
    target = model.bind(data.schema).target(data)
    adam(target, epochs, batch, lr)
    return fit_of(model, data, target)


SCHEMAS = tuple(having("likelihood"))
"""Families, of each of which `schema_of` makes a table."""


def columns_of(name: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Columns of one family, which depend on a hidden number."""
    z = rng.normal(size=n)
    kind = having("likelihood")[name].side("likelihood").kinds[0]
    if kind is Kind.CONTINUOUS and name != "continuous_bernoulli":
        return {
            "a": 3 + 2 * z + rng.normal(size=n),
            "b": -z + 0.5 * rng.normal(size=n),
            "c": 100 + rng.normal(size=n),
        }
    if name == "bernoulli":
        return {
            f"b{j}": (rng.random(n) < 1 / (1 + np.exp(-s * z))).astype(int)
            for j, s in enumerate((1, -2, 0.5))
        }
    if name == "continuous_bernoulli":
        return {f"u{j}": 10 * rng.beta(np.exp(z), 2.0, size=n) + 5 for j in range(3)}
    if kind is Kind.COUNT:
        return {f"n{j}": rng.poisson(np.exp(0.5 * z + s)) for j, s in enumerate((0.0, 1.5))}
    return {
        f"k{j}": np.array([*"abcd"])[
            np.clip(np.rint(z + 1 + rng.normal(size=n)), 0, top).astype(int)
        ].tolist()
        for j, top in enumerate((2, 3))
    }


def schema_of(name: str, n: int = 200, missing: float = 0.0) -> tuple[Dataset, str]:
    """A table of one family or, for `mixed`, of all, and the option that asks for it."""
    rng = np.random.default_rng(3)
    names = (
        ("gaussian", "bernoulli", "continuous_bernoulli", "poisson", "categorical")
        if name == "mixed"
        else (name,)
    )
    columns = {key: value for each in names for key, value in columns_of(each, n, rng).items()}
    for key, value in columns.items():
        if missing:
            hole = rng.random(n) < missing
            columns[key] = [None if h else v for h, v in zip(hole, list(value), strict=True)]
    option = ",".join(f"u{j}=continuous_bernoulli" for j in range(3)) if name == "mixed" else name
    return read({k: list(v) for k, v in columns.items()}), option
