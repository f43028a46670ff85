"""The site: `make docs`, or `sphinx-build -W -c docs . build/site`.

The sources are the pages as they stand in the repository, read from its root so that links between README.md,
docs/, examples/ and benchmarks/ are the same on the site as on a Git host. What only the site has, its table
of contents and what autodoc makes of docstrings, is added here, so that the pages stay plain Markdown.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

project = "ppl"
author = copyright = "The ppl founders"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

root_doc = "README"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_click"]
include_patterns = [
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
    "docs/**.md", "examples/README.md", "benchmarks/results/*.md",
]  # fmt: skip
exclude_patterns = [".*", "**/.*", "build", "dist", "runs", "tests", "ppl_models"]

CONTENTS = {
    "Start": ["docs/quick_start", "docs/tutorials/README", "examples/README"],
    "Joint models": ["docs/gmm", "docs/hmm", "docs/vae", "docs/gan", "docs/transformer"],
    "Conditional models": ["docs/logistic", "docs/glm", "docs/svm", "docs/mlp", "docs/cnn", "docs/rnn"],
    "Models of your own": ["docs/own_models"],
    "What a fit is for": [
        "docs/predict", "docs/forecast", "docs/missing", "docs/generate", "docs/features", "docs/tasks",
        "docs/summary", "docs/select", "docs/compare", "docs/plots", "docs/report", "docs/export",
    ],
    "Trust": ["docs/calibration", "docs/trust", "docs/faults", "docs/mathematics"],
    "Reference": [
        "docs/api", "docs/commands", "docs/cli", "docs/data", "docs/families", "docs/runs", "docs/sklearn",
        "docs/README",
    ],
    "The project": [
        "docs/benchmarks", "benchmarks/results/README", "docs/adr/README",
        "CHANGELOG", "CONTRIBUTING", "SECURITY",
    ],
}  # fmt: skip
"""Caption -> pages; others of docs/ stand with the reference."""

FOLDERS = {
    "docs/tutorials/README": "docs/tutorials",
    "docs/adr/README": "docs/adr",
    "benchmarks/results/README": "benchmarks/results",
}
"""Pages whose neighbours stand below them."""

myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"

html_theme = "furo"
html_title = f"ppl {version}"
html_extra_path = ["index.html"]  # to README.html
html_static_path = ["static"]
html_css_files = ["site.css"]
smartquotes = False  # which make one dash of the two of an option
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True


def toctree(pages: list[str], caption: str = "", *, hidden: bool = True) -> str:
    """A directive that lists pages."""
    options = [*([f":caption: {caption}"] * bool(caption)), *([":hidden:"] * hidden)]
    return "\n".join(["", "```{toctree}", *options, "", *(f"/{page}" for page in pages), "```", ""])


def add_contents(app: Any, name: str, source: list[str]) -> None:
    """Put the table of contents at the end of the pages that have one."""
    if name == root_doc:
        placed = {page for pages in CONTENTS.values() for page in pages}
        others = sorted(each for each in app.env.found_docs if Path(each).parent == Path("docs"))
        for caption, pages in CONTENTS.items():
            more = [each for each in others if each not in placed] if caption == "Reference" else []
            source[0] += toctree([*pages, *more], caption)
    elif folder := FOLDERS.get(name):
        pages = sorted(each for each in app.env.found_docs if Path(each).parent == Path(folder))
        source[0] += toctree([each for each in pages if each != name])


def plain(lines: list[str]) -> list[str]:
    """A docstring of plain text as reStructuredText: formulas on their lines, names in typewriter.

    Indented lines are literal blocks, unless they follow a line that ends in a colon, a section of the
    docstring; `|`, `*` and final `_` of prose are themselves.
    """
    found: list[str] = []
    literal = False
    for before, line in zip(["", *lines], lines, strict=False):
        indented = line.startswith("    ") and not line.lstrip().startswith(">>>")
        if indented and not before.strip() and not literal and not section_above(found):
            found += ["::", ""]
            literal = True
        elif line.strip() and not line.startswith(" "):
            literal = False
        found.append(line if literal or line.lstrip().startswith((">>>", "...")) else escaped(line))
    return found


def section_above(lines: list[str]) -> bool:
    """Whether the last line that is not indented begins a section, such as `Args:`."""
    flush = [line for line in lines if line.strip() and not line.startswith(" ")]
    return bool(flush) and re.fullmatch(r"[A-Z]\w+:", flush[-1]) is not None


def escaped(line: str) -> str:
    """Prose without marks that reStructuredText would take for its own, but for names in backticks."""
    parts = re.split(r"(``?[^`]+``?)", line)
    return "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([|*\\]|_\b)", r"\\\1", part)
        for part in parts
    )


def plain_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """For autodoc, before its sections are understood."""
    lines[:] = plain(lines)


def plain_help(app: Any, context: Any, lines: list[str]) -> None:
    """For the help of commands, whose lines that stand as they are begin with a bar."""
    lines[:] = [f"| {escaped(line[2:])}" if line.startswith("| ") else escaped(line) for line in lines]


def setup(app: Any) -> None:
    """Connect the above."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    for part in ("description", "epilog"):
        app.connect(f"sphinx-click-process-{part}", plain_help)
