"""Delimited text: CSV, TSV and their relatives.

Arrow parses; Python's slower `csv` reads the header, and names the line when something is wrong.
"""

import re
from collections.abc import Collection
from dataclasses import replace

from ppl_models.data.encoding import to_utf8
from ppl_models.data.files import check_memory
from ppl_models.data.lines import Lines
from ppl_models.data.messages import listed, quoted
from ppl_models.data.readers.base import ENCODING, File, Option, Reader, Request
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError

_NAMES = {",": ",", "\t": r"'\t'", ";": "';'", "|": "'|'", " ": "' '"}


def _read(file: File, request: Request) -> Table:
    from ppl_models.data.streaming import streamed

    large = request.large or streamed(file)
    return _streamed(file, request) if large else _whole(file, request)[0]


def _streamed(file: File, request: Request) -> Table:
    """A file that is larger than memory, or may be: by its beginning, if all of it is written like that."""
    from ppl_models.data.streaming import delimited, head

    part = head(file)
    table, text, body = _whole(part, request)
    rest, encoding = part.content(), request.options["encoding"]
    plain = rest.endswith(text.content[body:]) and table.decimal == "." and request.options["decimal"] == "."
    plain = plain and len(text.names) > 1 and all(text.names) and len({*text.names}) == len(text.names)
    if not plain or not table.columns or encoding.lower().replace("-", "") != "utf8":
        return _whole(file, request)[0]  # which refuses what does not fit
    lines = rest[: len(rest) - len(text.content[body:])].count(b"\n")
    nothing = (*request.usual, *request.missing)
    found = delimited(file, table, lines, text.names, text.delimiter, text.quote, nothing)
    if rest.count(b"\n") - lines > table.rows:  # rows of several lines
        found.place = lambda row: f"row {row + 1}"
    return found


def _whole(file: File, request: Request) -> tuple[Table, Lines, int]:
    """All rows of the content; and its text with the names of all columns, and where its first row begins."""
    from ppl_models.data.cells import NUMBER
    from ppl_models.data.layout import layout, without_footer
    from ppl_models.data.totals import filled, without_totals

    source, decimal = file.name, request.options["decimal"]
    content = to_utf8(file.content(), source, request.options["encoding"])
    found = layout(content, file.suffix, request.options["delimiter"])
    notes = found.notes
    if decimal == "." and found.decimal is not None:
        decimal = found.decimal
        notes.append("numbers have a decimal comma; --decimal , says so from the start")
    content, more = without_footer(found.content, found.delimiter)
    notes += more
    text = Lines(content, source, found.delimiter)
    header, body, first = text.header()
    text.skip = 1
    if found.header is not None:
        header, body = found.header, first
        text.skip = 0
    elif all(NUMBER.fullmatch(cell.strip().replace(decimal, ".")) for cell in header):
        header, body = [f"x{i}" for i in range(len(header))], first
        text.skip = 0
        notes.append(f"there is no header; the columns are called {listed(header)}")
    else:
        _check_delimiter(text, header, request.options["delimiter"])
    names = [name or f"\x00{i}" if i else name for i, name in enumerate(header)]
    twins = {i for i, name in enumerate(names) if name in names[:i]}
    for i in twins:
        names[i] = f"\x00{i}"
    text.names = names
    if not content[body:].strip():
        raise DataError(f"{source}: has a header and no rows")
    request = replace(
        request,
        options={**request.options, "decimal": decimal},
        wanted=None if request.wanted is None else request.wanted | {n for n in names if n[:1] == "\x00"},
    )
    columns = _parse(text, body, request)
    for i, name in enumerate(names):
        if name[:1] == "\x00" and name in columns and not filled(columns[name], request.usual).any():
            del columns[name]
            called = quoted(header[i]) if header[i] else "without a name"
            notes.append(f"left out column {i + 1}, {called}, in which every cell is empty")
    rest = [header[i] for i, n in enumerate(names) if n[:1] != "\x00" or n in columns]
    check_names(source, rest)
    text.names = [name for i, name in enumerate(header) if names[i][:1] != "\x00" or i == 0] and header
    rows = len(next(iter(columns.values()))) if columns else 0
    if text.skip:
        notes += _doubts(columns)
    table = Table(source, columns, rows, notes, place=text.place, cell=text.cell, names=rest)
    table.decimal, table.quoted_commas = decimal, found.delimiter == ","
    return without_totals(table, request.usual), text, body


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
                # Arrow takes 1.250 for a number even where the decimal mark is a comma.
                column_types={
                    name: pa.string()
                    for name in names
                    if name in as_text or request.options["decimal"] != "."
                },
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


def _check_delimiter(text: Lines, header: list[str], delimiter: str | None) -> None:
    if delimiter is not None or len(header) > 1:
        return
    from ppl_models.data.layout import DELIMITERS

    for other in DELIMITERS:
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
