"""A system of one's own that is no Pyro program: independent normals at their maximum likelihood."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from ppl_models import Model, UsageError
from ppl_models.bound import Bound
from ppl_models.capabilities import NETWORKS, Sampled
from ppl_models.data import Dataset, Schema
from ppl_models.draws import Draws, Params
from ppl_models.inference.loop import Course, Log, Status, Trained
from ppl_models.inference.settings import Training


@dataclass(frozen=True)
class NormalsBound(Bound):
    """Columns x_j ~ Normal(m_j, s_j), each by itself."""

    schema: Schema
    least: float
    exchangeable: bool = True

    @property
    def describe(self) -> str:
        """Its size."""
        return f"{len(self.schema.names)} normals"

    @property
    def parameters(self) -> int:
        """A mean and an sd of each column."""
        return 2 * len(self.schema.names)

    def working_bytes(self, settings: Training) -> int:
        """Next to nothing."""
        return 0

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """(C,) each."""
        size = (len(self.schema.names),)
        return {"mean": size, "sd": size}

    def train(self, data: Dataset, settings: Training, course: Course) -> Trained:
        """The moments of observed cells."""
        began, log = time.perf_counter(), Log(self.parameters, course.progress)
        mean = torch.from_numpy(np.nanmean(data.values, 0))[None]
        sd = torch.from_numpy(np.nanstd(data.values, 0).clip(self.least))[None]
        params = {"mean": mean, "sd": sd}
        total = float(self.log_density(self.rows(data), {NETWORKS: params}).sum())
        log.phase("moments")(1, total, 1.0, 0.0)
        seconds = time.perf_counter() - began
        return Trained(params, total, Status.CONVERGED, 1, seconds, tuple(log.history), None, rule="moments")

    def rows(self, data: Dataset, device: str = "cpu") -> torch.Tensor:
        """The cells, (n, C)."""
        return torch.from_numpy(np.array(data.values))

    def numbers(self, data: Dataset) -> int:
        """Cells."""
        return data.values.size

    def log_density(self, rows: torch.Tensor, draws: Draws) -> torch.Tensor:
        """The sum over observed cells, (1, n)."""
        mean, sd = draws[NETWORKS]["mean"], draws[NETWORKS]["sd"]
        cells = -0.5 * ((rows - mean) / sd) ** 2 - sd.log() - 0.5 * math.log(2 * math.pi)
        return cells.nan_to_num(0.0).sum(-1)[None]

    def sample(self, number: int, draws: Draws, given: Dataset | None) -> Sampled:
        """Rows; cells of the row `given` stay."""
        mean, sd = draws[NETWORKS]["mean"], draws[NETWORKS]["sd"]
        values = (mean + sd * torch.randn(number, mean.shape[1], dtype=mean.dtype)).numpy()
        if given is not None:
            values = np.where(np.isnan(given.values), values, given.values)
        return Sampled(values, {})

    def groups(self, fitted: Any) -> dict[str, Any]:
        """The estimates, for ArviZ."""
        import xarray as xr

        params: Params = fitted.params
        found = {name: (("column",), value[0].numpy()) for name, value in params.items()}
        return {"constant_data": xr.Dataset(found, coords={"column": list(self.schema.names)})}

    def summarise(self, fitted: Any, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """A row for each column."""
        mean, sd = (fitted.params[name][0].tolist() for name in ("mean", "sd"))
        return {name: {"mean": m, "sd": s} for name, m, s in zip(self.schema.names, mean, sd, strict=True)}


@dataclass(frozen=True)
class Normals(Model):
    """Every column from a normal of its own."""

    least: Annotated[float, "the least sd"] = 1e-9

    def __post_init__(self) -> None:
        if not self.least > 0:
            raise UsageError(f"least must be positive, got {self.least}")

    @classmethod
    def bounds(cls) -> tuple[type[Bound], ...]:
        """One."""
        return (NormalsBound,)

    def bind(self, schema: Schema) -> NormalsBound:
        """Over the columns of a table."""
        return NormalsBound(schema, self.least)
