"""Names of models -> models: built in, from plug-ins, or from a file (`FILE.py:Class`).

Models are named as strings, and imported when they are asked for. A plug-in is a package with an entry
point in the group `ppl_models.models`; one that cannot be imported is an error only when it is named.
"""

import ast
import difflib
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_models.errors import UsageError
from ppl_models.importing import uncollected
from ppl_models.model import Model
from ppl_models.models.program.failures import in_place
from ppl_models.models.program.model import PyroModel
from ppl_models.wording import words_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ppl_models.bound import Bound

GROUP = "ppl_models.models"

BUILT_IN = {
    "cnn": "ppl_models.models.cnn.model:CNN",
    "gan": "ppl_models.models.gan.model:GAN",
    "glm": "ppl_models.models.glm.model:GLM",
    "gmm": "ppl_models.models.gmm.model:GMM",
    "hmm": "ppl_models.models.hmm.model:HMM",
    "logistic": "ppl_models.models.logistic.model:Logistic",
    "mlp": "ppl_models.models.mlp.model:MLP",
    "rnn": "ppl_models.models.rnn.model:RNN",
    "svm": "ppl_models.models.svm.model:SVM",
    "transformer": "ppl_models.models.transformer.model:Transformer",
    "vae": "ppl_models.models.vae.model:VAE",
}


@dataclass(frozen=True)
class Listing:
    """A model as it is listed.

    Attributes:
        name: What `find` and the command line call it.
        summary: One line that says what it is.
        source: `built in`, or the package that brings it.
        problem: Why it cannot be used, if it cannot: one line.
    """

    name: str
    summary: str
    source: str
    problem: str = ""


def names() -> list[str]:
    """The names of the models that are installed, without importing any."""
    return [*BUILT_IN, *(name for name in _plugins() if name not in BUILT_IN)]


def models() -> list[Listing]:
    """Every model that is installed; one that cannot be imported is listed with its `problem`."""
    return [*map(_built_in, BUILT_IN), *_listed_plugins()]


def find(name: str, *, files: bool = False) -> type[Model]:
    """The model of a name.

    Args:
        name: A name that `models` lists, or `FILE.py:Class`.
        files: Whether a file may be executed to get at a class in it. Otherwise only one that this process
            has executed before is known, so that a name that was read from somewhere can do no harm.

    Raises:
        UsageError: There is no such model, or it cannot be imported.

    Example:
        >>> find("hmm")
        <class 'ppl_models.models.hmm.model.HMM'>
        >>> find("hnm")
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: there is no model 'hnm'; did you mean hmm?
    """
    if name in BUILT_IN:
        return _imported(BUILT_IN[name])
    if ".py" in name:
        return _from_file(name, files)
    if entry := _plugins().get(name):
        return _from_plugin(entry)
    close = difflib.get_close_matches(name.lower(), names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names())}"
    raise UsageError(f"there is no model {_quoted(name)}; {hint}")


def those(has: "Callable[[type[Bound]], bool]") -> list[str]:
    """The names of the models, one of whose bound forms has a property; user-defined ones in words."""
    found = []
    for name in names():
        try:
            bounds = find(name).bounds()
        except UsageError:
            continue  # a plug-in that cannot be imported
        if any(map(has, bounds)):
            found.append(name)
    if any(map(has, PyroModel.bounds())):
        found.append("models of your own (FILE.py:Class)")
    return found


def numeric_targets() -> str:
    """Those that predict numbers, in words."""
    return ", ".join(those(lambda bound: bound.numeric_target))


def reference(model: type[Model]) -> str:
    """The name by which `find` gives this model: the inverse of `find`.

    Example:
        >>> reference(find("hmm"))
        'hmm'
    """
    home = f"{model.__module__}:{model.__qualname__}"
    for name, target in BUILT_IN.items():
        if target == home:
            return name
    for name, entry in _plugins().items():
        if entry.value == home:
            return name
    for path, module in _files.items():
        if getattr(module, model.__name__, None) is model:
            return f"{path}:{model.__name__}"
    if path := _own_file(model):
        return f"{path}:{model.__name__}"
    return home


def digests(model: type[Model]) -> dict[str, str]:
    """Of the file of a user-defined model: `sha256` of its bytes, and `code` of what they mean.

    The second stays the same when comments and layout change. Nothing for models that are installed.
    """
    path = next((p for p, m in _files.items() if getattr(m, model.__name__, None) is model), None)
    path = path or _own_file(model)
    if path is None:
        return {}
    try:
        content = path.read_bytes()
        code = ast.dump(ast.parse(content))
    except (OSError, SyntaxError, ValueError):
        return {}
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "code": hashlib.sha256(code.encode()).hexdigest(),
    }


