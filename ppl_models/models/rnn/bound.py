"""A recurrent network over sequences of rows."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.data import Dataset
from ppl_models.draws import Draws
from ppl_models.models.rnn.steps import StepTarget
from ppl_models.networks.recurrent import Recurrent, Steps
from ppl_models.networks.tabular import FARTHEST
from ppl_models.neural.bound import Neural
from ppl_models.neural.natural import NaturalBound
from ppl_models.neural.posteriors import Drawn, HeadBound, MembersBound
from ppl_models.neural.targets import Classes, Numbers, chosen
from ppl_models.neural.training import Network, NetworkTarget, parts

PART, LEAST, MANY = 200, 10, 40
"""Steps of a part of a sequence that is trained on, where the target is of steps: at most, at least, and such
that there are about so many parts."""

BATCH = 64
"""Sequences of a mini-batch."""


class Reading(NamedTuple):
    """How sequences are read.

    Attributes:
        steps: whether the target is of steps.
        masked: whether cells of numbers were missing in the fit.
    """

    steps: bool
    masked: bool


def constant(data: Dataset, target: int) -> bool:
    """Whether the target has one value in every sequence, of which there are several."""
    if len(data.lengths) < 2:
        return False
    for rows in data.sequences():
        y = rows[:, target]
        y = y[~np.isnan(y)]
        if len(y) and (y != y[0]).any():
            return False
    return True


@dataclass(eq=False)
class Recurrences(Neural):
    """Sequences, each a unit where the target is of them, else each step."""

    exchangeable: bool = False
    batch_size = BATCH

    @property
    def describe(self) -> str:
        """Its size: `64 recurrent units, 4 members`."""
        m = self.model
        of = "" if self.coding is None else (" of steps" if self.coding.steps else " of sequences")
        return f"{m.units} recurrent units{of}, {self.members} member{'s' * (self.members > 1)}"

    @property
    def numbers_in(self) -> list[int]:
        """Positions of predictors that are numbers."""
        return [j for j in self.predictors if not self.schema.columns[j].labelled]

    @property
    def labels_in(self) -> list[int]:
        """Positions of predictors that are labels."""
        return [j for j in self.predictors if self.schema.columns[j].labelled]

    def coded(self, data: Dataset) -> Reading:
        """By the rows of the fit."""
        masked = bool(np.isnan(data.values[:, self.numbers_in]).any())
        return Reading(not constant(data, self.target_index), masked)

    def coded_by(self, essence: np.ndarray) -> Reading:
        """So."""
        return Reading(*(bool(each) for each in essence))

    def units(self, data: Dataset) -> np.ndarray:
        """The sequence of a row; the row itself where the target is of steps."""
        if self.coding.steps:
            return np.arange(data.rows)
        return np.repeat(np.arange(len(data.lengths)), data.lengths)

    def targets(self, data: Dataset) -> np.ndarray:
        """The target of each unit: the first cell of a sequence that is there."""
        y = data.values[:, self.target_index]
        if self.coding.steps:
            return np.array(y)
        found = np.full(len(data.lengths), np.nan)
        for i, lo in enumerate(data.offsets[:-1]):
            own = y[lo : lo + data.lengths[i]]
            own = own[~np.isnan(own)]
            if len(own):
                found[i] = own[0]
        return found

    def outputs_each(self, inputs: Steps) -> Tensor:
        """The steps of a sequence, or one."""
        return inputs.length if self.coding.steps else super().outputs_each(inputs)

    def weights(self, data: Dataset) -> None:
        """None: rows follow one another."""
        return None

    def inputs(self, data: Dataset) -> Steps:
        """Numbers in units of their column and of their sequence, with flags, and labels."""
        return self.steps(data, data.lengths)

    def steps(self, data: Dataset, lengths: np.ndarray) -> Steps:
        """The same of parts of sequences, by the lengths of these.

        Args:
            data: the rows.
            lengths: steps of each part, which sum to the rows.
        """
        columns = [self.schema.columns[j] for j in self.numbers_in]
        mean, sd = (np.array([getattr(c, name) for c in columns]) for name in ("mean", "sd"))
        raw = np.clip((data.values[:, self.numbers_in] - mean) / sd, -FARTHEST, FARTHEST)
        owner = np.repeat(np.arange(len(data.lengths)), data.lengths)
        seen = ~np.isnan(raw)
        x = np.where(seen, raw, 0.0)
        starts = data.offsets[:-1]
        count = np.maximum(np.add.reduceat(seen, starts, dtype=float), 1.0) if len(x) else x
        own = np.add.reduceat(x, starts) / count if len(x) else x
        spread = np.sqrt(np.add.reduceat(np.where(seen, (x - own[owner]) ** 2, 0.0), starts) / count)
        spread = np.where(spread > 1e-6, spread, 1.0)
        scaled = np.where(seen, (x - own[owner]) / spread[owner], 0.0)
        parts = [x, scaled] + ([~seen] if self.coding.masked else [])
        levels = np.array([len(self.schema.columns[j].levels) + 1 for j in self.labels_in], np.int64)
        first = np.concatenate([[0], np.cumsum(levels)])[:-1].astype(np.int64)
        cells = data.values[:, self.labels_in]
        codes = (np.where(np.isnan(cells), levels - 1, cells) + first).astype(np.int64)
        return Steps(
            _padded(np.concatenate(parts, 1).astype(np.float32), lengths),
            _padded(codes, lengths),
            torch.from_numpy(np.array(lengths, np.int64)),
        )

    def backbone(self, features: int) -> nn.Module:
        """Recurrent units, and a dense layer."""
        m, P = self.model, len(self.numbers_in)
        levels = sum(len(self.schema.columns[j].levels) + 1 for j in self.labels_in)
        wide = P * (2 + self.coding.masked)
        return Recurrent(
            wide, levels, len(self.labels_in), m.units, m.layers, features, self.members, self.dropout,
            self.coding.steps,
        )  # fmt: skip

    def objective(self, data: Dataset, seed: int, network: Network | None = None) -> NetworkTarget:
        """Of sequences; or of the steps of parts of them."""
        if not self.coding.steps:
            return super().objective(data, seed, network)
        index, y, _ = self.used(data)
        every = torch.full((data.rows,), torch.nan, dtype=torch.float64)
        every[index] = y.double()
        lengths = parts_of(data.lengths)
        inputs = self.steps(data, lengths)
        padded = _padded(every.numpy(), lengths, np.nan)
        return StepTarget(network or self.network(), self.head, inputs, padded, seed)

    def split(self, data: Dataset, seed: int) -> tuple[Tensor, Tensor]:
        """Positions of training and held-out units among those that have a target."""
        if not self.coding.steps:
            return super().split(data, seed)
        lengths = parts_of(data.lengths)
        train, held = parts(seed, len(lengths))
        owner = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
        index, _, _ = self.used(data)
        return tuple(torch.isin(owner[index], part).nonzero()[:, 0] for part in (train, held))  # type: ignore

    def part(self, data: Dataset, index: Tensor) -> tuple[Dataset, Tensor]:
        """All of the data, as steps have those around them; some sequences, where these are the units."""
        return (data, index) if self.coding.steps else super().part(data, index)


def parts_of(lengths: np.ndarray) -> np.ndarray:
    """Lengths of the parts, of `PART` steps at most, into which sequences are cut to be trained on."""
    found: list[int] = []
    size = min(max(int(lengths.sum()) // MANY, LEAST), PART)
    for length in lengths.tolist():
        number = max(1, -(-length // size))
        found += [length // number + (i < length % number) for i in range(number)]
    return np.array(found, np.int64)


def _padded(rows: np.ndarray, lengths: np.ndarray, fill: float = 0) -> Tensor:
    """(n, ...) rows of one sequence after another as (sequences, T, ...)."""
    longest = int(np.max(lengths, initial=0))
    found = np.full((len(lengths), longest, *rows.shape[1:]), fill, rows.dtype)
    found[np.arange(longest) < np.asarray(lengths)[:, None]] = rows
    return torch.from_numpy(found)


class Summed(Drawn, Recurrences):
    """With log likelihoods of whole sequences."""

    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """By sequence; of a single sequence by step."""
        found = super().log_likelihood(data, theta, device)
        if not self.coding.steps or len(data.lengths) == 1:
            return found
        total = torch.zeros(len(found), len(data.lengths), dtype=torch.float64)
        owner = torch.from_numpy(np.repeat(np.arange(len(data.lengths)), data.lengths))
        return total.index_add_(1, owner, found)


@dataclass(eq=False)
class RecurrentHead(Summed, HeadBound):
    """With the posterior of the head."""

    exchangeable: bool = False


@dataclass(eq=False)
class RecurrentNatural(Summed, NaturalBound):
    """With a posterior of all weights."""

    exchangeable: bool = False


@final
class RNNClasses(Classes, RecurrentHead):
    """Labels, with the posterior of the head."""


@final
class RNNNumbers(Numbers, RecurrentHead):
    """Numbers, with the posterior of the head."""


@dataclass(eq=False)
class RecurrentMembers(MembersBound, Recurrences):
    """By the members."""

    exchangeable: bool = False


@final
class RNNMemberClasses(Classes, RecurrentMembers):
    """Labels, by the members."""


@final
class RNNMemberNumbers(Numbers, RecurrentMembers):
    """Numbers, by the members."""


@final
class RNNNaturalClasses(Classes, RecurrentNatural):
    """Labels, with a posterior of all weights."""


@final
class RNNNaturalNumbers(Numbers, RecurrentNatural):
    """Numbers, with a posterior of all weights."""


BOUNDS = {
    "head": (RNNClasses, RNNNumbers),
    "members": (RNNMemberClasses, RNNMemberNumbers),
    "natural": (RNNNaturalClasses, RNNNaturalNumbers),
}
"""By `posterior`, of a label and of a number."""

bound_of = chosen(BOUNDS)
"""The network of a model over a schema."""
