"""Guides of a user-defined model that the gradient rule learns, and draws from them.

    normal      u_i ~ N(m_i, s_i²), independent
    full-rank   u ~ N(m, L Lᵀ)
    low-rank    u ~ N(m, W Wᵀ + diag(d)), W with √d columns
    flow        u = f(ε), ε ~ N(0, I), f two inverse autoregressive layers (Kingma et al. 2016,
                https://arxiv.org/abs/1606.04934)
    own         what `guide(data)` of the model says, `pyro.param` statements and all

over u in ℝᵈ, the unconstrained latents. All but the last are Pyro's autoguides. Parameters live in a module
of their own, never in Pyro's global store.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import (
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    init_to_value,
)
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import constraints, transform_to

from ppl_models.errors import UsageError
from ppl_models.models.program.centring import transform_of
from ppl_models.models.program.execution import Masking, numerics, values
from ppl_models.models.program.failures import telling

AUTO: dict[str, Callable[..., Any]] = {
    "normal": AutoDiagonalNormal,
    "full-rank": AutoMultivariateNormal,
    "low-rank": AutoLowRankMultivariateNormal,
    "flow": lambda model: AutoIAFNormal(model, num_transforms=2),
}

SCALE = 0.1
"""Standard deviation that a normal guide starts from."""


class Parameters(Messenger):
    """Keeps what `pyro.param` names in a module, unconstrained."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._at: dict[str, str] = {}

    def _pyro_param(self, msg: Any) -> None:
        name = msg["name"]
        constraint = msg["kwargs"].get("constraint") or constraints.real
        own = name.replace(".", "/")  # a module's parameter has no dot in its name
        if own not in self.module._parameters:
            if len(msg["args"]) < 2:
                raise UsageError(f"pyro.param {name!r} has no value to start from")
            first = msg["args"][1]
            first = torch.as_tensor(first() if callable(first) else first)
            free = transform_to(constraint).inv(first.detach().double())
            self.module.register_parameter(own, nn.Parameter(free.clone()))
        msg["value"] = transform_to(constraint)(self.module._parameters[own])
        msg["done"] = msg["stop"] = True


class Prepared(Masking):
    """Masks what is missing of observed sites, and weighs the rows of a mini-batch by N/B."""

    def __init__(self, sites: Any, scale: float = 1.0) -> None:
        super().__init__(sites)
        self.scale = scale

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"]:
            self._observed(msg)
        if self.scale != 1.0 and any(frame.name == self.sites.rows for frame in msg["cond_indep_stack"]):
            msg["scale"] = msg["scale"] * self.scale


class Own(nn.Module):
    """The guide that a model brings, with its parameters."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, columns: Any) -> None:
        """Run the guide over the rows of `columns`."""
        with Parameters(self):
            self.model.guide(columns)


@contextmanager
def local() -> Iterator[None]:
    """Double precision, no validation, and parameters that belong to modules."""
    with numerics(), pyro.settings.context(module_local_params=True):
        yield


def build(bound: Any, kind: str, start: Tensor | None = None) -> nn.Module:
    """A guide that nothing was learned of yet.

    Args:
        bound: the program, which knows its rows.
        kind: a key of `AUTO`, or `own`.
        start: u (d,) that it is put at; zero if not given.
    """
    columns, sites, model = bound.density.columns, bound.sites, bound.model
    with local(), telling(model, "in its guide" if kind == "own" else ""), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "own":
            guide = Own(model)
            guide(columns)
            return guide
        if kind == "flow" and sites.dimension < 2:
            raise UsageError("guide flow needs at least two parameters; use --guide normal")
        u = torch.zeros(sites.dimension, dtype=torch.float64) if start is None else start
        first = {k: v.detach() for k, v in values(model, columns, sites, u).items() if k in sites.latent}

        def program(columns: Any) -> None:
            with Prepared(sites):
                model.model(columns)

        hidden = poutine.block(program, hide=[*sites.discrete, *sites.derived])
        options: dict[str, Any] = {}
        if kind != "flow":
            options = {"init_loc_fn": init_to_value(values=first), "init_scale": SCALE}
        guide = AUTO[kind](hidden, **options)
        guide(columns)
        return guide


class Form:
    """A learned guide as a density of u.

    Args:
        bound: the program.
        kind: of the guide.
        params: what was learned, with a leading dimension of 1.
    """

    def __init__(self, bound: Any, kind: str, params: Mapping[str, Tensor]) -> None:
        self.bound, self.kind = bound, kind
        self.guide = build(bound, kind)
        with torch.no_grad():
            for name, value in self.guide.named_parameters():
                value.copy_(params[f"{kind}.{name}"][0])

    def draw(self, draws: int) -> Tensor:
        """U (S, d), by torch's global generator."""
        with local(), torch.no_grad():
            if self.kind != "own":
                return self.guide.get_posterior().sample((draws,))  # pyright: ignore[reportCallIssue]
            return torch.stack([self._point() for _ in range(draws)])

    def log_prob(self, u: Tensor, log_det: Tensor) -> Tensor:
        """Log q(θ(u)), (S,), where log_det is log |∂θ/∂u|."""
        with local(), torch.no_grad():
            if self.kind != "own":
                return self.guide.get_posterior().log_prob(u) - log_det  # pyright: ignore[reportCallIssue]
            return torch.stack([self._density(point) for point in u])

    def _point(self) -> Tensor:
        """U of one draw."""
        columns, sites, model = self.bound.density.columns, self.bound.sites, self.bound.model
        drawn: Any = poutine.trace(self.guide).get_trace(columns)
        given: Any = {name: drawn.nodes[name]["value"] for name in sites.latent if name in drawn.nodes}
        lacking = [name for name in sites.latent if name not in given]
        if lacking:
            raise UsageError(f"guide() of {model.name} has no site {lacking[0]!r}, which model() has")
        ran: Any = poutine.trace(poutine.condition(model.model, data=given)).get_trace(columns)
        parts = []
        for name in sites.latent:
            free = transform_of(ran.nodes[name]["fn"], name not in sites.apart).inv(given[name])
            parts.append(free.reshape(-1))
        return torch.cat(parts).double()

    def _density(self, u: Tensor) -> Tensor:
        columns, sites, model = self.bound.density.columns, self.bound.sites, self.bound.model
        given: Any = {k: v for k, v in values(model, columns, sites, u).items() if k in sites.latent}
        trace = poutine.trace(poutine.condition(self.guide, data=given)).get_trace(columns)
        return torch.as_tensor(trace.log_prob_sum())


def form_of(bound: Any, params: Mapping[str, Tensor]) -> Form:
    """The guide that parameters are of, by their names."""
    kind = next(iter(params)).split(".")[0]
    return Form(bound, kind, params)
