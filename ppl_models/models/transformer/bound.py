"""A transformer over the columns of a schema: its values, its network, and what a run stores of it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bound
from ppl_models.capabilities import NETWORKS, Fitted, Graph
from ppl_models.checks import Check
from ppl_models.data import Dataset, Schema
from ppl_models.draws import Draws, Params
from ppl_models.errors import UsageError
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.inference.stochastic import train_gradient
from ppl_models.models.transformer.checks import checks, nats_by_field
from ppl_models.models.transformer.drawing import Temper
from ppl_models.models.transformer.fields import TransformerFields
from ppl_models.models.transformer.graph import graph
from ppl_models.models.transformer.objective import TokenTarget
from ppl_models.models.transformer.values import Values
from ppl_models.networks.attention import Transformer
from ppl_models.threads import PRODUCTS, threads_for

LEARNING_RATE = 6e-3
"""Step size, if not given."""

STEP_PLACES = 4_096
"""Places of a mini-batch, if not given."""

TRAINED, MOST_PASSES, MOST_STEPS = 8_000_000, 200, 4_000
"""Places that are trained on where the number of passes is not given, about; passes and steps at most."""


@dataclass(frozen=True, eq=False)
class TransformerBound(Bound):
    """What tables, sequences and texts share.

    What is learned are point estimates of the weights.

    Attributes:
        model: the hyperparameters.
        schema: the columns.
        values: of all fields, once the rows of the fit are known.
        temper: how values are drawn.
        device: where they are drawn, and sequences are scored.
    """

    model: TransformerFields
    schema: Schema
    values: Values | None = None
    temper: Temper = field(default_factory=Temper)
    device: str = "cpu"
    ends: bool = False

    @property
    def known(self) -> Values:
        """The values, after `prepare`."""
        if self.values is None:
            raise UsageError("a transformer knows its values only with the rows of the fit")
        return self.values

    def prepare(self, data: Dataset) -> Self:
        """Find the bins of numbers."""
        if self.values is not None:
            return self
        return replace(self, values=Values.of(data, self.model.bins, self._ending(data)))

    def _ending(self, data: Dataset) -> bool:
        """Whether sequences end."""
        return False

    def essence(self) -> Mapping[str, np.ndarray]:
        """The bins."""
        return self.known.arrays()

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """With the same bins."""
        return replace(self, values=Values.recalled(self.schema, essence))

    def tempered(self, temperature: float, top_p: float) -> Self:
        """The same, drawing with this temperature from the most probable values only."""
        return replace(self, temper=Temper(temperature, top_p))

    def to(self, device: str) -> Self:
        """The same, drawing on a device."""
        return replace(self, device=device)

    @property
    @abstractmethod
    def room(self) -> int:
        """Places of a row, or of a window, at most."""

    @property
    def describe(self) -> str:
        """Its size: `4 layers of 128, 1,234 values`."""
        m = self.model
        size = f"{m.layers} layer{'s' * (m.layers > 1)} of {m.width}"
        return size if self.values is None else f"{size}, {sum(self.values.sizes):,} values"

    def network(self, params: Params | None = None, device: str | torch.device = "cpu") -> Transformer:
        """A new network, by torch's global generator; or that with the weights that were learned."""
        m, v = self.model, self.known
        with torch.random.fork_rng(devices=[], enabled=params is not None):
            net = Transformer(v.sizes, m.width, m.layers, m.heads, self.room, m.dropout, v.smooth())
        if params is not None:
            net.load_state_dict({name: value[0] for name, value in params.items()}, strict=True)
            net.eval().requires_grad_(False)
        return net.to(device)

    def graph(self, draws: Draws) -> Graph:
        """What comes next: see `ppl_models.models.transformer.graph`."""
        return graph(self, draws)

    def net(self, draws: Draws, device: str | torch.device = "cpu") -> Transformer:
        """The network of a point estimate, S = 1."""
        return self.network(draws[NETWORKS], device)

    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Of the weights, where the values are known."""
        if self.values is None:
            return None
        with torch.random.fork_rng(devices=[]):
            return {name: tuple(p.shape) for name, p in self.network().named_parameters()}

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(int(np.prod(shape)) for shape in (self.shapes() or {}).values())

    def working_bytes(self, settings: Training) -> int:
        """Weights, gradients and moments; the activations of a mini-batch, and their gradients."""
        m = self.model
        places = max(STEP_PLACES, self.room * (getattr(settings, "batch_size", None) or 1))
        return 16 * self.parameters + 4 * places * (24 * m.width * m.layers + 2 * max(self.known.sizes))

    def numbers(self, data: Dataset) -> int:
        """Of the vectors of all cells."""
        return data.rows * len(self.schema.columns) * self.model.width

    @abstractmethod
    def target(self, data: Dataset, net: Transformer, seed: int) -> TokenTarget:
        """The objective of a fit."""

    def train(self, data: Dataset, settings: NetworkSettings, course: Course) -> Trained:
        """By the gradient rule with Muon, with steps that fall to zero, stopped by held-out rows."""
        net, m = self.network(device=settings.device), self.model
        notes = ()
        if settings.device.startswith("cpu") and (settings.precision != "float32" or settings.compile):
            notes = ("--precision bfloat16 and --compile are for a GPU; this fit was without them",)
            settings = replace(settings, precision="float32", compile=False)
        target = self.target(data, net, settings.seed)
        if settings.compile:
            net.compile(dynamic=True)
        size = min(settings.batch_size or max(1, STEP_PLACES // self.room), target.rows)
        places = max(target.rows * self.room, 1)
        steps = -(-target.rows // size)
        passes = m.passes or int(np.clip(min(TRAINED // places, MOST_STEPS // steps), 1, MOST_PASSES))
        matrices = frozenset(
            name for name, p in net.named_parameters() if name.startswith("blocks.") and p.dim() == 2
        )
        with threads_for(6 * size * self.room * self.parameters, PRODUCTS):
            found = train_gradient(
                target, settings, course,
                learning_rate=LEARNING_RATE, batch_size=size, passes=passes, matrices=matrices,
            )  # fmt: skip
        return replace(found, notes=(*found.notes, *notes))

    def judged(self, fitted: Fitted) -> TokenTarget:
        """The objective with the weights that were learned."""
        settings = fitted.settings
        return self.target(fitted.data, self.network(fitted.params, settings.device), settings.seed)

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether held-out rows are as probable, and next values as probable as they are said to be."""
        return checks(self.judged(fitted))

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """A row for each column: `nats` of a held-out cell given those before it, and its number of `values`.

        And a row `weights`, whose `values` are their number. Without the rows of the fit there are no nats.
        """
        v = self.known
        found: dict[str, dict[str, Any]] = {name: {} for name in self.schema.names}
        if fitted.data.rows:
            for name, nats in zip(
                self.schema.names, nats_by_field(self.judged(fitted), len(v.sizes)), strict=True
            ):
                found[name]["nats"] = nats
        for name, size in zip(self.schema.names, v.sizes, strict=True):
            found[name]["values"] = size
        return found | {"weights": {"values": self.parameters}}


def log_cells(log_p: Tensor, own: Tensor, outside: Tensor) -> Tensor:
    """Log ((1 − ε) p_b u_b(x) + ε c(x)) of cells from log p_b and the logs of the rest, float64."""
    return torch.logaddexp(log_p.double() + own, outside)
