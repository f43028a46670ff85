"""`ppl fit`: what is said, where it is saved, and what stops it."""

import json
import math
import os
import signal
import sys
from pathlib import Path

import pytest

from ppl_models import store
from ppl_models.checks import Check, Report
from ppl_models.cli.progress import ProgressLine

QUICK = ["--restarts", "2"]
ONE = ["--restarts", "1", "--states", "1"]
"""Whatever is fitted."""


def said(result) -> str:
    """What a failure looks like in the report of a test."""
    return f"{result.stdout}\n{result.stderr}\n{result.exception!r}"


def test_for_people(run):
    result = run("fit", "hmm", "data.csv", *QUICK)
    assert result.exit_code == 0, said(result)
    for part in ("hmm with 2 states", "120 rows", "ELBO", "verdict: ", "runs/hmm-data-001", "ppl predict"):
        assert part in result.stdout
    assert Path("runs/hmm-data-001/run.json").is_file()
    assert run("fit", "hmm", "data.csv", *QUICK).stdout.count("hmm-data-002") == 3


def test_for_machines(run):
    result = run("fit", "hmm", "data.csv", *QUICK, "--json", "--covariance", "diag", "--out", "r")
    assert result.exit_code == 0, said(result)
    found = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert found["run"] == "r"
    assert found["model"] == "hmm"
    assert found["fields"]["covariance"] == "diag"
    assert found["status"] == "converged"
    assert found["verdict"] in ("trusted", "use with care", "not trusted")
    assert {"name", "value", "level", "reason", "about"} == set(found["checks"][0])
    assert found["candidates"] == []
    assert json.loads(Path("r/run.json").read_text())["elbo"] == found["elbo"]


@pytest.mark.parametrize(("states", "wanted"), [("1:3", [1, 2, 3]), ("1,2", [1, 2])])
def test_selection(run, states, wanted):
    result = run("fit", "hmm", "data.csv", *QUICK, "--states", states, "--out", "r")
    assert result.exit_code == 0, said(result)
    lines = result.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if "evidence" in line)
    stored = json.loads(Path("r/run.json").read_text())
    marked = [line.split()[1] for line in lines[head + 1 : head + 1 + len(wanted)] if line.startswith("*")]
    assert marked == [str(stored["fields"]["states"])]
    assert stored["fields"]["states"] > 1
    assert [each["states"] for each in stored["candidates"]] == wanted


def test_reading_options_arrive(run):
    Path("d.txt").write_text(
        "id;t;a;b;c\n" + "".join(f"{i // 20};{i};{i % 7},5;{i % 3};-\n" for i in range(60))
    )
    result = run(
        "fit", "hmm", "d.txt", "--json", *QUICK, "--delimiter", ";", "--decimal", ",", "--sequence", "id",
        "--time", "t", "--missing", "-", "--ignore", "c", "--types", "b=categorical", "--out", "r",
    )  # fmt: skip
    assert result.exit_code == 0, said(result)
    data = json.loads(Path("r/run.json").read_text())["data"]
    assert (data["schema"]["sequence"], data["schema"]["time"]) == ("id", "t")
    assert [(c["name"], c["kind"]) for c in data["schema"]["columns"]] == [
        ("a", "continuous"),
        ("b", "categorical"),
    ]


def test_notes_are_on_stderr_unless_quiet(run):
    Path("n.csv").write_text("x,k\n" + "".join(f"{i * 0.37 % 1:.3f},1\n" for i in range(40)))
    result = run("fit", "hmm", "n.csv", *ONE, "--out", "a")
    assert result.exit_code == 0, said(result)
    assert "n.csv: constant: 'k'" in result.stderr
    assert "constant" not in result.stdout
    assert run("fit", "hmm", "n.csv", *ONE, "--out", "b", "--quiet").stderr == ""


def test_an_existing_run_is_refused_before_fitting(run, stored, monkeypatch):
    monkeypatch.setattr("ppl_models.engine.fitted", lambda *a, **k: pytest.fail("it was fitted"))
    before = (stored / "run.json").read_bytes()
    result = run("fit", "hmm", "data.csv", "--out", str(stored))
    assert result.exit_code == 73
    assert "--force" in result.stderr
    assert (stored / "run.json").read_bytes() == before


def test_force_replaces_a_run(run, stored):
    before = (stored / "run.json").read_bytes()
    result = run("fit", "hmm", "data.csv", *ONE, "--out", str(stored), "--force", "--seed", "5")
    assert result.exit_code == 0, said(result)
    assert (stored / "run.json").read_bytes() != before


def test_a_directory_that_is_no_run_is_left_alone(run):
    Path("mine").mkdir()
    Path("mine/file").write_text("x")
    result = run("fit", "hmm", "data.csv", "--out", "mine", "--force")
    assert result.exit_code == 73
    assert Path("mine/file").read_text() == "x"


def test_the_run_is_locked_while_it_is_fitted(run, monkeypatch):
    from ppl_models import engine

    held = []
    real = engine.fitted

    def spying(*args, **options):
        held.append(Path(".r.ppl-lock").exists())
        return real(*args, **options)

    monkeypatch.setattr(engine, "fitted", spying)
    assert run("fit", "hmm", "data.csv", *ONE, "--out", "r").exit_code == 0
    assert held == [True]
    assert not Path(".r.ppl-lock").exists()


