"""A network with a head over the columns of a table: how it is trained, and what it predicts."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.bound import Bayesian, Bound
from ppl_models.capabilities import NETWORKS, Fitted, Predicted, Probabilities
from ppl_models.checks import Check
from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import quoted
from ppl_models.draws import Draws, Params, Variables, number_of
from ppl_models.errors import DataError, RunError, UsageError
from ppl_models.inference.calibration import Calibrated, Learned, restored_guide
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.inference.stochastic import train_gradient
from ppl_models.neural import checks
from ppl_models.neural.heads import NAME, ClassHead, FeatureRows, Head, NumberHead
from ppl_models.neural.rows import Rows
from ppl_models.neural.training import BLOCK, Network, NetworkTarget, applied, learning_rate, parts

if TYPE_CHECKING:
    import pandas as pd

CELLS = 4_000_000
"""Draws × rows × outputs that are worked on at once."""

NUMBER, CLASS, PRODUCT, LEAST = 64, 64, 400, 16
"""Features of a number; of classes at most, such that features × classes stay within a product, at least."""

TEMPERATURE = 50
"""Draws of the head that the temperature is chosen by."""


@dataclass(eq=False)
class Neural(Bound):
    """A network over the columns of a schema, for a target.

    A system says how rows become inputs (`coded`, `inputs`) and which backbone makes features of them.

    Attributes:
        model: the hyperparameters.
        schema: the columns.
        state: what was learned: weights of the network, the head's posterior, scales of features.
    """

    model: Any  # of `NeuralFields`, with the fields of a system
    schema: Schema
    coding: Any = None
    state: Params | None = None
    exchangeable: bool = True

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
        """A new network, by torch's global generator; or that with the weights that were learned."""
        with torch.random.fork_rng(devices=[], enabled=state is not None):
            net = Network(self.backbone(self.head.features), self.head.features, self.head.outputs)
        if state is not None:
            net.load_state_dict({n: state[n][0] for n, _ in net.named_parameters()}, strict=False)
            net.eval().requires_grad_(False)
        return net

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
        inside = self.inside(torch.from_numpy(y[index]))
        return torch.from_numpy(index), inside, None if weight is None else torch.from_numpy(weight)

    @abstractmethod
    def inside(self, y: Tensor) -> Tensor:
        """Targets as the head takes them: codes int64, or numbers in units of their sd."""

    def objective(self, data: Dataset, seed: int, network: Network | None = None) -> NetworkTarget:
        """The objective of a fit, with a new network if none is given."""
        index, y, weight = self.used(data)
        small = y.float() if y.is_floating_point() else y
        inputs = self.inputs(data).at(index)
        return NetworkTarget(network or self.network(), self.head, inputs, small, weight, seed, self.augment)

    def train(self, data: Dataset, settings: NetworkSettings, course: Course) -> Trained:
        """The network by the gradient rule, stopped by held-out rows; then the posterior on its features."""
        target = self.objective(data, settings.seed)
        if settings.compile:
            target.loss = torch.compile(target.loss)  # type: ignore[method-assign]
        found = train_gradient(
            target,
            settings,
            course,
            learning_rate=learning_rate(target.module),
            batch_size=self.batch_size if target.rows > 2_000 else min(self.batch_size, 64),
            weight_decay=self.model.weight_decay,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + 6)
            more, elbo = self.finish(found.params, data, settings.seed)
        names = [self.schema.names[j] for j in self.predictors]
        missing = int(np.isnan(self.targets(data)).sum())
        notes = (f"{missing:,} rows without {self.schema.target} were left out",) if missing and names else ()
        return replace(found, params={**found.params, **more}, elbo=elbo, notes=(*found.notes, *notes))

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
        raw, out = applied(self.network(params), self.inputs(data), self.by_members)
        raw = raw[index]
        sd = raw[train].std(0, correction=0)
        more = {"feature.mean": raw[train].mean(0), "feature.sd": torch.where(sd > 1e-5, sd, 1.0)}
        state = {name: value[None] for name, value in more.items()}
        Z = replace(self, state=state).standardised(raw)
        more |= {"feature.whiten": checks.whitening(Z[train]), "seed": torch.tensor([seed])}
        y = torch.from_numpy(self.targets(data))[index]
        return more, Rows(Z, y, None if out is None else out[:, index])

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
        raw, out = applied(self.trained_network, self.inputs(data), self.by_members)
        return Rows(self.standardised(raw), torch.from_numpy(self.targets(data)), out)

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


