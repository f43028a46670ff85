"""Whether to trust a fit: what was checked, what was found, and two verdicts.

A verdict is `trusted` when every check passes, `use with care` when one warns, and `not trusted` when one
fails. `verdict` is of the parameters and their intervals, `predictions` of what is predicted: a model of
thousands of parameters, none of which can be relied on, may predict well, and where its predictions were
judged by themselves these do not hang on its parameters.
"""

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from html import escape
from typing import Any, Literal

import numpy as np

from ppl_models.capabilities import Fitted, Judged
from ppl_models.data.copies import copied_sequences, copies
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import select_draws
from ppl_models.errors import PplError
from ppl_models.inference.calibration import ALIKE, NUTS
from ppl_models.inference.chains import mixing_of
from ppl_models.inference.psis import smooth
from ppl_models.wording import spoken

Level = Literal["ok", "warn", "fail"]
About = Literal["parameters", "predictions", "both"]

GOOD_K, USABLE_K = 0.7, 1.0
"""k̂ up to which a guide is close to the posterior, and up to which weighted averages still exist."""

_COLOUR = {"trusted": "#2e7d32", "use with care": "#b26a00", "not trusted": "#c62828"}
_MARK = {"ok": "✓", "warn": "!", "fail": "✗"}

MIXED = 1.02
"""R-hat up to which chains agree."""

SHIFTED = 0.25
"""Sds by which weighted means may be away from those of the guide."""

EFFECTIVE, LOST_PATHS = 100, 0.01
"""Effective draws that each chain is to be worth, and the share of paths that may lose their way."""

FAR = 5.0
"""Factor of an sd up to which linear response is trusted to have corrected it."""

OFF, FAR_OFF = 1.1, 2.0
"""Factors of an sd that was not corrected, from which it is told, and from which intervals are wrong."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        value: what was found.
        level: what follows from it.
        reason: the same in words.
        about: which of the two verdicts it counts for.
    """

    name: str
    value: Any
    level: Level
    reason: str
    about: About = "parameters"


def worst(checks: Iterable[Check]) -> str:
    """`trusted`, `use with care` or `not trusted`."""
    levels = {check.level for check in checks}
    return "not trusted" if "fail" in levels else "use with care" if "warn" in levels else "trusted"


@dataclass(frozen=True)
class Report:
    """All checks of a fit."""

    checks: tuple[Check, ...]

    @cached_property
    def verdict(self) -> str:
        """Of the parameters and their intervals: `trusted`, `use with care` or `not trusted`."""
        return worst(check for check in self.checks if check.about != "predictions")

    @cached_property
    def predictions(self) -> str:
        """The same of predictions; that of the parameters where predictions were not judged themselves."""
        judged = any(check.about == "predictions" for check in self.checks)
        return worst(check for check in self.checks if not judged or check.about != "parameters")

    @property
    def trusted(self) -> bool:
        """Whether every check of the parameters passed."""
        return self.verdict == "trusted"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        checks = [asdict(check) | {"reason": spoken(check.reason)} for check in self.checks]
        return {"verdict": self.verdict, "predictions": self.predictions, "checks": checks}

    def text(self, width: int = 80) -> str:
        """The report for a terminal."""
        lines = [f"verdict: {self.verdict}", f"predictions: {self.predictions}"]
        for check in self.checks:
            head = f"  {check.level:<4}  {check.name}: "
            text = head + spoken(check.reason)
            lines += textwrap.wrap(text, max(width, 24), subsequent_indent=" " * 8)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li>{_MARK[c.level]} <b>{escape(c.name)}</b>: {escape(spoken(c.reason))}</li>"
            for c in self.checks
        )
        said = (
            f'{name}: <b style="color:{_COLOUR[value]}">{escape(value)}</b>'
            for name, value in (("verdict", self.verdict), ("predictions", self.predictions))
        )
        return (
            f'<p>{", ".join(said)}</p>{self._strip()}<ul style="list-style:none;padding-left:0">{items}</ul>'
        )

    def _strip(self) -> str:
        """A square for each check, raised where it failed, as a small picture."""
        height = {"ok": 8, "warn": 16, "fail": 24}
        hue = dict(zip(height, _COLOUR.values(), strict=True))
        squares = "".join(
            f'<rect x="{14 * i}" y="{26 - height[c.level]}" width="12" height="{height[c.level]}" '
            f'fill="{hue[c.level]}"><title>{escape(c.name)}: {c.level}</title></rect>'
            for i, c in enumerate(self.checks)
        )
        bad = sum(c.level != "ok" for c in self.checks)
        about = f"{len(self.checks)} checks, {bad} of them not passed"
        width = 14 * len(self.checks)
        return f'<svg width="{width}" height="26" role="img" aria-label="{about}">{squares}</svg>'


