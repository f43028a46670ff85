"""A convolutional network over the pixels of images, or the columns of signals."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.data import Dataset
from ppl_models.errors import UsageError
from ppl_models.networks.images import Convolutional, Images, Shifts
from ppl_models.networks.tabular import FARTHEST
from ppl_models.neural.graph import Exported
from ppl_models.neural.natural import NaturalBound
from ppl_models.neural.posteriors import HeadBound, MembersBound
from ppl_models.neural.targets import Classes, Numbers, chosen


class Units(NamedTuple):
    """The mean and sd of all pixels of the fit, and whether some were missing."""

    mean: float
    sd: float
    masked: bool


@dataclass(eq=False)
class Pixels(Exported):
    """Rows of pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = [c.name for c in (self.schema.columns[j] for j in self.predictors) if c.labelled]
        labels = [] if self.schema.shape else labels
        if labels:
            raise UsageError(
                f"cnn takes numbers, and {labels[0]!r} is a label; leave it out with --ignore, or use mlp"
            )
        h, w, _ = self.shape
        if h * w < 2:
            raise UsageError(f"cnn needs at least 2 pixels or columns in a row, got {h * w}; use mlp")
        if self.model.shift:
            self.augment = Shifts(self.model.shift)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels; of a signal 1, its length and 1."""
        shape = self.schema.shape
        if shape is None:
            return 1, len(self.predictors), 1
        h, w, c = (*shape, 1)[:3]
        return h, w, c

    @property
    def describe(self) -> str:
        """Its size: `images of 28 × 28, 4 members`."""
        h, w, _ = self.shape
        what = f"signals of {w}" if h == 1 else f"images of {h} × {w}"
        return f"{what}, {self.members} member{'s' * (self.members > 1)}"

    def coded(self, data: Dataset) -> Units:
        """By all pixels of the fit."""
        x = np.asarray(data.values)[:, self.predictors]
        return Units(float(np.nanmean(x)), float(np.nanstd(x)) or 1.0, bool(np.isnan(x).any()))

    def coded_by(self, essence: np.ndarray) -> Units:
        """These."""
        mean, sd, masked = map(float, essence)
        return Units(mean, sd, bool(masked))

    def inputs(self, data: Dataset) -> Images:
        """Pixels in units of their sd, channels first."""
        return self.cell_inputs(torch.from_numpy(data.values[:, self.predictors]))

    def cell_inputs(self, cells: Tensor) -> Images:
        """Of their cells (n, P)."""
        h, w, c = self.shape
        x = ((cells - self.coding.mean) / self.coding.sd).clamp(-FARTHEST, FARTHEST).float()
        x = x.reshape(-1, h, w, c).permute(0, 3, 1, 2)
        missing = x.isnan()
        x = torch.where(missing, 0.0, x)
        if self.coding.masked:
            x = torch.cat([x, missing.float()], 1)
        return Images(x.contiguous())

    def backbone(self, features: int) -> nn.Module:
        """Blocks and dense layers."""
        h, w, c = self.shape
        return Convolutional((c * (1 + self.coding.masked), h, w), features, self.members, self.dropout)


@final
class CNNClasses(Classes, HeadBound, Pixels):
    """Labels, with the posterior of the head."""


@final
class CNNNumbers(Numbers, HeadBound, Pixels):
    """Numbers, with the posterior of the head."""


@final
class CNNMemberClasses(Classes, MembersBound, Pixels):
    """Labels, by the members."""


@final
class CNNMemberNumbers(Numbers, MembersBound, Pixels):
    """Numbers, by the members."""


@final
class CNNNaturalClasses(Classes, NaturalBound, Pixels):
    """Labels, with a posterior of all weights."""


@final
class CNNNaturalNumbers(Numbers, NaturalBound, Pixels):
    """Numbers, with a posterior of all weights."""


BOUNDS = {
    "head": (CNNClasses, CNNNumbers),
    "members": (CNNMemberClasses, CNNMemberNumbers),
    "natural": (CNNNaturalClasses, CNNNaturalNumbers),
}
"""By `posterior`, of a label and of a number."""

bound_of = chosen(BOUNDS)
"""The network of a model over a schema."""
