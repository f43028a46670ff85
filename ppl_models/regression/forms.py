"""Gaussian posteriors over Φ (p + 1, K), flattened to d numbers, in the forms that their size allows.

The forms are:

    full        N(m, L Lᵀ)
    structured  N(m, P⁻¹), P = diag(D) + V Vᵀ with V (d, r): exact where there are few rows (r = n K), an
                approximation where V holds the leading directions only, independent coefficients for r = 0
    mixture     Σ_g w_g N(m_g, P_g⁻¹), of either form
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
"""What a posterior is stored as: names and float64 tensors."""


CHAINS = 128
"""Markov chains that draws under a horseshoe are of."""

DRAWS = "draws"
"""The name of draws (S, d) that are exact, kept beside a form that is not."""

CENTRE, MAP, KERNEL, SLOPE = "adjust_centre", "adjust_map", "kernel", "slope"
"""The names of what a likelihood with weights that are not counts was adjusted by, kept beside a form."""


class Form(ABC):
    """A posterior over d numbers that can be drawn from and scored."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """(d,)."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """Marginal variances, (d,)."""

    @abstractmethod
    def draw(self, number: int) -> Tensor:
        """(S, d) draws, from torch's global generator."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log q(x), (S,), for x (S, d)."""

    @property
    @abstractmethod
    def params(self) -> dict[str, Tensor]:
        """What `from_params` makes it again from."""


@dataclass(frozen=True, eq=False)
class Full(Form):
    """N(loc, L Lᵀ): loc (d,), L (d, d) lower triangular."""

    loc: Tensor
    scale_tril: Tensor

    @property
    def mean(self) -> Tensor:
        """(d,)."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """(d,)."""
        return (self.scale_tril**2).sum(-1)

    def draw(self, number: int) -> Tensor:
        """(S, d)."""
        return self.loc + torch.randn(number, len(self.loc), dtype=torch.float64) @ self.scale_tril.mT

    def log_prob(self, x: Tensor) -> Tensor:
        """(S,)."""
        z = torch.linalg.solve_triangular(self.scale_tril, (x - self.loc).mT, upper=False)
        log_det = self.scale_tril.diagonal().log().sum()
        return -0.5 * (z**2).sum(0) - log_det - 0.5 * len(self.loc) * math.log(2 * math.pi)

    @property
    def params(self) -> dict[str, Tensor]:
        """`loc` and `scale_tril`."""
        return {"loc": self.loc, "scale_tril": self.scale_tril}


@dataclass(frozen=True, eq=False)
class Structured(Form):
    """N(loc, P⁻¹), P = diag(D) + V Vᵀ: loc (d,), D (d,) positive, V (d, r)."""

    loc: Tensor
    diagonal: Tensor
    factor: Tensor

    @cached_property
    def _root(self) -> Tensor:
        """The Cholesky factor of I + Vᵀ D⁻¹ V, (r, r)."""
        V = self.factor
        inner = V.mT @ (V / self.diagonal[:, None])
        return torch.linalg.cholesky(inner + torch.eye(V.shape[1], dtype=V.dtype))

    @property
    def mean(self) -> Tensor:
        """(d,)."""
        return self.loc

    @cached_property
    def variance(self) -> Tensor:
        """(d,)."""
        W = torch.linalg.solve_triangular(self._root, self.factor.mT / self.diagonal, upper=False)
        return 1 / self.diagonal - (W**2).sum(0)

    def solve(self, x: Tensor) -> Tensor:
        """P⁻¹ x for x (d, S), by Woodbury's identity."""
        y = x / self.diagonal[:, None]
        return (
            y - (self.factor @ torch.cholesky_solve(self.factor.mT @ y, self._root)) / self.diagonal[:, None]
        )

    def draw(self, number: int) -> Tensor:
        """(S, d): P⁻¹ (√D ε + V δ) (Bhattacharya, Chakraborty & Mallick 2016, Biometrika 103)."""
        d, r = self.factor.shape
        e = torch.randn(d, number, dtype=torch.float64) * self.diagonal.sqrt()[:, None]
        return self.loc + self.solve(e + self.factor @ torch.randn(r, number, dtype=torch.float64)).mT

    def log_prob(self, x: Tensor) -> Tensor:
        """(S,)."""
        gap = x - self.loc
        square = (gap**2) @ self.diagonal + ((gap @ self.factor) ** 2).sum(-1)
        half_log_det = 0.5 * self.diagonal.log().sum() + self._root.diagonal().log().sum()
        return -0.5 * square + half_log_det - 0.5 * len(self.loc) * math.log(2 * math.pi)

    @property
    def params(self) -> dict[str, Tensor]:
        """`loc`, `diagonal` and `factor`."""
        return {"loc": self.loc, "diagonal": self.diagonal, "factor": self.factor}


