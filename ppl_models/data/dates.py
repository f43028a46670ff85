"""Dates as people write them, and how time goes on after the last of them.

    2020-01-31, 2020/01/31, 20200131     year first
    01/31/2020, 31.01.2020, 31-01-20     day or month first: whichever all the cells of the column can be
    Jan 31, 2020, 31 January 2020        months by name
    2020-01, 2020Q1, 2020-W05            periods
    … 13:45, 13:45:10.5, 1:45 PM         times of day, after any of the first three kinds

A year alone is a number, and goes on as one.
"""

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from ppl_models.errors import UsageError

_TIME = (
    r"(?:[T ,]+(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[AaPp]\.?[Mm]\.?)?)"
    r"\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?)?"
)
_PATTERNS = {
    "ymd": re.compile(rf"(?P<y>\d{{4}})(?P<s>[-/.])(?P<m>\d{{1,2}})(?P=s)(?P<d>\d{{1,2}}){_TIME}", re.ASCII),
    "compact": re.compile(rf"(?P<y>[12]\d{{3}})(?P<m>[01]\d)(?P<d>[0-3]\d){_TIME}", re.ASCII),
    "two": re.compile(
        rf"(?P<a>\d{{1,2}})(?P<s>[-/.])(?P<b>\d{{1,2}})(?P=s)(?P<y>\d{{4}}|\d{{2}}){_TIME}", re.ASCII
    ),
    "name": re.compile(
        rf"(?P<n>[^\W\d]{{3,9}})\.?\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{4}}){_TIME}"
    ),
    "dname": re.compile(
        rf"(?P<d>\d{{1,2}})\.?[\s-]+(?P<n>[^\W\d]{{3,9}})\.?,?[\s-]+(?P<y>\d{{4}}|\d{{2}}){_TIME}"
    ),
    "month": re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})", re.ASCII),
    "mmonth": re.compile(r"(?P<m>\d{1,2})[-/.](?P<y>\d{4})", re.ASCII),
    "nmonth": re.compile(r"(?P<n>[^\W\d]{3,9})\.?[\s-]+(?P<y>\d{4}|\d{2})"),
    "quarter": re.compile(r"(?P<y>\d{4})[\s-]?[Qq](?P<q>[1-4])", re.ASCII),
    "qquarter": re.compile(r"[Qq](?P<q>[1-4])[\s/-]?(?P<y>\d{4})", re.ASCII),
    "week": re.compile(r"(?P<y>\d{4})-?W(?P<w>\d{1,2})", re.ASCII),
}
_MONTHS = {
    name: i % 12 + 1
    for i, name in enumerate(
        "jan feb mar apr may jun jul aug sep oct nov dec "
        "jan feb mär apr mai jun jul aug sep okt nov dez".split()
    )
}


class Found(NamedTuple):
    """Dates that were read.

    Attributes:
        when: (n,) datetime64[us], in UTC where the texts have zones.
        style: How they are written: a key of the patterns, with `mdy` or `dmy` for day and month in figures,
            and `zoned` for ISO dates with a time zone.
        ambiguous: Whether day and month might as well be the other way round.
    """

    when: np.ndarray
    style: str
    ambiguous: bool = False


def are_dates(texts: Collection[str]) -> bool:
    """Whether all texts are dates written in one way; plain years and numbers are not."""
    some = list(texts)[:200]
    return bool(some) and any(
        all(map(pattern.fullmatch, some)) and all(map(pattern.fullmatch, texts))
        for style, pattern in _PATTERNS.items()
        if style != "compact"
    )


def check_format(text: str | None) -> None:
    """Refuse what cannot say how dates are written.

    Raises:
        UsageError: It is neither `mdy`, `dmy`, `ymd` nor a format with per cent signs.
    """
    if text is not None and text.lower() not in ("mdy", "dmy", "ymd") and "%" not in text:
        raise UsageError(f"date_format must be dmy, mdy, ymd or like %d.%m.%Y, got {text!r}")


