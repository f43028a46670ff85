"""A chain a class, by which sequences are classified."""

from collections.abc import Iterator
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Probabilities, Sampled
from ppl_models.data import Dataset
from ppl_models.draws import Draws, groups, number_of, on_device, select_draws
from ppl_models.errors import DataError, UsageError
from ppl_models.latent import average
from ppl_models.latent.joint import Batch
from ppl_models.models.hmm.bound import Chains


@final
class ClassesBound(Chains):
    """Sequences each of one class, from the first row to the last: a generative classifier of sequences.

    With states of a chain of its own for each class c, by Bayes' rule and with θ integrated out,

        p(y = c | x_{1:T}) ∝ ∫ p(c | θ) p(x_{1:T} | c, θ) p(θ | data) dθ
    """

    def prepare(self, data: Dataset) -> Self:
        """The same, if the target is of whole sequences.

        Raises:
            DataError: it is not, or there is only one sequence.
        """
        if len(data.lengths) < 2:
            raise DataError(
                f"{data.source}: one sequence has one class, which leaves nothing to learn; --sequence names "
                "the column that tells sequences apart, and --labels names states by some of their rows"
            )
        self.label_of_sequences(data)
        return self

    def labels(self) -> tuple[str, ...]:
        """Of the classes."""
        return self.schema.columns[self._target].levels

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.labels())

    @property
    def _target(self) -> int:
        return self.schema.names.index(str(self.schema.target))

    @property
    def describe(self) -> str:
        """`3 states in each of 10 classes`."""
        each = self.states // self.classes
        return f"{each} state{'s' if each > 1 else ''} in each of {self.classes} classes"

    def label_of_sequences(self, data: Dataset) -> np.ndarray:
        """(sequences,) the class of each, NaN where no row has one.

        Raises:
            DataError: rows of a sequence are of different classes.
        """
        y, starts = data.values[:, self._target], data.offsets[:-1]
        high = np.maximum.reduceat(np.where(np.isnan(y), -np.inf, y), starts)
        low = np.minimum.reduceat(np.where(np.isnan(y), np.inf, y), starts)
        several = np.flatnonzero((high > low) & np.isfinite(low))
        if len(several):
            i, name = int(several[0]), self.schema.target
            raise DataError(
                f"{data.source}: {name!r} has several values in sequence {data.sequence_ids[i] or i}; hmm "
                "classifies whole sequences; to name states by it, give it as --labels; rnn predicts classes "
                "of steps"
            )
        return np.where(np.isfinite(low), low, np.nan)

    def rows(self, data: Dataset, device: str = "cpu") -> Batch:
        """The rows on a device.

        Raises:
            DataError: rows of a sequence are of different classes.
        """
        self.label_of_sequences(data)
        return super().rows(data, device)

    def joint(self, rows: Batch, draws: Draws) -> Iterator[Tensor]:
        """Log p(x_{1:T}, y = c | θ_s) of each sequence, labels not being looked at, (s, sequences, C)."""
        free = self._unlabelled(rows)
        for at in groups(number_of(draws), free.rows.steps * self.states):
            natural = self.natural(on_device(select_draws(draws, at), free.values.device))
            log_c, ends = self.structure.log_predictive(self.density(free, natural), natural, free.rows)
            whole = np.add.reduceat(log_c.cpu().numpy(), free.rows.offsets[:-1], axis=1)
            of_class = ends.unflatten(-1, (self.classes, -1)).sum(-1).cpu()
            tiny = torch.finfo(torch.float64).tiny
            yield torch.from_numpy(whole)[..., None] + of_class.clamp_min(tiny).log()

    def by_sequence(self, rows: Batch, draws: Draws) -> Tensor:
        """Log p(y = c | x_{1:T}) with θ integrated out, (sequences, C)."""
        if self.spare:
            draws = average.affordable(draws, rows.rows.steps * self.states)
        total: Tensor | None = None
        for each in self.joint(rows, draws):
            own = each.logsumexp(0)
            total = own if total is None else torch.logaddexp(total, own)
        assert total is not None
        return total.log_softmax(-1)

    def predictive(self, rows: Batch, draws: Draws) -> np.ndarray:
        """p(y = c | x_{1:T}) of the sequence of each row, (n, C)."""
        return np.repeat(self.by_sequence(rows, draws).exp().numpy(), rows.rows.lengths, axis=0)

    def by_draw(self, rows: Batch, draws: Draws) -> Iterator[Probabilities]:
        """p(y = c | x_{1:T}, θ_s) of each sequence, in the place of its first row, (S, sequences, C)."""
        p = torch.cat([each.softmax(-1) for each in self.joint(rows, draws)])
        yield Probabilities(rows.rows.offsets[:-1], p)

    def log_probability(self, rows: Batch, draws: Draws) -> np.ndarray:
        """Log p(y | x_{1:T}) of the sequence of each row, (n,); NaN where it has no class."""
        log_p, first = self.by_sequence(rows, draws).numpy(), rows.rows.offsets[:-1]
        y = rows.values[:, self._target].cpu().numpy()
        label = np.fmax.reduceat(y, first)
        found = np.full(len(label), np.nan)
        known = ~np.isnan(label)
        found[known] = log_p[known, label[known].astype(int)]
        return np.repeat(found, rows.rows.lengths)

    def latents(self, rows: Batch, draws: Draws) -> dict[str, np.ndarray]:
        """The smoothed probabilities of the states, labels not being looked at."""
        return super().latents(self._unlabelled(rows), draws)

    def sample_given(self, number: int, steps: int, draws: Draws, given: Dataset) -> Sampled:
        """Sequences of one class.

        Raises:
            UsageError: other columns than the target are given.
        """
        cells = given.values[0]
        if np.isnan(cells[self._target]) or (~np.isnan(cells)).sum() > 1:
            raise UsageError(f"given may be the class of a sequence alone, as {self.schema.target}=VALUE")
        theta = select_draws(draws, torch.randint(number_of(draws), (number,)))
        own = dict(self.structure_theta(theta))
        start = own["start"].unflatten(-1, (self.classes, -1)).clone()
        others = torch.arange(self.classes) != int(cells[self._target])
        start[:, others] = 0.0
        own["start"] = start.flatten(1)
        return self._walked(theta, self.structure.simulate(own, steps))

    def _unlabelled(self, rows: Batch) -> Batch:
        """The rows without their labels, which a prediction must not look at."""
        values = rows.values.clone()
        values[:, self._target] = torch.nan
        return self.batch(values, rows.rows, values.device)
