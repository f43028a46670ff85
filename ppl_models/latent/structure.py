"""A local structure: factors over its own parameters, and inference of the latents given all others."""

from collections.abc import Callable, Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.factors import Dirichlet, Factor, Theta
from ppl_models.latent import chain
from ppl_models.latent.chain import LogDensity, Marginals
from ppl_models.latent.rows import Rows
from ppl_models.latent.workspace import Workspace


class Chain:
    """z_1 ~ Categorical(π), z_t ~ Categorical(A_{z_{t−1}}); π ~ Dirichlet, A_k ~ Dirichlet.

    Args:
        states: K.
        start: Dirichlet concentration of π.
        transition: Dirichlet concentration of every entry of A.
        stickiness: added to the concentration of A's diagonal (Fox et al. 2011, Ann. Appl. Stat. 5).
    """

    def __init__(self, states: int, start: float, transition: float, stickiness: float) -> None:
        self.states = states
        ones = torch.ones(states, states, dtype=torch.float64)
        self.factors: dict[str, Factor] = {
            "start": Dirichlet("start", start * ones[0]),
            "transition": Dirichlet("transition", transition * ones + stickiness * ones[0].diag()),
        }

    def expect(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        consume: Callable[[slice, Tensor], None],
        work: Workspace,
        chunk: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Log evidence (R,) and the structure's expected statistics; `consume` gets the marginals."""
        e = chain.expect(
            density, natural["start"], natural["transition"], rows, consume, chunk=chunk, work=work
        )
        return e.log_evidence, {"start": e.start, "transition": e.transition}

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
        return {"start": start, "transition": ((1 - smooth) * pairs + smooth * spread).reshape(R, K, K)}

    def marginals(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Marginals:
        """Filtered and smoothed state probabilities."""
        return chain.marginals(density, natural["start"], natural["transition"], rows)

    def path(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """The most probable states (R, n)."""
        return chain.viterbi(density, natural["start"], natural["transition"], rows)

    def draw_paths(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """States drawn from their posterior (R, n)."""
        start = natural["start"]
        uniform = torch.rand(start.shape[0], rows.steps, dtype=start.dtype, device=start.device)
        return chain.sample_paths(density, start, natural["transition"], rows, uniform)

    def log_predictive(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Log p(x_t | x_{1:t−1}) (R, n) and the last filtered probabilities of each sequence (R, S, K)."""
        return chain.log_predictive(density, natural["start"], natural["transition"], rows)

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

    def pyro_latents(self, theta: Theta, lengths: list[int], observe: Callable[[int, Tensor], None]) -> None:
        """The chain as a Pyro program: names z_t for all rows t, summed out in parallel."""
        row = 0
        for length in lengths:
            z: Tensor | None = None
            for _ in range(length):
                p = theta["start"] if z is None else theta["transition"][..., z, :]
                z = pyro.sample(f"z_{row}", dist.Categorical(p), infer={"enumerate": "parallel"})
                observe(row, z)
                row += 1

    def pyro_path(self, log_b: Tensor, natural: Mapping[str, Tensor], lengths: list[int]) -> None:
        """q(z) as a Pyro program: z_t ~ Categorical(q(z_t | z_{t−1})), from log β computed backwards.

        Args:
            log_b: (n, K), the expected log density of each row.
            natural: expected log parameters, R = 1.
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
