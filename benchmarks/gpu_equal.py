"""Every system on a device beside the same on the CPU: what `benchmarks/gpu.py` and `tests/test_gpu.py` run.

Passes of mixtures and chains are sums of double precision, and have to agree to 1e-9; whole fits of them, and
of what is computed on the CPU whatever the device, to 1e-5, as one may stop a step before the other. Networks
draw other noise on another device, and have to reach the same ELBO to 5 % and 0.05 nats a row.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

import ppl_models as ppl
from ppl_models.errors import PplError

PASS, FIT = 1e-9, 1e-5
"""Relative tolerances of a pass and of a whole fit of an exact rule."""

SHARE, NATS = 0.05, 0.05
"""Tolerances of a network: a share of the ELBO, and nats a row."""


VERBS = {"check": (), "predict": (), "score": (), "sample": (5,), "impute": (), "forecast": (3,)}
"""That the fit on the device answers, with what they are given."""


class Compared(NamedTuple):
    """A figure on the CPU and on the device, and how far they may be apart."""

    cpu: float
    device: float
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether they are close enough."""
        return abs(self.cpu - self.device) <= self.tolerance


def table(rows: int = 600, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of three groups, and targets that follow from them."""
    rng = np.random.default_rng(seed)
    z = rng.integers(3, size=rows)
    X = 2.5 * rng.normal(size=(3, 3))[z] + rng.normal(size=(rows, 3))
    f = X @ [0.4, -0.3, 0.2]
    a, b, c = X.T
    return {
        "a": a,
        "b": np.where(np.arange(rows) % 17 == 0, np.nan, b),
        "c": c,
        "kind": np.where(f + rng.logistic(size=rows) > 0, "yes", "no"),
        "number": f + rng.normal(size=rows),
        "count": rng.poisson(np.exp(0.3 * f)),
    }


def images(rows: int = 300, side: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, side, side) pictures of a bright row or a bright column, and which it is."""
    rng = np.random.default_rng(seed)
    y, at = rng.integers(2, size=rows), rng.integers(side, size=rows)
    X = rng.normal(scale=0.3, size=(rows, side, side))
    for i in range(rows):
        X[i, at[i], :] += 1.0 - y[i]
        X[i, :, at[i]] += y[i]
    return X, np.where(y, "column", "row")


def a_pass(model: ppl.Model, rows: int, **reading: object) -> Callable[[str], Compared]:
    """The ELBO and statistics of one pass over complete and missing cells."""

    def compared(device: str) -> Compared:
        data = ppl.read({name: table(rows)[name] for name in "abc"}, **reading)
        data = replace(data, schema=model.refer(data))
        bound = model.bind(data.schema).prepare(data)
        labels = torch.from_numpy(np.random.default_rng(1).integers(bound.states, size=(2, rows)))
        found = []
        for where in ("cpu", device):
            batch = bound.dataset_batch(data, where)
            S = bound.from_labels(batch, labels.to(where))
            elbo, sums = bound.elbo(batch, S)
            found.append([elbo.cpu(), *(sums[name].cpu() for name in sorted(sums))])
        apart = max(
            float((a - b).abs().max() / a.abs().max().clamp_min(1.0)) for a, b in zip(*found, strict=True)
        )
        one = float(found[0][0][0])
        return Compared(one, one * (1 + apart), PASS * abs(one))

    return compared


def a_fit(
    model: ppl.Model, columns: str | None, exact: bool, rows: int = 600, **options: object
) -> Callable[[str], Compared]:
    """ELBOs of two whole fits; that of the device also answers, as far as it can."""

    def compared(device: str) -> Compared:
        data = images(rows) if columns is None else {n: table(rows)[n] for n in columns.split()}
        one, other = (ppl.fit(model, data, seed=0, device=where, **options) for where in ("cpu", device))
        for verb, given in VERBS.items():
            try:
                getattr(other, verb)(*given)
            except PplError:  # a verb that this system does not have
                pass
        slack = FIT * abs(one.elbo) if exact else SHARE * abs(one.elbo) + NATS * rows
        return Compared(one.elbo, other.elbo, slack)

    return compared


CASES: dict[str, Callable[[str], Compared]] = {
    "gmm, a pass": a_pass(ppl.GMM(components=3), 20_000),
    "hmm, a pass over sequences": a_pass(ppl.HMM(states=3), 20_000, lengths=[1_000] * 20),
    "hmm, a pass over one": a_pass(ppl.HMM(states=3), 20_000),
    "gmm": a_fit(ppl.GMM(components=3), "a b c", exact=True),
    "gmm, labels and counts": a_fit(ppl.GMM(components=3), "a b kind count", exact=True),
    "hmm": a_fit(ppl.HMM(states=2), "a b c", exact=True, lengths=[200, 300, 100]),
    "logistic": a_fit(ppl.Logistic(), "a c kind", exact=True, target="kind"),
    "glm": a_fit(ppl.GLM(family="poisson"), "a c count", exact=True, target="count"),
    "svm": a_fit(ppl.SVM(), "a c kind", exact=True, target="kind"),
    "mlp of counts": a_fit(
        ppl.MLP(hidden=[16], family="poisson"), "a c count", exact=False, target="count", steps=400
    ),
    "mlp, members": a_fit(
        ppl.MLP(hidden=[16], posterior="members"), "a c kind", exact=False, target="kind", steps=400
    ),
    "mlp, all weights": a_fit(
        ppl.MLP(hidden=[16], posterior="natural"), "a c kind", exact=False, target="kind", steps=400
    ),
    "mlp": a_fit(ppl.MLP(hidden=[16]), "a c kind", exact=False, target="kind", steps=400),
    "cnn": a_fit(ppl.CNN(members=2), None, exact=False, rows=300, steps=400),
    "rnn": a_fit(ppl.RNN(), "a c kind", exact=False, target="kind", lengths=[20] * 30, steps=200),
    "rnn, a forecast": a_fit(ppl.RNN(units=16), "a c", exact=False, lengths=[200] * 3, steps=200),
    "vae": a_fit(ppl.VAE(latent=2, hidden=[32]), "a b c", exact=False, steps=1_000),
    "gan": a_fit(ppl.GAN(), "a c kind", exact=False, steps=300),
    "transformer": a_fit(ppl.Transformer(width=32, layers=1, passes=3), "a c kind", exact=False, steps=100),
}
"""By name: what compares a system on a device with the CPU."""
