"""The sites of a model, discovered by executing it once with draws from its prior.

- latent and continuous: numbers θ, mapped from ℝᵈ by the transform that belongs to their support;
- latent and discrete: summed out, so they must have finitely many values;
- observed: with the column that they observe, and the plate of the rows;
- derived (`pyro.deterministic`): functions of θ that are reported like θ.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch.distributions import biject_to

from ppl_models.errors import DataError, Unsupported, UsageError
from ppl_models.models.program.columns import Columns
from ppl_models.models.program.failures import file_of, line_here, telling
from ppl_models.models.program.missing import as_tensor
from ppl_models.wording import words_of

Plates = tuple[tuple[int, str, int], ...]
"""(dim, name, size) of the vectorised plates of a site, outermost first."""


@dataclass(frozen=True)
class Site:
    """A site.

    Attributes:
        name: of the site.
        shape: of its value.
        event_dim: trailing dimensions of one event.
        plates: that it is in.
        at: where its numbers lie in u (continuous latents).
        free: their shape there.
        column: what it observes, if it is a column.
        levels: how many values it has (discrete latents).
        values: what these are, where they are not 0, 1, …
        real: whether its support is all of ℝ.
    """

    name: str
    shape: tuple[int, ...]
    event_dim: int
    plates: Plates
    at: slice = field(default_factory=lambda: slice(0, 0))
    free: tuple[int, ...] = ()
    column: str | None = None
    levels: int = 0
    values: tuple[float, ...] = ()
    real: bool = False

    def in_plate(self, name: str | None) -> bool:
        """Whether the site is in a plate."""
        return any(plate == name for _, plate, _ in self.plates)


@dataclass(frozen=True)
class Sites:
    """All sites of a model over some data.

    Attributes:
        latent: continuous, in order.
        discrete: latent and enumerated.
        observed: with data.
        derived: by `pyro.deterministic`.
        factors: `pyro.factor` statements.
        nesting: how many dimensions the plates take.
        rows: the name of the plate of the rows, if rows are independent given θ.
        families: names of sites x_0, x_1, … that there is one of for every row, by their stem.
        used: the columns that the model asked for.
        improper: latents whose prior is an `ImproperUniform`.
        scaled: latents whose prior has a scale that depends on others.
        apart: those of them whose location and scale are taken out: `centring`.
        writes: whether the model writes into tensors: `inplace`.
    """

    latent: dict[str, Site]
    discrete: dict[str, Site]
    observed: dict[str, Site]
    derived: dict[str, Site]
    factors: tuple[str, ...] = ()
    nesting: int = 0
    rows: str | None = None
    families: dict[str, tuple[str, ...]] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    improper: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    apart: frozenset[str] = frozenset()
    writes: bool = False

    @property
    def dimension(self) -> int:
        """d, the numbers of u."""
        return max((site.at.stop for site in self.latent.values()), default=0)


class _Watch(Messenger):
    """Refuses what cannot be fitted where it stands, and remembers the site reached and its line."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.site = model, None

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if isinstance(fn, _Subsample):
            return
        self.site = name
        if msg["is_observed"]:
            if not msg["infer"].get("_deterministic"):
                as_tensor(msg)
            return
        base = _base(fn)
        kind = type(base).__name__
        where = f"{file_of(self.model).rpartition('/')[2]}, line {line_here(self.model)}: site {name!r}"
        if kind == "ImproperUniform" and not self.model.improper:
            raise Unsupported(
                f"{where} is an ImproperUniform, which cannot be sampled; give it a wide but proper prior, "
                "or ask for it with `improper = True` in the class"
            )
        if not fn.support.is_discrete:
            if msg["value"] is None:
                msg["value"] = improper_value(fn)
            return
        if not fn.has_enumerate_support or fn.event_dim or not _enumerable(fn):
            why = f"{kind} has no end of values" if kind in _ENDLESS else f"{kind} cannot be enumerated"
            if kind in ("Binomial", "BetaBinomial"):
                why = f"a {kind} in a plate needs totals that are all the same"
            raise Unsupported(
                f"{where} is discrete and not observed, and cannot be summed out: {why}; "
                "use a distribution of finitely many values (Categorical, Bernoulli), or a continuous one"
            )

    def _pyro_param(self, msg: Any) -> None:
        raise Unsupported(
            f"{file_of(self.model).rpartition('/')[2]}, line {line_here(self.model)}: pyro.param "
            f"{msg['name']!r} in a model is a point estimate, which the model has no prior of; "
            "give it a prior with pyro.sample"
        )


