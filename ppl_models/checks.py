"""Whether to trust a fit: what was checked, what was found, and the verdict.

The verdict is `trusted` when every check passes, `use with care` when one warns, and `not trusted` when
one fails.
"""

import textwrap
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from typing import Any, Literal

import numpy as np

from ppl_models.capabilities import Fitted
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import select_draws
from ppl_models.inference.calibration import ALIKE

Level = Literal["ok", "warn", "fail"]

GOOD_K, USABLE_K = 0.7, 1.0
"""k̂ up to which a guide is close to the posterior, and up to which weighted averages still exist."""

_COLOUR = {"trusted": "#2e7d32", "use with care": "#b26a00", "not trusted": "#c62828"}
_MARK = {"ok": "✓", "warn": "!", "fail": "✗"}

MIXED = 1.02
"""R-hat up to which chains agree."""

SHIFTED = 0.25
"""Sds by which weighted means may be away from those of the guide."""

FAR = 5.0
"""Factor of an sd up to which linear response is trusted to have corrected it."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    value: Any
    level: Level
    reason: str


@dataclass(frozen=True)
class Report:
    """All checks of a fit."""

    checks: tuple[Check, ...]

    @cached_property
    def verdict(self) -> str:
        """`trusted`, `use with care` or `not trusted`."""
        levels = {check.level for check in self.checks}
        return "not trusted" if "fail" in levels else "use with care" if "warn" in levels else "trusted"

    @property
    def trusted(self) -> bool:
        """Whether every check passed."""
        return self.verdict == "trusted"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {"verdict": self.verdict, "checks": [asdict(check) for check in self.checks]}

    def text(self, width: int = 80) -> str:
        """The report for a terminal."""
        lines = [f"verdict: {self.verdict}"]
        for check in self.checks:
            head = f"  {check.level:<4}  {check.name}: "
            lines += textwrap.wrap(head + check.reason, max(width, 24), subsequent_indent=" " * 8)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li>{_MARK[c.level]} <b>{escape(c.name)}</b>: {escape(c.reason)}</li>" for c in self.checks
        )
        return (
            f'<p>verdict: <b style="color:{_COLOUR[self.verdict]}">{escape(self.verdict)}</b></p>'
            f'<ul style="list-style:none;padding-left:0">{items}</ul>'
        )


def check(fit: Fitted, bayesian: bool) -> Report:
    """Look at convergence, restarts, the draws against the exact posterior, and what the model adds.

    Args:
        fit: what was fitted.
        bayesian: whether its parameters have a posterior, whose draws can be looked at.
    """
    own = fit.bound.checks(fit)
    draws = _posterior(fit) if bayesian else ()
    return Report((_converged(fit, bayesian), *_restarts(fit), *draws, *own))


def _converged(fit: Fitted, bayesian: bool) -> Check:
    t = fit.trained
    if t.status == "converged":
        return Check("converged", t.steps, "ok", f"the ELBO settled after {t.steps} steps")
    memory = fit.calibrated.memory if bayesian and t.status == "max_steps" else None
    if memory is not None and memory[0] <= memory[1]:
        reason = (
            f"the ELBO of the guide was still rising after {t.steps} steps, which does not matter: its draws "
            "were moved on"
        )
        return Check("converged", t.steps, "ok", reason)
    return Check("converged", t.steps, "fail" if t.status == "diverged" else "warn", t.reason)


def _restarts(fit: Fitted) -> list[Check]:
    r = fit.trained.restarts
    if r is None or len(r.elbo) < 2:
        return []
    n, agree = len(r.elbo), r.agreeing
    if agree >= 2:
        return [
            Check(
                "restarts agree",
                agree,
                "ok",
                f"{agree} of {n} starts ended within {r.within:.3g} nat{'s' * (r.within > 1)} of the best",
            )
        ]
    if agree:
        found = (
            f"only 1 of {n} starts found the best optimum, the next is {r.elbo[0] - r.elbo[1]:.1f} nats below"
        )
    else:
        found = f"no start found the best optimum, which is {r.gain:.1f} nats above theirs after exchanges"
    reason = f"{found}; there may be a better one: try more --restarts, or a smaller model"
    return [Check("restarts agree", agree, "warn", reason)]


def _posterior(fit: Fitted) -> list[Check]:
    """Whether draws are those of the posterior: by what they forgot, by k-hat, or by their widths."""
    p, how = fit.posterior_draws, fit.calibrated
    k = f"{p.k_hat:.2f} ± {p.k_hat_sd:.2f}"
    if how.memory is not None:
        memory, limit = how.memory
        said = f"of the guide (k-hat {k}) moved by Hamiltonian chains on the exact posterior"
        if memory <= limit:
            reason = (
                f"draws {said} until they had forgotten it: correlation with half-way {max(memory, 0):.2f}"
            )
            return [Check("posterior", memory, "ok", reason)]
        reason = (
            f"draws {said} still remember it: correlation with half-way {memory:.2f}, over {limit:.2f}; "
            f"the posterior has several modes or long ridges: {fit.bound.ridges}"
        )
        return [Check("posterior", memory, "fail", reason)]
    if how.chains:
        return [_mixing(how.draws, how.chains)]
    if how.ratio is not None and p.k_hat > GOOD_K:
        return [_widths(how.ratio, how.method), _predictions(fit)]
    draws = f"{p.draws} draws against the exact posterior"
    if p.even >= ALIKE:
        said = f"{k}, and " if p.k_hat <= GOOD_K else ""  # of weights all but equal the tail says nothing
        reason = f"{said}{100 * p.even:.1f} % of {draws} are effective: the guide all but is it"
        return [Check("k-hat", p.k_hat, "ok", reason)]
    if p.k_hat <= GOOD_K:
        mended = ": the guide is close to it, and its draws were corrected by their weights"
        return [Check("k-hat", p.k_hat, "ok", f"{k} (at most {GOOD_K}), {draws}{mended}")]
    if p.k_hat <= USABLE_K:
        off = _shift(fit)
        reason = f"{k}, over {GOOD_K}, {draws}: means move by up to {off:.2f} sd when draws are weighed"
        if off > SHIFTED:
            return [Check("k-hat", p.k_hat, "fail", f"{reason}: the guide is beside the posterior")]
        reason += ", and can be off by more than that; intervals are likely too narrow"
        return [Check("k-hat", p.k_hat, "warn", reason)]
    reason = f"{k}, over {USABLE_K}, {draws}: the guide misses part of it; do not rely on its intervals"
    return [Check("k-hat", p.k_hat, "fail", reason)]


def _shift(fit: Fitted) -> float:
    """How far weighted means of parameters are from those of the guide, in its sds: the worst."""
    p = fit.posterior_draws
    worst, weight = 0.0, np.exp(p.log_weight)
    for _, value in fit.bound.variables(p.theta)[0].values():
        x = value.reshape(len(value), -1)
        sd = x.std(0)
        off = np.abs(weight @ x - x.mean(0))[sd > 0] / sd[sd > 0]
        worst = max(worst, float(off.max(initial=0.0)))
    return worst


def _mixing(draws: Any, chains: int) -> Check:
    """Rank-normalised split R-hat of the worst parameter (Vehtari et al. 2021, Bayesian Analysis 16)."""
    from warnings import catch_warnings, simplefilter

    with catch_warnings():
        simplefilter("ignore")
        import arviz as az
    worst = 0.0
    for sites in draws.values():
        for value in sites.values():
            x = value.reshape(chains, -1, value[0].numel()).numpy()
            worst = max(worst, *(float(az.rhat(x[..., i])) for i in range(x.shape[-1])))
    said = f"{worst:.3f} of {chains} chains on the exact posterior, started from its approximation"
    if worst <= MIXED:
        return Check("R-hat", worst, "ok", f"{said}: they agree")
    return Check(
        "R-hat", worst, "warn" if worst <= 1.1 else "fail", f"{said}, over {MIXED}: they do not agree"
    )


def _widths(ratio: Any, method: str) -> Check:
    """In hundreds of dimensions k-hat is pessimistic: each sd against the observed information instead."""
    worst = float((ratio.log().abs()).max().exp())
    if not np.isfinite(worst):
        reason = "the observed information is not positive definite: a flat direction; fit fewer components"
        return Check("widths", worst, "fail", reason)
    many = f"{len(ratio)} parameters against the observed information (too many to judge by k-hat)"
    if method == "mean field":
        return Check("widths", worst, "ok", f"sds of {many} are right within a factor {worst:.2f}")
    level: Level = "ok" if worst <= FAR else "warn"
    reason = f"sds of {many} were off by up to {worst:.1f}×, and were corrected by linear response"
    return Check("widths", worst, level, reason)


def _predictions(fit: Fitted) -> Check:
    """How far the uncertainty of the parameters reaches the density of a row."""
    data, p = fit.data, fit.posterior_draws
    part = excerpt(data, 2_000, ordered=not fit.bound.exchangeable, seed=fit.settings.seed)
    theta = select_draws(p.theta, slice(0, 50))
    each = fit.bound.log_evidence(fit.bound.dataset_batch(part, fit.settings.device), theta) / part.rows
    spread = float(each.std())
    level: Level = "ok" if spread < 0.05 else "warn"
    return Check("predictions", spread, level, f"the log density of a row is known to ± {spread:.2g} nats")
