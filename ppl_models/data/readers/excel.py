"""Sheets of Excel workbooks.

Cells have the types that the workbook gives them: numbers, text, truth values, dates and times. Blank cells
are missing, and so are errors such as #N/A. The first row that is not blank is the header; blank rows are
passed over, unless there is but one column, in which they are missing cells.
"""

import datetime
import posixpath
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean, listed, plural, quoted
from ppl_models.data.readers.base import File, Option, Reader, Request
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import pyarrow
    from python_calamine import CalamineWorkbook

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    ElementTree.ParseError,
    RuntimeError,  # of an archive that is encrypted, or of a version that does not exist
    OSError,
    EOFError,
    KeyError,
    ValueError,
    OverflowError,
)
"""What Python raises at a damaged workbook."""

_PLACE = re.compile(rb"\sr\s*=\s*[\"']([A-Za-z]*)(\d*)[\"']")
"""Where a row or a cell says that it is."""

_CELL_BYTES = 64
"""Of a cell, filled or not: calamine makes a whole rectangle, and so does Python."""

_PROBE = """
import sys
sys.path[:] = sys.argv[2:]
from python_calamine import CalamineWorkbook
book = CalamineWorkbook.from_path(sys.argv[1])
for index in range(len(book.sheet_names)):
    book.get_sheet_by_index(index)
"""

_ERROR = re.compile(rb'<(?:\w+:)?c\s(?=[^>]*\bt="e")[^>]*\br="(\w+)"[^>]*>.*?<(?:\w+:)?v>([^<]*)<', re.DOTALL)


def _read(file: File, request: Request) -> Table:
    """A sheet of a workbook.

    Raises:
        DataError: It is encrypted or damaged, has no such sheet, or the sheet holds no table.
    """
    from python_calamine import CalamineWorkbook

    with _guard(file.name):
        check_memory(file.name, 4 * _size(file.path))
        _probe(file)
        with CalamineWorkbook.from_path(str(file.path)) as book:
            sheet, notes = _sheet(book, file.name, request.options["sheet"])
            source = file.name if len(book.sheet_names) == 1 else f"{file.name}, sheet {quoted(sheet)}"
            check_memory(source, _CELL_BYTES * _extent(file.path, sheet))
            content = book.get_sheet_by_name(sheet)
            first = content.start or (0, 0)
            cells = content.to_python(skip_empty_area=True)
    rows = [(first[0] + i + 1, row) for i, row in enumerate(cells) if any(map(_filled, row))]
    if not rows:
        raise DataError(f"{source}: is empty")
    width = max(max(j for j, cell in enumerate(row) if _filled(cell)) for _, row in rows) + 1
    if width == 1:  # blank rows between others are missing cells
        begin, end = rows[0][0], rows[-1][0]
        rows = [(number, cells[number - first[0] - 1]) for number in range(begin, end + 1)]
    names, header_notes = _header(rows[0], width, first[1], source)
    rows = rows if header_notes else rows[1:]
    if not rows:
        raise DataError(f"{source}: has a header and no rows")
    notes += header_notes + _errors(file.path, sheet)
    columns = {
        name: _column([row[j] for _, row in rows])
        for j, name in enumerate(names)
        if name in request.chosen(names)
    }
    prefix = "" if source == file.name else f"sheet {quoted(sheet)}, "
    table = Table(file.name, columns, len(rows), notes, names=names)
    table.place = lambda row: f"{prefix}row {rows[row][0] if row < len(rows) else row + 1}"
    return table


def _size(path: Path) -> int:
    """Bytes of a workbook, unpacked if it is an archive."""
    if not zipfile.is_zipfile(path):
        return path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        return sum(item.file_size for item in archive.infolist())


def _probe(file: File) -> None:
    """Open a workbook that is no archive in a process of its own first.

    Calamine ends the process where a damaged one asks for more memory than there is, which nobody can catch.

    Raises:
        DataError: That process was ended.
    """
    with open(file.path, "rb") as opened:
        archive = opened.read(4) == b"PK\x03\x04"
    if archive or not sys.executable:
        return
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(file.path), *sys.path],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):  # 1: it is refused, which is said below
        raise DataError(f"{file.name}: is not an Excel workbook, or is damaged (it asks for too much memory)")


