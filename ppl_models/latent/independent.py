"""The structure of a mixture: latents that are independent of one another."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.inference.factors import Dirichlet, Factor, Sticks, Theta
from ppl_models.kernels.rows import Rows
from ppl_models.kernels.workspace import Workspace
from ppl_models.latent.structure import LogDensity, Marginals, Observe, Structure

CHUNK = 4 * 2**20
"""Numbers that the densities of one chunk of rows may be."""


class Independent(Structure):
    """z_n ~ Categorical(π), independently; π ~ Dirichlet(α, …, α), or a Dirichlet process cut off at K.

    Args:
        components: K.
        concentration: α of every component, or of the process.
        process: whether π breaks a stick (Sethuraman 1994) rather than being Dirichlet.
    """

    noun = "component"
    exchangeable = True

    def __init__(self, components: int, concentration: float, process: bool = False) -> None:
        self.states, self.concentration = components, concentration
        weight: Factor = (
            Sticks("weight", components, concentration)
            if process
            else Dirichlet("weight", torch.full((components,), concentration, dtype=torch.float64))
        )
        self.factors = {"weight": weight}

    def resized(self, components: int) -> "Independent":
        """The same prior over another number of components, of which none is special."""
        return Independent(components, self.concentration)

    @property
    def free_parameters(self) -> int:
        """Weights sum to one."""
        return self.states - 1

    def _log_joint(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        work: Workspace,
        chunk: int | None,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Log π_k + log p(x_n | k) of chunks of rows, in memory that the next chunk takes again."""
        log_weight = natural["weight"]
        R, K = log_weight.shape
        size = chunk or max(256, CHUNK // (R * K))
        for lo in range(0, rows.steps, size):
            at = slice(lo, min(lo + size, rows.steps))
            out = work.take("log_joint", (R, at.stop - lo, K), log_weight)
            density(at, out)
            yield at, out.add_(log_weight[:, None, :])

    def expect(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        consume: Callable[[slice, Tensor], None],
        work: Workspace,
        chunk: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Responsibilities γ_nk ∝ π_k p(x_n | k), and log Σ_k of the same."""
        evidence = natural["weight"].new_zeros(natural["weight"].shape[0])
        count = torch.zeros_like(natural["weight"])
        weight = None if rows.weight is None else torch.as_tensor(rows.weight).to(evidence)
        for at, log_joint in self._log_joint(density, natural, rows, work, chunk):
            log_x = log_joint.logsumexp(-1)
            gamma = log_joint.sub_(log_x.unsqueeze(-1)).exp_()
            if weight is None:
                evidence += log_x.sum(-1)
            else:
                evidence += (log_x * weight[..., at]).sum(-1)
                gamma = gamma.mul_(weight[..., at, None])
            count += gamma.sum(1)
            consume(at, gamma)
        return evidence, {"weight": count}

    def hard(self, labels: Tensor, rows: Rows, smooth: float) -> dict[str, Tensor]:
        """Weighted counts."""
        K = self.states
        onehot = torch.nn.functional.one_hot(labels, K).to(torch.float64)
        if rows.weight is not None:
            onehot = onehot * torch.as_tensor(rows.weight).to(onehot)[..., None]
        count = onehot.sum(1)
        return {"weight": (1 - smooth) * count + smooth * count.sum(-1, keepdim=True) / K}

    def _all(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
        """Responsibilities (R, n, K) and log densities (R, n) of all rows."""
        R, K = natural["weight"].shape
        gamma = natural["weight"].new_empty(R, rows.steps, K)
        log_x = natural["weight"].new_empty(R, rows.steps)
        for at, log_joint in self._log_joint(density, natural, rows, Workspace(), None):
            log_x[:, at] = log_joint.logsumexp(-1)
            gamma[:, at] = log_joint.softmax(-1)
        return gamma, log_x

    def marginals(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Marginals:
        """Responsibilities: other rows say nothing of a row's component, given θ."""
        gamma, _ = self._all(density, natural, rows)
        return Marginals(gamma, gamma)

    def path(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """The most probable component of each row."""
        best = [
            log_joint.argmax(-1)
            for _, log_joint in self._log_joint(density, natural, rows, Workspace(), None)
        ]
        return torch.cat(best, 1)

    def draw_paths(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """Components drawn from the responsibilities, by inversion."""
        drawn = []
        for _, log_joint in self._log_joint(density, natural, rows, Workspace(), None):
            cumulative = log_joint.softmax(-1).cumsum(-1)
            u = torch.rand(cumulative.shape[:2], dtype=torch.float64).to(cumulative)
            drawn.append((cumulative <= u.unsqueeze(-1)).sum(-1).clamp_max(self.states - 1))
        return torch.cat(drawn, 1)

    def log_predictive(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Log p(x_n | θ), and π, as what came before a row says nothing of the next."""
        parts = [
            log_joint.logsumexp(-1)
            for _, log_joint in self._log_joint(density, natural, rows, Workspace(), None)
        ]
        R, K = natural["weight"].shape
        return torch.cat(parts, 1), natural["weight"].exp()[:, None, :].expand(R, len(rows.lengths), K)

    def simulate(self, theta: Theta, steps: int, now: Tensor | None = None) -> Tensor:
        """Components of new rows."""
        return torch.multinomial(theta["weight"] if now is None else now, steps, replacement=True)

    def reorder(self, statistics: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
        """Counts renamed."""
        return {"weight": statistics["weight"][:, order]}

    def permute(self, theta: Theta, order: Tensor) -> dict[str, Tensor]:
        """Weights renamed."""
        return {"weight": theta["weight"].gather(1, order)}

    def occupied(self, statistics: Mapping[str, Tensor]) -> Tensor:
        """The counts themselves."""
        return statistics["weight"]

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`weight`."""
        return {"weight": (theta["weight"], ("component",))}

    def describe(self, theta: Theta) -> dict[str, np.ndarray]:
        """Nothing but the share."""
        return {}

    def pyro_latents(self, theta: Theta, values: Tensor, lengths: list[int], observe: Observe) -> None:
        """A plate for each pattern of missing cells, named z_P and x_P_FAMILY."""
        for label, rows in _patterns(values):
            with pyro.plate(f"rows_{label}", len(rows)):
                z = pyro.sample(
                    f"z_{label}", dist.Categorical(theta["weight"]), infer={"enumerate": "parallel"}
                )
                observe(label, values[rows], z)

    def pyro_path(
        self, log_b: Tensor, natural: Mapping[str, Tensor], values: Tensor, lengths: list[int]
    ) -> None:
        """q(z_n) = Categorical(γ_n), in the same plates."""
        logits = log_b + natural["weight"]
        for label, rows in _patterns(values):
            with pyro.plate(f"rows_{label}", len(rows)):
                q = dist.Categorical(logits=logits[rows])
                pyro.sample(f"z_{label}", q, infer={"enumerate": "parallel"})


def _patterns(values: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Rows with the same missing cells, and a name for them."""
    patterns, owner = torch.isnan(values).unique(dim=0, return_inverse=True)
    for p in range(len(patterns)):
        yield str(p), (owner == p).nonzero().squeeze(-1)
