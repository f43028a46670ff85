"""`ppl` itself."""

import click

from ppl_models.cli.base import CONTEXT, LazyGroup
from ppl_models.verbs import VERBS

COMMANDS = {
    "fit": "ppl_models.cli.fit:fit",
    "resume": "ppl_models.cli.resume:resume",
    **dict.fromkeys(VERBS, "ppl_models.cli.verbs:verb_command"),
    "check": "ppl_models.cli.verbs:check",
    "plot": "ppl_models.cli.plot:plot",
    "report": "ppl_models.cli.report:report",
    "export": "ppl_models.cli.export:export",
    "compare": "ppl_models.cli.compare:compare",
    "recommend": "ppl_models.cli.compare:recommend",
    "select": "ppl_models.cli.select:select",
    "serve": "ppl_models.cli.serve:serve",
    "sbc": "ppl_models.cli.sbc:sbc",
    "models": "ppl_models.cli.listing:models",
    "data": "ppl_models.cli.listing:data",
    "runs": "ppl_models.cli.listing:runs",
    "new": "ppl_models.cli.new:new",
    "completion": "ppl_models.cli.completion:completion",
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings=CONTEXT,
    epilog="\b\nExample:\n  ppl fit hmm returns.csv --states 1:6\n  ppl forecast latest --steps 20",
)
@click.version_option(
    None, "--version", package_name="ppl_models", prog_name="ppl", message="%(prog)s %(version)s"
)
def ppl() -> None:
    """Fit probabilistic models to data, and know whether to trust the answer.

    Results go to stdout, progress and messages to stderr. An option can also be set in the environment
    (PPL_FIT_SEED=1) or in a file ppl.toml in the working directory.
    """
