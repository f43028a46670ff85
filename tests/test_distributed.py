"""Fits by several processes give what one gives; a process that is lost, or that differs, is told."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl
from ppl_models.distributed import Shares, formed
from ppl_models.inference.gradient import GradientRule
from ppl_models.inference.policies import Patience


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.integers(3, size=n)
    X = 2.5 * rng.normal(size=(3, 3))[z] + rng.normal(size=(n, 3))
    found = pd.DataFrame(X, columns=list("abc"))
    found.loc[::17, "b"] = np.nan
    f = np.nan_to_num(X) @ [0.4, -0.3, 0.2]
    found["kind"] = np.where(f + rng.logistic(size=n) > 0, "yes", "no")
    found["three"] = pd.Series(z).map({0: "x", 1: "y", 2: "z"})
    found["number"] = f + rng.normal(size=n)
    found["count"] = rng.poisson(np.exp(0.3 * f))
    return found


class InTurn:
    """All ranks in one process: their shares are summed one after another."""

    def __init__(self, bound, data, size):
        self.rank, self.size = 0, size
        self.shares = [bound.share(dict(rows)) for rows in bound.deal(data, size)]
        self.asked = []

    def sum(self, what, given, own):
        self.asked.append(what)
        parts = [share[what](given) for share in self.shares]
        return {name: sum(part[name] for part in parts) for name in parts[0]}


CASES = {
    "gmm": (ppl.GMM(components=3), ["a", "b", "c"], {}),
    "gmm diag, labels": (ppl.GMM(components=3, covariance="diag"), ["a", "b", "three"], {}),
    "gmm classes": (ppl.GMM(components=1), ["a", "b", "kind"], {"target": "kind"}),
    "gmm weights": (ppl.GMM(components=2), ["a", "c", "count"], {"weights": "count"}),
    "hmm": (ppl.HMM(states=3), ["a", "b"], {"lengths": [50, 100, 120, 30, 100]}),
    "logistic": (ppl.Logistic(), ["a", "c", "kind"], {"target": "kind"}),
    "logistic of three": (ppl.Logistic(), ["a", "b", "number", "three"], {"target": "three"}),
    "normal": (ppl.GLM(), ["a", "c", "number"], {"target": "number"}),
    "poisson": (ppl.GLM(family="poisson"), ["a", "c", "count"], {"target": "count"}),
    "negative binomial": (ppl.GLM(family="negative_binomial"), ["a", "c", "count"], {"target": "count"}),
}


def shared(model, columns, options, size):
    """A bound model, its rows, and the same rows in shares."""
    data = ppl.read(table()[columns], refine=model.types, **options)
    data = replace(data, schema=model.refer(data))
    bound = model.bind(data.schema).prepare(data)
    team = InTurn(bound, data, size)
    return bound, data, replace(data, shares=Shares(team, team.shares[0])), team


def same(one, several):
    assert one.keys() == several.keys()
    for name, value in one.items():
        assert torch.allclose(several[name], value, rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", [name for name in CASES if "mm" in name])
def test_expected_statistics_are_those_of_all_rows(case, size):
    bound, data, several, team = shared(*CASES[case], size)
    one, many = bound.dataset_batch(data), bound.dataset_batch(several)
    labels = torch.from_numpy(np.random.default_rng(0).integers(bound.states, size=(2, data.rows)))
    statistics = bound.from_labels(one, labels)
    same(statistics, bound.from_labels(many, labels))
    for (elbo, found), (elbos, sums) in [(bound.elbo(one, statistics), bound.elbo(many, statistics))]:
        assert torch.allclose(elbo, elbos, rtol=1e-12)
        same(found, sums)
    theta = bound.draw({name: value[:1] for name, value in statistics.items()}, 5)
    assert torch.allclose(bound.log_evidence(one, theta), bound.log_evidence(many, theta), rtol=1e-12)
    assert team.asked == ["expect", "evidence"]


@pytest.mark.parametrize("case", [name for name in CASES if "mm" not in name])
def test_sums_of_a_regression_are_those_of_all_rows(case):
    bound, data, several, team = shared(*CASES[case], 3)
    one, many = bound.dataset_batch(data), bound.dataset_batch(several)
    glm, draw = bound.glm, torch.Generator().manual_seed(0)
    d = glm.dimension
    loc = 0.1 * torch.randn(d, generator=draw, dtype=torch.float64)
    root = 0.05 * torch.eye(d, dtype=torch.float64)
    same(glm.expect(one, loc, root)._asdict(), glm.expect(many, loc, root)._asdict())
    B = loc.reshape(glm.width, -1)
    for alone, summed in zip(glm.log_joint(one, B), glm.log_joint(many, B), strict=True):
        assert torch.allclose(alone, summed, rtol=1e-10)
    psi = bound.start()
    theta = bound.theta(torch.cat([loc, psi]).expand(4, -1))
    assert torch.allclose(bound.log_evidence(one, theta), bound.log_evidence(many, theta), rtol=1e-12)
    assert {"evidence"} < {*team.asked}
    if bound.shared:
        slopes = []
        for batch in (one, many):
            x = psi.clone().requires_grad_()
            bound.expected(batch, loc, root @ root.T, x).backward()
            slopes.append(x.grad)
        assert torch.allclose(*slopes, rtol=1e-10)


def test_every_row_is_dealt_once():
    data = ppl.read(table()[["a", "b"]], lengths=[1, 199, 100, 100])
    bound = ppl.HMM(states=2).bind(data.schema)
    for size in (1, 2, 3, 4):
        parts = [dict(part) for part in bound.deal(data, size)]
        assert len(parts) == size
        assert torch.equal(
            torch.cat([part["values"] for part in parts]).nan_to_num(), torch.tensor(data.values).nan_to_num()
        )
        assert torch.cat([part["lengths"] for part in parts]).tolist() == [1, 199, 100, 100]
    with pytest.raises(ppl.UsageError, match="4 sequences cannot be shared by 5 processes"):
        next(bound.deal(data, 5))


def test_parts_of_a_mini_batch_add_up_to_its_gradient():
    data = ppl.read(table()[["a", "c", "kind"]], target="kind")
    bound = ppl.MLP(hidden=[8]).bind(data.schema).prepare(data)
    target = bound.objective(data, 0)
    target.module.eval()  # no dropout: the gradient is exact
    rows = torch.arange(31)

    def gradient(team):
        rule = GradientRule(Patience(1), team=team)
        state = rule.start(target)
        loss, _ = rule._gradient(target, state, rows, 0.0)
        return loss, {n: p.grad.clone() for n, p in target.module.named_parameters() if p.grad is not None}

    class Three:
        rank, size = 0, 3

        def sum(self, what, given, own):
            parts = []
            for rank in range(3):
                rule = GradientRule(Patience(1), team=SimpleNamespace(rank=rank, size=3))
                found = rule.share(target, rule.start(target))[what](given)
                parts.append({n: v.detach().clone() for n, v in found.items()})
            return {name: sum(part[name] for part in parts) for name in parts[0]}

    one, several = gradient(None), gradient(Three())
    assert several[0] == pytest.approx(one[0], rel=1e-5)
    assert several[1].keys() == one[1].keys()
    for name in one[1]:
        assert torch.allclose(several[1][name], one[1][name], rtol=1e-3, atol=1e-6), name


@pytest.mark.slow
def test_what_one_process_fits_says_so():
    with pytest.raises(ppl.UsageError, match="gan is fitted by one process"):
        ppl.fit(ppl.GAN(), table()[["a", "c"]], workers=2)
    with pytest.raises(ppl.UsageError, match="support vector machines are fitted by one process"):
        ppl.fit(ppl.SVM(), table()[["a", "c", "kind"]], target="kind", workers=2)


@pytest.mark.slow
def test_two_processes_equal_one():
    found = {}
    for workers in (1, 2):
        with formed(workers):  # one pair of processes for all fits
            for case, (model, columns, options) in CASES.items():
                found[case, workers] = ppl.fit(model, table(3_000)[columns], seed=0, **_longer(options)).elbo
    for case in CASES:
        assert found[case, 2] == pytest.approx(found[case, 1], rel=1e-9), case


def _longer(options):
    return options | ({"lengths": [500] * 6} if "lengths" in options else {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "columns", "options"),
    [
        (ppl.VAE(latent=2, hidden=[16]), ["a", "b", "c"], {}),
        (ppl.MLP(hidden=[16]), ["a", "c", "kind"], {"target": "kind"}),
        (ppl.Transformer(width=16, layers=1, passes=3), ["a", "c", "kind"], {}),
    ],
    ids=["vae", "mlp", "transformer"],
)
def test_networks_learn_as_well_by_two_processes(model, columns, options):
    fits = [ppl.fit(model, table(2_000)[columns], seed=0, workers=w, **options) for w in (1, 2)]
    assert all(fit.status in ("converged", "max_steps") for fit in fits)
    one, two = (fit.elbo / 2_000 for fit in fits)
    assert two == pytest.approx(one, abs=0.05 * abs(one) + 0.02)


def _children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(each) for each in found.stdout.split()]


@pytest.mark.slow
def test_a_lost_process_is_one_line_and_resume_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    centres = 0.7 * rng.normal(size=(12, 6))  # they overlap, so that there are many passes
    data, run = tmp_path / "large.parquet", tmp_path / "run"
    X = centres[rng.integers(12, size=400_000)] + rng.normal(size=(400_000, 6))
    pd.DataFrame(X, columns=list("abcdef")).to_parquet(data)
    command = [sys.executable, "-m", "ppl_models"]
    fit = [*command, "fit", "gmm", str(data), "--components", "12", "--restarts", "1", "--tolerance", "1e-7"]
    job = subprocess.Popen(
        [*fit, "--workers", "2", "--out", str(run)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = []
    assert job.stderr is not None
    for line in job.stderr:
        lines.append(line)
        if "all rows" in line:
            time.sleep(2)
            for child in _children(job.pid):
                os.kill(child, signal.SIGKILL)
            break
    rest = job.stderr.read()
    assert job.wait(60) == 75, rest
    said = rest.strip().splitlines()[-1]
    assert said.startswith("ppl: a process of the fit is gone")
    assert "ppl resume" in said
    history = [each for each in ppl.load(run).trained.history if each["phase"] == "all rows"]
    again = subprocess.run(
        [*command, "resume", str(run), "--steps", "3", "--json"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    resumed = [each for each in ppl.load(run).trained.history if each["phase"] == "all rows"]
    assert resumed[0]["elbo"] >= history[-1]["elbo"] - 1.0  # no pass was lost but the last
