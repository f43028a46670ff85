"""`ppl compare` and `ppl recommend`: models beside one another on held-out rows, and which to start with."""

from pathlib import Path
from typing import Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.locate import LATEST, latest
from ppl_models.cli.options import (
    json_option,
    option,
    quiet_option,
    read_with,
    reading_of,
    runs_option,
    together,
)
from ppl_models.cli.output import data_notes, note, print_json, say
from ppl_models.errors import OutputError

QUESTIONS = ("predict", "groups", "density", "generate", "impute", "anomalies", "forecast")

WORDS = """Models beside one another on the same held-out rows: log loss, calibration, and what differences
are worth.

DATA is a file or - for stdin. MODEL is a word: gmm, gmm:components=3,covariance=diag, mlp:hidden=50/50,
FILE.py:Class, sklearn:RandomForestClassifier:n_estimators=200; logistic+gmm, the first on the features of
the second; logistic@gmm:rows=1000, the first on rows of the second as well; a run; or a file models.toml of
these. Runs alone are scored as they stand."""


@click.command(
    cls=Command,
    help=WORDS,
    short_help="Models beside one another on the same held-out rows.",
    example="ppl compare churn.csv --target left gmm logistic sklearn:RandomForestClassifier\n"
    "ppl compare churn.csv --target left gmm logistic --curve --missing-cells --markdown card.md",
)
@click.argument("data", metavar="DATA")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@option("--folds", type=click.IntRange(min=2), default=5, help="Parts of the rows.")
@option("--repeats", type=click.IntRange(min=1), default=1, help="Of the whole, on other folds.")
@option("--curve", is_flag=True, help="Also by the number of rows to fit to, and where curves cross.")
@option("--missing-cells", is_flag=True, help="Also as 0 to 50 % of the test cells go missing.")
@option("--missing-labels", is_flag=True, help="Also as all but 5 % of the labels go missing.")
@option("--loo", is_flag=True, help="Also PSIS-LOO of fits to all rows, where there is a posterior.")
@option("--checks/--no-checks", default=True, help="Check the first fit of each model, for its verdict.")
@option("--seed", type=click.IntRange(min=0), default=0, help="Seed of folds, fits and missing cells.")
@option("--markdown", metavar="FILE", help="Write a model card; - is stdout.")
@together(reading_of("fit"), runs_option(), json_option(), quiet_option())
def compare(data: str, models: tuple[str, ...], **options: Any) -> None:
    """Compare models on a file."""
    card = options["markdown"]
    if card not in (None, "-") and not Path(card).absolute().parent.is_dir():
        raise OutputError(f"cannot write {card}: its directory is not there")
    from ppl_models.comparison.compare import compare as compared
    from ppl_models.comparison.words import parsed

    words = [str(latest(options["runs"])) if word == LATEST else word for word in models]
    entries = {name: each for word in words for name, each in parsed(word, (options["runs"],))}
    reading = read_with(options, "fit")
    source: Any = data
    if not all(hasattr(each, "data") for each in entries.values()):
        from ppl_models.data import read

        source = read(data, **reading)
        data_notes(source, options["quiet"])
        reading = {}
    asked = ("folds", "repeats", "curve", "missing_cells", "missing_labels", "loo", "checks", "seed")
    given = {name: options[name] for name in asked}
    progress = None if options["quiet"] else note
    found = compared(source, entries, progress=progress, **given, **reading)
    if card == "-":
        say(found.markdown())
    elif card is not None:
        try:
            Path(card).write_text(found.markdown(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {card}: {error.strerror}") from None
    if options["json"]:
        print_json(found.to_dict())
    elif card != "-":
        say(found.text())


@click.command(
    cls=Command,
    help="Which two systems to start with on DATA, and why, with the commands.\n\n"
    "It looks at the types of columns, missing cells, the number of rows, the balance of classes, order in "
    "time, images, and the question. DATA is a file or - for stdin.",
    example="ppl recommend churn.csv --target left",
)
@click.argument("data", metavar="DATA")
@option("--question", type=click.Choice(QUESTIONS), help="What is asked; predict with --target, else groups.")
@together(reading_of("fit"), json_option(), quiet_option())
def recommend(data: str, question: str | None, **options: Any) -> None:
    """Advise on a file."""
    from ppl_models.comparison.advice import recommend as advised

    found = advised(data, question=question, **read_with(options, "fit"))  # type: ignore[arg-type]
    if options["json"]:
        print_json(found.to_dict())
    else:
        say(found.text())
