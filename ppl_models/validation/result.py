"""What simulations say of each quantity: a p-value, a band, and a conclusion in words."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ppl_models.errors import UsageError
from ppl_models.validation.bands import Band, band, counts, p_value

CLEAR = 3.0
"""Standard errors by which a mean or a spread of ranks is off, so that it is named."""

SHOWN = 24
"""Quantities that are drawn, and rows of the text, at most: the least uniform ones."""


@dataclass(frozen=True, eq=False)
class Quantity:
    """The ranks of one quantity.

    Attributes:
        name: of it.
        ranks: (N,) of 0 … L.
        draws: L.
        p: that uniform ranks are as far from uniform as these.
        uniform: whether they are within the band.
        bias: standard errors by which ranks are too high on average: the fit's values too low.
        spread: the same of their squares about the middle: too many at both ends, intervals too narrow.
    """

    name: str
    ranks: np.ndarray
    draws: int
    p: float
    uniform: bool
    bias: float
    spread: float

    @property
    def conclusion(self) -> str:
        """In words."""
        if self.uniform:
            return "uniform"
        said = []
        if abs(self.bias) > CLEAR:
            said.append(f"biased: the fit's values are too {'low' if self.bias > 0 else 'high'}")
        if abs(self.spread) > CLEAR:
            kind, width = ("under", "narrow") if self.spread > 0 else ("over", "wide")
            said.append(f"{kind}-dispersed: intervals are too {width}")
        return "; ".join(said) or "not uniform: another shape"


def quantity(name: str, ranks: np.ndarray, draws: int, alpha: float) -> Quantity:
    """The ranks of one quantity against uniform ones.

    Args:
        name: of it.
        ranks: (N,) of 0 … L.
        draws: L.
        alpha: p up to which they are not uniform.
    """
    p = p_value(ranks, draws)
    u, cells = (ranks + 0.5) / (draws + 1) - 0.5, draws + 1
    second = (1 - 1 / cells**2) / 12  # of the L + 1 values
    fourth = float((((np.arange(cells) + 0.5) / cells - 0.5) ** 4).mean())
    root = len(ranks) ** 0.5
    bias = float(u.mean()) / (second**0.5 / root)
    spread = float((u**2).mean() - second) / ((fourth - second**2) ** 0.5 / root)
    return Quantity(name, ranks, draws, p, p > alpha, bias, spread)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of simulations, and what follows.

    Attributes:
        about: model, fields, settings, template: what simulations have in common.
        simulations: each with `ranks`, or with an `error`.
        draws: L.
        level: of the bands of all quantities together.
    """

    about: Mapping[str, Any]
    simulations: tuple[Mapping[str, Any], ...]
    draws: int
    level: float = 0.95

    @cached_property
    def done(self) -> list[Mapping[str, Any]]:
        """Simulations that ended in a fit."""
        return [each for each in self.simulations if "ranks" in each]

    @property
    def alpha(self) -> float:
        """P up to which one quantity is not uniform: of all together with a probability of 1 − level."""
        return (1 - self.level) / max(len(self.done[0]["ranks"]) if self.done else 1, 1)

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Each quantity, in the order of the model."""
        if not self.done:
            return ()
        return tuple(
            quantity(name, np.array([each["ranks"][name] for each in self.done]), self.draws, self.alpha)
            for name in self.done[0]["ranks"]
        )

    @cached_property
    def band(self) -> Band:
        """Of the counts of ranks below each of 1 … L."""
        return band(len(self.done), self.draws, 1 - self.alpha)

    @property
    def calibrated(self) -> bool:
        """Whether every quantity is uniform, as far as so many simulations tell."""
        return all(each.uniform for each in self.quantities) and bool(self.done)

    @property
    def conclusion(self) -> str:
        """In one sentence."""
        n, failed = len(self.done), len(self.simulations) - len(self.done)
        lost = f"; {failed} of {len(self.simulations)} simulations had no fit" if failed else ""
        if not n:
            return f"nothing can be said: no simulation ended in a fit{lost}"
        bad = [each.name for each in self.quantities if not each.uniform]
        if not bad:
            return f"all {len(self.quantities)} quantities are uniform as far as {n} simulations tell{lost}"
        named = ", ".join(bad[:3]) + (" …" if len(bad) > 3 else "")
        return f"{len(bad)} of {len(self.quantities)} quantities are not uniform: {named}{lost}"

    @property
    def errors(self) -> dict[str, int]:
        """What simulations without a fit failed of, and how many."""
        return dict(Counter(each["error"] for each in self.simulations if "error" in each))

    def rows(self) -> list[dict[str, Any]]:
        """A row for each quantity: `quantity`, `p`, `bias`, `spread` (in standard errors), `conclusion`."""
        return [
            {"quantity": q.name, "p": q.p, "bias": q.bias, "spread": q.spread, "conclusion": q.conclusion}
            for q in self.quantities
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        seconds = [float(each["seconds"]) for each in self.simulations]
        return {
            **self.about,
            "simulations": len(self.simulations),
            "failed": self.errors,
            "methods": dict(Counter(str(each["method"]) for each in self.done)),
            "level": self.level,
            "alpha": self.alpha,
            "calibrated": self.calibrated,
            "conclusion": self.conclusion,
            "seconds_each": float(np.mean(seconds)) if seconds else None,
            "quantities": self.rows(),
        }

    def text(self) -> str:
        """For a terminal: the least uniform quantities, then the conclusion."""
        import pandas as pd

        rows = sorted(self.rows(), key=lambda row: row["p"])
        shown = [row | {name: f"{row[name]:.2g}" for name in ("p", "bias", "spread")} for row in rows[:SHOWN]]
        lines = [pd.DataFrame(shown).to_string(index=False)] if shown else []
        if len(rows) > SHOWN:
            lines.append(f"({SHOWN} of {len(rows)} quantities, those with the smallest p)")
        lines += [f"failed: {number} × {error}" for error, number in self.errors.items()]
        percent = f"{100 * self.level:g} %"
        lines += ["", self.conclusion, f"(p under {self.alpha:.2g}: outside of a band of {percent} over all)"]
        return "\n".join(lines).strip()

    def __repr__(self) -> str:
        return self.text()

    def plot(self, file: Any = None) -> Any:
        """The difference of the ranks' empirical distribution function from the uniform one, with its band.

        Args:
            file: `.png`, `.svg` or `.pdf`.

        Returns:
            The matplotlib figure.

        Raises:
            OutputError: the file cannot be written.
            UsageError: there are no ranks.
        """
        from ppl_models.report.ranks import Ranks, drawn

        worst = sorted(self.quantities, key=lambda q: q.p)[:SHOWN]
        n, z = len(self.done), np.arange(1, self.draws + 1) / (self.draws + 1)
        each = [
            Ranks(q.name, counts(q.ranks, self.draws) / n - z, q.uniform)
            for q in self.quantities
            if q in worst
        ]
        if not each:
            raise UsageError("there is no picture: no simulation ended in a fit")
        lower, upper = (bound / n - z for bound in self.band)
        return drawn(f"{n} simulations: {self.conclusion}", each, lower, upper, file)
