"""Imports go down only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import ppl_models
from ppl_models.light import plain_first
from ppl_models.registry import BUILT_IN

ROOT = Path(ppl_models.__file__).parent

LAYERS = [  # from the ground up; a module may import from those below its own, and from its own
    {"wording"},
    {"errors", "light"},
    {"importing"},
    {"threads", "draws", "extras"},
    {"annotations", "conformal", "crps", "pooling"},
    {"data", "store"},
    {"kernels"},
    {"inference"},
    {"distributed"},
    {"forming"},
    {"cluster"},
    {"families"},
    {"networks"},
    {"capabilities"},
    {"checks"},
    {"misfit"},
    {"bound"},
    {"model", "posterior"},
    {"prior"},
    {"latent", "regression"},  # what several systems share
    {"neural"},  # with heads that are regressions
    {"models"},
    {"registry", "record", "stated"},
    {"tables", "runs", "engine", "fidelity", "sensitivity", "prior_predictive"},
    {"later"},
    {"verbs"},  # of which some fit the same model again, to a part
    {"comparison"},
    {"report", "selection", "resuming", "export", "callbacks", "worker"},
    {"api"},
    {"sklearn", "serving", "validation"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
SYSTEMS = sorted(path.name for path in (ROOT / "models").iterdir() if (path / "model.py").exists())


def name_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


NAMES = {name_of(path) for path in MODULES}


def imported(path: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    """Modules of ours that a file imports: anywhere in it, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in found:
            parts = tuple(name.split("."))
            if parts[0] == "ppl_models" and len(parts) > 1:
                own = parts[1:] if parts[1:] in NAMES else parts[1:-1]
                if own in NAMES:  # else a public name of the package itself
                    yield own, node.lineno


IMPORTS = {name_of(path): [*imported(path)] for path in MODULES}


@pytest.mark.parametrize("name", IMPORTS, ids=".".join)
def test_imports_go_down_only(name):
    assert name[0] in HEIGHT, f"{name[0]} has no place in LAYERS"
    for target, line in IMPORTS[name]:
        below = HEIGHT[target[0]] < HEIGHT[name[0]]
        assert target[0] == name[0] or below, f"{'.'.join(name)}:{line} → {'.'.join(target)}"


def test_no_imports_go_in_circles():
    """File by file, within packages too."""
    left = {name: {target for target, _ in found} - {name} for name, found in IMPORTS.items()}
    while ready := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ready:
            del left[name]
    assert not left, f"a circle among {sorted('.'.join(name) for name in left)}"


def test_a_system_knows_of_no_other():
    for name, found in IMPORTS.items():
        if name[0] == "models" and len(name) > 1:
            others = {target[1] for target, _ in found if target[0] == "models" and len(target) > 1}
            assert others <= {name[1]}, f"{'.'.join(name)} imports {others}"


def test_only_the_registry_knows_concrete_models():
    """And of these, by a type that can be seen, only the one that users subclass."""
    concrete = {("models", name, "model") for name in SYSTEMS} - {("models", "program", "model")}
    assert {tuple(v.partition(":")[0].split(".")[1:]) for v in BUILT_IN.values()} == concrete
    for name, found in IMPORTS.items():
        if name[0] != "models":
            assert not concrete & {target for target, _ in found}, ".".join(name)


def test_nothing_is_dispatched_by_a_name_or_a_kind():
    """What a model can do is asked by `isinstance`; the registry alone goes from names to classes."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                text = ast.unparse(node).replace("__name__ == '__main__'", "")
                for wrong in ("__name__ ==", "bound.kind", ".name == 'class'"):
                    assert wrong not in text, f"{path}:{node.lineno}"


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
                "ppl_models.families.base",
                "ppl_models.latent.joint",
            ),
        ),
        pytest.param(
            RUN.format(model="ppl.GMM(components=2)", data="x, restarts=2"),
            ("ppl_models.regression", "ppl_models.networks", "formulaic", "sklearn"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["regression", "mixture"],
)
def test_a_fit_does_not_import_what_only_other_models_need(code, others):
    """From the data to the summary, the verbs and the checks."""
    found = modules_of(code)
    assert not [name for name in found for other in others if f"{name}.".startswith(f"{other}.")]


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


def test_only_pictures_need_matplotlib_and_none_needs_pyplot():
    """Inside of functions, so that nothing else waits for it; pyplot keeps figures, and is the caller's."""
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in {"matplotlib", "seaborn"} for name in names):
                assert name_of(path)[0] == "report", path
                assert node not in tree.body, f"{path}:{node.lineno}"
                assert not any("pyplot" in ast.unparse(node) or "seaborn" in name for name in names), path


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


