"""Every emission family that there is, over three columns that it describes, in each of its forms."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch

from ppl_models.annotations import Positive, hints
from ppl_models.data import Column, Kind
from ppl_models.families.base import Emission
from ppl_models.families.family import Family, Group
from ppl_models.families.registry import FAMILIES, Priors

LEVELS = (2, 3, 4)


@dataclass(frozen=True)
class Case:
    """An emission over three columns, and rows in its support.

    Attributes:
        name: what the tests call it.
        family: of which it is.
        priors: the fields of the priors, away from their defaults.
        fix: whether what the prior would learn is fixed, so that the factor is one of exponential families.
    """

    name: str
    family: Family
    priors: Any
    fix: bool = True

    @property
    def kind(self) -> Kind:
        assert self.family.conjugate is not None
        return self.family.conjugate.kinds[0]

    def rows(self, n: int, seed: int, missing: float = 0.0) -> torch.Tensor:
        rng = np.random.default_rng(seed)
        x = draw(self.family, self.kind, n, rng)
        if missing:
            x[rng.random(x.shape) < missing] = np.nan
            x[0], x[1:3] = np.nan, np.nan_to_num(x[1:3], nan=1.0)  # an empty row, and complete ones
        return torch.as_tensor(x)

    def build(self, K: int) -> Emission:
        x = self.rows(400, seed=11).numpy()
        columns = []
        for j in range(3):
            levels = tuple("abcd")[: LEVELS[j] if self.kind is Kind.CATEGORICAL else 2]
            column = Column(f"x{j}", self.kind, minimum=x[:, j].min(), maximum=x[:, j].max())
            if column.labelled:
                column = replace(column, levels=levels)
            else:
                column = replace(column, mean=x[:, j].mean(), sd=x[:, j].std())
            assert not self.family.lacks(column)
            columns.append(column)
        assert self.family.conjugate is not None
        e = self.family.conjugate.build(Group((0, 1, 2), tuple(columns)), K, self.priors)
        return e.fixed(dict.fromkeys(e.learned(e.zeros(1)), 0.5)) if self.fix else e

    @property
    def cells(self) -> bool:
        """Whether missing cells leave the statistics those of the others."""
        return self.build(1).masks_cells


def draw(family: Family, kind: Kind, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of three columns of a kind, positive where the family needs it."""
    if kind is Kind.BINARY:
        return (rng.random((n, 3)) < [0.2, 0.5, 0.9]).astype(float)
    if kind is Kind.CATEGORICAL:
        return rng.integers(0, LEVELS, (n, 3)).astype(float)
    if kind is Kind.COUNT:
        return rng.poisson(rng.gamma(2.0, [0.35, 1.0, 1.5], (n, 3))).astype(float)
    if family.lacks(Column("x", kind, minimum=-1.0)):
        return rng.gamma(3.0, [0.25, 0.7, 1.0], (n, 3)) + 1e-3
    return np.array([1.0, -2.0, 3.0]) + [2.0, 1.0, 0.5] * rng.normal(size=(n, 3))


def forms(family: Family) -> list[Case]:
    """The family with each choice of its fields, and with every number given that need not be."""
    about, own = hints(family.fields), [field.name for field in fields(family.fields)]
    sizes = [n for n in own if about[n].note(Positive) is not None and not about[n].optional]
    start = {name: 0.8 * getattr(Priors(), name) for name in sizes}
    cases = [Case(family.name, family, Priors(**start))]
    for name in own:
        if get_origin(about[name].type) is Literal:
            choices = get_args(about[name].type)
            cases = [
                Case(f"{c.name}-{v}", family, replace(c.priors, **{name: v})) for c in cases for v in choices
            ]
    optional = dict.fromkeys((name for name in own if about[name].optional), 5.0)
    if optional:
        cases.append(Case(f"{family.name}-given", family, replace(cases[0].priors, **optional)))
    return cases


CASES = {case.name: case for family in FAMILIES if family.conjugate for case in forms(family)}
