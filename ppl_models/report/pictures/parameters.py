"""The posterior of the parameters: densities beside the prior, intervals, and pairs."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Named, PriorDraws
from ppl_models.draws import number_of, select_draws
from ppl_models.errors import PplError
from ppl_models.report.canvas import INK, MAIN, MUTED, bare, colour, label, shades
from ppl_models.report.picture import Line, Picture, Wish, kind
from ppl_models.report.shapes import density, shortest

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

DRAWS = 2_000
"""Draws of the posterior and of the prior that densities are of, at most."""

TOGETHER = 8
"""States or components that are drawn in one place, at most."""

MEMBERS = 30
"""Intervals below one another, at most."""


def identified(fit: "Record") -> bool:
    """Whether it has a posterior of parameters that mean something."""
    bound = fit.bound
    return isinstance(bound, Bayesian) and isinstance(bound, Named) and bound.identified


class Parameter(NamedTuple):
    """One number of θ, or the same number of each state or component.

    Attributes:
        name: `mean[waiting]`.
        members: what the states are called; ("",) of a number by itself.
        draws: (S, M) of them.
        variable: the variable that it is of.
        share: whether it is a probability that adds up to 1 with others.
    """

    name: str
    members: tuple[str, ...]
    draws: np.ndarray
    variable: str
    share: bool = False


def parameters(fit: "Record", prior: bool = False, together: bool = True) -> list[Parameter]:
    """Parameters in the user's units; those that are the same in all draws are left out.

    Args:
        fit: of what.
        prior: draws of the prior, not of the posterior.
        together: whether the states or components of a number stay in one piece.
    """
    bound: Any = fit.bound
    theta = bound.prior_draws(DRAWS, fit.settings.seed + 12) if prior else fit.draws
    theta = select_draws(theta, slice(0, min(DRAWS, number_of(theta))))
    variables, coords = bound.variables(theta)
    found: list[Parameter] = []
    for name, (dims, values) in variables.items():
        share = values.ndim > 1 and bool((values >= 0).all()) and np.allclose(values.sum(-1), 1)
        sizes = [_members(coords, d, n) for d, n in zip(dims, values.shape[1:], strict=True)]
        grouped = together and bool(dims) and not _named(coords, dims[0]) and len(sizes[0]) <= TOGETHER
        inner = sizes[1:] if grouped else sizes
        for at in np.ndindex(*map(len, inner)):
            if name.endswith("correlation") and len(at) > 1 and at[-1] <= at[-2]:
                continue  # a symmetric matrix with ones in it
            each = values[(slice(None), slice(None), *at)] if grouped else values[(slice(None), *at)][:, None]
            if np.isfinite(each).all() and np.ptp(each, axis=0).max() > 0:
                where = ", ".join(labels[i] for labels, i in zip(inner, at, strict=True))
                members = tuple(sizes[0]) if grouped else ("",)
                found.append(Parameter(f"{name}[{where}]" if where else name, members, each, name, share))
    return found


def _members(coords: Any, dim: str, size: int) -> list[str]:
    """What the places along a dimension are called: `age`, `state 1`, `to 2`."""
    names = [str(c) for c in coords.get(dim, range(size))]
    return (
        names if _named(coords, dim) else [f"to {n}" if dim.endswith("_to") else f"{dim} {n}" for n in names]
    )


def _named(coords: Any, dim: str) -> bool:
    """Whether a dimension has names of its own, as predictors have, and states have not."""
    return any(isinstance(each, str) for each in coords.get(dim, ()))


def telling(found: list[Parameter]) -> list[Parameter]:
    """One of each variable first, then the second of each, …: a few of them then show something of all.

    Shares, which say how often and not what, come after the others.
    """
    order: dict[str, int] = {}
    ranks = []
    for each in found:
        order[each.variable] = order.get(each.variable, -1) + 1
        ranks.append((each.share, order[each.variable]))
    return [found[i] for i in sorted(range(len(found)), key=lambda i: ranks[i])]


def _rows(found: list[Parameter], level: float) -> Any:
    import pandas as pd

    rows = []
    for p in found:
        for m, member in enumerate(p.members):
            x = p.draws[:, m]
            low, high = shortest(x, level)
            rows.append(
                {
                    "parameter": f"{p.name}{', ' if member else ''}{member}",
                    "mean": x.mean(),
                    "sd": x.std(),
                    "lower": low,
                    "upper": high,
                }  # fmt: skip
            )
    return pd.DataFrame(rows)


def _chosen(fit: "Record", wish: Wish, together: bool = True, most: int | None = None) -> list[Parameter]:
    found = parameters(fit, together=together)
    if wish.columns is None:
        return telling(found)[: wish.most if most is None else most]
    known = {p.name: p for p in found} | {}
    names = wish.chosen([*known, *dict.fromkeys(p.variable for p in found)])
    return [p for p in found if p.name in names or p.variable in names]


def _prior(fit: "Record") -> dict[str, np.ndarray]:
    """Draws of the prior by name, of the first state; none where it cannot be drawn from."""
    if not isinstance(fit.bound, PriorDraws):
        return {}
    try:
        return {p.name: p.draws[:, 0] for p in parameters(fit, prior=True)}
    except PplError:
        return {}


@kind(
    "marginals", "the posterior density of each parameter, beside its prior",
    has=identified, telling=35, of_rows=False, takes=("columns",),
)  # fmt: skip
def marginals(fit: "Record", wish: Wish) -> Picture:
    """Densities of the posterior, those of states in one place, and of the prior if it is known."""
    chosen = _chosen(fit, wish)
    prior = _prior(fit)
    curves = [[density(p.draws[:, m]) for m in range(len(p.members))] for p in chosen]

    def draw(canvas: "Canvas") -> None:
        axes = canvas.grid(len(chosen))
        for ax, p, own in zip(axes, chosen, curves, strict=True):
            ends = np.quantile(p.draws, [0.001, 0.999], axis=0)
            low, high = ends.min(), ends.max()
            room = 0.15 * max(high - low, 1e-12)
            for m, (grid, height) in enumerate(own):
                hue = colour(m) if len(own) > 1 else MAIN
                tall = height / max(height.max(), 1e-300)
                ax.plot(grid, tall, color=hue, label=p.members[m] or "posterior")
                inside = shortest(p.draws[:, m], wish.level)
                use = (grid >= inside[0]) & (grid <= inside[1])
                if len(own) <= 4:
                    ax.fill_between(grid, 0, tall, where=list(use), color=hue, alpha=0.18, linewidth=0)
            if p.name in prior:
                x = prior[p.name]
                near = x[(x > low - 3 * room) & (x < high + 3 * room)]
                if len(near) > 20:
                    grid, height = density(near, 256)
                    use = (grid > low - 2 * room) & (grid < high + 2 * room)
                    tall = height / max(height[use].max(), 1e-300)
                    ax.plot(grid[use], 0.5 * tall[use], color=MUTED, linestyle=(0, (3, 2)), label="prior")
            ax.set_xlim(low - room, high + room)
            ax.set_ylim(0, None)
            ax.set_title(label(p.name), fontsize=8.5)
            ax.locator_params(axis="x", nbins=4)
        bare(axes)
        legend: dict[str, Any] = {}
        for ax in axes:
            legend |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        legend.pop("", None)
        if legend and canvas.figure is None:
            axes[0].legend()
        elif legend:
            inches = canvas.figure.bbox.width / canvas.figure.dpi
            each = 0.6 + 0.08 * max(map(len, legend))  # of a line and its name
            ncols = min(max(int(inches / each), 1), len(legend))
            canvas.figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=ncols)

    beside = " The dashed line is the prior, at half the height." if prior else ""
    reading = (
        f"Each density is scaled to the same height; the shaded part holds {wish.level:.0%}.{beside} Where "
        "posterior and prior are alike, the data say nothing."
    )
    first = chosen[0].draws[:, 0] if chosen else np.zeros(2)
    grid, height = density(first)
    size = (6.0, 1.1 + 1.35 * -(-len(chosen) // 3)) if len(chosen) > 1 else (6.0, 3.0)
    sketch = (Line(f"{chosen[0].name}{chosen[0].members[0]}", grid, height),) if chosen else ()
    return Picture("Posterior and prior", reading, _rows(chosen, wish.level), draw, size, sketch)


@kind(
    "forest", "means and intervals of all parameters",
    has=identified, telling=15, of_rows=False, takes=("columns",),
)  # fmt: skip
def forest(fit: "Record", wish: Wish) -> Picture:
    """Means, the inner half and the interval of each parameter, a scale for each variable."""
    every = _chosen(fit, wish, most=10_000)
    blocks: dict[str, list[tuple[str, np.ndarray]]] = {}
    for p in every:  # one for each number of all states, one for each variable of other things
        name = p.name if len(p.members) > 1 else p.variable
        for m, member in enumerate(p.members):
            shown = member or p.name.removeprefix(p.variable)[1:-1] or p.name
            blocks.setdefault(name, []).append((shown, p.draws[:, m]))
    names = list(blocks)[: wish.most] if wish.columns is None else list(blocks)
    groups = [blocks[name][: MEMBERS if wish.most > 2 else 12] for name in names]
    rows = _rows(
        [
            Parameter(name if name == member else f"{name}[{member}]", ("",), x[:, None], name)
            for name, own in zip(names, groups, strict=True)
            for member, x in own
        ],
        wish.level,
    )

    def draw(canvas: "Canvas") -> None:
        across = 1 if len(groups) == 1 else 2
        tall = [max(map(len, groups[i : i + across])) for i in range(0, len(groups), across)]
        axes = canvas.grid(len(groups), across, height_ratios=[n + 1.6 for n in tall])
        for ax, name, own in zip(axes, names, groups, strict=True):
            ends = np.array([shortest(x, wish.level) for _, x in own])
            for y, (_, x) in enumerate(own):
                ax.plot(ends[y], [y, y], color=MAIN, linewidth=1.2)
                ax.plot(shortest(x, 0.5), [y, y], color=MAIN, linewidth=3.2, solid_capstyle="butt")
                ax.plot(x.mean(), y, "o", color=INK, markersize=3.5)
            ax.set_yticks(range(len(own)), [label(member, 18) for member, _ in own])
            ax.set_ylim(len(own) - 0.4, -0.6)
            if ends.min() < 0 < ends.max():
                ax.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
            ax.set_title(label(name, 26), fontsize=8.5)
            ax.locator_params(axis="x", nbins=4)

    reading = f"Dots are posterior means, thick lines hold half, thin ones {wish.level:.0%} of the posterior."
    bars = (Line("mean", None, rows["mean"].to_numpy(), tuple(rows["parameter"])),)
    down = [max(map(len, groups[i : i + 2])) for i in range(0, len(groups), 2)]
    return Picture(
        "Parameters",
        reading,
        rows,
        draw,
        (6.0, min(max(0.5 + sum(0.2 * n + 0.45 for n in down), 1.8), 8.5)),
        bars,
    )


@kind(
    "pairs", "parameters against one another, those that hang together most",
    section="",
    has=identified, of_rows=False, takes=("columns",),
)  # fmt: skip
def pairs(fit: "Record", wish: Wish) -> Picture:
    """Joint densities of the four parameters that are correlated most, or of those asked for."""
    import pandas as pd

    every = parameters(fit, together=False)
    if wish.columns is not None:
        every = _chosen(fit, wish, together=False)
    elif sum(not p.share for p in every) > 1:  # that shares hang together is no news
        every = [p for p in every if not p.share]
    X = np.column_stack([p.draws[:, 0] for p in every])
    keep = np.arange(X.shape[1])
    most = 2 if wish.most < 4 else 4
    corr = np.atleast_2d(np.corrcoef(X.T))
    if len(keep) > most:
        off = np.abs(corr) - 2 * np.eye(len(corr))
        off[off > 1 - 1e-9] = 0  # of two numbers that are one, such as the shares of two groups
        order = [int(i) for i in np.unravel_index(off.argmax(), off.shape)]
        while len(order) < most:
            left = [i for i in keep if i not in order and corr[i, order].max() < 1 - 1e-9]
            left = left or [i for i in keep if i not in order]
            order.append(max(left, key=lambda i: max(off[i, j] for j in order)))
        keep = np.array(order)
    names = [label(every[i].name, 18) for i in keep]
    n = len(keep)
    counts = {(i, j): np.histogram2d(X[:, keep[j]], X[:, keep[i]], 24) for i in range(n) for j in range(i)}
    rows = [
        {"first": every[keep[j]].name, "second": every[keep[i]].name, "correlation": corr[keep[i], keep[j]]}
        for i in range(n)
        for j in range(i)
    ]

    def draw(canvas: "Canvas") -> None:
        axes = np.array(canvas.grid(n * n, n)).reshape(n, n)
        for i in range(n):
            for j in range(n):
                ax = axes[i, j]
                if j > i:
                    ax.axis("off")
                    continue
                if i == j:
                    grid, height = density(X[:, keep[i]])
                    ax.fill_between(grid, 0, height, color=MAIN, alpha=0.3, linewidth=0)
                    bare([ax])
                else:
                    z, x, y = counts[i, j]
                    ax.imshow(
                        z.T, origin="lower", aspect="auto", cmap=shades(MAIN),
                        extent=(x[0], x[-1], y[0], y[-1]),
                    )  # fmt: skip
                    r = corr[keep[i], keep[j]]
                    ax.text(0.97, 0.95, f"{r:.2f}", transform=ax.transAxes, ha="right", va="top", fontsize=7)
                ax.locator_params(nbins=3)
                ax.tick_params(labelbottom=i == n - 1, labelleft=j == 0 and i > 0)
                if i == n - 1:
                    ax.set_xlabel(names[j], fontsize=7.5)
                if j == 0 and i > 0:
                    ax.set_ylabel(names[i], fontsize=7.5)

    reading = (
        "Darker is more probable; the number is the correlation. Ridges say that the data fix a "
        "combination of "
        "two parameters and not each, several islands that there are several explanations."
    )
    return Picture("Pairs of parameters", reading, pd.DataFrame(rows), draw, (6.0, 5.4))


def has_coefficients(fit: "Record") -> bool:
    """Whether it has coefficients of columns, with their sds."""
    from ppl_models.capabilities import Coefficients

    if not (fit.bayesian and isinstance(fit.bound, Coefficients)):
        return False
    return bool(fit.bound.coefficients(select_draws(fit.draws, slice(0, 1))).names)


@kind(
    "coefficients", "coefficients a standard deviation of each column, so that they can be compared",
    has=has_coefficients, telling=60, of_rows=False, takes=("columns",),
)  # fmt: skip
def coefficients(fit: "Record", wish: Wish) -> Picture:
    """Posterior of β_j · sd(x_j) of the columns of a design, the largest first; the table has β_j as well."""
    import pandas as pd

    own = fit.bound.coefficients(select_draws(fit.draws, slice(0, DRAWS)))
    S, p, K = own.values.shape
    scaled = own.values * own.sd[:, None]
    size = np.abs(scaled.mean(0)).max(1)
    order = [int(j) for j in np.argsort(-size, kind="stable")]
    names = wish.chosen([own.names[j] for j in order], 12 if wish.most < 4 else 25)
    at = [own.names.index(name) for name in names]
    rows = []
    for j in at:
        for k in range(K):
            low, high = shortest(scaled[:, j, k], wish.level)
            rows.append(
                {
                    "column": own.names[j],
                    **({"class": own.outcomes[k]} if K > 1 else {}),
                    "coefficient": own.values[:, j, k].mean(),
                    "a_sd": scaled[:, j, k].mean(),
                    "lower": low,
                    "upper": high,
                }  # fmt: skip
            )
    table = pd.DataFrame(rows)

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        ax.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
        for y, j in enumerate(at):
            for k in range(K):
                x, where = scaled[:, j, k], y + (k - (K - 1) / 2) * 0.7 / K
                hue = colour(k) if K > 1 else MAIN
                ax.plot(shortest(x, wish.level), [where] * 2, color=hue, linewidth=1.2)
                ax.plot(shortest(x, 0.5), [where] * 2, color=hue, linewidth=3.2, solid_capstyle="butt")
                name = label(own.outcomes[k]) if K > 1 and not y else None
                ax.plot(x.mean(), where, "o", color=INK if K == 1 else hue, markersize=3.5, label=name)
        ax.set_yticks(range(len(at)), [label(own.names[j], 24) for j in at])
        ax.set_ylim(len(at) - 0.4, -0.6)
        ax.set_xlabel(f"{own.scale} for one sd of the column")
        if K > 1:
            ax.legend(title="against " + label(own.reference), title_fontsize=8)

    more = f" The {len(at)} largest of {p} are shown." if p > len(at) else ""
    reading = (
        f"Each line is the posterior of a coefficient times the sd of its column: dot mean, thick half, thin "
        f"{wish.level:.0%}. Those whose line crosses 0 may have either sign.{more}"
    )
    bars = (Line("a sd", None, table["a_sd"].to_numpy(), tuple(table["column"])),)
    tall = min(max(1.1 + 0.2 * len(at) * max(1.0, 0.6 * K), 2.2), 8.0)
    return Picture("Coefficients", reading, table, draw, (6.0, tall), bars)
