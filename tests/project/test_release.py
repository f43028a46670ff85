"""What is released can be checked, installed alone, and used."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = PROJECT["version"]


def ran(*command, **options) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=3000, check=False, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_version_is_that_of_changelog_and_citation():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    date = re.search(rf"^## \[{re.escape(VERSION)}\] - (\d{{4}}-\d\d-\d\d)$", changes, re.MULTILINE)
    assert date, f"CHANGELOG.md has no heading for {VERSION}"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {VERSION}\n" in citation
    assert f"\ndate-released: {date[1]}\n" in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_what_extras_bring_is_pinned(extra):
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    peers = {"bench"}  # installed by hand, beside others
    for line in PROJECT["optional-dependencies"][extra]:
        name = re.split(r"[\[>=<~!]", line)[0].lower().replace("_", "-")
        assert extra in peers or name == "ppl-models" or f"\n{name}==" in pins, (
            f"{name} is not in constraints.txt"
        )


@pytest.mark.slow
def test_the_wheel_alone_fits(tmp_path):
    """Wheel and sdist as `python -m build` makes them, checked by twine; then an empty environment."""
    pytest.importorskip("build")
    pytest.importorskip("twine")
    pytest.importorskip("hatchling")
    ran(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    wheel, sdist = (
        tmp_path / "dist" / f"ppl_models-{VERSION}-py3-none-any.whl",
        tmp_path / "dist" / f"ppl_models-{VERSION}.tar.gz",
    )
    assert {*(tmp_path / "dist").iterdir()} == {wheel, sdist}
    said = ran(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    assert said.count("PASSED") == 2, said
    ran(sys.executable, "-m", "venv", tmp_path / "empty")
    python, ppl = tmp_path / "empty" / "bin" / "python", tmp_path / "empty" / "bin" / "ppl"
    ran(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    alone = {"cwd": tmp_path, "env": environment}
    assert ran(ppl, "--version", **alone).strip() == f"ppl {VERSION}"
    data = ROOT / "examples" / "earthquakes.csv"
    told = ran(ppl, "fit", "hmm", data, "--time", "year", "--states", "2", "--out", "quakes", **alone)
    assert "verdict: trusted" in told
    ran(ppl, "plot", "quakes", "forecast", "-o", "forecast.png", **alone)
    assert (tmp_path / "forecast.png").stat().st_size > 10_000
    where = ran(python, "-c", "import ppl_models; print(ppl_models.__file__)", **alone)
    assert str(tmp_path / "empty") in where