def read_dates(texts: Sequence[str], form: str | None = None) -> Found | int:
    """The dates that texts are.

    Args:
        texts: n of them, none of them empty.
        form: `dmy`, `mdy`, or a format of `strptime`, if the user said so.

    Returns:
        The dates; or the place of the first text that is none, in the way in which most of the others are.
    """
    if form is not None and "%" in form:
        return _by_format(texts, form)
    best, bad = "", -1
    for style, pattern in _PATTERNS.items():
        wrong = next((i for i, text in enumerate(texts) if not pattern.fullmatch(text.strip())), None)
        if wrong is None:
            best = style
            break
        bad = max(bad, wrong)
    if not best:
        return bad
    parts = [_PATTERNS[best].fullmatch(text.strip()) for text in texts]
    zones = [bool(part and part.groupdict().get("zone")) for part in parts]
    if any(zones) and not all(zones):
        return zones.index(not zones[0])
    style, ambiguous = best, False
    if best == "two":
        pairs = [(int(p["a"]), int(p["b"])) for p in parts if p]
        day_first, month_first = all(b <= 12 for _, b in pairs), all(a <= 12 for a, _ in pairs)
        ambiguous = day_first and month_first and form is None and any(a != b for a, b in pairs)
        if form is not None:
            style = form.lower()
        elif day_first and month_first:
            style = _rising(parts)
        else:
            style = "dmy" if day_first else "mdy"
    when = np.empty(len(texts), "datetime64[us]")
    for i, match in enumerate(parts):
        try:
            when[i] = _instant(match.groupdict() if match else {}, style)
        except (ValueError, KeyError, OverflowError):
            return i
    return Found(when, "zoned" if style == "ymd" and all(zones) else style, ambiguous)


def _rising(parts: list) -> str:
    """Which of day and month comes first where both could: that in which time passes; dots are European."""
    steps = {}
    for style in ("dmy", "mdy"):
        when = np.array([_instant(p.groupdict(), style) for p in parts], "datetime64[us]")
        gaps = np.diff(when)
        steps[style] = (bool((gaps >= np.timedelta64(0)).all()), -len(np.unique(gaps)))
    if steps["dmy"] == steps["mdy"]:
        return "dmy" if parts[0]["s"] == "." else "mdy"
    return max(steps, key=lambda style: steps[style])


def _by_format(texts: Sequence[str], form: str) -> Found | int:
    when = np.empty(len(texts), "datetime64[us]")
    for i, text in enumerate(texts):
        try:
            found = datetime.strptime(text.strip(), form)
        except ValueError:
            return i
        when[i] = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    return Found(when, form)


def _instant(part: dict, style: str) -> datetime:
    year = int(part["y"])
    if len(part["y"]) == 2:
        year += 2000 if year < 70 else 1900
    month, day = 1, 1
    if part.get("n"):
        month = _MONTHS[part["n"][:3].lower()]
    elif part.get("m"):
        month = int(part["m"])
    elif part.get("q"):
        month = 3 * int(part["q"]) - 2
    elif part.get("w"):
        return datetime.fromisocalendar(year, int(part["w"]), 1)
    if part.get("d"):
        day = int(part["d"])
    elif part.get("a"):
        first, second = int(part["a"]), int(part["b"])
        day, month = (first, second) if style == "dmy" else (second, first)
    hour = minute = second = micro = 0
    if part.get("time"):
        clock = re.match(r"(\d+):(\d+)(?::(\d+)(?:[.,](\d+))?)?\s*([AaPp])?", part["time"])
        if clock is None:
            raise ValueError(part["time"])
        hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        micro = int(((clock[4] or "0") + "000000")[:6])
        if clock[5]:
            hour = hour % 12 + 12 * (clock[5].lower() == "p")
    found = datetime(year, month, day, hour, minute, second, micro)
    zone = part.get("zone")
    if zone and zone not in ("Z", "UTC"):
        minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        found = datetime.fromtimestamp(
            found.replace(tzinfo=UTC).timestamp() - (1 if zone[0] == "+" else -1) * minutes * 60, UTC
        ).replace(tzinfo=None)
    return found


