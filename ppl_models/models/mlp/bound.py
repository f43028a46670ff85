"""A network of dense layers over the columns of a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from torch import Tensor, nn

from ppl_models.data import Dataset
from ppl_models.networks.tabular import CellCoding, Cells, Tabular
from ppl_models.neural.graph import Exported
from ppl_models.neural.natural import NaturalBound
from ppl_models.neural.posteriors import HeadBound, MembersBound
from ppl_models.neural.targets import Classes, Numbers, chosen


@dataclass(eq=False)
class Table(Exported):
    """Rows of cells, by their embeddings."""

    batch_size = 256

    @property
    def describe(self) -> str:
        """Its size: `layers of 96,96, 16 members`."""
        return f"layers of {','.join(map(str, self.model.hidden))}, {self.members} members"

    def coded(self, data: Dataset) -> CellCoding:
        """Bins by the rows of the fit."""
        return CellCoding(self.schema, self.predictors, np.asarray(data.values))

    def essence(self) -> Mapping[str, np.ndarray]:
        """The edges of the bins."""
        return {"coding": self.coding.edges.double().numpy()}

    def coded_by(self, essence: np.ndarray) -> CellCoding:
        """By the edges of these bins."""
        return CellCoding(self.schema, self.predictors, edges=essence)

    def inputs(self, data: Dataset) -> Cells:
        """Numbers and labels."""
        return self.coding.rows(np.asarray(data.values))

    def cell_inputs(self, cells: Tensor) -> Cells:
        """Numbers and labels of predictors."""
        at = {j: i for i, j in enumerate(self.predictors)}
        numbers, labels = ([at[j] for j in own] for own in (self.coding.numbers, self.coding.labels))
        return self.coding.cells(cells[:, numbers], cells[:, labels])

    def backbone(self, features: int) -> nn.Module:
        """Embeddings and layers."""
        m = self.model
        return Tabular(self.coding, m.hidden, features, self.members, self.dropout)


@final
class MLPClasses(Classes, HeadBound, Table):
    """Labels, with the posterior of the head."""


@final
class MLPNumbers(Numbers, HeadBound, Table):
    """Numbers, with the posterior of the head."""


@final
class MLPMemberClasses(Classes, MembersBound, Table):
    """Labels, by the members."""


@final
class MLPMemberNumbers(Numbers, MembersBound, Table):
    """Numbers, by the members."""


@final
class MLPNaturalClasses(Classes, NaturalBound, Table):
    """Labels, with a posterior of all weights."""


@final
class MLPNaturalNumbers(Numbers, NaturalBound, Table):
    """Numbers, with a posterior of all weights."""


BOUNDS = {
    "head": (MLPClasses, MLPNumbers),
    "members": (MLPMemberClasses, MLPMemberNumbers),
    "natural": (MLPNaturalClasses, MLPNaturalNumbers),
}
"""By `posterior`, of a label and of a number."""

bound_of = chosen(BOUNDS)
"""The network of a model over a schema."""
