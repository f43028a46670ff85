"""The lines of delimited text: the header, where a row is, and what is wrong with the quotes."""

import csv
import io
import itertools
import re
from collections.abc import Iterator

from ppl_models.data.messages import clean, plural
from ppl_models.errors import DataError


def _height(text: str) -> int:
    """How many lines a record takes."""
    return max(len(re.findall(r"\r\n|\n|\r", text.rstrip("\r\n"))) + 1, 1)


def _fault(record: str, delimiter: str) -> str:
    """What is wrong with the quotes of a record, if anything."""
    try:
        for _ in csv.reader(io.StringIO(record, newline=""), delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return str(error)
    return ""


class Lines:
    """Delimited text, read record by record by Python's `csv`: slow, but it knows the lines."""

    def __init__(self, content: bytes, source: str, delimiter: str) -> None:
        self.content, self.source, self.delimiter = content, source, delimiter
        self.names: list[str] = []
        self.skip = 1
        self.quote: str | None = '"'
        if delimiter == "\t" and b'"' in content and self._quotes_are_literal():
            self.quote = None

    def records(self) -> Iterator[tuple[int, list[str], str]]:
        """First line, cells and text of every record that is not blank."""
        quoting = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        csv.field_size_limit(1 << 30)
        taken: list[str] = []
        reader = csv.reader(self._lines(taken), delimiter=self.delimiter, quoting=quoting)
        last = 0
        for cells in reader:
            if cells:
                yield last + 1, cells, "".join(taken)
            last = reader.line_num
            taken.clear()

    def _lines(self, taken: list[str]) -> Iterator[str]:
        for line in io.TextIOWrapper(io.BytesIO(self.content), "utf-8", newline=""):
            taken.append(line)
            yield line

    def _quotes_are_literal(self) -> bool:
        """Whether quotes are characters like any other, as in plain TSV: only then every line is a row."""
        records = [(len(cells), _height(text)) for _, cells, text in self.records()]
        if {height for _, height in records} == {1} and len({width for width, _ in records}) == 1:
            return self._unclosed() is not None
        self.quote = None
        widths = {len(cells) for _, cells, _ in self.records()}
        self.quote = '"'
        return len(widths) == 1

    def header(self) -> tuple[list[str], int, int]:
        """The cells of the first record, where the next one starts, and where the first does."""
        try:
            start, cells, text = next(self.records())
        except csv.Error as error:
            raise DataError(f"{self.source}, line 1: {clean(error)}") from None
        first = self._offset(start - 1)
        return cells, first + len(text.encode()), first

    def _offset(self, lines: int) -> int:
        """Where the text goes on after so many lines."""
        ends = re.compile(rb"\r\n|\n|\r").finditer(self.content)
        return max((end.end() for end in itertools.islice(ends, lines)), default=0)

    def explain(self, reason: str) -> DataError:
        """Why Arrow could not parse the text, with the line."""
        width = len(self.names)
        try:
            for start, cells, text in self.records():
                if len(cells) == width:
                    continue
                if _height(text) > 1:
                    reason = "a quote opened here is not closed in the same row; close it, or double it"
                else:
                    reason = f"{plural(len(cells), 'cell')} where the header has {width}"
                return DataError(f"{self.source}, line {start}: {reason}")
        except csv.Error as error:
            return DataError(f"{self.source}: {clean(error)}")
        unclosed = self._unclosed()
        if unclosed is not None:
            return DataError(f"{self.source}, line {unclosed}: a quote opened here is never closed; close it")
        return DataError(f"{self.source}: is not a table of text ({clean(reason)})")

    def _unclosed(self) -> int | None:
        """The line of the record that is still inside quotes when the text ends."""
        start, text = 0, ""
        for start, _, text in self.records():  # noqa: B007
            pass
        return start if "unexpected end" in _fault(text, self.delimiter) else None

    def check_quotes(self) -> None:
        """Refuse cells that contain whole rows: the trace of a quote that was never closed."""
        if self.content.count(b'"') % 2 and (line := self._unclosed()) is not None:
            raise DataError(f"{self.source}, line {line}: a quote opened here is never closed; close it")
        width = len(self.names)
        if width == 1:
            return
        for start, record, text in self.records():
            height = _height(text)
            if height == 1:
                continue
            inner = [line for cell in record for line in cell.splitlines()[1:-1]]
            if any(line.count(self.delimiter) == width - 1 for line in inner) or _fault(text, self.delimiter):
                reason = f"a quote opened here takes in the rows until line {start + height - 1}; close it"
                raise DataError(f"{self.source}, line {start}: {reason}")

    def _record(self, row: int) -> tuple[int, list[str]]:
        if len(self.names) == 1:
            return self._single(row)
        for index, (start, cells, _) in enumerate(self.records()):
            if index - self.skip == row:
                return start, cells
        return row + 1, []

    def _single(self, row: int) -> tuple[int, list[str]]:
        """A record of a file with one column, in which a blank line is a missing cell."""
        first, _, text = next(self.records())
        body = first + _height(text) - 1 if self.skip else first - 1
        reader = csv.reader(self._lines([]), delimiter=self.delimiter)
        count, last = -1, 0
        for cells in reader:
            count += last >= body
            if count == row:
                return last + 1, cells or [""]
            last = reader.line_num
        return row + 1, []

    def place(self, row: int) -> str:
        """`line 7`: where a row is in the file."""
        return f"line {self._record(row)[0]}"

    def cell(self, row: int, name: str) -> str:
        """A cell as it stands in the file."""
        return dict(zip(self.names, self._record(row)[1], strict=False)).get(name, "")
