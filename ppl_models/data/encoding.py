"""Text in any encoding, as UTF-8."""

import codecs

from ppl_models.data.messages import clean, quoted
from ppl_models.errors import DataError, UsageError

_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def to_utf8(content: bytes, source: str, encoding: str) -> bytes:
    """The text as UTF-8 without a byte order mark.

    Args:
        content: The bytes of a file.
        source: What messages call it.
        encoding: A name that Python knows.

    Raises:
        UsageError: There is no such encoding.
        DataError: The text is in another encoding, contains NUL bytes, or is nothing but white space.
    """
    try:
        utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
        "".encode(encoding)
    except (LookupError, UnicodeError, ValueError):
        raise UsageError(f"encoding {quoted(encoding)} is not known; try utf-8, latin-1 or utf-16") from None
    if utf8:
        for mark, name in _BOMS:
            if content.startswith(mark):
                raise DataError(f"{source}: the text is {name.upper()}, not UTF-8; use --encoding {name}")
        content = content.removeprefix(b"\xef\xbb\xbf")
    nul = content.find(b"\0") if utf8 else -1
    if nul < 0:
        content = _decoded(content, source, encoding, utf8)
        nul = content.find(b"\0")
    if nul >= 0:
        line = content.count(b"\n", 0, nul) + 1
        if content[:400].count(b"\0") * 3 > len(content[:400]):
            raise DataError(f"{source}, line {line}: the text looks like UTF-16; use --encoding utf-16-le")
        raise DataError(f"{source}, line {line}: a NUL byte; the file is damaged or is not text")
    if not content.strip():
        raise DataError(f"{source}: is empty")
    return content


def _decoded(content: bytes, source: str, encoding: str, utf8: bool) -> bytes:
    if content.isascii() and utf8:
        return content
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        advice = _advice(content) if utf8 else "try another --encoding"
        raise DataError(
            f"{source}, line {line}: byte 0x{byte:02x} is not {clean(encoding)} text; {advice}"
        ) from None
    except (UnicodeError, ValueError) as error:  # of encodings that are not quite text, such as idna
        raise DataError(f"{source}: is not {clean(encoding)} text ({clean(error)})") from None
    return content if utf8 else text.removeprefix("\ufeff").encode("utf-8", "replace")


def _advice(content: bytes) -> str:
    """Which encoding to try for text that is not UTF-8, and whether only some of its lines are not."""
    lines = [line for line in content.splitlines() if not line.isascii()]
    name = "cp1252" if _CONTROLS.intersection(content) else "latin-1"
    good = sum(map(_is_utf8, lines))
    if good:
        mixed = f"{good:,} of {len(lines):,} lines with such bytes are UTF-8, so encodings are mixed"
        return f"{mixed}; write the file in one of them, or try --encoding {name}"
    return f"try --encoding {name}"


_CONTROLS = frozenset(range(0x80, 0xA0))
"""Bytes that are control codes in Latin-1, and quotes, dashes and the euro in Windows-1252."""


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
