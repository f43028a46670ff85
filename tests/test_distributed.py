"""Fits by several processes give what one gives; a process that is lost, or that differs, is told."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl
from ppl_models import worker
from ppl_models.data.files import file_of
from ppl_models.distributed import Shares, check_versions, versions
from ppl_models.errors import Lost
from ppl_models.forming import formed
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
    "hmm left to right": (
        ppl.HMM(states=3, topology="left-right"),
        ["a", "b"],
        {"lengths": [50, 100, 120, 30, 100]},
    ),
    "hmm autoregressive": (ppl.HMM(states=2, autoregressive=1), ["a", "c"], {"lengths": [200, 100, 100]}),
    "logistic": (ppl.Logistic(), ["a", "c", "kind"], {"target": "kind"}),
    "logistic of weights": (
        ppl.Logistic(class_weight="balanced"),
        ["a", "c", "kind", "count"],
        {"target": "kind", "weights": "count"},
    ),
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
    found, before = {}, (sys.excepthook, signal.getsignal(signal.SIGINT), dict(os.environ))
    for workers in (1, 2):
        with formed(workers):  # one pair of processes for all fits
            for case, (model, columns, options) in CASES.items():
                found[case, workers] = ppl.fit(model, table(3_000)[columns], seed=0, **_longer(options)).elbo
    for case in CASES:
        assert found[case, 2] == pytest.approx(found[case, 1], rel=1e-9), case
    assert before == (sys.excepthook, signal.getsignal(signal.SIGINT), dict(os.environ))
    assert not torch.distributed.is_initialized()


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


@pytest.mark.slow
def test_a_lost_process_is_one_line_and_resume_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    centres = 0.7 * rng.normal(size=(6, 4))  # they overlap, so that there are many passes
    X = centres[rng.integers(6, size=20_000)] + rng.normal(size=(20_000, 4))
    run, seen = tmp_path / "run", []

    def progress(phase, step, elbo, left):
        if phase == "all rows":
            seen.append(elbo)
            if len(seen) == 5:
                workers = ["pgrep", "-f", "-P", str(os.getpid()), "ppl_models.worker"]
                for pid in subprocess.run(workers, capture_output=True, text=True, check=True).stdout.split():
                    os.kill(int(pid), signal.SIGKILL)

    model, options = ppl.GMM(components=6), {"restarts": 1, "tolerance": 1e-7, "workers": 2, "steps": 30}
    with pytest.raises(Lost, match="a process of the fit is gone.*`ppl resume` goes on from the last pass"):
        ppl.fit(model, X, checkpoint=run, progress=progress, **options)
    assert len(seen) == 5
    stopped = ppl.load(run)
    assert stopped.status == "interrupted"
    found = ppl.resume(run)
    passes = [each["elbo"] for each in found.trained.history if each["phase"] == "all rows"]
    assert passes[len(seen)] >= seen[-1] - 1e-6  # the passes before it are not done again
    assert not [
        each for each in found.trained.history[len(stopped.trained.history) :] if each["phase"] != "all rows"
    ]
    assert found.elbo > seen[-1]


def test_a_rank_keeps_its_rows_while_others_are_handed_theirs(monkeypatch):
    """Of three ranks the second hears of the rows of the third after its own."""
    from ppl_models.distributed import Message

    script = [
        ("fit", {}),
        ("rows", {"rank": 1, "tensors": {}}),
        ("rows", {"rank": 2}),
        ("sum", {}),
        ("end", {}),
    ]
    said = iter([Message(what, about, {}) for what, about in script])
    found = []
    team = SimpleNamespace(
        rank=1,
        agree=lambda action: None,
        hear=lambda: next(said),
        receive=lambda head: {},
        gather=lambda own: found.append(own()),
    )
    monkeypatch.setattr(worker, "_share", lambda about, rows: {"sum": lambda given: "mine"})
    monkeypatch.setattr(worker.signal, "signal", lambda number, action: None)
    worker.serve(team)
    assert found == ["mine"]


def test_versions_that_differ_are_refused():
    own = versions()
    check_versions(1, own)
    with pytest.raises(ppl.UsageError, match=r"rank 1 has torch .*, and rank 0 1.0; install the same"):
        check_versions(1, own | {"torch": "1.0"})


def test_another_file_or_command_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    about = {
        "versions": versions(),
        "launched": True,
        "arguments": ["fit", "gmm"],
        "path": str(path),
        "file": file_of(str(path)),
        "model": "gmm",
        "fields": {"components": 2},
    }
    monkeypatch.setattr(sys, "argv", ["ppl", "fit", "gmm"])
    worker._check(1, about)
    path.write_text("a,b\n1,3\n")
    with pytest.raises(ppl.UsageError, match="rank 1 sees another .*data.csv than rank 0"):
        worker._check(1, about)
    path.unlink()  # that it is not there does not matter: rows are handed over
    worker._check(1, about)
    monkeypatch.setattr(sys, "argv", ["ppl", "fit", "hmm"])
    with pytest.raises(ppl.UsageError, match="rank 1 was started with fit hmm, and rank 0 with fit gmm"):
        worker._check(1, about)


@pytest.mark.slow
def test_a_process_that_fails_is_heard_and_the_others_go_on(monkeypatch):
    """An error of a share is raised by rank 0; the team can take the next fit."""
    data = table(2_000)[["a", "b"]]

    def broken(self, rows):
        raise ValueError("no share today")

    with formed(2):
        with monkeypatch.context() as patch:
            patch.setattr(ppl.GMM(components=2).bounds()[0], "share", broken)
            with pytest.raises(ValueError, match="no share today"):
                ppl.fit(ppl.GMM(components=2), data)
        with monkeypatch.context() as patch:  # the other one cannot make such a model
            patch.setattr("ppl_models.engine.reference", lambda model: "nothing")
            with pytest.raises(ppl.UsageError, match="there is no model 'nothing'"):
                ppl.fit(ppl.GMM(components=2), data)
        assert ppl.fit(ppl.GMM(components=2), data).status == "converged"


@pytest.mark.slow
def test_torchrun(tmp_path):
    path = tmp_path / "data.csv"
    table(2_000)[["a", "b", "c"]].to_csv(path, index=False)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ppl_models"]
    launch[3:3] = ["--master-port", "29517"]
    done = subprocess.run(
        [*launch, "fit", "gmm", str(path), "--components", "3", "--json", "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)  # only one of them has spoken
    assert found["elbo"] == pytest.approx(ppl.fit(ppl.GMM(components=3), path).elbo, rel=1e-9)
