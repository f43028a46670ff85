"""What the gradient rule ascends for a user-defined model: Pyro's own ELBOs, over the model and a guide.

    trace        E_q[log p(x, θ) − log q(θ)] by draws of θ (Ranganath et al. 2014; Kingma & Welling 2014)
    mean-field   the same with closed forms of KL(q(θ_i) ‖ p(θ_i)) where there are any
    enum         the same with discrete latents summed out
    renyi        Rényi's bound with α = 0, the importance-weighted one (Li & Turner 2016, NeurIPS,
                 https://arxiv.org/abs/1602.02311; Burda, Grosse & Salakhutdinov 2016, ICLR)

With mini-batches the model is executed over B of the N rows, and every site in the plate of the rows weighs
N/B: an unbiased estimate of the ELBO of all rows, as long as no latent belongs to a row.
"""

import math
from typing import Any

import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from torch import Tensor

from ppl_models.errors import UsageError
from ppl_models.inference.gradient import GradientTarget
from ppl_models.models.program.failures import telling
from ppl_models.models.program.guides import Prepared, build, local

LOOKED = 128
"""Draws of the guide by which the evidence is judged."""


class ProgramTarget(GradientTarget):
    """A program and a guide.

    Args:
        bound: the program, which knows its rows.
        kind: of the guide.
        elbo: `auto`, `trace`, `mean-field`, `enum` or `renyi`.
        particles: draws of the guide a step.
        batched: whether mini-batches will be asked for.
        start: u (d,) to put the guide at.

    Raises:
        UsageError: if the model has no ELBO of this kind, or cannot be taken in mini-batches.
    """

    def __init__(
        self, bound: Any, kind: str, elbo: str, particles: int, batched: bool, start: Tensor | None
    ) -> None:
        sites = bound.sites
        if sites.discrete and elbo not in ("auto", "enum"):
            raise UsageError(f"elbo {elbo} cannot sum out {min(sites.discrete)!r}; use enum")
        if batched:
            _check_batches(bound, kind)
        self.bound, self.rows = bound, max(bound.density.columns._rows, 1)
        self.module = build(bound, kind, start)
        name = ("enum" if sites.discrete else "trace") if elbo == "auto" else elbo
        self._elbo, self._judge = (_elbo(name, number, sites.nesting) for number in (particles, LOOKED))
        self._batched = batched

    def _loss(self, elbo: Any, rows: Tensor | None) -> Tensor:
        bound, sites, model = self.bound, self.bound.sites, self.bound.model
        columns, scale = bound.density.columns, 1.0
        if rows is not None and self._batched:
            columns, scale = columns.take(rows), self.rows / len(rows)

        def program(columns: Any) -> None:
            with Prepared(sites, scale):
                model.model(columns)

        def guide(columns: Any) -> None:
            with Prepared(sites, scale):
                self.module(columns)

        run = config_enumerate(program, default="parallel") if sites.discrete else program
        with local(), telling(model):
            return elbo(run, guide)(columns) / self.rows

    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Minus the ELBO, a row."""
        return self._loss(self._elbo, rows)

    def evidence(self) -> float:
        """The ELBO of all rows by many draws, the same each time, a row.

        An ELBO with latents summed out keeps its gradient: Pyro takes one without for a mistake.
        """
        summed_out = bool(self.bound.sites.discrete)
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(summed_out):
            torch.manual_seed(1)
            return -float(self._loss(self._judge, None).detach())

    def where(self) -> str:
        """The first site whose log density is not finite at a draw of the guide."""
        from pyro import poutine

        bound = self.bound
        with local(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            drawn = poutine.trace(self.module).get_trace(bound.density.columns)
            trace = poutine.trace(poutine.replay(bound.model.model, trace=drawn)).get_trace(
                bound.density.columns
            )
            trace.compute_log_prob()
            for name, node in trace.nodes.items():
                bad = ~torch.isfinite(node["log_prob"]) if "log_prob" in node else torch.zeros(1).bool()
                if bool(bad.any()):
                    site = bound.sites.observed.get(name)
                    column = "" if site is None or site.column is None else f", column {site.column!r}"
                    row = f", row {int(bad.reshape(-1).nonzero()[0]) + 1}" if bad.numel() > 1 else ""
                    return f"the log density of site {name!r}{column}{row}"
        return "the ELBO"


class Weighted(Trace_ELBO):
    """The importance-weighted bound log 1/K Σ_k p(x, θ_k)/q(θ_k), differentiated through the draws.

    Pyro's own `RenyiELBO` is not one that a module can be made of.
    """

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the bound."""
        traces = self._get_traces(model, guide, args, kwargs)
        each = [run.log_prob_sum() - drawn.log_prob_sum() for run, drawn in traces]
        return math.log(len(each)) - torch.stack(each).logsumexp(0)


def _elbo(name: str, particles: int, nesting: int) -> Any:
    kinds: dict[str, Any] = {"trace": Trace_ELBO, "mean-field": TraceMeanField_ELBO, "enum": TraceEnum_ELBO}
    if name == "renyi":
        return Weighted(num_particles=max(particles, 2))
    options = {"max_plate_nesting": nesting} if name == "enum" else {}
    return kinds[name](num_particles=particles, **options)


def _check_batches(bound: Any, kind: str) -> None:
    """Refuse mini-batches where they would be biased.

    Raises:
        UsageError: saying why.
    """
    name, sites = bound.model.name, bound.sites
    if sites.rows is None:
        raise UsageError(f"{name} cannot be taken in mini-batches: its rows depend on one another")
    local_ = [site.name for site in sites.latent.values() if site.in_plate(sites.rows)]
    if local_ and kind != "own":
        raise UsageError(
            f"{name} cannot be taken in mini-batches with this guide: site {local_[0]!r} has a value for "
            "each row; give it a guide() of its own that depends on the rows"
        )
