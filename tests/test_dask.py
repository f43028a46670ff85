"""Data frames of Dask: read as the same table, fitted by the workers of their cluster to the same numbers."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.data import partitions
from ppl_models.errors import Lost

dd = pytest.importorskip("dask.dataframe")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def table(n=600, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(3, size=n)
    found = pd.DataFrame(2.5 * rng.normal(size=(3, 3))[z] + rng.normal(size=(n, 3)), columns=list("abc"))
    f = found.to_numpy() @ [0.4, -0.3, 0.2]
    found.loc[::17, "b"] = np.nan
    found["sex"] = pd.Categorical.from_codes(rng.integers(2, size=n), ["m", "f"])
    found["word"] = pd.Series(z).map({0: "x", 1: "y", 2: "z"})
    found["yes"] = f + rng.logistic(size=n) > 0
    found["visits"] = rng.poisson(np.exp(0.3 * f))
    found["series"] = (6 * np.arange(n) // n).astype(str)
    return found


@pytest.mark.parametrize("large", [False, True])
def test_a_frame_is_read_as_the_same_table(monkeypatch, large):
    monkeypatch.setattr(partitions, "stays_on_disk", lambda cells: large)
    data = dd.from_pandas(table(120), npartitions=5)
    one = ppl.read(data.compute(), sequence="series", target="yes")
    many = ppl.read(data, sequence="series", target="yes")
    for own, other in zip(many.schema.columns, one.schema.columns, strict=True):
        assert (own.name, own.kind, own.levels, own.dtype) == (
            other.name,
            other.kind,
            other.levels,
            other.dtype,
        )
        assert own.mean == pytest.approx(other.mean, rel=1e-12, nan_ok=True)
    assert np.array_equal(many.values, one.values, equal_nan=True)
    assert many.lengths.tolist() == one.lengths.tolist()
    assert many.cluster is None  # computed by threads: there are no workers to share a fit
    pd.testing.assert_frame_equal(many.frame(), one.frame())


@pytest.mark.parametrize("given", [lambda data, y: ((data, y), {}), lambda data, y: (data, {"target": y})])
def test_a_target_beside_it(given):
    frame = table(60)
    data, options = given(dd.from_pandas(frame[["a", "c"]], npartitions=3), frame["yes"])
    found = ppl.read(data, **options)
    assert found.schema.target == "yes"
    assert found.values[:, -1].tolist() == frame["yes"].astype(float).tolist()


def broken(part):
    raise ValueError("no such\nbucket")


def test_what_cannot_be_computed_is_one_line(monkeypatch):
    data = dd.from_pandas(table(60), npartitions=2)
    with pytest.raises(ppl.DataError, match=r"Dask data frame: cannot be computed \(no such bucket\)"):
        ppl.read(data.map_partitions(broken, meta=data._meta))
    monkeypatch.setattr(partitions, "stays_on_disk", lambda cells: True)
    mixed = data.map_partitions(lambda part: part.assign(a="x"), meta=data._meta)
    with pytest.raises(ppl.DataError, match="column a: a partition has other cells than double .* astype"):
        ppl.read(mixed)
    with pytest.raises(ppl.DataError, match="Dask data frame: has no rows"):
        ppl.read(data[data.a > 1e9])


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


CASES = {
    "gmm": (ppl.GMM(components=3), ["a", "b", "c"], {}),
    "hmm": (ppl.HMM(states=2), ["a", "b", "series"], {"sequence": "series"}),
    "logistic": (ppl.Logistic(), ["a", "c", "yes"], {"target": "yes"}),
    "glm": (ppl.GLM(family="poisson"), ["a", "c", "visits"], {"target": "visits"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_workers_fit_what_one_process_fits(client, case):
    model, columns, options = CASES[case]
    frame = table()[columns]
    one = ppl.fit(model, frame, seed=0, **options)
    many = ppl.fit(model, dd.from_pandas(frame, npartitions=7), seed=0, **options)
    assert many.elbo == pytest.approx(one.elbo, rel=1e-9)
    assert many.data.cluster is None
    assert many.check().verdict == one.check().verdict
    assert client.run(ours) == {worker: 0 for worker in client.nthreads()}  # none is left


def ours():
    from ppl_models import cluster

    return len(cluster._processes)


@pytest.mark.slow
def test_what_one_process_fits_says_so(client):
    data = dd.from_pandas(table(200)[["a", "c"]], npartitions=2)
    fit = ppl.fit(ppl.MLP(hidden=[4]), data, target="c", steps=20)
    assert "mlp was fitted by this process alone: Dask has only computed the rows" in " ".join(fit.notes)
    with pytest.raises(ppl.UsageError, match=r"horseshoes.*of Dask fit data.compute\(\)"):
        ppl.fit(ppl.GLM(prior="horseshoe"), data, target="c")


@pytest.mark.slow
def test_a_worker_that_is_lost_is_one_line(client):
    """Whether it is the worker or the process beside it, which goes with it."""
    rng = np.random.default_rng(0)
    X = 0.7 * rng.normal(size=(6, 4))[rng.integers(6, size=5_000)] + rng.normal(size=(5_000, 4))
    data = dd.from_pandas(pd.DataFrame(X, columns=list("abcd")), npartitions=4)
    first = next(iter(client.run(os.getpid).values()))
    seen = []

    def progress(phase, step, elbo, left):
        seen.append(step)
        if len(seen) == 3:
            os.kill(first, signal.SIGKILL)

    options = {"restarts": 1, "tolerance": 1e-9, "steps": 500, "progress": progress}
    with pytest.raises(Lost, match="a process of the fit is gone, and with it its rows; fit again"):
        ppl.fit(ppl.GMM(components=6), data, **options)
    done = subprocess.run(
        ["pgrep", "-f", "ppl_models.worker", "-P", str(first)], capture_output=True, text=True
    )
    assert not done.stdout
    assert not sys.modules["torch"].distributed.is_initialized()
