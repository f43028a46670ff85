"""The structure of a mixture: latents that are independent of one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppl_models.importing import lazy
from ppl_models.inference.factors import Dirichlet, Factor, Sticks, Theta
from ppl_models.kernels.independent import IndependentRows
from ppl_models.kernels.rows import Rows
from ppl_models.latent.structure import Observe, Structure

if TYPE_CHECKING:
    import pyro
    import pyro.distributions as dist
else:
    pyro, dist = lazy("pyro"), lazy("pyro.distributions")


class Independent(Structure):
    """z_n ~ Categorical(π), independently; π ~ Dirichlet(α, …, α), or a Dirichlet process cut off at K.

    Args:
        components: K.
        concentration: α of every component, or of the process.
        process: whether π breaks a stick (Sethuraman 1994) rather than being Dirichlet.
    """

    noun = "component"
    latents = IndependentRows()

    def __init__(self, components: int, concentration: float, process: bool = False) -> None:
        self.states, self.concentration = components, concentration
        weight: Factor = (
            Sticks("weight", components, concentration)
            if process
            else Dirichlet("weight", torch.full((components,), concentration, dtype=torch.float64))
        )
        self.factors = {"weight": weight}

    def resized(self, components: int) -> Independent:
        """The same prior over another number of components, of which none is special."""
        return Independent(components, self.concentration)

    @property
    def free_parameters(self) -> int:
        """Weights sum to one."""
        return self.states - 1

    def hard(self, labels: Tensor, rows: Rows, smooth: float) -> dict[str, Tensor]:
        """Weighted counts."""
        K = self.states
        onehot = torch.nn.functional.one_hot(labels, K).to(torch.float64)
        if rows.weight is not None:
            onehot = onehot * torch.as_tensor(rows.weight).to(onehot)[..., None]
        count = onehot.sum(1)
        return {"weight": (1 - smooth) * count + smooth * count.sum(-1, keepdim=True) / K}

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
