"""What users do wrong, and what goes wrong: one line and an exit code, never a traceback."""

from pathlib import Path

import pytest

from ppl_models.cli import base
from ppl_models.errors import RunError

# arguments: (exit code, what the line must contain)
MISTAKES = {
    "nope": (2, ["nope", "try ppl --help"]),
    "--nope": (2, ["--nope"]),
    "fit hmm": (2, ["DATA", "try ppl fit hmm --help"]),
    "fit --seed 1 hmm data.csv": (2, ["--seed goes after the model"]),
    "fit nope data.csv": (2, ["no model 'nope'"]),
    "fit hmm data.csv extra": (2, ["extra"]),
    "fit hmm data.csv --state 3": (2, ["--state", "--states"]),
    "fit hmm data.csv --states x": (2, ["'x' is not a whole number"]),
    "fit hmm data.csv --states 0": (2, ["states must be at least 1, got 0"]),
    "fit hmm data.csv --states 0:2": (2, ["states must be at least 1, got 0"]),
    "fit hmm data.csv --states 3:1": (2, ["goes down"]),
    "fit hmm data.csv --covariance fat": (2, ["fat", "full"]),
    "fit hmm data.csv --stickiness -1": (2, ["stickiness must be at least 0"]),
    "fit hmm data.csv --emission gauss": (2, ["gauss", "gaussian"]),
    "fit hmm data.csv --restarts 0": (2, ["restarts must be a whole number of at least 1"]),
    "fit hmm data.csv --tolerance 0": (2, ["tolerance must be positive"]),
    "fit hmm data.csv --device tpu": (2, ["device must be"]),
    "fit hmm data.csv --columns z": (2, ["no column 'z'"]),
    "fit hmm data.csv --types x=round": (2, ["round", "continuous"]),
    "fit hmm data.csv --types x": (2, ["'x' is not of the form column=kind"]),
    "fit hmm data.csv --delimiter ab": (2, ["delimiter"]),
    "fit hmm data.csv --encoding klingon": (2, ["klingon"]),
    "fit hmm data.csv --config none.toml": (2, ["none.toml: no such file"]),
    "fit hmm none.csv": (65, ["none.csv: no such file"]),
    "fit hmm .": (65, ["is a directory"]),
    "fit hmm text.csv": (65, ["text.csv", "line 3"]),
    "fit hmm empty.csv": (65, ["empty"]),
    "fit hmm data.csv --out data.csv": (73, ["not a directory"]),
    "fit hmm data.csv --out data.csv/run": (73, ["data.csv/run"]),
    "fit hmm data.csv --runs data.csv": (73, ["data.csv"]),
    "predict": (2, ["RUN", "try ppl predict --help"]),
    "predict none": (74, ["no run 'none'", "ppl runs"]),
    "predict latest --runs none": (74, ["no run in none"]),
    "predict data.csv": (74, ["a run is a directory"]),
    "predict .": (74, ["run.json"]),
    "predict ../x": (74, ["../x"]),
    "predict hmm-data-01": (74, ["did you mean hmm-data-001?"]),
    "predict latest none.csv": (65, ["none.csv: no such file"]),
    "predict latest other.csv": (65, ["lacks the column 'y'"]),
    "predict latest --delimiter ;": (2, ["--delimiter says how DATA is read"]),
    "predict latest --output none/x.csv": (73, ["none/x.csv"]),
    "score latest --by row": (2, ["row", "step"]),
    "sample latest --steps 0": (2, ["steps must be"]),
    "forecast latest --steps -1": (2, ["steps must be"]),
    "forecast latest --level 1": (2, ["level must be between 0 and 1"]),
    "impute latest --level 7": (2, ["level must be between 0 and 1"]),
    "check broken": (74, ["run.json"]),
    "data none.csv": (65, ["no such file"]),
    "data": (2, ["FILE"]),
    "completion tcsh": (2, ["tcsh", "bash"]),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(run, stored, line):
    Path("text.csv").write_text("x\n1\nword\n2\n3\n")
    Path("other.csv").write_text("x\n1\n")
    Path("empty.csv").write_text("")
    Path("runs/broken").mkdir()
    Path("runs/broken/run.json").write_text("nonsense")
    code, parts = MISTAKES[line]
    result = run(*line.split())
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    if code:
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) <= 2
        assert lines[0].startswith("ppl: ")
        assert len(lines) == 1 or lines[1].startswith("try ppl ")
    for part in parts:
        assert part in result.stderr


def test_without_arguments_there_is_help(run):
    for args in ([], ["fit"]):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"Usage: {' '.join(['ppl', *args])} " in result.stderr
        assert "Commands:" in result.stderr or "Models:" in result.stderr


def raising(monkeypatch, error: BaseException) -> None:
    def fail(*args, **options):
        raise error

    monkeypatch.setattr("ppl_models.store.list_runs", fail)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RunError("a\x1b[2Jb\nc"), 74, "ppl: a\\x1b[2Jb\\nc\n"),
        (
            KeyError("x"),
            1,
            "ppl: internal error: KeyError: 'x' (this is a bug; set PPL_DEBUG=1 for the traceback)\n",
        ),
        (
            AssertionError(),
            1,
            "ppl: internal error: AssertionError (this is a bug; set PPL_DEBUG=1 for the traceback)\n",
        ),
        (MemoryError(), 65, "ppl: out of memory; take fewer rows or columns, or a smaller --batch-size\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 65, "ppl: out of memory"),
        (KeyboardInterrupt(), 130, "ppl: stopped\n"),
        (BrokenPipeError(), 0, ""),
        (OSError(28, "No space left on device"), 73, "ppl: standard output cannot be written"),
        (OSError(5, "Input/output error"), 1, "ppl: internal error: OSError"),
    ],
    ids=repr,
)
def test_what_goes_wrong_is_one_line(run, monkeypatch, error, code, message):
    raising(monkeypatch, error)
    result = run("runs")
    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") <= 1
    assert "Traceback" not in result.output


def test_a_traceback_for_those_who_ask(run, monkeypatch):
    raising(monkeypatch, KeyError("x"))
    result = run("runs", env={"PPL_DEBUG": "1"})
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "set PPL_DEBUG" not in result.stderr


def test_messages_of_click_are_one_line():
    import click

    error = click.MissingParameter(ctx=None, param=click.Argument(["kind"], type=click.Choice(["a", "b"])))
    assert "\n" not in base._usage(error)
