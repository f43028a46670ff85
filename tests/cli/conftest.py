"""A command line in an empty directory, a small table, and a run fitted to it."""

import io
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sharing import together

from ppl_models.cli.root import ppl


def rows(number: int = 120) -> str:
    """Two regimes of 30 rows in turn, as CSV."""
    draw = random.Random(1)
    level = (0.0, 6.0)
    lines = [
        f"{draw.gauss(level[i // 30 % 2], 1):.3f},{draw.gauss(-level[i // 30 % 2], 1):.3f}"
        for i in range(number)
    ]
    return "x,y\n" + "\n".join(lines) + "\n"


def labelled(number: int = 120) -> str:
    """Two groups of rows that overlap, and the name of each."""
    draw = random.Random(2)
    lines = []
    for i in range(number):
        centre = 3.0 * (i % 2)
        lines.append(f"{draw.gauss(centre, 1):.3f},{draw.gauss(-centre, 1):.3f},{'ab'[i % 2]}")
    return "x,y,kind\n" + "\n".join(lines) + "\n"


FITS = {
    "mixture": ["gmm", "--ignore", "kind", "--covariance", "diag", "--restarts", "2"],
    "classes": ["gmm", "--target", "kind", "--components", "1", "--restarts", "2"],
    "regression": ["logistic", "--formula", "kind ~ x + y"],
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty working directory with `data.csv` and `labelled.csv`, and no `PPL_*` in the environment."""
    for name in [name for name in os.environ if name.startswith("PPL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(rows())
    Path("labelled.csv").write_text(labelled())
    return tmp_path


@pytest.fixture
def run():
    """Run `ppl` with arguments; `.exit_code`, `.stdout` and `.stderr` are what a shell would see."""

    def call(*args: str, **settings) -> Result:
        return CliRunner().invoke(ppl, [str(each) for each in args], prog_name="ppl", **settings)

    return call


@pytest.fixture
def read(run):
    """Run a verb, and read the table that it prints."""

    def call(*args: str, **settings) -> pd.DataFrame:
        result = run(*args, **settings)
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        return pd.read_csv(io.StringIO(result.stdout))

    return call


@pytest.fixture
def fits():
    """What comes after `ppl fit` but the data, for a mixture, a mixture with classes, and a regression."""
    return FITS


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A directory with a run of each of `fits` by its name, that tests must not change."""

    def maker(model: str, *options: str) -> Callable[[Path], None]:
        def make(run: Path) -> None:
            data = run.with_name("labelled.csv")
            data.write_text(labelled())
            result = CliRunner().invoke(
                ppl, ["fit", model, str(data), *options, "--out", str(run)], prog_name="ppl"
            )
            assert result.exit_code == 0, result.output

        return make

    return together(tmp_path_factory, "models", {name: maker(*words) for name, words in FITS.items()})


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """A run directory that tests must not change."""
    place = tmp_path_factory.mktemp("fitted")
    (place / "data.csv").write_text(rows())
    result = CliRunner().invoke(
        ppl,
        ["fit", "hmm", str(place / "data.csv"), "--restarts", "2", "--out", str(place / "hmm-data-001")],
    )
    assert result.exit_code == 0, result.output
    return place / "hmm-data-001"


@pytest.fixture
def stored(fitted, place):
    """A copy of the run in `runs/`."""
    return Path(shutil.copytree(fitted, place / "runs" / "hmm-data-001"))
