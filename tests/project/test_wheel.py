"""What is installed is the package and nothing else."""

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), "."]
    if find_spec("hatchling"):  # else pip fetches it
        build.insert(-1, "--no-build-isolation")
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_it_holds_the_package_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ppl_models"}
    assert not any(part in name for name in wheel for part in ("test_", "/tests/", "__pycache__", ".nbi"))


def test_every_module_is_in_it(wheel):
    package = ROOT / "ppl_models"
    wanted = {str(path.relative_to(ROOT)) for path in package.rglob("*.py")} | {"ppl_models/py.typed"}
    assert wanted <= set(wheel)


def test_the_command_and_the_licence_are_in_it(wheel):
    texts = {name.split("/", 1)[1]: text.decode() for name, text in wheel.items() if ".dist-info/" in name}
    assert "ppl = ppl_models.cli:script" in texts["entry_points.txt"]
    assert "licenses/LICENSE" in texts
    assert "Requires-Python: >=3.11" in texts["METADATA"]
