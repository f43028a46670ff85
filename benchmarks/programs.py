"""Models of one's own against Pyro's NUTS: seconds until the posterior is known.

    python benchmarks/programs.py [--only NAME] [--draws 500] [--budget 60] [--jit] [--out FILE]

The models of `examples/own_models` on their data, and the mixture of `tests/models/program`: 250 rows of two
normals. Discrete latents are summed out on both sides, in double precision and with one thread; seconds are
those of the processor, so that other work on the machine counts less. A first fit that compiles ours (eight
schools) comes before.

Ours: `ppl.fit` with its defaults and its posterior draws, calibration included, the median of `--repeats`
fits. NUTS: `pyro.infer.mcmc.NUTS` with its defaults on the same `model`, one chain from Pyro's start, 300
draws of warm-up and `--draws` more. ESS is arviz's bulk ESS of the worst variable that the tables have; "to
400" is the warm-up and the draws that 400 effective ones take: s of warm-up + s a draw × draws × 400 / ESS.
400 effective draws know a mean to 0.05 sd, so that the worst of several means is off by about 0.1. An ESS
under 100 is not known itself: then the ESS a draw is that of the reference's chains, if it is more ("about").

A chain is stopped after `--budget` seconds. Where that leaves fewer than 100 draws, or the first ten take
so long that it must, the chain starts anew from a draw of ours, with 50 draws of warm-up, until the time is
over, and the figures are "extrapolated": 300 draws of warm-up and all others at the pace of those after
warm-up (of those of warm-up where the time is over before its end, with the reference's ESS a draw). `--jit`
compiles the density for NUTS (`jit_compile`).

"Off" is the worst |mean − reference| over variables in posterior sds, "sd ratio" the range of sd over the
reference's, with the reference 40,000 draws of NumPyro's NUTS: `tests/models/program/nuts.json`, from
densities that are written by hand. The verdict is that of `fit.check()`.
"""

import argparse
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import pandas as pd
import pyro
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import init_to_value
from torch import Tensor

import ppl_models as ppl

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "tests")

from models.program.conftest import OWN, Mixture, own  # noqa: E402
from models.program.nuts import two_bumps  # noqa: E402

WARM_UP, SHORT, LOOK = 300, 50, 10
"""Draws of warm-up, those where time does not last, and draws after which that is seen."""

EFFECTIVE, SURE = 400, 100
"""Effective draws that are wanted, and from how many on their number is known."""

Case = tuple[Callable[[], ppl.Model], Any, dict[str, str]]
CASES: dict[str, Case] = {
    "eight_schools": (lambda: own("eight_schools.py:EightSchools")(), str(OWN / "eight_schools.json"), {}),
    "change_point": (
        lambda: own("change_point.py:ChangePoint")(),
        str(OWN / "nile.csv"),
        {"columns": "volume"},
    ),
    "ordered_hmm": (
        lambda: own("ordered_hmm.py:OrderedHMM")(),
        str(ROOT / "examples" / "earthquakes.csv"),
        {"columns": "earthquakes"},
    ),
    "mixture": (Mixture, pd.DataFrame({"x": two_bumps()}), {}),
}
TABLES: dict[str, Any] = json.loads(
    (ROOT / "tests" / "models" / "program" / "nuts.json").read_text(encoding="utf-8")
)


def quality(name: str, draws: dict[str, np.ndarray]) -> tuple[float, str]:
    """The worst mean in sds, and the range of sds over the reference's."""
    off, ratios = 0.0, []
    for variable, known in TABLES[name]["posterior"].items():
        found, sd = draws[variable], np.array(known["sd"])
        off = max(off, float(np.max(np.abs(found.mean(0) - known["mean"]) / sd)))
        ratios += list(np.ravel(found.std(0) / sd))
    return off, f"{min(ratios):.2f} to {max(ratios):.2f}"


def ours(case: Case) -> tuple[float, float, Any]:
    """Seconds of the fit, those with its draws, and the fit."""
    model, data, options = case
    began = time.process_time()
    fit = ppl.fit(model(), data, seed=0, **options)
    fitted = time.process_time() - began
    _ = fit.posterior_draws
    return fitted, time.process_time() - began, fit


# NUTS


class _Enough(Exception):
    """Time is up, or would be."""


@dataclass
class Chain:
    """What a chain of NUTS came to.

    Attributes:
        warm_up: draws of warm-up.
        points: unconstrained draws after it.
        at: seconds since the start after each draw, those of warm-up first.
    """

    warm_up: int
    points: list[dict[str, Tensor]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)


def chain(
    model: Any,
    columns: Any,
    warm_up: int,
    draws: int,
    budget: float,
    jit: bool,
    start: dict[str, Tensor] | None = None,
) -> tuple[Chain, dict[str, np.ndarray], bool]:
    """One chain, its draws by variable, and whether it would have ended in time (else it is stopped)."""
    pyro.set_rng_seed(0)
    init = {} if start is None else {"init_strategy": init_to_value(values=start)}
    kernel = NUTS(model.model, max_plate_nesting=1, jit_compile=jit, ignore_jit_warnings=True, **init)
    chain, began, planned = Chain(warm_up), time.process_time(), warm_up + draws

    def hook(_: Any, point: dict[str, Tensor], stage: str, i: int) -> None:
        chain.at.append(time.process_time() - began)
        if not stage.lower().startswith("warm"):
            chain.points.append({name: value.detach().clone() for name, value in point.items()})
        done = len(chain.at)
        hopeless = done == LOOK and warm_up == WARM_UP and chain.at[-1] * planned > 4 * LOOK * budget
        if hopeless or chain.at[-1] > budget:
            raise _Enough

    mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warm_up, hook_fn=hook, disable_progbar=True)
    ended = True
    try:
        mcmc.run(columns)
    except _Enough:
        ended = False
    return chain, _variables(model, columns, kernel, chain.points), ended


