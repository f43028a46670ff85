"""Mixtures and regressions on the command line: a fit of each, and every verb on it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.models.gmm.bound import ClassesBound, MixtureBound
from ppl_models.models.logistic.bound import LogisticBound
from ppl_models.verbs import VERBS

KIND = {"mixture": MixtureBound, "classes": ClassesBound, "regression": LogisticBound}


@pytest.mark.parametrize(
    ("name", "verb"),
    [(name, verb) for name in KIND for verb in VERBS if issubclass(KIND[name], VERBS[verb].needs)],
)
def test_a_verb_prints_what_the_method_gives(read, models, name, verb):
    found, expected = read(verb, models / name), getattr(ppl.load(models / name), verb)()
    assert len(found) == len(expected)
    assert list(found.columns)[-len(expected.columns) :] == list(expected.columns)
    for column in expected.columns:
        if pd.api.types.is_numeric_dtype(expected[column]):
            np.testing.assert_allclose(found[column], expected[column].reset_index(drop=True))
        else:
            assert list(found[column].astype(str)) == list(expected[column].astype(str))


@pytest.mark.parametrize("name", KIND)
def test_a_fit_for_people(run, fits, name):
    model, *options = fits[name]
    result = run("fit", model, "labelled.csv", *options)
    assert result.exit_code == 0, result.output
    size = "2 classes, 2 predictors" if name == "regression" else "2 components"
    assert result.stdout.startswith(f"{model} with {size} on labelled.csv (120 rows")
    assert "odds_ratio" in result.stdout if name == "regression" else "component" in result.stdout
    assert "verdict: " in result.stdout
    assert Path(f"runs/{model}-labelled-001/run.json").is_file()


@pytest.mark.parametrize("name", KIND)
def test_check(run, models, name):
    found = json.loads(run("check", models / name, "--json").stdout)
    checks = {each["name"] for each in found["checks"]}
    assert "converged" in checks
    assert ("separation" in checks) is (name == "regression")
    assert ("components visited" in checks) is (name != "regression")
    assert found["verdict"] == json.loads((models / name / "run.json").read_text())["verdict"]


MISTAKES = {  # arguments, with NAME for a run: what the line must contain; all exit with 2
    "sample MIXTURE --steps 3": ["sample of gmm has no --steps", "--rows", "--given"],
    "sample MIXTURE --rows 0": ["rows must be"],
    "sample MIXTURE --given z=1": ["'z'", "x, y"],
    "sample MIXTURE --given x=word": ["'word'", "not a number"],
    "sample MIXTURE --given x": ["'x' is not of the form"],
    "sample REGRESSION --rows 3": ["sample of logistic has no --rows", "--seed"],
    "score MIXTURE --by step": ["score of gmm has no --by"],
    "forecast MIXTURE": ["gmm has no forecast", "hmm, rnn, transformer have it"],
    "forecast REGRESSION": ["logistic has no forecast", "hmm, rnn, transformer have it"],
    "impute REGRESSION": ["logistic has no impute", "gmm, hmm, transformer, vae", "have it"],
    "predict MIXTURE --level 0.5": ["predict of gmm has no --level"],
    "predict MIXTURE --threshold 0.5": ["predict of gmm has no --threshold"],
    "predict REGRESSION --threshold 2": ["threshold must be a probability", "2.0"],
    "predict REGRESSION --level 0": ["level must be between 0 and 1"],
    "fit logistic labelled.csv": ["--target"],
    "fit logistic labelled.csv --formula x+y": ["--target"],
    "fit logistic labelled.csv --formula kind~z": ["no column 'z'", "kind~z"],
    "fit logistic labelled.csv --formula kind~": ["kind~"],
    "fit logistic labelled.csv --formula kind~x*": ["kind~x*"],
    "fit logistic labelled.csv --formula kind~eval(x)": ["no function 'eval'"],
    "fit logistic labelled.csv --formula kind~x-1": ["intercept"],
    "fit logistic labelled.csv --formula kind~x+kind": ["on both sides"],
    "fit logistic labelled.csv --formula none~x": ["no column 'none'"],
    "fit logistic labelled.csv --target kind --columns kind": ["nothing to predict kind from"],
    "fit logistic labelled.csv --target kind --prior laplace": ["'laplace'", "horseshoe"],
    "fit logistic labelled.csv --target kind --prior-scale 0": ["prior_scale must be positive"],
    "fit logistic labelled.csv --target kind --components 2": ["no such option '--components'"],
    "fit gmm labelled.csv --components 0": ["components must be at least 1, got 0"],
    "fit gmm labelled.csv --components 0:2": ["components must be at least 1, got 0"],
    "fit gmm labelled.csv --weight-prior none": ["'none'", "process"],
    "fit gmm labelled.csv --weight-concentration 0": ["weight_concentration must be positive"],
    "fit gmm labelled.csv --target none": ["no column 'none'"],
    "fit gmm labelled.csv --weights none": ["no column 'none'"],
    "fit hmm weighted.csv --weights w": ["hmm cannot weigh rows", "--weights"],
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(run, models, line):
    Path("weighted.csv").write_text("x,w\n" + "".join(f"{i % 7}.5,{1 + i % 2}\n" for i in range(40)))
    words = [str(models / word.lower()) if word.lower() in KIND else word for word in line.split()]
    result = run(*words)
    assert result.exit_code == 2, f"{result.output}\n{result.exception!r}"
    assert result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert first.startswith("ppl: ")
    assert len(rest) <= 1
    assert all(each.startswith("try ppl ") for each in rest)
    for part in MISTAKES[line]:
        assert part in first


DATA = {
    "fit gmm labelled.csv --target x": ["'x'", "continuous column"],
    "fit gmm labelled.csv --weights kind": ["'kind'", "is not a number"],
    "fit gmm labelled.csv --weights x": ["the weight -", "0 or greater"],
    "fit logistic one.csv --target kind": ["every row that is used has kind = a", "two classes"],
    "fit logistic holes.csv --target kind --missing-rows drop": ["no row has both"],
    "predict REGRESSION unseen.csv": ["'c'", "kind"],
    "predict REGRESSION lacking.csv": ["lacks the column 'y'"],
}


@pytest.mark.parametrize("line", DATA)
def test_data_that_cannot_be_used_is_one_line(run, models, line):
    Path("one.csv").write_text("x,kind\n" + "".join(f"{i / 7},a\n" for i in range(1, 9)))
    Path("holes.csv").write_text("x,y,kind\n0.5,,a\n,0.5,b\n1.5,,a\n,1.5,b\n")
    Path("unseen.csv").write_text("x,y,kind\n1,2,c\n")
    Path("lacking.csv").write_text("x\n1\n")
    words = [str(models / word.lower()) if word.lower() in KIND else word for word in line.split()]
    result = run(*words)
    assert result.exit_code == 65, result.output
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    for part in DATA[line]:
        assert part in result.stderr