def check(fit: Fitted, bayesian: bool) -> Report:
    """Look at convergence, restarts, the draws against the exact posterior, and what the model adds.

    Args:
        fit: what was fitted.
        bayesian: whether its parameters have a posterior, whose draws can be looked at.
    """
    own = tuple(fit.bound.checks(fit))
    draws = tuple(_posterior(fit)) if bayesian else ()
    chained = bayesian and fit.calibrated.method == NUTS  # draws owe nothing to the guide
    trained = () if chained else (_converged(fit, bayesian), *_restarts(fit))
    found = (*trained[:1], *_edge(fit), *trained[1:], *draws, *own, *_copies(fit))
    if bayesian and not chained:
        found = tuple(_advised(fit, found))
    return Report(found + tuple(_judged(fit, found)) if bayesian else found)


def _copies(fit: Fitted) -> list[Check]:
    """Whether rows, or sequences, that are taken for independent are copies of others."""
    data = fit.data
    by_row = fit.bound.exchangeable
    if data.weight is not None or not (number := copies(data) if by_row else copied_sequences(data)):
        return []
    many = f"{data.rows:,} rows" if by_row else f"{len(data.lengths):,} sequences"
    reason = (
        f"{number:,} of {many} are exact copies of others, to more digits than chance would have: each "
        "counts as an observation of its own, so that intervals are too narrow; take copies out"
    )
    return [Check("copies", number, "warn", reason)]


OF_DRAWS = frozenset({"k-hat", "posterior", "widths", "modes", "R-hat", "converged"})
"""Checks that another sampler may pass."""


def _advised(fit: Fitted, found: Iterable[Check]) -> Iterator[Check]:
    """The first check of the draws that failed says that Markov chains are an alternative, where they are."""
    told = bool(fit.bound.unchained(fit.data)) or not fit.data.rows and not fit.data.arrays
    for each in found:
        if each.level == "fail" and each.name in OF_DRAWS and not told:
            told = True
            yield replace(each, reason=f"{each.reason}; or sample it by Markov chains, --method=nuts")
        else:
            yield each


def _converged(fit: Fitted, bayesian: bool) -> Check:
    t = fit.trained
    if t.status == "converged":
        said = f"the {fit.settings.objective} settled after {t.steps} steps"
        return Check("converged", t.steps, "ok", said)
    memory = fit.calibrated.memory if bayesian and t.status == "max_steps" else None
    if memory is not None and memory[0] <= memory[1]:
        reason = (
            f"the ELBO of the guide was still rising after {t.steps} steps, which does not matter: its draws "
            "were moved on"
        )
        return Check("converged", t.steps, "ok", reason)
    diverged = t.status == "diverged"
    return Check(
        "converged", t.steps, "fail" if diverged else "warn", t.reason, "both" if diverged else "parameters"
    )


def _edge(fit: Fitted) -> list[Check]:
    """Whether a selection ended at the largest value that was tried, so that the best may lie beyond it."""
    tried = [each[name] for each in fit.candidates if (name := next(iter(each), None)) is not None]
    if len(tried) < 2 or not all(isinstance(value, int | float) for value in tried):
        return []
    name = next(iter(fit.candidates[0]))
    chosen, most = getattr(fit.model, name), max(tried)
    if "evidence" not in fit.candidates[0]:  # by held-out rows, which say themselves where more is worse
        reason = f"of {', '.join(map(str, tried))} {name}, {chosen} predicted held-out rows best"
        return [Check("selection", chosen, "ok", reason)]
    if chosen < most:
        reason = f"{chosen} {name} have the most evidence of {min(tried)} to {most}"
        return [Check("selection", chosen, "ok", reason)]
    option = name.replace("_", "-")
    reason = (
        f"{chosen} {name} were chosen, the most that was tried: more may be better still, try "
        f"--{option}={chosen}:{2 * most}"
    )
    return [Check("selection", chosen, "warn", reason + fit.bound.beyond(), "both")]


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
    if fit.bound.rotates and how.memory is None and how.ratio is None:
        reason = (
            "draws are those of the mean-field guide: of factors, which are determined up to a rotation, "
            "there are no weights to judge it by, and too many parameters to mend it: intervals are too "
            "narrow, do not rely on them"
        )
        return [Check("widths", p.k_hat, "fail", reason), _predictions(fit)]
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
        return list(_mixing(how))
    if how.ratio is not None and (p.k_hat > GOOD_K or fit.bound.rotates):
        return [_widths(how.ratio, how.method, fit.bound.ridges), _predictions(fit)]
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


