"""Coefficients that vary by group, `(1 + x | school)`: u_jt ~ N(0, τ_t²), independent, τ_t half-normal.

Term t of a group column with J levels is J columns of the design: 1, or the standardised x, in the rows of
level j and 0 elsewhere. u is learned with the other coefficients, given τ; log τ_t is part of ψ. Intercepts
and slopes of a group are independent at average x (as Bambi has them; Capretto et al. 2022, Bambi: A simple
interface for fitting Bayesian linear models in Python, JSS 103, https://doi.org/10.18637/jss.v103.i15).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ppl_models.data.messages import quoted
from ppl_models.data.schema import Schema
from ppl_models.errors import DataError, UsageError
from ppl_models.regression.coding import Coding, cells_of, labelled
from ppl_models.regression.formula import target_of

_TERM = re.compile(r"\+?\s*\(([^()|]+)\|\s*(`[^`]+`|[^()|`]+?)\s*\)")


@dataclass(frozen=True)
class Term:
    """A coefficient that varies by group.

    Attributes:
        of: the column whose slope varies, or None for the intercept.
        group: the column of the groups.
    """

    of: str | None
    group: str

    @property
    def name(self) -> str:
        """`1|school` or `x|school`."""
        return f"{self.of or 1}|{self.group}"


def split(formula: str | None) -> tuple[str | None, tuple[Term, ...]]:
    """A formula without its group terms, and these.

    Raises:
        UsageError: a group term is not a sum of columns and 1 by a column.

    Example:
        >>> split("y ~ x + (1 + x | school)")[1]
        (Term(of=None, group='school'), Term(of='x', group='school'))
        >>> split("y ~ x + (1 | school)")[0]
        'y ~ x'
    """
    if formula is None or "|" not in formula:
        return formula, ()
    terms: list[Term] = []
    for inside, group in _TERM.findall(formula):
        names = [_plain(part) for part in inside.split("+")]
        kept = [name for name in names if name not in ("0", "1")]
        if any(re.search(r"[-*:/^()]", name) for name in kept):
            raise UsageError(
                f"formula {quoted(formula)}: {quoted(inside.strip())} before | is a sum of columns, as in "
                "(1 + x | school)"
            )
        of: list[str | None] = [*([] if "0" in names else [None]), *kept]
        terms += [Term(name, _plain(group)) for name in of if Term(name, _plain(group)) not in terms]
    rest = re.sub(_TERM, "", formula).strip()
    if "|" in rest or not terms:
        raise UsageError(f"formula {quoted(formula)}: groups are written (1 + x | school)")
    if rest.endswith("~") or not rest:
        rest += " 1"
    return re.sub(r"~\s*\+", "~ ", rest).strip(), tuple(terms)


def reading(formula: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `ppl_models.data.read` as a formula has them: a target on its left side, groups are labels.

    Args:
        formula: or None.
        options: as they were given, which go before it.
    """
    if formula is None:
        return dict(options)
    kinds = {term.group: "categorical" for term in split(formula)[1]}
    found = {**options, "target": options.get("target") or target_of(formula)}
    return {**found, "types": {**kinds, **(options.get("types") or {})}} if kinds else found


def _plain(name: str) -> str:
    name = name.strip()
    return name[1:-1] if re.fullmatch(r"`[^`]*`", name) else name


