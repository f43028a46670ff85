"""RUN: the path of a run, the name of one in the runs directory, or `latest`."""

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ppl_models.errors import RunError

if TYPE_CHECKING:
    from ppl_models.store import StoredRun

LATEST = "latest"


def locate(run: str, parent: str) -> Path:
    """The directory of a run.

    Args:
        run: `latest`, a path, or the name of a run in `parent`; what exists as a path is taken as one.
        parent: The directory that holds the runs.

    Raises:
        RunError: There is no such run.
    """
    if run == LATEST:
        return latest(parent)
    if os.path.lexists(run):
        return Path(run)
    if os.path.basename(run) == run and run and os.path.lexists(os.path.join(parent, run)):
        return Path(parent, run)
    close = difflib.get_close_matches(os.path.basename(run), _names(parent), n=1)
    hint = f"did you mean {close[0]}?" if close else "`ppl runs` lists those that are there"
    raise RunError(f"there is no run {run!r}, neither as a path nor in {parent}; {hint}")


def latest(parent: str) -> Path:
    """The run in a directory that was written last.

    Raises:
        RunError: There is none.
    """
    from ppl_models.store import StoredRun, list_runs

    found = [run for run in list_runs(parent) if isinstance(run, StoredRun)]
    if not found:
        raise RunError(f"there is no run in {parent} yet; `ppl fit hmm DATA` makes one")
    return max(found, key=_written).path


def _written(run: "StoredRun") -> tuple[str, int]:
    """When a run was written; the file's own time decides within a second."""
    return str(run.manifest.get("created", "")), os.stat(run.path / "run.json").st_mtime_ns


def _names(parent: str) -> list[str]:
    try:
        return [name for name in os.listdir(parent) if not name.startswith(".")]
    except (OSError, ValueError):
        return []


def complete_run(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of runs for the shell, and else paths."""
    parent = ctx.params.get("runs") or os.environ.get("PPL_RUNS") or "runs"
    found = [name for name in [LATEST, *sorted(_names(parent))] if name.startswith(incomplete)]
    items = [CompletionItem(name) for name in found]
    return items or [CompletionItem(incomplete, type="dir")]
