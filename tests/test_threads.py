"""How many threads there are: by the size of the work, and never more than was asked for."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models import threads
from ppl_models.threads import SMALL, threads_for


@pytest.fixture(autouse=True)
def four(monkeypatch):
    """A process with four threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.delenv("PPL_THREADS", raising=False)
    yield
    ppl.set_threads(None)
    torch.set_num_threads(before)


def inside(*sizes: float) -> list[int]:
    """Threads within blocks of these sizes, one in another."""
    found = []

    def enter(rest: tuple[float, ...]) -> None:
        if rest:
            with threads_for(rest[0]):
                found.append(torch.get_num_threads())
                enter(rest[1:])

    enter(sizes)
    assert torch.get_num_threads() == 4
    return found


def test_by_the_size_of_the_work():
    assert inside(SMALL) == [1]
    assert inside(SMALL + 1) == [4]
    assert inside(0, SMALL + 1, 10) == [1, 4, 1]  # what is large within something small has them all


def test_no_more_than_was_asked_for(monkeypatch):
    ppl.set_threads(2)
    assert inside(0, 1e9) == [1, 2]
    ppl.set_threads(None)
    monkeypatch.setenv("PPL_THREADS", "3")
    assert inside(1e9) == [3]
    ppl.set_threads(1)  # what a program says goes before its environment
    assert inside(1e9) == [1]


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", True])
def test_what_is_no_number_of_threads(number):
    with pytest.raises(ppl.UsageError, match="threads must be a whole number of at least 1"):
        ppl.set_threads(number)


def test_a_variable_that_is_no_number(monkeypatch):
    monkeypatch.setenv("PPL_THREADS", "many")
    with pytest.raises(ppl.UsageError, match="PPL_THREADS must be a whole number of at least 1, got 'many'"):
        ppl.fit(ppl.GMM(components=1), np.zeros((4, 1)))


def blas() -> set[int]:
    from threadpoolctl import threadpool_info

    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_blas_has_as_many_and_then_what_it_had(monkeypatch):
    from threadpoolctl import threadpool_limits

    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    threads._controller.cache_clear()
    with threadpool_limits(2, "blas"):
        before = blas()
        with threads_for(1):
            assert blas() == {1}
        assert blas() == before
        both = threading.Barrier(2)

        def work() -> None:
            with threads_for(1):
                both.wait()

        others = [threading.Thread(target=work) for _ in range(2)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        assert blas() == before  # also where blocks of several threads overlapped
    threads._controller.cache_clear()


def test_small_fits_and_verbs_have_one_thread(monkeypatch):
    """From training to the checks, wherever tensors are worked on."""
    seen = set()

    def noted(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def call(*args, **options):
            seen.add((name, torch.get_num_threads()))
            return method(*args, **options)

        monkeypatch.setattr(owner, name, call)

    from ppl_models.latent.bound import LatentBound

    for name in ("train", "calibrate", "log_density", "emit", "smoothed", "evidence", "checks"):
        noted(LatentBound, name)
    x = np.random.default_rng(0).normal(size=(60, 2))
    fit = ppl.select(ppl.GMM(), x, {"components": [1, 2]}, restarts=2)
    x[3, 1] = np.nan
    fit.check(), fit.predict(x), fit.score(x), fit.impute(x), fit.sample(3)
    assert {name for name, _ in seen} == {
        "train", "calibrate", "log_density", "emit", "smoothed", "evidence", "checks",
    }  # fmt: skip
    assert {number for _, number in seen} == {1}
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("hidden", "number"), [((8,), 1), ((2_000, 2_000), 4)])
def test_networks_by_the_work_of_a_step(hidden, number, monkeypatch):
    from ppl_models.models.vae.objective import VAETarget

    seen, loss = set(), VAETarget.loss

    def noted(self, rows, epoch):
        seen.add(torch.get_num_threads())
        return loss(self, rows, epoch)

    monkeypatch.setattr(VAETarget, "loss", noted)
    x = np.random.default_rng(0).normal(size=(40, 3))
    ppl.fit(ppl.VAE(latent=1, hidden=hidden), x, steps=1)
    assert seen == {number}


@pytest.mark.parametrize("given", [["--threads", "1"], []])
def test_on_the_command_line(given, monkeypatch):
    """Before torch is there: its own threads, and those of other libraries, are then never started."""
    monkeypatch.setenv("PPL_THREADS", "1" if not given else "7")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    code = f"""
import os, sys
from ppl_models.cli.base import prepare_process
from ppl_models.cli.verbs import verb_command
prepare_process()
context = verb_command("predict").make_context("predict", ["run", *{given!r}])
assert "torch" not in sys.modules
import torch
print(torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"], done.stderr


def test_fits_of_several_threads_are_those_of_one():
    """What is drawn comes of the one generator of the process, which is as it was afterwards."""
    data = np.random.default_rng(0).normal(size=(60, 2))

    def work(found: dict, i: int) -> None:
        fit = ppl.fit(ppl.VAE(latent=1, hidden="4"), data, steps=10, seed=i)
        found[i] = fit.elbo, fit.sample(3, seed=0).to_numpy().tolist()

    alone, together = {}, {}
    for i in range(3):
        work(alone, i)
    before = torch.random.get_rng_state()
    running = [threading.Thread(target=work, args=(together, i)) for i in range(3)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert together == alone
    assert bool((torch.random.get_rng_state() == before).all())
