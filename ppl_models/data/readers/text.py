"""A file of text as one text: a row for each byte of its UTF-8.

Where a table is wanted, a file of the same name is delimited text (`ppl_models.data.readers.delimited`).
"""

from ppl_models.data.encoding import to_utf8
from ppl_models.data.readers.base import ENCODING, File, Reader, Request
from ppl_models.data.table import Table


def _read(file: File, request: Request) -> Table:
    from ppl_models.data.text import of_bytes

    content = to_utf8(file.content(), file.name, request.options["encoding"])
    return of_bytes(file.name, [content], "")


READER = Reader(
    name="Text",
    description="one text, for a model of texts; a table of delimited text for all others",
    suffixes=(".txt",),
    read=_read,
    packed=True,
    whole=True,
    options=(ENCODING,),
)
