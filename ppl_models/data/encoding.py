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
    except LookupError:
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
        advice = "try --encoding latin-1" if utf8 else "try another --encoding"
        raise DataError(
            f"{source}, line {line}: byte 0x{byte:02x} is not {clean(encoding)} text; {advice}"
        ) from None
    return content if utf8 else text.removeprefix("\ufeff").encode("utf-8", "replace")
