"""One execution of a model at a point u: its log densities, with the discrete latents summed out.

    log p(x, θ) = Σ log prior(θ) + log Σ_z p(x, z | θ),    θ = T(u)

The sum over z is by Pyro's own enumeration and its contraction of log densities by plates and dimensions
(Obermeyer et al. 2019, Tensor variable elimination for plated factor graphs, ICML,
https://arxiv.org/abs/1902.03210). A support may depend on other sites: the transform is made where the site
stands. Nothing here looks at a value, so that it can be executed for many points at once (`torch.func.vmap`).
"""

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer import config_enumerate
from pyro.ops.contract import contract_tensor_tree
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from ppl_models.errors import Unsupported, UsageError
from ppl_models.models.program.centring import scale_of, transform_of
from ppl_models.models.program.elimination import Elimination
from ppl_models.models.program.failures import in_place
from ppl_models.models.program.inplace import Writable
from ppl_models.models.program.missing import as_tensor, filled, masked
from ppl_models.models.program.sites import Sites


class Densities(NamedTuple):
    """Of one point: log |∂θ/∂u|, log prior, and the log likelihood, of each row (n,) or in total ()."""

    log_det: Tensor
    prior: Tensor
    likelihood: Tensor


@contextmanager
def numerics() -> Iterator[None]:
    """Double precision and no checks of values, as within `vmap`; as it was before, afterwards.

    So is the working directory, to which a run or a checkpoint may be written.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with in_place(), pyro.validation_enabled(False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad")
            warnings.filterwarnings("ignore", "An output with one or more elements was resized")
            yield
    finally:
        torch.set_default_dtype(before)


class Masking(Messenger):
    """Masks observations that are missing.

    Args:
        sites: what was discovered.
        complete: observed sites known to miss nothing, which are not looked at: a recording cannot look.

    Attributes:
        holed: sites that missed something.
        seen: what they observed, with NaN where it is missing.
    """

    def __init__(self, sites: Sites, complete: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.sites, self.complete = sites, complete
        self.holed: set[str] = set()
        self.seen: dict[str, Tensor] = {}

    def _observed(self, msg: Any) -> None:
        if isinstance(msg["fn"], _Subsample) or msg["infer"].get("_deterministic"):
            return
        as_tensor(msg)
        if msg["name"] in self.complete:
            return
        if msg["value"].dtype.is_floating_point and msg["name"] in self.sites.observed:
            found = filled(msg["name"], msg["value"], msg["fn"].event_dim)
            if found is not None:
                self.holed.add(msg["name"])
                self.seen[msg["name"]] = msg["value"]
                msg["value"], mask = found
                msg["fn"] = masked(msg["fn"], mask)


class Substitute(Masking):
    """Gives continuous latent sites their values at u (d,), and masks observations that are missing.

    Args:
        sites: what was discovered.
        u: the point.
        complete: observed sites known to miss nothing, which are not looked at: a recording cannot look.
    """

    def __init__(self, sites: Sites, u: Tensor, complete: frozenset[str] = frozenset()) -> None:
        super().__init__(sites, complete)
        self.u = u
        self.log_dets: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if msg["is_observed"]:
            self._observed(msg)
            return
        site = self.sites.latent.get(name)
        if site is None:
            return
        shape = tuple(msg["fn"].batch_shape + msg["fn"].event_shape)
        if len(shape) == len(site.shape) and shape != site.shape and not self.sites.discrete:
            raise Unsupported(
                f"site {name!r} has the shape {shape} for these rows and {site.shape} for those of the fit: "
                "a latent of each row says nothing of others"
            )
        transform = transform_of(msg["fn"], name not in self.sites.apart)
        free = self.u[site.at].reshape(site.free)
        value = transform(free)
        self.log_dets[name] = transform.log_abs_det_jacobian(free, value).sum()
        msg["value"], msg["done"] = value, True

    @property
    def log_det(self) -> Tensor:
        """Log |∂θ/∂u|."""
        return _total([self.u.new_zeros(()), *self.log_dets.values()])


class Enumerate(EnumMessenger):
    """Pyro's enumeration in parallel, that looks at shapes only: `Tensor.data` is not for `vmap`."""

    def _pyro_sample(self, msg: Any) -> None:
        done, msg["done"] = msg["done"], False  # `pyro.markov` asks for the depth of given sites as well
        super()._pyro_sample(msg)
        msg["done"] = done

    def _pyro_post_sample(self, msg: Any) -> None:
        value, fn = msg["value"], msg["fn"]
        if value is None or not isinstance(fn, TorchDistributionMixin):
            return
        shape = value.shape[: value.dim() - fn.event_dim]
        dims = msg["infer"].setdefault("_dim_to_id", {})
        dims.update(self._param_dims.get(msg["name"], {}))
        self._value_dims[msg["name"]] = {
            dim: id_ for dim, id_ in dims.items() if len(shape) >= -dim and shape[dim] > 1
        }


