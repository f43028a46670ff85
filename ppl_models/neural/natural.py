"""A Gaussian over all weights of a network, each by itself: see `ppl_models.inference.natural`.

    y_n ~ p(· | f_θ(x_n), ψ),   (θ, ψ) ~ N(0, diag τ²),   q(θ, ψ) = N(m, diag σ²) ≈ p(y | θ, ψ)^{1/κ} p(θ, ψ)
    τ² = 2/I of weights whose I inputs are summed, 1 of all others

At κ = 1 q is the approximation of the posterior itself. In networks of more weights than rows it says nothing
then: a factorised Gaussian loses less by keeping the prior than by explaining the rows (Coker et al. 2022,
Wide mean-field Bayesian neural networks ignore the data, AISTATS, https://arxiv.org/abs/2202.11670). So κ
is below one unless it is asked for (Wenzel et al. 2020, How good is the Bayes posterior in deep neural
networks really?, ICML, https://arxiv.org/abs/2002.02405); ELBO and k-hat are always those of κ = 1.

The likelihood is that of one network, without members or dropout: a softmax, or a family of numbers with its
ψ among the weights (He, Zhang, Ren & Sun 2015, Delving deep into rectifiers, ICCV,
https://arxiv.org/abs/1502.01852, for the scale of the prior). Predictions are averaged over draws of all
weights, each of which is a pass through the network. Features and distances are those at the mean m.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, Variables, number_of, select_draws
from ppl_models.inference.gradient import put
from ppl_models.inference.natural import Natural
from ppl_models.inference.settings import Training
from ppl_models.neural.bound import TEMPERATURE
from ppl_models.neural.heads import NAME
from ppl_models.neural.posteriors import CELLS, Drawn
from ppl_models.neural.rows import Rows, Source
from ppl_models.neural.training import Network, NetworkTarget, placed

WEIGHTS = "weights"
"""The factor that weights are under."""

STEP = 0.2
"""ρ if none is given."""

DRAWS = 100
"""Draws of a network of many weights: the fewest that there are of any model."""

BOUND = 20
"""Draws that the ELBO is the mean of."""


class Weighed(NamedTuple):
    """Rows with their targets as they are, and how often each counts."""

    rows: Rows
    weight: Tensor | None


def prior_sd(shape: torch.Size) -> float:
    """τ of a tensor of weights, by the number of its inputs that are summed."""
    return math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 1.0


@dataclass(eq=False)
class NaturalBound(Drawn):
    """With a diagonal Gaussian over all weights."""

    whole: ClassVar[bool] = True

    @cached_property
    def sizes(self) -> Mapping[str, torch.Size]:
        """Shapes of the weights by name, in order."""
        with torch.random.fork_rng(devices=[]):
            return {name: p.shape for name, p in self.network().named_parameters()}

    @cached_property
    def _prior_sd(self) -> Tensor:
        return torch.cat([torch.full((s.numel(),), prior_sd(s)) for s in self.sizes.values()]).double()

    @property
    def parameters(self) -> int:
        """The weights."""
        return sum(shape.numel() for shape in self.sizes.values())

    @property
    def row_work(self) -> int:
        """Weights that a row meets, by which draws are budgeted."""
        return self.parameters

    def working_bytes(self, settings: Training) -> int:
        """And draws of all weights, and their log densities."""
        return super().working_bytes(settings) + 28 * DRAWS * self.parameters

    def rule(self, target: NetworkTarget) -> dict[str, Any]:
        """By natural gradients."""
        precision = {name: prior_sd(shape) ** -2 for name, shape in self.sizes.items()}
        return {
            "learning_rate": STEP,
            "natural": Natural(target.count / self.model.tempering, precision),
        }

    def finish(self, params: Params, data: Dataset, seed: int) -> tuple[Params, float]:
        """Scales of features, the temperature by the held-out rows, and the ELBO by draws."""
        _, _, weight = self.used(data)
        train, held = self.split(data, seed)
        more, rows = self.scaled(params, data, train, seed)
        theta = self.draw(params, TEMPERATURE)
        T = self.temper(rows.at(held), theta, None if weight is None else weight[held])
        more["temperature"] = torch.tensor([T], dtype=torch.float64)
        some = select_draws(theta, slice(0, BOUND))
        batch = Weighed(rows.at(train), None if weight is None else weight[train])
        each = self.log_evidence(batch, some) + self.log_prior(some) - self.log_q(some, params)
        return {name: value[None] for name, value in more.items()}, float(each.mean())

    def _moments(self, params: Params) -> tuple[Tensor, Tensor]:
        """Mean m and sd σ, (D,) each."""
        if "sd." + next(iter(self.sizes)) not in params:
            self.known("temperature")
        mean, sd = (
            torch.cat([params[f"{prefix}{name}"][0].flatten() for name in self.sizes]).double()
            for prefix in ("", "sd.")
        )
        return mean, sd

    def draw(self, params: Params, draws: int) -> Draws:
        """`value` (S, D) float32, all weights in the order of the network, by torch's global generator."""
        mean, sd = self._moments(params)
        value = mean + sd * torch.randn(draws, len(mean), dtype=torch.float64)
        return {WEIGHTS: {"value": value.float()}}

    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log density of the Gaussian, (S,)."""
        mean, sd = self._moments(params)
        return _normal((theta[WEIGHTS]["value"].double() - mean) / sd, sd)

    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of N(0, diag τ²), (S,)."""
        return _normal(theta[WEIGHTS]["value"].double() / self._prior_sd, self._prior_sd)

    def _split(self, value: Tensor) -> dict[str, Tensor]:
        """Weights (S, D) by name, (S, ...)."""
        parts = value.split([shape.numel() for shape in self.sizes.values()], -1)
        return {n: p.reshape(len(value), *s) for (n, s), p in zip(self.sizes.items(), parts, strict=True)}

    def dataset_batch(self, data: Dataset, device: str = "cpu") -> Weighed:
        """The training rows, without those held out."""
        index, _, weight = self.used(data)
        train, _ = self.split(data, int(self.known("seed")))
        y = torch.from_numpy(self.targets(data))
        source = Source(self.inputs(data), index[train])
        nothing = torch.zeros(len(train), 0, dtype=torch.float64)  # features are not asked for
        rows = Rows(nothing, y[index[train]], None, source)
        return Weighed(rows, None if weight is None else weight[train])

    def _each(self, rows: Rows, theta: Draws) -> Iterator[tuple[Tensor, Tensor]]:
        """Positions, and log p(y_n | θ_s) of these at T = 1, (S, m)."""
        for at, new in self.predictives(rows, theta, 1.0):
            index = torch.from_numpy(at)
            yield index, new.log_prob(rows.y[index]).double()

    def log_evidence(self, batch: Weighed, theta: Draws) -> Tensor:
        """Log p(y | x, θ) of the training rows, (S,)."""
        total = torch.zeros(number_of(theta), dtype=torch.float64)
        for index, each in self._each(batch.rows, theta):
            total += each.sum(1) if batch.weight is None else each @ batch.weight[index]
        return total

    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """w_n log p(y_n | x_n, θ), (S, n); 0 for rows that lack the target."""
        found = torch.zeros(number_of(theta), len(self.targets(data)), dtype=torch.float64)
        index, _, _ = self.used(data)
        w = self.weights(data)
        for at, each in self._each(self.unit_rows(data).at(index), theta):
            own = index[at]
            found[:, own] = each if w is None else each * torch.from_numpy(np.array(w))[own]
        return found

    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """The root mean square of each tensor of weights, and of a number σ, dispersion and the like.

        A weight by itself means nothing: units can be exchanged.
        """
        own = self._split(theta[WEIGHTS]["value"].double())
        own = {name: v for name, v in own.items() if v[0].numel()}  # a table without labels has no rows
        size = torch.stack([v.flatten(1).square().mean(1).sqrt() for v in own.values()], 1)
        values: Variables = {"weight_rms": (("tensor",), size.numpy())}
        if "shared" in own:
            hyper = self.head.hyper({NAME: {"shared": own["shared"]}})
            values |= {name: ((), each.numpy()) for name, each in hyper.items()}
        return values, {"tensor": list(own)}

    @torch.no_grad()
    def predictives(
        self, rows: Rows, draws: Draws, temperature: float | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """By a pass through the network for each draw, some inputs at a time."""
        T = self.temperature if temperature is None else temperature
        assert rows.source is not None
        inputs, unit = rows.source
        if not len(unit):
            return
        with torch.random.fork_rng(devices=[]):
            net = self.network().eval().requires_grad_(False)
        own = self._split(draws[WEIGHTS]["value"].to(self.device))
        S = number_of(draws)
        ends = self.outputs_each(inputs).cumsum(0)
        owner = torch.searchsorted(ends, unit, right=True)  # the input that each unit is of
        first = torch.cat([ends.new_zeros(1), ends])
        block = max(1, min(inputs.block, CELLS // (S * self.head.outputs)))
        for some in owner.unique().split(block):
            part = inputs.at(some).to(self.device)
            each = [_outputs(net, {name: v[s] for name, v in own.items()}, part).mean(1) for s in range(S)]
            out = torch.stack(each).cpu()
            lo, hi = (int(torch.searchsorted(owner, some[i], right=i != 0)) for i in (0, -1))
            mine = owner[lo:hi]
            start = torch.cat([ends.new_zeros(1), (first[some + 1] - first[some]).cumsum(0)])
            at = start[torch.searchsorted(some, mine)] + unit[lo:hi] - first[mine]
            yield np.arange(lo, hi), self.head.from_outputs(out[:, at], T)


def _outputs(net: Network, weights: Params, part: Any) -> Tensor:
    """What a network gives with other weights."""
    if placed(net).type == "cpu":
        return functional_call(net, dict(weights), (part,))
    put(net, weights)  # recurrent units of a GPU want their weights in one piece of memory, where they were
    return net(part)


def _normal(z: Tensor, sd: Tensor) -> Tensor:
    """Log density of independent normals from standardised values (S, D)."""
    return -0.5 * (z**2).sum(1) - sd.log().sum() - 0.5 * len(sd) * math.log(2 * math.pi)
