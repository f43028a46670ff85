"""What a hidden Markov model can do once it knows its columns."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Ahead, Assigned, Completed, Explained, Graph, Sampled
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, groups, number_of, on_device, select_draws
from ppl_models.errors import Unsupported, UsageError
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import ConjugateSettings
from ppl_models.latent import average, following, gaps, surprise
from ppl_models.latent.bound import LatentBound
from ppl_models.latent.graph import chain_graph
from ppl_models.latent.joint import Batch

WALKS = 1_000
"""Walks into the future, at least."""


class Chains(LatentBound):
    """A chain of hidden states over the rows of each sequence: what those with and without labels share."""

    def train(self, data: Dataset, settings: ConjugateSettings, course: Course) -> Trained:
        """As mixtures are trained; pieces of sequences are no chains where transitions are forbidden.

        Raises:
            UsageError: mini-batches of such a chain.
        """
        if settings.batch_size is not None and not self.structure.enters:
            raise UsageError(
                "batch_size cuts sequences into pieces, which begin in any state; leave it out where "
                "transitions are forbidden, the start is fixed or sequences have classes"
            )
        if settings.robust and self.lagged:
            raise UsageError(
                "robust leaves rows out, which an autoregressive chain goes on from: leave it out"
            )
        return super().train(data, settings, course)

    def assign(self, rows: Batch, draws: Draws, learned: Params) -> Assigned:
        """The most probable path, and the states' probabilities.

        The path is Viterbi's, at the guide's expected log parameters. p(z_t = k | all rows) is `smoothed`,
        p(z_t = k | rows up to t) `filtered`, both averaged over the draws.
        """
        device = rows.values.device
        natural = self.expected_natural({name: S.to(device) for name, S in learned.items()})
        path = self.structure.path(self.density(rows, natural), natural, rows.rows)[0]
        both = average.probabilities(self, rows, draws, self._both, self.spare).numpy()
        K, names = self.states, np.array(self.names())
        shares = {"smoothed": both[:, :K], "filtered": both[:, K:]}
        return Assigned("state", names[path.cpu().numpy()], shares, tuple(self.names()))

    def complete(self, data: Dataset, holes: np.ndarray, number: int, draws: Draws) -> Iterator[Completed]:
        """Missing cells given the path: see `LatentBound.complete`; by Gibbs sampling if autoregressive."""
        if self.lagged:
            return gaps.complete(self, data, holes, number, draws)
        return super().complete(data, holes, number, draws)

    def tails(self, data: Dataset, draws: Draws, number: int) -> np.ndarray:
        """How improbable rows are given those before: see `LatentBound.tails`."""
        return (following if self.lagged else surprise).tails(self, data, draws, number)

    def explain(self, data: Dataset, index: np.ndarray, draws: Draws, number: int) -> Iterator[Explained]:
        """How improbable cells are: see `LatentBound.explain`."""
        return (following if self.lagged else surprise).explained(self, data, index, draws, number)

    def _both(self, rows: Batch, draws: Draws) -> Tensor:
        """Smoothed and filtered probabilities beside one another under each draw, (S, n, 2K)."""
        found = self.marginals(rows, draws)
        return torch.cat([found.smoothed, found.filtered], -1)

    def graph(self, draws: Draws) -> Graph:
        """Of one sequence: probabilities of the states given the rows so far, and the density of each row.

        Raises:
            Unsupported: there are classes or names of states, columns are transformed inside, or they go on
                from their row before.
        """
        if self.schema.target is not None:
            raise Unsupported(
                "a chain with classes, or with names of its states, has no graph: fit it without --target "
                "and --labels"
            )
        return chain_graph(self, draws)

    def latents(self, rows: Batch, draws: Draws) -> dict[str, np.ndarray]:
        """The smoothed probabilities of the states, `state_0` to `state_{K−1}`, or by their names."""
        p = self.smoothed(rows, draws)
        return {f"state_{name}": p[:, k] for k, name in enumerate(self.names())}

    def sample_sequences(self, number: int, steps: int, draws: Draws) -> Sampled:
        """Each sequence from its own draw of θ."""
        theta = select_draws(draws, torch.randint(number_of(draws), (number,)))
        return self._walked(theta, self.structure.simulate(self.structure_theta(theta), steps))

    def _walked(self, theta: Draws, state: Tensor) -> Sampled:
        """Rows of sequences of states (S, T)."""
        rows = self.emit(theta, state)
        names = np.array(self.names())[state.flatten().numpy()]
        return Sampled(rows.flatten(0, 1).numpy(), {"state": names})

    def ahead(self, rows: Batch, steps: int, draws: Draws) -> Iterator[Ahead]:
        """Each draw of θ filters the sequence to its end, then walks on from there."""
        S, ends = number_of(draws), []
        natural = self.natural(on_device(draws, rows.values.device))
        for at in groups(S, rows.rows.steps * self.states):
            part = {name: value[at] for name, value in natural.items()}
            ends.append(self.structure.log_predictive(self.density(rows, part), part, rows.rows)[1].cpu())
        now = torch.cat(ends)  # (S, sequences, K)
        repeat = max(1, WALKS // S)
        many = select_draws(draws, torch.arange(S).repeat(repeat))
        for i in range(now.shape[1]):
            state = self.structure.simulate(self.structure_theta(many), steps, now[:, i].repeat(repeat, 1))
            share = torch.stack([(state == k).double().mean(0) for k in range(self.states)], 1)
            last = rows.values[rows.rows.offsets[i + 1] - 1].cpu()
            yield Ahead(
                self.emit(many, state, before=last).numpy(), {"state": share.numpy()}, tuple(self.names())
            )


@final
class ChainBound(Chains):
    """A chain whose states nothing is known of."""
