"""Imports go down only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ppl_models
from ppl_models.registry import BUILT_IN

ROOT = Path(ppl_models.__file__).parent

LAYERS = [  # from the ground up; a module may import from those below its own, and from its own
    {"errors"},
    {"data", "store", "model"},
    {"registry"},
    {"factors"},
    {"latent"},
    {"emissions", "inference"},
    {"models.bound"},  # what training asks of a model: below those that are bound in packages of their own
    {"regression"},
    {"models"},
    {"training", "calibration"},
    {"fitting"},
    {"posterior", "display", "runs", "selection"},
    {"diagnostics", "tasks"},
    {"report"},
    {"cli"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def name_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def layer(name: tuple[str, ...]) -> str:
    """The place of a module in LAYERS: its own, or that of its package."""
    module = ".".join(name[:2])
    return module if module in HEIGHT else name[0]


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of ours that are imported when this one is; not those inside functions or for type checkers."""
    todo: list[ast.AST] = [*ast.parse(path.read_text(encoding="utf-8")).body]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)


def ours(path: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    for module, line in imported(path):
        parts = tuple(module.split("."))
        if parts[0] == "ppl_models" and len(parts) > 1:
            yield parts[1:], line


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))
def test_imports_go_down_only(path):
    own = layer(name_of(path))
    assert own in HEIGHT, f"{own} has no place in LAYERS"
    for target, line in ours(path):
        other = layer(target)
        assert other == own or HEIGHT[other] < HEIGHT[own], f"{path.name}:{line} → {'.'.join(target)}"


def test_only_the_registry_knows_concrete_models():
    concrete = {reference.partition(":")[0] for reference in BUILT_IN.values()}
    assert len(concrete) > 1
    for path in MODULES:
        for target, line in ours(path):
            assert f"ppl_models.{'.'.join(target[:2])}" not in concrete, f"{path.name}:{line}"


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import ppl_models",
        "import ppl_models; ppl_models.PplError, ppl_models.UsageError",
        "from ppl_models.cli.root import ppl; [ppl.get_command(None, n) for n in ppl.list_commands(None)]",
        "from ppl_models import registry; registry.names()",
    ],
    ids=["package", "errors", "commands", "registry"],
)
def test_nothing_heavy_is_imported_early(code):
    heavy = {"torch", "pandas", "pyro", "arviz", "pyarrow", "numba", "sklearn", "matplotlib", "xarray"}
    assert not heavy & loaded_by(code)


def test_the_package_never_needs_matplotlib():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in {"matplotlib", "seaborn"} for name in names), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(name_of(path)))
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, path
    todo: list[tuple[ast.AST, str]] = [(tree, "")]
    while todo:
        parent, where = todo.pop()
        for node in getattr(parent, "body", []):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                public = not node.name.startswith("_")
                command = any(
                    "command" in ast.unparse(d) or "_verb" in ast.unparse(d) for d in node.decorator_list
                )
                if public and not command:
                    assert ast.get_docstring(node), f"{path.name}: {where}{node.name}"
                if isinstance(node, ast.ClassDef) and public:
                    todo.append((node, f"{where}{node.name}."))
