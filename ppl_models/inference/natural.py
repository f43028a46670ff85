"""A diagonal Gaussian over all weights, by stochastic natural gradients: the variational online Newton rule.

    q(θ) = N(m, diag σ²),   σ² = 1/(λ (h + δ)),   θ = m + σ ε,  ε ~ N(0, I)
    ĝ = ∇ℓ(θ),   ĥ = ĝ ε/σ                            of a mini-batch; E ĥ = E_q[∇² ℓ] (Stein's identity)
    g ← β₁ g + (1 − β₁) ĝ
    h ← β₂ h + (1 − β₂) ĥ + ½ (1 − β₂)² (h − ĥ)²/(h + δ)
    m ← m − ρ (g/(1 − β₁ᵗ) + δ m)/(h + δ)

with ℓ the loss in nats a row, λ the number of rows and λ δ the precision of the prior N(0, 1/(λ δ)) of a
weight. The fixed point is the diagonal Gaussian closest to the posterior in KL(q‖p): its precision is the
expected curvature of each weight, and its mean where the expected gradient is zero. The last term of h keeps
it positive: the step is along a geodesic of the Gaussians (Lin, Schmidt & Khan 2020, Handling the
positive-definite constraint in the Bayesian learning rule, ICML, https://arxiv.org/abs/2002.10060).

(Khan & Rue 2023, The Bayesian learning rule, JMLR 24, https://jmlr.org/papers/v24/22-0291.html; Shen et al.
2024, Variational learning is effective for large deep networks, ICML, https://arxiv.org/abs/2402.17641.)
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM, MEMORY = 0.9, 0.999
"""β₁ and β₂."""

SHARE = 0.1
"""A step is no longer than this share of the prior's sd in any weight."""


class NaturalGradient(torch.optim.Optimizer):
    """The rule above. The gradient must be taken within `drawn`, where the parameters are a draw of q.

    What it remembers of each parameter has the names that Adam gives its moments, so that checkpoints need
    to know of one kind only: `exp_avg` is g, `exp_avg_sq` is h.

    Args:
        module: whose parameters are m.
        lr: ρ.
        rows: λ.
        precision: of the prior of each parameter, by name.
        narrow: h to begin with, in units of δ.
    """

    def __init__(
        self, module: nn.Module, lr: float, rows: float, precision: Mapping[str, float], narrow: float
    ) -> None:
        groups = [{"params": [p], "delta": precision[name] / rows} for name, p in module.named_parameters()]
        self.rows, self.narrow = rows, narrow
        self._noise: dict[Tensor, Tensor] = {}
        super().__init__(groups, {"lr": lr})

    def _each(self) -> Iterator[tuple[Tensor, dict[str, Any], float, float]]:
        """Every parameter, what is remembered of it, δ and ρ."""
        for group in self.param_groups:
            for p in group["params"]:
                known = self.state[p]
                if not known:
                    known["step"] = torch.zeros(())
                    known["exp_avg"] = torch.zeros_like(p)
                    known["exp_avg_sq"] = torch.full_like(p, self.narrow * group["delta"])
                yield p, known, group["delta"], group["lr"]

    def sds(self) -> list[Tensor]:
        """σ of each parameter."""
        return [(self.rows * (s["exp_avg_sq"] + delta)).rsqrt() for _, s, delta, _ in self._each()]

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """The parameters are a draw of q within, and m again after."""
        means = [p.detach().clone() for p, *_ in self._each()]
        self._noise = {}
        with torch.no_grad():
            for (p, *_), sd in zip(self._each(), self.sds(), strict=True):
                self._noise[p] = torch.randn_like(p)
                p.addcmul_(sd, self._noise[p])
        try:
            yield
        finally:
            with torch.no_grad():
                for (p, *_), mean in zip(self._each(), means, strict=True):
                    p.copy_(mean)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """From the gradients at the last draw."""
        for p, known, delta, lr in self._each():
            if p.grad is None:
                continue
            g, h = known["exp_avg"], known["exp_avg_sq"]
            known["step"] += 1
            curved = p.grad * self._noise[p] * (self.rows * (h + delta)).sqrt()  # ĥ
            g.lerp_(p.grad, 1 - MOMENTUM)
            gap = curved - h
            positive = gap.square() / (h + delta)
            h.add_(gap, alpha=1 - MEMORY).add_(positive, alpha=0.5 * (1 - MEMORY) ** 2)
            unbiased = 1 - MOMENTUM ** float(known["step"])
            move = (g / unbiased + delta * p) / (h + delta)
            most = SHARE / math.sqrt(self.rows * delta)
            p.add_(move.clamp_(-most / lr, most / lr), alpha=-lr)


@dataclass(frozen=True, eq=False)
class Natural:
    """What the natural-gradient rule knows beside a learning rate.

    Attributes:
        rows: λ, the weight of all rows.
        precision: of the prior of each weight, by the name of its tensor.
        narrow: h to begin with, in units of δ. Noise of the prior's size would drown what a network has to
            learn, so that q begins this many times narrower, in variance.
    """

    rows: float
    precision: Mapping[str, float]
    narrow: float = 100.0

    def optimiser(self, module: nn.Module, lr: float) -> NaturalGradient:
        """For the parameters of a module."""
        return NaturalGradient(module, lr, self.rows, self.precision, self.narrow)
