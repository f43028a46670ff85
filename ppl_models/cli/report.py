"""`ppl report`: a fit, or two side by side, as one page of HTML."""

from typing import Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.options import option, run_argument
from ppl_models.cli.verbs import ABOUT_RUN, opened


@click.command(
    cls=Command,
    help="A fit as one page of HTML that needs nothing else: verdict, model, data, posterior, checks, "
    f"predictions, and how it is reproduced.\n\n{ABOUT_RUN} RUN2 is another one to put beside it. Only "
    "aggregates enter "
    "the "
    "page, so that its size does not depend on the number of rows.",
    example="ppl report latest -o report.html",
)
@run_argument()
@click.argument("run2", required=False, metavar="[RUN2]")
@option("--output", "-o", default="report.html", metavar="FILE", help="The file to write: .html.")
def report(run: str, run2: str | None, output: str, **options: Any) -> None:
    """Write the page."""
    from ppl_models.report.page import check_name

    check_name(output)
    fit = opened(run, options)
    fit.to_html(output, None if run2 is None else opened(run2, options))
