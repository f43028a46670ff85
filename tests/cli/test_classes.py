"""Mixtures and regressions on the command line: components, classes, weights, missing cells."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.mark.slow
def test_selection_of_components(run, fits):
    result = run("fit", "gmm", "labelled.csv", *fits["mixture"][1:], "--components", "1:3", "--out", "r")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if "evidence" in line)
    assert {"components", "held_out", "loo", "empty", "bic"} <= {*lines[head].split()}
    assert "held_out_se" not in lines[head]  # but beside its figure
    rows = [line.split() for line in lines[head + 1 : head + 4]]
    assert [row[row[0] == "*"] for row in rows] == ["1", "2", "3"]
    assert [row[0] for row in rows].count("*") == 1
    stored = json.loads(Path("r/run.json").read_text())
    assert stored["fields"]["components"] == 2
    found = pd.DataFrame(stored["candidates"]).set_index("components")
    assert found["evidence"].idxmax() == 2
    assert found.loc[2, "held_out"] > found.loc[1, "held_out"]
    assert found.loc[2, "loo"] == pytest.approx(found.loc[2, "held_out"], abs=0.5)


@pytest.mark.slow
def test_classes_are_predicted_without_looking_at_them(read, models):
    data = pd.read_csv("labelled.csv")
    found = read("predict", models / "classes", "labelled.csv")
    assert (found["class"] == data["kind"]).mean() > 0.9
    np.testing.assert_allclose(found["probability_a"] + found["probability_b"], 1.0)
    data.assign(kind=data["kind"].map({"a": "b", "b": "a"})).to_csv("swapped.csv", index=False)
    pd.testing.assert_frame_equal(read("predict", models / "classes", "swapped.csv"), found)
    data.drop(columns="kind").to_csv("bare.csv", index=False)
    pd.testing.assert_frame_equal(read("predict", models / "classes", "bare.csv"), found)


@pytest.mark.parametrize("name", ["classes", "regression"])
def test_scores_of_labels_are_those_of_the_prediction(read, models, name):
    data = pd.read_csv("labelled.csv")
    scored, predicted = read("score", models / name), read("predict", models / name)
    own = np.where(data["kind"] == "a", predicted["probability_a"], predicted["probability_b"])
    np.testing.assert_allclose(np.exp(scored.iloc[:, -1]), own, atol=0.01)


def test_labels_may_be_missing_in_a_mixture(run, read, fits):
    data = pd.read_csv("labelled.csv")
    data.loc[data.index % 4 != 0, "kind"] = None
    data["kind"] = np.where(data.index % 8 == 0, "a", np.where(data.index % 8 == 5, "b", None))
    data.to_csv("few.csv", index=False)
    result = run("fit", "gmm", "few.csv", *fits["classes"][1:], "--out", "few")
    assert result.exit_code == 0, result.output
    found = read("predict", "few", "labelled.csv")
    assert (found["class"] == pd.read_csv("labelled.csv")["kind"]).mean() > 0.9


def test_rows_given_some_columns(run, read, models):
    free, fixed = (
        read("sample", models / "mixture", "--rows", "300", "--seed", "1", *given)
        for given in ([], ["--given", "x=3.5"])
    )
    assert len(free) == len(fixed) == 300
    assert set(fixed["x"]) == {3.5}
    assert fixed["y"].mean() < free["y"].mean() - 1, "rows with a large x are those with a small y"
    seeded = [run("sample", models / "mixture", "--rows", "3", "--seed", s).stdout for s in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]


def test_missing_cells(read, models):
    Path("gaps.csv").write_text("x,y\n3.2,\n,0.1\n,\n1,2\n")
    filled = read("impute", models / "mixture", "gaps.csv")
    assert filled.loc[0, "y"] < -1.5
    assert filled.loc[1, "x"] < 1.5
    assert filled["y_lower"].notna().tolist() == [True, False, True, False]
    assert not filled[["x", "y"]].isna().any(axis=None)
    assert read("score", models / "mixture", "gaps.csv").loc[2, "log_density"] == pytest.approx(0.0)
    found = read("predict", models / "regression", "gaps.csv")
    assert found["class"].notna().all(), "rows with missing predictors are predicted"


@pytest.mark.slow
def test_rows_that_a_regression_leaves_out_are_said(run):
    data = pd.read_csv("labelled.csv")
    data.loc[:4, "x"] = None
    data.to_csv("holes.csv", index=False)
    kept = run("fit", "logistic", "holes.csv", "--target", "kind", "--out", "k")
    assert kept.exit_code == 0, kept.output
    assert "5 rows with missing cells in 'x' kept" in kept.stderr
    drop = ["--missing-rows", "drop"]
    result = run("fit", "logistic", "holes.csv", "--target", "kind", "--out", "r", *drop)
    assert result.exit_code == 0, result.output
    assert "5 rows of 120 not used: missing cells in 'x'" in result.stderr
    evaluated = run("evaluate", "k", "labelled.csv")
    assert evaluated.exit_code == 0, evaluated.output
    assert "accuracy" in evaluated.stdout
    assert run("fit", "logistic", "holes.csv", "--target", "kind", "--out", "s", "--quiet").stderr == ""


def test_threshold_and_level_of_a_prediction(read, models):
    def predicted(*options):
        return read("predict", models / "regression", *options)

    p = predicted()["probability_b"]
    assert (predicted("--threshold", "0.9")["class"] == np.where(p >= 0.9, "b", "a")).all()
    assert set(predicted("--threshold", "0")["class"]) == {"b"}
    narrow, wide = predicted("--level", "0.5"), predicted("--level", "0.99")
    assert (wide["probability_b_upper"] > narrow["probability_b_upper"]).all()


def test_fields_of_a_regression_arrive(run, read):
    result = run(
        "fit", "logistic", "labelled.csv", "--target", "kind", "--prior", "student_t", "--prior-scale", "1",
        "--no-autoscale", "--class-weight", "balanced", "--json", "--out", "r",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["fields"]
    assert (found["prior"], found["prior_scale"], found["autoscale"]) == ("student_t", 1.0, False)
    assert found["class_weight"] == "balanced"
    schema = json.loads(Path("r/run.json").read_text())["data"]["schema"]
    assert schema["target"] == "kind"
    terms = run("fit", "logistic", "labelled.csv", "--formula", "kind ~ x*y + np.exp(x)", "--out", "s")
    assert terms.exit_code == 0, terms.output
    assert {"x", "y", "x:y", "np.exp(x)"} <= {*read("summary", "s")["parameter"]}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gmm", "logistic"])
def test_a_row_of_weight_two_is_a_row_that_is_there_twice(run, read, model):
    data = pd.read_csv("labelled.csv")
    weight = np.where(data.index % 3 == 0, 2, 1)
    data.assign(w=weight).to_csv("weighted.csv", index=False)
    data.loc[data.index.repeat(weight)].to_csv("twice.csv", index=False)
    options = ["--target", "kind", "--json", *(["--components", "1"] if model == "gmm" else [])]
    elbo = [
        json.loads(run("fit", model, name, *options, *more, "--out", name[:-4]).stdout)["elbo"]
        for name, more in (("weighted.csv", ["--weights", "w"]), ("twice.csv", []))
    ]
    if model == "logistic":  # the units of a mixture's priors are those of the table, whatever its weights
        assert elbo[0] == pytest.approx(elbo[1], abs=1e-3)
    means = [read("summary", name)["mean"] for name in ("weighted", "twice")]
    np.testing.assert_allclose(means[0], means[1], atol=0.05)


def test_what_is_read_names_target_and_weights(run):
    pd.read_csv("labelled.csv").assign(w=1).to_csv("w.csv", index=False)
    result = run("data", "w.csv", "--target", "kind", "--weights", "w")
    assert result.exit_code == 0, result.output
    assert "target     kind" in result.stdout
    assert "weights    w" in result.stdout
    found = json.loads(run("data", "w.csv", "--target", "kind", "--weights", "w", "--json").stdout)
    assert (found["target"], found["weights"]) == ("kind", "w")
    assert [each["column"] for each in found["columns"]] == ["x", "y", "kind"]
