"""What a network with a head predicts of a target that is a label, and of one that is a number."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from ppl_models.capabilities import Predicted, Probabilities
from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import quoted
from ppl_models.draws import Draws
from ppl_models.errors import DataError, UsageError
from ppl_models.neural.bound import Neural
from ppl_models.neural.heads import ClassHead, FamilyHead, Head, NumberHead
from ppl_models.neural.rows import Rows
from ppl_models.regression.responses import RESPONSES, NumberResponse

NUMBER, CLASS, PRODUCT, LEAST = 64, 64, 400, 16
"""Features of a number; of classes at most, such that features × classes stay within a product, at least."""


class Classes(Neural):
    """Of a target that is a label."""

    @cached_property
    def head(self) -> ClassHead:
        """A softmax."""
        classes = len(self.labels())
        return ClassHead(classes, max(LEAST, min(CLASS, PRODUCT // max(classes - 1, 1))))

    def labels(self) -> tuple[str, ...]:
        """Of the classes."""
        return self.schema.columns[self.target_index].levels

    def probabilities(self, rows: Rows, draws: Draws) -> Iterator[Probabilities]:
        """p(class | x, θ_s), (S, m, C)."""
        for index, new in self.predictives(rows, draws):
            yield Probabilities(index, new.probs.double())

    def predictive(self, rows: Rows, draws: Draws) -> np.ndarray:
        """p(class | x), (n, C)."""
        found = np.full((len(rows.y), len(self.labels())), np.nan)
        for part in self.probabilities(rows, draws):
            found[part.index] = part.values.mean(0).numpy()
        return found

    def log_probability(self, rows: Rows, draws: Draws) -> np.ndarray:
        """Log (1/S) Σ_s p(y_n | x_n, θ_s), (n,); NaN where the target is missing."""
        found = np.full(len(rows.y), np.nan)
        for index, new in self.predictives(rows, draws):
            y = rows.y[torch.from_numpy(index)]
            each = new.log_prob(y.nan_to_num(0.0).long()).double()
            each = each.logsumexp(0) - np.log(len(each))
            found[index] = torch.where(y.isnan(), torch.nan, each).numpy()
        return found

    def redraw(self, data: Dataset, draws: Draws, tables: int) -> np.ndarray:
        """The table with its target drawn anew, each row from its own draw."""
        return _redrawn(self, data, draws, tables)


class Numbers(Neural):
    """Of a target that is a number."""

    numeric_target: bool = True

    @property
    def family(self) -> type[NumberResponse] | None:
        """What the target is; None of a normal whose σ is the head's alone."""
        name = self.model.family
        if name in ("auto", "normal"):
            return RESPONSES["normal"] if self.whole else None
        return RESPONSES[name]

    def prepare(self, data: Dataset) -> Self:
        """And where a family starts, by the targets.

        Raises:
            DataError: one is outside of the family's support, or there are fewer than two.
        """
        found, family = super().prepare(data), self.family
        if self.made is None and family is not None:
            y = torch.from_numpy(self.targets(data))
            y = y[~y.isnan()]
            if len(y) < 2:
                name = quoted(str(self.schema.target))
                raise DataError(f"{data.source}, column {name}: fewer than two rows have a target")
            family.check(y, f"{data.source}: the target {self.schema.target}")
            response = family.of(family.links[0], y)
            level = response.start(response.standardised(y), torch.ones_like(y))
            self.made = FamilyHead(NUMBER, response, level)
        return found

    def essence(self) -> Mapping[str, np.ndarray]:
        """And the units and the start of a family."""
        if self.made is None:
            return super().essence()
        return {**super().essence(), "family": self.made.essence()}

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """The same."""
        if (family := self.family) is not None:
            self.made = FamilyHead.of(NUMBER, family, essence["family"])
        return super().recalled(essence)

    @property
    def head(self) -> Head:
        """A normal, or another family."""
        if self.family is None:
            column = self.schema.columns[self.target_index]
            return NumberHead(NUMBER, column.mean, column.sd)
        if self.made is None:
            raise UsageError("the network does not know its data yet: call prepare(data) with its rows")
        return self.made

    def predicted(self, rows: Rows, draws: Draws) -> Iterator[Predicted]:
        """The distribution of a new observation under each draw."""
        for index, new in self.predictives(rows, draws):
            yield Predicted(index, new, self.head.discrete)

    def redraw(self, data: Dataset, draws: Draws, tables: int) -> np.ndarray:
        """The table with its target drawn anew, each row from its own draw."""
        return _redrawn(self, data, draws, tables)


def _redrawn(bound: Neural, data: Dataset, draws: Draws, tables: int) -> np.ndarray:
    """Tables with the target of each unit drawn anew, by a draw of its own."""
    values, units = np.repeat(np.asarray(data.values)[None], tables, 0), bound.units(data)
    rows = bound.unit_rows(data)
    for table in values:
        found = []
        for _, new in bound.predictives(rows, draws):
            drawn = new.sample().double()
            which = torch.randint(len(drawn), drawn.shape[1:])
            found.append(drawn[which, torch.arange(drawn.shape[1])])
        table[:, bound.target_index] = torch.cat(found).numpy()[units]
    return values


def chosen(bounds: Mapping[str, tuple[type[Neural], type[Neural]]]) -> Callable[[Any, Schema], Neural]:
    """What makes the bound model of a system, by its posterior and the kind of the target.

    Args:
        bounds: by `posterior`, those of a label and of a number.
    """

    def bound_of(model: Any, schema: Schema) -> Neural:
        """The network of a model over a schema."""
        column = next((c for c in schema.columns if c.name == schema.target), None)
        classes, numbers = bounds[model.posterior]
        return (classes if column is None or column.labelled else numbers)(model, schema)

    return bound_of
