"""What docstrings say is laid out so that it can be read: formulas, tables and lists of files."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ppl_models"
SOURCES = sorted(PACKAGE.rglob("*.py"))

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each docstring of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def dangling(line: str) -> bool:
    """Whether a formula is broken off at the end of the line."""
    return re.search(r"\s[~=|∝]$", line) is not None


def run_together(line: str) -> bool:
    """Whether a sampling statement begins right after another, as in `x ~ Gamma(a, b) y ~ N(x, 1)`."""
    starts = [match.start() for match in re.finditer(r"(?<= )~ ", line)]
    for first, second in zip(starts, starts[1:], strict=False):
        between = line[first + 1 : second].strip()
        # `x ~ D(...), y | z` and `x ~ D(...)  y`: some separator outside of brackets
        if not re.search(r"[,;:]|\bor\b| {2,}", outside(between)):
            return True
    return False


def outside(text: str) -> str:
    """The text without what is in brackets."""
    while (shorter := re.sub(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}", "", text)) != text:
        text = shorter
    return text


def lost_alignment(line: str) -> bool:
    """Whether a row of a table stands flush with the prose, where a formatter flows it."""
    return re.search(r"^\S.*? {2,}\S", line) is not None


def faults(text: str) -> list[str]:
    """The lines of a docstring that are not as they were laid out, and why."""
    found = []
    for line in text.splitlines():
        if dangling(line):
            found.append(f"broken off: {line}")
        if run_together(line):
            found.append(f"two statements run together: {line}")
        if lost_alignment(line):
            found.append(f"columns that are not indented: {line}")
    return found


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=lambda path: path.name)
def test_formulas_and_tables_of_docstrings_keep_their_lines(folder):
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {fault}"
        for path in SOURCES
        if path.parent == folder
        for line, text in docstrings(path.read_text(encoding="utf-8"))
        for fault in faults(text)
    ]
    assert not found, "\n".join(found)


FLOWED_FORMULAS = """Gaussian mixture model, and mixtures of every other family of emission.

    π ~ Dirichlet(α, …, α)  or, as a Dirichlet process cut off at K,  π_k = v_k Π_{j<k} (1 − v_j), v_k ~
    Beta(1, α) φ_k ~ the conjugate prior of the emission z_n ~ Categorical(π),   x_n | z_n ~ Π_e
    emission_e(φ_{z_n})
"""

FLOWED_TABLE = """Gaussian posteriors, in the forms that their size allows.

