"""What a mixture can do once it knows its columns."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch

from ppl_models.capabilities import Assigned, Graph, Probabilities, Sampled
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, groups, number_of, on_device, select_draws
from ppl_models.latent import graph
from ppl_models.latent.bound import LatentBound
from ppl_models.latent.joint import Batch

HELD = 2**26
"""Numbers that the draws of θ of new rows may be at a time, 0.5 GB."""


class _Rows(LatentBound):
    """Independent rows: what mixtures with and without classes share."""

    def latents(self, rows: Batch, draws: Draws) -> dict[str, np.ndarray]:
        """p(z_n = k | x_n) as `component_0` to `component_{K−1}`, labels not being looked at."""
        p = self.smoothed(rows, draws)
        return {f"component_{k}": p[:, k] for k in range(self.states)}

    def graph(self, draws: Draws) -> Graph:
        """Probabilities of components, or of classes, and the log density of the columns but the target."""
        return graph.graph(self, draws, self.classes if self.classes > 1 else self.states)

    def sample(self, number: int, draws: Draws, given: Dataset | None) -> Sampled:
        """Each row from its own draw of θ; `given` weighs the draws by p(given | θ), and conditions each."""
        parts = [
            self._sample(at.stop - at.start, draws, given) for at in groups(number, self.parameters, HELD)
        ]
        values = np.concatenate([part.values for part in parts])
        return Sampled(values, {"component": np.concatenate([part.beside["component"] for part in parts])})

    def _sample(self, number: int, draws: Draws, given: Dataset | None) -> Sampled:
        """The same of as many rows as their draws of θ, one for each, fit into memory."""
        theta = select_draws(draws, torch.randint(number_of(draws), (number,)))
        cells = None
        if given is None:
            state = self.structure.simulate(self.structure_theta(theta), 1)
        else:
            batch, cells = self.rows(given), torch.as_tensor(given.values)
            natural = self.natural(theta)
            log_x, _ = self.structure.log_predictive(self.density(batch, natural), natural, batch.rows)
            theta = select_draws(theta, torch.multinomial(log_x[:, 0].softmax(0), number, replacement=True))
            natural = self.natural(theta)
            state = self.structure.draw_paths(self.density(batch, natural), natural, batch.rows)
        drawn = self.emit(theta, state, cells)
        return Sampled(drawn[:, 0].numpy(), {"component": state[:, 0].numpy()})


@final
class MixtureBound(_Rows):
    """A mixture of components that nothing is known of."""

    def assign(self, rows: Batch, draws: Draws, learned: Params) -> Assigned:
        """The most probable component, and p(z_n = k | x_n)."""
        p = self.smoothed(rows, draws)
        return Assigned("component", p.argmax(1), {"probability": p})


@final
class ClassesBound(_Rows):
    """A mixture whose components belong to classes: a generative classifier."""

    def labels(self) -> tuple[str, ...]:
        """Of the classes."""
        return self.schema.columns[self.schema.names.index(str(self.schema.target))].levels

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.labels())

    def predictive(self, rows: Batch, draws: Draws) -> np.ndarray:
        """p(y_n = c | x_n): the probabilities of a class's components together, (n, C)."""
        p = self.smoothed(self._unlabelled(rows), draws)
        return p.reshape(len(p), len(self.labels()), -1).sum(2)

    def by_draw(self, rows: Batch, draws: Draws) -> Iterator[Probabilities]:
        """p(y_n = c | x_n, θ_s), (S, n, C)."""
        natural = self.natural(on_device(draws, rows.values.device))
        free = self._unlabelled(rows)
        p = self.structure.marginals(self.density(free, natural), natural, free.rows).smoothed.cpu()
        shape = (*p.shape[:2], len(self.labels()), -1)
        yield Probabilities(np.arange(p.shape[1]), p.reshape(shape).sum(3))

    def latents(self, rows: Batch, draws: Draws) -> dict[str, np.ndarray]:
        """The components' probabilities, labels not being looked at."""
        return super().latents(self._unlabelled(rows), draws)

    def log_probability(self, rows: Batch, draws: Draws) -> np.ndarray:
        """Log p(y_n | x_n) = log p(x_n, y_n) − log p(x_n), θ being integrated out of both, (n,)."""
        found = self.log_mean_density(rows, draws) - self.log_mean_density(self._unlabelled(rows), draws)
        label = rows.values[:, self.schema.names.index(str(self.schema.target))]
        return torch.where(label.isnan().cpu(), torch.nan, found).numpy()

    def _unlabelled(self, rows: Batch) -> Batch:
        """The rows without their labels, which a prediction must not look at."""
        values = rows.values.clone()
        values[:, self.schema.names.index(str(self.schema.target))] = torch.nan
        return self.asked(values, rows.rows, values.device)
