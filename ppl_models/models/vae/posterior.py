"""The latents of a VAE's rows for ArviZ: draws from the guide, and their moments."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from ppl_models.capabilities import Fitted
from ppl_models.draws import variable_names
from ppl_models.models.vae.latents import latents

if TYPE_CHECKING:
    import xarray as xr

CELLS, DRAWS = 4_000_000, 100
"""Numbers that are stored, and draws of each row, at most."""


def groups(fit: Fitted) -> dict[str, "xr.Dataset"]:
    """Group by group: `z` (chain, draw, row, latent) ~ N(mean, sd²); `z_mean` and `z_sd` (row, latent)."""
    import xarray as xr

    data, bound = fit.data, fit.bound
    net = bound.networks(fit.params, fit.settings.device)
    mean, sd, _ = latents(net, bound.rows(data, fit.settings.device))
    coords = {"row": np.arange(data.rows), "latent": np.arange(mean.shape[1])}
    draws = min(DRAWS, CELLS // max(mean.size, 1))
    attributes = {"model": fit.name, "guide": "encoder", "inference_library": "ppl_models"}
    found = {}
    if draws:
        generator = torch.Generator().manual_seed(fit.settings.seed + 1)
        noise = torch.randn((1, draws, *mean.shape), generator=generator, dtype=torch.float64).numpy()
        z = (("chain", "draw", "row", "latent"), mean + sd * noise)
        found["posterior"] = xr.Dataset(
            {"z": z}, {"chain": [0], "draw": np.arange(draws), **coords}, attributes
        )
    moments = {"z_mean": (("row", "latent"), mean), "z_sd": (("row", "latent"), sd)}
    found["constant_data"] = xr.Dataset(moments, coords, attributes)
    if data.values.size <= CELLS:
        columns = zip(variable_names(data.names), data.values.T, strict=True)
        found["observed_data"] = xr.Dataset({name: ("row", cells) for name, cells in columns})
    return found
