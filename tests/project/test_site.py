"""The site: every page is on it, it is built without a warning, and what its pages tell to type works."""

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import ppl_models
from ppl_models.cli.root import ppl
from ppl_models.registry import BUILT_IN, find
from ppl_models.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted(path.stem for path in (DOCS / "tutorials").glob("*.md") if path.stem != "README")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def consoles():
    """docs/consoles.py, which is no module of the package."""
    spec = importlib.util.spec_from_file_location("consoles", DOCS / "consoles.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_system_has_a_page_and_a_tutorial(name):
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert re.search(r"^    \S", page, re.MULTILINE), "no density"
    assert re.search(r"[Ww]hen to use|used for|[Uu]se it|[Ww]hat for", page), "not when to use it"
    assert name in TUTORIALS


def test_every_command_has_a_page():
    """The table of docs/README.md, whose pages name the command in typewriter or run it."""
    table = (DOCS / "README.md").read_text(encoding="utf-8").partition("| command | page |")[2]
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", table, re.MULTILINE)
    pages = {
        name: re.findall(r"\(([\w/]+\.md)\)", cell)
        for names, cell in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    assert set(pages) == set(ppl.list_commands(None))
    for name, found in pages.items():
        text = (DOCS / found[0]).read_text(encoding="utf-8")
        assert re.search(rf"^\$ .*ppl {name}\b", text, re.MULTILINE) or name not in VERBS, (
            f"{name} is not run"
        )
        assert re.search(rf"ppl {name}\b|`{name}`", text), f"{name} is not in {found[0]}"


def test_the_reference_has_every_public_name():
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: ppl_models\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(ppl_models.__all__)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Made by the first process that asks, which tells the others what it was told."""
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    out, said = shared / "site", shared / "site.said"
    with open(shared / "site.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            said.write_text(built(out), encoding="utf-8")
    assert not (problem := said.read_text(encoding="utf-8")), problem
    return out


def built(out: Path) -> str:
    """Make the site; what went wrong, if anything did."""
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", str(DOCS), str(ROOT), str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(build, env=environment, capture_output=True, text=True, timeout=3600, check=False)
    return done.stderr[-5000:] if done.returncode else ""


@pytest.mark.slow
def test_it_is_built_without_a_warning_from_every_page(site):
    for page in [*PAGES, *(DOCS / "adr").glob("*.md")]:
        assert (site / page.relative_to(ROOT)).with_suffix(".html").exists(), page
    assert "README.html" in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_was_run_and_has_a_picture(site, name):
    page = (site / "docs" / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="(\.\./\.\./_images/[^"]+\.png)"', page)
    assert pictures, "no picture"
    for picture in pictures:
        assert (site / "docs" / "tutorials" / picture).stat().st_size > 5_000
    assert "Traceback" not in page


@pytest.mark.slow
def test_the_reference_says_what_docstrings_and_help_say(site):
    api = unescape((site / "docs" / "api.html").read_text(encoding="utf-8"))
    for name in ppl_models.__all__:
        assert f'id="ppl_models.{name}"' in api
    for verb in VERBS:
        assert f'id="ppl_models.Fit.{verb}"' in api
    commands = unescape((site / "docs" / "commands.html").read_text(encoding="utf-8"))
    for name in BUILT_IN:
        assert f"ppl fit {name}" in commands.replace("-", " ")
    assert "--transition-concentration" in commands
    assert find("hmm").summary[1:] in commands


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_works(page, tmp_path):
    """Its commands in order, in one folder: of console blocks all, of indented ones those on our data.

    Indented commands on data of the reader's are parsed by another test.
    """
    run = consoles().printed
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    text = page.read_text(encoding="utf-8")
    for start, command in re.findall(r"^(\$|   ) ((?:\S+).*)$", text, re.MULTILINE):
        ours = command.startswith("ppl ") and re.search(r"\b(examples|runs)/", command)
        if start == "$" or ours:
            assert run(command, tmp_path) is not None, command


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore")
def test_the_python_of_a_page_runs(page, tmp_path):
    """Its blocks, one after the other, in a folder with the examples."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if not blocks:
        pytest.skip("no Python")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