full        N(m, L Lᵀ)
structured  N(m, P⁻¹), P = diag(D) + V Vᵀ with V (d, r): exact where there are few rows (r = n K), an
approximation where V holds the leading directions only, independent coefficients for r = 0
"""


def test_flowed_formulas_are_found():
    assert [fault.split(":")[0] for fault in faults(FLOWED_FORMULAS)] == [
        "broken off",
        "two statements run together",
    ]


def test_flowed_tables_are_found():
    assert [fault.split(":")[1].split()[0] for fault in faults(FLOWED_TABLE)] == ["full", "structured"]


@pytest.mark.parametrize(
    "line",
    [
        "    z_1 ~ Categorical(π),    z_t | z_{t−1} ~ Categorical(A_{z_{t−1}})",
        "    z_n ~ N(0, I_L)  x_n | z_n ~ N(z_n, 1)",
        "π ~ Dirichlet(α, …, α) or v_k ~ Beta(1, α).",
        "    full        N(m, L Lᵀ)",
        "x_d | k ~ Poisson(x̄_d r_kd), r_kd ~ Gamma(a₀, b₀): rates relative to the mean x̄ of the column.",
    ],
)
def test_statements_that_are_apart_are_let_be(line):
    assert faults(line) == []


@pytest.mark.parametrize("line", ["    x ~ Gamma(a, b) y ~ N(x, 1)", "θ =", "    p(x) ∝", "    x_n |"])
def test_lines_that_are_not_whole_are_found(line):
    assert len(faults(line)) == 1


NOT_YET = ("families/", "kernels/", "latent/structure.py")
"""Where functions do not yet say what their arguments are."""

ROOTS = {"ABC", "Protocol", "NamedTuple"}
"""Bases of classes whose methods implement nothing that is documented elsewhere."""

MANY = 4
"""Arguments from which on a docstring says what each is."""


def functions(source: str) -> Iterator[ast.FunctionDef]:
    """Public functions, and public methods of classes that implement nothing, but no commands of click."""
    for node in ast.parse(source).body:
        bodies = [node]
        if isinstance(node, ast.ClassDef) and {_plain(base) for base in node.bases} <= ROOTS:
            bodies = node.body
        for each in bodies:
            commanded = isinstance(each, ast.FunctionDef) and any(
                "click" in ast.unparse(decorator) or "command" in ast.unparse(decorator)
                for decorator in each.decorator_list
            )
            if isinstance(each, ast.FunctionDef) and not each.name.startswith("_") and not commanded:
                yield each


def _plain(base: ast.expr) -> str:
    """The name of a base without its parameters."""
    return ast.unparse(base).split("[")[0].split(".")[-1]


def undescribed(source: str) -> list[str]:
    """Functions with many arguments whose docstring has no `Args:`."""
    found = []
    for each in functions(source):
        given = [*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs]
        number = sum(argument.arg not in ("self", "cls") for argument in given)
        if number >= MANY and "Args:" not in (ast.get_docstring(each) or "").splitlines():
            found.append(f"{each.name} (line {each.lineno})")
    return found


def test_functions_with_many_arguments_say_what_each_is():
    found = {
        name: missing
        for path in SOURCES
        if not (name := path.relative_to(PACKAGE).as_posix()).startswith(NOT_YET)
        if (missing := undescribed(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_a_function_that_says_nothing_of_its_arguments_is_found():
    silent = 'def f(a, b, *, c, d):\n    """One line."""\n'
    method = 'class A(Base):\n    def f(self, a, b, c, d):\n        """As the base class says."""\n'
    assert undescribed(silent) == ["f (line 1)"]
    described = silent.replace("One line.", "One.\n\n    Args:\n        a: it.\n    ")
    assert undescribed(described) == []
    assert undescribed(method) == []
    assert undescribed(method.replace("(Base)", "")) == ["f (line 2)"]


MAP = re.compile(r"^    (\w+\.py) {2,}\S", re.MULTILINE)
"""A line of a map of files."""


def mapped(text: str) -> list[str]:
    """The Python files that a docstring lists, in its order."""
    return MAP.findall(text)


@pytest.mark.parametrize("package", ["cli", "models/program"])
def test_maps_of_files_are_whole(package):
    folder = PACKAGE / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    there = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    assert sorted(mapped(text)) == sorted(there)


def test_files_that_are_named_in_maps_are_there():
    gone = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in SOURCES
        for _, text in docstrings(path.read_text(encoding="utf-8"))
        for name in mapped(text)
        if not (path.parent / name).exists()
    ]
    assert not gone


EVERYWHERE = {"model", "bound"}
"""Files of every package below `models`."""


@pytest.mark.parametrize("package", ["inference", "latent", "models", "regression", "verbs"])
def test_modules_that_a_package_names_are_there(package):
    folder = PACKAGE / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    named = [name for name in re.findall(r"`([a-z_.]+)`", text) if name not in EVERYWHERE]
    gone = [name for name in named if not _there(folder, name)]
    assert not gone


def _there(folder: Path, name: str) -> bool:
    """Whether a module or package is in the folder, or in the whole package by its full name."""
    at = PACKAGE.parent.joinpath(*name.split(".")) if name.startswith(PACKAGE.name) else folder / name
    return at.is_dir() or at.with_suffix(".py").exists()


def test_every_model_has_the_files_that_models_says_it_has():
    models = [path for path in (PACKAGE / "models").iterdir() if (path / "__init__.py").exists()]
    files = [path / f"{name}.py" for path in models for name in sorted(EVERYWHERE)]
    assert files
    assert not [str(path) for path in files if not path.exists()]