class GroupCoding:
    """Columns of another coding, followed by those of group terms.

    Args:
        base: the coding of the population's columns.
        terms: what varies by group.
        schema: of the table.
        values: (n, C) rows of the fit, from which slopes are standardised.

    Raises:
        UsageError: a term names no column, or one of the wrong kind.
        DataError: a group has one level.
    """

    def __init__(self, base: Coding, terms: tuple[Term, ...], schema: Schema, values: np.ndarray) -> None:
        self.base, self.terms = base, terms
        self.group = [_column(schema, term.group) for term in terms]
        self.of = [None if term.of is None else _column(schema, term.of) for term in terms]
        names, self.widths, self.levels = list(base.names), [], []
        self.moments: list[tuple[float, float]] = []
        origins = list(base.origins)
        for term, g, x in zip(terms, self.group, self.of, strict=True):
            column = schema.columns[g]
            levels = (
                labelled(column)
                if column.labelled
                else tuple((f"{v:g}", float(v)) for v in np.unique(values[:, g]) if not np.isnan(v))
            )
            if len(levels) < 2:
                raise DataError(f"{term.group} has one level, and (… | {term.group}) needs two or more")
            if x is not None and schema.columns[x].labelled:
                raise UsageError(
                    f"({term.of} | {term.group}): {term.of} is of labels, and a slope varies of a number"
                )
            self.levels.append(levels)
            self.widths.append(len(levels))
            names += [f"{term.name}[{label}]" for label, _ in levels]
            origins += [(g,) if x is None else (g, x)] * len(levels)
            known = np.zeros(1) if x is None else values[:, x][~np.isnan(values[:, x])]
            self.moments.append((0.0, 1.0) if x is None else (float(known.mean()), float(known.std()) or 1.0))
        self.names = tuple(names)
        self.origins = tuple(origins)
        others = [*self.group, *(x for x in self.of if x is not None)]
        self.used = tuple(sorted({*base.used, *others}))
        self.categories, self.flags = base.categories, base.flags

    @property
    def population(self) -> int:
        """The number of columns of the population."""
        return len(self.base.names)

    def filled(self, values: np.ndarray) -> np.ndarray:
        """Cells (m, C) with what stands in for missing ones."""
        return cells_of(self.base, values)

    def weights(self, values: np.ndarray) -> np.ndarray:
        """(m, T) what u of the row's group is multiplied with in each term: 1, or standardised x."""
        values = self.filled(values)
        parts = [
            np.ones(len(values)) if x is None else (values[:, x] - mean) / sd
            for x, (mean, sd) in zip(self.of, self.moments, strict=True)
        ]
        return np.stack(parts, 1)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells to (m, p); zeros for a group that is missing or was never seen."""
        X = np.zeros((len(values), len(self.names)))
        X[:, : self.population] = self.base.matrix(values)
        at, weights = self.population, self.weights(values)
        for t, (g, levels) in enumerate(zip(self.group, self.levels, strict=True)):
            codes = np.array([code for _, code in levels])
            place = np.searchsorted(codes, values[:, g]).clip(0, len(codes) - 1)
            row = np.flatnonzero(codes[place] == values[:, g])
            X[row, at + place[row]] = weights[row, t]
            X[np.isnan(weights[:, t]), at] = np.nan
            at += len(levels)
        return X

    def unknown(self, values: np.ndarray) -> np.ndarray:
        """(m, T) weights of the terms whose group is missing or was never seen; 0 elsewhere."""
        weights = np.nan_to_num(self.weights(values))
        for t, (g, levels) in enumerate(zip(self.group, self.levels, strict=True)):
            weights[np.isin(values[:, g], [code for _, code in levels]), t] = 0.0
        return weights


def _column(schema: Schema, name: str) -> int:
    if name not in schema.names:
        raise UsageError(
            f"there is no column {quoted(name)} for a group term; there are {', '.join(schema.names)}"
        )
    return schema.names.index(name)


@dataclass(frozen=True)
class GroupPrior:
    """p(u | τ) p(τ) of T terms with `widths` levels each; τ ~ half-normal(scale).

    Attributes:
        widths: J_t.
        scale: of τ, in units of the linear predictor.
    """

    widths: tuple[int, ...]
    scale: float

    def log_prob(self, u: Tensor, log_tau: Tensor) -> Tensor:
        """Log p(u | τ), (S,), for u (S, Σ J_t, K) and log τ (S, T)."""
        total = u.new_zeros(len(u))
        for t, part in enumerate(u.split(self.widths, 1)):
            count = part.shape[1] * part.shape[2]
            square = (part**2).sum((1, 2)) * (-2 * log_tau[:, t]).exp()
            total = total - 0.5 * square - count * (log_tau[:, t] + 0.5 * math.log(2 * math.pi))
        return total

    def log_prior(self, log_tau: Tensor) -> Tensor:
        """Log density of log τ, (S,)."""
        constant = math.log(2 / self.scale) - 0.5 * math.log(2 * math.pi)
        return (constant + log_tau - 0.5 * (log_tau.exp() / self.scale) ** 2).sum(1)
