"""The kind of a column, and its cells as numbers of that kind.

The rules, for cells that are not missing:

- Truth values, and text that says yes and no (`yes/no`, `y/n`, `true/false`, `t/f`, `on/off`, `ja/nein`,
  `oui/non` …, in any case and in several spellings, such as `Y`, `yes`, `No`): binary. Numbers that are all
  0 or 1: binary.
- Other whole numbers: counts if none is negative, the largest is at most 1000 and the smallest is below 10.
  Counts of rare things come near zero; measurements in whole units (a length of 172 to 231 mm, a year, a
  wait of 43 to 96 minutes) do not.
- Other numbers: continuous.
- Whole numbers with leading zeros, and such beyond 2⁵³, are codes and identifiers: text.
- Other text: categorical, also if there are only two values. The levels are in natural order: `a2` before
  `a10`; three or more that are words of one scale (`never … always`, days, months) in the order of that.

A rule cannot know what a number means, which is why every kind can be given instead.
"""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from ppl_models.data.cells import CODE, NUMBER, Labels, Numbers, label
from ppl_models.data.messages import listed, quoted
from ppl_models.data.scales import no_and_yes, scale_of
from ppl_models.data.schema import LABELLED, Column, Kind
from ppl_models.data.summaries import MOST_TEXTS, LabelSummary, NumberSummary
from ppl_models.data.table import UNKNOWN, Came, Table
from ppl_models.errors import DataError

MOST_LEVELS = 50
_LARGEST_COUNT = 1000
_SMALL_COUNT = 10


def infer(found: NumberSummary | LabelSummary) -> Kind:
    """The kind that the module's rules give to a column."""
    if isinstance(found, LabelSummary):
        return Kind.BINARY if says_yes(found) else Kind.CATEGORICAL
    if not found.whole or not found.count:
        return Kind.CONTINUOUS
    if found.low >= 0 and found.high <= 1:
        return Kind.BINARY
    small = 0 <= found.low < _SMALL_COUNT and found.high <= _LARGEST_COUNT
    return Kind.COUNT if small else Kind.CONTINUOUS


def says_yes(found: LabelSummary) -> bool:
    """Whether the labels say yes and no, in whatever case; categories of a categorical are what they are."""
    return bool(no_and_yes(found.counts)) and (len(found.counts) == 2 or not found.typed)


def levels_of(found: NumberSummary | LabelSummary, came: Came = UNKNOWN) -> tuple[str, ...]:
    """The levels of a column in their order: the one given, no before yes, a scale's, or natural order.

    Of yes and no in several spellings each is one level, spelled as it is most often.

    Args:
        found: What was seen of it. Numbers have levels only where all of them are 0 or 1.
        came: As what it came: the order of the categories of a categorical, or one that the user gave.
    """
    if isinstance(found, NumberSummary):
        return ordered(("0", "1"), came)
    if found.truth:
        return ordered(("false", "true"), came)
    seen = found.seen
    yes = no_and_yes(seen) if says_yes(found) else {}
    if yes and len(seen) > 2:
        common: dict[bool, str] = {}
        for text in sorted(seen, key=lambda text: -found.counts[text]):
            common.setdefault(yes[text.lower()], text)
        seen = list(common.values())
    place = yes or scale_of(seen)
    return ordered(sorted(seen, key=lambda text: (place.get(text.lower(), 0), *natural(text))), came)


def ordered(levels: Sequence[str], came: Came) -> tuple[str, ...]:
    """Levels in the order in which they are to be, as far as that is said.

    Raises:
        DataError: The user gave the levels, and there are others; or the positive one is not there.
    """
    spelled = respelling(tuple(levels))
    first = [each for each in map(spelled, came.order) if each in levels]
    rest = [level for level in levels if level not in first]
    if came.given and rest:
        raise DataError(f"levels names {listed(came.order)}, and the column has {listed(rest)} as well")
    found = (*first, *rest)
    if came.positive is None:
        return found
    last = spelled(came.positive)
    if len(found) != 2 or last not in found:
        raise DataError(f"positive must be one of two classes, got {quoted(last)}; there are {listed(found)}")
    return (*(level for level in found if level != last), last)


def natural(text: str) -> tuple:
    """A sorting key: numbers by value, first; digits inside text by value."""
    if is_number(text):
        return (0, float(text), [], text)
    parts = re.split(r"([0-9]+)", text)
    return (1, 0.0, [(int(p), "") if p.isdecimal() else (-1, p.casefold()) for p in parts], text)


