"""What mixtures and chains share once they know their columns: training, calibration, missing cells."""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Completed, Evidence, Explained, Fitted
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, Variables, groups, number_of, on_device, select_draws
from ppl_models.errors import UsageError
from ppl_models.inference.calibration import Calibrated, Learned
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import ConjugateSettings, Training
from ppl_models.kernels.latents import Marginals
from ppl_models.latent import average, calibrate, checks, surprise, train, trimmed
from ppl_models.latent.influence import influence
from ppl_models.latent.joint import Batch, Joint
from ppl_models.latent.tables import states_table
from ppl_models.latent.unconstrained import expected

if TYPE_CHECKING:
    import pandas as pd


class LatentBound(Joint, Bayesian):
    """A joint density of rows and discrete latents that can be fitted.

    Attributes:
        spare: whether averages over draws of θ are over as few as the answer needs.
    """

    spare: bool = False
    ridges: str = "fit fewer components or states, --covariance=diag, or give stronger priors"

    def train(self, data: Dataset, settings: ConjugateSettings, course: Course) -> Trained:
        """Restarts race, the best exchanges components, then all rows."""
        if settings.robust and data.shares is not None:
            raise UsageError(
                "a robust fit leaves out rows of the whole data: fit it with one process, and of Dask "
                "data.compute()"
            )
        inside = self.inside.dataset(data, noise=True)
        found = (trimmed if settings.robust else train).train(self, inside, settings, course)
        params = {name: value.cpu() for name, value in found.params.items()}
        return replace(found, params=params, notes=(*found.notes, *self.inside.notes()))

    def learned_from(self, data: Dataset, params: Params, settings: Training) -> Dataset:
        """Of a robust fit without the cells of its least likely rows."""
        share = getattr(settings, "robust", 0.0)
        if not share or not data.rows:
            return data
        return trimmed.blank(data, trimmed.least_likely(self, data, params, share))

    def calibrate(self, params: Params, data: Dataset, device: str, seed: int) -> Calibrated:
        """The first way that gives draws of the right widths: see `ppl_models.inference.calibration`."""
        return calibrate.calibrate(self, Learned(self, params), data, device, seed)

    def restored(self, method: str, learned: Params, params: Params) -> Calibrated:
        """What `calibrate` gave."""
        return calibrate.restored(self, method, learned, params)

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether rows are in every state, say what it is like, and look like rows of the model."""
        own = [*checks.occupancy(self, fitted.params), *influence(self, fitted.params, checks.least(self))]
        return [*own, *checks.against_data(self, fitted)]

    def beyond(self) -> str:
        """A family with more spread may take fewer states."""
        return checks.beyond(self)

    def prior_draws(self, draws: int, seed: int) -> Draws:
        """θ from the prior, which is what a guide of no data is; states are in no order."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.draw({name: factor.zeros(1) for name, factor in self.factors.items()}, draws)

    def open_fields(self) -> Mapping[str, Any]:
        """Sizes of the priors of Gaussian columns: states half as wide as rows, means 1.6 sds about 0."""
        names = {name for e in self.emissions for name in e.learned(e.zeros(1))}
        return {name: PRECISION if name.endswith("precision") else VARIANCE for name in sorted(names)}

    def functions(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """Parameters of states in order of size, each by itself, which renaming states leaves as they are.

        Of a matrix over the states its diagonal and the rest, each in order. As they are where the structure
        or labels tell the states apart.
        """
        variables, coords = self.variables(theta)
        noun, K = self.structure.noun, self.states
        if self.structure.told or K == 1 or not isinstance(self.names(), range):
            return variables, coords
        found: Variables = {}
        for name, (dims, value) in variables.items():
            if dims[1:] == (f"{noun}_to",):
                rest = value[:, ~np.eye(K, dtype=bool)]
                found[f"{name}_to_itself"] = ("size",), np.sort(value[:, range(K), range(K)], 1)
                found[f"{name}_to_others"] = ("size",), np.sort(rest, 1)
            elif noun in dims:
                at = dims.index(noun)
                found[name] = (*dims[:at], "size", *dims[at + 1 :]), np.sort(value, 1 + at)
            else:
                found[name] = dims, value
        return found, {dim: labels for dim, labels in coords.items() if not dim.startswith(noun)}

    def glance(self, fitted: Fitted) -> "pd.DataFrame":
        """A row for each state: its share of the rows and its emissions, of wide tables the first."""
        table = states_table(self, fitted.params, fitted.posterior_draws.theta)
        if table.shape[1] <= SHOWN:
            return table
        shown = table.iloc[:, :SHOWN]
        shown.attrs["note"] = f"{SHOWN} of {table.shape[1]:,} figures, the first; summary has all"
        return shown

    def working_bytes(self, settings: Training) -> int:
        """Some sets of statistics for each restart, and the features of a chunk."""
        restarts = settings.starts(self.states) if isinstance(settings, ConjugateSettings) else 1
        statistics = restarts * sum(math.prod(f.shape) for f in self.factors.values())
        draws = DRAWN * self.parameters  # of the posterior, and their natural parameters
        return 8 * (12 * statistics + draws + 3 * self.chunk(restarts) * self.width) + self.cache

    def numbers(self, data: Dataset) -> int:
        """Rows × states."""
        return data.rows * self.states

    def learned(self, params: Params) -> dict[str, Any]:
        """The scale of the prior of Gaussian columns, at what the statistics say it is."""
        found: dict[str, Any] = {}
        for e in self.emissions:
            found |= e.learned(params[e.name])
        return found

    def at(self, learned: Mapping[str, Any]) -> Self:
        """The same densities under priors in which nothing is left open."""
        if not learned:
            return self
        return type(self)(self.structure, self.fixed(learned), self.inside.outer, self.order_by)

    def evidence(self, batch: Batch, learned: Params) -> Evidence:
        """Log K! where the density is the same under every renaming, and states that no row is in."""
        likelihood = float(expected(self, batch, self.expected_natural(learned))[0][0])
        orders = math.lgamma(self.states + 1) if self.symmetric else 0.0
        empty = 0 if self.prunes else int((self.occupied(learned) < 1.0).sum())
        return Evidence(orders, likelihood, empty)

    def sparing(self) -> Self:
        """The same, averaging over as few draws as the answer needs: see `ppl_models.latent.average`."""
        found = copy(self)
        found.spare = True
        return found

    def smoothed(self, batch: Batch, draws: Draws) -> np.ndarray:
        """p(z_n = k | all rows), averaged over the draws, (n, K)."""
        return average.probabilities(self, batch, draws, self._smoothed, self.spare).numpy()

    def _smoothed(self, batch: Batch, draws: Draws) -> Tensor:
        """The same under each draw, (S, n, K)."""
        return self.marginals(batch, draws).smoothed

    def marginals(self, batch: Batch, draws: Draws) -> Marginals:
        """Probabilities of the latents under each draw, (S, n, K)."""
        natural = self.natural(on_device(draws, batch.values.device))
        return self.structure.marginals(self.density(batch, natural), natural, batch.rows)

    def log_mean_density(self, rows: Batch, draws: Draws) -> Tensor:
        """Log (1/S) Σ_s p(x_n | θ_s) of rows that are independent given θ, (n,)."""
        return average.log_densities(self, rows, draws, self.log_density, self.spare)

    def pyro_values(self, theta: Draws) -> dict[str, Tensor]:
        """Sites are `FACTOR.SITE`."""
        return {f"{factor}.{site}": value for factor, sites in theta.items() for site, value in sites.items()}

    def complete(self, data: Dataset, holes: np.ndarray, number: int, draws: Draws) -> Iterator[Completed]:
        """For each draw of θ a path of latents given all cells, and missing cells given it and their row."""
        if not len(holes):
            return
        S, where = number_of(draws), holes
        if self.exchangeable:  # the other rows say nothing of these, given θ
            data, where = data.subset(holes), np.arange(len(holes))
        number = int(np.clip(COMPLETE // max(self.numbers(data), 1), LEAST, number))
        chosen = torch.randperm(S)[:number] if number <= S else torch.randint(S, (number,))
        theta, batch = select_draws(draws, chosen), self.rows(data)
        given = torch.as_tensor(data.values[where])
        parts: list[Tensor] = []
        for at in groups(number, self.numbers(data)):
            some = select_draws(theta, at)
            natural = self.natural(some)
            path = self.structure.draw_paths(self.density(batch, natural), natural, batch.rows)
            parts.append(self.emit(some, path[:, where], given))
        yield Completed(holes, torch.cat(parts).numpy(), {}, {})

    def tails(self, data: Dataset, draws: Draws, number: int) -> np.ndarray:
        """P(p(X_t | x_{1:t−1}) ≤ p(x_t | x_{1:t−1})): see `ppl_models.latent.surprise`."""
        return surprise.tails(self, data, draws, number)

    def explain(self, data: Dataset, index: np.ndarray, draws: Draws, number: int) -> Iterator[Explained]:
        """The surprise of each cell, marginal and conditional, exact but for the draws of θ."""
        return surprise.explained(self, data, index, draws, number)


VARIANCE, PRECISION = 0.25, 0.1
"""s² and κ₀ where data is to be drawn and they are left to it: see `ppl_models.families.normal_prior`."""

DRAWN = 1_000
"""Numbers a parameter that a hundred draws of θ are, with what is made of them."""

SHOWN = 40
"""Figures of each state that are shown with a fit."""

COMPLETE, LEAST = 200_000_000, 50
"""Rows × states × draws that missing cells are drawn by, about, and the least draws."""
