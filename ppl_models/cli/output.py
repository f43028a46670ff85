"""What is printed: results on stdout, messages on stderr, and nothing that a terminal would obey."""

import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from ppl_models.cli.streams import results

if TYPE_CHECKING:
    import pandas

    from ppl_models.data import Dataset


def safe(text: object) -> str:
    r"""Text with control characters escaped, also those that reorder it.

    Example:
        >>> safe("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in str(text)
    )


def say(text: str = "") -> None:
    """Print a result, line by line safe, to stdout."""
    print("\n".join(safe(line) for line in text.split("\n")), file=results())


def note(text: str) -> None:
    """Print a remark to stderr; that nobody can read it is no reason to stop."""
    with suppress(OSError, ValueError, AttributeError):
        print(safe(text), file=sys.stderr, flush=True)


def complain(message: str, hint: str = "") -> None:
    """Print an error as `ppl: …`, in one line, and a hint in another."""
    note(f"ppl: {message}")
    if hint:
        note(hint)


def data_notes(data: "Dataset", quiet: bool) -> None:
    """Say on stderr what was done to the data, or noticed in it."""
    for remark in () if quiet else data.notes:
        note(f"{data.source}: {remark}")


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON value in one line; numbers that are not finite become null."""
    print(json.dumps(_finite(value), default=str, allow_nan=False), file=results())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_finite(item) for item in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return value


def emit(frames: "pandas.DataFrame | Iterable[pandas.DataFrame]", *, output: str, json: bool) -> None:
    """Write the table of a verb to a file or to stdout; on a terminal control characters are escaped.

    Args:
        frames: the table, or tables that follow one another.
        output: a path, or `-` for stdout.
        json: one JSON object a row, instead of CSV.

    Raises:
        OutputError: if it cannot be written.
    """
    from ppl_models.data import write_table

    if output == "-" and results().isatty():
        frames = map(_harmless, [frames] if hasattr(frames, "columns") else frames)  # type: ignore[arg-type]
    with redirect_stdout(results()):
        write_table(frames, output, json=json)


def _harmless(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    shown = frame.rename(columns=safe)
    for position, kind in enumerate(shown.dtypes):
        if kind.kind not in "biuf":
            cells = shown.iloc[:, position]
            shown.isetitem(position, cells.map(lambda cell: safe(cell) if isinstance(cell, str) else cell))
    return shown


def width() -> int:
    """Columns of the terminal; 80 where there is none."""
    with suppress(OSError, ValueError, AttributeError):
        if "COLUMNS" not in os.environ:
            return max(os.get_terminal_size(results().fileno()).columns, 16)
    return max(shutil.get_terminal_size().columns, 16)


def number(value: object) -> str:
    """A number as people read it; anything else as text.

    Example:
        >>> number(-1179.1409), number(0.000123), number(12345), number(float("nan")), number("x")
        ('-1179.14', '0.000123', '12345', '', 'x')
    """
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "" if math.isnan(value) else str(value)
    return f"{value:.6g}" if abs(value) >= 100 else f"{value:.4g}"


def table(rows: Iterable[Mapping[str, Any]], *, columns: int | None = None) -> str:
    """Rows as aligned text; where they do not fit, each row as lines of `name: value`.

    Args:
        rows: Mappings with the same keys.
        columns: The width to keep to; that of the terminal if there is one, else none.
    """
    given = list(rows)
    if not given:
        return ""
    names = list(given[0])
    cells = [[safe(number(row[name])) for name in names] for row in given]
    right = [all(isinstance(row[name], int | float | None) for row in given) for name in names]
    widths = [max(len(safe(name)), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    limit = columns if columns is not None else width() if results().isatty() else None
    if limit is not None and sum(widths) + 2 * (len(widths) - 1) > limit:
        blocks = ["\n".join(f"{safe(n)}: {c}" for n, c in zip(names, row, strict=True) if c) for row in cells]
        return "\n\n".join(blocks)
    lines = []
    for row in [[safe(name) for name in names], *cells]:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
