"""The structure of a hidden Markov model: latents that follow one another as a Markov chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppl_models.importing import lazy
from ppl_models.inference.factors import Dirichlet, Factor, Theta
from ppl_models.inference.partial import PartialDirichlet
from ppl_models.kernels.chain import MarkovChain
from ppl_models.kernels.rows import Rows
from ppl_models.kernels.sparse_chain import SparseChain
from ppl_models.latent.structure import Observe, Structure
from ppl_models.latent.topology import Topology

if TYPE_CHECKING:
    import pyro
    import pyro.distributions as dist
else:
    pyro, dist = lazy("pyro"), lazy("pyro.distributions")


class Chain(Structure):
    """z_1 ~ Categorical(π), z_t ~ Categorical(A_{z_{t−1}}); π ~ Dirichlet, A_k ~ Dirichlet.

    Where only some are possible, π and the rows of A are Dirichlet over those, the others exactly zero.
    Where there are classes c = 1 … C with K/C states each, a sequence is of one of them from its first row to
    its last: p(c) = Σ π over its states, which is learned, or given beforehand.

    Args:
        states: K.
        start: Dirichlet concentration of π.
        transition: Dirichlet concentration of every entry of A.
        stickiness: added to the concentration of A's diagonal (Fox et al. 2011, Ann. Appl. Stat. 5).
        topology: what is possible, of all K states; everything if not given.
        prior: (C,) the probabilities of the classes, where they are given.
    """

    noun = "state"

    def __init__(
        self,
        states: int,
        start: float,
        transition: float,
        stickiness: float,
        topology: Topology | None = None,
        prior: Sequence[float] | None = None,
    ) -> None:
        self.states, self.topology = states, topology
        ones = torch.ones(states, states, dtype=torch.float64)
        first, each = start * ones[0], transition * ones + stickiness * ones[0].diag()
        if topology is None:
            self.latents = MarkovChain()
            self.factors: dict[str, Factor] = {
                "start": Dirichlet("start", first),
                "transition": Dirichlet("transition", each),
            }
            return
        sparse = 2 * topology.follows.sum() <= states * states
        self.latents = SparseChain(topology.follows) if sparse else MarkovChain()
        row, weight = np.zeros(states, np.int64), None
        if prior is not None:
            row = np.arange(states) * len(prior) // states
            weight = dict(enumerate(prior))
        rows = np.broadcast_to(np.arange(states)[:, None], (states, states))
        self.factors = {
            "start": PartialDirichlet("start", first, np.where(topology.begins, row, -1), weight),
            "transition": PartialDirichlet("transition", each, np.where(topology.follows, rows, -1)),
        }

    @property
    def told(self) -> bool:
        """Whether states may not change places."""
        return self.topology is not None and self.topology.told

    @property
    def enters(self) -> bool:
        """Where every state may begin and follow."""
        return self.topology is None

    @cached_property
    def free_parameters(self) -> int:
        """Rows of probabilities, one entry of each being given by the others."""
        if self.topology is None:
            return (self.states - 1) * (self.states + 1)
        return sum(f.free_parameters for f in self.factors.values() if isinstance(f, PartialDirichlet))

    def hard(self, labels: Tensor, rows: Rows, smooth: float) -> dict[str, Tensor]:
        """Statistics of given paths (R, n), a share `smooth` of each count spread over all states."""
        R, K = labels.shape[0], self.states
        onehot = torch.nn.functional.one_hot(labels, K).to(torch.float64)
        begins = torch.as_tensor(rows.offsets[:-1], device=labels.device)
        inner = torch.ones(rows.steps, dtype=torch.float64, device=labels.device)
        inner[begins] = 0.0
        start = onehot[:, begins].sum(1)
        pairs = (onehot[:, :-1] * inner[1:, None]).transpose(1, 2) @ onehot[:, 1:]
        spread = pairs.sum(-1, keepdim=True) / K
        start = (1 - smooth) * start + smooth * len(begins) / K
        found = {"start": start, "transition": ((1 - smooth) * pairs + smooth * spread).reshape(R, K, K)}
        for name, factor in self.factors.items():
            if isinstance(factor, PartialDirichlet):
                found[name] = factor.masked(found[name])
        return found

    def entered(self, filtered: Tensor, theta: Theta, rows: Rows) -> Tensor:
        """p(z_t | x_{1:t−1}) = Σ_j p(z_{t−1} = j | x_{1:t−1}) A_j, and π where a sequence begins."""
        found = torch.empty_like(filtered)
        found[:, 1:] = filtered[:, :-1] @ theta["transition"]
        found[:, torch.as_tensor(rows.offsets[:-1])] = theta["start"].unsqueeze(1)
        return found

    def simulate(self, theta: Theta, steps: int, now: Tensor | None = None) -> Tensor:
        """Draw states (R, steps), from the start or going on from probabilities `now` (R, K)."""
        transition = theta["transition"]
        R = transition.shape[0]
        index = torch.arange(R, device=transition.device)
        state = torch.multinomial(theta["start"] if now is None else now, 1).squeeze(-1)
        states = []
        for t in range(steps):
            if t or now is not None:
                state = torch.multinomial(transition[index, state], 1).squeeze(-1)
            states.append(state)
        return torch.stack(states, 1)

    def reorder(self, statistics: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
        """Statistics with states renamed: new state i is the old `order[i]`."""
        transition = statistics["transition"][:, order][:, :, order]
        return {"start": statistics["start"][:, order], "transition": transition}

    def permute(self, theta: Theta, order: Tensor) -> dict[str, Tensor]:
        """Both sides of the transitions renamed."""
        rows = theta["transition"].gather(1, order[:, :, None].expand(theta["transition"].shape))
        transition = rows.gather(2, order[:, None, :].expand(rows.shape))
        return {"start": theta["start"].gather(1, order), "transition": transition}

    def occupied(self, statistics: Mapping[str, Tensor]) -> Tensor:
        """Every row is the start of a sequence or entered from another."""
        return statistics["start"] + statistics["transition"].sum(-2)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`start` and `transition`."""
        return {
            "start": (theta["start"], ("state",)),
            "transition": (theta["transition"], ("state", "state_to")),
        }

    def describe(self, theta: Theta) -> dict[str, np.ndarray]:
        """How many rows a state lasts."""
        stay = theta["transition"].diagonal(dim1=-1, dim2=-2).numpy()
        with np.errstate(divide="ignore"):  # one that is never left
            return {"stays": np.median(1 / np.maximum(1 - stay, 0.0), 0)}

    def pyro_latents(self, theta: Theta, values: Tensor, lengths: list[int], observe: Observe) -> None:
        """The chain as a Pyro program: names z_t for all rows t, summed out in parallel."""
        row = 0
        for length in lengths:
            z: Tensor | None = None
            for _ in range(length):
                p = theta["start"] if z is None else theta["transition"][..., z, :]
                z = pyro.sample(f"z_{row}", dist.Categorical(p), infer={"enumerate": "parallel"})
                observe(str(row), values[row], z)
                row += 1

    def pyro_path(
        self, log_b: Tensor, natural: Mapping[str, Tensor], values: Tensor, lengths: list[int]
    ) -> None:
        """q(z) as a Pyro program: z_t ~ Categorical(q(z_t | z_{t−1})), from log β computed backwards.

        Args:
            log_b: (n, K), the expected log density of each row.
            natural: expected log parameters, R = 1.
            values: (n, C), not looked at.
            lengths: of the sequences.
        """
        start, transition = natural["start"][0], natural["transition"][0]
        row = 0
        for length in lengths:
            beta = torch.zeros_like(log_b[row : row + length])
            for t in range(length - 1, 0, -1):
                beta[t - 1] = torch.logsumexp(transition + log_b[row + t] + beta[t], -1)
            z: Tensor | None = None
            for t in range(length):
                log_p = (start if z is None else transition[z]) + log_b[row] + beta[t]
                z = pyro.sample(f"z_{row}", dist.Categorical(logits=log_p), infer={"enumerate": "parallel"})
                row += 1
