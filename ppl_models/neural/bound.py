"""A network with a head over the columns of a table: how it is trained, and what it predicts."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.bound import Bound, weights_fault
from ppl_models.capabilities import NETWORKS, Fitted
from ppl_models.checks import Check
from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import quoted
from ppl_models.draws import Draws, Params
from ppl_models.errors import DataError, RunError, UsageError
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.inference.stochastic import train_gradient
from ppl_models.neural import checks
from ppl_models.neural.heads import Head
from ppl_models.neural.rows import Rows, Source
from ppl_models.neural.training import BLOCK, Network, NetworkTarget, applied, learning_rate, parts

if TYPE_CHECKING:
    import pandas as pd

TEMPERATURE = 50
"""Draws of the head that the temperature is chosen by."""


@dataclass(eq=False)
class Neural(Bound):
    """A network over the columns of a schema, for a target.

    A system says how rows become inputs (`coded`, `inputs`) and which backbone makes features of them.

    Attributes:
        model: the hyperparameters.
        schema: the columns.
        coding: how cells become inputs, once `prepare` has seen the rows.
        state: what was learned: weights of the network, the head's posterior, scales of features.
        made: a head that was made by the rows.
        device: where the network computes; its head, a regression in double precision, is on the CPU.
    """

    model: Any  # of `NeuralFields`, with the fields of a system
    schema: Schema
    coding: Any = None
    state: Params | None = None
    exchangeable: bool = True
    made: Any = None  # `FamilyHead`
    device: str = "cpu"

    whole: ClassVar[bool] = False
    """Whether all weights have a posterior."""

    def __post_init__(self) -> None:
        if self.schema.target is None:
            raise UsageError("a network needs a target: name the column to predict with --target")
        if not self.predictors:
            raise UsageError(f"there is nothing to predict {self.schema.target} from; add columns")

    # What a system adds

    @abstractmethod
    def coded(self, data: Dataset) -> Any:
        """How cells become inputs, from the rows of the fit."""

    @abstractmethod
    def coded_by(self, essence: np.ndarray) -> Any:
        """The same, from the numbers that say it."""

    @abstractmethod
    def inputs(self, data: Dataset) -> Any:
        """All rows as the backbone takes them."""

    @abstractmethod
    def backbone(self, features: int) -> nn.Module:
        """A new one, by torch's global generator: inputs ↦ (B, M, F)."""

    augment: Any = None
    batch_size = 128

    # What the target is

    @property
    @abstractmethod
    def head(self) -> Head:
        """The regression on the features."""

    @property
    def target_index(self) -> int:
        """The position of the target in the schema."""
        return self.schema.names.index(str(self.schema.target))

    @property
    def members(self) -> int:
        """M: one where all weights have a posterior, whose draws are what is averaged over."""
        return 1 if self.whole else self.model.members

    @property
    def dropout(self) -> float:
        """Of hidden units in training; none where it is weights that are drawn."""
        return 0.0 if self.whole else self.model.dropout

    @property
    def predictors(self) -> list[int]:
        """The positions of all other columns."""
        names = self.schema.names
        return [j for j in range(len(names)) if names[j] != self.schema.target]

    def units(self, data: Dataset) -> np.ndarray:
        """(n,) the position of the unit that a row belongs to; of the network's inputs, one a unit."""
        return np.arange(data.rows)

    def targets(self, data: Dataset) -> np.ndarray:
        """Cells of the target by unit, as they are."""
        return np.array(data.values[:, self.target_index])

    def outputs_each(self, inputs: Any) -> Tensor:
        """How many units each of the inputs has, (n,) int64."""
        return torch.ones(len(inputs), dtype=torch.int64)

    def weights(self, data: Dataset) -> np.ndarray | None:
        """How often each unit counts."""
        return data.weight

    # Training

    def prepare(self, data: Dataset) -> Self:
        """Fix the coding of cells by the rows of the fit; once done, further calls change nothing."""
        if self.coding is None:
            self.coding = self.coded(data)
        return self

    def essence(self) -> Mapping[str, np.ndarray]:
        """How cells are coded."""
        return {"coding": np.array(self.coding, np.float64)}

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """The same coding."""
        self.coding = self.coded_by(essence["coding"])
        return self

    def network(self, state: Params | None = None) -> Network:
        """A new network, by torch's generator of the CPU; or that with the weights that were learned."""
        with torch.random.fork_rng(devices=[], enabled=state is not None):
            net = Network(self.backbone(self.head.features), self.head)
        if state is not None:
            net.load_state_dict({n: state[n][0] for n, _ in net.named_parameters()}, strict=False)
            net.eval().requires_grad_(False)
        return net.to(self.device)

    def to(self, device: str) -> Self:
        """The same with its network on a device."""
        return self if device == self.device else replace(self, device=device)

    def used(self, data: Dataset) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positions of units that have a target, their targets inside, and their weights.

        Raises:
            DataError: none has one, or all are of one class.
        """
        y, w = self.targets(data), self.weights(data)
        index = np.flatnonzero(~np.isnan(y))
        name = quoted(str(self.schema.target))
        if len(index) < 2:
            raise DataError(f"{data.source}, column {name}: fewer than two rows have a target")
        column = self.schema.columns[self.target_index]
        if column.labelled and len(np.unique(y[index])) < 2:
            only = column.levels[int(y[index[0]])]
            raise DataError(f"{data.source}, column {name}: all rows are of one class, {quoted(only)}")
        weight = None if w is None else np.array(w[index])
        if column.labelled and self.model.class_weight == "balanced":
            codes = y[index].astype(int)
            each = np.bincount(codes, weight, len(column.levels))
            total, present = each.sum(), np.count_nonzero(each)
            factor = (total / (present * np.maximum(each, 1e-300)))[codes]
            weight = factor if weight is None else weight * factor
        inside = self.head.inside(torch.from_numpy(y[index]))
        return torch.from_numpy(index), inside, None if weight is None else torch.from_numpy(weight)

    def objective(self, data: Dataset, seed: int, network: Network | None = None) -> NetworkTarget:
        """The objective of a fit, with a new network if none is given."""
        index, y, weight = self.used(data)
        inputs, y = self.inputs(data).at(index), y.to(self.head.dtype)
        return NetworkTarget(network or self.network(), self.head, inputs, y, weight, seed, self.augment)

    def train(self, data: Dataset, settings: NetworkSettings, course: Course) -> Trained:
        """The network by the gradient rule, stopped by held-out rows; then the posterior on its features."""
        on = self.to(settings.device)
        target = on.objective(data, settings.seed)
        if settings.compile:
            target.loss = torch.compile(target.loss)  # type: ignore[method-assign]
        size = self.batch_size if target.rows > 2_000 else min(self.batch_size, 64)
        found = train_gradient(target, settings, course, batch_size=size, **on.rule(target))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + 6)
            more, elbo = on.finish(found.params, data, settings.seed)
        names = [self.schema.names[j] for j in self.predictors]
        missing = int(np.isnan(self.targets(data)).sum())
        notes = (f"{missing:,} rows without {self.schema.target} were left out",) if missing and names else ()
        return replace(found, params={**found.params, **more}, elbo=elbo, notes=(*found.notes, *notes))

    def rule(self, target: NetworkTarget) -> dict[str, Any]:
        """How the gradient rule goes about it, for `train_gradient`."""
        return {"learning_rate": learning_rate(target.module), "weight_decay": self.model.weight_decay}

    @abstractmethod
    def finish(self, params: Params, data: Dataset, seed: int) -> tuple[Params, float]:
        """What follows from the weights: further parameters, and the ELBO or log probability in nats."""

    def scaled(
        self, params: Params, data: Dataset, train: Tensor, seed: int
    ) -> tuple[dict[str, Tensor], Rows]:
        """Scales of the features of the training units, and units that have a target by these.

        Args:
            params: weights.
            data: the rows of the fit.
            train: positions of the training units among those that have a target.
            seed: of the fit.
        """
        index, _, _ = self.used(data)
        inputs = self.inputs(data)
        raw, out = applied(self.network(params), inputs, self.by_members)
        raw = raw[index]
        sd = raw[train].std(0, correction=0)
        more = {"feature.mean": raw[train].mean(0), "feature.sd": torch.where(sd > 1e-5, sd, 1.0)}
        state = {name: value[None] for name, value in more.items()}
        Z = replace(self, state=state).standardised(raw)
        more |= {"feature.whiten": checks.whitening(Z[train]), "seed": torch.tensor([seed])}
        y = torch.from_numpy(self.targets(data))[index]
        source = Source(inputs, index) if self.whole else None
        return more, Rows(Z, y, None if out is None else out[:, index], source)

    def temper(self, rows: Rows, draws: Draws, weight: Tensor | None) -> float:
        """The temperature by the score of held-out rows; 1 without any."""
        if not len(rows.y):
            return 1.0
        w = torch.ones(len(rows.y), dtype=torch.float64) if weight is None else weight

        def score(temperature: float) -> float:
            found = [new.log_prob(rows.y[torch.from_numpy(at)]) for at, new in
                     self.predictives(rows, draws, temperature)]  # fmt: skip
            each = torch.cat([f.double().logsumexp(0) for f in found])
            return float((each @ w) / w.sum())

        return self.head.temperature(score)

    # After training

    def learned(self, params: Params) -> dict[str, Any]:
        """The weights, for `at`."""
        return {NETWORKS: dict(params)}

    def at(self, learned: Mapping[str, Any]) -> Self:
        """The same with the weights that were learned."""
        return replace(self, state=learned[NETWORKS]) if learned else self

    def known(self, name: str) -> Tensor:
        """A parameter that training left.

        Raises:
            RunError: it was stopped before.
        """
        if self.state is None or name not in self.state:
            raise RunError(
                "the fit was stopped before its predictions were ready; `ppl resume` goes on with it"
            )
        return self.state[name][0]

    @property
    def temperature(self) -> float:
        """T."""
        return float(self.known("temperature"))

    @cached_property
    def trained_network(self) -> Network:
        """The network with the weights that were learned."""
        return self.network(self.state)

    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Not known from the schema alone."""
        return None

    def params_fault(self, params: Params) -> str:
        """Those of the network, and of what was learned of its features, as far as it is there yet."""
        with torch.random.fork_rng(devices=[]):
            shapes: dict[str, Any] = {n: p.shape for n, p in self.network().named_parameters()}
        F = (self.head.features,)
        own = {"feature.mean": F, "feature.sd": F, "temperature": (1,), "seed": (1,)}
        own |= (
            {"feature.whiten": (*F, *params["feature.whiten"].shape[2:])}
            if "feature.whiten" in params
            else {}
        )
        own |= {f"sd.{name}": shape for name, shape in shapes.items()}
        shapes |= {name: shape for name, shape in own.items() if name in params}
        seed = params.get("seed")
        if seed is not None and (seed.dtype != torch.int64 or (seed < 0).any()):
            return "seed is no seed"
        return weights_fault(params, shapes)

    def numbers(self, data: Dataset) -> int:
        """Rows × outputs."""
        return data.rows * self.head.outputs

    @property
    def size(self) -> int:
        """The number of weights of the network."""
        with torch.random.fork_rng(devices=[]):
            return sum(p.numel() for p in self.network().parameters())

    def working_bytes(self, settings: Training) -> int:
        """The head's matrices, and features of some rows."""
        return 8 * (8 * min(self.head.dimension, 4_000) ** 2 + BLOCK * 4_096)

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Held-out rows, calibration, and how far rows are from those of the training."""
        return checks.checks(self, fitted)

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Sizes, calibration and what each column is worth: see `ppl_models.neural.checks`."""
        return checks.summarise(self, fitted, tails)

    def glance(self, fitted: Fitted) -> "pd.DataFrame":
        """The same table, its largest part."""
        import pandas as pd

        table = pd.DataFrame.from_dict(checks.summarise(self, fitted, (0.055, 0.945)), orient="index")
        table.index.name = "quantity"
        return table.head(checks.SHOWN).reset_index()

    # Predictions, by `predictives`

    by_members = False

    @abstractmethod
    def predictives(
        self, rows: Rows, draws: Draws, temperature: float | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Positions of rows, and the distribution of new observations of them under each draw.

        Args:
            rows: with their features.
            draws: of θ.
            temperature: T; the one that was chosen if not given.
        """

    def rows(self, data: Dataset, device: str = "cpu") -> Rows:
        """Rows with their features."""
        found = self.unit_rows(data).at(torch.from_numpy(self.units(data)))
        return found._replace(y=torch.from_numpy(np.array(data.values[:, self.target_index])))

    def unit_rows(self, data: Dataset) -> Rows:
        """The same with one row a unit."""
        inputs = self.inputs(data)
        raw, out = applied(self.trained_network, inputs, self.by_members)
        source = Source(inputs, torch.arange(len(raw))) if self.whole else None
        return Rows(self.standardised(raw), torch.from_numpy(self.targets(data)), out, source)

    def split(self, data: Dataset, seed: int) -> tuple[Tensor, Tensor]:
        """Positions of training and held-out units among those that have a target."""
        return parts(seed, len(self.used(data)[0]))

    def part(self, data: Dataset, index: Tensor) -> tuple[Dataset, Tensor]:
        """Data with the units at increasing positions, and their positions in it."""
        chosen = np.isin(self.units(data), index.numpy())
        return data.subset(chosen), torch.arange(len(index))

    def standardised(self, found: Tensor) -> Tensor:
        """[1, z] of features (n, F)."""
        z = (found - self.known("feature.mean")) / self.known("feature.sd")
        return torch.cat([torch.ones_like(z[:, :1]), z], 1)

    def latents(self, rows: Rows, draws: Draws) -> dict[str, np.ndarray]:
        """`feature_0` …, standardised, and `distance`, the root mean square of them decorrelated.

        One is what a row of the training has on average; rows far beyond are unlike those of the fit.
        """
        z = rows.Z[:, 1:]
        cells = {f"feature_{i}": z[:, i].numpy() for i in range(z.shape[1])}
        return cells | {"distance": checks.distance(rows.Z, self.known("feature.whiten")).numpy()}
