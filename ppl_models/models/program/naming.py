"""Names of dimensions and their coordinates: those of the plates, and labels where a plate is over them."""

from typing import Any

import numpy as np
from torch import Tensor

from ppl_models.data import Schema
from ppl_models.draws import Variables
from ppl_models.errors import UsageError
from ppl_models.models.program.sites import Site, Sites

RESERVED = ("chain", "draw")


def named(
    sites: Sites, schema: Schema, values: dict[str, Tensor], model: Any = None
) -> tuple[Variables, dict[str, Any]]:
    """Values (S, ...) by site with the names of their dimensions, and the coordinates of these.

    Args:
        sites: what was discovered in the model.
        schema: of the fit, for labels of columns that plates are over.
        values: by site, (S, ...).
        model: whose `dims` and `coords` name dimensions, where it has them.

    Returns:
        Variables for ArviZ, and labels by dimension; those of size 1 beside plates are left out.
    """
    variables: Variables = {}
    coords: dict[str, Any] = {}
    every = {**sites.latent, **sites.derived, **sites.observed}
    taken = {*sites.latent, *sites.derived, *RESERVED}
    own_dims, own_coords = getattr(model, "dims", {}), getattr(model, "coords", {})
    for name, value in values.items():
        shape = tuple(value.shape[1:])
        site = every.get(name) or Site(name, shape, 0, ())
        if name not in every and sites.rows and len(shape) == 1:
            site = Site(name, shape, 0, ((-1, sites.rows, shape[0]),))
        dims, kept = _dims(site, shape, taken)
        if name in own_dims:
            dims = _asked(name, own_dims[name], dims)
        variables[name] = (tuple(dims), value.reshape(len(value), *kept).numpy())
        for dim, size in zip(dims, kept, strict=True):
            labels = own_coords.get(dim)
            if labels is not None and len(labels) != size:
                raise UsageError(
                    f"coords has {len(labels)} labels of {dim!r}, and site {name!r} {size} values"
                )
            labels = _labels(dim, size, schema, sites) if labels is None else list(labels)
            if labels is not None:
                coords[dim] = labels
    return variables, coords


def _asked(name: str, asked: Any, dims: list[str]) -> list[str]:
    """The names that a model gives to the dimensions of a site: of all, or of the last ones.

    Raises:
        UsageError: it names more than there are.
    """
    own = [asked] if isinstance(asked, str) else list(asked)
    if len(own) > len(dims):
        raise UsageError(f"dims names {len(own)} dimensions of site {name!r}, which has {len(dims)}")
    return [*dims[: len(dims) - len(own)], *own]


def _dims(site: Site, shape: tuple[int, ...], taken: set[str]) -> tuple[list[str], list[int]]:
    """Names and sizes of the dimensions of one value; those of size 1 beside plates are left out."""
    batch = len(shape) - site.event_dim
    plates = {batch + dim: name for dim, name, _ in site.plates}
    dims, kept = [], []
    for i, size in enumerate(shape):
        if i in plates:
            dims.append(f"{plates[i]}_dim" if plates[i] in taken else plates[i])
        elif i < batch and size == 1:
            continue
        else:
            dims.append(f"{site.name}_dim_{i}")
        kept.append(size)
    return dims, kept


def _labels(dim: str, size: int, schema: Schema, sites: Sites) -> list[Any] | None:
    """The labels of a column that a plate is over: of its name, or the only one of so many labels."""
    plates = {f"{n}{end}" for s in sites.latent.values() for _, n, _ in s.plates for end in ("", "_dim")}
    if dim not in plates:
        return None
    levels = {c.name: c.levels for c in schema.columns if len(c.levels) == size}
    if dim.removesuffix("_dim") in levels:
        return list(levels[dim.removesuffix("_dim")])
    if len(levels) == 1 and dim.removesuffix("_dim") != sites.rows:
        return list(next(iter(levels.values())))
    return list(np.arange(size))
