"""Numbers as people write them: `$1,234.50`, `1.234,50 €`, `(17.20)`, `5 %`, `12.3*`, `38k`, `20 min`.

A column is read so only if every one of its cells is, with marks that mean one thing: of two currencies, or
of some cells with a per cent sign and some without, nobody knows what the numbers are.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from ppl_models.data.messages import listed, quoted

BLANK = frozenset(
    {"-", "--", "–", "—", "..", "...", "…", "n.a.", "N.A.", "n.a", "#N/A", "#DIV/0!", "k.A.", "*"}
)
"""What stands for nothing among numbers or words."""

_UNANSWERED = re.compile(
    r"(i )?(prefer|would rather|rather|choose|chose) not (to )?(say|answer|disclose)|(don'?t|do not) know|"
    r"refused( to answer)?|no answer|not (applicable|available|stated|known|reported)|unknown|"
    r"keine angabe|weiß nicht",
    re.IGNORECASE,
)
"""What people say in place of a number."""


def blank(text: str) -> bool:
    """Whether a text among numbers stands for none: a dash and the like, or words that refuse an answer."""
    return text in BLANK or _UNANSWERED.fullmatch(text) is not None


_NOTE = r"(?:\s*(?:[*†‡§¶¹²³⁴⁵]+|\[\w{1,2}\]|\((?:[a-z]|[pre])\)))?"
_CURRENCY = r"(?:[$€£¥₹₽₩]|[A-Z]{2,3}\$?|US\$|R\$|Fr\.|kr\.?|zł)"
_SHAPE = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[+−–-])?\s*(?P<before>{_CURRENCY})?\s*(?P<sign2>[+−–-])?\s*"
    rf"(?P<digits>\d[\d.,'’ \u00a0\u202f]*|[.,]\d+)(?P<power>[eE][+-]?\d+)?"
    rf"\s*(?P<after>{_CURRENCY}|%|‰|[^\W\d_]{{1,12}}\.?)?\s*(?P<minus>-)?\s*(?P<close>\))?{_NOTE}"
)
_SPACES = "'’ \u00a0\u202f"


@dataclass
class Form:
    """How the numbers of a column are written.

    Attributes:
        numbers: What each text stands for; NaN for one that stands for nothing.
        note: What was done, in a sentence without the name of the column.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    note: str = ""


def form_of(texts: Collection[str], decimal: str) -> Form | None:
    """The numbers that texts stand for; None if one of them is no number, or they cannot all mean one thing.

    Args:
        texts: Different cells of a column.
        decimal: The decimal mark of the file.

    Example:
        >>> form_of(["$1,234.50", "(17)", "-"], ".").numbers
        {'$1,234.50': 1234.5, '(17)': -17.0, '-': nan}
        >>> form_of(["1.250", "37"], ",").numbers
        {'1.250': 1250.0, '37': 37.0}
        >>> form_of(["$5", "5 €"], ".") is None
        True
    """
    found, marks, plain = Form(), set(), 0
    nothing = []
    for text in texts:
        if blank(text):
            found.numbers[text] = float("nan")
            nothing.append(text)
            continue
        match = _SHAPE.fullmatch(text)
        value = None if match is None else _value(match["digits"].strip(), decimal)
        if match is None or value is None or bool(match["open"]) != bool(match["close"]):
            return None
        signs = [match["sign"], match["sign2"], match["minus"], match["open"]]
        if sum(sign is not None for sign in signs) > 1:
            return None
        unit = match["after"]
        if match["before"] and unit and unit not in ("k", "K"):
            return None
        if match["power"]:
            value = float(f"{value!r}{match['power']}")
        if unit in ("k", "K"):
            value, unit = 1000 * value, None
        mark = match["before"] or unit
        marks.add(mark) if mark else None
        plain += mark is None
        negative = any(sign not in (None, "+") for sign in signs)
        found.numbers[text] = -value if negative else value
    if len(marks) > 1 or (marks & {"%", "‰"} and plain) or len(nothing) == len(found.numbers):
        return None
    example = next((t for t, v in found.numbers.items() if v == v and _plainly(t) != v), None)
    said = [] if example is None else [f"{quoted(example)} is read as {found.numbers[example]:.12g}"]
    said += [f"{listed(nothing)} as missing"] if nothing else []
    found.note = ", ".join(said)
    return found


def _plainly(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _value(digits: str, decimal: str) -> float | None:
    """A number without its separators of thousands, which stand where they should; else None."""
    other = "," if decimal == "." else "."
    for mark in _SPACES:
        if mark in digits:
            if not re.fullmatch(rf"\d{{1,3}}({mark}\d{{3}})+({re.escape(decimal)}\d*)?", digits, re.ASCII):
                return None
            digits = digits.replace(mark, "")
    if other in digits:
        thousands = rf"\d{{1,3}}({re.escape(other)}\d{{3}})+({re.escape(decimal)}\d*)?"
        indian = rf"\d{{1,2}}({re.escape(other)}\d{{2}})+{re.escape(other)}\d{{3}}({re.escape(decimal)}\d*)?"
        if not (re.fullmatch(thousands, digits, re.ASCII) or re.fullmatch(indian, digits, re.ASCII)):
            return None
        digits = digits.replace(other, "")
    try:
        found = float(digits.replace(decimal, "."))
    except ValueError:
        return None
    return found if abs(found) < float("inf") else None
