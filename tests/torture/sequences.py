"""A million steps: finite, and in bounded memory."""

import math

import numpy as np

from torture.forks import forked
from torture.trials import Tries, fault, trial

LONG = fault(
    "a sequence of a million steps", "fits, scores, states and forecasts are finite; memory is bounded"
)

VERBS = ("fit", "score", "predict", "forecast")
MOST = 4_000
"""MiB, of which importing takes 700."""


def chain(steps: int) -> np.ndarray:
    """Two normal states that stay for a hundred steps on average."""
    rng = np.random.default_rng(0)
    state = np.cumsum(rng.random(steps) < 0.01) % 2
    return rng.normal(4.0 * state)[:, None]


@trial(
    "million-steps",
    LONG,
    "`HMM(states=2)` on one sequence: fit, score, predict, forecast(10)",
    1_000_000,
    "steps",
)
def million(tries: Tries) -> None:
    def body() -> int:
        import ppl_models as ppl

        x = chain(tries.number)
        fit = ppl.fit(ppl.HMM(states=2), x, restarts=1)
        assert math.isfinite(fit.elbo), fit.elbo
        print("fit", flush=True)
        for verb in VERBS[1:]:
            found = fit.forecast(10) if verb == "forecast" else getattr(fit, verb)()
            assert np.isfinite(found.select_dtypes("number").to_numpy(float)).all(), verb
            print(verb, flush=True)
        return 0

    ended = forked(body, seconds=3600)
    tries.done = tries.number
    for verb in VERBS:
        if verb not in ended.out.split():
            tries.faults.append(f"{verb}: {ended.fault(0)}")
    tries.seen[f"{ended.peak:,.0f} MiB at most"] = 1
    if ended.peak > MOST:
        tries.faults.append(f"{ended.peak:,.0f} MiB")
