"""When to stop: rules that do not depend on the scale of the data or on how many rows there are.

Full batch. Near an optimum the gains Δ_t of the ELBO shrink by a factor r, and what is left to gain is
about Δ_t r/(1 − r) (Aitken's δ²; Böhning et al. 1994, Ann. Inst. Statist. Math. 46). The ELBO is quadratic
there with the posterior's precision as its curvature, so that 1 nat for each parameter is an error of
√2 posterior standard deviations. A fit stops when less than `tolerance` nats a parameter are left: with
0.001, parameters are off by about 0.05 of their posterior standard deviations.

Mini-batches. The mean ELBO of the last window of steps is compared with that of the window before; a fit
stops when it rose by less than twice the standard error of the difference, two windows in a row.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ppl_models.inference.conjugate import Info


@dataclass
class Plateau:
    """Stops each restart of a full-batch fit by what is left to gain.

    Attributes:
        limit: nats that may be left.
    """

    limit: float
    previous: Tensor | None = None
    gain: Tensor | None = None
    quiet: Tensor | None = None
    noise: Tensor | None = None
    left: Tensor | float = float("inf")

    @property
    def remaining(self) -> float:
        """What the restart that is furthest from its end has left to gain, in nats."""
        return float(torch.as_tensor(self.left).max()) if torch.as_tensor(self.left).numel() else 0.0

    def update(self, info: Info) -> Tensor:
        """(R,) whether each restart is done."""
        elbo = info.elbo
        if self.previous is None:
            self.previous, self.quiet = elbo, torch.zeros_like(elbo)
            return torch.zeros_like(elbo, dtype=torch.bool)
        gain = (elbo - self.previous).clamp_min(0.0)
        before = torch.full_like(gain, torch.inf) if self.gain is None else self.gain
        ratio = (gain / before.clamp_min(1e-300)).clamp(0.0, 0.999)
        left = torch.where(gain > 0, gain * torch.clamp(ratio / (1 - ratio), min=1.0), gain)
        # A plain step cannot lower the ELBO: where one did by little, that is what rounding does to it.
        fall = torch.where(info.accepted, self.previous - elbo, 0.0).clamp_max(self.limit)
        fall = fall.clamp_min(1e-13 * elbo.abs())
        self.noise = fall if self.noise is None else torch.maximum(self.noise, fall)
        quiet = (left <= self.limit) | (gain <= self.noise)
        assert self.quiet is not None
        count = torch.where(quiet, self.quiet + 1, torch.zeros_like(self.quiet))
        # A jump that was thrown away says nothing of what is left to gain.
        self.quiet = torch.where(info.accepted, count, self.quiet)
        self.gain = torch.where(info.accepted, gain, before)
        self.left = torch.where(info.accepted, left, torch.as_tensor(self.left, dtype=left.dtype).to(left))
        self.previous = elbo
        return self.quiet >= 3

    def select(self, restarts: Tensor) -> None:
        """Forget the other restarts."""
        for name in ("previous", "gain", "quiet", "noise", "left"):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                setattr(self, name, value[restarts])


@dataclass
class Knockout(Plateau):
    """Also stops the worse half of the restarts, every few steps, and the last when it is alone.

    Attributes:
        every: steps.
    """

    every: int = 10
    steps: int = 0

    def update(self, info: Info) -> Tensor:
        """(R,) whether each restart is done."""
        done = super().update(info)
        self.steps += 1
        if self.steps % self.every == 0 and len(info.elbo) > 1:
            order = info.elbo.argsort(descending=True)
            done[order[(len(order) + 1) // 2 :]] = True
            done |= (~done).sum() == 1
        return done


@dataclass
class Windows:
    """Stops a mini-batch fit by the means of successive windows of its noisy ELBO.

    Attributes:
        size: steps a window: at least one pass over the data.
        scale: the ELBO is compared a row, so divided by this.
    """

    size: int
    scale: float
    values: list[float] = field(default_factory=list)
    quiet: int = 0
    remaining: float = float("inf")

    left = float("inf")

    def update(self, info: Info) -> Tensor:
        """(R,) whether the fit is done: all restarts at once."""
        self.values.append(float(info.elbo.mean()) / self.scale)
        done = torch.zeros_like(info.elbo, dtype=torch.bool)
        n = self.size
        if len(self.values) % n or len(self.values) < 2 * n:
            return done
        a, b = torch.tensor(self.values[-2 * n : -n]), torch.tensor(self.values[-n:])
        error = ((a.var() + b.var()) / n).sqrt() if n > 1 else torch.tensor(0.0)
        self.remaining = float(b.mean() - a.mean())
        self.quiet = self.quiet + 1 if self.remaining < 2 * float(error) + 1e-6 else 0
        return done | (self.quiet >= 2)

    def select(self, restarts: Tensor) -> None:
        """Nothing is kept by restart."""


@dataclass
class Told:
    """Stops a fit when its rule says that nothing is left to gain."""

    remaining: float = float("inf")
    left = float("inf")

    def update(self, info: Info) -> Tensor:
        """(R,) whether the fit is done."""
        self.remaining = info.left if info.left < float("inf") else self.remaining
        return torch.full_like(info.elbo, info.left <= 0.0, dtype=torch.bool)

    def select(self, restarts: Tensor) -> None:
        """Nothing is kept by restart."""
