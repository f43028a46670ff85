"""What training lowers where the target is of the steps of sequences.

    loss = Σ_t (1/M) Σ_m −log p(y_t | h_m(x)_t) / steps

over the steps of a mini-batch of parts of sequences that have a target.
"""

from typing import Any

import torch
from torch import Tensor

from ppl_models.neural.heads import Head
from ppl_models.neural.training import Network, NetworkTarget


class StepTarget(NetworkTarget):
    """The objective of a network on parts of sequences.

    Args:
        module: the network, whose features are of steps.
        head: what a target is.
        inputs: the parts.
        y: (parts, T) float64 codes or numbers inside, NaN where there is none.
        seed: of the parts that are held out.
    """

    def __init__(self, module: Network, head: Head, inputs: Any, y: Tensor, seed: int) -> None:
        super().__init__(module, head, inputs, y, None, seed)

    def _own(self, index: Tensor, inputs: Any) -> tuple[Tensor, Tensor]:
        """Targets of the steps that the network gives outputs of, and which of these are known."""
        y = self.y.index_select(0, index)[:, : inputs.x.shape[1]][inputs.mask]
        known = ~y.isnan()
        y = y[known]
        return y.to(self.head.dtype), known

    @property
    def count(self) -> float:
        """Steps of the training parts that have a target."""
        return float((~self.y[self.train].isnan()).sum())

    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Minus log p(y), nats a step."""
        index = self.train.index_select(0, rows)
        inputs = self.inputs.at(index)
        y, known = self._own(index, inputs)
        out = self.module(inputs)[known]
        return self.head.loss(out, y).mean() if len(y) else out.sum() * 0.0

    @torch.no_grad()
    def log_score(self, index: Tensor) -> float:
        """Mean log p(y) of the steps of parts at these positions, nats."""
        self.module.eval()
        found = []
        for some in index.split(64):
            inputs = self.inputs.at(some)
            y, known = self._own(some, inputs)
            found.append((self.module(inputs)[known], y))
        self.module.train()
        out, y = (torch.cat(each) for each in zip(*found, strict=True))
        return self.head.held(out, y, y.new_ones(len(y), dtype=torch.float64)) if len(y) else 0.0
