"""`ppl models`, `data`, `runs` and `completion`."""

import json
from pathlib import Path

import pytest

from ppl_models.registry import BUILT_IN


def test_models(run):
    listed, matrix = run("models").stdout.split("\n\n")
    lines = {line.split()[0]: line for line in listed.splitlines()[1:]}
    assert list(lines) == list(BUILT_IN)
    assert lines["hmm"].split(maxsplit=1)[1].startswith("hidden Markov model")
    rows = {line.split()[0]: line.split()[1:] for line in matrix.splitlines()}
    assert rows["verb"] == [*BUILT_IN, "FILE.py:Class"]
    cells = {verb: dict(zip(rows["verb"], has, strict=True)) for verb, has in rows.items() if verb != "*"}
    assert cells["forecast"] == dict.fromkeys(rows["verb"], "-") | {
        "hmm": "yes", "rnn": "yes*", "transformer": "yes*",
    }  # fmt: skip
    assert cells["predict"]["vae"] == "yes*"
    assert cells["predict"]["glm"] == "yes"
    found = [json.loads(line) for line in run("models", "--json").stdout.splitlines()]
    assert found[0]["source"] == "built in"
    assert "forecast" in next(each for each in found if each["name"] == "hmm")["verbs"]


def test_data(run):
    Path("d.csv").write_text(
        "who,n,x,kind\n" + "".join(f"{i // 4},{i},{i / 3:.2f},{'ab'[i % 2]}\n" for i in range(12))
    )
    result = run("data", "d.csv", "--sequence", "who", "--types", "n=continuous")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "rows       12" in text
    assert "sequences  3 of 4 to 4 rows" in text
    assert "a, b" in text
    found = json.loads(run("data", "d.csv", "--sequence", "who", "--ignore", "n", "--json").stdout)
    assert (found["rows"], found["sequences"], found["sequence"]) == (12, 3, "who")
    assert [c["column"] for c in found["columns"]] == ["x", "kind"]
    assert found["columns"][0]["max"] == 3.67
    assert found["columns"][1]["levels"] == ["a", "b"]


def test_data_on_a_narrow_terminal(run, monkeypatch):
    from ppl_models.cli import output

    rows = [{"name": "a\x1b", "value": 1.25}, {"name": "b", "value": None}]
    assert output.table(rows, columns=30).splitlines() == ["name   value", "a\\x1b   1.25", "b"]
    assert output.table(rows, columns=10) == "name: a\\x1b\nvalue: 1.25\n\nname: b"


def test_runs(run, stored):
    result = run("runs")
    assert result.stdout.splitlines()[0].split() == [
        "name",
        "model",
        "data",
        "status",
        "verdict",
        "elbo",
        "created",
    ]
    assert result.stdout.splitlines()[1].startswith("hmm-data-001  hmm ")
    bad = Path("runs/bad")
    bad.mkdir()
    (bad / "run.json").write_text("{")
    result = run("runs")
    assert result.exit_code == 0
    assert "damaged: bad: " in result.stdout
    lines = [json.loads(line) for line in run("runs", "--json").stdout.splitlines()]
    assert [line["name"] for line in lines] == ["hmm-data-001", "bad"]
    assert "run.json" in lines[1]["damaged"]


def test_no_runs(run):
    result = run("runs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "there are no runs in runs" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert result.stdout.startswith("# ")
    assert f"_PPL_COMPLETE={shell}_complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("ppl ", {"fit", "predict", "runs"}),
        ("ppl fit ", {"glm", "gmm", "hmm", "logistic"}),
        ("ppl fit gmm --weight", {"--weight-prior", "--weight-concentration", "--weights"}),
        ("ppl fit logistic --prior ", {"normal", "student_t", "horseshoe"}),
        ("ppl fit hmm --cov", {"--covariance", "--covariance-dof"}),
        ("ppl fit hmm --covariance ", {"full", "diag", "tied", "spherical"}),
        ("ppl predict ", {"latest", "hmm-data-001"}),
    ],
)
def test_what_is_completed(run, stored, words, wanted):
    line = words.split() + ([""] if words.endswith(" ") else [])
    env = {"_PPL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(line) - 1)}
    result = run(env=env)
    assert result.exit_code == 0
    assert wanted <= {each.partition(",")[2] for each in result.stdout.split("\n")}
