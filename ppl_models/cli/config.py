"""Defaults of options from `ppl.toml` in the working directory, or from `--config FILE`.

    runs = "out"          # above the first table: for every command

    [fit]
    seed = 1

    [fit.hmm]
    covariance = "diag"

    [predict]
    delimiter = ";"

Flags and the environment go before the file. A key that is no option is refused.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import click

from ppl_models.errors import UsageError

NAME = "ppl.toml"
EVERYWHERE = ("runs", "quiet")
"""Options that a file may set for all commands at once."""


def config_option() -> click.Option:
    """`--config FILE`, which is read before the other options are looked at."""
    return click.Option(
        ["--config"],
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        envvar="PPL_CONFIG",
        callback=_configure,
        help=f"Read defaults from this file instead of {NAME} in the working directory.",
    )


def _configure(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if ctx.resilient_parsing:
        return
    path = Path(value or NAME)
    if value is None and not path.is_file():
        return
    ctx.meta["ppl_models.config"] = str(path)
    ctx.default_map = defaults(ctx, _tables(path), str(path))


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not TOML: it is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def defaults(ctx: click.Context, tables: dict[str, Any], path: str) -> dict[str, Any]:
    """What a file says about the options of a command, by parameter name.

    Args:
        ctx: The context of the command.
        tables: The contents of the file.
        path: Its name, for messages.

    Raises:
        UsageError: A key is no option, or a table no command.
    """
    chain, root = _chain(ctx)
    options = {p.name: p for p in ctx.command.params if isinstance(p, click.Option) and p.expose_value}
    commands = root.command.list_commands(root) if isinstance(root.command, click.Group) else []
    found: dict[str, Any] = {}
    for key, value in tables.items():
        if key in EVERYWHERE and not isinstance(value, dict):
            found |= {key: value} if key in options else {}
        elif key not in commands:
            raise _unknown(path, key, [*commands, *EVERYWHERE], "is no command")
        elif not isinstance(value, dict):
            raise UsageError(f"{path}: {key} must be a table, [{key}]")
    table: Any = tables
    for depth, name in enumerate(chain):
        table = table.get(name, {})
        table = table if isinstance(table, dict) else {}
        where = ".".join(chain[: depth + 1])
        last = depth + 1 == len(chain)
        allowed = [n for n, p in options.items() if n and (last or getattr(p, "section", "") != "Model")]
        for key, value in table.items():
            if key.replace("-", "_") in allowed:
                found[key.replace("-", "_")] = value
            elif last or not isinstance(value, dict):
                raise _unknown(path, key, allowed, f"is no option in [{where}]")
            elif key != chain[depth + 1]:
                _check_model(path, where, key)
    return found


def _check_model(path: str, where: str, name: str) -> None:
    """Refuse `[fit.NAME]` where NAME is no model."""
    from ppl_models.registry import names

    if name not in names() and ".py" not in name:
        raise _unknown(path, f"{where}.{name}", names(), "is no model")


def _chain(ctx: click.Context) -> tuple[list[str], click.Context]:
    """The names of the commands that lead to a context, without the program's, and the program's context."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return names, ctx


def _unknown(path: str, key: str, known: list[str], what: str) -> UsageError:
    close = difflib.get_close_matches(key.rpartition(".")[2].replace("-", "_"), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
    return UsageError(f"{path}: {key!r} {what}; {hint}")
