"""Latents that are numbers, what they are decoded to, and rows that are images."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.capabilities import Decodes, Latents, Samples
from ppl_models.draws import number_of, select_draws
from ppl_models.errors import DataError
from ppl_models.report.canvas import INK, MUTED, colour, label, shades
from ppl_models.report.picture import Line, Picture, Wish, kind

if TYPE_CHECKING:
    from ppl_models.data import Schema
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

ROWS = 1_500
"""Rows that are drawn, at most."""


def has_latents(fit: "Record") -> bool:
    """Whether rows have latents that are numbers, from which they can be had back."""
    return isinstance(fit.bound, Latents) and isinstance(fit.bound, Decodes)


def as_images(cells: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(n, h, w) or (n, h, w, c) of rows of pixels."""
    return cells.reshape(len(cells), *shape)


def pixels(schema: "Schema") -> list[int]:
    """The columns that are pixels: all but the target."""
    return [j for j, c in enumerate(schema.columns) if c.name != schema.target]


def mosaic(ax: Any, images: np.ndarray, across: int, low: float, high: float) -> None:
    """Images (n, h, w) or (n, h, w, c) beside and below one another, a pixel apart.

    Args:
        ax: where.
        images: which.
        across: how many in a row.
        low: the value that is not drawn.
        high: the value that is drawn darkest.
    """
    n, h, w = images.shape[:3]
    down = -(-n // across)
    colours = images.ndim == 4 and images.shape[3] == 3
    grid = np.full((down * (h + 1), across * (w + 1), *images.shape[3:]), np.nan)
    for i, image in enumerate(images):
        r, c = divmod(i, across)
        grid[r * (h + 1) : r * (h + 1) + h, c * (w + 1) : c * (w + 1) + w] = image
    grid = np.clip((grid - low) / max(high - low, 1e-12), 0, 1)
    if colours:
        alpha = np.isfinite(grid).all(-1, keepdims=True).astype(float)
        ax.imshow(np.concatenate([np.nan_to_num(grid), alpha], -1))
    else:
        ax.imshow(grid[..., 0] if grid.ndim == 3 else grid, cmap=shades(INK), vmin=0, vmax=1, gid="ink")
    ax.axis("off")


@kind("latent", "rows in the space of the latents", has=has_latents, telling=70, takes=("columns",))
def latent(fit: "Record", wish: Wish) -> Picture:
    """Means of the two latents that vary most over the rows, coloured by their label if there is one."""
    import pandas as pd

    part = wish.part(fit, ROWS)
    cells = fit.bound.latents(fit.bound.rows(part, fit.settings.device), fit.draws)
    names = [name for name in cells if not name.endswith("_sd")]
    spread = {name: float(np.nanstd(cells[name])) for name in names}
    order = sorted(names, key=lambda n: -spread[n])
    chosen = wish.chosen(order, 2)
    sd = {n: float(np.nanmean(cells[f"{n}_sd"])) if f"{n}_sd" in cells else np.nan for n in names}
    table = pd.DataFrame([{"latent": n, "sd over rows": spread[n], "mean sd of a row": sd[n]} for n in order])
    column: Any = _label_of(fit)
    codes = None if column is None else np.asarray(part.values[:, part.names.index(column.name)])
    levels, called = ((), "") if column is None else (column.levels, label(column.name, 16))
    x = cells[chosen[0]]
    y = cells[chosen[1]] if len(chosen) > 1 else np.zeros(len(x))

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        groups = [np.ones(len(x), bool)] if codes is None else [codes == c for c in range(len(levels))]
        for k, own in enumerate(groups[:20]):
            hue = MUTED if codes is None else colour(k)
            if wish.aggregate or own.sum() > 2 * ROWS:
                z, a, b = np.histogram2d(
                    x[own], y[own], 36, range=[(v.min(), v.max() + 1e-9) for v in (x, y)]
                )
                ax.imshow(
                    np.sqrt(z.T),
                    origin="lower",
                    aspect="auto",
                    cmap=shades(hue),
                    extent=(a[0], a[-1], b[0], b[-1]),
                )
            else:
                marks = "os^DvPX*"[(k // 8) % 8]
                ax.plot(x[own], y[own], marks, color=hue, markersize=2.8, alpha=0.6, markeredgewidth=0)
            if codes is not None and k < 12:
                marks = "os^DvPX*"[(k // 8) % 8]
                ax.plot([], [], marks, color=hue, markersize=4, label=label(levels[k], 14))
        turn = np.linspace(0, 2 * np.pi, 100)
        for r in (1, 2):
            ax.plot(r * np.cos(turn), r * np.sin(turn), color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)))
        ax.set(xlabel=chosen[0], ylabel=chosen[1] if len(chosen) > 1 else "")
        ax.set_aspect("equal", adjustable="datalim")
        if codes is not None:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=called, title_fontsize=8)

    used = sum(v > 0.1 for v in spread.values())
    reading = (
        "Dots are the means of rows given their cells; dashed circles are 1 and 2 sds of the prior, which "
        "together "
        f"they should fill. {used} of {len(names)} latents vary over the rows: the others are not used."
    )
    return Picture(
        "Latent space",
        reading,
        table,
        draw,
        (5.6, 4.2),
        (Line("sd over rows", None, np.array([spread[n] for n in order]), tuple(order)),),
    )


def _label_of(fit: "Record") -> Any:
    """The column that colours rows: the target, or a label with few levels."""
    columns = fit.data.schema.columns
    labelled = [c for c in columns if c.labelled and len(c.levels) <= 20]
    return next((c for c in labelled if c.name == fit.data.schema.target), labelled[0] if labelled else None)


@kind(
    "reconstructions", "rows beside what their latents say of them",
    section="checks",
    has=lambda fit: isinstance(fit.bound, Decodes), telling=60, takes=("columns",),
)  # fmt: skip
def reconstructions(fit: "Record", wish: Wish) -> Picture:
    """Of images some with their reconstructions below; of tables how much of each column is kept."""
    import pandas as pd
    import torch

    shape = fit.data.schema.shape
    part = wish.part(fit, 16 if shape else ROWS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.settings.seed + 13)
        back = np.array(part.values, dtype=float)
        for block in fit.bound.decode(fit.bound.rows(part, fit.settings.device), 50, fit.draws):
            for j, cells in block.best.items():
                back[block.index, j] = cells
    rows = []
    for j, c in enumerate(part.schema.columns):
        x, y = np.asarray(part.values[:, j]), back[:, j]
        use = np.isfinite(x) & np.isfinite(y)
        if c.name == part.schema.target or not use.any():
            continue
        kept = (
            float((x[use] == y[use]).mean())
            if c.labelled
            else float(
                1 - ((x[use] - y[use]) ** 2).sum() / max(((x[use] - x[use].mean()) ** 2).sum(), 1e-300)
            )
        )
        rows.append({"column": c.name, "kept": kept, "what": "share of labels" if c.labelled else "R²"})
    table = pd.DataFrame(rows)
    if shape:
        own = pixels(fit.data.schema)
        seen, made = part.values[:16, own], back[:16, own]
        low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
        whole = table["kept"].mean()
        table = pd.DataFrame([{"images": part.rows, "mean R² of a pixel": whole}])

        def draw_images(canvas: "Canvas") -> None:
            both = np.concatenate(
                [as_images(v[lo : lo + 8], shape) for lo in range(0, len(seen), 8) for v in (seen, made)]
            )
            mosaic(canvas.one(), both, min(8, len(seen)), low, high)

        reading = "Images, and below each what is expected given its latents."
        return Picture("Reconstructions", reading, table, draw_images, (6.0, 3.4))
    names = wish.chosen([r["column"] for r in sorted(rows, key=lambda r: -r["kept"])], 25)
    shown = table.set_index("column").loc[names]

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        ax.barh(
            range(len(shown)),
            shown["kept"].clip(lower=0),
            color=[colour(0) if w == "R²" else colour(2) for w in shown["what"]],
            height=0.65,
        )
        for y, value in enumerate(shown["kept"]):
            ax.text(max(value, 0) + 0.01, y, f"{value:.2f}", va="center", fontsize=7.5)
        ax.set_yticks(range(len(shown)), [label(n, 22) for n in names])
        ax.set(
            xlim=(0, 1.08),
            ylim=(len(shown) - 0.4, -0.6),
            xlabel="R² of numbers, share of labels that are kept",
        )

    reading = "How much of each column the latents keep: 1 is all, 0 no more than its mean says."
    bars = (Line("kept", None, shown["kept"].to_numpy(), tuple(names)),)
    return Picture("Reconstructions", reading, table, draw, (6.0, min(1.0 + 0.24 * len(shown), 7)), bars)


@kind(
    "samples", "new images made by the model, beside images of the data",
    section="predictions",
    has=lambda fit: isinstance(fit.bound, Samples) and fit.data.schema.shape is not None, telling=50,
)  # fmt: skip
def samples(fit: "Record", wish: Wish) -> Picture:
    """Thirty-two new images; with a target as many of each class as there is room for."""
    import pandas as pd
    import torch

    shape, own = fit.data.schema.shape, pixels(fit.data.schema)
    assert shape is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.settings.seed + 17 if wish.seed is None else wish.seed)
        made = fit.bound.sample(32, select_draws(fit.draws, slice(0, number_of(fit.draws))), None).values
    part = wish.part(fit, 32)
    seen = part.values[:32, own]
    if not np.isfinite(seen).any():
        raise DataError(f"{part.source}: every pixel is missing")
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    table = pd.DataFrame(
        [
            {"images": name, "mean of pixels": np.nanmean(x), "sd of pixels": np.nanstd(x)}
            for name, x in (("data", seen), ("model", made[:, own]))
        ]
    )

    def draw(canvas: "Canvas") -> None:
        if wish.aggregate or wish.most < 2:
            mosaic(canvas.one(), as_images(made[:, own], shape), 8, low, high)
            return
        first, second = canvas.grid(2)
        mosaic(first, as_images(seen, shape), 8, low, high)
        mosaic(second, as_images(made[:, own], shape), 8, low, high)
        first.set_title("data", fontsize=8.5)
        second.set_title("made by the model", fontsize=8.5)

    reading = (
        "Made by the model: do they look like those of the data, and are they as different from one another?"
    )
    return Picture("Samples", reading, table, draw, (6.4, 2.4))
