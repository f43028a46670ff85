"""A chain whose states have names, known of some rows."""

from typing import Self, final

import numpy as np

from ppl_models.data import Dataset
from ppl_models.errors import DataError
from ppl_models.latent.joint import Batch
from ppl_models.latent.topology import state_names
from ppl_models.models.hmm.bound import Chains


@final
class NamedBound(Chains):
    """States with the names of the labels, and perhaps further ones; rows without a label may be in any.

    Labels that later rows have count as evidence, as in the fit.
    """

    def names(self) -> list[str]:
        """The labels, then `unnamed_k` of states that have none."""
        column = self.schema.columns[self.schema.names.index(str(self.schema.target))]
        return state_names(column.levels, self.states)

    def prepare(self, data: Dataset) -> Self:
        """The same, if the labels can follow one another.

        Raises:
            DataError: they cannot, naming the row.
        """
        self._check_labels(data)
        return self

    def rows(self, data: Dataset, device: str = "cpu") -> Batch:
        """The rows on a device.

        Raises:
            DataError: labels are there that cannot follow one another.
        """
        self._check_labels(data)
        return super().rows(data, device)

    def _check_labels(self, data: Dataset) -> None:
        """Follow the states that are possible given the labels so far; at some row there may be none."""
        allowed, name = self.structure.topology, str(self.schema.target)
        if allowed is None:
            return
        labels, starts = data.column(name), set(data.offsets[:-1].tolist())
        now = allowed.begins
        for t, label in enumerate(labels.tolist()):
            now = allowed.begins if t in starts else allowed.follows[now].any(0)
            if not np.isnan(label):
                now = now & (np.arange(self.states) == label)
                if not now.any():
                    raise DataError(
                        f"{data.source}: row {t + 1} is {self.names()[int(label)]!r} in {name!r}, which "
                        "topology, forbid and start leave no way to"
                    )
