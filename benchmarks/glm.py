"""Generalised linear models beside Bambi (nutpie) and statsmodels: time, and whether the answer is the same.

    python benchmarks/glm.py --out benchmarks/results/glm.md

Each is a process of its own, imports and compilation counted, as a user waits for them. `statsmodels` gives a
point and its standard errors; groups are not in it. Peers that are not installed are left out and said.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

DATA = """
import json, sys, warnings
import numpy as np, pandas as pd
warnings.simplefilter("ignore")
rng = np.random.default_rng(1)
def radon():
    J, n = 85, 919
    g = rng.integers(0, J, n); uranium = rng.normal(size=n); u = rng.normal(size=J) * 0.35
    y = 1.4 + u[g] - 0.66 * uranium + rng.normal(size=n) * 0.75
    return pd.DataFrame({"y": y, "uranium": uranium, "g": [f"c{i}" for i in g]})
def counts():
    J, n = 40, 800
    g = rng.integers(0, J, n); x = rng.normal(size=n); u = rng.normal(size=J) * 0.5
    return pd.DataFrame({"y": rng.poisson(np.exp(0.5 + 0.3 * x + u[g])), "x": x, "g": [f"c{i}" for i in g]})
def kids():
    n = 434
    hs = rng.integers(0, 2, n).astype(float); iq = rng.normal(100, 15, n)
    return pd.DataFrame({"y": 26 + 6 * hs + 0.6 * iq + rng.normal(size=n) * 18, "hs": hs, "iq": iq})
def large():
    n = 100_000
    X = rng.normal(size=(n, 10))
    d = pd.DataFrame(X, columns=[f"x{i}" for i in range(10)])
    d["y"] = rng.poisson(np.exp(0.2 * X.sum(1)))
    return d
"""

CASES = {
    "kids, 434, normal": ("kids()", "normal", "y ~ hs + iq", "iq"),
    "radon, 919, normal, 85 groups": ("radon()", "normal", "y ~ uranium + (1 | g)", "uranium"),
    "counts, 800, Poisson, 40 groups": ("counts()", "poisson", "y ~ x + (1 | g)", "x"),
    "large, 100,000 × 10, Poisson": (
        "large()",
        "poisson",
        "y ~ " + " + ".join(f"x{i}" for i in range(10)),
        "x0",
    ),
}

PEERS = {
    "ppl": """
import ppl_models as ppl
f = ppl.fit(ppl.GLM(family="{family}", formula="{formula}"), d)
s = f.summary(); v = f.check().verdict
print(json.dumps([s["mean"]["{name}"], s["sd"]["{name}"], v]))
""",
    "bambi": """
import bambi as bmb, arviz as az
family = {{"normal": "gaussian"}}.get("{family}", "{family}")
m = bmb.Model("{formula}".replace("(1 | g)", "(1|g)"), d, family=family)
i = m.fit(inference_method="nutpie", random_seed=1, progressbar=False)
s = az.summary(i, var_names=["{name}"], round_to=8)
print(json.dumps([s["mean"].iloc[0], s["sd"].iloc[0], f"R-hat {{s['r_hat'].iloc[0]:.2f}}"]))
""",
    "statsmodels": """
import statsmodels.api as sm, statsmodels.formula.api as smf
family = dict(normal=sm.families.Gaussian, poisson=sm.families.Poisson)["{family}"]()
r = smf.glm("{formula}", d, family=family).fit()
print(json.dumps([r.params["{name}"], r.bse["{name}"], "a point"]))
""",
}


def main() -> None:
    """Time every case by every peer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="of an environment that has the peers")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["| case | by | s | coefficient | sd | said |", "|---|---|---|---|---|---|"]
    for case, (data, family, formula, name) in CASES.items():
        times: dict[str, list[float]] = {}
        found: dict[str, list] = {}
        for _ in range(options.rounds):
            for peer, code in PEERS.items():
                if (peer == "statsmodels" and "|" in formula) or (peer == "bambi" and "large" in case):
                    continue
                program = f"{DATA}\nd = {data}\n" + code.format(family=family, formula=formula, name=name)
                python = sys.executable if peer == "ppl" else options.python
                began = time.perf_counter()
                done = subprocess.run([python, "-c", program], capture_output=True, text=True)
                if done.returncode == 0:
                    times.setdefault(peer, []).append(time.perf_counter() - began)
                    found[peer] = json.loads(done.stdout.splitlines()[-1])
        for peer, took in times.items():
            mean, sd, said = found[peer]
            line = f"| {case} | {peer} | {statistics.median(took):.2f} | {mean:.4f} | {sd:.4f} | {said} |"
            lines.append(line)
            print(line, flush=True)
    names = [n for n in ("torch", "bambi", "nutpie", "statsmodels") if importlib.util.find_spec(n)]
    versions = ", ".join(f"{n} {version(n)}" for n in names)
    if options.out is not None:
        head = ["# Generalised linear models", "", f"{options.rounds} rounds, medians; {versions}.", ""]
        options.out.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
