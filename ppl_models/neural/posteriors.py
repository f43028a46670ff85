"""Whose uncertainty there is: of the coefficients of a head on the features, or of the members."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bayesian
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, Variables, number_of
from ppl_models.errors import RunError
from ppl_models.inference.calibration import Calibrated, Learned, restored_guide
from ppl_models.neural.bound import TEMPERATURE, Neural
from ppl_models.neural.heads import NAME, FeatureRows
from ppl_models.neural.rows import Rows
from ppl_models.neural.training import BLOCK

CELLS = 4_000_000
"""Draws × rows × outputs that are worked on at once."""


class Drawn(Neural, Bayesian):
    """With a posterior whose draws are as training left them."""

    identified: bool = False

    def calibrate(self, params: Params, data: Dataset, device: str, seed: int) -> Calibrated:
        """As it was trained."""
        return Calibrated("Gaussian", Learned(self, params))

    def restored(self, method: str, learned: Params, params: Params) -> Calibrated:
        """What `calibrate` gave."""
        return restored_guide(self, method, learned, params)

    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """The table with its target drawn anew, once a draw, (S, n, C)."""
        out = np.repeat(np.asarray(data.values)[None], number_of(theta), 0)
        found = [new.sample().double() for _, new in self.predictives(self.unit_rows(data), theta)]
        out[:, :, self.target_index] = torch.cat(found, 1).numpy()[:, self.units(data)]
        return out


@dataclass(eq=False)
class HeadBound(Drawn):
    """With the posterior of the head's coefficients, given the features."""

    states: int = 16

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
        W, b = net.output.weight.double().cpu(), net.output.bias.double().cpu()
        centre = self.head.centre(W * sd, b + W @ more["feature.mean"])
        every = FeatureRows(rows.Z, y, weight)
        head = self.head if net.shared is None else self.head.trained(net.shared.cpu())
        found, elbo, _ = head.fit(every.at(train), centre, every.at(held) if len(held) else None)
        more |= {f"head.{name}": value for name, value in found.items()}
        theta = self.head.draw(found, TEMPERATURE)
        T = self.temper(rows.at(held), theta, None if weight is None else weight[held])
        more["temperature"] = torch.tensor([T], dtype=torch.float64)
        return {name: value[None] for name, value in more.items()}, elbo

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
        """Coefficients of the standardised features, intercept first; and what else the target has."""
        coefficient = theta[NAME]["coefficient"]
        dims = ("feature",) if coefficient.dim() == 2 else ("feature", "contrast")
        values: Variables = {"coefficient": (dims, coefficient.numpy())}
        values |= {name: ((), each.numpy()) for name, each in self.head.hyper(theta).items()}
        names = ["intercept", *(f"feature_{i}" for i in range(self.head.features))]
        coords: dict[str, Any] = {"feature": names}
        if self.head.outputs > 1:
            coords["contrast"] = list(range(self.head.outputs - 1))
        return values, coords

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
