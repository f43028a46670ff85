"""What the cells of a column are together, found out in one pass over the rows or, at times, two."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np

from ppl_models.data.cells import (
    CODE,
    EXACT,
    NUMBER,
    Dates,
    Labels,
    Numbers,
    Parsed,
    drop,
    identifiers,
    infinite_error,
    scan,
    too_large,
)
from ppl_models.data.dates import are_dates
from ppl_models.data.marks import BLANK, Form, blank, form_of
from ppl_models.data.messages import Change, clean, listed, plural, quoted
from ppl_models.data.schema import LABELLED, Kind
from ppl_models.data.summaries import MOST_TEXTS, LabelSummary, NumberSummary, Summary
from ppl_models.data.table import MISSING, UNKNOWN, Table
from ppl_models.errors import DataError

_GROUPED = re.compile(r"[+-]?\d{1,3}(_\d{3})+(\.\d*)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
_UNIT = re.compile(r"[$€£¥]?\s*[+-]?[$€£¥]?\d[\d.,]*\s*[%$€£¥]?")
_THREE = re.compile(r"\D*\d{1,3},\d{3}\D*", re.ASCII)
_SURE = re.compile(r"\d,\d{3}[.,]\d", re.ASCII)


class Survey:
    """The columns of a table, looked through, and their cells block by block.

    Text in which every cell is a number becomes numbers; so do truth values, where `kinds` asks for numbers.

    Attributes:
        table: The table.
        names: The columns that were looked at.
        summaries: What was found in each.
        missing: Further texts and numbers that mean a missing cell.
        codes: The columns whose numbers were taken for codes or identifiers, which are labels.
        notes: What else was decided, such as how numbers with marks were read.

    Raises:
        DataError: Numbers and words are mixed, or a value is infinite or too large to be exact.
    """

    def __init__(
        self,
        table: Table,
        names: Collection[str],
        *,
        kinds: Mapping[str, Kind],
        missing: Collection[str] = (),
        decimal: str = ".",
        codes: bool = False,
    ) -> None:
        self.table, self.names, self.missing = table, list(names), missing
        self._kinds, self._decimal = dict(kinds), decimal
        self._look_for_codes = codes
        self.codes: set[str] = set()
        self.notes: list[str] = []
        if codes and table.parts is None:
            self.codes = {name for name in self.names if name not in kinds and _named_by(table, name)}
            self._kinds |= dict.fromkeys(self.codes, Kind.CATEGORICAL)
        self._numeric: set[str] = set()
        self._forms: dict[str, Form] = {}
        self._kept: dict[str, Parsed] | None = None
        self.summaries: dict[str, Summary] = {}
        self._look(self.names)

    def again(self, name: str, kind: Kind | None) -> Summary:
        """Look through one column once more, as one of another kind, or of one that is to be found out.

        Raises:
            DataError: As for the whole.
        """
        self.summaries.pop(name)
        self._numeric.discard(name)
        self._kinds.pop(name, None)
        if kind is not None:
            self._kinds[name] = kind
        self._look([name])
        return self.summaries[name]

    def _look(self, names: Collection[str]) -> None:
        for block in self.table.blocks(names) if names else ():
            cells = self._scanned(block, [name for name in names if not self._given_up(name)])
            if self.table.parts is None:
                self._kept = (self._kept or {}) | cells
            for name, each in cells.items():
                self._add(name, each)
        self._judge(names)

    def cells(self, names: Collection[str]) -> Iterator[dict[str, Numbers | Labels]]:
        """The cells of some columns, a block of rows after another: all rows at once if they are in memory.

        Columns of dates have none.
        """
        for block in self.table.blocks(names) if names else ():
            found = self._scanned(block, names) if self._kept is None else self._kept
            yield {
                name: self._recast(name, cells)
                for name in names
                if not isinstance(cells := found[name], Dates)
            }

    def _scanned(self, block: Table, names: Collection[str]) -> dict[str, Parsed]:
        return {
            name: scan(block, name, missing=self.missing, text=self._kinds.get(name) in LABELLED)
            for name in names
        }

    def _given_up(self, name: str) -> bool:
        """Whether a text column has too many different texts to look at more of them."""
        found = self.summaries.get(name)
        return isinstance(found, LabelSummary) and found.overflow

    def _add(self, name: str, cells: Parsed) -> None:
        found = self.summaries.get(name)
        if isinstance(cells, Numbers):
            found = found if isinstance(found, NumberSummary) else NumberSummary()
            found.add(cells.values)
        elif isinstance(cells, Labels):
            most = np.inf if self.table.parts is None else MOST_TEXTS
            found = found if isinstance(found, LabelSummary) else LabelSummary(cells.typed, most)
            found.add(cells)
        else:
            found = cells
        self.summaries[name] = found

    def _judge(self, names: Collection[str]) -> None:
        problems: list[DataError] = []
        for name, found in [(name, self.summaries[name]) for name in names]:
            if isinstance(found, LabelSummary):
                kind = self._kinds.get(name)
                if found.truth and kind is not None and kind not in LABELLED:
                    self._numeric.add(name)
                elif not found.typed and kind not in LABELLED:
                    try:
                        self._judge_text(name, found)
                    except DataError as error:
                        problems.append(error)
                if self.summaries[name] is found and name not in self._numeric and not found.typed:
                    found.drop(self._dashes(name, found))
        numeric = [name for name in names if name in self._numeric]
        if numeric:
            for name in numeric:
                self.summaries[name] = NumberSummary()
            for block in self.cells(numeric):
                for name, cells in block.items():
                    self._add(name, cells)
                if self._kept is not None:
                    self._kept |= block
        for name, found in [(name, self.summaries[name]) for name in names]:
            if isinstance(found, NumberSummary):
                try:
                    self._check_numbers(name, found)
                except DataError as error:
                    problems.append(error)
        if problems:
            raise all_of(problems, clean(self.table.source))

    def _judge_text(self, name: str, found: LabelSummary) -> None:
        """Whether text is numbers, dates or labels."""
        texts = [text for text in found.seen if not self._unsaid(text)]
        plain = [self.plain(text) for text in texts]
        numeric = np.array([bool(NUMBER.fullmatch(p) or _INFINITE.fullmatch(p)) for p in plain], dtype=bool)
        if self._decimal == ",":  # a point is of thousands then
            numeric &= np.array(["." not in text for text in texts], dtype=bool)
        if texts and self._are_codes(name, found, texts, plain, numeric):
            return
        if numeric.all() and texts:
            if found.overflow:
                reason = f"numbers as text, more than {MOST_TEXTS:,} different ones; store them as numbers"
                raise self.table.column_error(name, f"{reason}, or leave the column out with --ignore")
            self._check_digits(name, found, texts, plain)
            self._numeric.add(name)
            self._note_numbers(name, found, texts)
        elif texts and are_dates(texts):
            self.summaries[name] = Dates()
        elif not found.overflow and (form := self._form(texts)) is not None:
            self._forms[name] = form
            if form.note:
                self.notes.append(f"column {quoted(name)}: {form.note}")
            self._numeric.add(name)
        elif not found.overflow:
            self._check_words(name, found, texts, numeric)

    def _dashes(self, name: str, found: LabelSummary) -> list[str]:
        """Texts such as - and n.a. among words, in a file without types: they mean that there is none."""
        if self.table.usual != MISSING or found.overflow:
            return []
        dashes = [text for text in found.seen if text in BLANK]
        words = [text for text in found.seen if text not in BLANK]
        if not words or not all(any(map(str.isalnum, text)) for text in words):
            return []
        return [text for text in dashes if text not in self.table.came.get(name, UNKNOWN).order]

    def _form(self, texts: list[str]) -> Form | None:
        """How the numbers of a column are written, if it is numbers with marks.

        A comma before three digits is of thousands in a file of which commas separate cells, or where another
        cell says so; else it may as well be a decimal one.
        """
        if self._decimal == "." and all(map(_THREE.fullmatch, (t for t in texts if "," in t))):
            sure = self.table.quoted_commas or any(_SURE.search(text) for text in texts)
            if not sure and any("," in text for text in texts):
                return None
        return form_of(texts, self._decimal)

    def plain(self, text: str) -> str:
        """A text with a point for the decimal mark, and without underscores between thousands."""
        text = text.strip()
        text = text.replace(self._decimal, ".") if self._decimal != "." else text
        return text.replace("_", "") if "_" in text and _GROUPED.fullmatch(text) else text

    def _unsaid(self, text: str) -> bool:
        """Whether a text of a source with types may stand for a missing number."""
        return self.table.typed and text.strip() in MISSING

    def _are_codes(
        self, name: str, found: LabelSummary, texts: list[str], plain: list[str], numeric: np.ndarray
    ) -> bool:
        """Whether numbers in text are codes, with leading zeros, or identifiers, mostly beyond 2⁵³."""
        if not self._look_for_codes or name in self._kinds:
            return False
        large = (
            found.counts[t] for t, p in zip(texts, plain, strict=True) if p.isdigit() and int(p[:400]) > EXACT
        )
        if 2 * sum(large) > found.count:
            self.codes.add(name)
            return True
        whole = [p for p in plain if CODE.fullmatch(p)]
        if not whole or not all(p.lstrip("+-").isdigit() for p, n in zip(plain, numeric, strict=True) if n):
            return False
        advice = f"--types {quoted(name + '=continuous')} says otherwise"
        self.notes.append(
            f"column {quoted(name)}: taken as labels, as {quoted(whole[0])} has a leading zero; {advice}"
        )
        return True

    def _note_numbers(self, name: str, found: LabelSummary, texts: list[str]) -> None:
        """Say what in a column of numbers is read otherwise than it is written."""
        words = [text for text in found.seen if self._unsaid(text)]
        if words:
            cells = plural(sum(found.counts[text] for text in words), "cell")
            self.notes.append(
                Change(f"column {quoted(name)}: {listed(words)} among numbers, {cells} taken as missing")
            )
        grouped = next((text for text in texts if "_" in text), None)
        if grouped is not None:
            self.notes.append(f"column {quoted(name)}: {quoted(grouped)} read as {self.plain(grouped)}")

    def _recast(self, name: str, cells: Numbers | Labels) -> Numbers | Labels:
        """Numbers for the labels of a column of numbers."""
        if name not in self._numeric or not isinstance(cells, Labels):
            return cells
        if cells.typed:
            return Numbers(np.where(cells.codes < 0, np.nan, cells.codes))
        form = self._forms.get(name)
        numbers = (
            np.nan if self._unsaid(text) else form.numbers[text] if form else float(self.plain(text))
            for text in cells.labels
        )
        values = np.array([*numbers, np.nan])[cells.codes]
        return Numbers(drop(values, self.missing))

    def _check_digits(self, name: str, found: LabelSummary, texts: list[str], plain: list[str]) -> None:
        for text, number in zip(texts, plain, strict=True):
            if number.lstrip("+-").isdigit() and abs(int(number[:400])) > EXACT:
                raise too_large(self.table, name, number, found.first[text])

    def _check_words(self, name: str, found: LabelSummary, texts: list[str], numeric: np.ndarray) -> None:
        """Refuse numbers with a mark, if else the column would be numeric, and words among numbers."""
        odd = [text for text, is_number in zip(texts, numeric, strict=True) if not is_number]
        odd = [text for text in odd if not blank(text)] or odd
        if not odd:
            return
        word, row = quoted(odd[0]), found.first[odd[0]]
        other = quoted(name + "=categorical")
        thousands = all(_THOUSANDS.fullmatch(text) for text in odd)
        commas = all(_COMMA.fullmatch(text) for text in odd)
        if thousands:
            advice = (
                "has a thousands separator, to be removed, or a decimal comma, which is read with --decimal ,"
            )
        elif commas:
            advice = "has a decimal comma; use --decimal ,"
        elif all(_UNIT.fullmatch(text) for text in odd):
            advice = f"is a number with a mark; remove the mark, or use --types {other}"
        elif (few := self._wordy(odd)) and sum(found.counts[text] for text in few) < 0.5 * sum(
            found.counts[text] for text in texts if not blank(text)
        ):
            word, row = quoted(few[0]), found.first[few[0]]
            more = f" (nor is {listed(few[1:], 5)})" if len(few) > 1 else ""
            advice = (
                f"is not a number, as most of the column is{more}; correct it, or use --missing {word} if "
                f"the cell is missing, or --types {other}"
            )
        else:
            return
        raise self.table.column_error(name, f"{word} {advice}", row)

    def _wordy(self, odd: list[str]) -> list[str]:
        """Those of some texts that are not numbers with marks either."""
        return [text for text in odd if not blank(text) and form_of([text], self._decimal) is None]

    def _check_numbers(self, name: str, found: NumberSummary) -> None:
        if found.infinite:
            raise infinite_error(self.table, name, found.infinite, found.first_infinite)
        if found.whole and self.table.cell is not None and found.first_inexact >= 0:
            text = self.table.cell(found.first_inexact, name)
            if text.strip().lstrip("+-").isdigit():
                raise too_large(self.table, name, text, found.first_inexact)


def _named_by(table: Table, name: str) -> bool:
    cells = table.columns[name]
    return not isinstance(cells, np.ndarray) and identifiers(cells)


MOST_PROBLEMS = 8
"""Problems that are told at once."""


def all_of(problems: list[DataError], source: str) -> DataError:
    """Several problems of one table as one, in one line.

    Args:
        problems: One or more.
        source: What messages call the table.
    """
    if len(problems) == 1:
        return problems[0]
    others = [str(each).removeprefix(f"{source}, ") for each in problems[1:MOST_PROBLEMS]]
    more = len(problems) - MOST_PROBLEMS
    others += [f"and {more} more problems"] if more > 0 else []
    return DataError("; also ".join([str(problems[0]), *others]))


def parse(
    table: Table, name: str, *, missing: Collection[str] = (), decimal: str = ".", text: bool = False
) -> Parsed:
    """All cells of one column at once.

    Args:
        table: The table.
        name: The column.
        missing: Further texts and numbers that mean a missing cell.
        decimal: The decimal mark of numbers in text.
        text: Take every value for a label, even a number.

    Raises:
        DataError: As for `Survey`.
    """
    alone = replace(table, columns={name: table.columns[name]}, matrix=None, parts=None)
    kinds = {name: Kind.CATEGORICAL} if text else {}
    found = Survey(alone, [name], kinds=kinds, missing=missing, decimal=decimal)
    return next(found.cells([name])).get(name, Dates())
