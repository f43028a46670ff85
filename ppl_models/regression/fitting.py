"""Fitting a logistic regression: which Gaussian, by which method, and what there is to say about it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.errors import DataError, UsageError
from ppl_models.regression import separation
from ppl_models.regression.bound import Regression
from ppl_models.regression.design import Block
from ppl_models.regression.ep import Fixed, grid, mixture
from ppl_models.regression.forms import CENTRE, DRAWS, KERNEL, MAP, Apart, Blocks, Form, Full, Mixture
from ppl_models.regression.glm import GLM
from ppl_models.regression.hyper import Surface, integrate, peak
from ppl_models.regression.kernels import KernelCoding, Tuned, retuned, spanned
from ppl_models.regression.moves import WORK, exact_draws
from ppl_models.regression.newton import fit_glm
from ppl_models.regression.quadrature import safe_cholesky
from ppl_models.regression.responses import Categorical, NumberResponse, OneAgainstRest, Response
from ppl_models.regression.rows import Batch
from ppl_models.regression.tuning import SPREAD, Output, Tuner, starts, tune
from ppl_models.regression.wide import RANK, ROWS, fit_dual, fit_many
from ppl_models.threads import threads_for

TUNE_ROWS, TUNE_POINTS = 2_000, 128
"""Rows and inducing points at most by which the length scale and amplitude of a kernel are learned."""

LENGTHS = (0.3, 1.0, 3.0)
"""Length scales from which they are looked for."""

DENSE = 2_000
"""Coefficients up to which a d × d covariance is held."""

LOW_RANK = 50_000
"""Coefficients up to which leading directions are looked for; beyond that the precision is diagonal."""


@dataclass(frozen=True, eq=False)
class Result:
    """A fitted regression.

    Attributes:
        params: the posterior, tensors with a leading dimension of 1.
        elbo: evidence lower bound in nats; under a horseshoe an estimate of the evidence by EP.
        converged: whether it got as far as was asked.
        steps: how many.
        seconds: wall time.
        history: a dict a step: `rows`, `elbo`, `left` (nats to gain).
        form: full, low_rank, diag or mixture.
        notes: what to know about the data and the fit, a sentence each.
        separated: whether the classes are separated.
    """

    params: dict[str, Tensor]
    elbo: float
    converged: bool
    steps: int
    seconds: float
    history: tuple[dict[str, float], ...]
    form: str
    notes: tuple[str, ...]
    separated: bool


def fit_regression(bound: Regression, data: Dataset, *, steps: int = 200, tolerance: float = 1e-6) -> Result:
    """Fit a regression to all rows that have a target and every predictor.

    Args:
        bound: the model over the table's columns.
        data: the table.
        steps: natural-gradient steps at most.
        tolerance: nats a parameter that may be left to gain.

    Raises:
        DataError: no row can be used, or only one class is there.
        UsageError: the covariance asked for is too large, or the formula cannot be meant.
    """
    began = time.perf_counter()
    bound, sites = tuned(bound, data)
    batch, draws, beside = bound.dataset_batch(data), None, {}
    name = "mixture" if bound.model.prior == "horseshoe" else _form(bound, len(batch))
    if name == "mixture":
        with threads_for(len(batch) * bound.parameters):
            form, elbo, converged, history, draws = _horseshoe(bound, batch)
    elif name == "full" and bound.shared:
        form, elbo, converged, history = _integrated(bound, batch, tolerance)
    else:
        if name == "full" and batch.important and not isinstance(bound.response, OneAgainstRest):
            bound = bound.at({"adjust": bound.glm.adjusted(batch).adjust})
            assert bound.adjust is not None
            beside = {CENTRE: bound.adjust.centre, MAP: bound.adjust.map}
        form, elbo, converged, history = _profiled(bound, batch, name, steps, tolerance, sites)
    if bound.tuned is not None:
        beside[KERNEL] = torch.tensor(bound.tuned.stored, dtype=torch.float64)
    if bound.log_unit:
        elbo -= bound.log_unit * batch.weight_sum
    B = form.mean[: bound.glm.dimension].reshape(bound.glm.width, -1)
    separated = separation.note(bound.glm, batch, B)
    notes = [*bound.design.notes, *([separated] if separated else [])]
    if batch.important:
        how = (
            "bent to the sandwich's covariance"
            if beside
            else "without a sandwich, which takes a full covariance and nothing else that rows share"
        )
        notes.append(
            f"weights are not counts: the likelihood is that of {batch.effective():,.1f} rows of equal "
            f"weight (Kish's effective sample size), {how}"
        )
    if name in ("low_rank", "diag"):
        notes.append(
            f"the posterior covariance of {bound.parameters:,} coefficients is an approximation ({name})"
        )
    if name == "mixture" and draws is None:
        notes.append(
            "posterior by expectation propagation alone, too large for exact draws: coefficients that may be "
            "large are about a quarter of their posterior sd too near to zero"
        )
    kept = form.params | beside if draws is None else form.params | {DRAWS: draws}
    params = {key: value.detach()[None] for key, value in kept.items()}
    seconds = time.perf_counter() - began
    return Result(
        params, elbo, converged, len(history), seconds, history, "full" if name == "dual" else name,
        tuple(notes), bool(separated),
    )  # fmt: skip


def _form(bound: Regression, rows: int) -> str:
    """Full, dual (full, through few rows), low_rank or diag."""
    if isinstance(bound.response, OneAgainstRest):
        return "full"  # of each output
    d, asked = bound.parameters, bound.model.covariance
    few = rows * bound.glm.outputs
    if asked in ("auto", "full"):
        if few < d and few <= ROWS:
            return "dual"
        if d <= DENSE or (asked == "full" and d <= 4 * DENSE):
            return "full"
        if asked == "full":
            raise UsageError(
                f"a full covariance of {d:,} coefficients takes {8 * d * d / 1e9:.1f} GB; "
                "use --covariance low_rank"
            )
        return "low_rank" if d <= LOW_RANK else "diag"
    return asked


Sites = Sequence[Output]
Found = tuple[Form, float, bool, tuple[dict[str, float], ...]]


def _integrated(bound: Regression, batch: Batch, tolerance: float) -> Found:
    """A full covariance, and ψ integrated out."""
    surface = Surface(
        bound.glm_at, bound.expected, bound.log_prior_shared, batch, max(tolerance, 1e-5), history := []
    )
    form, evidence = integrate(surface, bound.start())
    return form, evidence, True, tuple(history)


def _profiled(
    bound: Regression, batch: Batch, name: str, steps: int, tolerance: float, sites: Sites
) -> Found:
    """One Gaussian, at the best ψ where there is one."""

    def solve(psi: Tensor) -> Found:
        glm = bound.glm_at(psi)
        if isinstance(glm.response, OneAgainstRest):
            return _one_by_one(glm, batch, steps, tolerance, sites)
        if name == "dual":
            with threads_for(len(batch) * bound.parameters):
                return fit_dual(glm, batch, steps, tolerance)[:4]
        if name == "full":
            fitted = fit_glm(glm, batch, steps, tolerance)
            form: Form = Full(fitted.loc, fitted.scale_tril)
            return form, fitted.elbo, fitted.converged, fitted.history
        return fit_many(glm, batch, RANK if name == "low_rank" else 0)[:4]

    if not bound.shared:
        return solve(bound.start())

    def value(psi: Tensor) -> float:
        return solve(psi)[1] + float(bound.log_prior_shared(psi[None])[0])

    shared = peak(value, bound.start())
    form, elbo, converged, history = solve(shared.loc)
    entropy = float(shared.scale_tril.diagonal().log().sum()) + 0.5 * bound.shared * math.log(2 * math.pi)
    elbo += float(bound.log_prior_shared(shared.loc[None])[0]) + entropy
    return Apart(form, shared), elbo, converged, history


def _one_by_one(glm: GLM, batch: Batch, steps: int, tolerance: float, sites: Sites) -> Found:
    """A Gaussian for each output, where they share nothing, from the sites that kernels were chosen by."""
    assert isinstance(glm.response, OneAgainstRest)
    tolerance = max(tolerance, 1e-5)  # a hinge's curvature follows its mean slowly; this is 0.005 sd
    found = []
    for k, part in enumerate(glm.response.parts):
        own = glm.at(part, glm.prior)
        start = own.with_sites(batch, sites[k].precision, sites[k].pull) if sites else None
        found.append(fit_glm(own, batch, steps, tolerance, start))
    history = tuple(line for each in found for line in each.history)
    form = Blocks(tuple(Full(each.loc, each.scale_tril) for each in found))
    return form, sum(each.elbo for each in found), all(each.converged for each in found), history


def tuned(bound: Regression, data: Dataset) -> tuple[Regression, Sites]:
    """With the length scale and amplitude of the largest evidence lower bound, where they were not given.

    Args:
        bound: the regression.
        data: the rows of the fit.

    Returns:
        The regression, and of each output the sites of all rows, where all of them were looked at.
    """
    m, own = bound.model, bound.prepare(data).tuned
    if own is None:
        return bound.settled(data), []
    free = [i for i, given in enumerate((m.length_scale, m.amplitude)) if given is None]
    if m.kernel == "linear":
        free = [i for i in free if i == 1]
    if not free:
        return bound.settled(data), []
    batch = bound.dataset_batch(data)
    every = len(batch)
    if every > TUNE_ROWS:
        batch = replace(batch.some(TUNE_ROWS), scale=1.0)
    coding, cells = bound.design.coding, data.values[batch.index]
    if isinstance(coding, KernelCoding):
        of_length = coding.by_length(cells, TUNE_POINTS)
        one = retuned(bound.design, Tuned(1.0, 1.0, (0,)))  # of the rows their features are not asked for
        rows = replace(batch, design=one, _kept={}).whole()
    else:
        rows = batch.whole()
        of_length = lambda _: rows.Z.numpy()  # noqa: E731

    def features(length: float) -> Tensor:
        return torch.from_numpy(of_length(length))

    def at(response: Response, psi: Tensor) -> Response:
        return response.at(psi) if isinstance(response, NumberResponse) else response

    def log_prior(theta: Tensor) -> float:
        there = float(bound.log_prior_shared(theta[None, 2:])[0]) if bound.shared else 0.0
        return there - float((theta[:2] ** 2).sum()) / (2 * SPREAD**2)

    nothing = torch.zeros(len(rows.y), dtype=torch.float64)
    outputs = [Output(part, y, nothing + 0.25, nothing) for part, y in bound.response.alone(rows.y)]
    tuner = Tuner(features, rows, at, m.intercept_scale, log_prior, outputs)
    lengths = LENGTHS if 0 in free else (own.length_scale,)
    begin = starts(lengths, m.amplitude or 1.0, bound.start())
    best, outputs = tune(tuner, begin, [*free, *range(2, 2 + bound.shared)])
    length, a = (
        given or math.exp(float(v)) for given, v in zip((m.length_scale, m.amplitude), best, strict=False)
    )
    learned = spanned(bound.design, Tuned(length, a))
    return bound.at({"tuned": learned}), outputs if len(batch) == every else []


def _horseshoe(
    bound: Regression, batch: Batch
) -> tuple[Form, float, bool, tuple[dict[str, float], ...], Tensor | None]:
    """By `_under_horseshoe`, at the best ψ where there is one, and with draws at points around it."""
    if bound.design.widths:
        raise UsageError(
            "a horseshoe and coefficients that vary by group cannot be had together; use --prior normal"
        )
    if not bound.shared:
        return _under_horseshoe(bound, bound.glm, batch)

    def value(psi: Tensor) -> float:
        found = _under_horseshoe(bound, bound.glm_at(psi), batch, draw=False)
        return found[1] + float(bound.log_prior_shared(psi[None])[0])

    shared = peak(value, bound.start())
    parts, q = [], bound.shared
    form, elbo, converged, history, draws = _under_horseshoe(bound, bound.glm_at(shared.loc), batch)
    if draws is not None:  # sigma points: ψ ± √3 sd along each axis, one in six each
        parts = [torch.cat([draws, shared.loc.expand(len(draws), q)], 1)] if q < 3 else []
        some = len(draws) // max(1, 6 - 2 * q)
        for i in range(q):
            for sign in (-1, 1):
                psi = shared.loc + sign * math.sqrt(3) * shared.scale_tril[:, i]
                more = _under_horseshoe(bound, bound.glm_at(psi), batch)[4]
                assert more is not None
                chosen = more[torch.randperm(len(more))[:some]]
                parts.append(torch.cat([chosen, psi.expand(len(chosen), q)], 1))
        draws = torch.cat(parts)
        draws = draws[torch.randperm(len(draws))]
    return Apart(form, shared), elbo, converged, history, draws


def _under_horseshoe(
    bound: Regression, glm: GLM, batch: Batch, draw: bool = True
) -> tuple[Form, float, bool, tuple[dict[str, float], ...], Tensor | None]:
    """EP with a site for every row where there are few; else the likelihood as one Gaussian factor."""
    few = len(batch) * glm.outputs <= ROWS
    history: list[dict[str, float]] = []

    def record(solved) -> None:
        history.append({"rows": len(batch), "elbo": solved.evidence, "log_tau": math.log(solved.cell.tau)})

    if few:
        rows = batch.whole()
        found = grid(glm, rows, bound.horseshoe, None, record)
        form, evidence = mixture(found)
        draws = None
        if draw and len(batch) * glm.dimension <= WORK:
            best = max(found, key=lambda each: each[1])[0]
            draws = exact_draws(glm, rows, bound.horseshoe, form, best.sites, None)
        return form, evidence, all(s.converged for s, _ in found), tuple(history), draws
    if glm.dimension > DENSE:
        raise DataError(
            f"{batch.data.source}: a horseshoe over {glm.dimension:,} coefficients and {len(batch):,} rows "
            f"is too large; it takes up to {DENSE:,} coefficients or {ROWS:,} rows: use --prior student_t"
        )
    start = fit_glm(glm, batch, tolerance=1e-4)
    loc, root = start.loc, start.scale_tril
    none = torch.zeros(0, dtype=torch.float64)
    codes = none.to(torch.int64) if isinstance(glm.response, Categorical) else none
    nothing = Block(torch.zeros(0, glm.width).double(), codes, none)
    form, evidence, converged, found, fixed = None, -math.inf, False, [], None
    for _ in range(8):
        before = loc
        fixed, constant = _factor(glm, batch, loc, root)
        found = grid(glm, nothing, bound.horseshoe, fixed, record)
        form, evidence = mixture(found)
        evidence += constant
        loc, root = _moments(form)
        moved = float(((loc - before).abs() / form.variance.sqrt()).max())
        converged = moved < 1e-2 and all(s.converged for s, _ in found)
        if converged:
            break
    assert form is not None
    best = max(found, key=lambda each: each[1])[0]
    draws = (
        exact_draws(glm, nothing, bound.horseshoe, form, best.sites, fixed)
        if draw and glm.dimension <= 200
        else None
    )
    return form, evidence, converged, tuple(history), draws


def _factor(glm: GLM, batch: Batch, loc: Tensor, root: Tensor) -> tuple[Fixed, float]:
    """The likelihood as −½ φᵀFφ + rᵀφ + constant: expected gradient and curvature under N(loc, L Lᵀ)."""
    found = glm.expect(batch, loc, root)
    p1, K, d = glm.width, glm.outputs, glm.dimension
    sigma = (root @ root.mT).reshape(p1, K, p1, K)
    at = torch.arange(p1)
    prior = glm.prior.expect(loc.reshape(p1, K), sigma[at, :, at, :])
    F = found.curvature.reshape(p1, K, p1, K).clone()
    F[at, :, at, :] -= prior.curvature
    F = F.reshape(d, d)
    gradient = found.gradient - prior.gradient.reshape(-1)
    r = gradient + F @ loc
    value = float(found.log_p - prior.log_prior)
    constant = value - float(r @ loc) + 0.5 * float(loc @ F @ loc) + 0.5 * float((F * (root @ root.mT)).sum())
    return Fixed(F, r.reshape(p1, K)), constant


def _moments(form: Mixture) -> tuple[Tensor, Tensor]:
    """Mean and Cholesky factor of the covariance of a mixture of full Gaussians."""
    mean = form.mean
    cov = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for w, part in zip(form.weight, form.parts, strict=True):
        assert isinstance(part, Full)
        gap = part.loc - mean
        cov += w * (part.scale_tril @ part.scale_tril.mT + gap[:, None] * gap)
    return mean, safe_cholesky(cov[None])[0] if len(mean) > 1 else cov.sqrt()