@dataclass(eq=False)
class HeadBound(Neural, Bayesian):
    """With the posterior of the head's coefficients, given the features."""

    states: int = LEAST
    identified: bool = False

    @property
    def parameters(self) -> int:
        """Of the head, whose posterior it is."""
        return self.head.dimension

    def finish(self, params: Params, data: Dataset, seed: int) -> tuple[Params, float]:
        """Features, the head's posterior on the training rows, and the temperature by the held-out ones."""
        _, y, weight = self.used(data)
        train, held = self.split(data, seed)
        more, rows = self.scaled(params, data, train, seed)
        net, sd = self.network(params), more["feature.sd"]
        W, b = net.output.weight.double(), net.output.bias.double()
        centre = self.head.centre(W * sd, b + W @ more["feature.mean"])
        own, other = (None if weight is None else weight[at] for at in (train, held))
        judges = (rows.Z[held], y[held], other) if len(held) else None
        found, elbo, _ = self.head.fit(rows.Z[train], y[train], own, centre, judges)
        more |= {f"head.{name}": value for name, value in found.items()}
        theta = self.head.draw(found, TEMPERATURE)
        T = self.temper(rows.at(held), theta, other)
        more["temperature"] = torch.tensor([T], dtype=torch.float64)
        return {name: value[None] for name, value in more.items()}, elbo

    def calibrate(self, params: Params, data: Dataset, device: str, seed: int) -> Calibrated:
        """As it was trained."""
        return Calibrated("Gaussian", Learned(self, params))

    def restored(self, method: str, learned: Params, params: Params) -> Calibrated:
        """What `calibrate` gave."""
        return restored_guide(self, method, learned, params)

    def _own(self, params: Params) -> dict[str, Tensor]:
        found = {n.removeprefix("head."): v[0] for n, v in params.items() if n.startswith("head.")}
        if not found:
            self.known("head.loc")
        return found

    def draw(self, params: Params, draws: int) -> Draws:
        """θ of the head, by torch's global generator."""
        return self.head.draw(self._own(params), draws)

    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log density of its posterior as it was fitted, (S,)."""
        return self.head.log_q(theta, self._own(params))

    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of the prior at the scale that the evidence chose, (S,)."""
        return self.head.log_prior(theta, self._own(self.state or {}))

    def dataset_batch(self, data: Dataset, device: str = "cpu") -> FeatureRows:
        """The training rows, without those held out, by their features."""
        index, y, weight = self.used(data)
        train, _ = self.split(data, int(self.known("seed")))
        Z = self.unit_rows(data).Z[index[train]]
        return FeatureRows(Z, y[train], None if weight is None else weight[train])

    def log_evidence(self, batch: FeatureRows, theta: Draws) -> Tensor:
        """Log p(y | features, θ) of the training rows, (S,)."""
        return self.head.log_evidence(theta, batch)

    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """w_n log p(y_n | features, θ), (S, n); 0 for rows that lack the target."""
        index, y, _ = self.used(data)
        out = torch.zeros(number_of(theta), len(self.targets(data)), dtype=torch.float64)
        found = self.head.log_likelihood(theta, self.unit_rows(data).Z[index], y)
        w = self.weights(data)
        out[:, index] = found if w is None else found * torch.from_numpy(np.array(w))[index]
        return out

    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """Coefficients of the standardised features, intercept first; σ of a number in the user's units."""
        values: Variables = {}
        for site, value in theta[NAME].items():
            if site == "coefficient":
                dims = ("feature",) if value.dim() == 2 else ("feature", "contrast")
                values[site] = (dims, value.numpy())
            else:
                values["sigma"] = ((), value.exp().numpy() * getattr(self.head, "sd", 1.0))
        names = ["intercept", *(f"feature_{i}" for i in range(self.head.features))]
        coords: dict[str, Any] = {"feature": names}
        if self.head.outputs > 1:
            coords["contrast"] = list(range(self.head.outputs - 1))
        return values, coords

    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """The table with its target drawn anew, once a draw, (S, n, C)."""
        out = np.repeat(np.asarray(data.values)[None], number_of(theta), 0)
        found = [new.sample().double() for _, new in self.predictives(self.unit_rows(data), theta)]
        out[:, :, self.target_index] = torch.cat(found, 1).numpy()[:, self.units(data)]
        return out

    def predictives(
        self, rows: Rows, draws: Draws, temperature: float | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Block by block."""
        T = self.temperature if temperature is None else temperature
        size = max(1, CELLS // (number_of(draws) * self.head.outputs))
        for lo in range(0, len(rows.Z), size):
            Z = rows.Z[lo : lo + size]
            yield np.arange(lo, lo + len(Z)), self.head.predictive(draws, Z, T)


@dataclass(eq=False)
class MembersBound(Neural):
    """Without a posterior: the members of the network, each with its own outputs."""

    @property
    def parameters(self) -> int:
        """The weights."""
        return self.size

    def finish(self, params: Params, data: Dataset, seed: int) -> tuple[Params, float]:
        """Scales of features, and the temperature by the held-out rows."""
        _, _, weight = self.used(data)
        train, held = self.split(data, seed)
        more, rows = self.scaled(params, data, train, seed)
        at = held if len(held) else train
        T = self.temper(rows.at(at), {}, None if weight is None else weight[at])
        more["temperature"] = torch.tensor([T], dtype=torch.float64)
        own = [new.log_prob(rows.at(train).y[torch.from_numpy(i)]).double() for i, new in
               self.predictives(rows.at(train), {}, T)]  # fmt: skip
        total = sum(float((each.logsumexp(0) - np.log(len(each))).sum()) for each in own)
        return {name: value[None] for name, value in more.items()}, total

    by_members = True

    def predictives(
        self, rows: Rows, draws: Draws, temperature: float | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Each member as a draw."""
        T = self.temperature if temperature is None else temperature
        if rows.out is None:
            raise RunError("these rows have no outputs of members")
        for lo in range(0, len(rows.y), BLOCK):
            out = rows.out[:, lo : lo + BLOCK]
            yield np.arange(lo, lo + out.shape[1]), self.head.from_outputs(out, T)


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

    def inside(self, y: Tensor) -> Tensor:
        """Codes."""
        return y.to(torch.int64)

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

    @cached_property
    def head(self) -> NumberHead:
        """A normal."""
        column = self.schema.columns[self.target_index]
        return NumberHead(NUMBER, column.mean, column.sd)

    def inside(self, y: Tensor) -> Tensor:
        """In units of the target's sd."""
        return (y - self.head.mean) / self.head.sd

    def predicted(self, rows: Rows, draws: Draws) -> Iterator[Predicted]:
        """The distribution of a new observation under each draw."""
        for index, new in self.predictives(rows, draws):
            yield Predicted(index, new)

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


def chosen(
    classes: type[Neural], numbers: type[Neural], member_classes: type[Neural], member_numbers: type[Neural]
) -> "Callable[[Any, Schema], Neural]":
    """What makes the bound model of a system, by its posterior and the kind of the target.

    Args:
        classes: of a label, with a head.
        numbers: of a number, with a head.
        member_classes: of a label, by members.
        member_numbers: of a number, by members.
    """

    def bound_of(model: Any, schema: Schema) -> Neural:
        """The network of a model over a schema."""
        column = next((c for c in schema.columns if c.name == schema.target), None)
        label = column is None or column.labelled
        if model.posterior == "members":
            return (member_classes if label else member_numbers)(model, schema)
        return (classes if label else numbers)(model, schema)

    return bound_of
