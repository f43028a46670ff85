"""How much a posterior hangs on its prior, and on the data: power scaling.

    p_α(θ | x) ∝ p(θ)^α p(x | θ)   or   p(θ) p(x | θ)^α,    α = 0.99, 1.01

Draws of the posterior are weighed by the density that is scaled, to the power α − 1, smoothed (PSIS), and
each parameter's weighted distribution is put beside the one without weights by the cumulative Jensen–Shannon
distance (Nguyen & Vreeken 2015, ECML PKDD). What it changes by a doubling of α is the sensitivity; 0.05 is
what moves the mean of a normal by 0.3 sds (Kallioinen, Paananen, Bürkner & Vehtari 2024, Detecting and
diagnosing prior and likelihood sensitivity with power-scaling, Statistics and Computing 34,
https://arxiv.org/abs/2107.14054).

    prior   likelihood   says
    low     –            nothing: the data decides
    high    low          the data says little, the prior decides
    high    high         prior and data pull apart, or both matter
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Fitted
from ppl_models.errors import Unsupported
from ppl_models.inference.psis import smooth

if TYPE_CHECKING:
    import pandas as pd

POWERS = 0.99, 1.01
"""α."""

SENSITIVE = 0.05
"""The sensitivity from which a parameter is said to be sensitive."""

USABLE_K = 0.7
"""k̂ of the weights up to which they say something."""


def sensitivity(fit: Fitted) -> "pd.DataFrame":
    """A row for each parameter: `prior`, `likelihood`, and what follows.

    Of a program with plates, only the priors of sites outside of plates are scaled where there are some:
    those of its groups are part of the model.

    Args:
        fit: with its draws.

    Raises:
        Unsupported: it has no posterior of parameters, or its draws do not carry so far.
    """
    import pandas as pd

    bound = fit.bound
    if not isinstance(bound, Bayesian) or not bound.identified:
        raise Unsupported(f"{fit.name} has no posterior of parameters whose prior could be scaled")
    theta = fit.posterior_draws.theta
    parts = {
        "prior": bound.log_scaled_prior(theta).numpy(),
        "likelihood": bound.log_evidence(fit.batch, theta).numpy(),
    }
    base = np.exp(fit.posterior_draws.log_weight)
    weights: dict[str, list[np.ndarray]] = {}
    for name, log_p in parts.items():
        smoothed = [smooth((alpha - 1) * log_p) for alpha in POWERS]
        if max(each.k_hat for each in smoothed) > USABLE_K:
            raise Unsupported(f"draws are too few, or too far apart, to scale the {name} of {fit.name}")
        own = [base * np.exp(each.log_weight) for each in smoothed]
        weights[name] = [w / w.sum() for w in own]
    rows: dict[str, dict[str, Any]] = {}
    variables, coords = bound.functions(theta)
    for name, (dims, values) in variables.items():
        for index in np.ndindex(values.shape[1:]):
            x = values[(slice(None), *index)]
            if np.ptp(x) == 0:
                continue
            labels = [str(coords[d][i]) if d in coords else str(i) for d, i in zip(dims, index, strict=True)]
            found = {part: _sensitivity(x, base, each) for part, each in weights.items()}
            key = f"{name}[{', '.join(labels)}]" if labels else name
            rows[key] = found | {"says": said(**found)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def said(prior: float, likelihood: float) -> str:
    """What follows from two sensitivities.

    Example:
        >>> said(0.01, 0.3), said(0.2, 0.01), said(0.2, 0.3)
        ('', 'the prior decides', 'prior and data pull apart, or both matter')
    """
    if prior < SENSITIVE:
        return ""
    return "the prior decides" if likelihood < SENSITIVE else "prior and data pull apart, or both matter"


def _sensitivity(x: np.ndarray, base: np.ndarray, weights: list[np.ndarray]) -> float:
    """The distance that a doubling of α would make, from both sides."""
    each = [
        distance(x, base / base.sum(), w) / abs(np.log2(alpha))
        for alpha, w in zip(POWERS, weights, strict=True)
    ]
    return float(np.mean(each))


def distance(x: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """The cumulative Jensen–Shannon distance of two weighted samples of the same points, 0 to 1.

    With F and G the distribution functions, the root of

        ∫ F log₂ 2F/(F + G) + G log₂ 2G/(F + G) dx / ∫ (F + G) dx,

    or that of −x, as it is not symmetric, whichever is larger.

    Args:
        x: (S,) points.
        p: (S,) weights that sum to 1.
        q: (S,) others.
    """
    return max(_one_sided(x, p, q), _one_sided(-x, p, q))


def _one_sided(x: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    order = np.argsort(x, kind="stable")
    width = np.diff(x[order])
    F, G = np.cumsum(p[order])[:-1], np.cumsum(q[order])[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(F > 0, F * np.log2(2 * F / (F + G)), 0.0) @ width
        second = np.where(G > 0, G * np.log2(2 * G / (F + G)), 0.0) @ width
    total = float((F + G) @ width)
    return float(np.sqrt(max(first + second, 0.0) / total)) if total > 0 else 0.0
