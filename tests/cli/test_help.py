"""Every command and every option says what it is, and says it fast."""

import inspect
import subprocess
import sys
from importlib import import_module

import click
import pytest
from ppl_models.kinds import KINDS

from ppl_models.cli.fit import TRAINING
from ppl_models.cli.root import ppl

HEAVY = {"torch", "pyro", "pandas", "pyarrow", "numba", "scipy", "sklearn", "arviz", "xarray", "rich"}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[*path, name] = command
        if isinstance(command, click.Group):
            found |= commands(command, (*path, name))
    return found


COMMANDS = commands(ppl)


def test_all_commands_are_there():
    verbs = {"predict", "score", "sample", "forecast", "impute", "transform", "reconstruct"}
    verbs |= {"summary", "check", "resume"}
    assert {path[0] for path in COMMANDS} == verbs | {"fit", "models", "data", "runs", "new", "completion"}
    assert {("fit", "gmm"), ("fit", "hmm"), ("fit", "logistic")} <= {*COMMANDS}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_has_help_and_an_example(path, run):
    assert COMMANDS[path].get_short_help_str(200)
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert f"  ppl {path[0]}" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_has_help(path):
    for each in COMMANDS[path].params:
        if isinstance(each, click.Option):
            assert each.help, each.opts
            assert each.help.endswith((".", ")")), each.opts


def test_the_summary_of_a_command_is_not_cut(run):
    assert "..." not in run("--help").stdout.partition("Commands:")[2]


def test_defaults_of_training_are_those_of_the_function():
    from ppl_models.fitting import fit

    known, seen = inspect.signature(fit).parameters, set()
    for model in ("hmm", "logistic", "vae"):
        for each in COMMANDS["fit", model].params:
            if each.name in TRAINING:
                seen.add(each.name)
                default = known[each.name].default
                if isinstance(each.default, int | float | str):
                    assert each.default == default
                else:  # not given: a sentinel of Click's
                    assert default in (None, False)
    assert {*TRAINING} - seen == {"guide", "elbo", "particles"}  # of models of one's own
    assert set(TRAINING) | {"seed"} <= set(known)


@pytest.mark.parametrize(("kind", "verb"), [(kind, verb) for kind in KINDS for verb in KINDS[kind].verbs])
def test_defaults_of_verbs_are_those_of_the_functions(kind, verb):
    function = getattr(import_module(f"ppl_models.tasks.{KINDS[kind].verbs[verb]}"), verb)
    known = inspect.signature(function).parameters
    for option in COMMANDS[(verb,)].params:
        if option.name not in known or option.name in ("data", "seed"):
            continue
        default = known[option.name].default
        if isinstance(option.default, int | float | str):
            assert option.default == default
        elif default is not None:
            assert f"{default} if not given" in option.help or f"{default:g} if not given" in option.help


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["nope"],
        ["fit"],
        ["fit", "--help"],
        ["fit", "gmm", "--help"],
        ["fit", "hmm", "--help"],
        ["fit", "logistic", "--help"],
    ],
    ids=str,
)
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys\nfrom ppl_models.cli import main\n"
        f"sys.argv = ['ppl', *{args!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split())
    if "fit" not in args:
        assert "numpy" not in done.stderr.split()


@pytest.mark.parametrize("columns", ["20", "500"])
def test_help_on_any_terminal(run, columns):
    assert run("fit", "hmm", "--help", env={"COLUMNS": columns}).exit_code == 0
