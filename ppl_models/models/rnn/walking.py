"""The network of a forecast, what its outputs are of, and what training lowers: see `rnn.model`."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_models.inference.gradient import GradientTarget
from ppl_models.neural.training import parts, placed

_gamma: Any = torch._standard_gamma  # pyright: ignore[reportPrivateImportUsage]


class Walker(nn.Module):
    """Steps ↦ three outputs of each column: location, scale and tail, or mean and dispersion."""

    def __init__(self, inputs: int, columns: int, units: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, units, layers, batch_first=True)
        self.dense = nn.Linear(units + inputs, units)
        self.output = nn.Linear(units, 3 * columns)
        self.output.weight.data.mul_(0.1)
        self.output.bias.data.zero_()
        self.dropout, self.columns = dropout, columns

    def forward(self, e: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any]:
        """(B, T, C, 3) of inputs (B, T, I), and the state to go on from."""
        h, state = self.gru(e, state)
        h = nn.functional.dropout(h, self.dropout, self.training and self.dropout > 0)
        h = nn.functional.relu(self.dense(torch.cat([h, e], -1)))
        return self.output(h).unflatten(-1, (self.columns, 3)), state


class Tempered(NamedTuple):
    """What is made of the Student t of the network: κ m + T s ε.

    Attributes:
        temperature: T, factor of its scale.
        share: κ, of its location that is kept; at 0 forecasts are those of the base.
    """

    temperature: float = 1.0
    share: float = 1.0


PLAIN = Tempered()
"""As the network has it."""


@dataclass(frozen=True, eq=False)
class Emissions:
    """What a column is given the outputs of the network: a Student t of differences, or a negative binomial.

    Attributes:
        counts: (C,) which columns are counts.
    """

    counts: Tensor

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.counts.any())

    def t(self, out: Tensor, tempered: "Tempered") -> tuple[Tensor, Tensor, Tensor]:
        """Location, scale and degrees of freedom."""
        scale = tempered.temperature * (softplus(out[..., 1] + 0.5) + 1e-3)
        return tempered.share * out[..., 0], scale, 2.0 + softplus(out[..., 2] + 3.0)

    def count(self, out: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and size r of a negative binomial."""
        return scale * softplus(out[..., 0] + 0.5413) + 1e-4, softplus(out[..., 1] + 2.0) + 1e-2

    def log_prob(self, out: Tensor, u: Tensor, scale: Tensor, tempered: "Tempered") -> Tensor:
        """Log p of differences in units of the scale, and of counts, (..., C).

        Args:
            out: of the network, (..., C, 3).
            u: the cells, (..., C).
            scale: of counts, which broadcasts against u.
            tempered: what is made of the Student t.
        """
        m, s, df = self.t(out, tempered)
        number = torch.distributions.StudentT(df, m, s, validate_args=False).log_prob(u)
        if not self.any:
            return number
        mean, r = self.count(out, scale)
        counts = self.counts.to(u.device)
        k = torch.where(counts, u, 0.0).clamp_min(0.0)
        count = (
            torch.lgamma(k + r) - torch.lgamma(r) - torch.lgamma(k + 1)
            + r * (r / (r + mean)).log() + k * (mean / (r + mean)).log()
        )  # fmt: skip
        return torch.where(counts, count, number)

    def sample(self, out: Tensor, scale: Tensor, tempered: "Tempered") -> tuple[Tensor, Tensor | None]:
        """Differences in units of the scale, and counts where there are some, (..., C) each."""
        m, s, df = self.t(out, tempered)
        t = torch.randn_like(m) * (df / (2 * _gamma(df / 2))).sqrt()
        if not self.any:
            return m + s * t, None
        mean, r = self.count(out, scale)
        return m + s * t, torch.poisson(_gamma(r) * mean / r)


class WalkTarget(GradientTarget):
    """−log p(x_t | x_{<t}) of windows, nats a window's step, in units of the scale.

    Args:
        module: the network, on whose device the windows are put.
        emissions: what columns are.
        windows: inputs (n, W, I), differences or counts (n, W, C) with NaN where there is none, and scales
            of counts (n, 1, C).
        last: which windows are held out, (n,): the last of their sequences; if none is, some are at random.
        seed: of these.
    """

    module: Walker

    def __init__(
        self,
        module: Walker,
        emissions: Emissions,
        windows: tuple[Tensor, Tensor, Tensor],
        last: Tensor,
        seed: int,
    ) -> None:
        device = placed(module)
        self.module, self.emissions = module, emissions
        self.windows = tuple(each.to(device) for each in windows)
        found = ((~last).nonzero()[:, 0], last.nonzero()[:, 0])
        found = found if len(found[1]) else parts(seed, len(last))
        self.train, self.held = (each.to(device) for each in found)
        self.rows = len(self.train)
        module.train()

    def log_prob(self, index: Tensor, tempered: Tempered) -> tuple[Tensor, Tensor]:
        """Log p of cells, 0 where there is none, and which there are, (B, W, C) each."""
        e, u, scale = (v.index_select(0, index) for v in self.windows)
        known = ~u.isnan()
        out, _ = self.module(e)
        found = self.emissions.log_prob(out, torch.where(known, u, 0.0), scale, tempered)
        return torch.where(known, found, 0.0), known

    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Nats a cell."""
        found, known = self.log_prob(self.train.index_select(0, rows), PLAIN)
        return -found.sum() / known.sum().clamp_min(1)

    def evidence(self) -> float:
        """Of held-out windows, nats a cell."""
        return self.log_score(self.held if len(self.held) else self.train)

    @torch.no_grad()
    def log_score(self, index: Tensor, tempered: Tempered = PLAIN) -> float:
        """Mean log p of cells of windows at these positions."""
        self.module.eval()
        found = [self.log_prob(some, tempered) for some in index.split(64)]
        self.module.train()
        return float(sum(f.double().sum() for f, _ in found) / max(sum(int(k.sum()) for _, k in found), 1))