SERVED = {
    "mixture": "ppl.fit(ppl.GMM(components=2), x, restarts=1)",
    "chain": "ppl.fit(ppl.HMM(states=2), x, restarts=1)",
    "regression": "ppl.fit(ppl.Logistic(), {'x0': x[:, 0], 'x1': x[:, 1], 'y': x[:, 0] > 0.3}, target='y')",
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "regression" else pytest.mark.slow) for n in SERVED]
)
def test_predicting_a_row_imports_little(name, tmp_path):
    """What takes seconds to load is for fits, checks and pictures."""
    code = f"import numpy as np, ppl_models as ppl; x = np.random.default_rng(0).normal(size=(60, 2)); \
{SERVED[name]}.save({str(tmp_path / 'run')!r})"
    modules_of(code)
    (tmp_path / "one.csv").write_text("x0,x1\n0.5,1.0\n")
    found = modules_of(f"""
import sys
from ppl_models.cli.root import ppl
sys.argv = ["ppl", "predict", {str(tmp_path / "run")!r}, {str(tmp_path / "one.csv")!r}]
try:
    ppl.main()
except SystemExit as done:
    assert not done.code, done.code""")
    assert "torch" in found
    heavy = {
        "numba",
        "pyro",
        "scipy",
        "arviz",
        "xarray",
        "h5py",
        "formulaic",
        "matplotlib",
        "rich",
        "sklearn",
        "sympy",
    }
    assert not heavy & {module.partition(".")[0] for module in found}
    fits = {"ppl_models.comparison.compare", "ppl_models.resuming", "ppl_models.selection", "torch._dynamo"}
    assert not fits & found


@pytest.mark.slow
def test_a_fit_imports_no_more_than_it_needs(tmp_path):
    """A chain and a mixture from the shell: no compiler of torch, no SymPy, no statistics of SciPy."""
    x = np.random.default_rng(0).normal(size=(60, 2))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b", comments="")
    for name, option in (("hmm", "--states"), ("gmm", "--components")):
        found = modules_of(f"""
import sys
from ppl_models.cli import main
sys.argv = ["ppl", "fit", {name!r}, {str(tmp_path / "x.csv")!r}, {option!r}, "2", "-q",
            "--out", {str(tmp_path / name)!r}]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code""")
        assert "torch" in found
        heavy = {"sympy", "scipy.stats", "sklearn", "arviz", "matplotlib", "formulaic", "torch._dynamo"}
        assert not heavy & found


def test_shapes_are_broadcast_as_torch_does():
    own = plain_first(torch.broadcast_shapes)
    for shapes in [
        (),
        ((),),
        ((3,), ()),
        ((2, 1), (3,)),
        ((0, 1), (1, 4)),
        ((5,), torch.Size([2, 1])),
        (3, (1,)),
    ]:
        assert own(*shapes) == torch.broadcast_shapes(*shapes)
        assert type(own(*shapes)) is torch.Size
    with pytest.raises(RuntimeError, match="broadcast"):
        own((2,), (3,))


def test_torch_is_what_it_always_is_where_it_is_not_ours():
    """Where the package is imported nothing is put off, and `broadcast_shapes` is torch's."""
    code = """
import ppl_models as ppl
ppl.fit
import torch
assert torch.broadcast_shapes.__module__ == "torch.functional"
assert hasattr(torch._meta_registrations, "register_meta")"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_put_off_of_torch_comes_with_the_first_module_that_may_need_it():
    """An optimiser asks for the compiler, which asks for rules of shapes, and it all is as it always is."""
    code = """
from ppl_models.light import lighten
lighten()
import ppl_models as ppl
ppl.fit
import sys, torch
assert torch.broadcast_shapes.__module__ == "ppl_models.light"
assert not hasattr(torch._meta_registrations, "register_meta")
assert torch.Generator().manual_seed(3).initial_seed() == 3
layer = torch.nn.Linear(2, 1)
torch.optim.Adam(layer.parameters())
assert hasattr(torch._meta_registrations, "register_meta")
assert torch.linalg.cholesky(torch.zeros(4, 4, device="meta")).shape == (4, 4)
assert torch.Generator().manual_seed(3).initial_seed() == 3
assert not any(type(finder).__module__ == "ppl_models.light" for finder in sys.meta_path)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
