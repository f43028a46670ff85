"""What a user's model can do once it knows its columns: what its sites say of parameters, rows and cells."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Completed, Evidence, Fitted
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, interval
from ppl_models.errors import DataError, Unsupported
from ppl_models.inference.calibration import NUTS, Calibrated, Learned, restored_guide
from ppl_models.inference.chains import CHAINS, sampled, too_large
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import ProgramSettings, Training
from ppl_models.models.program.calibrate import calibrate
from ppl_models.models.program.checks import against_data, beyond, modes
from ppl_models.models.program.density import Density, Shared
from ppl_models.models.program.groups import chains_of, groups, prior_groups, prior_points
from ppl_models.models.program.prior import first_points
from ppl_models.models.program.program import Program
from ppl_models.models.program.simulate import by_column, log_prior_of, marginals, redrawn, simulated
from ppl_models.models.program.train import train
from ppl_models.threads import threads_for

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CELLS = 40_000_000
"""Draws × numbers of an execution that a verb works on."""

MARGINALS = 200
"""Draws that probabilities of discrete latents are averaged over, at most."""

SHOWN = 40
"""Parameters that are shown with a fit; `summary` has all."""


class ProgramBound(Program, Bayesian):
    """A Pyro program over the columns of a schema."""

    takes_arrays: bool = True
    on_device: bool = False
    partial_rows: bool = True
    numeric_target: bool = True
    ridges: str = "write it with other parameters, or give stronger priors"

    def train(self, data: Dataset, settings: ProgramSettings, course: Course) -> Trained:
        """The Gaussian rule, unless the model, its size or the settings ask for another guide."""
        return train(self, data, settings, course)

    def calibrate(self, params: Params, data: Dataset, device: str, seed: int) -> Calibrated:
        """As it was trained, its draws moved where weights will not do."""
        self.settle(params)
        self.until = None if self.rest is None else time.monotonic() + self.rest
        return calibrate(self, Learned(self, params), data, seed)

    def log_scaled_prior(self, theta: Draws) -> Tensor:
        """Of the sites outside of plates, where there are some: those of groups are part of the model."""
        top = [name for name, site in self.sites.latent.items() if not site.plates]
        return self.log_prior(theta) if not top else log_prior_of(self, self.point(theta), top)

    def unchained(self, data: Dataset) -> str:
        """Whether it is too large."""
        return too_large(self.parameters, self.density.cells)

    def chained(self, params: Params, data: Dataset, seed: int) -> Calibrated:
        """NUTS on its density, from draws of the prior and points about zero."""
        self.settle(params)
        self.density.patience = 0.0  # thousands of evaluations are to come
        with threads_for(self.density.cells * CHAINS):
            parts = sampled(self.density, first_points(self, 4 * CHAINS, seed + 1), seed)
        return restored_guide(self, NUTS, params, parts)

    def restored(self, method: str, learned: Params, params: Params) -> Calibrated:
        """What `calibrate` gave."""
        self.settle(learned)
        return restored_guide(self, method, learned, params)

    def learned(self, params: Params) -> dict[str, Any]:
        """No fields: but how u is carried, also where draws are those of a run, without the guide."""
        self.settle(params)
        return {}

    def evidence(self, batch: Any, learned: Params) -> Evidence:
        """Nothing is to be added to the ELBO; the log likelihood is at the middle of the guide."""
        if "loc" in learned:
            theta = self.theta(learned["loc"])
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                theta = self.theta(self.point(self.draw(learned, 200)).mean(0, keepdim=True))
        return Evidence(0.0, float(self.log_evidence(batch, theta)), 0)

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether the posterior has one mode, and data looks like the model."""
        chained = fitted.calibrated.method == NUTS
        of_guide = [] if chained else [*modes(fitted.trained), *beyond(self, fitted)]
        return [*of_guide, *against_data(self, fitted)]

    def working_bytes(self, settings: Training) -> int:
        """Some d × d matrices for every start, and the log densities of the points of one execution."""
        return 8 * (6 + getattr(settings, "restarts", 1)) * self.parameters**2 + 2**28

    def rows(self, data: Dataset, device: str = "cpu") -> Dataset:
        """The data set itself: what a verb needs of it depends on what is asked."""
        return data

    def numbers(self, data: Dataset) -> int:
        """Of one execution."""
        return self.density.cells

    def _points(self, draws: Draws, each: int, most: int = 2_000) -> Tensor:
        """As many of the draws as an execution of `each` numbers allows, (S, d)."""
        points = self.point(draws)
        return points[: int(np.clip(CELLS // max(each, CELLS // most), 100, len(points)))]

    def log_density(self, rows: Dataset, draws: Draws) -> Tensor:
        """Log p(x_n | θ_s), (S, n) where rows are independent given θ, else (S, 1) of all."""
        batch: Density = self.dataset_batch(rows)
        found = batch.parts(self._points(draws, batch.cells)).likelihood
        return found.reshape(len(found), -1)

    def groups(self, fitted: Fitted) -> "dict[str, xr.Dataset]":
        """ArviZ groups by site."""
        return groups(self, fitted)

    def afresh(self, data: Dataset) -> Self:
        """The program over these rows: it is executed again, as they may change what it does."""
        self.shared = self.shared or Shared()
        return type(self)(self.model, self.schema, shared=self.shared).prepare(data)

    def simulated(self, data: Dataset, theta: Draws) -> Dataset:
        """What the model observes drawn anew.

        Raises:
            Unsupported: a site observes neither a column nor an array as it is.
        """
        return redrawn(self, data, self.point(theta))

    def prior_groups(self, seed: int, draws: int) -> "dict[str, xr.Dataset]":
        """Draws of the prior, what they predict, and what was observed."""
        return prior_groups(self, seed, draws)

    def prior_draws(self, draws: int, seed: int) -> Draws:
        """θ from the prior."""
        return self.theta(prior_points(self, draws, seed))

    def redraw(self, data: Dataset, draws: Draws, tables: int) -> np.ndarray | dict[str, Tensor]:
        """The table with what the model observes drawn anew, once for each of some draws of θ."""
        points = self._points(draws, self.density.cells)
        at = torch.randint(len(points), (tables,))
        drawn, _ = simulated(self, self.later(data), points[at])
        columns = by_column(self, data, drawn)
        if not columns:
            return drawn
        values = np.repeat(np.asarray(data.values)[None], tables, 0)
        for name, cells in columns.items():
            values[:, :, data.names.index(name)] = cells
        return values

    def observed(self, rows: Dataset, draws: Draws) -> dict[str, np.ndarray]:
        """Draws (S, n) of the observed and the deterministic sites that have one number for every row."""
        points = self._points(draws, self.density.cells, 1_000)
        drawn, _ = simulated(self, self.later(rows), points, derived=True)
        return dict(self._by_row(rows, drawn))

    def _by_row(self, rows: Dataset, drawn: dict[str, Tensor]) -> Iterator[tuple[str, np.ndarray]]:
        for name, value in drawn.items():
            if rows.rows and value.shape[1:] == (rows.rows,):
                site = self.sites.observed.get(name)
                yield (name if site is None else site.column or name), value.numpy()
        for stem, names in self.sites.families.items():
            if all(name in drawn and drawn[name].dim() == 1 for name in names):
                yield stem, torch.stack([drawn[name] for name in names], 1).numpy()

    def enumerated(self, rows: Dataset, draws: Draws) -> dict[str, np.ndarray]:
        """Probabilities (n, K) of discrete latents that there is one of for every row."""
        if not self.sites.discrete:
            return {}
        points = self._points(draws, self.density.cells, 1_000)[:MARGINALS]
        found = marginals(self, self.later(rows), points)
        shares = {
            name: p.reshape(-1, p.shape[-1])
            for name, p in found.items()
            if rows.rows and p[..., 0].numel() == rows.rows and p.dim() > 1
        }
        for stem, names in self.sites.families.items():
            if all(name in found for name in names):
                shares[stem] = torch.stack([found[name].reshape(-1) for name in names])
        return {name: p.numpy() for name, p in shares.items()}

    def shapes_observed(self) -> str:
        """The observed sites with their shapes."""
        return ", ".join(f"{name} {site.shape}" for name, site in self.sites.observed.items())

    def complete(self, data: Dataset, holes: np.ndarray, number: int, draws: Draws) -> Iterator[Completed]:
        """Missing cells from the posterior predictive distribution.

        Raises:
            Unsupported: the model observes no column as it is, or its rows depend on one another.
        """
        name = self.model.name
        if self.sites.discrete or self.sites.rows is None:
            what = "has discrete latents" if self.sites.discrete else "has rows that depend on one another"
            raise Unsupported(
                f"impute draws cells given θ alone, and {name} {what}, which other cells say more of"
            )
        points = self._points(draws, self.density.cells)
        S = len(points)
        points = points[torch.randperm(S)[:number] if number <= S else torch.randint(S, (number,))]
        drawn, _ = simulated(self, self.later(data), points)
        columns = by_column(self, data, drawn)
        if not columns:
            raise Unsupported(f"{name} observes no column as it is: it has no cells to fill in")
        if not len(holes):
            return
        values = np.repeat(np.asarray(data.values[holes])[None], len(points), 0)
        missing = np.isnan(data.values[holes])
        own = [data.names.index(column) for column in columns]
        if missing.any() and not missing[:, own].any():
            raise DataError(f"{data.source}: the missing cells are not in columns that {name} observes")
        for column, cells in columns.items():
            j = data.names.index(column)
            values[:, missing[:, j], j] = cells[:, holes[missing[:, j]]]
        yield Completed(holes, values, {}, {})

    def pyro_values(self, theta: Draws) -> dict[str, Tensor]:
        """The continuous latents."""
        every = self.values(theta)
        return {name: every[name][0] for name in self.sites.latent}

    def pyro_data(self, data: Dataset) -> Any:
        """The columns of the fit."""
        return self.density.columns

    def plate_nesting(self) -> int:
        """That of its sites."""
        return self.sites.nesting

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Posterior mean, sd and highest-density interval of every continuous latent and derived site.

        A row for each number, `theta[0]`, with `mean`, `sd`, `hdi_5.5%` and `hdi_94.5%`; and where draws were
        moved nested R-hat and the effective sample size of the chains.
        """
        variables, coords = self.variables(fitted.posterior_draws.theta)
        mixing = chains_of(self, fitted.calibrated.params)
        rows: dict[str, dict[str, Any]] = {}
        for name, (dims, value) in variables.items():
            for index in np.ndindex(*value.shape[1:]):
                labels = [
                    str(coords[d][i]) if d in coords else str(i) for d, i in zip(dims, index, strict=True)
                ]
                draws = value[(slice(None), *index)]
                key = f"{name}[{', '.join(labels)}]" if labels else name
                rows[key] = {"mean": draws.mean(), "sd": draws.std(ddof=1)} | interval(draws, tails)
                rows[key] |= {stat: float(values[name][index]) for stat, values in mixing.items()}
        return rows | self._discrete(fitted, tails)

    def _discrete(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, float]]:
        """Mean, sd and interval of discrete latents that are neither of a plate nor of rows."""
        of_rows = {name for names in self.sites.families.values() for name in names}
        alone = [s for s in self.sites.discrete.values() if not s.plates and s.name not in of_rows]
        if not alone:
            return {}
        points = self._points(fitted.posterior_draws.theta, self.density.cells)[:MARGINALS]
        found = marginals(self, self.density.columns, points)
        rows = {}
        for site in alone:
            p, value = found[site.name].numpy().reshape(-1), np.array(site.values)
            mean = float(p @ value)
            sd = float(np.sqrt(max(p @ (value - mean) ** 2, 0.0)))
            each = np.repeat(value, np.rint(10_000 * p).astype(int))
            rows[site.name] = {"mean": mean, "sd": sd} | interval(each, tails)
        return rows

    def glance(self, fitted: Fitted) -> "pd.DataFrame":
        """The first rows of the summary."""
        import pandas as pd

        table = pd.DataFrame.from_dict(self.summarise(fitted, (0.055, 0.945)), orient="index")
        table = table[["mean", "sd", *(name for name in table.columns if name.startswith("hdi_"))]]
        shown = table.head(SHOWN).rename_axis("parameter").reset_index()
        if len(table) > SHOWN:
            shown.attrs["note"] = f"{SHOWN} of {len(table):,} parameters, the first; summary has all"
        return shown
