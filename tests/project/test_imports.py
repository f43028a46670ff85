"""Imports go down only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from ppl_models.kinds import KINDS

import ppl_models
from ppl_models import tasks
from ppl_models.registry import BUILT_IN

ROOT = Path(ppl_models.__file__).parent

LAYERS = [  # from the ground up; a module may import from those below its own, and from its own
    {"errors", "importing", "threads"},
    {"data", "store", "model"},
    {"registry", "kinds"},
    {"factors"},
    {"latent"},
    {"emissions", "inference"},
    {"models.bound"},  # what training asks of a model: below those that are bound in packages of their own
    {"regression", "neural", "programs"},
    {"models"},
    {"training", "calibration"},
    {"fitting"},
    {"posterior", "display", "runs", "selection"},
    {"resuming"},
    {"diagnostics", "tasks"},
    {"report", "testing"},
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


def modules_of(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def loaded_by(code: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_of(code)}


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


RUN = """
import numpy as np, ppl_models as ppl
x = np.random.default_rng(0).normal(size=(60, 2))
y = np.where(x[:, 0] + np.random.default_rng(1).normal(size=60) > 0, "yes", "no")
fit = ppl.fit({model}, {data})
fit.summary(), fit.predict(), fit.check(), repr(fit)
"""


@pytest.mark.parametrize(
    ("code", "others"),
    [
        (
            RUN.format(model="ppl.Logistic()", data='{"a": x[:, 0], "b": x[:, 1], "y": y}, target="y"'),
            (
                "numba",
                "pyro",
                "scipy",
                "arviz",
                "ppl_models.latent",
                "ppl_models.emissions",
                "ppl_models.latent.joint",
            ),
        ),
        (
            RUN.format(model="ppl.GMM(components=2)", data="x, restarts=2"),
            ("ppl_models.regression", "formulaic", "sklearn"),
        ),
    ],
    ids=["regression", "mixture"],
)
def test_a_fit_does_not_import_what_only_other_models_need(code, others):
    """From the data to the summary, the verbs and the checks."""
    found = modules_of(code)
    assert not [name for name in found for other in others if f"{name}.".startswith(f"{other}.")]


def test_every_part_of_a_kind_is_there():
    verbs = {verb for kind in KINDS.values() for verb in kind.verbs}
    for name, kind in KINDS.items():
        of = {"training": ["train"], "calibration": ["calibrate", "restored"], "diagnostics": ["checks"]}
        if name == "vae":  # whose parameters are point estimates
            del of["calibration"]
        for package, functions in of.items():
            assert all(callable(getattr(kind.part(package), function)) for function in functions), name
        for verb, module in [*kind.verbs.items(), tuple(reversed(kind.glance.split(":")))]:
            assert callable(getattr(import_module(f"ppl_models.tasks.{module}"), verb)), (name, verb)
    assert verbs <= set(tasks.__all__)


@pytest.mark.parametrize("before", ["", "import gc; garbage = [[] for _ in range(200_000)]"])
def test_the_collector_runs_after_torch_was_imported(before):
    """What was there is left alone in a process that has only begun, and only once."""
    code = f"""{before}
import gc, ppl_models as ppl
ppl.fit
frozen = gc.get_freeze_count()
assert gc.isenabled() and bool(frozen) == {not before}, frozen
ppl.fit, ppl.GMM(components=2).bind
assert gc.get_freeze_count() == frozen"""
    assert "torch" in loaded_by(code)


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
