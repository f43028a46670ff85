"""What training of a network lowers, the stopping by held-out rows, and the features that it leaves.

    loss = (1/B) Σ_n w_n (1/M) Σ_m −log p(y_n | h_m(x_n))

Every member m has a loss of its own, so that members stay apart (Gorishniy et al. 2025, TabM). A tenth of the
rows, 10,000 at most and none of fewer than 20, is held out: the log probability of these by the mean of the
members' outputs is what the gradient rule stops by.
"""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.inference.gradient import GradientTarget
from ppl_models.neural.heads import Head

HELD_OUT, MOST, FEW = 0.1, 10_000, 20
"""The share of rows that is held out, how many at most, and the number below which none are."""

BLOCK = 2_048
"""Rows that the network is applied to at a time, outside of training."""


class Inputs(Protocol):
    """Rows as a backbone takes them.

    Attributes:
        block: how many the network is applied to at a time, outside of training.
    """

    block: int

    def __len__(self) -> int: ...

    def at(self, index: Tensor) -> Any:
        """Some of them, by indices (B,) int64 that lie where they do."""
        ...

    def to(self, device: torch.device | str) -> Any:
        """The same on a device."""
        ...


class Network(nn.Module):
    """A backbone, and a linear layer that all members share: inputs ↦ outputs (B, M, O + q).

    Args:
        backbone: inputs ↦ features (B, M, F).
        head: what a target is: F, O, and the q numbers that all rows share, which follow the outputs.
    """

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.output = nn.Linear(head.features, head.outputs)
        if (start := head.start()) is not None:
            self.output.bias.data.copy_(start)
        self.shared = nn.Parameter(head.shared.float()) if len(head.shared) else None

    def forward(self, inputs: Any) -> Tensor:
        """(B, M, O + q)."""
        return self.outputs(self.backbone(inputs))

    def outputs(self, features: Tensor) -> Tensor:
        """The same of features (B, M, F)."""
        out = self.output(features)
        if self.shared is None:
            return out
        return torch.cat([out, self.shared.expand(*out.shape[:-1], -1)], -1)


def parts(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Positions of the training rows and of the held-out ones among n, in order."""
    held = 0 if n < FEW else min(max(1, round(HELD_OUT * n)), MOST)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    return order[held:].sort().values, order[:held].sort().values


class NetworkTarget(GradientTarget):
    """The objective of a network on rows that have their target, all on the device of the network.

    Args:
        module: the network.
        head: what a target is.
        inputs: all rows.
        y: (n,) codes, or numbers in units of the target's sd; of rows whose target is there.
        weight: (n,) how often each row counts, or None.
        seed: of the rows that are held out.
        augment: changes a batch of inputs before the network sees it, while training.

    Attributes:
        train, held: positions of the training rows and of the others.
    """

    module: Network

    def __init__(
        self,
        module: Network,
        head: Head,
        inputs: Any,
        y: Tensor,
        weight: Tensor | None,
        seed: int,
        augment: Any = None,
    ) -> None:
        device = placed(module)
        self.module, self.head, self.inputs, self.augment = module, head, inputs.to(device), augment
        self.train, self.held = (each.to(device) for each in parts(seed, len(y)))
        self.y, self.weight = y.to(device), None if weight is None else weight.to(device)
        self.rows = len(self.train)
        w = self.weight
        self._small = None if w is None else w.float() / float(w[self.train].mean())
        module.train()

    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Minus log p(y), nats a row: see the module."""
        index = self.train.index_select(0, rows)
        inputs = self.inputs.at(index)
        if self.augment is not None:
            inputs = self.augment(inputs)
        y = self.y.index_select(0, index)
        each = self.head.loss(self.module(inputs), y).mean(1)
        return each.mean() if self._small is None else (each * self._small[index]).mean()

    @property
    def count(self) -> float:
        """What the training rows weigh in all."""
        return float(len(self.train)) if self.weight is None else float(self.weight[self.train].sum())

    @torch.no_grad()
    def outputs(self, index: Tensor) -> Tensor:
        """Of rows at these positions, (m, M, O), without dropout."""
        training = self.module.training
        self.module.eval()
        try:
            return torch.cat([self.module(self.inputs.at(some)) for some in index.split(self.inputs.block)])
        finally:
            self.module.train(training)

    def evidence(self) -> float:
        """Log p(y) of the held-out rows, nats a row; of the training rows where none are held out."""
        return self.log_score(self.held if len(self.held) else self.train)

    def log_score(self, index: Tensor) -> float:
        """Mean log p(y) of rows at these positions, nats."""
        weight = (
            index.new_ones(len(index), dtype=torch.float64) if self.weight is None else self.weight[index]
        )
        return self.head.held(self.outputs(index), self.y[index], weight)

    def where(self) -> str:
        """Which weights, or which row, are not finite."""
        for name, value in self.module.named_parameters():
            if not bool(value.isfinite().all()):
                return f"the weights {name} are not finite; lower the learning rate"
        for some in self.train.split(BLOCK):
            bad = ~self.outputs(some).isfinite().flatten(1).all(1)
            if bool(bad.any()):
                return f"the output for row {int(some[int(bad.nonzero()[0])]) + 1} is not finite"
        return "every row is finite now; a step in between was not"


def placed(module: nn.Module) -> torch.device:
    """Where a network is."""
    return next(module.parameters()).device


@torch.no_grad()
def applied(network: Network, inputs: Any, outputs: bool = False) -> tuple[Tensor, Tensor | None]:
    """Features (n, F) float64, the mean over members, and where asked for the outputs (M, n, O) of each.

    Rows go to the device of the network block by block; features and outputs come back to the CPU, where
    heads and distributions are.

    Args:
        network: the network; dropout is off from here on.
        inputs: rows.
        outputs: whether these are asked for.
    """
    network.eval()
    device = placed(network)
    found, out = [torch.zeros(0, network.output.in_features, dtype=torch.float64)], []
    for some in torch.arange(len(inputs)).split(inputs.block):
        h = network.backbone(inputs.at(some).to(device))
        found.append(h.mean(1).double().cpu())
        if outputs:
            out.append(network.outputs(h).transpose(0, 1).cpu())
    return torch.cat(found), torch.cat(out, 1) if outputs and out else None


def learning_rate(network: nn.Module) -> float:
    """The step size if none is given: Adam's 10⁻³, twice that with members, whose gradients are means."""
    return 2e-3 if any(name.endswith(".r") for name, _ in network.named_parameters()) else 1e-3