_ENDLESS = {
    "Poisson",
    "Geometric",
    "NegativeBinomial",
    "GammaPoisson",
    "ZeroInflatedPoisson",
    "LogNormalNegativeBinomial",
}


def _enumerable(fn: Any) -> bool:
    """Whether the values can be listed: not those of a Binomial with unequal totals."""
    try:
        fn.enumerate_support(expand=False)
    except (NotImplementedError, ValueError, RuntimeError):
        return False
    return True


def improper_value(fn: Any) -> Any:
    """A value of an `ImproperUniform`, which has no draws: the image of a normal one; None of any other."""
    if not isinstance(_base(fn), dist.ImproperUniform):
        return None
    transform = biject_to(fn.support)
    shape = transform.inverse_shape(torch.Size(fn.batch_shape + fn.event_shape))
    return transform(torch.randn(shape))


class Proper(Messenger):
    """Gives sites with an improper prior a value, where the prior is drawn from."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["value"] is None and not isinstance(msg["fn"], _Subsample):
            msg["value"] = improper_value(msg["fn"])


def _base(fn: Any) -> Any:
    """The distribution inside masks, expansions and independence."""
    while hasattr(fn, "base_dist") and not hasattr(fn, "transforms"):
        fn = fn.base_dist
    return fn


def discover(model: Any, columns: Columns, rows: int) -> Sites:
    """Execute a model once and list its sites.

    Raises:
        Unsupported: a site cannot be fitted.
        UsageError: the model raised something; says in which line.
        DataError: a column with missing cells is not one that is observed.
    """
    watch = _Watch(model)
    columns.used.clear()
    with telling(model, site=lambda: watch.site), pyro.validation_enabled(True), torch.no_grad():
        with poutine.trace() as tracer, watch:
            try:
                model.model(columns)
            except (ValueError, RuntimeError, IndexError, TypeError):
                _refuse_holes(columns, tracer.trace)
                raise
        trace = tracer.trace
        watch.site = None
        _check_values(model, trace)
    found = _listed(model, trace, columns)
    for name in sorted(columns.used):
        observed = any(site.column == name for site in found.observed.values())
        if columns.missing(name) and not observed and not _holes(trace, columns, name):
            raise DataError(_HOLES.format(name, columns.missing(name)))
    return _with_rows(found, rows)


def _refuse_holes(columns: Columns, trace: Any) -> None:
    """Where a model failed on a missing cell that it was given, say so rather than what came of it.

    Raises:
        DataError: naming the column.
    """
    values = [
        site["value"] for site in trace.nodes.values() if site["type"] == "sample" and site["is_observed"]
    ]
    for name in sorted(columns.used):
        if columns.missing(name) and not any(columns[name] is value for value in values):
            raise DataError(_HOLES.format(name, columns.missing(name)))


_HOLES = (
    "column {!r} has {} missing cells, and is not one that the model observes; "
    "fill them in, or take these rows out"
)


def _check_values(model: Any, trace: Any) -> None:
    """Log densities, site by site, so that a value outside of a support is told with its site."""
    where = file_of(model).rpartition("/")[2] or type(model).__name__
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or isinstance(site["fn"], _Subsample):
            continue
        value = site["value"]
        if site["is_observed"] and value.is_floating_point() and bool(torch.isnan(value).any()):
            continue
        try:
            site["fn"].log_prob(value)
        except (ValueError, RuntimeError) as error:
            text = words_of(error)
            if site["is_observed"] and "support" in text:
                support = _base(site["fn"]).support
                text = (
                    f"observed values are not in the support of {type(_base(site['fn'])).__name__}, {support}"
                )
            raise UsageError(f"{where}: site {name!r}: {text[:300]}") from error


def _holes(trace: Any, columns: Columns, name: str) -> bool:
    """Whether what is missing of a column is missing of an observed site, which it may be a function of."""
    own = columns[name]
    if own is None:
        return True
    holes = torch.isnan(own)
    for site in trace.nodes.values():
        if site["type"] == "sample" and site["is_observed"] and site["value"].shape == own.shape:
            if site["value"].is_floating_point() and bool((torch.isnan(site["value"]) >= holes).all()):
                return True
    return False


def _listed(model: Any, trace: Any, columns: Columns) -> Sites:
    latent: dict[str, Site] = {}
    discrete: dict[str, Site] = {}
    observed: dict[str, Site] = {}
    derived: dict[str, Site] = {}
    factors, improper, size, nesting = [], [], 0, 0
    for name, site in trace.nodes.items():
        if site["type"] != "sample":
            continue
        fn, value = site["fn"], site["value"]
        if isinstance(fn, _Subsample):
            if fn.subsample_size not in (None, fn.size):
                raise Unsupported(
                    f"plate {name!r} takes {fn.subsample_size} of {fn.size}: a model is given all rows, and "
                    "batches are made outside of it; leave subsample_size out"
                )
            continue
        frames = [f for f in site["cond_indep_stack"] if f.vectorized]
        plates = tuple(sorted((f.dim, f.name, int(f.size)) for f in frames))
        nesting = max([nesting, *(-dim for dim, _, _ in plates)])
        made = Site(name, tuple(value.shape), fn.event_dim, plates)
        if site["infer"].get("_deterministic"):
            fits = all(len(value.shape) >= -d and value.shape[d] == n for d, _, n in plates)
            derived[name] = _changed(made, event_dim=0) if plates and fits else made
        elif isinstance(fn, dist.Unit):
            factors.append(name)
        elif site["is_observed"]:
            observed[name] = _observed(made, fn, columns.name_of(value))
        elif fn.support.is_discrete:
            values = tuple(float(v) for v in fn.enumerate_support(expand=False).flatten())
            discrete[name] = _changed(made, levels=len(values), values=values)
        else:
            latent[name] = made = _continuous(made, fn, value, size)
            if isinstance(_base(fn), dist.ImproperUniform):
                improper.append(name)
            size = made.at.stop
    if not latent:
        raise Unsupported(
            f"{type(model).__name__} has no continuous latent site (pyro.sample without obs): there is "
            "nothing to be fitted"
        )
    if not observed and not factors:
        raise Unsupported(f"{type(model).__name__} observes nothing: give a pyro.sample obs=data[COLUMN]")
    used = frozenset(columns.used)
    return Sites(
        latent, discrete, observed, derived, tuple(factors), nesting, used=used, improper=tuple(improper)
    )


def _changed(site: Site, **fields: Any) -> Site:
    from dataclasses import replace

    return replace(site, **fields)


def _continuous(site: Site, fn: Any, value: Any, start: int) -> Site:
    try:
        transform = biject_to(fn.support)
    except NotImplementedError:
        raise Unsupported(
            f"site {site.name!r}: no transform from the real numbers to {fn.support} is known"
        ) from None
    free = tuple(transform.inverse_shape(value.shape))
    width = torch.Size(free).numel()
    real = str(_support(fn.support)) == "Real()"
    return _changed(site, at=slice(start, start + width), free=free, real=real)


def _support(support: Any) -> Any:
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def _observed(site: Site, fn: Any, column: str | None) -> Site:
    return _changed(site, column=column)


def _with_rows(sites: Sites, rows: int) -> Sites:
    """Find the plate of the rows: that which all observed sites and enumerated latents are in."""
    from dataclasses import replace

    everything = [*sites.observed.values(), *sites.discrete.values()]
    plate = None
    if rows and everything and not sites.factors:
        shared = set.intersection(
            *({name for _, name, size in site.plates if size == rows} for site in everything)
        )
        plate = min(shared, default=None)
    families: dict[str, list[str]] = {}
    for name in [*sites.observed, *sites.discrete]:
        match = re.fullmatch(r"(.*?)_?(\d+)", name)
        if match:
            families.setdefault(match[1], []).append(name)
    kept = {stem: tuple(names) for stem, names in families.items() if len(names) == rows and stem}
    return replace(sites, rows=plate, families=kept)