def _mixing(how: Any) -> Iterator[Check]:
    """R-hat and effective draws of the worst parameter, and paths that lost their way."""
    number = how.chains
    found = [
        mixing_of(value.reshape(number, -1, value[0].numel()).numpy())
        for sites in how.draws.values()
        for value in sites.values()
    ]
    worst = max(float(each.r_hat.max()) for each in found)
    least = min(float(each.ess.min()) for each in found)
    begun = "begun apart from one another" if how.method == NUTS else "started from its approximation"
    said = f"{worst:.3f} of {number} chains on the exact posterior, {begun}"
    if worst <= MIXED:
        yield Check("R-hat", worst, "ok", f"{said}: they agree")
    else:
        level: Level = "warn" if worst <= 1.1 else "fail"
        yield Check("R-hat", worst, level, f"{said}, over {MIXED}: they do not agree")
    if how.method != NUTS:
        return
    total = float(how.params["points"].shape[0])
    said = f"{least:.0f} of {total:.0f} draws are worth as much as independent ones, in bulk and tails"
    if least >= EFFECTIVE * number:
        yield Check("effective draws", least, "ok", said)
    else:
        more = f"{said}, under {EFFECTIVE} a chain: what is said of the tails is rough"
        yield Check("effective draws", least, "warn" if least >= EFFECTIVE / 4 * number else "fail", more)
    lost = int(how.params["divergent"][0])
    if lost:
        reason = (
            f"{lost} of {total:.0f} paths lost their way: parts of the posterior are too steep to be "
            "entered, as in a funnel; write it with other parameters"
        )
        yield Check("divergent paths", lost, "fail" if lost > LOST_PATHS * total else "warn", reason)
    cut = int(how.params["deepest"][0])
    if cut > total / 10:
        reason = f"{cut} of {total:.0f} paths were cut off before they turned: draws hang together"
        yield Check("long paths", cut, "warn", reason)


def _widths(ratio: Any, method: str, advice: str) -> Check:
    """In hundreds of dimensions k-hat is pessimistic: each sd against the observed information instead."""
    worst = float((ratio.log().abs()).max().exp())
    if not np.isfinite(worst):
        reason = f"the observed information is not positive definite: a flat direction; {advice}"
        return Check("widths", worst, "fail", reason)
    many = f"{len(ratio)} parameters against the observed information (too many to judge by k-hat)"
    if method == "mean field" and worst <= OFF:
        return Check("widths", worst, "ok", f"sds of {many} are right within a factor {worst:.2f}")
    if method == "mean field":
        reason = f"sds of {many} are off by up to {worst:.1f}×, and no Gaussian describes the posterior"
        return Check("widths", worst, "warn" if worst <= FAR_OFF else "fail", f"{reason}; {advice}")
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
    reason = f"the log density of a row is known to ± {spread:.2g} nats"
    return Check("predictions", spread, level, reason, "both")


LEFT_OUT, SURE = 200, 0.02
"""Rows that are left out in turn, and by how much a mean confidence may be over the share that is right."""


