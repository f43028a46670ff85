"""Delimited text: CSV, TSV and their relatives.

Arrow parses; Python's slower `csv` reads the header, and names the line when something is wrong.
"""

import re
from collections.abc import Collection

from ppl_models.data.encoding import to_utf8
from ppl_models.data.files import check_memory
from ppl_models.data.lines import Lines
from ppl_models.data.messages import listed, quoted
from ppl_models.data.readers.base import ENCODING, File, Option, Reader, Request
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError

_DELIMITERS = (",", "\t", ";", "|")
_NAMES = {",": ",", "\t": r"'\t'", ";": "';'", "|": "'|'", " ": "' '"}


def _read(file: File, request: Request) -> Table:
    from ppl_models.data.cells import NUMBER

    source, delimiter, decimal = file.name, request.options["delimiter"], request.options["decimal"]
    content = to_utf8(file.content(), source, request.options["encoding"])
    text = Lines(content, source, delimiter or _delimiter(content, file.suffix))
    header, body, first = text.header()
    _check_delimiter(text, header, delimiter)
    notes = []
    if all(NUMBER.fullmatch(cell.strip().replace(decimal, ".")) for cell in header):
        header, body = [f"x{i}" for i in range(len(header))], first
        text.skip = 0
        notes.append(f"there is no header; the columns are called {listed(header)}")
    else:
        check_names(source, header)
        text.skip = 1
    text.names = header
    if not content[body:].strip():
        raise DataError(f"{source}: has a header and no rows")
    columns = _parse(text, body, request)
    if text.skip:
        notes += _doubts(columns)
    rows = len(next(iter(columns.values()))) if columns else 0
    return Table(source, columns, rows, notes, place=text.place, cell=text.cell, names=header)


def _parse(text: Lines, body: int, request: Request) -> dict:
    """The columns that are wanted, as Arrow arrays."""
    chosen = request.chosen(text.names)
    if not chosen:
        return {}
    import pyarrow as pa
    import pyarrow.csv as pc

    from ppl_models.data.codes import as_codes

    rest = memoryview(text.content)[body:]
    has_quotes = text.quote is not None and b'"' in text.content
    single = len(text.names) == 1
    if single:
        rest = memoryview(bytes(rest).rstrip(b"\r\n"))
    check_memory(text.source, 2 * len(rest))

    def parsed(names: list[str], as_text: Collection[str]) -> dict:
        table = pc.read_csv(
            pa.BufferReader(pa.py_buffer(rest)),
            read_options=pc.ReadOptions(column_names=text.names),
            parse_options=pc.ParseOptions(
                delimiter=text.delimiter,
                quote_char=text.quote or False,
                newlines_in_values=has_quotes,
                ignore_empty_lines=not single,
            ),
            convert_options=pc.ConvertOptions(
                null_values=[token for token in (*request.usual, *request.missing) if token != "?"],
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
                decimal_point=request.options["decimal"],
                include_columns=names,
                column_types={name: pa.string() for name in as_text if name in names},
            ),
        )
        return dict(zip(table.column_names, table.columns, strict=True))

    try:
        columns = parsed(chosen, request.as_text)
    except pa.ArrowInvalid as error:
        raise text.explain(str(error)) from None
    if has_quotes and text.content.count(b"\n", body) > len(columns[chosen[0]]):
        text.check_quotes()
    return columns | as_codes(columns, rest, text.delimiter, lambda names: parsed(names, names))


def _doubts(columns: dict) -> list[str]:
    """A remark if the header might be data: if its words are also values below it."""
    import pyarrow as pa

    words = [name for name, cells in columns.items() if pa.types.is_string(cells.type)]
    also = [name for name in words if columns[name].to_pylist().count(name) > 1]
    if not also:
        return []
    return [f"the first line was read as the header, but has values of the rows below: {listed(also)}"]


def _delimiter(content: bytes, suffix: str) -> str:
    """Commas in .csv, tabs in .tsv; elsewhere whichever is most frequent in the first line with text."""
    if suffix in (".csv", ".tsv"):
        return "\t" if suffix == ".tsv" else ","
    line = content.lstrip()[:65536].splitlines()[0].decode("utf-8", "replace")
    return max(_DELIMITERS, key=line.count)


def _check_delimiter(text: Lines, header: list[str], delimiter: str | None) -> None:
    if delimiter is not None or len(header) > 1:
        return
    for other in _DELIMITERS:
        if other != text.delimiter and other in header[0]:
            hint = f"--delimiter {_NAMES[other]}"
            if other == ";" and re.search(rb"\d,\d", text.content[:10000]):
                hint += " --decimal ,"
            raise DataError(
                f"{text.source}: the header {quoted(header[0])} looks like several columns; use {hint}"
            )


READER = Reader(
    name="CSV and TSV",
    description="CSV, TSV and other delimited text",
    suffixes=(".csv", ".tsv", ".txt"),
    read=_read,
    packed=True,
    starts=(b"",),
    options=(
        Option(
            name="delimiter",
            help="What separates cells; found out if not given (\\t for a tab).",
            metavar="CHAR",
            strict=False,
        ),
        Option(
            name="decimal",
            help="The decimal mark, . or a comma; . if not given.",
            metavar="CHAR",
            default=".",
            strict=False,
        ),
        ENCODING,
    ),
)
