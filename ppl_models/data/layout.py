"""Where the table is in delimited text: what stands before, under and after it, and how it is written.

Lines that are no rows are blanked out, not taken out, so that every message still names the right line. What
was found is told; nothing is passed over in silence.
"""

import csv
import re
from collections import Counter
from dataclasses import dataclass, field

from ppl_models.data.cells import NUMBER
from ppl_models.data.messages import listed, plural, quoted

DELIMITERS = (",", "\t", ";", "|")
_HEAD, _TAIL = 1 << 16, 1 << 13
"""Bytes at the beginning and at the end that are looked at."""

_ROWS = 200
_SPELLED = {"\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "spaces", ",": "commas"}
_UNIT = re.compile(r"[(\[{].*[)\]}]|%|[€$£]")
_COMMA = re.compile(r"[^\d.,]*(\d{1,3}(\.\d{3})+,\d+|\d+,(\d{1,2}|\d{4,}))[^\d.,]*", re.ASCII)
_POINT = re.compile(r"[^\d.,]*(\d{1,3}(,\d{3})+\.\d+|\d+\.(\d{1,2}|\d{4,}))[^\d.,]*", re.ASCII)


@dataclass
class Layout:
    """How delimited text is written.

    Attributes:
        content: The text, with blank lines for those that are no rows.
        delimiter: What separates cells.
        header: The names of the columns, if they are not simply the first record.
        decimal: The decimal mark, if cells tell it.
        texts: Columns with numbers that begin with a zero, such as `02134`, which are no quantities.
        notes: What was found, a sentence each.
    """

    content: bytes
    delimiter: str
    header: list[str] | None = None
    decimal: str | None = None
    texts: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def layout(content: bytes, suffix: str, delimiter: str | None) -> Layout:
    """Find the table in a text.

    Args:
        content: The text, as UTF-8.
        suffix: What the name of its file ends in.
        delimiter: What separates cells, if the user said so.
    """
    lines = content[:_HEAD].splitlines(keepends=True)
    if len(content) > _HEAD and len(lines) > 1:
        lines = lines[:-1]  # it may be cut
    gone: set[int] = set()
    notes: list[str] = []
    if lines and (said := re.fullmatch(rb'"?sep=(.)"?[\r\n]*', lines[0])):
        gone.add(0)
        delimiter = delimiter or said[1].decode("latin-1")
    comments = _comments(lines, gone)
    rest = [line for i, line in enumerate(lines) if i not in gone]
    found = delimiter or _delimiter(rest, suffix)
    header = None
    if comments:
        last = comments[-1]
        names = _cells(lines[last].lstrip(b"# \t"), found)
        first = next((_cells(line, found) for line in rest if line.strip()), [])
        numeric = bool(first) and all(NUMBER.fullmatch(cell.strip()) for cell in first)
        if len(names) == len(first) and numeric and not all(map(NUMBER.fullmatch, names)):
            header = names
            comments = comments[:-1]
        if comments:
            notes.append(f"passed over {plural(len(comments), 'line')} of comments before the table")
    if found == " ":
        content = re.sub(rb'("[^"\n]*")|[ \t]+(?=[\r\n]|$)|(?<=\n)[ \t]+|[ \t]+', _one_space, content)
        content = content.lstrip(b" ")
        lines = [re.sub(rb'("[^"\n]*")|[ \t]+', _one_space, line.strip(b" \t")) for line in lines]
    made = Layout(content, found, header, notes=notes)
    if delimiter is None and found != ("\t" if suffix == ".tsv" else ",") and suffix in (".csv", ".tsv"):
        notes.append(f"cells are separated by {_SPELLED.get(found, quoted(found))}")
    if not any(b'"' in line for line in lines) or _balanced(lines, found):
        _frame(made, lines, gone)
    made.content = _blanked(made.content, gone)
    return made


def _one_space(match: "re.Match[bytes]") -> bytes:
    if match[1] is not None:
        return match[1]
    end = match.end() == len(match.string) or match.string[match.end() : match.end() + 1] in (b"\r", b"\n")
    begin = match.start() == 0 or match.string[match.start() - 1 : match.start()] == b"\n"
    return b"" if end or begin else b" "


def _comments(lines: list[bytes], gone: set[int]) -> list[int]:
    """The lines at the top that begin with a hash, unless all do."""
    found = []
    for i, line in enumerate(lines):
        if i in gone or not line.strip():
            continue
        if not line.startswith(b"#") or re.match(rb"#N/A\b", line):
            break
        found.append(i)
    else:
        return []
    gone.update(found)
    return found


def _cells(line: bytes, delimiter: str) -> list[str]:
    text = line.decode("utf-8", "replace").strip("\r\n")
    if delimiter == " ":
        text = " ".join(text.split())
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []


def _delimiter(lines: list[bytes], suffix: str) -> str:
    """What splits the most lines into the same number of cells, that of the suffix if it does as well.

    Spaces are a last resort, as words have them too.
    """
    usual = "\t" if suffix == ".tsv" else ","
    filled = [line for line in lines[:_ROWS] if line.strip()]

    def regular(mark: str) -> tuple[float, int]:
        widths = Counter(len(_cells(line, mark)) for line in filled)
        widths.pop(1, None)
        if not widths:
            return 0.0, 0
        width, number = widths.most_common(1)[0]
        return number / len(filled), width

    scores = {mark: regular(mark) for mark in DELIMITERS}
    if scores[usual][0] == 1.0 or (len(filled) < 2 and scores[usual][0] > 0):
        return usual
    best = max(DELIMITERS, key=lambda mark: (round(scores[mark][0], 1), mark == usual, scores[mark][1]))
    if scores[best][0] > 0 and (best == usual or scores[best][0] > scores[usual][0]):
        return best
    share, width = regular(" ") if scores[usual][0] == 0 else (0.0, 0)
    numbers = filled[-1].split() if filled else []
    if share > 0.6 and width > 1 and any(NUMBER.fullmatch(c.decode("utf-8", "replace")) for c in numbers):
        return " "
    return usual


def _balanced(lines: list[bytes], delimiter: str) -> bool:
    """Whether no quoted cell goes on in the next line, so that lines are records."""
    return all(line.count(b'"') % 2 == 0 for line in lines)


def _frame(made: Layout, lines: list[bytes], gone: set[int]) -> None:
    """Find the preamble, the header, the units below it, and the marks of numbers."""
    rows = [(i, _cells(line, made.delimiter)) for i, line in enumerate(lines) if i not in gone]
    rows = [(i, cells) for i, cells in rows if any(cell.strip() for cell in cells)]
    if not rows:
        return
    width = Counter(len(cells) for _, cells in rows[:_ROWS]).most_common(1)[0][0]
    if width < 2:
        return
    body = rows
    if made.header is None:
        body = _after_preamble(made, rows, width, gone)
        if body and len(body) > 1:
            top = [cell.strip() for cell in body[0][1]]
            if len(top) == width - 1 and all(len(cells) == width for _, cells in body[1:]):
                made.header = _shifted(made, top, [cells for _, cells in body[1:]])
            elif _counted(top) and not all(_within(cells, width) for _, cells in body[1:_ROWS]):
                made.header = top
                made.notes.append(
                    f"the numbers {listed(top, 3)} of the first line are the names of the columns"
                )
            if made.header is not None:
                gone.add(body[0][0])
        body = body[1:]
        if body and _units([cell.strip() for cell in body[0][1]]):
            gone.add(body[0][0])
            names = _cells(lines[rows[len(rows) - len(body) - 1][0]], made.delimiter)
            said = [f"{n} {u.strip()}" for n, u in zip(names, body[0][1], strict=False) if u.strip()]
            made.notes.append(f"the line under the header says the units: {listed(said, 8)}")
            body = body[1:]
    cells = [cell.strip() for _, row in body for cell in row]
    commas, points = (sum(bool(mark.fullmatch(cell)) for cell in cells) for mark in (_COMMA, _POINT))
    if commas and not points and made.delimiter != ",":
        made.decimal = ","
    made.texts = {
        j for _, row in body for j, cell in enumerate(row) if re.fullmatch(r"0\d+", cell.strip(), re.A)
    }


def _after_preamble(
    made: Layout, rows: list[tuple[int, list[str]]], width: int, gone: set[int]
) -> list[tuple[int, list[str]]]:
    """The records from the header on."""
    start = 0
    for start, (_, cells) in enumerate(rows[:50]):  # noqa: B007
        filled = sum(bool(cell.strip()) for cell in cells)
        if len(cells) >= width - 1 and filled >= max(2, (width + 1) // 2):
            break
    else:
        return rows
    before = rows[:start]
    if not before or any(len(cells) > 2 and all(c.strip() for c in cells) for _, cells in before):
        return rows
    gone.update(i for i, _ in before)
    made.notes.append(
        f"passed over {plural(len(before), 'line')} before the header, the first {quoted(before[0][1][0])}"
    )
    return rows[start:]


def _shifted(made: Layout, top: list[str], rows: list[list[str]]) -> list[str]:
    """The header of a table whose rows have one cell more: a name of the row, or a blank last one."""
    if all(not cells[-1].strip() for cells in rows):
        return [*top, ""]
    made.notes.append("the header has one name less than the rows have cells, as R writes it")
    return ["", *top]


def _counted(top: list[str]) -> bool:
    """Whether names are 0, 1, 2, … or other numbers that follow one another, maybe after a blank one."""
    names = top[1:] if top and not top[0] else top
    if len(names) < 2 or not all(name.isascii() and name.isdigit() for name in names):
        return False
    numbers = [int(name[:9]) for name in names]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _within(cells: list[str], width: int) -> bool:
    """Whether a record could be followed by such a header: whole numbers no larger than its width."""
    return all(c.strip().isascii() and c.strip().isdigit() and int(c.strip()[:9]) < width for c in cells)


def _units(cells: list[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(_UNIT.fullmatch(cell) for cell in filled) and len(filled) < len(cells) + 1


def _blanked(content: bytes, gone: set[int]) -> bytes:
    """The text without what some of its first lines hold."""
    if not gone:
        return content
    ends = [match.end() for match in _first_lines(content, max(gone) + 1)]
    starts = [0, *ends]
    pieces = []
    for i, end in enumerate(ends):
        line = content[starts[i] : end]
        pieces.append(line[len(line.rstrip(b"\r\n")) :] if i in gone else line)
    return b"".join(pieces) + content[ends[-1] :] if ends else content


def _first_lines(content: bytes, number: int) -> "list[re.Match[bytes]]":
    from itertools import islice

    return list(islice(re.finditer(rb"[^\r\n]*(\r\n|\n|\r|$)", content), number))


_FOOT = re.compile(r"[*†‡#(]|note|source|quelle|fuente|\w+:|©|generated|erstellt|stand\b", re.IGNORECASE)


def without_footer(content: bytes, delimiter: str) -> tuple[bytes, list[str]]:
    """The text without the remarks under the table: last lines with a single cell, after a blank line or so.

    Args:
        content: The text.
        delimiter: What separates cells.
    """
    begin = max(len(content) - _TAIL, 0)
    tail = content[begin:].splitlines(keepends=True)
    at, gone = len(tail), 0
    while at > 1:
        cells = [cell.strip() for cell in _cells(tail[at - 1], delimiter)]
        filled = [cell for cell in cells if cell]
        if filled and (len(filled) > 1 or not _FOOT.match(filled[0]) or len(cells) > 1 and not cells[0]):
            break
        if tail[at - 1].count(b'"') % 2:
            break
        gone += bool(filled)
        at -= 1
    if not gone or b'"' in b"".join(tail[at:]) or at <= 1:
        return content, []
    kept = begin + sum(map(len, tail[:at]))
    return content[:kept], [f"passed over {plural(gone, 'line')} under the table"]
