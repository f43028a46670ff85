"""A system and a verb can be added without a change to the package."""

import io
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import norm

import ppl_models as ppl
from ppl_models import registry
from ppl_models.annotations import AtLeast
from ppl_models.capabilities import Bounded, Scores
from ppl_models.cli import verbs as verb_commands
from ppl_models.cli.root import ppl as command
from ppl_models.errors import Unsupported
from ppl_models.record import Record
from ppl_models.verbs import VERBS, Verbs
from ppl_models.verbs.base import Needs, verb

OWN = f"{Path(__file__).parent / 'own_normals.py'}:Normals"


def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"x": rng.normal(5.0, 2.0, 60), "y": rng.normal(-1.0, 0.5, 60)})


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table().to_csv("data.csv", index=False)
    return tmp_path


@pytest.fixture
def normals() -> type[ppl.Model]:
    return registry.find(OWN, files=True)


def run(*args: str) -> str:
    result = CliRunner().invoke(command, [str(each) for each in args], prog_name="ppl")
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.stdout


def exact(frame: pd.DataFrame) -> np.ndarray:
    """Log densities of rows at the moments of the table, by scipy."""
    fitted = table()
    return norm(fitted.mean(), fitted.std(ddof=0)).logpdf(frame).sum(1)


def test_a_system_of_a_file_is_fitted_scored_sampled_and_checked(normals):
    data = table()
    fit = ppl.fit(normals(), data)
    np.testing.assert_allclose(fit.score()["log_density"], exact(data), rtol=1e-10)
    np.testing.assert_allclose(
        fit.score(data.head(5) + 1)["log_density"], exact(data.head(5) + 1), rtol=1e-10
    )
    assert fit.elbo == pytest.approx(exact(data).sum())
    drawn = fit.sample(4_000, seed=1)
    assert (np.abs(drawn.mean() - data.mean()) < 5 * data.std() / 4_000**0.5).all()
    assert (fit.sample(5, given={"x": 7.0})["x"] == 7.0).all()
    pd.testing.assert_frame_equal(fit.sample(9), fit.sample(9))
    np.testing.assert_allclose(fit.summary()["sd"], data.std(ddof=0))
    assert fit.check().verdict == "trusted"
    assert "2 normals" in repr(fit)


def test_it_is_saved_and_loaded(normals, tmp_path):
    fit = ppl.fit(normals(), table())
    again = ppl.load(fit.save(tmp_path / "run"), normals)
    pd.testing.assert_frame_equal(again.score(), fit.score())
    pd.testing.assert_frame_equal(again.sample(9), fit.sample(9))
    assert again.check().to_dict() == fit.check().to_dict()
    assert again.model == fit.model


def test_it_is_on_the_command_line(place):
    fitted = json.loads(run("fit", OWN, "data.csv", "--least", "0.1", "--out", "run", "--json"))
    assert fitted["fields"] == {"least": 0.1}
    scored = pd.read_csv(io.StringIO(run("score", "run", "--model", OWN)))
    np.testing.assert_allclose(scored["log_density"], exact(table()), rtol=1e-6)
    sampled = pd.read_csv(io.StringIO(run("sample", "run", "--rows", "7", "--given", "x=1", "--model", OWN)))
    assert sampled.shape == (7, 2)
    assert (sampled["x"] == 1).all()
    assert "verdict: trusted" in run("check", "run", "--model", OWN)


@pytest.mark.parametrize("name", ["forecast", "predict", "impute", "transform", "reconstruct"])
def test_verbs_that_it_does_not_have_are_refused(normals, name):
    with pytest.raises(Unsupported, match=f"^normals has no {name}; .* ha(s|ve) it$"):
        getattr(ppl.fit(normals(), table()), name)()


@verb("ppl surprise latest new.csv --above 3", needs=(Scores,))
def surprise(
    fit: Record,
    data: object = None,
    *,
    above: Annotated[float, "Bits from which a row is surprising."] = 8.0,
    most: Annotated[int | None, "Rows at most; all if not given.", AtLeast(1)] = None,
    bounds: Annotated[int | None, "By so many lower bounds.", Needs((Bounded,))] = None,
) -> pd.DataFrame:
    """The rows that are surprising.

    In bits, −log₂ p(x_n).
    """
    density = VERBS["score"](fit, data)["log_density"]
    found = pd.DataFrame({"row": range(len(density)), "bits": -density / np.log(2)})
    return found[found["bits"] > above].head(most)


class MoreVerbs(Verbs):
    """One more."""

    surprise = surprise


class Surprised(MoreVerbs, Record):
    """A fit with it."""


def test_a_function_becomes_a_verb(normals):
    fit = ppl.fit(normals(), table())
    own = Surprised(fit.model, fit.data, fit.trained, fit.settings, fit.origin)
    bits = -exact(table()) / np.log(2)
    found = own.surprise(above=5.0)
    assert list(found["row"]) == list(np.flatnonzero(bits > 5.0))
    np.testing.assert_allclose(found["bits"], bits[bits > 5.0])
    assert len(own.surprise(above=0.0, most=3)) == 3
    pd.testing.assert_frame_equal(own.score(), fit.score())
    with pytest.raises(ppl.UsageError, match="has no option 'abov'; did you mean above"):
        own.surprise(abov=1)
    with pytest.raises(ppl.UsageError, match="surprise of normals has no --bounds; it has --above, --most"):
        own.surprise(bounds=3)


def test_it_refuses_what_cannot_be_and_names_what_can(normals):
    labelled = table().assign(kind=["a", "b"] * 30)
    fit = ppl.fit(ppl.Logistic(), labelled, target="kind")
    with pytest.raises(Unsupported) as refused:
        surprise(fit)
    there = ", ".join(registry.those(lambda bound: issubclass(bound, Scores)))
    assert str(refused.value) == f"logistic has no surprise; {there} have it"


def test_it_becomes_a_command_with_the_options_of_its_signature(place, monkeypatch):
    run("fit", OWN, "data.csv", "--out", "run")
    monkeypatch.setitem(VERBS, "surprise", surprise)
    monkeypatch.setattr(ppl.api.Fit, "surprise", surprise, raising=False)
    monkeypatch.setitem(command.lazy, "surprise", "ppl_models.cli.verbs:verb_command")
    verb_commands.verb_command.cache_clear()
    try:
        shown = run("surprise", "--help")
        assert "The rows that are surprising." in shown
        assert "ppl surprise latest new.csv --above 3" in shown
        for option, about in {"--above": "Bits from which", "--most": "Rows at most", "--model": ""}.items():
            assert option in shown
            assert about in shown
        found = pd.read_csv(io.StringIO(run("surprise", "run", "data.csv", "--above", "5", "--model", OWN)))
        bits = -exact(table()) / np.log(2)
        assert list(found["row"]) == list(np.flatnonzero(bits > 5.0))
        assert "surprise" in run("--help")
    finally:
        verb_commands.verb_command.cache_clear()
