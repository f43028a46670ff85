"""Forbidden transitions from a file: pairs of states, or a square table of what may follow what.

    from,to          ,calm,wild,storm
    calm,storm   or  calm,1,1,0
    storm,calm       wild,1,1,1
                     storm,0,1,1

A table has 1 where the state of the column may follow that of the row, and 0 where it may not. Without names
it speaks of the states by number.
"""

import csv
from pathlib import Path

from ppl_models.errors import DataError


def transitions(path: str) -> str:
    """The forbidden transitions of a file, as the field `forbid` has them: `calm>storm,storm>calm`.

    Args:
        path: of a CSV file.

    Raises:
        DataError: it cannot be read, or is neither pairs nor a square table of 0 and 1.
    """
    lines = _lines(path)
    if [cell.casefold() for cell in lines[0][1]] == ["from", "to"]:
        return ",".join(_pair(path, at, cells) for at, cells in _some(path, lines[1:]))
    return ",".join(_table(path, lines))


def _lines(path: str) -> list[tuple[int, list[str]]]:
    """Lines that are not empty, by their number from 1."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of forbidden transitions") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path}: forbidden transitions are a CSV file in UTF-8, which this is not") from None
    return _some(path, [(at, cells) for at, cells in found if any(cells)])


def _some(path: str, lines: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    if not lines:
        raise DataError(f"{path}: there are no transitions in it")
    return lines


def _pair(path: str, at: int, cells: list[str]) -> str:
    if len(cells) != 2 or not all(cells):
        raise DataError(f"{path}, line {at}: a pair is two states, from and to; got {','.join(cells)!r}")
    return ">".join(_name(path, at, cell) for cell in cells)


def _name(path: str, at: int, name: str) -> str:
    if "," in name or ">" in name:
        raise DataError(f"{path}, line {at}: the state {name!r} has a comma or > in its name; use its number")
    return name


def _table(path: str, lines: list[tuple[int, list[str]]]) -> list[str]:
    """The pairs whose cell is 0."""
    first, head = lines[0]
    if all(cell in ("0", "1") for cell in head) and len(head) == len(lines):
        named = [str(k) for k in range(len(head))]
        rows = [(at, named[k], cells) for k, (at, cells) in enumerate(lines)]
    else:
        named = head[1:]
        rows = [(at, cells[0], cells[1:]) for at, cells in lines[1:]]
        own = [name for _, name, _ in rows]
        if not named or len({*named}) < len(named) or sorted(own) != sorted(named):
            raise DataError(
                f"{path}, line {first}: forbidden transitions are lines from,to under that heading, or a "
                "square table with the same states above and on the left; got "
                f"{', '.join(named) or 'none'} above and {', '.join(own) or 'none'} on the left"
            )
    found = []
    for at, left, cells in rows:
        if len(cells) != len(named):
            raise DataError(f"{path}, line {at}: expected {len(named)} cells for {left!r}, got {len(cells)}")
        for right, cell in zip(named, cells, strict=True):
            if cell not in ("0", "1"):
                raise DataError(
                    f"{path}, line {at}: {left} to {right} must be 1 (may follow) or 0 (may not), "
                    f"got {cell!r}"
                )
            if cell == "0":
                found.append(f"{_name(path, at, left)}>{_name(path, at, right)}")
    return found