class Calendar(NamedTuple):
    """How time goes on.

    Attributes:
        name: In words: `business days`, `months`, `10 minutes`.
        ahead: The times that follow, (k,) datetime64[us], for k.
    """

    name: str
    ahead: "np.ndarray"


_UNITS = (
    (86_400_000_000 * 7, "week"),
    (86_400_000_000, "day"),
    (3_600_000_000, "hour"),
    (60_000_000, "minute"),
)


def calendar(when: np.ndarray, steps: int) -> Calendar | None:
    """The times after the last one, by the frequency that most of the steps have.

    Gaps are passed over: the frequency is the commonest step, if it is that of six in ten. Days without any
    Saturday or Sunday are business days; months, quarters and years keep the day, or the end of the month.

    Args:
        when: (n,) datetime64[us], in order.
        steps: How many are wanted.

    Returns:
        What was found; None if times are irregular or fewer than three.
    """
    when = np.unique(when)
    if len(when) < 3:
        return None
    days = when.astype("datetime64[D]")
    clock = np.unique(when - days)
    months = when.astype("datetime64[M]")
    jumps, numbers = np.unique(np.diff(months).astype(int), return_counts=True)
    jump = int(jumps[numbers.argmax()])
    of_month = (days - months.astype("datetime64[D]")).astype(int)
    ends = (days + 1).astype("datetime64[M]") > months
    if jump > 0 and numbers.max() >= 0.6 * numbers.sum() and len(clock) == 1:
        spread = int(np.ptp(of_month))
        if spread <= 3 and (spread == 0 or ends.all() or of_month.max() >= 28):
            ahead = months[-1] + jump * np.arange(1, steps + 1)
            last = ((ahead + 1).astype("datetime64[D]") - ahead.astype("datetime64[D]")).astype(int) - 1
            day = last if ends.all() else np.minimum(int(of_month.max()), last)
            name = {1: "months", 3: "quarters", 12: "years"}.get(jump, f"{jump} months")
            return Calendar(name, (ahead.astype("datetime64[D]") + day).astype("datetime64[us]") + clock[0])
    gaps, numbers = np.unique(np.diff(when).astype(np.int64), return_counts=True)
    gap = int(gaps[numbers.argmax()])
    weekday = (days.astype(int) + 3) % 7
    if gap == 86_400_000_000 and len(when) > 5 and (weekday < 5).all():
        ahead = np.busday_offset(days[-1], np.arange(1, steps + 1), roll="backward")
        return Calendar("business days", ahead.astype("datetime64[us]") + clock[0])
    if numbers.max() < 0.6 * numbers.sum():
        return None
    unit, word = next(((u, w) for u, w in _UNITS if gap % u == 0), (1_000_000, "second"))
    number = gap / unit
    name = f"{word}s" if number == 1 else f"{number:g} {word}s"
    return Calendar(name, when[-1] + (gap * np.arange(1, steps + 1)).astype("timedelta64[us]"))


def written(when: np.ndarray, style: str) -> list[str]:
    """Times in the way in which those before them are written: months and quarters, or ISO 8601."""
    if style == "quarter":
        return [f"{d.year}Q{(d.month + 2) // 3}" for d in when.astype(datetime)]
    if style == "month":
        return np.datetime_as_string(when, unit="M").tolist()
    if style == "week":
        return ["{}-W{:02d}".format(*d.isocalendar()[:2]) for d in when.astype(datetime)]
    whole = bool((when == when.astype("datetime64[D]")).all())
    if style == "zoned":
        return [f"{text}Z" for text in np.datetime_as_string(when, unit="s").tolist()]
    return np.datetime_as_string(when, unit="D" if whole else "s").tolist()
