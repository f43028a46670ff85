"""Commands and groups, and the one place where errors become a line and an exit code."""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from ppl_models.cli.config import config_option
from ppl_models.cli.output import complain
from ppl_models.cli.signals import SIGNALS, leave_soon
from ppl_models.cli.streams import apart, open_streams, results
from ppl_models.errors import DataError, Interrupted, OutputError, PplError, UsageError
from ppl_models.light import lighten
from ppl_models.threads import VARIABLE, prepare_environment
from ppl_models.wording import at_a_terminal, words_of

NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click raises since 8.2 where a group is called without a command."""

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PPL", "max_content_width": 100}


class Option(click.Option):
    """An option that knows under which heading of the help it stands."""

    def __init__(self, *args: Any, section: str = "Options", **options: Any) -> None:
        super().__init__(*args, **options)
        self.section = section


def threads_option() -> Option:
    """`--threads N`, which is looked at before anything large is imported."""

    def limit(ctx: click.Context, parameter: click.Parameter, value: int | None) -> None:
        if value is not None and not ctx.resilient_parsing:
            prepare_environment(value)

    return Option(
        ["--threads"],
        type=click.IntRange(min=1),
        metavar="N",
        is_eager=True,
        expose_value=False,
        envvar=VARIABLE,
        callback=limit,
        help="Threads at most; by the size of the work, and as many as processors, if not given.",
    )


class Command(click.Command):
    """A command that reads its defaults from `ppl.toml`, and whose help has sections and an example."""

    def __init__(self, *args: Any, example: str = "", **options: Any) -> None:
        if example:
            lines = "\n".join(f"  {line}" for line in example.splitlines())
            options["epilog"] = f"\b\nExample:\n{lines}"
        super().__init__(*args, **options)
        self.params += [threads_option(), config_option()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse variables of the environment that are named after the command and are no option of it."""
        prefix = ctx.auto_envvar_prefix
        if prefix and not ctx.resilient_parsing:
            known = {f"{prefix}_{p.name.upper()}" for p in self.params if p.name}
            check_environment(prefix, known)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what models print meanwhile goes to stderr."""
        with apart():
            found = super().invoke(ctx)
            results().flush()
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, those without one last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        rest = sections.pop("Options", [])
        for heading, records in [*sections.items(), ("Options", rest)]:
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def check_environment(prefix: str, known: set[str]) -> None:
    """Refuse variables of the environment that no option has, as a key of `ppl.toml` is refused.

    Args:
        prefix: of those that are looked at, `PPL_FIT`.
        known: those that options have.

    Raises:
        UsageError: naming the closest.
    """
    for name in sorted(os.environ):
        if name.startswith(f"{prefix}_") and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "see --help"
            raise UsageError(f"{name} in the environment is no option; {hint}")


class LazyGroup(click.Group):
    """A group whose commands are imported, or made by a function of their name, when they are asked for."""

    def __init__(self, *args: Any, lazy: dict[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order in which they are used."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name].partition(":")
        found = getattr(import_module(module), attribute)
        return found if isinstance(found, click.Command) else found(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the whole first sentence of each."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, c.get_short_help_str(200)) for name, c in found.items() if c is not None]
            )

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run a command line and exit. Whatever goes wrong is one line on stderr and an exit code."""
        name = prog_name or "ppl"
        given = list(sys.argv[1:] if args is None else args)
        extra.pop("standalone_mode", None)
        self._main_shell_completion(extra, name, None)
        with at_a_terminal():
            code = self._run(name, given, extra)
        _leave_quietly()
        sys.exit(code)

    def _run(self, name: str, given: list[str], extra: dict[str, Any]) -> int:
        """Run a command line; the exit code."""
        code = 0
        try:
            try:
                with self.make_context(name, given, **extra) as context:
                    self.invoke(context)
            except click.exceptions.Exit as done:
                code = done.exit_code
            except BaseException as error:
                code = _told(error)
            sys.stdout.flush()
        except BaseException as error:
            code = code or _told(error)  # what could not be written may be told already
        return code


def _told(error: BaseException) -> int:
    """Tell an error in one line, and return its exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
        return 0
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        error = OutputError(f"standard output cannot be written ({error.strerror})")
    if isinstance(error, KeyboardInterrupt | click.Abort):
        error = Interrupted("stopped")
    if isinstance(error, NO_ARGUMENTS):
        print(error, file=sys.stderr)
        return 2
    if isinstance(error, click.UsageError):
        complain(_usage(error), hint=_hint(error))
        return error.exit_code
    if isinstance(error, click.ClickException):
        complain(error.format_message())
        return error.exit_code
    if _out_of_memory(error):
        error = DataError("out of memory; take fewer rows or columns, or a smaller --batch-size")
    if os.environ.get("PPL_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, PplError):
        complain(str(error))
        return error.exit_code
    kind, said = type(error).__name__, words_of(error)
    what = kind if said == kind else f"{kind}: {said[:300]}"
    advice = "" if os.environ.get("PPL_DEBUG") else "; set PPL_DEBUG=1 for the traceback"
    complain(f"internal error: {what} (this is a bug{advice})")
    return 1


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch has errors of its own for it."""
    torch = sys.modules.get("torch")
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        or (isinstance(error, RuntimeError) and "can't allocate memory" in words_of(error))
    )


def _usage(error: click.UsageError) -> str:
    """Click's message in one line, with where the value came from if not from the command line."""
    message = " ".join(error.format_message().split()).rstrip(".")
    parameter = getattr(error, "param", None)
    if error.ctx is not None and parameter is not None and parameter.name:
        source = error.ctx.get_parameter_source(parameter.name)
        if source is ParameterSource.DEFAULT_MAP:
            message += f" (from {error.ctx.meta.get('ppl_models.config', 'ppl.toml')})"
        elif source is ParameterSource.ENVIRONMENT:
            message += " (from the environment)"
    return message[:1].lower() + message[1:]


def _hint(error: click.UsageError) -> str:
    return f"try {error.ctx.command_path} --help" if error.ctx is not None else ""


def _leave_quietly() -> None:
    """Make sure that nothing is said when the interpreter flushes into a pipe that was closed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def prepare_process() -> None:
    """Set up the process of `ppl`: streams that can print anything, SIGTERM, no warnings of libraries.

    And torch without SymPy.
    """
    open_streams()
    count = 0

    def stop(number: int, frame: Any) -> NoReturn:
        nonlocal count
        count += 1
        if count > 1:
            leave_soon(128 + number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Interrupted("stopped by SIGTERM", 128 + number)

    for name in SIGNALS:
        with suppress(ValueError, OSError, AttributeError):
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:  # as with nohup, or in the background
                signal.signal(number, stop)
    prepare_environment()
    lighten()
    if not sys.warnoptions and not os.environ.get("PPL_DEBUG"):
        warnings.simplefilter("ignore")
