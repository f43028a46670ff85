"""Every backend gives what the generic one does, and each batch gets the one that the rules say."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ppl_models.kernels
from ppl_models.data import Schema
from ppl_models.families.base import product
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.families.gaussian import DiagonalGaussian
from ppl_models.families.normal_prior import NormalPrior
from ppl_models.kernels import choose as chooser
from ppl_models.kernels.backend import Problem
from ppl_models.kernels.blocked_chain import BlockedChain
from ppl_models.kernels.chain import MarkovChain
from ppl_models.kernels.choose import choose
from ppl_models.kernels.fused_rows import FusedRows
from ppl_models.kernels.generic import Generic
from ppl_models.kernels.independent import IndependentRows
from ppl_models.kernels.rows import Rows
from ppl_models.latent.independent import Independent
from ppl_models.latent.joint import Joint
from ppl_models.latent.markov import Chain

R, K = 2, 3
ONE = torch.ones(2, dtype=torch.float64)


class Curved(DiagonalGaussian):
    """A normal that says it is not linear, and has no linear map."""

    linear_density = False

    def linear(self, natural, width):
        raise AssertionError("no backend may ask for this")

    def log_density(self, features, natural, out, add):
        weights, constant = super().linear(natural, features.matrix.shape[1])
        product(features.matrix, weights.transpose(1, 2), constant, out, add)


def emission(kind, columns=(0, 1)):
    prior = NormalPrior(0.01, 5.0, 0.5)
    return kind(columns, K, 0.3 * ONE[: len(columns)], 1.7 * ONE[: len(columns)], prior)


def structure(chain):
    return Chain(K, 1.0, 1.0, 0.0) if chain else Independent(K, 1.0)


def normal(n, missing=0.0, columns=2):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, columns)) + rng.integers(0, 3, (n, 1))
    x[rng.random(x.shape) < missing] = np.nan
    return x


def naturals(joint, batch):
    labels = torch.randint(joint.states, (R, batch.rows.steps))
    return joint.expected_natural(joint.from_labels(batch, labels))


def same(found, wanted):
    (evidence, S), (exact, T) = found, wanted
    torch.testing.assert_close(evidence, exact, rtol=1e-12, atol=1e-10)
    assert S.keys() == T.keys()
    for name, value in T.items():
        torch.testing.assert_close(S[name], value, rtol=0, atol=1e-10 * max(1.0, float(value.abs().max())))


# Each backend against the generic one


@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["complete", "missing"])
@pytest.mark.parametrize("weights", [None, "shared", "each"])
@pytest.mark.parametrize("chain", [False, True], ids=["rows", "chain"])
def test_the_same_statistics(family, chain, weights, missing, monkeypatch):
    monkeypatch.setattr(chooser, "CHAIN", 1)
    n = 300
    x = family.rows(n, seed=1, missing=missing)
    shape = {None: None, "shared": (n,), "each": (R, n)}[weights]
    if chain and weights == "each":
        shape = (n,)
    weight = None if shape is None else np.random.default_rng(2).exponential(size=shape)
    joint = Joint(structure(chain), (family.build(K),), Schema(()))
    batch = joint.batch(x, Rows(np.array([200, 99, 1]) if chain else np.array([n]), weight=weight))
    natural = naturals(joint, batch)
    found, wanted = batch.backend.expect(natural), Generic(batch.backend.problem).expect(natural)
    same(found, wanted)
    alone = batch.backend.evidence(natural)
    torch.testing.assert_close(alone, wanted[0], rtol=1e-12, atol=1e-10)
    exact = Generic(batch.backend.problem).evidence(natural)
    torch.testing.assert_close(alone, exact, rtol=1e-12, atol=1e-10)
    spoilt = missing and not family.columns
    fast = BlockedChain if chain else FusedRows
    assert type(batch.backend) is (Generic if spoilt or (chain and weights) else fast)
    if type(batch.backend) is BlockedChain:
        assert batch.backend.failures == 0


@pytest.mark.parametrize("chain", [False, True], ids=["rows", "chain"])
def test_several_families(chain, monkeypatch):
    """Features of all families side by side, of which one lacks cells."""
    monkeypatch.setattr(chooser, "CHAIN", 1)
    x = normal(250, columns=3)
    x[::5, 2] = np.nan
    emissions = emission(FullGaussian), emission(DiagonalGaussian, (2,))
    emissions[1].name = "other"
    joint = Joint(structure(chain), emissions, Schema(()))
    batch = joint.batch(x, Rows(np.array([250])))
    assert type(batch.backend) is (BlockedChain if chain else FusedRows)
    natural = naturals(joint, batch)
    same(batch.backend.expect(natural), Generic(batch.backend.problem).expect(natural))


@pytest.mark.parametrize("chain", [False, True], ids=["rows", "chain"])
def test_a_density_that_is_not_linear_is_never_asked_for_its_map(chain, monkeypatch):
    monkeypatch.setattr(chooser, "CHAIN", 1)
    x, found = normal(100), []
    for kind in (Curved, DiagonalGaussian):
        torch.manual_seed(1)
        joint = Joint(structure(chain), (emission(kind),), Schema(()))
        batch = joint.batch(x, Rows(np.array([100])))
        natural = naturals(joint, batch)
        found.append((batch.backend.expect(natural), batch.backend.evidence(natural), type(batch.backend)))
    (curved, alone, generic), (plain, wanted, fast) = found
    assert (generic, fast) == (Generic, BlockedChain if chain else FusedRows)
    same(curved, plain)
    torch.testing.assert_close(alone, wanted, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("keep", [False, True])
def test_features_are_made_once_where_they_are_kept(keep, monkeypatch):
    """Else for each chunk anew, once for densities and statistics."""
    monkeypatch.setattr("ppl_models.kernels.backend.CACHE", 0)  # the smallest chunks
    made = []

    class Counted(DiagonalGaussian):
        def features(self, values, *arguments, **options):
            made.append(len(values))
            return super().features(values, *arguments, **options)

    e = emission(Counted)
    x = torch.as_tensor(normal(600))
    backend = Generic(Problem((e,), IndependentRows(), x, Rows(np.array([600])), keep))
    natural = {"weight": torch.zeros(1, K).double(), "gaussian": e.expected_natural(e.zeros(1))}
    for _ in range(3):
        backend.expect(natural)
    assert made == ([600] if keep else 3 * [256, 256, 88])


# Which one it is


CASES = {
    "independent rows": (False, FullGaussian, 32, {}, FusedRows),
    "few rows": (False, FullGaussian, 31, {}, Generic),
    "rows asked once": (False, FullGaussian, 100, {"keep": False}, FusedRows),
    "weighted rows": (False, FullGaussian, 100, {"weight": np.ones(100)}, FusedRows),
    "gaps that stay linear": (False, DiagonalGaussian, 100, {"missing": 0.2}, FusedRows),
    "gaps that do not": (False, FullGaussian, 100, {"missing": 0.2}, Generic),
    "not linear": (False, Curved, 100, {}, Generic),
    "rows on a GPU": (False, FullGaussian, 100, {"device": "meta"}, Generic),
    "a chain": (True, FullGaussian, 2_048, {}, BlockedChain),
    "a short chain": (True, FullGaussian, 2_047, {}, Generic),
    "many short chains": (True, DiagonalGaussian, 3_000, {"lengths": [3] * 1_000}, BlockedChain),
    "a chain asked once": (True, FullGaussian, 3_000, {"keep": False}, Generic),
    "a weighted chain": (True, FullGaussian, 3_000, {"weight": np.ones(3_000)}, Generic),
    "a chain that is entered": (True, FullGaussian, 3_000, {"entered": np.array([True])}, Generic),
    "a chain with gaps that stay linear": (True, DiagonalGaussian, 3_000, {"missing": 0.2}, BlockedChain),
    "a chain with gaps that do not": (True, FullGaussian, 3_000, {"missing": 0.2}, Generic),
    "a chain that is not linear": (True, Curved, 3_000, {}, Generic),
    "a chain on a GPU": (True, FullGaussian, 3_000, {"device": "meta"}, Generic),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rules(case):
    chain, kind, n, given, wanted = CASES[case]
    x = torch.as_tensor(normal(n, given.get("missing", 0.0))).to(given.get("device", "cpu"))
    rows = Rows(np.array(given.get("lengths", [n])), given.get("entered"), given.get("weight"))
    latents = MarkovChain() if chain else IndependentRows()
    backend = choose((emission(kind),), latents, x, rows, keep=given.get("keep", True))
    assert type(backend) is wanted
    assert isinstance(backend.problem, Problem)


def test_kernels_know_nothing_of_models():
    """Nor do the modules that they import."""
    names = [f"ppl_models.kernels.{path.stem}" for path in Path(ppl_models.kernels.__path__[0]).glob("*.py")]
    code = f"import sys, {', '.join(n for n in names if not n.endswith('__init__'))}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    found = {name.split(".")[1] for name in done.stdout.split() if name.startswith("ppl_models.")}
    assert found <= {"kernels", "errors", "importing", "light", "wording"}
