"""`ppl plot` and `ppl report`: files, sketches, numbers and refusals."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_a_picture_is_written(run, fitted, name, start):
    result = run("plot", fitted, "training", "-o", name)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert Path(name).read_bytes().startswith(start)
    assert "should have levelled off" in result.stderr
    assert run("plot", fitted, "training", "-o", name, "-q").stderr == ""


def test_numbers_where_there_is_no_terminal(run, read, fitted):
    table = read("plot", fitted, "forecast", "--steps", "3", "--level", "0.8")
    assert table["step"].max() == 3
    lines = run("plot", fitted, "transitions", "--json").stdout.splitlines()
    assert {*json.loads(lines[0])} == {"from", "to", "probability", "lower", "upper"}
    assert run("plot", fitted, "states", "-o", "s.csv").exit_code == 0
    assert pd.read_csv("s.csv")["visits"].sum() >= 2


def test_a_sketch_where_there_is_one(run, fitted, monkeypatch):
    from ppl_models.cli import plot

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(plot, "results", lambda: screen)
    said = []
    monkeypatch.setattr(plot, "say", said.append)
    assert run("plot", fitted, "states").exit_code == 0
    assert "States over the series" in said[0]
    assert any(0x2800 < ord(c) < 0x2900 for c in said[0])
    assert max(map(len, said[0].splitlines())) <= 80


def test_other_rows(run, models):
    place = models / "labelled.csv"
    assert run("plot", models / "regression", "roc", place, "-o", "roc.svg").exit_code == 0
    assert "ROC on labelled.csv" in Path("roc.svg").read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["roc"], "this hmm has no picture roc; it has states, forecast, transitions"),
        (["sates"], "did you mean states"),
        (["training", "-o", "a.gif"], "pictures are written to .png, .svg, .pdf"),
        (["training", "--steps", "3"], "the picture training has no --steps"),
        (["--json"], "name it: ppl plot RUN KIND"),
    ],
)
def test_refusals_are_one_line(run, fitted, args, said):
    result = run("plot", fitted, *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
    assert not [p for p in Path().iterdir() if p.name.startswith("a.")]


def test_a_forecast_is_drawn_too(run, fitted):
    result = run("forecast", fitted, "--steps", "2", "--plot", "f.png")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 3
    assert Path("f.png").read_bytes().startswith(b"\x89PNG")
    assert run("forecast", fitted, "--plot", "f.txt").exit_code == 2


@pytest.mark.slow
def test_a_report_is_a_page(run, fitted):
    result = run("report", fitted, "-o", "page.html")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run("report", fitted, "-o", "page.pdf").exit_code == 2
    assert run("report", fitted, "no-such-run").exit_code == 74
