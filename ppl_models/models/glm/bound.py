"""What a generalised linear model can do once it knows its columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Fitted, Graph, Predicted
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.data.messages import plural
from ppl_models.draws import Draws, free
from ppl_models.errors import DataError, UsageError
from ppl_models.models.glm.checks import against_data
from ppl_models.models.glm.fields import GLMFields
from ppl_models.regression import design as designs
from ppl_models.regression import graph
from ppl_models.regression.bound import NAME
from ppl_models.regression.classes import Classes
from ppl_models.regression.design import Beside, Block
from ppl_models.regression.effects import average_effects
from ppl_models.regression.new import NewNumbers
from ppl_models.regression.responses import RESPONSES, NumberResponse, Ordinal, Response
from ppl_models.regression.trained import TrainedRegression, moments, ratio

RATIOS = {"log": "rate_ratio", "logit": "odds_ratio"}
"""What the exponential of a coefficient is, by link."""


class GLMBound(TrainedRegression):
    """A number or ordered label given the other columns."""

    model: GLMFields
    numeric_target: bool = True
    _response: NumberResponse | None = None

    @cached_property
    def family(self) -> type[NumberResponse]:
        """The distribution of the target."""
        return RESPONSES[self.model.family]

    @property
    def link(self) -> str:
        """Of the mean.

        Raises:
            UsageError: the family has no such link.
        """
        links, link = self.family.links, self.model.link
        if link is not None and link not in links:
            there = " or ".join(links)
            raise UsageError(f"{self.model.family} has no link {link}; it has {there}")
        return link or links[0]

    @property
    def of_classes(self) -> bool:
        """No: also of an ordered label."""
        return False

    @property
    def slope_scale(self) -> str:
        """What coefficients are changes of: the mean through its link."""
        return f"change of {self.target}" if self.link == "identity" else f"{self.link} of the mean"

    @property
    def describe(self) -> str:
        """Its size: `poisson, log link, 20 predictors`."""
        groups = "".join(f", {t.name}" for t in self.terms)
        return f"{self.model.family}, {self.link} link, {plural(self.population, 'predictor')}{groups}"

    def beside(self) -> Beside:
        """Offset, exposure and trials, by index."""
        m, names = self.model, self.schema.names
        found = {}
        for role in ("offset", "exposure", "trials"):
            name = getattr(m, role)
            if name is not None and name not in names:
                raise UsageError(f"there is no column {name!r} for {role}; there are {', '.join(names)}")
            if name is not None:
                found[role] = names.index(name)
        return Beside(**found)

    def prepare(self, data: Dataset) -> "GLMBound":
        """Fix the design, the units of the target and where ψ starts by the rows of the fit.

        Raises:
            DataError: a target is outside of the family's support, or an exposure is not positive.
        """
        if self._response is not None:
            return self
        link, family = self.link, self.family
        ordinal = issubclass(family, Ordinal)
        if self._design is None:
            super().prepare(data)
        design = self.design
        cells = data.values[design.rows]
        if design.beside.exposure is not None and not (cells[:, design.beside.exposure] > 0).all():
            raise DataError(f"{data.source}: exposure {self.model.exposure} must be positive in every row")
        y = torch.from_numpy(cells[:, design.target].copy())
        family.check(y, f"{data.source}: the target {self.target}", design.beside.of(cells)[1])
        self._response = family.of(link, y, len(self.levels) if ordinal else 0)
        self._design = replace(design, target_shift=self._response.shift, target_unit=self._response.unit)
        return self

    def essence(self) -> dict[str, np.ndarray] | None:
        """As for all regressions, and where ψ starts."""
        found = super().essence()
        if found is None:
            return None
        return found | {"psi": self.response.psi.numpy()}

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """What `prepare` gave, from these."""
        super().recalled(essence)
        psi, d = torch.from_numpy(np.array(essence["psi"])), self.design
        self._response = self.family(self.link, psi, d.target_shift, d.target_unit)
        return self

    def response_of(self, numbers: Tensor) -> Response:
        """The response that another process has, from its `shift`, `unit` and ψ."""
        return self.family(self.link, numbers[2:], float(numbers[0]), float(numbers[1]))

    @property
    def row_work(self) -> float:
        """What the density of a row costs, in those of a normal one."""
        return self.response.work

    @cached_property
    def response(self) -> NumberResponse:
        """p(y | f, ψ)."""
        self.design  # noqa: B018  that raises if there is none
        assert self._response is not None
        return self._response

    def _predictors(self, rows: Dataset, draws: Draws) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
        """Positions of rows with every predictor, f (S, m) of these, and their trials."""
        for index, Z in self._blocks(rows, draws):
            cells = rows.values[index]
            yield index, self.logits(draws, Z, cells)[..., 0], self.design.beside.of(cells)[1]

    def blocks(self, data: Dataset, size: int = designs.BLOCK):
        """As for all regressions; rows without an offset or exposure count as without a predictor."""
        beside = self.design.beside
        needed = [i for i in (beside.offset, beside.exposure) if i is not None]
        for at, Z, known in super().blocks(data, size):
            yield at, Z, known & ~np.isnan(data.values[at][:, needed]).any(1) if needed else known

    def observed(self, data: Dataset) -> Iterator[tuple[slice, Block, Tensor]]:
        """As for all regressions; a binomial also needs its trials."""
        for at, block, index in super().observed(data):
            if block.trials is not None and bool(block.trials.isnan().any()):
                known = ~block.trials.isnan()
                parts = [None if v is None else v[known] for v in block]
                yield at, Block(*parts), index[known]  # type: ignore[arg-type]
            else:
                yield at, block, index

    def graph(self, draws: Draws) -> Graph:
        """The mean of the target, or the probabilities of its levels."""
        return graph.graph(self, draws)

    def outcomes(self, f: Tensor, theta: Draws) -> Tensor:
        """E[y | f], (S, m, 1), of one trial; or the probabilities of levels, (S, m, C)."""
        psi = self.response_psi(theta)
        if isinstance(self.response, Ordinal):
            return self.response.probabilities(f[..., 0], psi)
        return self.response.mean(f[..., 0], psi)[..., None]

    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """The rows with the target drawn anew, once a draw, (S, n, C); NaN where a predictor is missing."""
        values = np.repeat(np.asarray(data.values)[None], len(theta[NAME]["intercept"]), 0)
        values[:, :, self.design.target] = np.nan
        psi = self.response_psi(theta)
        for index, f, trials in self._predictors(data, theta):
            n = None if trials is None else trials.nan_to_num(1.0)
            values[:, index, self.design.target] = self.response.sample(f, psi, n).numpy()
        return values

    def redraw(self, data: Dataset, draws: Draws, tables: int) -> np.ndarray:
        """The table with its target drawn anew, each row from its own draw of the coefficients."""
        values = np.repeat(np.asarray(data.values)[None], tables, 0)
        values[:, :, self.design.target] = np.nan
        psi = self.response_psi(draws)
        for index, f, trials in self._predictors(data, draws):
            n, each = None if trials is None else trials.nan_to_num(1.0), torch.arange(f.shape[1])
            for table in values:
                s = torch.randint(len(f), each.shape)
                own = self.response.sample(f[s, each][:, None], psi[s], None if n is None else n[:, None])
                table[index, self.design.target] = own[:, 0].numpy()
        return values

    @property
    def unit(self) -> float:
        """What coefficients are multiplied with: the target's unit, where the link is the identity."""
        return self.response.unit if self.link == "identity" else 1.0

    def user(self, theta: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Intercepts (S, 1) and coefficients (S, p, 1) in the user's units."""
        alpha, beta = super().user(theta)
        return self.unit * alpha + (self.response.shift if self.link == "identity" else 0.0), self.unit * beta

    def variables(self, theta: Draws) -> tuple[dict[str, Any], dict[str, Any]]:
        """`intercept`, `coefficient` and what the family has of its own, in the user's units.

        Where coefficients vary by group also `group_sd`, τ of each term, and those of each term, `1|school`.
        """
        found, coords = super().variables(theta)
        for name, value in self.response.user(self.response_psi(theta)).items():
            dims = (name + "s",) if value.dim() == 2 else ()
            found[name] = (dims, value.numpy())
            if dims:
                coords[dims[0]] = list(range(1, value.shape[1] + 1))
        return found, coords

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether rows look like those that it draws."""
        return against_data(self, fitted)

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Coefficients in the user's units, what the family has of its own, and average effects.

        A row for the intercept and each column of the design: `mean`, `sd`, `hdi_5.5%` and `hdi_94.5%` on the
        scale of the link, a unit of the column; of a log or logit link also `rate_ratio` or `odds_ratio`
        (posterior median, with `_lower` and `_upper`), its exponential; `effect`, with `_lower` and `_upper`,
        is the average change of the mean, a unit of a number or against the first level of a label. Then σ,
        dispersion and the like, sds of groups, and coefficients of each group.
        """
        theta = fitted.posterior_draws.theta
        alpha, beta = self.user(theta)
        kind = RATIOS.get(self.link)
        effects = average_effects(self, fitted.data, theta, fitted.settings.seed, tails)
        rows: dict[str, dict[str, Any]] = {free("intercept", self.names): moments(alpha[:, 0], tails)}
        one = not isinstance(self.response, Ordinal)
        for j, name in enumerate(self.shown):
            row = moments(beta[:, j, 0], tails)
            if kind is not None:
                row |= ratio(kind, beta[:, j, 0], tails)
            rows[name] = row | (effects.pop((name, 0), {}) if one else {})
        if one:
            for (name, _), effect in effects.items():
                rows.setdefault(name, effect)
        variables, coords = self.variables(theta)
        for name, (dims, value) in variables.items():
            if name not in self.response.hyper:
                continue
            if not dims:
                rows[name] = moments(value, tails)
                continue
            for i, label in enumerate(coords[dims[0]]):
                rows[f"{name}[{label}]"] = moments(value[:, i], tails)
        return rows | self.summarise_kernel() | self.summarise_groups(theta, tails)


@final
class NumberBound(GLMBound):
    """A number, a count or successes of trials given the other columns."""

    def predicted(self, rows: Dataset, draws: Draws) -> Iterator[Predicted]:
        """The distribution of a new observation of rows that have every predictor."""
        psi = self.response_psi(draws)
        for index, f, trials in self._predictors(rows, draws):
            n = None if trials is None else trials.nan_to_num(1.0)
            yield Predicted(index, NewNumbers(self.response, f, psi, n), self.response.discrete)


@final
class OrdinalBound(Classes, GLMBound):
    """An ordered label given the other columns."""

    numeric_target: bool = False
