"""`ppl completion SHELL`: the script that makes a shell complete `ppl`."""

import click
from click.shell_completion import get_completion_class

from ppl_models.cli.base import Command
from ppl_models.cli.output import say

INSTALL = {
    "bash": 'add to ~/.bashrc: eval "$(ppl completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit: eval "$(ppl completion zsh)"',
    "fish": "ppl completion fish > ~/.config/fish/completions/ppl.fish",
}


@click.command(cls=Command, example="ppl completion fish > ~/.config/fish/completions/ppl.fish")
@click.argument("shell", type=click.Choice(list(INSTALL)), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """The completion script of a shell, which says at its top how to install it."""
    from ppl_models.cli.root import ppl

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    complete = kind(ppl, {}, "ppl", "_PPL_COMPLETE")
    # `source()` would also start the shell to ask for its version.
    say(f"# {INSTALL[shell]}")
    say(complete.source_template % complete.source_vars())