def traced(model: Any, columns: Any, handler: Messenger, sites: Sites, enumerate: bool = True) -> Any:
    """A trace of a model under a handler, its discrete latents enumerated or drawn.

    Args:
        model: the model.
        columns: its data.
        handler: what gives the sites their values.
        sites: what was discovered.
        enumerate: whether discrete latents are enumerated; else they are drawn.

    Returns:
        A `pyro.poutine.Trace`.
    """
    with poutine.trace() as tracer, _writing(sites, getattr(handler, "u", None)):
        if enumerate and sites.discrete:
            run = config_enumerate(_program(model), default="parallel")
            with Enumerate(first_available_dim=-1 - sites.nesting), handler:
                run(columns)
        else:
            with handler:
                model.model(columns)
    return tracer.trace


def _writing(sites: Sites, u: Any) -> Any:
    """A context in which tensors may be written into, where the model does so."""
    return Writable(u) if sites.writes and u is not None else nullcontext()


def _program(model: Any) -> Any:
    def program(columns: Any) -> None:
        model.model(columns)

    return program


def densities(
    model: Any,
    columns: Any,
    sites: Sites,
    u: Tensor,
    extra: Mapping[str, Tensor] | None = None,
    complete: frozenset[str] = frozenset(),
) -> Densities:
    """The log densities at u (d,), without validation.

    Args:
        model: the model.
        columns: its data.
        sites: what was discovered.
        u: the point.
        complete: observed sites known to miss nothing.
        extra: added to the log density of enumerated sites, by name: see `simulate.marginals`.

    Returns:
        Three scalars, but the likelihood by row (n,) where the model has a plate of rows.
    """
    handler = Substitute(sites, u, complete)
    trace = traced(model, columns, handler, sites)
    with _writing(sites, u):  # densities may write into tensors as well
        trace.compute_log_prob()
    if not sites.discrete:
        return _plain(trace, sites, handler.log_det)
    return _enumerated(trace, sites, handler.log_det, extra or {})


def _sampled(trace: Any) -> Iterator[tuple[str, Any]]:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not isinstance(site["fn"], _Subsample):
            yield name, site


def _plain(trace: Any, sites: Sites, log_det: Tensor) -> Densities:
    priors, rest, by_row = [log_det.new_zeros(())], [log_det.new_zeros(())], None
    for name, site in _sampled(trace):
        log_prob = site["log_prob"]
        if name in sites.latent:
            priors.append(log_prob.sum())
        elif name in sites.derived:
            continue
        elif sites.rows is not None and name in sites.observed:
            dim = next(f.dim for f in site["cond_indep_stack"] if f.name == sites.rows)
            others = [i for i in range(-log_prob.dim(), 0) if i != dim]
            own = log_prob.sum(others) if others else log_prob
            by_row = own if by_row is None else by_row + own
        else:
            rest.append(log_prob.sum())
    return Densities(log_det, _total(priors), _total(rest) if by_row is None else by_row)


def _total(terms: list[Tensor]) -> Tensor:
    """Their sum: of many at once, not of one after another."""
    return torch.stack(terms).sum()