def _own_file(model: type[Model]) -> Path | None:
    """The file of a class that was imported in the ordinary way, but is not of an installed model."""
    home = f"{model.__module__}:{model.__qualname__}"
    file = getattr(sys.modules.get(model.__module__), "__file__", None)
    if file is None or model.__module__.split(".")[0] == __name__.split(".")[0]:
        return None
    if home in {entry.value for entry in _plugins().values()}:
        return None
    return Path(file).resolve()


_files: dict[Path, Any] = {}  # the files that were executed, by absolute path


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    with uncollected():
        return getattr(import_module(module), name)


def _plugins() -> dict[str, "EntryPoint"]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _from_plugin(entry: "EntryPoint") -> type[Model]:
    try:
        loaded = entry.load()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"model {_quoted(entry.name)} of {_package(entry)} cannot be imported: {_reason(error)}"
        ) from error
    return _checked(loaded, f"model {_quoted(entry.name)} of {_package(entry)}", entry.name)


def _built_in(name: str) -> Listing:
    return Listing(name, find(name).summary, "built in")


def _listed_plugins() -> Iterator[Listing]:
    for name, entry in _plugins().items():
        if name in BUILT_IN:
            problem = f"model {_quoted(name)} of {_package(entry)} has the name of a built-in model"
            yield Listing(name, "", _package(entry), problem)
            continue
        try:
            yield Listing(name, _from_plugin(entry).summary, _package(entry))
        except UsageError as error:
            yield Listing(name, "", _package(entry), str(error))


def _package(entry: "EntryPoint") -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _from_file(name: str, files: bool) -> type[Model]:
    text, _, wanted = name.rpartition(":")
    if not text.endswith(".py"):
        text, wanted = name, ""
    try:
        path = Path(text).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:  # ~nobody, loops of links, NUL bytes
        raise UsageError(f"{_quoted(text)} cannot be a file: {_reason(error)}") from None
    if not files and path not in _files:
        raise UsageError(f"{_quoted(name)} names a file, which is only executed when it is asked for")
    module = _files[path] if path in _files else _executed(path, text)
    own = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Model) and value.__module__ == module.__name__
    }
    if not wanted or wanted not in vars(module):
        there = f"name one of {', '.join(f'{text}:{key}' for key in own)}" if own else "it defines no model"
        what = f"has no {_quoted(wanted)}" if wanted else "needs the name of a class"
        raise UsageError(f"{text} {what}; {there}")
    return _checked(getattr(module, wanted), name, wanted.lower())


def _executed(path: Path, text: str) -> Any:
    """Run a file as a module; what goes wrong in it is told with its line."""
    if not path.is_file():
        raise UsageError(f"{text}: no such file")
    name = f"ppl_models_file_{path.stem}_{len(_files)}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{text}: not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with in_place():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{text}{_line(error, path)}: {_reason(error)}") from error
    _files[path] = module
    return module


def _line(error: BaseException, path: Path) -> str:
    """The last line of the file that an error came through, as text."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f", line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f", line {lines[-1]}" if lines else ""


def _reason(error: BaseException) -> str:
    kind = type(error).__name__
    text = " ".join(str(error.msg).split()) if isinstance(error, SyntaxError) else words_of(error)
    return kind if text == kind else f"{kind}: {text[:300]}"


def _checked(found: Any, where: str, name: str) -> type[Model]:
    """The class, if it is a model that can be used; one without a name or a summary is given them."""
    if not (inspect.isclass(found) and issubclass(found, Model)):
        raise UsageError(f"{where} is not a subclass of ppl_models.Model")
    lacks = ", ".join(f"{method}()" for method in sorted(found.__abstractmethods__))
    if lacks:
        raise UsageError(f"{where} does not define {lacks}")
    return complete(found, name, where)


def complete(found: type[Model], name: str, where: str = "") -> type[Model]:
    """The class with a name and a summary, that of its docstring, if it has none.

    Raises:
        UsageError: It is not a dataclass.
    """
    if not is_dataclass(found) or "__dataclass_params__" not in vars(found):
        what = where or found.__name__
        raise UsageError(f"{what} is not a dataclass; put @dataclass(frozen=True) above it")
    if not hasattr(found, "name"):
        found.name = name
    if not hasattr(found, "summary"):
        found.summary = (found.__doc__ or name).strip().splitlines()[0]
    return found


def _quoted(text: str) -> str:
    return repr(text[:100])
