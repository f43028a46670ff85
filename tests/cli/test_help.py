"""Every command and every option says what it is, and says it fast."""

import inspect
import subprocess
import sys

import click
import pytest

from ppl_models.cli.root import ppl
from ppl_models.inference.settings import every_setting, hints
from ppl_models.registry import find, names
from ppl_models.verbs import VERBS
from ppl_models.verbs.base import options_of

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
    verbs = {"predict", "score", "evaluate", "sample", "forecast", "impute", "transform", "reconstruct"}
    verbs |= {"summary", "check", "resume", "plot", "report", "anomalies", "augment", "backtest"}
    verbs |= {"compare", "recommend", "select", "export", "serve", "sbc"}
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


@pytest.mark.parametrize("model", names())
def test_settings_of_training_are_those_of_the_rule(model):
    """On the command line and as keywords of fit(), with the same defaults."""
    from ppl_models.api import fit

    rule, known = find(model).settings, inspect.signature(fit).parameters
    options = {each.name: each for each in COMMANDS["fit", model].params}
    assert {*hints(rule)} <= {*options}
    assert not ({*every_setting()} - {*hints(rule)}) & {*options}
    for name in hints(rule):
        default = known[name].default
        if isinstance(options[name].default, int | float | str):
            assert options[name].default == default
        else:  # not given: a sentinel of Click's
            assert default in (None, False)


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_verbs_are_the_parameters_of_the_functions(verb):
    own = inspect.signature(VERBS[verb]).parameters
    options = {each.name: each for each in COMMANDS[(verb,)].params}
    assert {*own} - {"fit", "lengths"} <= {*options}
    assert not [p for p in own.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for name in options_of(VERBS[verb]):
        default = options[name].default
        if isinstance(default, int | float | str):
            assert default == own[name].default
        else:
            assert own[name].default in (None, False)


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