def _enumerated(trace: Any, sites: Sites, log_det: Tensor, extra: Mapping[str, Tensor]) -> Densities:
    """Sum products of factors over the enumerated dimensions, plate by plate."""
    for name, tensor in extra.items():
        site = trace.nodes[name]
        site["log_prob"] = site["unscaled_log_prob"] = site["log_prob"] + _aligned(site, tensor)
    trace.pack_tensors()
    plates = trace.plate_to_symbol
    factors: OrderedDict[Any, list[Tensor]] = OrderedDict()
    summed = set(trace.symbol_to_dim) - set(plates.values())
    priors, free = [log_det.new_zeros(())], log_det.new_zeros(())
    for name, site in _sampled(trace):
        if name in sites.derived:
            continue
        term = site["packed"]["log_prob"]
        if bool((torch.as_tensor(site["scale"]) != 1).any()):
            if set(term._pyro_dims) & summed:
                raise UsageError(f"site {name!r}: poutine.scale around sites that depend on discrete latents")
        ordinal = frozenset(plates[f.name] for f in site["cond_indep_stack"] if f.vectorized)
        if set(term._pyro_dims) & summed:
            factors.setdefault(ordinal, []).append(term)
        elif name in sites.latent:
            priors.append(term.sum())
        else:
            factors.setdefault(ordinal, []).append(term)
    row = plates.get(sites.rows) if sites.rows is not None else None
    by_row = None
    contracted = contract_tensor_tree(factors, summed, ring=Elimination())
    for terms in contracted.values():
        for term in terms:
            dims = term._pyro_dims
            if row is not None and row in dims:
                others = [i for i, symbol in enumerate(dims) if symbol != row]
                own = term.sum(others) if others else term
                by_row = own if by_row is None else by_row + own
            else:
                free = free + term.sum()
    return Densities(log_det, _total(priors), free if by_row is None else by_row)


def _aligned(site: Any, tensor: Tensor) -> Tensor:
    """(*plates, K) as a term of the log density, with K at the dimension that was enumerated."""
    dim = site["infer"]["_enumerate_dim"]
    batch = tensor.dim() - 1
    moved = tensor.movedim(-1, 0)
    return moved.reshape(moved.shape[0], *[1] * (-dim - 1 - batch), *moved.shape[1:])


def observed(
    model: Any, columns: Any, sites: Sites, u: Tensor, factors: bool = False
) -> dict[str, tuple[Tensor, Tensor]]:
    """What each observed site saw, and its log density at u (d,), missing cells having none.

    Args:
        model: the model.
        columns: its data.
        sites: what was discovered.
        u: the point.
        factors: whether `pyro.factor` statements are among them.

    Returns:
        By site the value, and the log density of each of its events; without enumeration, so that of a site
        that depends on a discrete latent the density means nothing.
    """
    handler = Substitute(sites, u)
    trace = traced(model, columns, handler, sites, enumerate=False)
    wanted = {*sites.observed, *(sites.factors if factors else ())}
    found = {}
    for name, node in _sampled(trace):
        if name in wanted:
            value = handler.seen.get(name, node["value"])
            with _writing(sites, u):
                found[name] = (value, node["fn"].log_prob(node["value"]))
    return found


def scaled(model: Any, columns: Any, sites: Sites) -> tuple[str, ...]:
    """Latent sites whose prior has a scale that depends on other latents."""
    u = torch.zeros(sites.dimension, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        trace = traced(model, columns, Substitute(sites, u), sites)
    scales = {name: scale_of(trace.nodes[name]["fn"]) for name in sites.latent if name in trace.nodes}
    return tuple(name for name, scale in scales.items() if scale is not None and scale.requires_grad)


def values(model: Any, columns: Any, sites: Sites, u: Tensor) -> dict[str, Tensor]:
    """The continuous latents and what is derived from them, at u (d,).

    Args:
        model: the model.
        columns: its data.
        sites: what was discovered.
        u: the point.

    Returns:
        By site, in the shape that the model gives it.
    """
    trace = traced(model, columns, Substitute(sites, u), sites)
    wanted = {**sites.latent, **sites.derived}
    found = {name: trace.nodes[name]["value"] for name in wanted if name in trace.nodes}
    return {name: value + u.sum() * 0 for name, value in found.items()}  # of the same batch under vmap
