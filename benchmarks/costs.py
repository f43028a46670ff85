"""What a fit costs as the work grows: rows, columns, components; a table, and docs/pictures/costs.png.

    python benchmarks/costs.py [--most 15] [--out FILE.md] [--picture docs/pictures/costs.png]

Processor seconds, user and system, of `ppl.fit` in one process of one thread, after a small fit of each
system that compiles; the less of two. Around 10,000 rows of 8 columns and 4 components one of the three is
varied. Components are those of `gmm`, the states of `hmm` (sequences of 100 rows), the classes of `logistic`
and the latents of `vae`, of which it is 500 steps. A system is not asked for more once a fit has taken longer
than `--most` seconds.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= {"PPL_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import numpy as np
import torch

import ppl_models as ppl

ROWS, COLUMNS, COMPONENTS = 10_000, 8, 4
STEPS = 500
"""Of `vae`, which otherwise takes as many as its held-out rows ask for: some thousands."""

SIZES = {
    "rows": (1_000, 3_000, 10_000, 30_000, 100_000),
    "columns": (2, 4, 8, 16, 32),
    "components": (2, 4, 8, 16),
}


def mixture(rows: int, columns: int, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of groups whose means are a sd and a half from zero, and the groups."""
    rng = np.random.default_rng(0)
    z = rng.integers(components, size=rows)
    return 1.5 * rng.normal(size=(components, columns))[z] + rng.normal(size=(rows, columns)), z


def gmm(rows: int, columns: int, components: int) -> Callable[[], object]:
    X, _ = mixture(rows, columns, components)
    return lambda: ppl.fit(ppl.GMM(components=components), X)


def hmm(rows: int, columns: int, components: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    z = np.repeat(rng.integers(components, size=rows // 10), 10)  # ten rows in a state
    X = 1.5 * rng.normal(size=(components, columns))[z] + rng.normal(size=(rows, columns))
    return lambda: ppl.fit(ppl.HMM(states=components), X, lengths=[100] * (rows // 100))


def logistic(rows: int, columns: int, components: int) -> Callable[[], object]:
    X, z = mixture(rows, columns, components)
    return lambda: ppl.fit(ppl.Logistic(), (X, np.char.add("class ", z.astype(str))))


def vae(rows: int, columns: int, components: int) -> Callable[[], object]:
    X, _ = mixture(rows, columns, 4)
    return lambda: ppl.fit(ppl.VAE(latent=components), X, steps=STEPS)


SYSTEMS = {"gmm": gmm, "hmm": hmm, "logistic": logistic, "vae": vae}


def seconds(work: Callable[[], object], most: float) -> float:
    """The less of two runs, or one if that takes long."""
    found = []
    for _ in range(2):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
        if found[0] > most / 3:
            break
    return min(found)


def measured(most: float) -> dict[str, dict[str, dict[int, float]]]:
    """By what is varied, system and size."""
    found: dict[str, dict[str, dict[int, float]]] = {what: {name: {} for name in SYSTEMS} for what in SIZES}
    for name, make in SYSTEMS.items():
        make(500, COLUMNS, COMPONENTS)()  # compiles
        for what, sizes in SIZES.items():
            for size in sizes:
                middle = {"rows": ROWS, "columns": COLUMNS, "components": COMPONENTS}
                took = seconds(make(**middle | {what: size}), most)
                found[what][name][size] = took
                print(f"{name}, {size:,} {what}: {took:.2f} s", flush=True)
                if took > most and size >= middle[what]:  # few columns may take many passes
                    break
    return found


def draw(found: dict[str, dict[str, dict[int, float]]], path: Path) -> None:
    """A panel for each of the three, both axes logarithmic."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    from ppl_models.report.canvas import DPI, colour, styled

    plain = FuncFormatter(lambda value, _: f"{value:,.12g}")
    with styled():
        figure = Figure(figsize=(8.4, 2.9), layout="constrained")
        axes = figure.subplots(1, len(found), sharey=True)
        for ax, (what, systems) in zip(axes, found.items(), strict=True):
            for k, (name, times) in enumerate(systems.items()):
                ax.plot([*times], [*times.values()], marker="o", markersize=3, color=colour(k), label=name)
            ticks = SIZES[what] if what != "rows" else SIZES[what][::2]
            ax.set(xscale="log", yscale="log", xlabel=what, xticks=ticks, yticks=(0.1, 0.3, 1, 3, 10, 30))
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_formatter(plain)
                axis.set_minor_formatter(NullFormatter())
                axis.set_minor_locator(NullLocator())
            ax.grid(axis="y")
        axes[0].set_ylabel("processor seconds of a fit")
        lowest, highest = axes[0].get_ylim()
        axes[0].set_ylim(min(lowest, 0.1), max(highest, 10.0))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(SYSTEMS))
        figure.savefig(path, dpi=DPI)


def written(found: dict[str, dict[str, dict[int, float]]]) -> str:
    """A table for each of the three."""
    lines = [
        "# What a fit costs as the work grows",
        "",
        "`python benchmarks/costs.py`: processor seconds of `ppl.fit` by one thread, the less of two;",
        f"of `vae` {STEPS} steps.",
        f"{ROWS:,} rows of {COLUMNS} columns and {COMPONENTS} components but for what is varied.",
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()},",
        f"{time.strftime('%Y-%m-%d')}.",
    ]
    for what, systems in found.items():
        lines += ["", f"| {what} | " + " | ".join(f"{size:,}" for size in SIZES[what]) + " |"]
        lines.append("|---|" + "---|" * len(SIZES[what]))
        for name, times in systems.items():
            cells = (f"{times[size]:.2f}" if size in times else "" for size in SIZES[what])
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--most", type=float, default=15.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    found = measured(options.most)
    report = written(found)
    print(report)
    if options.out:
        options.out.write_text(report, encoding="utf-8")
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
