"""Reads the tables."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Summary:
    """Of one variable, every field of the variable's shape.

    Attributes:
        mean: posterior mean, in the user's units.
        sd: posterior standard deviation.
        q05: 5 % quantile.
        q95: 95 % quantile.
        mcse_mean: Monte Carlo standard error of the mean.
        mcse_sd: Monte Carlo standard error of the sd.
        ess_bulk: effective sample size for the mean.
        ess_tail: effective sample size for the 5 % and 95 % quantiles.
        r_hat: rank-normalised split R-hat.
    """

    mean: np.ndarray
    sd: np.ndarray
    q05: np.ndarray
    q95: np.ndarray
    mcse_mean: np.ndarray
    mcse_sd: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    r_hat: np.ndarray


@dataclass(frozen=True)
class Point:
    """A draw of the parameters, in the units of their priors, and log p(x, θ) there, x in the user's."""

    theta: dict[str, np.ndarray]
    log_joint: float


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        about: what was run, with which versions, and how it went.
        posterior: `weight` or `start` (K), `transition` (K, K), `mean`, `sd` and `rate` (K, columns),
            `correlation` (K) of the first two columns; of a regression `intercept` (C − 1), `coefficient`
            (p, C − 1), and `probability` (5, C) of the classes for the first five rows.
        points: draws with their log joint densities.
        names: the columns that coefficients are of.
    """

    about: dict[str, Any]
    posterior: dict[str, Summary]
    points: list[Point]
    names: list[str]


def load(name: str) -> Table:
    """The table of a case."""
    raw = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    posterior = {
        variable: Summary(**{key: np.array(value) for key, value in summary.items()})
        for variable, summary in raw["posterior"].items()
    }
    points = [
        Point({site: np.array(value) for site, value in point["theta"].items()}, point["log_joint"])
        for point in raw["points"]
    ]
    return Table(raw["about"], posterior, points, raw["names"])
