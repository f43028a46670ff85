"""A recurrent network that goes on from the end of sequences: see `ppl_models.models.rnn.model`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bound, weights_fault
from ppl_models.capabilities import NETWORKS, Ahead, Fitted
from ppl_models.checks import Check, Level
from ppl_models.crps import crps
from ppl_models.data import Dataset, Schema
from ppl_models.draws import Draws, Params
from ppl_models.errors import DataError, UsageError
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.inference.stochastic import train_gradient
from ppl_models.models.rnn.fields import RNNFields
from ppl_models.models.rnn.series import CALENDAR, Series, after, calendar, season_of
from ppl_models.models.rnn.walking import Emissions, Tempered, Walker, WalkTarget
from ppl_models.neural.training import placed

_gamma: Any = torch._standard_gamma  # pyright: ignore[reportPrivateImportUsage]

PATHS = 400
"""Paths that are simulated from the end of each sequence."""

WINDOW, WINDOWS, LEAST = 200, 40, 12
"""Steps of a window that is trained on: at most, and such that there are about so many; at least."""

SHARE, ORIGINS, DRAWN = 8, 8, 100
"""Of long sequences one in so many windows is held out, the last; forecasts of them start at so many steps of
each of so many sequences, with so many paths."""

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of the location of the network that may be kept."""

