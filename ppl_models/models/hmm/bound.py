"""What a hidden Markov model can do once it knows its columns."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Ahead, Assigned, Sampled
from ppl_models.draws import Draws, Params, groups, number_of, on_device, select_draws
from ppl_models.latent import average
from ppl_models.latent.bound import LatentBound
from ppl_models.latent.joint import Batch

WALKS = 1_000
"""Walks into the future, at least."""


@final
class ChainBound(LatentBound):
    """A chain of hidden states over the rows of each sequence."""

    def assign(self, rows: Batch, draws: Draws, learned: Params) -> Assigned:
        """The most probable path, and the states' probabilities.

        The path is Viterbi's, at the guide's expected log parameters. p(z_t = k | all rows) is `smoothed`,
        p(z_t = k | rows up to t) `filtered`, both averaged over the draws.
        """
        device = rows.values.device
        natural = self.expected_natural({name: S.to(device) for name, S in learned.items()})
        path = self.structure.path(self.density(rows, natural), natural, rows.rows)[0]
        both = average.probabilities(self, rows, draws, self._both, self.spare).numpy()
        K = self.states
        return Assigned("state", path.cpu().numpy(), {"smoothed": both[:, :K], "filtered": both[:, K:]})

    def _both(self, rows: Batch, draws: Draws) -> Tensor:
        """Smoothed and filtered probabilities beside one another under each draw, (S, n, 2K)."""
        found = self.marginals(rows, draws)
        return torch.cat([found.smoothed, found.filtered], -1)

    def latents(self, rows: Batch, draws: Draws) -> dict[str, np.ndarray]:
        """The smoothed probabilities of the states, `state_0` to `state_{K−1}`."""
        p = self.smoothed(rows, draws)
        return {f"state_{k}": p[:, k] for k in range(self.states)}

    def sample_sequences(self, number: int, steps: int, draws: Draws) -> Sampled:
        """Each sequence from its own draw of θ."""
        theta = select_draws(draws, torch.randint(number_of(draws), (number,)))
        state = self.structure.simulate(self.structure_theta(theta), steps)
        rows = self.emit(theta, state)
        return Sampled(rows.flatten(0, 1).numpy(), {"state": state.flatten().numpy()})

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
            yield Ahead(self.emit(many, state).numpy(), {"state": share.numpy()})
