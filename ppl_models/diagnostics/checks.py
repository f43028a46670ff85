"""Whether to trust a fit: what was checked, what was found, and the verdict.

The verdict is `trusted` when every check passes, `use with care` when one warns, and `not trusted` when
one fails.
"""

import textwrap
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from ppl_models.fitting import Fit

Level = Literal["ok", "warn", "fail"]

GOOD_K, USABLE_K = 0.7, 1.0
"""k̂ up to which a guide is close to the posterior, and up to which weighted averages still exist."""


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
        from ppl_models.display import report_html

        return report_html(self)


def check(fit: "Fit") -> Report:
    """Look at convergence, restarts, the guide against the exact posterior, and every state."""
    return Report((_converged(fit), *_restarts(fit), _k_hat(fit), *_states(fit)))


def _converged(fit: "Fit") -> Check:
    t = fit.trained
    if t.status == "converged":
        return Check("converged", t.steps, "ok", f"the ELBO settled after {t.steps} steps")
    return Check("converged", t.steps, "fail" if t.status == "diverged" else "warn", t.reason)


def _restarts(fit: "Fit") -> list[Check]:
    r = fit.trained.restarts
    if r is None or len(r.elbo) < 2:
        return []
    n, agree = len(r.elbo), r.agreeing
    if agree >= 2:
        return [Check("restarts agree", agree, "ok", f"{agree} of {n} starts ended within 1 nat of the best")]
    gap = r.elbo[0] - r.elbo[1]
    reason = (
        f"only 1 of {n} starts found the best optimum, the next is {gap:.1f} nats below; "
        "there may be a better one: try more --restarts, or fewer states"
    )
    return [Check("restarts agree", agree, "warn", reason)]


def _k_hat(fit: "Fit") -> Check:
    p = fit.posterior_draws
    k, draws = p.k_hat, f"{p.draws} draws against the exact posterior"
    if k <= GOOD_K:
        return Check("k-hat", k, "ok", f"{k:.2f} (at most {GOOD_K}), {draws}: the guide is close to it")
    if k <= USABLE_K:
        return Check(
            "k-hat", k, "warn",
            f"{k:.2f}, over {GOOD_K}, {draws}: means are usable, intervals are likely too narrow",
        )  # fmt: skip
    return Check(
        "k-hat", k, "fail",
        f"{k:.2f}, over {USABLE_K}, {draws}: the guide misses part of it; do not rely on its intervals",
    )  # fmt: skip


def _states(fit: "Fit") -> list[Check]:
    from ppl_models.fitting import occupied

    rows = occupied(fit.statistics).numpy()
    needed = 2 + max(len(e.columns) for e in fit.joint.emissions)
    empty, thin = np.flatnonzero(rows < 1.0), np.flatnonzero((rows >= 1.0) & (rows < needed))
    if len(empty):
        reason = f"{_named(empty)} never visited: what is said there is the prior; fit fewer states"
        return [Check("states visited", rows.round(2).tolist(), "warn", reason)]
    if len(thin):
        reason = (
            f"{_named(thin)} visited in fewer than {needed} rows: the spread is the prior's; fit fewer states"
        )
        return [Check("states visited", rows.round(2).tolist(), "warn", reason)]
    reason = f"each state has at least {rows.min():.0f} rows in expectation"
    return [Check("states visited", rows.round(2).tolist(), "ok", reason)]


def _named(states: np.ndarray) -> str:
    names = ", ".join(map(str, states))
    return f"states {names} are" if len(states) > 1 else f"state {names} is"