def column(table: Table, name: str, found: NumberSummary | LabelSummary, kind: Kind) -> Column:
    """Describe a column of a given kind.

    Args:
        table: where it stands, for messages.
        name: of the column.
        found: what was seen of its cells.
        kind: of it.

    Raises:
        DataError: The cells cannot be of that kind.
    """
    if not found.count:
        raise table.column_error(name, "every cell is missing; leave the column out with --ignore")
    if kind not in LABELLED:
        return _of_numbers(table, name, found, kind)
    if isinstance(found, LabelSummary) and found.overflow:
        reason = f"more than {MOST_TEXTS:,} different texts; leave the column out with --ignore"
        raise table.column_error(name, reason)
    levels = levels_of(found, table.came.get(name, UNKNOWN))
    return of_labels(name, found, kind, two(table, name, levels) if kind is Kind.BINARY else levels)


def _of_numbers(table: Table, name: str, found: NumberSummary | LabelSummary, kind: Kind) -> Column:
    found = check_numbers(table, name, found, kind)
    sd = math.sqrt(found.variance) if found.variance >= 0 else math.nan
    if not math.isfinite(sd):
        row, value = found.largest
        raise table.column_error(name, f"{value:g} is too large to compute with; correct it", row)
    return Column(
        name=name,
        kind=kind,
        integer=found.whole,
        mean=found.low if found.low == found.high else found.mean,
        sd=sd if sd > 0 and found.low < found.high else 1.0,
        minimum=found.low,
        maximum=found.high,
        missing=found.rows - found.count,
    )


def of_labels(name: str, found: NumberSummary | LabelSummary, kind: Kind, levels: tuple[str, ...]) -> Column:
    """Describe a column whose levels are known; each label that was seen is a spelling of one of them.

    Args:
        name: of the column.
        found: what was seen of its cells.
        kind: binary or categorical.
        levels: in their order; a label's code is its place among them.
    """
    if isinstance(found, NumberSummary):
        codes = [found.low, found.high]
    else:
        spelled = respelling(levels)
        codes = [float(levels.index(spelled(text))) for text in found.seen]
    missing = found.rows - found.count
    return Column(name, kind, levels, minimum=min(codes), maximum=max(codes), missing=missing)


def two(table: Table, name: str, levels: tuple[str, ...]) -> tuple[str, ...]:
    """The two levels of a binary column, of which one of 0 and 1 may not have been seen.

    Args:
        table: where it stands, for messages.
        name: of the column.
        levels: those that were seen, in their order.

    Raises:
        DataError: There are more, or only one of something else.
    """
    if len(levels) > 2:
        raise table.column_error(
            name, f"a binary column has two values, this one has {len(levels)}: {listed(levels)}"
        )
    if len(levels) == 1:
        if levels[0] in ("0", "1"):
            return ("0", "1")
        raise table.column_error(
            name, f"a binary column has two values, this one has only {quoted(levels[0])}"
        )
    return levels


def check_numbers(table: Table, name: str, found: NumberSummary | LabelSummary, kind: Kind) -> NumberSummary:
    """Refuse labels where numbers are to be, and numbers that are not counts where counts are.

    Args:
        table: where the column stands, for messages.
        name: of the column.
        found: what was seen of its cells.
        kind: continuous or count.

    Returns:
        `found`, which is of numbers.

    Raises:
        DataError: With the first cell that does not fit.
    """
    if isinstance(found, LabelSummary):
        text, row = next(iter(found.first.items()))
        raise table.column_error(name, f"{quoted(text)} is not a number, and the column is to be {kind}", row)
    if kind is Kind.COUNT and found.not_count is not None:
        row, value = found.not_count
        raise table.column_error(name, f"{value:g} is not a count (0, 1, 2, …)", row)
    return found


def values_of(described: Column, cells: Numbers | Labels) -> np.ndarray:
    """Cells of a column as numbers, (m,) float64: codes for labels, NaN where missing or not a level."""
    if isinstance(cells, Labels):
        position = {level: float(i) for i, level in enumerate(described.levels)}
        spelled = respelling(described.levels)
        codes = [position.get(spelled(text), np.nan) for text in cells.labels]
        return np.array([*codes, np.nan])[cells.codes]
    return cells.values


def respelling(levels: tuple[str, ...]) -> Callable[[str], str]:
    """A function that spells labels like the levels: `true` for TRUE, `1` for 1.0, but not for 01."""
    known = {*levels}
    says = no_and_yes(levels) if len(levels) == 2 else {}
    sides = {says[level.lower()]: level for level in levels if says}
    truth = {word: sides[side] for word, side in says.items()}
    numbers = {float(level): level for level in levels if is_number(level) and label(float(level)) == level}

    def spelled(text: str) -> str:
        if text in known:
            return text
        if text.lower() in truth:
            return truth[text.lower()]
        return numbers.get(float(text), text) if is_number(text) and not CODE.fullmatch(text) else text

    return spelled


def is_number(text: str) -> bool:
    """Whether a label is a finite number."""
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))