FACTORS = np.linspace(0.0, 0.9, 10)
"""Logarithms of factors of the temperature of one step."""

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
    device: str = "cpu"
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
        return net.to(self.device)

    def to(self, device: str) -> Self:
        """The same with its network on a device; paths are drawn on the CPU."""
        return self if device == self.device else replace(self, device=device)

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
        return own | {"temperature": (1,), "share": (1,)}

    def params_fault(self, params: Params) -> str:
        """The weights; T and κ, which follow the steps, as far as they are there yet."""
        shapes = self.shapes() or {}
        return weights_fault(
            params, {n: s for n, s in shapes.items() if n in params or n not in Tempered._fields}
        )

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
        """What is known before each of the steps t ≥ L + 1 of paths (..., T, C): (..., len(t), I).

        Their calendar is (T, F), or one of each path.
        """
        L, sd = self.lag, np.array([c.sd for c in self.schema.columns])
        before, base, base_before = (filled[..., t - k, :] for k in (1, L, L + 1))
        return np.concatenate(
            [
                (before - s.centre) / sd,
                (before - base_before) / s.scale,
                (base - before) / s.scale / (1 + 0.1 * L**0.5),
                (base - s.centre) / sd,
                np.broadcast_to(days[..., t, :], (*filled.shape[:-2], len(t), CALENDAR)),
            ],
            -1,
        )

    def windows(self, rows: list[Series]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Windows of all sequences, and which are the last of long ones: see `WalkTarget`."""
        size = self._size(rows)
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        last: list[bool] = []
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
                last.append(t[lo] >= self._held_from(s, size))
        columns = [torch.from_numpy(np.stack(v).astype(np.float32)) for v in zip(*found, strict=True)]
        return (columns[0], columns[1], columns[2]), torch.tensor(last)

    def _size(self, rows: list[Series]) -> int:
        """Steps of a window."""
        return int(np.clip(sum(max(len(s.x) - self.lag - 1, 0) for s in rows) // WINDOWS, LEAST, WINDOW))

    def _held_from(self, s: Series, size: int) -> int:
        """The step from which a sequence is held out; its end if it has few windows."""
        number = -(-(len(s.x) - self.lag - 1) // size)
        return self.lag + 1 + size * (number - number // SHARE) if number >= SHARE else len(s.x)

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
        on = self.to(settings.device)
        target = WalkTarget(on.network(), self.emissions, *self.windows(rows), settings.seed)
        found = train_gradient(
            target, settings, course, learning_rate=2e-3, batch_size=8, weight_decay=self.model.weight_decay
        )
        target.module = on.network(found.params)
        index = target.held if len(target.held) else target.train
        grid = [Tempered(math.exp(v), share) for v in np.linspace(-0.7, 0.7, 29) for share in SHARES]
        by = self._calibrated(target.module, rows, max(grid, key=lambda each: target.log_score(index, each)))
        cells = int((~target.windows[1][target.train].isnan()).sum())
        elbo = target.log_score(target.train, by) * cells
        own = {name: torch.tensor([[value]]).double() for name, value in by._asdict().items()}
        return replace(found, params={**found.params, **own}, elbo=elbo)

    def _calibrated(self, net: Walker, rows: list[Series], by: Tempered) -> Tempered:
        """T raised by the CRPS of forecasts from origins in the last part of sequences, which was held out.

        Errors that hang together from step to step, which one step does not show, add up over many.
        """
        size = self._size(rows)
        steps = int(np.clip(self.lag, LEAST, 4 * LEAST))
        origins: list[tuple[Series, list[int]]] = []
        for s in rows:
            first, end = self._held_from(s, size), len(s.x) - steps
            if first <= end:
                origins.append((s, np.unique(np.linspace(first, end, ORIGINS).astype(int)).tolist()))
        origins = origins[:: -(-len(origins) // ORIGINS)] if origins else []
        if sum(len(starts) for _, starts in origins) < 5:
            return by

        def error(by: Tempered) -> float:
            found = []
            for s, starts in origins:
                paths = self._walk(net, s, starts, steps, DRAWN, by)
                truth = np.stack([s.x[start : start + steps] for start in starts])
                found.append(np.nanmean(crps(paths, truth, axis=1) / s.scale))
            return float(np.mean(found))

        net.eval()
        with torch.random.fork_rng(devices=[]):

            def same(by: Tempered) -> float:
                torch.manual_seed(0)
                return error(by)

            return min((by._replace(temperature=by.temperature * math.exp(v)) for v in FACTORS), key=same)

    def learned(self, params: Params) -> dict[str, Any]:
        """The weights, for `at`."""
        return {NETWORKS: dict(params)}

    def at(self, learned: Mapping[str, Any]) -> Self:
        """The same with the weights that were learned."""
        return replace(self, state=learned[NETWORKS]) if learned else self

    @property
    def tempered(self) -> Tempered:
        """T and κ."""
        found = self.state or {}
        return Tempered(**{name: float(found[name]) for name in Tempered._fields if name in found})

    def ahead(self, rows: list[Series], steps: int, draws: Draws) -> Iterator[Ahead]:
        """Paths that are simulated from the end of each sequence, step by step."""
        net = self.network(self.state)
        for s in rows:
            yield Ahead(self._walk(net, s, [len(s.x)], steps, PATHS, self.tempered)[0], {})

    @torch.no_grad()
    def _walk(
        self, net: Walker, s: Series, starts: Sequence[int], steps: int, number: int, by: Tempered
    ) -> np.ndarray:
        """Paths from some steps of a sequence on, given those before: (starts, number, steps, C)."""
        counts, L, C, device = self.emissions.counts.numpy(), self.lag, s.x.shape[1], placed(net)
        short = max(L + 1 - min(starts), 0)  # too short for a season: as if its first row had been before it
        past = np.concatenate([np.repeat(s.filled[:1], short, 0), s.filled])
        days = np.concatenate([np.repeat(s.calendar[:1], short, 0), s.calendar, after(s.calendar, steps)])
        states, path, season = [], [], []
        for start in (short + each for each in starts):
            warm = np.arange(max(L + 1, start - WARM * max(L, 100)), start)
            state = torch.zeros(net.gru.num_layers, 1, net.gru.hidden_size).to(device)
            if len(warm):
                e = self._inputs(s, past, days, warm)
                _, state = net(torch.from_numpy(e.astype(np.float32))[None].to(device))
            states.append(state.expand(-1, number, -1))
            path.append(np.concatenate([past[start - L - 1 : start], np.empty((steps, C))]))
            season.append(days[start - L - 1 : start + steps])
        state, scale = torch.cat(states, 1).contiguous(), torch.from_numpy(s.scale).float()
        paths, calendars = np.repeat(np.stack(path), number, 0), np.repeat(np.stack(season), number, 0)
        for t in range(L + 1, L + 1 + steps):
            e = self._inputs(s, paths, calendars, np.array([t]))
            out, state = net(torch.from_numpy(e.astype(np.float32)).to(device), state)
            gap, count = self.emissions.sample(out[:, 0].cpu(), scale, by)
            drawn = paths[:, t - L] + s.scale * gap.double().numpy()
            paths[:, t] = drawn if count is None else np.where(counts, count.double().numpy(), drawn)
        return paths[:, L + 1 :].reshape(len(starts), number, steps, C)

    def _target(self, fitted: Fitted) -> WalkTarget:
        return WalkTarget(
            self.network(self.state),
            self.emissions,
            *self.windows(self.rows(fitted.data)),
            fitted.settings.seed,
        )

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Held-out windows against those of the training."""
        target = self._target(fitted)
        if not len(target.held):
            said = "the sequences are too short for any part of them to be held out"
            return [Check("held-out windows", None, "warn", said)]
        seen, unseen = (target.log_score(at, self.tempered) for at in (target.train, target.held))
        T, many = self.tempered.temperature, len(target.held)
        said = f"log density a cell, in units of a series' own steps, {seen:.3f} of training windows, "
        said += f"{unseen:.3f} of {many} held out"
        level: Level = "ok" if seen - unseen < 0.15 else "warn"
        said += "" if level == "ok" else ": it fits the rows more than what they share; use fewer --units"
        return [Check("held-out windows", seen - unseen, level, f"{said}, at temperature {T:.2f}")]

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """The season, the temperature, the log density of held-out windows, and the number of weights."""
        found = {"season": self.lag, **self.tempered._asdict()}
        if fitted.data.rows:  # not of a run without its rows
            target = self._target(fitted)
            held = target.held if len(target.held) else target.train
            found["log_density"] = target.log_score(held, self.tempered)
        found["weights"] = self.parameters
        return {name: {"mean": float(value), "sd": 0.0} for name, value in found.items()}
