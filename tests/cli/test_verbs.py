"""The verbs on a run."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest

import ppl_models as ppl

ROWS = {"predict": 120, "score": 120, "sample": 100, "forecast": 10, "impute": 120, "transform": 120}


@pytest.mark.parametrize("verb", [*ROWS, "summary"])
def test_a_table_on_stdout(run, fitted, verb):
    result = run(verb, fitted)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    found = pd.read_csv(io.StringIO(result.stdout))
    expected = getattr(ppl.load(fitted), verb)()
    assert len(found) == len(expected) == ROWS.get(verb, len(expected))
    assert list(found.columns)[-len(expected.columns) :] == list(expected.columns)
    numeric = expected.select_dtypes("number")
    pd.testing.assert_frame_equal(found[numeric.columns], numeric.reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize("verb", ["predict", "score", "forecast", "impute", "transform"])
def test_later_data(run, fitted, verb):
    Path("later.csv").write_text("y,x,other\n1,2.5,a\n,1.5,b\n0,0.5,c\n")
    result = run(verb, fitted, "later.csv")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == (11 if verb == "forecast" else 4)
    result = run(verb, fitted, "-", input="x,y\n1,2\n")
    assert result.exit_code == 0, result.output


def test_reading_options(run, fitted):
    Path("later.txt").write_text("x|y\n1,5|?\n2,5|0\n")
    result = run("impute", fitted, "later.txt", "--delimiter", "|", "--decimal", ",", "--missing", "?")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("x,y,y_sd,y_lower,y_upper")


def test_options_arrive(run, fitted):
    assert len(run("sample", fitted, "--steps", "3", "--sequences", "2").stdout.splitlines()) == 7
    assert len(run("forecast", fitted, "--steps", "4").stdout.splitlines()) == 5
    assert len(run("score", fitted, "--by", "sequence").stdout.splitlines()) == 2
    seeded = [run("sample", fitted, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]
    narrow, wide = (
        pd.read_csv(io.StringIO(run("forecast", fitted, "--level", level).stdout))
        for level in ("0.5", "0.99")
    )
    assert (wide["x_upper"] > narrow["x_upper"]).all()


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_output_to_a_file(run, fitted, name):
    result = run("transform", fitted, "--output", name)
    assert (result.exit_code, result.stdout) == (0, "")
    readers = {"csv": pd.read_csv, "jsonl": lambda p: pd.read_json(p, lines=True), "parquet": pd.read_parquet}
    assert readers[name.partition(".")[2]](name).shape == (120, 2)


def test_json_lines(run, fitted):
    lines = run("predict", fitted, "--json").stdout.splitlines()
    assert len(lines) == 120
    assert set(json.loads(lines[0])) == {"state", "smoothed_0", "smoothed_1", "filtered_0", "filtered_1"}


def test_check(run, fitted):
    result = run("check", fitted)
    verdict = ppl.load(fitted).check().verdict
    assert result.stdout.startswith(f"verdict: {verdict}")
    found = json.loads(run("check", fitted, "--json").stdout)
    assert found["verdict"] == verdict
    assert found["run"] == str(fitted)


def test_ways_to_name_a_run(run, stored, monkeypatch):
    for name in ("runs/hmm-data-001", stored, "hmm-data-001", "latest", "./runs/hmm-data-001/"):
        assert run("check", name).exit_code == 0, name
    stored.parent.rename("elsewhere")
    assert run("check", "latest").exit_code == 74
    assert run("check", "latest", "--runs", "elsewhere").exit_code == 0
    monkeypatch.setenv("PPL_RUNS", "elsewhere")
    assert run("check", "hmm-data-001").exit_code == 0


def test_latest_is_the_last_one_written(run, stored):
    assert run("fit", "hmm", "data.csv", "--restarts", "1", "--out", "runs/aaa").exit_code == 0
    assert json.loads(run("check", "latest", "--json").stdout)["run"].endswith("aaa")


def test_control_characters_do_not_reach_a_terminal(monkeypatch, capsys):
    from ppl_models.cli import output

    frame = pd.DataFrame({"a\x1b[2J": ["x\x07", None], "n": [1.5, 2.0]})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.emit(frame, output="-", json=False)
    assert capsys.readouterr().out == "a\\x1b[2J,n\nx\\x07,1.5\n,2.0\n"


@pytest.mark.parametrize("kind", ["mixture", "classes", "regression"])
@pytest.mark.parametrize("verb", ["predict", "score", "transform"])
def test_blocks_of_rows_are_the_table(read, models, kind, verb, monkeypatch):
    """What is written some rows at a time is what all rows at once would be, up to rounding."""
    whole = read(verb, models / kind, "labelled.csv")
    monkeypatch.setattr("ppl_models.verbs.base.BLOCK", 50)
    pd.testing.assert_frame_equal(read(verb, models / kind, "labelled.csv"), whole, rtol=1e-9)
    assert len(whole) == 120


def test_a_slim_run(run, place):
    options = ["--components", "2", "--restarts", "2", "--slim", "--out", "slim", "-q"]
    done = run("fit", "gmm", "data.csv", *options)
    assert done.exit_code == 0, done.output
    assert run("predict", "slim", "data.csv").exit_code == 0
    refused = run("predict", "slim")
    assert refused.exit_code == 2
    assert refused.stderr == "ppl: slim was saved without the rows of the fit (--slim): give DATA\n"
