"""The model as a graph: what is random, what is given, and what hangs on what."""

from typing import TYPE_CHECKING, NamedTuple

from ppl_models.capabilities import Assigns, Conditional, Decodes, Named, Regresses, Samples
from ppl_models.report.canvas import INK, MAIN, MUTED, label
from ppl_models.report.picture import Picture, Wish, kind

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas


class Node(NamedTuple):
    """A node of the graph.

    Attributes:
        name: by which edges call it.
        text: in it.
        about: what it is, for the table.
        x: where.
        y: where.
        role: `random`, `observed` or `given`.
    """

    name: str
    text: str
    about: str
    x: float
    y: float
    role: str


def _columns(names: list[str]) -> str:
    shown = ", ".join(label(name, 14) for name in names[:3])
    return f"{shown}, … ({len(names)})" if len(names) > 3 else shown


def graph_of(fit: "Record") -> tuple[list[Node], list[tuple[str, str]]]:
    """Nodes and edges, from what the bound model can do and which columns there are."""
    bound, schema = fit.bound, fit.data.schema
    names = [n for n in schema.names if n != schema.target] or list(fit.data.arrays)
    chain = not bound.exchangeable
    word = "parameters" if fit.bayesian else "weights (point estimate)"
    extra = ""
    if fit.bayesian and isinstance(bound, Named):
        from ppl_models.draws import select_draws

        extra = ": " + ", ".join(list(bound.variables(select_draws(fit.draws, slice(0, 1)))[0])[:6])
    theta = Node("θ", "θ", word + extra, 0.0, 1.0, "random" if fit.bayesian else "given")
    x_text = f"x\n{_columns(names)}"
    step = "_t" if chain else "_n"
    generative = isinstance(bound, Samples) or isinstance(bound, Assigns) or isinstance(bound, Decodes)
    predicts = isinstance(bound, Conditional | Regresses)
    if predicts and not generative:
        x = Node("x", x_text, f"predictors: {_columns(names)}", -1.2, 0.0, "given")
        y = Node(
            "y",
            f"y{step}\n{label(schema.target or '', 16)}",
            f"target: {schema.target}",
            0.0,
            0.0,
            "observed",
        )
        return [theta, x, y], [("θ", "y"), ("x", "y")]
    if not (isinstance(bound, Assigns | Decodes) or predicts):
        x = Node("x", x_text, f"observed: {_columns(names)}", 0.0, 0.0, "observed")
        return [theta, x], [("θ", "x")]
    noun = "latents" if isinstance(bound, Decodes) else "state" if chain else "component"
    z = Node("z", f"z{step}", f"{noun} of each row", -1.2, 0.0, "random")
    x = Node("x", x_text, f"observed: {_columns(names)}", 0.0, 0.0, "observed")
    nodes, edges = [theta, z, x], [("θ", "x"), ("z", "x")]
    if not isinstance(bound, Decodes):
        edges.append(("θ", "z"))
    if predicts:
        nodes.append(
            Node(
                "y",
                f"y{step}\n{label(schema.target or '', 16)}",
                f"class: {schema.target}",
                1.2,
                0.0,
                "observed",
            )
        )
        edges += [("y", "x")] if isinstance(bound, Decodes) else [("y", "z")]
        if not isinstance(bound, Decodes):
            edges = [e for e in edges if e != ("θ", "z")] + [("θ", "z")]
    if chain:
        nodes.append(
            Node(
                "z'",
                "z_{t−1}".replace("{", "").replace("}", ""),
                f"{noun} of the row before",
                -2.4,
                0.0,
                "random",
            )
        )
        edges.append(("z'", "z"))
    return nodes, edges


@kind(
    "graph",
    "what is random, what is given, and what hangs on what",
    section="model",
    has=lambda fit: True,
    of_rows=False,
)
def graph(fit: "Record", wish: Wish) -> Picture:
    """Circles are random, filled ones observed, squares given; the box repeats for every row."""
    import pandas as pd

    nodes, edges = graph_of(fit)
    place = {n.name: n for n in nodes}
    table = pd.DataFrame(
        [
            {
                "node": n.name, "is": n.about, "role": n.role,
                "given": ", ".join(a for a, b in edges if b == n.name),
            }
            for n in nodes
        ]
    )  # fmt: skip
    rows = [n for n in nodes if n.name != "θ"]
    left, right = min(n.x for n in rows), max(n.x for n in rows)

    def draw(canvas: "Canvas") -> None:
        from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

        ax = canvas.one()
        ax.add_patch(
            FancyBboxPatch(
                (left - 0.5, -0.62),
                right - left + 1.0,
                1.1,
                boxstyle="round,pad=0.02,rounding_size=0.08",
                fill=False,
                edgecolor=MUTED,
                linewidth=0.9,
            )  # fmt: skip
        )
        what = "every row of each sequence" if not fit.bound.exchangeable else "every row"
        ax.text(right + 0.46, -0.57, what, ha="right", va="bottom", fontsize=8, color=MUTED)
        shapes = {}
        for n in nodes:
            options = {
                "edgecolor": INK,
                "linewidth": 1.1,
                "facecolor": MAIN if n.role == "observed" else "none",
            }
            if n.role == "observed":
                options["alpha"] = 0.3
            shape = (
                Rectangle((n.x - 0.2, n.y - 0.2), 0.4, 0.4, **options)
                if n.role == "given"
                else Circle((n.x, n.y), 0.24, **options)
            )
            shapes[n.name] = ax.add_patch(shape)
            first, _, second = n.text.partition("\n")
            ax.text(n.x, n.y, first, ha="center", va="center", fontsize=9.5)
            if second:
                ax.text(n.x, n.y - 0.28, second, ha="center", va="top", fontsize=7.5, color=INK)
        for a, b in edges:
            ax.add_patch(
                FancyArrowPatch(
                    (place[a].x, place[a].y),
                    (place[b].x, place[b].y),
                    patchA=shapes[a],
                    patchB=shapes[b],
                    arrowstyle="-|>,head_width=2.5,head_length=5",
                    mutation_scale=1,
                    color=INK,
                    linewidth=1.0,
                    shrinkA=1,
                    shrinkB=1,
                )  # fmt: skip
            )
        ax.set(xlim=(left - 0.7, max(right, 0) + 0.8), ylim=(-0.75, 1.35))
        ax.set_aspect("equal")
        ax.axis("off")

    reading = (
        "Circles are random, shaded ones were observed, squares are given. The box stands for every row."
    )
    return Picture("The model as a graph", reading, table, draw, (4.6, 2.8))
