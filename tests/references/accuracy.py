"""How far our posteriors are from the tables; as a program, a table of all cases."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ppl_models as ppl
from references.cases import CASES
from references.tables import load

MODELS = {"gmm": ppl.GMM, "hmm": ppl.HMM, "logistic": ppl.Logistic, "glm": ppl.GLM}


@dataclass(frozen=True)
class Accuracy:
    """Of one case, the worst parameter of each.

    Attributes:
        mean: |mean − reference| in posterior sds.
        narrow: the smallest ratio of an sd to the reference's.
        wide: the largest.
        verdict: of the fit.
        method: how its draws were made.
        k_hat: of the guide.
        seconds: from the data to the verdict.
    """

    mean: float
    narrow: float
    wide: float
    verdict: str
    method: str
    k_hat: float
    seconds: float


def accuracy(name: str, seed: int = 0) -> Accuracy:
    """Fit a case and compare."""
    case, table = CASES[name], load(name)
    options = {} if case.target is None else {"target": case.target}
    began = time.perf_counter()
    fit = ppl.fit(MODELS[case.model](**case.fields), case.frame(), seed=seed, **options)
    verdict = fit.check().verdict
    seconds = time.perf_counter() - began
    found, _ = fit.bound.variables(fit.posterior_draws.theta)
    off, ratio = [], []
    for key, reference in table.posterior.items():
        if key == "probability":
            continue
        draws = found[key][1]
        if key == "cutpoint":
            draws = draws[:, 1:]  # the first is 0
        if key == "correlation":
            draws = draws[..., 0, 1]
        draws = draws.reshape(len(draws), *reference.mean.shape)
        off.append(np.abs((draws.mean(0) - reference.mean) / reference.sd).ravel())
        ratio.append((draws.std(0) / reference.sd).ravel())
    ratios = np.concatenate(ratio)
    return Accuracy(
        float(np.concatenate(off).max()), float(ratios.min()), float(ratios.max()), verdict,
        fit.calibrated.method, fit.posterior_draws.k_hat, seconds,
    )  # fmt: skip


def main() -> None:
    """Print all cases as a Markdown table."""
    print("| case | worst mean, sd | sds, ratio | draws | k-hat of the guide | verdict | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in CASES:
        a = accuracy(name)
        print(
            f"| {name} | {a.mean:.3f} | {a.narrow:.2f}–{a.wide:.2f} | {a.method} | {a.k_hat:.2f} "
            f"| {a.verdict} | {a.seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
