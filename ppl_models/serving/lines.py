"""Lines of JSON in, lines of JSON out, each answered as soon as it has come.

Lines that have come by the time that the last ones are answered are answered together: one that is waited for
alone, a thousand of a file at once.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ppl_models.errors import DataError
from ppl_models.serving.answers import Row, Wrong, each

TOGETHER = 1_000
"""Lines that are answered at once, at most."""

LONGEST = 1 << 20
"""Bytes of a line, at most."""


def batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines that have come, as they come.

    Raises:
        DataError: one is longer than any row.
    """
    left = b""
    read = getattr(stream, "read1", stream.read)
    while piece := read(LONGEST):
        *lines, left = (left + piece).split(b"\n")
        if len(left) > LONGEST or any(len(line) > LONGEST for line in lines):
            raise DataError(f"stdin: a line of over {LONGEST:,} bytes; give one JSON object to a line")
        lines = [line for line in lines if line.strip()]
        for lo in range(0, len(lines), TOGETHER):
            yield lines[lo : lo + TOGETHER]
    if left.strip():
        yield [left]


def stream(source: BinaryIO, say: Callable[[str], Any], answer: Callable[[list[Row]], list[Row]]) -> None:
    """Answer lines until there are no more.

    Args:
        source: of the lines, an object each.
        say: writes the answers to some lines, one to a line.
        answer: an answer for each row.
    """
    for lines in batches(source):
        found = each([_parsed(line) for line in lines], answer)
        say("".join(f"{json.dumps(one, ensure_ascii=False, default=str)}\n" for one in found))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return Wrong(f"not JSON ({getattr(error, 'msg', error)})")