@dataclass(frozen=True, eq=False)
class Mixture(Form):
    """Σ_g w_g N(m_g, P_g⁻¹), with what is known of each component beside it.

    Attributes:
        log_weight: (G,), normalised.
        parts: the G components, all of one form.
        labels: further values of each component, (G, ...), such as the scales it was made for.
    """

    log_weight: Tensor
    parts: tuple[Form, ...]
    labels: Params

    @property
    def weight(self) -> Tensor:
        """(G,)."""
        return self.log_weight.exp()

    @property
    def mean(self) -> Tensor:
        """(d,)."""
        return self.weight @ torch.stack([part.mean for part in self.parts])

    @property
    def variance(self) -> Tensor:
        """(d,)."""
        second = torch.stack([part.variance + part.mean**2 for part in self.parts])
        return self.weight @ second - self.mean**2

    def draw(self, number: int) -> Tensor:
        """(S, d)."""
        return self.draw_labelled(number)[0]

    def draw_labelled(self, number: int) -> tuple[Tensor, Tensor]:
        """Draws (S, d), and the component of each, (S,)."""
        which = torch.multinomial(self.weight, number, replacement=True)
        drawn = torch.empty(number, len(self.mean), dtype=torch.float64)
        for g, part in enumerate(self.parts):
            at = (which == g).nonzero().squeeze(-1)
            if len(at):
                drawn[at] = part.draw(len(at))
        return drawn, which

    def log_prob(self, x: Tensor) -> Tensor:
        """(S,)."""
        return torch.logsumexp(
            torch.stack([w + part.log_prob(x) for w, part in zip(self.log_weight, self.parts, strict=True)]),
            0,
        )

    @property
    def params(self) -> dict[str, Tensor]:
        """Those of the components, stacked, `log_weight`, and the labels."""
        stacked = {
            name: torch.stack([part.params[name] for part in self.parts]) for name in self.parts[0].params
        }
        return {"log_weight": self.log_weight, **stacked, **self.labels}


@dataclass(frozen=True, eq=False)
class Blocks(Form):
    """Outputs that know nothing of one another: Φ (p + 1, K) with a Gaussian for each column.

    Attributes:
        parts: q of each output, over p + 1 numbers.
    """

    parts: tuple[Full, ...]

    @property
    def mean(self) -> Tensor:
        """(d,), Φ row by row."""
        return torch.stack([part.mean for part in self.parts], 1).reshape(-1)

    @property
    def variance(self) -> Tensor:
        """(d,)."""
        return torch.stack([part.variance for part in self.parts], 1).reshape(-1)

    def draw(self, number: int) -> Tensor:
        """(S, d)."""
        return torch.stack([part.draw(number) for part in self.parts], 2).flatten(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """(S,)."""
        columns = x.reshape(len(x), -1, len(self.parts)).unbind(2)
        return torch.stack([p.log_prob(c) for p, c in zip(self.parts, columns, strict=True)]).sum(0)

    @property
    def params(self) -> dict[str, Tensor]:
        """`loc` (K, p + 1) and `scale_tril` (K, p + 1, p + 1), stacked."""
        own = [part.params for part in self.parts]
        return {f"{BLOCKS}{name}": torch.stack([o[name] for o in own]) for name in own[0]}


BLOCKS = "blocks_"
"""What names of stacked tensors of outputs begin with."""


@dataclass(frozen=True, eq=False)
class Apart(Form):
    """q(Φ) N(ψ; loc, L Lᵀ): coefficients, and the numbers that rows share, as if independent.

    Attributes:
        coefficients: q(Φ).
        shared: q(ψ).
    """

    coefficients: Form
    shared: Full

    @property
    def mean(self) -> Tensor:
        """(d + q,)."""
        return torch.cat([self.coefficients.mean, self.shared.mean])

    @property
    def variance(self) -> Tensor:
        """(d + q,)."""
        return torch.cat([self.coefficients.variance, self.shared.variance])

    def draw(self, number: int) -> Tensor:
        """(S, d + q)."""
        return torch.cat([self.coefficients.draw(number), self.shared.draw(number)], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """(S,)."""
        d = len(self.coefficients.mean)
        return self.coefficients.log_prob(x[:, :d]) + self.shared.log_prob(x[:, d:])

    @property
    def params(self) -> dict[str, Tensor]:
        """Those of both."""
        own = {"shared_loc": self.shared.loc, "shared_scale_tril": self.shared.scale_tril}
        return self.coefficients.params | own


def from_params(params: Params) -> Form:
    """The form that `params` came from."""
    params = {
        name: value for name, value in params.items() if name not in (DRAWS, CENTRE, MAP, KERNEL, SLOPE)
    }
    if f"{BLOCKS}loc" in params:
        both = zip(params[f"{BLOCKS}loc"], params[f"{BLOCKS}scale_tril"], strict=True)
        return Blocks(tuple(Full(loc, root) for loc, root in both))
    if "shared_loc" in params:
        own = {name: value for name, value in params.items() if not name.startswith("shared_")}
        return Apart(from_params(own), Full(params["shared_loc"], params["shared_scale_tril"]))
    if "log_weight" in params:
        own = {"loc", "scale_tril", "diagonal", "factor"} & set(params)
        parts = tuple(
            from_params({name: params[name][g] for name in own}) for g in range(len(params["log_weight"]))
        )
        labels = {name: v for name, v in params.items() if name not in own | {"log_weight"}}
        return Mixture(params["log_weight"], parts, labels)
    if "scale_tril" in params:
        return Full(params["loc"], params["scale_tril"])
    return Structured(params["loc"], params["diagonal"], params["factor"])
