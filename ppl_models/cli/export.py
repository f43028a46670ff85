"""`ppl export`: a fit for other programs."""

from pathlib import Path
from typing import Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.options import option, run_argument, together
from ppl_models.cli.output import say
from ppl_models.cli.verbs import ABOUT_RUN, opened


@click.command(
    cls=Command,
    help="A fit for other programs: its predictions as a graph in ONNX, or the run as a model of MLflow.\n\n"
    f"{ABOUT_RUN} ONNX has gmm, logistic, glm, mlp and cnn at the posterior mean of their parameters; MLflow "
    "every model.",
    example="ppl export latest --to onnx -o model.onnx",
)
@together(
    run_argument(),
    option(
        "--to",
        type=click.Choice(["onnx", "mlflow"]),
        default="onnx",
        show_default=True,
        help="What is written.",
    ),
    option("--output", "-o", metavar="PATH", help="A file, RUN.onnx, or a folder, RUN-mlflow, if not given."),
)
def export(run: str, to: str, output: str | None, **options: Any) -> None:
    """Write it, and say where."""
    from ppl_models.export import export as written

    fit = opened(run, options)
    name = Path(str(fit.path)).name + {"onnx": ".onnx", "mlflow": "-mlflow"}[to]
    say(f"wrote {written(fit, output or name, to)}")