def _extent(path: Path, sheet: str) -> int:
    """The cells of the rectangle in which those of a sheet lie; of an archive, where XML tells."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        places = _PLACE.findall(archive.read(_part(archive, sheet)))
    rows = {int(digits) for _, digits in places if digits}
    letters = {letters.upper() for letters, _ in places if letters}
    columns = [sum((c - 64) * 26**i for i, c in enumerate(reversed(each))) for each in letters]
    return (max(rows, default=0) + 1) * (max(columns, default=0) + 1)


@contextmanager
def _guard(name: str) -> Iterator[None]:
    """Say in one line that a file is encrypted or damaged."""
    from python_calamine import CalamineError, PasswordError

    try:
        yield
    except DataError:
        raise
    except PasswordError:
        raise DataError(f"{name}: is encrypted; save it without a password") from None
    except BaseException as error:
        # Calamine, which is in Rust, panics at some damaged files: that is no `Exception` in Python.
        if not isinstance(error, (CalamineError, *_DAMAGED)) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{name}: is not an Excel workbook, or is damaged ({clean(error)})") from None


def _sheet(book: "CalamineWorkbook", source: str, wanted: str | None) -> tuple[str, list[str]]:
    """The name of the sheet to read: the first, unless it was named; and a note of the others."""
    from python_calamine import SheetTypeEnum

    names = [each.name for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
    if wanted is not None and wanted not in names:
        raise DataError(f"{source}: has no sheet {quoted(wanted)}; it has {listed(names, 12)}")
    if not names:
        raise DataError(f"{source}: has no sheet with cells")
    if wanted is not None:
        return wanted, []
    others = names[1:]
    note = f"read the first sheet, {quoted(names[0])}; --sheet reads one of the others: {listed(others)}"
    return names[0], [note] if others else []


def _filled(cell: Any) -> bool:
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None


def _header(row: tuple[int, list[Any]], width: int, left: int, source: str) -> tuple[list[str], list[str]]:
    """The names of the columns, and a note if there is no header: if the first row is all numbers."""
    number, cells = row[0], row[1][:width]
    if all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells):
        names = [f"x{j}" for j in range(width)]
        return names, [f"there is no header; the columns are called {listed(names)}"]
    names = [_text(cell) or "" for cell in cells]
    blank = [_letters(left + j) for j, name in enumerate(names) if j > 0 and not name.strip()]
    if blank:
        raise DataError(
            f"{source}: the header, row {number}, has no name for column {', '.join(blank[:6])}; name it, or "
            "remove the column"
        )
    check_names(source, names)
    return names, []


def _letters(column: int) -> str:
    """What a spreadsheet calls a column, counting from zero: A to Z, then AA."""
    found = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        found = chr(ord("A") + rest) + found
    return found


def _column(cells: list[Any]) -> "pyarrow.ChunkedArray":
    """Cells of one type as an Arrow column of it; a mixture becomes text, to be judged like a file's."""
    import pyarrow as pa

    values = [cell if _filled(cell) else None for cell in cells]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {datetime.date, datetime.datetime}:
        values = [
            datetime.datetime(v.year, v.month, v.day) if type(v) is datetime.date else v for v in values
        ]
    elif len(kinds) > 1 and not kinds <= {int, float}:
        values = [None if value is None else _text(value) for value in values]
    elif kinds <= {int, float} and kinds:
        whole = all(v is None or (v == v and abs(v) < 2**53 and v == int(v)) for v in values)
        values = pa.array(values, pa.float64(), from_pandas=True)
        values = values.cast(pa.int64()) if whole else values
    return pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)])


def _text(cell: Any) -> str:
    """A cell as text: numbers as labels are written, truth values in small letters, dates as ISO 8601."""
    from ppl_models.data.cells import label

    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int | float):
        return label(cell)
    return cell.isoformat(" ") if isinstance(cell, datetime.datetime) else str(cell)


def _errors(path: Path, sheet: str) -> list[str]:
    """A note of the cells with errors, which calamine gives as blank ones; of .xlsx, where XML tells them."""
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(_part(archive, sheet))
    except _DAMAGED:
        return []
    found = _ERROR.findall(content) if b't="e"' in content else []
    if not found:
        return []
    where, what = (clean(text.decode("utf-8", "replace")) for text in found[0])
    return [f"{plural(len(found), 'cell')} with an error, such as {what} in {where}, taken as missing"]


def _part(archive: zipfile.ZipFile, sheet: str) -> str:
    """The name in the archive of the XML of a sheet; `KeyError` if there is none."""
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    links = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    targets = {each.get("Id"): each.get("Target", "") for each in links}
    for each in book.iter():
        if each.tag.endswith("}sheet") and each.get("name") == sheet:
            identity = next((value for key, value in each.items() if key.endswith("}id")), None)
            return posixpath.normpath(posixpath.join("/xl", targets[identity])).lstrip("/")
    raise KeyError(sheet)


READER = Reader(
    name="Excel",
    description="a sheet of an Excel workbook",
    suffixes=(".xlsx", ".xlsm", ".xls"),
    read=_read,
    options=(
        Option(
            name="sheet",
            help="The sheet of a workbook; the first if not given.",
            metavar="NAME",
        ),
    ),
    extra="excel",
    module="python_calamine",
)
