"""`ppl resume RUN`: go on with a fit that was stopped."""

from typing import TYPE_CHECKING, Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.fit import Plan, Progress, finish
from ppl_models.cli.locate import locate
from ppl_models.cli.options import json_option, option, quiet_option, run_argument, together
from ppl_models.cli.verbs import ABOUT_RUN

if TYPE_CHECKING:
    from ppl_models.api import Fit


@click.command(
    cls=Command,
    help="Go on with a fit that was stopped, or that died, as if it never had been.\n\n"
    "A fit by stochastic gradients goes on from its last checkpoint, one by natural gradients starts again; "
    f"the numbers are those of a fit that was never stopped. {ABOUT_RUN}",
    example="ppl resume latest --steps 20000",
)
@together(
    run_argument(),
    option("--steps", type=int, help="Steps at most, in all; as many as before if not given."),
    option("--force", is_flag=True, help="Go on although the data or the version of a library has changed."),
    option("--strict", is_flag=True, help="Exit with 3 if the fit is not trusted; it is saved all the same."),
    option(
        "--checkpoint-every",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="How often to write what there is.",
    ),
    json_option(),
    quiet_option(),
)
def resume(run: str, **options: Any) -> None:
    """Go on with a fit."""
    path = locate(run, options["runs"])
    from ppl_models import load, store
    from ppl_models import resume as go_on

    with store.lock(path):

        def train(progress: Progress) -> "Fit":
            return go_on(
                path,
                model=options["model"],
                steps=options["steps"],
                force=options["force"],
                checkpoint_every=options["checkpoint_every"],
                progress=progress,
            )

        finish(path, options, Plan(load(path, options["model"]).model), train, going_on=True)
