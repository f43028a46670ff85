"""JSON: an object on each line, one array of objects, or one object of columns."""

import json
from dataclasses import replace
from typing import Any

from ppl_models.data.encoding import to_utf8
from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean, quoted
from ppl_models.data.readers.base import ENCODING, File, Reader, Request
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError

_KINDS = {bool: "truth values", int: "numbers", float: "numbers", str: "text"}
"""What a cell of JSON can be, null and nested ones aside."""


def _read(file: File, request: Request) -> Table:
    from ppl_models.data.frames import from_columns
    from ppl_models.data.shaped import from_shapes, json_object, shaped
    from ppl_models.data.streaming import head, json_lines, streamed

    if (request.large or streamed(file)) and head(file).content().lstrip()[:1] == b"{":
        first = head(file).content().lstrip().partition(b"\n")[0].rstrip()
        if first.endswith(b"}"):  # an object to a line, and not one of columns
            return json_lines(file, _loads)
    content = to_utf8(file.content(), file.name, request.options["encoding"])
    found = json_object(content)
    if found is None:
        return _rows(content, file.name)
    table = from_shapes(found, file.name) if shaped(found) else from_columns(found, file.name)
    return replace(table, typed=False, came={})


def _rows(content: bytes, source: str) -> Table:
    """A row for each object; a key that an object lacks is a missing cell.

    Raises:
        DataError: It is not JSON, a row is not an object, or a cell is an object or a list.
    """
    from ppl_models.data.frames import column

    check_memory(source, 12 * len(content))  # as Python's objects
    objects, lines = _objects(content, source)
    if not objects:
        raise DataError(f"{source}: has no rows")

    def place(row: int) -> str:
        return f"line {lines[row]}" if lines else f"row {row + 1}"

    names: dict[str, None] = {}
    for row, item in enumerate(objects):
        if not isinstance(item, dict):
            raise DataError(
                f"{source}, {place(row)}: {quoted(json.dumps(item))} is not an object with a value for each "
                "column"
            )
        for name, cell in item.items():
            if isinstance(cell, dict | list):
                where = f"{source}, {place(row)}, column {quoted(name)}"
                raise DataError(f"{where}: a cell that is itself a list or an object; write plain values")
            names[name] = None
    check_names(source, list(names))
    columns, notes = {}, []
    for name in names:
        cells = [item.get(name) for item in objects]
        columns[name] = column(cells)
        kinds = sorted({_KINDS[type(cell)] for cell in cells if cell is not None})
        if len(kinds) > 1:
            notes.append(f"column {quoted(name)} holds {' and '.join(kinds)}, which are taken as they read")
    return Table(source, columns, len(objects), notes, place=place)


def _loads(text: bytes) -> Any:
    """JSON as Python's own parser has it, which refuses whatever it cannot read, and never crashes."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ.

    Raises:
        ValueError: A key comes twice, of which one value would be lost.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{quoted(next(n for n in names if names.count(n) > 1))} comes twice in an object")
    return found


def _objects(content: bytes, source: str) -> tuple[list[Any], list[int]]:
    """The rows, and the line of each (no lines for an array)."""
    if content.lstrip().startswith(b"["):
        try:
            return _loads(content), []
        except (ValueError, RecursionError) as error:
            raise DataError(f"{source}: is not JSON ({clean(error)})") from None
    objects, lines = [], []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            objects.append(_loads(line))
        except (ValueError, RecursionError) as error:
            reason = clean(getattr(error, "msg", error))
            raise DataError(
                f"{source}, line {number}: is not JSON, one object to a line ({reason})"
            ) from None
        lines.append(number)
    return objects, lines


READER = Reader(
    name="JSON",
    description="JSON lines, one JSON array of objects, or one JSON object of columns",
    suffixes=(".jsonl", ".ndjson", ".json"),
    read=_read,
    packed=True,
    starts=(b"{", b"["),
    options=(ENCODING,),
)
