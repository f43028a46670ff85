"""The target: the column that is to be predicted, always as labels."""

from ppl_models.data.cells import EXACT, label
from ppl_models.data.messages import listed
from ppl_models.data.schema import Column, Kind
from ppl_models.data.summaries import LabelSummary, Summary
from ppl_models.data.table import Table
from ppl_models.data.types import MOST_LEVELS, is_number, levels_of, natural, of_labels, two


def target_column(table: Table, name: str, found: Summary, kind: Kind | None) -> Column:
    """Describe the target: binary if it has two levels, else categorical.

    Whole numbers are labels `0`, `1`, `2` in their order, however they are written, unless `kind` was given.

    Args:
        table: The data.
        name: The target.
        found: What its cells are, taken as labels.
        kind: Binary or categorical, if the user said so; then numbers of any sort are labels.

    Raises:
        DataError: It is continuous, has more than `MOST_LEVELS` levels, or is missing in every row.
    """
    if not isinstance(found, LabelSummary):
        raise table.column_error(name, "dates cannot be predicted; name another target")
    if not found.count:
        raise table.column_error(name, "every cell of the target is missing; name another target")
    levels = levels_of(found)
    if kind is None:
        levels = _checked(table, name, found, levels)
    if kind is Kind.BINARY or levels in (("0",), ("1",)):
        levels = two(table, name, levels)
    return of_labels(name, found, kind or (Kind.BINARY if len(levels) == 2 else Kind.CATEGORICAL), levels)


def _checked(table: Table, name: str, found: LabelSummary, levels: tuple[str, ...]) -> tuple[str, ...]:
    """The levels, whole numbers in one spelling, if there are few enough."""
    numbers = [float(text) for text in levels if is_number(text)]
    many = f"more than {MOST_LEVELS}" if len(levels) > MOST_LEVELS or found.overflow else ""
    if len(numbers) == len(levels):
        fractions = [label(number) for number in numbers if number != int(number)]
        if fractions or many:
            what = f"has fractions such as {listed(fractions[:1])}" if fractions else f"has {many} values"
            raise table.column_error(
                name, f"a continuous column ({what}) cannot be a target, which is predicted as labels"
            )
        if max(map(abs, numbers)) <= EXACT:
            return tuple(sorted({label(number) for number in numbers}, key=natural))
    if many:
        raise table.column_error(
            name, f"a target has at most {MOST_LEVELS} levels, this one has {len(levels):,}; group them"
        )
    return levels
