"""A regression at one value of its coefficients as a graph of tensors, which other programs can run.

    f(x) = c + Σ_j g_j(x_j)

A linear predictor without interactions is a sum over the columns of the table: of a number a line, and one
value where it is missing; of a label one value for each level, and one where it is missing. What they are is
read off the predictor itself, whichever coding made it, and is then compared with it on other rows.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.capabilities import Graph
from ppl_models.data.messages import quoted
from ppl_models.data.schema import Column
from ppl_models.draws import Draws
from ppl_models.errors import Unsupported
from ppl_models.regression.trained import TrainedRegression

ALIKE = 1e-8
"""Difference of the sum from the predictor, relative to the largest, from which they are not the same."""

Predictor = Callable[[np.ndarray], np.ndarray]
"""(m, C) cells of the table ↦ (m, K) linear predictors, NaN where there is none."""


class Additive(nn.Module):
    """(n, P) cells ↦ (n, K), a sum over columns.

    Args:
        predictor: f.
        schema: of the table.
        columns: of it that go in, in the order of the P cells.

    Raises:
        Unsupported: f is no such sum.
    """

    def __init__(self, predictor: Predictor, schema: list[Column], columns: tuple[int, ...]) -> None:
        super().__init__()
        centre = np.array([0.0 if c.labelled else c.mean for c in schema])
        found = predictor(centre[None])
        self.register_buffer("constant", torch.from_numpy(found[0]))

        def effects(j: int, cells: list[float]) -> np.ndarray:
            rows = np.repeat(centre[None], len(cells), 0)
            rows[:, j] = cells
            return predictor(rows) - found

        self.numbers = [i for i, j in enumerate(columns) if not schema[j].labelled]
        self.labels = [i for i, j in enumerate(columns) if schema[j].labelled]
        lines = [self._line(schema[j], effects, j) for j in (columns[i] for i in self.numbers)]
        K = found.shape[1]
        self.register_buffer("centre", torch.from_numpy(centre[[columns[i] for i in self.numbers]]))
        self.register_buffer("slope", torch.from_numpy(np.array([a for a, _ in lines]).reshape(-1, K)))
        self.register_buffer("absent", torch.from_numpy(np.array([b for _, b in lines]).reshape(-1, K)))
        sizes = [len(schema[columns[i]].levels) for i in self.labels]
        tables = [
            effects(columns[i], [*map(float, range(n)), np.nan])
            for i, n in zip(self.labels, sizes, strict=True)
        ]
        self.register_buffer("table", torch.from_numpy(np.concatenate([*tables, np.zeros((0, K))])))
        self.register_buffer("last", torch.tensor(sizes, dtype=torch.float64))
        starts = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64) + 1)])[: len(sizes)]
        self.register_buffer("start", torch.from_numpy(starts.astype(np.int64)))

    constant: Tensor
    centre: Tensor
    slope: Tensor
    absent: Tensor
    table: Tensor
    last: Tensor
    start: Tensor

    @staticmethod
    def _line(column: Column, effects: Callable, j: int) -> tuple[np.ndarray, np.ndarray]:
        """The slope of a number, and its effect where it is missing.

        Raises:
            Unsupported: it is not on a line.
        """
        at = np.array([1.0, -2.0, -0.7, 0.3, 2.5])
        found = effects(j, [*(column.mean + column.sd * at), np.nan])
        line = at[:, None] * found[0]
        if not np.allclose(found[:-1], line, rtol=0, atol=ALIKE * (1 + np.abs(line).max())):
            raise Unsupported(
                f"the effect of {quoted(column.name)} is no straight line, and ONNX gets no other: fit "
                "without a function of it, kernel or exposure, or use --to mlflow"
            )
        return found[0] / column.sd, found[-1]

    def forward(self, x: Tensor) -> Tensor:
        """C + Σ_j g_j(x_j)."""
        f = self.constant.expand(x.shape[0], -1)
        if self.numbers:
            off = (x[:, self.numbers] - self.centre).unsqueeze(-1)  # (n, P, 1)
            f = f + torch.where(off.isnan(), self.absent, off * self.slope).sum(1)
        if self.labels:
            codes = x[:, self.labels]
            codes = torch.where(codes.isnan(), self.last, codes).long() + self.start
            f = f + torch.nn.functional.embedding(codes, self.table).sum(1)
        return f


class RegressionGraph(nn.Module):
    """(n, P) cells ↦ what is expected: probabilities (n, C), or the mean (n,)."""

    def __init__(self, additive: Additive, outcomes: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.additive, self.outcomes = additive, outcomes

    def forward(self, x: Tensor) -> Tensor:
        """Through the link."""
        found = self.outcomes(self.additive(x)[None])[0]
        return found if found.shape[-1] > 1 else found.squeeze(-1)


def graph(bound: TrainedRegression, theta: Draws) -> Graph:
    """That of a regression at θ (S = 1); of a group that was never seen the average one.

    Raises:
        Unsupported: its predictor is no sum over columns.
    """
    design, schema = bound.design, list(bound.schema.columns)
    columns = tuple(j for j in range(len(schema)) if j in {*design.coding.used, *design.beside.used})

    def predictor(values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            f = bound.logits(theta, design.standardised(values))[0]
            offset = design.beside.of(values)[0]
        return (f if offset is None else f + offset[:, None]).numpy()

    additive = Additive(predictor, schema, columns)
    rng = np.random.default_rng(0)
    rows = np.array([_some(column, rng) for column in schema]).T
    _compare(additive, predictor, rows, columns)
    holes = np.where(rng.random(rows.shape) < 0.3, np.nan, rows)
    _compare(additive, predictor, holes, columns)
    probabilities = bound.outcomes(torch.zeros(1, 1, len(additive.constant)).double(), theta).shape[-1] > 1
    outputs = ("probabilities" if probabilities else "expected",)
    return Graph(RegressionGraph(additive, lambda f: bound.outcomes(f, theta)), columns, outputs)


def _some(column: Column, rng: np.random.Generator, rows: int = 64) -> np.ndarray:
    """Cells of a column at random, (rows,)."""
    if column.labelled:
        return rng.integers(len(column.levels), size=rows).astype(float)
    return column.mean + column.sd * rng.normal(size=rows)


def _compare(additive: Additive, predictor: Predictor, rows: np.ndarray, columns: tuple[int, ...]) -> None:
    """Whether the sum is the predictor on other rows.

    Raises:
        Unsupported: it is not.
    """
    f, found = predictor(rows), additive(torch.from_numpy(rows[:, list(columns)])).numpy()
    off = ALIKE * (1 + np.nanmax(np.abs(f), initial=0.0))
    if not np.allclose(found, f, rtol=0, atol=off, equal_nan=True):
        raise Unsupported(
            "columns act together in this regression, and ONNX gets a sum over columns only: fit without "
            "interactions and --missing-rows impute, or use --to mlflow"
        )
