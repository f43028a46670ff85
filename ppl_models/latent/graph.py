"""A mixture or chain at one value of its parameters as a graph of tensors, which other programs can run.

    mixture   log p(x) = logsumexp_k (log π_k + Σ_e log p_e(x_e | φ_k)),   p(z = k | x) = exp(… − log p(x))
    chain     p(z_t = k | x_1…t) ∝ p(x_t | φ_k) Σ_j p(z_{t−1} = j | x_1…t−1) A_jk, step by step from π,
              and log p(x_t | x_1…t−1), the logarithm of what it is divided by

Missing cells are integrated out, but for those of a full, tied or low-rank covariance, whose rows are NaN:
what stays of a Gaussian there differs from pattern to pattern.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_models.capabilities import Graph
from ppl_models.draws import Draws
from ppl_models.errors import Unsupported
from ppl_models.families.base import Emission
from ppl_models.latent.joint import Joint


class Cells(nn.Module):
    """(n, P) cells ↦ (n, K): the log density of one family's columns in each component.

    Args:
        family: its distribution in each component, in the user's units, (1, K) of D cells.
        columns: positions of the cells.
    """

    def __init__(self, family: Any, columns: Sequence[int]) -> None:
        super().__init__()
        self.family, self.columns = family.base_dist, list(columns)

    def forward(self, x: Tensor) -> Tensor:
        """Σ over the cells that are there."""
        cells = x[:, self.columns].unsqueeze(1)  # (n, 1, D)
        missing = cells.isnan()
        found = self.family.log_prob(torch.where(missing, torch.ones_like(cells), cells))
        return torch.where(missing, torch.zeros_like(found), found).sum(-1)


class Correlated(nn.Module):
    """The same of normal columns that depend on one another."""

    def __init__(self, normal: Any, columns: Sequence[int]) -> None:
        super().__init__()
        self.columns = list(columns)
        root = normal.scale_tril[0]  # (K, D, D)
        eye = torch.eye(root.shape[-1], dtype=root.dtype).expand_as(root)
        self.register_buffer("mean", normal.loc[0])
        self.register_buffer("inverse", torch.linalg.solve_triangular(root, eye, upper=False))
        log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self.register_buffer("constant", -log_det - 0.5 * len(columns) * math.log(2 * math.pi))

    mean: Tensor
    inverse: Tensor
    constant: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Log |Λ_k|/2 − D/2 log 2π − ½ ‖L_k⁻¹ (x − μ_k)‖²."""
        off = x[:, self.columns].unsqueeze(1) - self.mean  # (n, K, D)
        z = torch.einsum("kij,nkj->nki", self.inverse, off)
        return self.constant - 0.5 * (z * z).sum(-1)


class MixtureGraph(nn.Module):
    """(n, P) cells ↦ probabilities (n, C) and the log density (n,).

    Args:
        log_weight: log π (K,).
        parts: the families.
        classes: C, that have as many components each, in order; K for components.
    """

    def __init__(self, log_weight: Tensor, parts: Sequence[nn.Module], classes: int) -> None:
        super().__init__()
        self.register_buffer("log_weight", log_weight)
        self.parts, self.classes = nn.ModuleList(parts), classes

    log_weight: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By Bayes' rule."""
        joint = self.log_weight.expand(x.shape[0], -1)
        for part in self.parts:
            joint = joint + part(x)
        log_density = joint.logsumexp(-1)
        p = (joint - log_density.unsqueeze(-1)).exp()
        return p.reshape(x.shape[0], self.classes, -1).sum(-1), log_density


class ChainGraph(nn.Module):
    """(T, P) cells of one sequence ↦ probabilities (T, K) given the rows so far, and log densities (T,).

    Args:
        start: π (K,).
        transition: A (K, K).
        parts: the families.
    """

    def __init__(self, start: Tensor, transition: Tensor, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.register_buffer("transition", transition)
        self.parts = nn.ModuleList(parts)

    start: Tensor
    transition: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The forward recursion, each step divided by its sum."""
        from torch._higher_order_ops.scan import scan  # what the exporter has a loop of ONNX for

        log_b = x.new_zeros(x.shape[0], len(self.start))
        for part in self.parts:
            log_b = log_b + part(x)
        most = log_b.amax(1, keepdim=True)
        transition = self.transition

        def step(ahead: Tensor, b: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            joint = ahead * b
            total = joint.sum()
            filtered = joint / total
            return filtered @ transition, (filtered, total.log())

        found: Any = scan(step, self.start.clone(), (log_b - most).exp())
        _, (filtered, log_total) = found
        return filtered, log_total + most.squeeze(1)


def graph(bound: Joint, theta: Draws, classes: int) -> Graph:
    """That of a mixture at θ (S = 1).

    Args:
        bound: the mixture.
        theta: π and φ.
        classes: of a target, whose cells are not looked at; the number of components without one.

    Raises:
        Unsupported: columns are transformed inside the model.
    """
    columns, parts = _parts(bound, theta)
    log_weight = bound.structure.factors["weight"].natural(theta["weight"])[0]
    module = MixtureGraph(log_weight, parts, classes)
    return Graph(module, columns, ("probabilities", "log_density"))


def chain_graph(bound: Joint, theta: Draws) -> Graph:
    """That of a chain at θ (S = 1), which takes one sequence.

    Raises:
        Unsupported: columns are transformed inside the model, or go on from their row before.
    """
    if bound.lagged:
        raise Unsupported("an autoregressive chain has no graph: fit without --autoregressive")
    columns, parts = _parts(bound, theta)
    start, transition = (theta[name][name][0] for name in ("start", "transition"))
    return Graph(ChainGraph(start, transition, parts), columns, ("filtered", "log_density"))


def _parts(bound: Joint, theta: Draws) -> tuple[tuple[int, ...], list[nn.Module]]:
    """Positions of the columns, and families over them.

    Raises:
        Unsupported: columns are transformed inside the model.
    """
    if bound.inside:
        raise Unsupported("an export has columns as they are: fit with --marginals plain")
    used = [e for e in bound.emissions if not e.is_label]
    columns = tuple(j for e in used for j in e.columns)
    at = {j: i for i, j in enumerate(columns)}

    def part(e: Emission) -> nn.Module:
        family, own = e.local(theta[e.name]), [at[j] for j in e.columns]
        normals = torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal
        correlated = isinstance(family, normals)
        return (Correlated if correlated else Cells)(family, own)

    return columns, [part(e) for e in used]
