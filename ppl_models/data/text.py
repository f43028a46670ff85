"""Texts as rows of bytes, or as counts of their words."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.data.messages import plural, quoted
from ppl_models.data.schema import Kind
from ppl_models.data.table import Came, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTE = "byte"
"""What the column is called that the bytes of texts become."""

_WORD = re.compile(r"\w\w+")
_FEWEST_TEXTS = 3
_MOST_WORDS = 300


def of_bytes(source: str, texts: "Sequence[bytes]", column: str) -> Table:
    """A row for each byte of texts, each of which is a sequence.

    Args:
        source: What messages call it.
        texts: In UTF-8, none of them empty.
        column: The column that they were; "" if they were a file.
    """
    values = np.frombuffer(b"".join(texts), np.uint8).astype(np.float64)
    lengths = np.array([len(text) for text in texts], np.int64)
    return Table(
        source,
        {BYTE: values},
        len(values),
        lengths=lengths if len(texts) > 1 else None,
        kinds={BYTE: Kind.COUNT},
        came={BYTE: Came("int64")},
        text=column,
    )


def of_column(table: Table, name: str) -> Table:
    """The texts of a column; cells without any are left out.

    Raises:
        DataError: No cell has a text.
    """
    every = _texts(table.columns[name])
    texts = [str(each).encode("utf-8", "replace") for each in every if each is not None and each == each]
    texts = [text for text in texts if text]
    if not texts:
        raise table.column_error(name, "no cell has a text")
    found = of_bytes(table.source, texts, name)
    found.notes = list(table.notes)
    left = len(every) - len(texts)
    if left:
        found.notes.append(f"{plural(left, 'row')} without a text in {name!r} left out")
    return found


def counts_of_words(table: Table, names: Collection[str], wanted: Collection[str] | None) -> Table:
    """The table with counts of words in place of columns of texts: a bag of words.

    A word is two or more letters, digits or underscores; case is of no account. Those in at least three
    texts are counted, the 300 that are in most texts if there are more; labels are not looked at. Their
    columns are called `text[word]`, so that their names tell later data what to count. A cell without a
    text has no counts: they are missing.

    Args:
        table: In memory.
        names: The columns of texts. One that is not in the table is passed over.
        wanted: For later data, the columns that are wanted.

    Raises:
        DataError: A column has no word that three texts share.

    Example:
        >>> table = Table("t", {"a": np.array(["no no", "No one", "is no one", ""], object)}, 4)
        >>> {name: cells.tolist() for name, cells in counts_of_words(table, ["a"], None).columns.items()}
        {'a[no]': [2.0, 1.0, 1.0, nan]}
    """
    columns: dict[str, Any] = {}
    kinds, came, notes = dict(table.kinds or {}), dict(table.came), list(table.notes)
    for name, cells in table.columns.items():
        if name not in names:
            columns[name] = cells
            continue
        bags = [_bag(text, table.usual) for text in _texts(cells)]
        if wanted is None:
            texts = Counter(word for bag in bags if bag is not None for word in bag)
            shared = (word for word, n in texts.items() if n >= _FEWEST_TEXTS)
            often = sorted(shared, key=lambda word: (-texts[word], word))
            words = often[:_MOST_WORDS]
            if not words:
                raise table.column_error(name, f"no word is in {_FEWEST_TEXTS} of its texts")
            left = len(texts) - len(words)
            notes.append(
                f"{quoted(name)} is taken as counts of {plural(len(words), 'word')}"
                + (f"; {left:,} rarer ones are not counted" if left else "")
            )
        else:
            words = [w[len(name) + 1 : -1] for w in wanted if w.startswith(f"{name}[") and w.endswith("]")]
            columns[name] = cells
        for word in words:
            own = f"{name}[{word}]"
            columns[own] = np.array([np.nan if bag is None else bag[word] for bag in bags], float)
            kinds[own], came[own] = Kind.COUNT, Came("int64")
    return replace(table, columns=columns, kinds=kinds, came=came, notes=notes, names=[], parts=None)


def _texts(cells: Any) -> list[Any]:
    return cells.to_pylist() if hasattr(cells, "to_pylist") else cells.tolist()


def _bag(text: Any, missing: Collection[str]) -> Counter[str] | None:
    """How often each word comes; None of a missing cell."""
    if text is None or text != text or text in missing:
        return None
    return Counter(_WORD.findall(str(text).lower()))
