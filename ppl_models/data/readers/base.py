"""What the reader of a file format declares of itself, and what it is asked for.

A format is a module beside this one that has a `Reader` under the name `READER`; nothing else needs to know
of it. Readers are imported to list what there is, so such a module imports what is large, numpy included,
inside its functions. An option that no other format has is also named in
`ppl_models.data.options.FormatOptions`, for type checkers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ppl_models.data.table import MISSING, Table

Stage = Literal["fit", "later"]
"""Whether data is read to fit a model to it, or later, for a model that was fitted."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of reading, as a command line can offer it.

    Attributes:
        name: As a parameter of `ppl_models.data.read`; `--name` on a command line.
        help: One sentence.
        metavar: What stands for the value in a help text.
        type: `str`; `tuple[str, ...]` for names, given with commas between them; a `Literal` of the values
            there are; or `Mapping[str, Kind]` for pairs, given as `name=kind` with commas between them.
        repeated: Whether it may be given several times, a value each time.
        stages: Where it applies.
        default: What the reader is given if the user says nothing.
        strict: Whether it is an error to give it with data of a format that does not declare it. A delimiter
            may be given with anything, so that a configuration file can say it once for all data.
    """

    name: str
    help: str
    metavar: str
    type: Any = str
    repeated: bool = False
    stages: frozenset[Stage] = frozenset({"fit", "later"})
    default: Any = None
    strict: bool = True


ENCODING = Option(
    name="encoding",
    help="The encoding; utf-8 if not given.",
    metavar="NAME",
    default="utf-8",
    strict=False,
)
"""Of every format that is text."""


@dataclass(frozen=True)
class File:
    """A file, or standard input.

    Attributes:
        name: What messages call it, safe to print.
        suffix: The last part of its name with the point, in lower case and without `.gz`; empty for
            standard input.
        path: Where it is; `-` for standard input, which only readers that have `starts` are given.
        content: Reads all of it, decompressed, after checking that it fits into memory.
    """

    name: str
    suffix: str
    path: Path
    content: Callable[[], bytes]


@dataclass(frozen=True)
class Request:
    """What is wanted of a file.

    Attributes:
        wanted: The only columns to read, or None for all. The names need not exist.
        unwanted: Columns not to read.
        as_text: Columns whose cells are not to be taken for numbers.
        missing: Further texts that mean a missing cell.
        usual: Texts that mean one unless the user says otherwise.
        target: The column that is to be predicted, if there is one.
        whole: Whether a file of text is one text, and not a table, where there is a reader of such.
        large: Whether the file is one of several that are large together, so that its rows stay on disk.
        options: The values of the reader's own options, each of them or its default.
    """

    wanted: frozenset[str] | None = None
    unwanted: frozenset[str] = frozenset()
    as_text: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    usual: tuple[str, ...] = MISSING
    target: str | None = None
    whole: bool = False
    large: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def chosen(self, names: list[str]) -> list[str]:
        """Those of the columns that are to be read, in the order in which they come."""
        return [n for n in names if (self.wanted is None or n in self.wanted) and n not in self.unwanted]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A file format.

    Attributes:
        name: One word or two, for lists of formats.
        description: What such a file holds, in a phrase that begins a line of a table.
        suffixes: What names of such files end in; `*` stands for anything.
        read: The columns of a file. It raises `DataError` for whatever is wrong with it.
        packed: Whether `.gz` may follow the suffix: such files are small enough to be read as a whole.
        folder: Whether it reads a directory of files with these suffixes, and not one of them.
        whole: Whether it takes a file for one text, which it does where that is asked for.
        starts: With what text of this format begins on standard input, white space aside; the reader with
            the longest that fits is taken.
        options: Options of this format; others may declare the same ones.
        extra: The optional dependencies of the package that it needs.
        module: The module that they provide.
    """

    name: str
    description: str
    suffixes: tuple[str, ...]
    read: Callable[[File, Request], Table]
    packed: bool = False
    folder: bool = False
    whole: bool = False
    starts: tuple[bytes, ...] = ()
    options: tuple[Option, ...] = ()
    extra: str | None = None
    module: str | None = None