def _judged(fit: Fitted, found: Iterable[Check]) -> list[Check]:
    """Predictions by themselves: of models with classes, and where the parameters are not to be trusted.

    Each of some rows is left out in turn by importance weights 1/p(x_n | θ) of the draws (Vehtari, Gelman &
    Gabry 2017, Statistics and Computing 27).
    """
    bound = fit.bound
    parameters = worst(check for check in found if check.about == "parameters")
    if not bound.exchangeable or (parameters == "trusted" and not isinstance(bound, Judged)):
        return []
    part = excerpt(fit.data, LEFT_OUT, ordered=False, seed=fit.settings.seed)
    if fit.data.arrays and part is not fit.data:  # some of the rows do not go with all of the arrays
        return []
    theta = select_draws(fit.posterior_draws.theta, slice(0, 400))
    try:
        log_x = bound.log_likelihood(part, theta, fit.settings.device).numpy()
    except PplError:
        return []
    if log_x.shape[1] != part.rows:
        return []
    if isinstance(bound, Judged):
        return _classified(fit, part, theta, log_x)
    kept = np.flatnonzero(np.isfinite(log_x).all(0))
    if len(kept) < 20:
        return []
    smoothed = [smooth(-column) for column in log_x[:, kept].T]
    out = np.array([_log_sum(s.log_weight + x) for s, x in zip(smoothed, log_x[:, kept].T, strict=True)])
    seen = np.array([_log_sum(x) - np.log(len(x)) for x in log_x[:, kept].T])
    lost, rough = float((seen - out).mean()), float(np.mean([s.k_hat > GOOD_K for s in smoothed]))
    per = lost / max(len(part.names), 1)
    level: Level = "ok" if per < LOST and rough < ROUGH else "warn"
    reason = (
        f"log density {out.mean():.2f} of a row that is left out, {seen.mean():.2f} of one that was seen; "
        f"{100 * rough:.0f} % of {len(kept)} rows have k-hat over {GOOD_K}"
    )
    if level == "warn":
        reason += ": it fits the rows more than what they share; judge it by score on other rows"
    return [Check("leave-one-out", lost, level, reason, "predictions")]


LOST, ROUGH = 0.1, 0.1
"""Nats a column that leaving a row out may cost, and the share of rows with a high k̂."""


def _classified(fit: Fitted, part: Any, theta: Any, log_x: np.ndarray) -> list[Check]:
    """Classes of rows that are left out: how many are right, and whether as many as was said."""
    bound, target = fit.bound, fit.data.schema.target
    codes = part.values[:, part.names.index(target)]
    use = ~np.isnan(codes) & np.isfinite(log_x).all(0)
    # truncated at √S times their mean (Ionides 2008, J. Comput. Graph. Stat. 17): of all rows at once
    log_w = log_x.min(0) - log_x
    weight = np.exp(log_w)
    weight = np.minimum(weight, weight.mean(0) * len(weight) ** 0.5)
    weight /= weight.sum(0)
    shares, known = [], []
    for index, values in bound.by_draw(bound.rows(part, fit.settings.device), theta):
        at = use[index]
        shares.append(np.einsum("sm,smc->mc", weight[:, index[at]], values.numpy()[:, at]))
        known.append(codes[index[at]].astype(int))
    if sum(map(len, known)) < 20:
        return []
    return [classified(np.concatenate(shares), np.concatenate(known), "left out in turn")]


def classified(p: np.ndarray, codes: np.ndarray, how: str) -> Check:
    """Predicted classes against those that were seen: how many are right, and whether as many as was said.

    Args:
        p: (m, C) probabilities, of rows that they were not fitted to.
        codes: (m,) the classes.
        how: what was done with the rows.
    """
    m, right, sure = len(codes), (p.argmax(1) == codes).mean(), p.max(1)
    share = np.bincount(codes) / m
    base = -float((share * np.log(np.where(share > 0, share, 1.0))).sum())
    loss = -float(np.log(np.maximum(p[np.arange(m), codes], 1e-300)).mean())
    over = float(sure.mean() - right)
    # of ties a row that is left out is always wrong, at p = ½: the share that is expected to be right is not
    share_right = float((p**2).sum(1).mean() - p[np.arange(m), codes].mean())
    far = over > SURE and share_right > SURE / 2 and over > 3 * float(np.sqrt((sure * (1 - sure)).mean() / m))
    reason = (
        f"of {m} rows {how} {100 * right:.1f} % are classified right, at a mean confidence of "
        f"{100 * sure.mean():.1f} %; log loss {loss:.3g}, by the shares of the classes alone {base:.3g}"
    )
    if far:
        reason += ": it is too sure of itself"
    elif loss > 0.98 * base:
        reason += ": it says no more than these"
    worse = loss > base + SURE
    level: Level = "fail" if far and over > 5 * SURE else "warn" if far or worse else "ok"
    return Check("classes", float(right), level, reason, "predictions")


def _log_sum(x: np.ndarray) -> float:
    return float(np.log(np.exp(x - x.max()).sum()) + x.max())
