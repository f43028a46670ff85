"""The likelihood of a row: log p(x_n | z_n) = Σ_j log p(x_nj | o_nj), over its observed cells."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ppl_models.data import Schema
from ppl_models.families.choose import Choice, likelihoods
from ppl_models.families.likelihood import Likelihood

Part = tuple[Likelihood, Tensor, Tensor, Tensor | None]
"""A family with its outputs (..., O), its cells (B, D) and which of them were seen."""


class Product(nn.Module):
    """All columns of a schema but its target, family after family.

    Attributes:
        order: the positions of the columns in the schema, in the order of the cells here.
        outputs: how many numbers the decoder gives.
        inputs: how many the encoder takes, with a mask of the cells where `masked`.
        masked: whether cells were missing in the fit, so that the encoder is told which.
        log_unit: log |du/dx| of each cell, (C,).
    """

    def __init__(self, likelihood: Choice, schema: Schema) -> None:
        super().__init__()
        found = likelihoods(likelihood, schema)
        self.order = [i for index, _ in found for i in index]
        self.families = nn.ModuleList([f for _, f in found])
        self.masked = any(schema.columns[i].missing for i in self.order)
        self.outputs = sum(f.outputs for f in self.each)
        self.width = len(self.order)
        self.inputs = sum(f.inputs for f in self.each) + self.masked * self.width
        self.register_buffer("log_unit", torch.cat([f.log_unit for f in self.each]), persistent=False)
        self.constant = float(self.log_unit.sum())
        self.plain = not self.masked and all(type(f).features is Likelihood.features for f in self.each)

    log_unit: Tensor

    @property
    def each(self) -> list[Likelihood]:
        """The families."""
        return list(self.families)  # type: ignore[arg-type]

    def parts(self, out: Tensor, x: Tensor, seen: Tensor | None = None) -> Iterator[Part]:
        """Every family with its outputs and cells."""
        a = b = 0
        for f in self.each:
            cells = slice(b, b + f.width)
            yield f, out[..., a : a + f.outputs], x[..., cells], None if seen is None else seen[..., cells]
            a, b = a + f.outputs, b + f.width

    def features(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """What the encoder takes, (B, I): numbers, codes one-hot, 0 where missing, and the mask."""
        if self.plain:
            return x
        found = [f.features(u, s) for f, _, u, s in self.parts(x.new_empty(0, self.outputs), x, seen)]
        if self.masked:
            found.append(torch.ones_like(x) if seen is None else seen.to(x.dtype))
        return torch.cat(found, -1)

    def rows(self, out: Tensor, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Log density of the observed cells of each row, in the user's units, (..., B)."""
        total: Any = 0.0
        for f, o, u, s in self.parts(out, x, seen):
            cells = f.log_prob(o, u)
            total = total + (cells if s is None else cells * s).sum(-1)
        unit = self.constant if seen is None else seen.to(x.dtype) @ self.log_unit
        return total + unit

    def total(self, out: Tensor, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """The sum of `rows`: of complete rows in as few passes as there are families."""
        if seen is not None:
            return self.rows(out, x, seen).sum()
        sums = [f.total(o, u) for f, o, u, _ in self.parts(out, x)]
        return sum(sums[1:], sums[0]) + self.constant * len(x)

    def expect(self, out: Tensor) -> Tensor:
        """Expected values in the user's units, probabilities for labels, as many as outputs, float64."""
        return torch.cat([f.expect(o).double() for f, o, _, _ in self.parts(out, out[..., : self.width])], -1)

    def sample(self, out: Tensor) -> Tensor:
        """Cells in the user's units, codes for labels, (..., C) float64."""
        return torch.cat([f.sample(o) for f, o, _, _ in self.parts(out, out[..., : self.width])], -1)

    def slots(self) -> list[slice]:
        """Where in `expect` each cell is: one number, or the probabilities of its levels."""
        found, at = [], 0
        for f in self.each:
            for n in f.slots:
                found.append(slice(at, at + n))
                at += n
        return found
