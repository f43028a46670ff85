"""How what stands in a comparison is written in one word.

The forms of a word:

    gmm                                a model of the toolkit, with its defaults
    gmm:components=3,covariance=diag   with fields of the model and settings of its training
    mlp:hidden=50/50                   items of a list are separated by /
    FILE.py:Class                      a user-defined model
    sklearn:RandomForestClassifier:n_estimators=200
    logistic+gmm:components=8          the first on the columns and the features of the second
    logistic@gmm:rows=1000             the first on the rows and on rows drawn from the second
    logistic@gmm:balance=true          … so that the classes are even
    runs/quakes                        the model and settings of a finished run, or `latest`
    models.toml                        all tables [models.NAME] of a file
"""

import ast
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ppl_models import runs as stored
from ppl_models.annotations import Hint, hints
from ppl_models.comparison.entries import Entry, OnFeatures, OnRows, Own, Peer
from ppl_models.comparison.peers import peer
from ppl_models.engine import checked
from ppl_models.errors import UsageError
from ppl_models.inference.settings import every_setting
from ppl_models.model import Model
from ppl_models.record import Record
from ppl_models.registry import find


def parsed(word: Any, runs: Sequence[str] = ("runs",)) -> list[tuple[str, Entry | Record]]:
    """The entries that a word, a model, a fit or an estimator means, with their names.

    Args:
        word: as the docstring of this module has it; a `Model`, a fit, an estimator of scikit-learn.
        runs: directories in which finished runs are looked for.

    Raises:
        UsageError: it means nothing.
    """
    if isinstance(word, Record):
        return [(word.path or word.name, word)]
    if isinstance(word, Own | Peer | OnFeatures | OnRows):
        return [(named(word.model) if isinstance(word, Own) else "entry", word)]
    if isinstance(word, Model):
        return [(named(word), Own(checked(word)))]
    if not isinstance(word, str):
        if hasattr(word, "fit") and hasattr(word, "get_params"):
            return [(f"sklearn:{type(word).__name__}", Peer(word))]
        raise UsageError(
            f"{word!r} is no model: give a word such as gmm:components=3, a model, a fit or an estimator"
        )
    if word.endswith(".toml"):
        return _from_toml(Path(word), runs)
    if (found := _run(word, runs)) is not None:
        return [(word, found)]
    return [(word, _entry(word, {}))]


def named(model: Model) -> str:
    """The word of a model: its name and the fields that are not their defaults."""
    said = []
    for each in fields(model):
        value = getattr(model, each.name)
        if each.init and value != each.default:
            said.append(f"{each.name}={'/'.join(map(str, value)) if isinstance(value, tuple) else value}")
    return model.name + (":" + ",".join(said) if said else "")


def _run(word: str, runs: Sequence[str]) -> Record | None:
    """The fit of a run directory of that name, if there is one."""
    for path in (Path(word), *(Path(each) / word for each in runs)):
        if (path / "run.json").is_file():
            return stored.load(path)
    return None


def _from_toml(path: Path, runs: Sequence[str]) -> list[tuple[str, Any]]:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    tables = told.get("models")
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{path} has no tables [models.NAME]")
    found = []
    for name, table in tables.items():
        if not isinstance(table, dict) or not isinstance(table.get("model"), str):
            raise UsageError(f'{path}, [models.{name}]: needs model = "gmm" or another word')
        options = {key: value for key, value in table.items() if key != "model"}
        known = None if options else _run(table["model"], runs)
        found.append((name, known or _entry(table["model"], options)))
    return found


def _entry(word: str, more: Mapping[str, Any]) -> Entry:
    """An entry from a word, and options from elsewhere for its first model."""
    for sign in "+@":
        first, found, second = word.partition(sign)
        if not found:
            continue
        if second.partition(":")[0] == "sklearn":
            raise UsageError(f"{word}: what helps must be a joint model of the toolkit, such as gmm or vae")
        options = _options(second.partition(":")[2])
        special = {k: options.pop(k) for k in ("rows", "balance") if sign == "@" and k in options}
        helper = _single(second.partition(":")[0], options, {})
        helped = _single(*_apart(first), more)
        if not isinstance(helper, Own) or isinstance(helped, OnFeatures | OnRows):
            raise UsageError(f"{word}: what helps must be a joint model of the toolkit, such as gmm or vae")
        if sign == "+":
            return OnFeatures(helped, helper)
        rows = special.get("rows")
        if rows is not None and (not str(rows).isdigit() or int(rows) < 1):
            raise UsageError(f"{word}: rows must be a whole number of at least 1, got {rows!r}")
        balance = str(special.get("balance", "false")).lower()
        if balance not in ("true", "false"):
            raise UsageError(f"{word}: balance must be true or false, got {balance!r}")
        return OnRows(helped, helper, None if rows is None else int(rows), balance == "true")
    return _single(*_apart(word), more)


def _apart(word: str) -> tuple[str, dict[str, str]]:
    """The name of a model, with the file or the package it is of, and its options."""
    name, _, rest = word.partition(":")
    if name == "sklearn" or name.endswith(".py"):
        second, _, rest = rest.partition(":")
        name = f"{name}:{second}"
    return name, _options(rest)


def _options(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(",") if text else ():
        key, sign, value = part.partition("=")
        if not sign or not key.strip() or not value.strip():
            raise UsageError(
                f"{part!r} is not of the form option=value, as in gmm:components=3,covariance=diag"
            )
        found[key.strip()] = value.strip()
    return found


def _single(name: str, options: Mapping[str, str], more: Mapping[str, Any]) -> Own | Peer:
    if name.startswith("sklearn:"):
        return Peer(peer(name.partition(":")[2], {k: _literal(v) for k, v in options.items()} | dict(more)))
    kind = find(name, files=True)
    own, training = hints(kind), every_setting()
    given: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for key, text in [*options.items(), *more.items()]:
        key = key.replace("-", "_")
        if key in own:
            given[key] = value_of(key, text, own[key])
        elif key in training:
            settings[key] = value_of(key, text, training[key][0])
        else:
            raise UsageError(
                f"{name} has no option {key!r}; it has {', '.join([*own, *hints(kind.settings)])}"
            )
    try:
        return Own(checked(kind(**given)), settings)
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{name}: {' '.join(str(error).split())}") from error


def value_of(name: str, text: Any, about: Hint) -> Any:
    """The value of a field from text, by its type.

    Raises:
        UsageError: it cannot be meant.
    """
    if not isinstance(text, str):
        return tuple(text) if isinstance(text, list) else text
    kind = about.type
    if about.optional and text.lower() == "none":
        return None
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if get_origin(kind) is Literal:
            return {str(each): each for each in get_args(kind)}[text]
        if kind in (int, float):
            return kind(text)
        if about.many in (int, float, str):
            return tuple(about.many(each) for each in text.split("/"))
    except (ValueError, KeyError):
        choice = f": {', '.join(map(str, get_args(kind)))}" if get_origin(kind) is Literal else ""
        raise UsageError(f"{name}={text} cannot be meant{choice}") from None
    return _literal(text) if kind is not str else text


def _literal(text: str) -> Any:
    """A number, a truth value or None where it is one, else the text."""
    word = {"true": "True", "false": "False", "none": "None"}.get(text.lower(), text)
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return text