def _variables(
    model: Any, columns: Any, kernel: NUTS, points: list[dict[str, Tensor]]
) -> dict[str, np.ndarray]:
    """Draws (S, …) of the latents and of what the model computes of them."""
    found: dict[str, list[np.ndarray]] = {}
    for point in points:
        latent = {name: kernel.transforms[name].inv(u) for name, u in point.items()}
        trace = poutine.trace(poutine.condition(model.model, latent)).get_trace(columns)
        for name, site in trace.nodes.items():
            wanted = name in latent or site.get("infer", {}).get("_deterministic")
            if site["type"] == "sample" and wanted:
                found.setdefault(name, []).append(site["value"].detach().numpy())
    return {name: np.stack(values) for name, values in found.items()}


def nuts(name: str, fit: Any, draws: int, budget: float, jit: bool) -> dict[str, Any]:
    """Seconds as they were and to 400 effective draws, ESS and quality."""
    columns = fit.bound.density.columns
    run, found, ended = chain(fit.model, columns, WARM_UP, draws, budget, jit)
    if len(run.points) < 100:
        variables, _ = fit.bound.variables(fit.posterior_draws.theta)
        start = {k: torch.as_tensor(np.asarray(v)[0]) for k, (_, v) in variables.items()}
        run, found, ended = chain(fit.model, columns, SHORT, draws, budget, jit, start)
        if len(run.points) < 4:
            pace = run.at[-1] / len(run.at)
            whole = pace * (WARM_UP + EFFECTIVE * TABLES[name]["draws"] * TABLES[name]["mcse_max"] ** 2)
            return {"missing": len(run.at), "raw": run.at[-1], "whole": whole}
    known = {k: found[k][None] for k in TABLES[name]["posterior"]}
    ess = min(float(v.min()) for v in arviz.ess(arviz.convert_to_dataset(known)).values())
    warm = run.at[run.warm_up - 1]
    each = (run.at[-1] - warm) / len(run.points)
    if run.warm_up < WARM_UP:
        warm = WARM_UP * each
    needed, unsure = EFFECTIVE * len(run.points) / ess, ess < SURE
    if unsure:
        needed = min(needed, EFFECTIVE * TABLES[name]["draws"] * TABLES[name]["mcse_max"] ** 2)
    off, ratio = quality(name, found)
    return {
        "raw": run.at[-1],
        "whole": warm + each * needed,
        "about": "about " if unsure else "",
        "ess": ess,
        "draws": f"{run.warm_up} + {len(run.points)}",
        "extrapolated": run.warm_up < WARM_UP or not ended,
        "off": off,
        "ratio": ratio,
    }


def rows(name: str, repeats: int, draws: int, budget: float, jit: bool) -> list[str]:
    """Of one model: ours and NUTS's."""
    spent = [ours(CASES[name]) for _ in range(repeats)]
    fit = spent[-1][2]
    fitted, seconds = (statistics.median(s[i] for s in spent) for i in (0, 1))
    variables, _ = fit.bound.variables(fit.posterior_draws.theta)
    off, ratio = quality(name, {k: np.asarray(v) for k, (_, v) in variables.items()})
    verdict = fit.check().verdict
    lines = [f"| {name} | ppl | {off:.3f} | {ratio} | {verdict} | {seconds:.1f} ({fitted:.1f}) | | | |"]
    print(lines[-1], flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = nuts(name, fit, draws, budget, jit)
    if "missing" in found:
        lines.append(
            f"| | NUTS, {found['missing']} draws, all of warm-up | | | | {found['raw']:.1f} | | "
            f"about {found['whole']:.0f}, extrapolated | {found['whole'] / seconds:.0f}× |"
        )
        return lines
    said = ", extrapolated" if found["extrapolated"] else ""
    lines.append(
        f"| | NUTS, {found['draws']} draws | {found['off']:.3f} | {found['ratio']} | | {found['raw']:.1f} | "
        f"{found['ess']:.0f} | {found['about']}{found['whole']:.0f}{said} | {found['whole'] / seconds:.1f}× |"
    )
    print(lines[-1], flush=True)
    return lines


def run(only: str | None, repeats: int, draws: int, budget: float, jit: bool) -> str:
    """Measure, and give a Markdown report."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    ours(CASES["eight_schools"])  # compiles
    lines = [
        "# Models of one's own against NUTS",
        "",
        f"ppl_models {version('ppl_models')}, Pyro {pyro.__version__}, torch {torch.__version__}, arviz "
        f"{arviz.__version__}, Python {platform.python_version()}, one thread, seconds of the "
        "processor on a shared machine: they vary by a quarter or so from run to run. NUTS's density is "
        f"{'compiled (`jit_compile`)' if jit else 'not compiled, which is its default'}. How it is "
        "measured: see `benchmarks/programs.py`.",
        "",
        "| model | method | off, sd | sd ratio | verdict | s (of the fit alone) | ESS | s to 400 effective "
        "| times ppl's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in CASES if only is None else [only]:
        lines += rows(name, repeats, draws, budget, jit)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--jit", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = run(options.only, options.repeats, options.draws, options.budget, options.jit)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(report + "\n")
