"""A recurrent network that goes on from the end of sequences: see `ppl_models.models.rnn.model`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bound
from ppl_models.capabilities import NETWORKS, Ahead, Fitted
from ppl_models.checks import Check, Level
from ppl_models.data import Dataset, Schema
from ppl_models.draws import Draws, Params
from ppl_models.errors import DataError, UsageError
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.inference.stochastic import train_gradient
from ppl_models.models.rnn.fields import RNNFields
from ppl_models.models.rnn.series import CALENDAR, Series, after, calendar, season_of
from ppl_models.models.rnn.walking import Emissions, Walker, WalkTarget

_gamma: Any = torch._standard_gamma  # pyright: ignore[reportPrivateImportUsage]

PATHS = 400
"""Paths that are simulated from the end of each sequence."""

WINDOW, WINDOWS, LEAST = 200, 40, 12
"""Steps of a window that is trained on: at most, and such that there are about so many; at least."""

WARM = 4
"""Seasons, or hundreds of steps, of the past that a forecast is warmed up by."""


@final
@dataclass(eq=False)
class Forecaster(Bound):
    """What follows a sequence of numbers and counts."""

    model: RNNFields
    schema: Schema
    season: int | None = None
    masked: bool = False
    state: Params | None = None
    exchangeable: bool = False

    def __post_init__(self) -> None:
        labels = [c.name for c in self.schema.columns if c.labelled]
        if labels:
            raise UsageError(
                f"rnn forecasts numbers, and {labels[0]!r} is a label; leave it out with --ignore, or name a "
                "column to predict with --target"
            )

    def prepare(self, data: Dataset) -> Self:
        """Find the season, if it was not given."""
        if self.season is None:
            self.season = self.model.season or season_of(data)
            self.masked = not data.complete
        return self

    def essence(self) -> Mapping[str, np.ndarray]:
        """The season, and whether cells were missing."""
        return {"season": np.array([self.lag, self.masked], np.float64)}

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """The same season."""
        self.season, self.masked = int(essence["season"][0]), bool(essence["season"][1])
        return self

    @property
    def lag(self) -> int:
        """L."""
        return self.season or 1

    @cached_property
    def emissions(self) -> Emissions:
        """Counts, or numbers."""
        return Emissions(torch.tensor([c.kind == "count" for c in self.schema.columns]))

    @property
    def describe(self) -> str:
        """Its size: `64 recurrent units, season 48`."""
        season = f"season {self.lag}" if self.lag > 1 else "no season"
        return f"{self.model.units} recurrent units, {season}"

    @property
    def inputs(self) -> int:
        """Numbers that go in at each step."""
        return 4 * len(self.schema.columns) + CALENDAR

    def network(self, state: Params | None = None) -> Walker:
        """A new network, by torch's global generator; or that with the weights that were learned."""
        m, C = self.model, len(self.schema.columns)
        with torch.random.fork_rng(devices=[], enabled=state is not None):
            net = Walker(self.inputs, C, m.units, m.layers, m.dropout)
        if state is not None:
            net.load_state_dict({n: state[n][0] for n, _ in net.named_parameters()})
            net.eval().requires_grad_(False)
        return net

    @property
    def parameters(self) -> int:
        """The weights."""
        with torch.random.fork_rng(devices=[]):
            return sum(p.numel() for p in self.network().parameters())

    def working_bytes(self, settings: Training) -> int:
        """Weights, moments, and the activations of some windows."""
        return 16 * self.parameters + 4 * 64 * WINDOW * (self.inputs + 8 * self.model.units)

    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Of the weights; and T."""
        with torch.random.fork_rng(devices=[]):
            own = {n: tuple(p.shape) for n, p in self.network().named_parameters()}
        return own | {"temperature": (1,)}

    def numbers(self, data: Dataset) -> int:
        """Steps of all paths."""
        return data.rows * PATHS

    def rows(self, data: Dataset, device: str = "cpu") -> list[Series]:
        """Each sequence by itself."""
        found, at = [], 0
        for x in data.sequences():
            times = None if data.times is None else data.times[at : at + len(x)]
            found.append(self._series(np.array(x), calendar(times, len(x))))
            at += len(x)
        return found

    def _series(self, x: np.ndarray, days: np.ndarray) -> Series:
        mean = np.array([c.mean for c in self.schema.columns])
        filled = x.copy()
        for t in range(len(x)):
            hole = np.isnan(filled[t])
            filled[t, hole] = (filled[t - 1] if t else mean)[hole]
        gap = filled[self.lag :] - filled[: -self.lag] if len(x) > self.lag else np.zeros((0, x.shape[1]))
        sd = np.array([c.sd for c in self.schema.columns])
        # a robust scale: few large differences are what the tails are for
        scale = np.abs(gap).mean(0) if len(gap) > 1 else sd
        counts = self.emissions.counts.numpy()
        scale = np.where(counts, np.maximum(filled.mean(0), 0.1), np.where(scale > 1e-12, scale, sd))
        return Series(x, filled, scale, filled.mean(0), days)

    def _inputs(self, s: Series, filled: np.ndarray, days: np.ndarray, t: np.ndarray) -> np.ndarray:
        """What is known before each of the steps t ≥ L + 1 of paths (..., T, C): (..., len(t), I)."""
        L, sd = self.lag, np.array([c.sd for c in self.schema.columns])
        before, base, base_before = (filled[..., t - k, :] for k in (1, L, L + 1))
        return np.concatenate(
            [
                (before - s.centre) / sd,
                (before - base_before) / s.scale,
                (base - before) / s.scale / (1 + 0.1 * L**0.5),
                (base - s.centre) / sd,
                np.broadcast_to(days[t], (*filled.shape[:-2], len(t), CALENDAR)),
            ],
            -1,
        )

    def windows(self, rows: list[Series]) -> tuple[Tensor, Tensor, Tensor]:
        """Windows of all sequences: see `WalkTarget`."""
        total = sum(max(len(s.x) - self.lag - 1, 0) for s in rows)
        size = int(np.clip(total // WINDOWS, LEAST, WINDOW))
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        counts = self.emissions.counts.numpy()
        for s in rows:
            t = np.arange(self.lag + 1, len(s.x))
            if not len(t):
                continue
            e = self._inputs(s, s.filled, s.calendar, t)
            u = np.where(counts, s.x[t], (s.x[t] - s.filled[t - self.lag]) / s.scale)
            for lo in range(0, len(t), size):
                pad = size - len(t[lo : lo + size])
                found.append(
                    (
                        np.pad(e[lo : lo + size], ((0, pad), (0, 0))),
                        np.pad(u[lo : lo + size], ((0, pad), (0, 0)), constant_values=np.nan),
                        s.scale[None],
                    )
                )
        columns = [torch.from_numpy(np.stack(v).astype(np.float32)) for v in zip(*found, strict=True)]
        return columns[0], columns[1], columns[2]

    def train(self, data: Dataset, settings: NetworkSettings, course: Course) -> Trained:
        """By the gradient rule on windows, stopped by held-out ones; then the temperature by these.

        Raises:
            DataError: no sequence is longer than a season.
        """
        rows = self.rows(data)
        if sum(max(len(s.x) - self.lag - 1, 0) for s in rows) < 2:
            longest = max(len(s.x) for s in rows)
            raise DataError(
                f"{data.source}: the longest sequence has {longest} rows; a forecast with a season of "
                f"{self.lag} needs at least {self.lag + 3}"
            )
        target = WalkTarget(self.network(), self.emissions, self.windows(rows), settings.seed)
        found = train_gradient(
            target, settings, course, learning_rate=2e-3, batch_size=8, weight_decay=self.model.weight_decay
        )
        target.module = self.network(found.params)
        index = target.held if len(target.held) else target.train
        T = max((math.exp(v) for v in np.linspace(-0.7, 0.7, 29)), key=lambda T: target.log_score(index, T))
        cells = int((~target.windows[1][target.train].isnan()).sum())
        elbo = target.log_score(target.train, T) * cells
        return replace(found, params={**found.params, "temperature": torch.tensor([[T]]).double()}, elbo=elbo)

    def learned(self, params: Params) -> dict[str, Any]:
        """The weights, for `at`."""
        return {NETWORKS: dict(params)}

    def at(self, learned: Mapping[str, Any]) -> Self:
        """The same with the weights that were learned."""
        return replace(self, state=learned[NETWORKS]) if learned else self

    @property
    def temperature(self) -> float:
        """T."""
        found = (self.state or {}).get("temperature")
        return 1.0 if found is None else float(found)

    @torch.no_grad()
    def ahead(self, rows: list[Series], steps: int, draws: Draws) -> Iterator[Ahead]:
        """Paths that are simulated from the end of each sequence, step by step."""
        net, counts, L = self.network(self.state), self.emissions.counts.numpy(), self.lag
        for s in rows:
            values = np.empty((PATHS, steps, s.x.shape[1]))
            days = np.concatenate([s.calendar, after(s.calendar, steps)])
            T, state = len(s.x), None
            warm = np.arange(max(L + 1, T - WARM * max(L, 100)), T)
            if len(warm):
                e = torch.from_numpy(self._inputs(s, s.filled, days, warm).astype(np.float32))
                _, state = net(e[None])
                state = state.expand(-1, PATHS, -1).contiguous()
            past = s.filled
            if T < L + 1:  # too short for a season: as if its first row had been before it
                past = np.concatenate([np.repeat(past[:1], L + 1 - T, 0), past])
                days = np.concatenate([np.repeat(days[:1], L + 1 - T, 0), days])
            path = np.concatenate([np.repeat(past[None], PATHS, 0), values], 1)
            for t in range(len(past), len(past) + steps):
                e = self._inputs(s, path, days, np.array([t]))
                out, state = net(torch.from_numpy(e.astype(np.float32)), state)
                scale = torch.from_numpy(s.scale).float()
                gap, count = self.emissions.sample(out[:, 0], scale, self.temperature)
                drawn = path[:, t - L] + s.scale * gap.double().numpy()
                path[:, t] = drawn if count is None else np.where(counts, count.double().numpy(), drawn)
            yield Ahead(path[:, len(past) :], {})

    def _target(self, fitted: Fitted) -> WalkTarget:
        return WalkTarget(
            self.network(self.state),
            self.emissions,
            self.windows(self.rows(fitted.data)),
            fitted.settings.seed,
        )

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Held-out windows against those of the training."""
        target = self._target(fitted)
        if not len(target.held):
            said = "the sequences are too short for any part of them to be held out"
            return [Check("held-out windows", None, "warn", said)]
        seen, unseen = (target.log_score(at, self.temperature) for at in (target.train, target.held))
        T, many = self.temperature, len(target.held)
        said = f"log density a cell {seen:.3f} of training windows, {unseen:.3f} of {many} held out"
        level: Level = "ok" if seen - unseen < 0.15 else "warn"
        said += "" if level == "ok" else ": it fits the rows more than what they share; use fewer --units"
        return [Check("held-out windows", seen - unseen, level, f"{said}, at temperature {T:.2f}")]

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """The season, the temperature, the log density of held-out windows, and the number of weights."""
        found = {"season": self.lag, "temperature": self.temperature}
        if fitted.data.rows:  # not of a run without its rows
            target = self._target(fitted)
            held = target.held if len(target.held) else target.train
            found["log_density"] = target.log_score(held, self.temperature)
        found["weights"] = self.parameters
        return {name: {"mean": float(value), "sd": 0.0} for name, value in found.items()}
