"""The registry: families by name, what is chosen for a column, the fields of their priors, and their page."""

import subprocess
import sys
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import ppl_models as ppl
from ppl_models.annotations import Positive, hints
from ppl_models.data import Column, Kind, Schema, read
from ppl_models.errors import DataError, UsageError
from ppl_models.families.choose import checked, emissions, families, kinds, likelihoods
from ppl_models.families.registry import FAMILIES, Priors, having, listed

SIDES = ("emission", "likelihood")
PAGE = Path(__file__).parents[2] / "docs" / "families.md"
TABLE = Schema(
    (
        Column("a", Kind.CONTINUOUS, mean=1.0, sd=2.0, minimum=-3.0, maximum=9.0),
        Column("n", Kind.COUNT, integer=True, mean=3.0, sd=2.0, maximum=9.0),
        Column("b", Kind.BINARY, ("no", "yes"), maximum=1.0),
        Column("k", Kind.CATEGORICAL, ("u", "v", "w"), maximum=2.0),
    )
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_a_family_is_a_file(family):
    module = import_module(f"ppl_models.families.{family.name}")
    assert getattr(module, family.name.upper()) is family
    assert family.conjugate or family.network


@pytest.mark.parametrize("side", SIDES)
def test_every_kind_has_a_family_that_describes_it(side):
    auto = [family for family in having(side).values() if family.auto is not None]
    assert sorted(family.auto for family in auto) == sorted(Kind)
    assert all(family.auto in family.side(side).kinds for family in auto)


def test_models_are_declared_without_torch():
    code = "import sys, ppl_models.models.hmm.model, ppl_models.models.vae.model; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert not {"torch", "pyro", "pandas", "scipy", "numba"} & set(found.stdout.split())


def test_text_and_mapping_choose_alike():
    for text, mapping in [
        ("n=gaussian, a=auto", {"n": "gaussian", "a": "auto"}),
        ("a=student_t", {"a": "student_t"}),
    ]:
        for side in SIDES:
            assert families(side, text, TABLE) == families(side, mapping, TABLE)
    e = emissions({"n": "negative_binomial", "a": "student_t"}, Priors(), 2, TABLE)
    assert [each.name for each in e] == ["student_t", "negative_binomial", "bernoulli", "categorical"]
    assert [each.columns for each in e] == [(0,), (1,), (2,), (3,)]


def test_a_choice_stays_as_it_was_given(tmp_path):
    table = {"n": np.random.default_rng(0).poisson(3.0, 30), "a": np.arange(30) / 7}
    fit = ppl.fit(ppl.GMM(components=1, emission={"n": "gaussian"}), table)
    assert [e.name for e in fit.bound.emissions] == ["gaussian"]
    again = ppl.load(fit.save(tmp_path / "run"))
    assert again.model == fit.model
    assert again.model.emission == {"n": "gaussian"}
    assert ppl.VAE(likelihood={"n": "poisson"}).likelihood == {"n": "poisson"}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("choice", ["a=normal", {"a": "normal"}, "normal"])
def test_unknown_families_are_refused_before_there_are_columns(side, choice):
    with pytest.raises(UsageError, match=f"{side} 'normal' is not known; choose from {listed(side)}"):
        checked(side, choice)
    model = ppl.HMM if side == "emission" else ppl.VAE
    with pytest.raises(UsageError, match="'normal' is not known"):
        model(**{side: choice})


@pytest.mark.parametrize("side", SIDES)
def test_unknown_columns_are_refused(side):
    with pytest.raises(
        UsageError, match=rf"{side} names the column 'z', which is not modelled \(a, n, b, k\)"
    ):
        families(side, "z=gaussian", TABLE)


def test_columns_that_a_family_cannot_describe_are_refused():
    with pytest.raises(DataError, match="'k' is categorical, which a gaussian emission cannot describe"):
        emissions({"k": "gaussian"}, Priors(), 2, TABLE)
    with pytest.raises(DataError, match="'b' is binary, which a student_t likelihood cannot describe"):
        likelihoods("b=student_t", TABLE)
    with pytest.raises(DataError, match="'a' has the value -3; gamma needs values positive"):
        emissions("a=gamma", Priors(), 2, TABLE)
    with pytest.raises(DataError, match="'a' has the value -3; exponential needs values at least 0"):
        emissions("a=exponential", Priors(), 2, TABLE)


def test_columns_are_read_as_what_their_family_needs():
    text = "a=poisson,n=categorical,k=bernoulli"
    assert kinds("emission", text, TABLE) == {"a": "count", "n": "categorical", "k": "binary"}
    assert kinds("likelihood", text, TABLE) == {"a": "count", "n": "categorical"}
    assert kinds("likelihood", "a=bernoulli", TABLE) == {}  # grey levels
    assert kinds("emission", "a=negative_binomial", TABLE) == {"a": "count"}
    data = read({"x": [0.0, 1.0, 2.0, 50.0, 2000.0, 3.0]})
    fit = ppl.fit(ppl.GMM(components=1, emission="negative_binomial"), data.values)
    assert fit.data.schema.columns[0].kind is Kind.COUNT


PRIORS = [name for name, about in hints(Priors).items() if about.note(Positive) is not None]


def test_fields_of_priors_are_fields_of_models():
    own = {field.name: field.default for field in fields(Priors)}
    for model in (ppl.GMM, ppl.HMM):
        found = {field.name: field.default for field in fields(model)}
        assert own == {name: found[name] for name in own}
    assert {
        "covariance",
        "state_variance",
        "rate_shape",
        "level_concentration",
        "student_t_dof",
    } <= own.keys()
    model = ppl.HMM(rate_shape=np.int64(2), covariance="diag")
    assert model.priors == Priors(rate_shape=2.0, covariance="diag")
    assert type(model.rate_shape) is float


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan"), "1"])
def test_fields_of_priors_are_positive(name, value):
    with pytest.raises(UsageError, match=f"{name} must be positive and finite, got {value}"):
        ppl.GMM(**{name: value})


def test_the_correlation_of_the_data_is_kept_where_a_prior_refers_to_it():
    data = read(np.random.default_rng(0).normal(size=(20, 2)))
    for covariance, kept in {"full": True, "tied": True, "diag": False}.items():
        assert bool(ppl.HMM(covariance=covariance).refer(data).correlation) is kept
    part = replace(TABLE, correlation=tuple(map(tuple, np.eye(4) + 0.1)))
    full = emissions("n=gaussian", Priors(), 2, part)[0]
    assert full.correlation.shape == (2, 2)


# The page


def rows_of(title):
    """The cells of the table under a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def columns_cell(kinds):
    return ", ".join(kinds)


def test_the_page_has_every_family():
    shown = rows_of("Emissions")
    assert shown == [
        [f"`{f.name}`", columns_cell(f.conjugate.kinds), f.conjugate.density, f.conjugate.prior]
        for f in having("emission").values()
    ]
    shown = rows_of("Likelihoods")
    assert shown == [
        [f"`{f.name}`", columns_cell(f.network.kinds), f.network.density]
        for f in having("likelihood").values()
    ]


def test_the_page_has_every_field():
    found = {cells[0].strip("`"): cells[1:] for cells in rows_of("Priors")}
    assert list(found) == [field.name for field in fields(Priors)]
    for field in fields(Priors):
        default, families_ = found[field.name][:2]
        shown = (
            "not given"
            if field.default is None
            else f"{field.default:g}"
            if field.default != "full"
            else "`full`"
        )
        assert default == shown, field.name
        users = [f"`{f.name}`" for f in FAMILIES if field.name in {own.name for own in fields(f.fields)}]
        assert families_ == ", ".join(users), field.name