def test_a_failure_leaves_no_empty_run(run):
    Path("bad.csv").write_text("x\n1\nword\n2\n3\n")
    result = run("fit", "hmm", "bad.csv")
    assert result.exit_code == 65
    assert list(Path("runs").iterdir()) == []
    assert run("fit", "hmm", "none.csv", "--runs", "other").exit_code == 65
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("level", "code"), [("fail", 3), ("warn", 0), pytest.param("ok", 0, marks=pytest.mark.slow)]
)
def test_strict(run, monkeypatch, level, code):
    report = Report((Check("k-hat", 2.0, level, "far off"),))
    monkeypatch.setattr("ppl_models.record.check", lambda fit, bayesian: report)
    result = run("fit", "hmm", "data.csv", *ONE, "--strict", "--out", "r")
    assert result.exit_code == code, said(result)
    assert ("not trusted: k-hat: far off" in result.stderr) is (code == 3)
    assert store.read_run("r").manifest["verdict"] == report.verdict
    assert run("check", "r").exit_code == code
    assert run("fit", "hmm", "data.csv", *ONE, "--out", "s").exit_code == 0, "only if it is asked for"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_training_and_saves(run, monkeypatch, number, code):
    real = ProgressLine.__call__

    def interrupting(self, phase, step, elbo, left):
        real(self, phase, step, elbo, left)
        if step == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(ProgressLine, "__call__", interrupting)
    before = signal.getsignal(number)
    result = run("fit", "hmm", "data.csv", *QUICK, "--out", "r")
    assert result.exit_code == code, said(result)
    assert "saved in r" in result.stderr
    assert "interrupted" in result.stdout
    assert store.read_run("r").manifest["status"] == "interrupted"
    assert signal.getsignal(number) is before


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_signal_ends_a_selection(run, monkeypatch):
    steps = []
    real = ProgressLine.__call__

    def interrupting(self, phase, step, elbo, left):
        real(self, phase, step, elbo, left)
        steps.append(step)
        if self._current == 2 and step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressLine, "__call__", interrupting)
    result = run("fit", "hmm", "data.csv", *QUICK, "--states", "1:9", "--out", "r", "--json")
    assert result.exit_code == 130, said(result)
    assert json.loads(result.stdout)["fields"]["states"] in (1, 2)
    assert steps.count(2) <= 3, "the others were not trained"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("first", [1, 3])
def test_a_second_signal_leaves_at_once(run, monkeypatch, first):
    def interrupting(self, phase, step, elbo, left):
        if step == first:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressLine, "__call__", interrupting)
    monkeypatch.setattr("ppl_models.runs.save", lambda *a, **k: os.kill(os.getpid(), signal.SIGINT))
    result = run("fit", "hmm", "data.csv", *QUICK, "--out", "r")
    assert result.exit_code == 130, said(result)
    assert "stopped" in result.stderr
    assert "saved in" not in result.stderr
    assert not Path("r").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_signal_while_saving_does_not_lose_the_fit(run, monkeypatch):
    from ppl_models import runs

    real = runs.save

    def interrupting(*args, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **options)

    monkeypatch.setattr(runs, "save", interrupting)
    result = run("fit", "hmm", "data.csv", *ONE, "--out", "r")
    assert result.exit_code == 130
    assert store.read_run("r").manifest["status"] == "converged"


def test_stdin(run):
    result = run("fit", "hmm", "-", *ONE, input=Path("data.csv").read_text())
    assert result.exit_code == 0, said(result)
    assert Path("runs/hmm-stdin-001").is_dir()


def test_the_line_of_progress():
    line = ProgressLine(False, 1e-3, ["states 1", "states 2"])
    line("restarts", 1, -10.0, float("inf"))
    line("restarts", 1, -10.0, float("inf"))
    text = line.line("restarts", 12, -1234.567, 0.0321)
    assert text.startswith(
        "states 2 (2 of 2) · restarts · step 12 · ELBO -1,234.57 · 0.032 nats a parameter left · 0:0"
    )
    assert line.seconds_left() is None
    line._seen.extend((float(i), -i / 2) for i in range(10))
    assert line.seconds_left() == pytest.approx(-2 * math.log(1e-3) - 9)


def test_the_line_of_progress_of_a_fit_with_a_budget():
    line = ProgressLine(False, 1e-3, budget=60.0)
    text = line.line("searches", 3, -math.inf, math.inf)
    assert text.startswith("searches · step 3 · 0:0")
    assert "about 0:5" in text
    line._seen.extend((float(i), -i / 2) for i in range(10))
    assert line.seconds_left() == pytest.approx(-2 * math.log(1e-3) - 9)  # sooner than the budget
    line._began -= 70
    assert line.seconds_left() == 0.0


@pytest.mark.parametrize(
    ("quiet", "terminal", "term", "shown"),
    [
        (False, True, "xterm", True),
        (True, True, "xterm", False),
        (False, False, "xterm", False),
        (False, True, "dumb", False),
    ],
)
def test_when_progress_is_shown(monkeypatch, quiet, terminal, term, shown):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("TERM", term)
    assert ProgressLine(quiet, 1e-3)._shown is shown
